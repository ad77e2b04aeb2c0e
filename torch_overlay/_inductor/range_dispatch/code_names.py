"""What the code of a function, and of the functions inside it, looks up by name."""

from __future__ import annotations

import dis
import functools
import types
from typing import TYPE_CHECKING

from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Iterator


@functools.lru_cache(maxsize=4096)
def names_of(code: types.CodeType) -> tuple[OrderedSet[str], OrderedSet[str]]:
    """All names, attributes' too, and those loaded as a global or a builtin."""
    names, loaded = OrderedSet[str](), OrderedSet[str]()
    for one in _nested(code):
        names.update(one.co_names)
        loaded.update(
            instruction.argval
            for instruction in dis.get_instructions(one)
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
        )
    return names, loaded


@functools.lru_cache(maxsize=4096)
def imports_of(code: types.CodeType) -> list[tuple[str, int]]:
    """The module's name and the number of leading dots of each import statement."""
    found = []
    for one in _nested(code):
        instructions = [
            instruction
            for instruction in dis.get_instructions(one)
            if instruction.opname != "EXTENDED_ARG"
        ]
        for index, instruction in enumerate(instructions):
            if instruction.opname == "IMPORT_NAME":
                # Before it are pushed the level and the names to import.
                level = instructions[index - 2].argval
                name = instruction.argval
                found.append((name, level))
                if not level and "." in name:  # `import a.b` binds a
                    found.append((name.partition(".")[0], 0))
    return found


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)
