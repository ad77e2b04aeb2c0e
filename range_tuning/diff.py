"""How two tuning tables differ: in calls, in winners, in times beyond their noise."""

from __future__ import annotations

from typing import Any, TYPE_CHECKING, TypeVar

from range_tuning.calls import (
    calls_of,
    CANNOT_OCCUR,
    cell_texts,
    NOT_KEPT,
    operands_text,
    TableCall,
    times_text,
)
from torch._inductor.range_dispatch import (
    CandidateTime,
    Cell,
    cells_of_grid,
    Entry,
    milliseconds_text,
    ranges_from_split_points,
    TextTable,
    TuningTable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from range_tuning.text import Part


_Item = TypeVar("_Item")


def diff_parts(
    tables: tuple[TuningTable, TuningTable], names: tuple[str, str]
) -> list[Part]:
    """What differs, call by call; nothing if the tables say the same.

    A call that was measured in another environment only, such as another torch, is
    compared with that, and the environments are told as a difference.
    """
    first, second = map(calls_of, tables)
    pairs, *alone = _paired(
        first,
        second,
        [
            lambda call: (call.identity, sorted(call.environment.items())),
            lambda call: (call.identity, call.environment.get("device")),
            lambda call: call.identity,
        ],
    )
    parts: list[Part] = []
    for name, calls in zip(names, alone):
        for call in calls:
            parts.append(f"only in {name}:")
            parts += [f"  {line}" for line in call.headings()]
            parts.append(f"    {_summary(call)}")
    for one, other in pairs:
        found = [
            *_environments(one, other, names),
            *_choices(one, other, names),
            *_times(one, other, names),
        ]
        if found:
            parts += [one.op, f"  {one.call}", *found]
    return parts


def _summary(call: TableCall) -> str:
    sizes = f"{len(call.entries)} sizes measured"
    if call.choice is None:
        return sizes
    winners = dict.fromkeys(name for name in call.choice.names if name is not None)
    points = ", ".join(map(_points, call.choice.split_points))
    where = f", split at {points}" if points else ""
    return f"winners {', '.join(winners)}{where}; {sizes}"


def _environments(
    one: TableCall, other: TableCall, names: tuple[str, str]
) -> list[Part]:
    keys = {**one.environment, **other.environment}
    texts = [
        (key, one.environment.get(key) or "-", other.environment.get(key) or "-")
        for key in keys
    ]
    rows = [row for row in texts if row[1] != row[2]]
    table = TextTable(("", *names), rows, labels=3)
    return ["  the environments differ:", table] if rows else []


def _choices(one: TableCall, other: TableCall, names: tuple[str, str]) -> list[Part]:
    first, second = one.choice, other.choice
    if first is None or second is None:
        if first is second:
            return []
        name = names[0] if second is None else names[1]
        return [f"  only {name} says what was chosen"]
    parts: list[Part] = []
    for axis, *points in zip(one.axes, first.split_points, second.split_points):
        if points[0] != points[1]:
            rows = [(name, _points(p)) for name, p in zip(names, points)]
            parts.append(f"  {axis} is split differently:")
            parts.append(TextTable(("", "split points"), rows, labels=2))
    parts += _winner_parts(one, other, names)
    return parts


def _winner_parts(
    one: TableCall, other: TableCall, names: tuple[str, str]
) -> list[Part]:
    """The cells with other winners, and what decided in each table, where it is known
    of one of them."""
    winners = _other_winners(one, other)
    if not winners:
        return []
    is_known = any(any(times) for *_, times in winners)
    rows = [
        (*cell_texts(cell), *texts, *(times if is_known else ()))
        for cell, texts, times in winners
    ]
    columns = [*one.columns, *names]
    decided = [f"decided by in {name}" for name in names] if is_known else []
    parts: list[Part] = ["  the winners differ:"]
    parts.append(TextTable((*columns, *decided), rows, labels=len(columns) + 2))
    for name, call in zip(names, (one, other)):
        if is_known and not call.keeps_decided and any(call.decided):
            parts.append(f"  {name}: {NOT_KEPT}")
    return parts


def _points(points: Sequence[int]) -> str:
    return str([*points]) if points else "nowhere"


def _other_winners(
    one: TableCall, other: TableCall
) -> list[tuple[Cell, list[str], list[str]]]:
    """The cells of the grid that both are a part of in which other ones win, with the
    winners and their times."""
    both = [call.choice.split_points for call in (one, other) if call.choice]
    grid = [sorted({*first, *second}) for first, second in zip(*both)]
    found = []
    for cell in cells_of_grid([*map(ranges_from_split_points, grid)]):
        starts = [size_range.start for size_range in cell.ranges]
        rows = [
            next(row for row in call.rows if starts in row.cell)
            for call in (one, other)
        ]
        if rows[0][1:3] != rows[1][1:3]:
            texts = [str(row.name or CANNOT_OCCUR) for row in rows]
            if texts[0] == texts[1]:  # the configs are in another order
                texts = [f"{row.name} ({row.number})" for row in rows]
            times = [times_text(row.decided, row.name) for row in rows]
            found.append((cell, texts, times))
    return found


def _times(one: TableCall, other: TableCall, names: tuple[str, str]) -> list[Part]:
    pairs, *alone = _paired(
        one.entries,
        other.entries,
        [
            lambda entry: (entry.operands, [c.digest for c in entry.candidates]),
            lambda entry: (entry.operands, [c.name for c in entry.candidates]),
            lambda entry: entry.operands,
        ],
    )
    parts: list[Part] = []
    for name, entries in zip(names, alone):
        if entries:
            sizes = ", ".join(map(_sizes, entries))
            parts.append(f"  sizes that were measured in {name} only: {sizes}")
    edited: dict[str, None] = {}
    rows = []
    for first, second in pairs:
        candidates, *missing = _paired(
            first.candidates,
            second.candidates,
            [lambda one: (one.name, one.digest), lambda one: one.name],
        )
        alone_here = [(one, None) for one in missing[0]]
        alone_there = [(None, one) for one in missing[1]]
        for a, b in [*candidates, *alone_here, *alone_there]:
            name = a.name if a else b.name if b else ""
            if a and b and a.digest != b.digest:
                edited[name] = None
            if found := _compared(a, b):
                where = *map(str, first.sizes), operands_text(first)
                rows.append((*where, name, *found))
    if edited:
        parts.append(f"  other sources, params or patches: {', '.join(edited)}")
    if rows:
        columns = (*one.axes, "operands", "candidate")
        headings = (*columns, *(f"{name} ms" for name in names), "ratio")
        parts.append("  times that differ by more than their noise:")
        parts.append(TextTable(headings, rows, labels=len(columns)))
    return parts


def _sizes(entry: Entry) -> str:
    return " x ".join(map(str, entry.sizes)) or operands_text(entry)


def _compared(a: CandidateTime | None, b: CandidateTime | None) -> list[str]:
    """Both times, and the second as a multiple of the first; nothing if they do not
    differ by more than their noise."""
    first, second = (one.milliseconds if one else None for one in (a, b))
    ratio = ""
    if a and b and first and second:
        if abs(first - second) <= a.noise + b.noise:
            return []
        ratio = f"{second / first:.3f}"
    elif a and b and first is second:
        return []
    texts = [
        milliseconds_text(one.milliseconds, one.noise, one.disturbed) if one else ""
        for one in (a, b)
    ]
    return [*texts, ratio]


def _paired(
    first: Sequence[_Item],
    second: Sequence[_Item],
    keys: Sequence[Callable[[_Item], Any]],
) -> tuple[list[tuple[_Item, _Item]], list[_Item], list[_Item]]:
    """Items that have the same key, by the first key that finds a pair for them, in the
    order of the first ones; then what is left of both."""
    left, right = dict(enumerate(first)), dict(enumerate(second))
    pairs: dict[int, tuple[_Item, _Item]] = {}
    for key in keys:
        waiting: dict[str, list[int]] = {}
        for index, item in right.items():
            waiting.setdefault(repr(key(item)), []).append(index)
        for index, item in [*left.items()]:
            partners = waiting.get(repr(key(item)))
            if partners:
                pairs[index] = left.pop(index), right.pop(partners.pop(0))
    return (
        [pairs[index] for index in sorted(pairs)],
        [*left.values()],
        [*right.values()],
    )
