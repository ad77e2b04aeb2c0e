"""How two tuning tables differ: in calls, in winners, in times beyond their noise."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
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
    Choice,
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
    if not rows:
        return []
    table = TextTable(("", *names), rows, labels=3)
    return ["  the environments differ:", table]


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


@dataclass(frozen=True)
class _Winner:
    """Of some sizes: its name and number, None where they cannot occur, and its times
    in words."""

    name: str | None
    number: int | None
    times: str

    @classmethod
    def at(cls, call: TableCall, choice: Choice, sizes: Sequence[int]) -> _Winner:
        """The winner where sizes begin."""
        index = 0
        for points, size in zip(choice.split_points, sizes):
            index = index * (len(points) + 1) + bisect.bisect_left(points, size)
        name = choice.names[index]
        return cls(name, choice.winners[index], times_text(call.decided[index], name))

    def __str__(self) -> str:
        return CANNOT_OCCUR if self.number is None else str(self.name)


def _other_winners(
    one: TableCall, other: TableCall
) -> list[tuple[Cell, list[str], list[str]]]:
    """The cells of the grid that both are a part of in which other ones win, with the
    winners and their times."""
    both = [(call, call.choice) for call in (one, other) if call.choice]
    grid = [
        sorted({*first, *second})
        for first, second in zip(*(choice.split_points for _, choice in both))
    ]
    found = []
    for cell in cells_of_grid([*map(ranges_from_split_points, grid)]):
        starts = [size_range.start for size_range in cell.ranges]
        first, second = (_Winner.at(*side, starts) for side in both)
        if (first.name, first.number) != (second.name, second.number):
            texts = [str(first), str(second)]
            if texts[0] == texts[1]:  # the configs are in another order
                texts = [f"{side} ({side.number})" for side in (first, second)]
            found.append((cell, texts, [first.times, second.times]))
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
        for a, b in candidates:
            if a.digest != b.digest:
                edited[a.name] = None
            if _differ(a, b):
                rows.append((*_row(first), a.name, *_compared(a, b)))
        for side, times in enumerate(missing):
            for time in times:
                text = milliseconds_text(time.milliseconds, time.noise, time.disturbed)
                both = (text, "", "") if side == 0 else ("", text, "")
                rows.append((*_row(first), time.name, *both))
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


def _row(entry: Entry) -> tuple[str, ...]:
    return (*map(str, entry.sizes), operands_text(entry))


def _differ(a: CandidateTime, b: CandidateTime) -> bool:
    if a.milliseconds is None or b.milliseconds is None:
        return a.milliseconds is not b.milliseconds
    return abs(a.milliseconds - b.milliseconds) > a.noise + b.noise


def _compared(a: CandidateTime, b: CandidateTime) -> tuple[str, str, str]:
    """Both times, and the second as a multiple of the first."""
    ratio = ""
    if a.milliseconds is not None and b.milliseconds is not None:
        ratio = f"{b.milliseconds / a.milliseconds:.3f}"
    return (
        milliseconds_text(a.milliseconds, a.noise, a.disturbed),
        milliseconds_text(b.milliseconds, b.noise, b.disturbed),
        ratio,
    )


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
