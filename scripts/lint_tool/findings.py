"""What a linter says, and where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from overlay_tool.git import find_edits


@dataclass(frozen=True, order=True)
class Finding:
    """One line of the report; the path is the one upstream."""

    path: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule} {self.message}"


def without_those_of_base(
    findings: Iterable[Finding],
    of_base: Iterable[Finding],
    base: Mapping[str, bytes],
    patched: Mapping[str, bytes],
) -> list[Finding]:
    """The findings in patched files that the base does not have at the same line.

    Asked for rather than those on added lines: a patch may also leave an import unused
    or make somebody else's function too long.
    """
    known = {(each.path, each.rule, each.line) for each in of_base}
    lines = {path: base_lines(content, patched[path]) for path, content in base.items()}
    return [
        each
        for each in findings
        if (each.path, each.rule, lines.get(each.path, {}).get(each.line)) not in known
    ]


def base_lines(base: bytes, patched: bytes) -> dict[int, int]:
    """For each line of the patched file that is the base's: which one it is there."""
    found: dict[int, int] = {}
    old = new = 0
    end = len(base.splitlines())
    for start, stop, count in [
        *((edit.start, edit.end, len(edit.new)) for edit in find_edits(base, patched)),
        (end, end, 0),
    ]:
        for line in range(old, start):
            new += 1
            found[new] = line + 1
        old = stop
        new += count
    return found
