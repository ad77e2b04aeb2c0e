"""Edits of a file's lines, and which change of a sequence each belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .git import diff, merge

_HUNK = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", re.M)


@dataclass(frozen=True)
class Edit:
    """Lines ``start`` to ``end`` (from 0, the end is not one of them) become ``new``.

    ``owner`` counts the changes from 0; ``distance`` is how many lines away from the
    edit the owner's own lines are.
    """

    start: int
    end: int
    new: tuple[bytes, ...]
    owner: int = 0
    distance: int = 0


def find_edits(before: bytes, after: bytes) -> tuple[Edit, ...]:
    """The edits that make ``after`` of ``before``, in order."""
    lines = after.splitlines(keepends=True)
    edits = []
    for found in _HUNK.finditer(diff(before, after, context=0)):
        start, count, new_start, new_count = (
            1 if group is None else int(group) for group in found.groups()
        )
        # Of no lines, git gives the line before.
        first = start if count == 0 else start - 1
        new_first = new_start if new_count == 0 else new_start - 1
        new = lines[new_first : new_first + new_count]
        edits.append(Edit(first, first + count, tuple(new)))
    return tuple(edits)


def make_edits(content: bytes, edits: Iterable[Edit]) -> bytes:
    """The content with the edits, which are in order and do not overlap."""
    lines = content.splitlines(keepends=True)
    for edit in reversed(tuple(edits)):
        lines[edit.start : edit.end] = edit.new
    return b"".join(lines)


def assign(edits: Sequence[Edit], steps: Sequence[bytes]) -> tuple[Edit, ...]:
    """Each edit of the last of the ``steps`` with the change that it belongs to.

    Change i makes ``steps[i + 1]`` of ``steps[i]``. An edit belongs to the change that
    wrote the lines which it edits, else to the one with the nearest lines; and if later
    changes rewrite what is there, to the last one of those.

    Returns:
        The edits with their owner, which is -1 where no change touches the file.
    """
    owners = _owners(steps)
    return tuple(_settle(_own(edit, owners), steps) for edit in edits)


def rebuild(edits: Sequence[Edit], steps: Sequence[bytes]) -> tuple[bytes, ...] | None:
    """The steps as they are with the edits made in the change that owns each.

    None if that cannot be, as the edits overlap with what other changes do.
    """
    rebuilt = [steps[0]]
    for index, step in enumerate(steps[1:]):
        mine = [edit for edit in edits if edit.owner <= index]
        merged = merge(step, steps[-1], make_edits(steps[-1], mine))
        if merged is None:
            return None
        rebuilt.append(merged)
    return tuple(rebuilt)


@dataclass(frozen=True)
class _Item:
    """A line, or the place where lines were; and the change that left it so."""

    is_line: bool
    owner: int


def _owners(steps: Sequence[bytes]) -> list[_Item]:
    """The lines of the last step, and who wrote them: -1 is the base."""
    items = [_Item(True, -1)] * len(steps[0].splitlines())
    for owner in range(len(steps) - 1):
        for edit in reversed(find_edits(steps[owner], steps[owner + 1])):
            lines = [index for index, item in enumerate(items) if item.is_line]
            start = lines[edit.start] if edit.start < len(lines) else len(items)
            end = lines[edit.end - 1] + 1 if edit.end > edit.start else start
            new = [_Item(True, owner)] * len(edit.new) or [_Item(False, owner)]
            items[start:end] = new
    return items


def _own(edit: Edit, items: Sequence[_Item]) -> Edit:
    best = (float("inf"), 0)
    line = 0
    for item in items:
        if item.owner >= 0:
            end = line + item.is_line
            # Zero for lines that are edited, or right beside what is put in.
            distance = max(edit.start - end, line - edit.end, 0)
            if item.is_line and edit.start < edit.end and distance == 0:
                inside = edit.start < end and line < edit.end
                distance = 0 if inside else 1
            best = min(best, (distance, -item.owner))
        line += item.is_line
    if best[0] == float("inf"):
        return replace(edit, owner=-1)
    return replace(edit, owner=-best[1], distance=int(best[0]))


def _settle(edit: Edit, steps: Sequence[bytes]) -> Edit:
    """Moves the edit to a later change until those after it leave its lines alone."""
    edited = make_edits(steps[-1], [edit])
    for index in range(len(steps) - 2, max(edit.owner, 0) - 1, -1):
        if merge(steps[index + 1], steps[-1], edited) is None:
            return replace(edit, owner=index + 1)
    return edit
