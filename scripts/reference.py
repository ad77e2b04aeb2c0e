"""Checks that docs/reference.md says what docstrings, settings and parsers say.

Needs the environment: .venv/bin/python scripts/reference.py [--write]. With --write the
page is written; without, a page that is stale is shown and the exit status is 1.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import range_tuning
import torch._inductor.kernel.custom_op as custom_op
from range_tuning.__main__ import _parser as parser_of_commands
from torch._inductor import config, range_dispatch
from torch._logging._internal import log_registry

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference.md"
FRAME = Path(__file__).with_suffix(".md")


class Bare(str):
    """The text of an annotation, shown without quotes."""

    __repr__ = str.__str__


def markdown(text: str) -> str:
    """A docstring's ``code`` and :func:`code` as Markdown's."""
    return re.sub(r":\w+:`([^`]*)`", r"`\1`", text).replace("``", "`")


def described(thing: Any) -> Iterator[str]:
    """A docstring as Markdown: its paragraphs, then each of its sections."""
    text = inspect.getdoc(thing) or ""
    head, *sections = re.split(r"^(Args|Returns|Raises|Example):+$", text, flags=re.M)
    yield markdown(head.strip())
    for title, body in zip(sections[::2], map(dedent, sections[1::2])):
        if title == "Example":
            yield f"```python\n{body.strip()}\n```"
        elif title == "Returns":
            yield f"Returns {markdown(' '.join(body.split()))}"
        else:
            entries = re.split(r"\n(?=\S)", body.strip())
            before = "raises " if title == "Raises" else ""
            yield "\n".join(item(entry, before) for entry in entries)


def item(entry: str, before: str) -> str:
    """``name, name: text`` as an item of a list."""
    names, _, text = (" ".join(part.split()) for part in entry.partition(":"))
    shown = ", ".join(f"`{name}`" for name in names.split(", "))
    return f"* {before}{shown}: {markdown(text)}"


def signature(name: str, thing: Callable[..., Any]) -> str:
    """How it is called, one parameter on a line where they do not fit on one."""
    found = inspect.signature(thing)
    returned = "" if isinstance(thing, type) else f" -> {found.return_annotation}"
    shown = [
        str(one.replace(annotation=Bare(one.annotation)))
        for one in found.parameters.values()
    ]
    text = f"({', '.join(shown)})"
    if len(name + text + returned) > 88:
        text = "".join(["(\n", *(f"    {one},\n" for one in shown), ")"])
    return f"```python\n{name}{text}{returned}\n```"


def exported(module: ModuleType) -> Iterator[str]:
    """What a module exports, functions first."""
    things = {name: getattr(module, name) for name in module.__all__}
    for name in sorted(things, key=lambda one: isinstance(things[one], type)):
        thing = things[name]
        if callable(thing):
            yield f"### {name}"
            bases = thing.__mro__ if isinstance(thing, type) else ()
            if not {dict, list, Exception} & {*bases}:
                yield signature(name, thing)
            yield from described(thing)


def settings() -> Iterator[str]:
    """An item for the settings that share a comment in config.py, with that comment."""
    source = Path(str(config.__file__)).read_text()
    lines = source.splitlines()
    (body,) = (
        node.body
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == "range_dispatch"
    )
    groups: list[tuple[list[str], str]] = []
    for node in body:
        assert isinstance(node, ast.AnnAssign) and node.value is not None
        end = start = node.lineno - 1
        while lines[start - 1].strip().startswith("#"):
            start -= 1
        if start < end:
            groups.append(([], " ".join(line.strip(" #") for line in lines[start:end])))
        value = ast.unparse(node.value)
        variable = re.search(r"environ\.get\('(\w+)'", value)
        default = eval(value, {"os": SimpleNamespace(environ={})})
        name, kind = ast.unparse(node.target), ast.unparse(node.annotation)
        where = f" (environment: `{variable[1]}`)" if variable else ""
        groups[-1][0].append(f"`{name}: {kind} = {default!r}`{where}")
    return (f"* {', '.join(heads)}<br>{comment}" for heads, comment in groups)


def commands() -> Iterator[str]:
    """The help of ``python -m range_tuning`` and of each of its subcommands."""
    parser = parser_of_commands()
    (subcommands,) = (action for action in parser._actions if action.choices)
    with mock.patch.dict(os.environ, {"COLUMNS": "90"}):
        for one in (parser, *dict(subcommands.choices or {}).values()):
            yield f"```\n{one.format_help().strip()}\n```"


def page() -> str:
    """The page: the frame, with what is generated filled in."""
    return FRAME.read_text().format(
        registration="\n\n".join(exported(custom_op)),
        engine="\n\n".join(exported(range_dispatch)),
        range_tuning="\n\n".join(exported(range_tuning)),
        settings="\n".join(settings()),
        log=log_registry.artifact_descriptions["range_dispatch"],
        commands="\n\n".join(commands()),
    )


def main(arguments: list[str]) -> int:
    made = page()
    if arguments == ["--write"]:
        PAGE.write_text(made)
    there = PAGE.read_text() if PAGE.exists() else ""
    lines = difflib.unified_diff(there.splitlines(), made.splitlines(), lineterm="")
    print(*lines, sep="\n", end="")
    return made != there


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
