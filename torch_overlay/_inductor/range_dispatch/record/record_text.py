"""A lowered call's record as text for people: who won where, and by which times."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.plan.guesses import (
    guess_texts,
    NOT_TIMED,
    untimed_texts,
)
from torch._inductor.range_dispatch.record.text_tables import (
    against_text,
    busy_texts,
    milliseconds_text,
    Part,
    plain,
    TextTable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.plan.ranges import Cell
    from torch._inductor.range_dispatch.record.records import (
        DispatchRecord,
        RangeRecord,
        SizeRecord,
    )


def describe_record(record: DispatchRecord) -> str:
    """All that is known of a call, as lines of text."""
    parts = [*record_parts(record), *_size_parts(record)]
    return plain(parts).rstrip("\n")


def record_parts(record: DispatchRecord) -> list[Part]:
    """A heading, the operands, and a table of the cells with their winners."""
    dispatched = ", ".join(
        name if name == size else f"{name} = {size}"
        for name, size in zip(record.axes, record.sizes)
    )
    count = record.branches
    how = "inlined, no cond" if count == 1 else f"{count} branches"
    return [
        f"{record.op} ({record.name})",
        f"  {record.call}",
        f"  dispatched on {dispatched}" if dispatched else "  one choice for all sizes",
        f"  {how}: {', '.join(record.branch_winners)}",
        *fusion_texts(record),
        *(f"  dropped: {one}" for one in record.dropped),
        record_table(record),
        *(f"  {text}" for text in unmeasured_texts(record)),
    ]


def unmeasured_texts(record: DispatchRecord) -> list[str]:
    """Which splits are guesses, how many ranges were not timed, and how many sizes on
    a busy machine."""
    rows = record.ranges
    guesses = guess_texts([row.cell for row in rows], [row.guess for row in rows])
    marks = [size.disturbed for row in rows for size in row.sizes]
    untimed = untimed_texts([row.untimed for row in rows])
    return [*guesses, *untimed, *busy_texts(marks)]


def fusion_texts(record: DispatchRecord) -> list[str]:
    """What branches compute besides the op, and why they do not compute more."""
    texts = []
    if len(record.together) > 1:
        texts.append(f"  branches shared by: {', '.join(record.together)}")
    if record.fused:
        texts.append(f"  fused into each branch: {', '.join(record.fused)}")
    texts += [f"  not fused: {name}, as {why}" for name, why in record.not_fused]
    return texts


def record_table(record: DispatchRecord) -> TextTable:
    """A row for each cell, with the times that decided."""
    names = [*dict.fromkeys(name for row in record.ranges for name in row.milliseconds)]
    rows = [
        (
            *cell_texts(row.cell),
            row.winner,
            *(
                milliseconds_text(row.milliseconds.get(name), row.noise.get(name, 0.0))
                if row.milliseconds
                else NOT_TIMED
                if row.untimed
                else ""
                for name in names
            ),
        )
        for row in record.ranges
    ]
    columns = (*axis_columns(record.axes), "winner", *(f"{name} ms" for name in names))
    return TextTable(columns, rows, labels=len(axis_columns(record.axes)) + 1)


def _size_parts(record: DispatchRecord) -> list[Part]:
    """What was measured at each size, if anything was."""
    measured = [size for row in record.ranges for size in row.sizes]
    names = [*dict.fromkeys(name for one in measured for name in one.milliseconds)]
    rows = [
        (
            *(map(str, one.sizes) if one.sizes else ["all"]),
            *(
                milliseconds_text(
                    one.milliseconds.get(name), one.noise.get(name, 0.0), one.disturbed
                )
                for name in names
            ),
        )
        for one in measured
    ]
    axes = axis_columns(record.axes)
    columns = (*axes, *(f"{name} ms" for name in names))
    if not rows:
        return []
    return ["  at each size:", TextTable(columns, rows, labels=len(axes))]


def axis_columns(axes: tuple[str, ...]) -> tuple[str, ...]:
    """Headings over ``cell_texts``."""
    return axes or ("sizes",)


def cell_texts(cell: Cell) -> tuple[str, ...]:
    """The range of each axis; ``all`` without an axis."""
    return tuple(map(str, cell.ranges)) or ("all",)


def _nearest_size(
    record: DispatchRecord, sizes: Sequence[int]
) -> tuple[SizeRecord, RangeRecord] | None:
    """The nearest size on a log scale that was timed, and its range.

    Of several that are as near it is one in the range of ``sizes``, which has one for
    each axis. None if nothing was timed, or there is no axis.
    """
    measured = [
        (one, row) for row in record.ranges for one in row.sizes if one.milliseconds
    ]
    if not sizes or not measured:
        return None

    def distance(found: tuple[SizeRecord, RangeRecord]) -> tuple[float, bool]:
        one, row = found
        apart = math.dist(
            *([math.log(max(n, 1)) for n in x] for x in (one.sizes, sizes))
        )
        return round(apart, 9), sizes not in row.cell

    return min(measured, key=distance)


def nearest_text(
    record: DispatchRecord, sizes: Sequence[int], winner: str | None
) -> str | None:
    """``nearest size timed: 64: 0.0800 ms ±0.0020 against 0.110 ms ±0.003 (other)``.

    It is told if the size is in another range. None if nothing was timed.
    """
    found = _nearest_size(record, sizes)
    if found is None:
        return None
    one, row = found
    shown = ", ".join(map(str, one.sizes))
    if len(one.sizes) > 1:
        shown = f"({shown})"
    where = "" if sizes in row.cell else f", in {row.cell}"
    times = against_text(one.milliseconds, one.noise, winner)
    return f"nearest size timed: {shown}{where}: {times}"
