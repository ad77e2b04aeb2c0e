"""Those of upstream's own linters that no package has, by the names they have there.

A line that ends in ``# noqa: NAME`` is left alone, as upstream.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from lint_tool.findings import Finding

LONGEST_WITHOUT_DOCSTRING = {"class": 100, "def": 80}
SHORTEST_DOCSTRING = 50
"""Upstream's limits: lines of a definition, characters that explain a longer one."""

IMPORTABLE = frozenset(
    {"functorch", "numpy", "optree", "sympy", "torch", "triton", "typing_extensions"}
)
"""What torch may import besides the standard library."""

OWNERS = re.compile(r'# Owner\(s\): \["(module|oncall): [^"]+"(, "[^"]+")*\]')
DEVICE = re.compile(r"(cuda|hip|mps|xpu)(:\d+)?")
DEVICE_METHODS = ("cuda", "mps", "xpu")
CONTEXT_DECORATOR = re.compile(
    r"@.*\b(dynamo_timed|preserve_rng_state|clear_frame|with_fresh_cache_if_config"
    r"|use_lazy_graph_module|_disable_current_modes)\b"
)

Problem = tuple[int, str]
"""A line, and what is wrong there."""


@dataclass(frozen=True)
class Source:
    """A Python file: its lines from 0, what it says, and all nodes below that."""

    lines: Sequence[str]
    tree: ast.Module
    nodes: Sequence[ast.AST]


def check(path: str, content: bytes) -> list[Finding]:
    """What upstream's own linters say of the file at that path in its tree."""
    text = content.decode("utf-8")
    lines = text.splitlines()
    problems = [("text_linter", each) for each in check_text(text)]
    if not text.endswith("\n") or text.endswith("\n\n"):
        problems.append(
            ("text_linter", (len(lines), "the file does not end in one newline"))
        )
    if path.endswith(".py"):
        tree = ast.parse(text, path)
        source = Source(lines, tree, tuple(ast.walk(tree)))
        for name, applies, function in CHECKS:
            if applies(path):
                problems += [(name, each) for each in function(source)]
    return [
        Finding(path, line, name, message)
        for name, (line, message) in problems
        if f"noqa: {name}" not in "".join(lines[line - 1 : line])
    ]


def check_text(text: str) -> Iterator[Problem]:
    """Upstream's SPACES and TABS, of any lines."""
    for number, line in enumerate(text.split("\n"), start=1):
        if "\r" in line:
            yield number, "the line does not end in a newline alone"
        elif line != line.rstrip():
            yield number, "white space at the end of the line"
        if "\t" in line:
            yield number, "a tab"


def check_sets(source: Source) -> Iterator[Problem]:
    """The order of a built-in set changes from run to run, and generated code with it.

    One that is only looked up in has none.
    """
    looked_up_in = {
        operand
        for node in source.nodes
        if isinstance(node, ast.Compare)
        for operator, operand in zip(node.ops, node.comparators)
        if isinstance(operator, (ast.In, ast.NotIn))
    }
    for node in source.nodes:
        if node not in looked_up_in and (
            isinstance(node, (ast.Set, ast.SetComp))
            or (isinstance(node, ast.Name) and node.id == "set")
        ):
            yield node.lineno, "a built-in set: use OrderedSet"


def check_docstrings(source: Source) -> Iterator[Problem]:
    """A definition that does not fit a screen or two says what it is for."""
    for node in source.nodes:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        kind = "class" if isinstance(node, ast.ClassDef) else "def"
        count = (node.end_lineno or node.lineno) - node.lineno + 1
        if (
            count > LONGEST_WITHOUT_DOCSTRING[kind]
            and len(ast.get_docstring(node) or "") < SHORTEST_DOCSTRING
        ):
            yield (
                node.lineno,
                f"{kind} {node.name} has {count} lines and no docstring of "
                f"{SHORTEST_DOCSTRING} characters",
            )


def check_imports(source: Source) -> Iterator[Problem]:
    """Torch depends on few packages. What is optional is imported in functions."""
    for node in source.tree.body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        else:
            continue
        for name in names:
            package = name.partition(".")[0]
            if package not in IMPORTABLE | sys.stdlib_module_names:
                yield node.lineno, f"torch may not depend on {package}"


def check_decorators(source: Source) -> Iterator[Problem]:
    """As decorators these context managers would be entered once for all calls."""
    for number, line in enumerate(source.lines, start=1):
        if CONTEXT_DECORATOR.match(line.strip()):
            yield number, "a context manager as decorator: use a with statement"


def check_owners(source: Source) -> Iterator[Problem]:
    """Upstream's tools find by it who mends a failing test."""
    if not OWNERS.fullmatch("".join(source.lines[:1])):
        yield 1, 'the first line must be like # Owner(s): ["module: inductor"]'


def check_main(source: Source) -> Iterator[Problem]:
    """Upstream's CI runs each test file as a script."""
    for node in source.tree.body:
        if (
            isinstance(node, ast.If)
            and ast.unparse(node.test) == "__name__ == '__main__'"
            and "run_tests(" in ast.unparse(node)
        ):
            return
    yield len(source.lines), 'no `if __name__ == "__main__":` that calls run_tests()'


def check_devices(source: Source) -> Iterator[Problem]:
    """A test that names one maker's device is left out on the others'."""
    for node in source.nodes:
        if isinstance(node, ast.Call):
            named = [word.value for word in node.keywords if word.arg == "device"]
            if isinstance(node.func, ast.Attribute):
                name = node.func.attr
                if name in ("to", "device", "Device"):
                    named += node.args[:1]
                elif name in DEVICE_METHODS and not node.args:
                    yield node.lineno, f".{name}() instead of the device under test"
        elif isinstance(node, ast.arguments):
            named = [each for each in (*node.defaults, *node.kw_defaults) if each]
        else:
            continue
        for value in named:
            if (
                isinstance(value, ast.Constant)
                and isinstance(value.value, str)
                and DEVICE.fullmatch(value.value)
            ):
                yield value.lineno, f"{value.value!r} instead of the device under test"


def in_inductor(path: str) -> bool:
    """Where generated code comes from."""
    return path.startswith("torch/_inductor/")


def in_torch(path: str) -> bool:
    """What users import."""
    return path.startswith("torch/")


def is_test(path: str) -> bool:
    """What upstream's CI runs."""
    return path.startswith("test/") and PurePosixPath(path).match("test_*.py")


def in_tests(path: str) -> bool:
    """Tests and what they import."""
    return path.startswith("test/")


CHECKS: tuple[
    tuple[
        str,
        Callable[[str], bool],
        Callable[[Source], Iterator[Problem]],
    ],
    ...,
] = (
    ("set_linter", in_inductor, check_sets),
    ("docstring_linter", in_torch, check_docstrings),
    ("import_linter", in_torch, check_imports),
    ("context_decorator", in_torch, check_decorators),
    ("testowners", is_test, check_owners),
    ("test_has_main", is_test, check_main),
    ("test_device_bias", in_tests, check_devices),
)
