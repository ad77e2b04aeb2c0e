"""What is told of a lowered call, as text for people: lines, and tables of times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING, TypeAlias

from torch._inductor.range_dispatch.plan.guesses import (
    guess_texts,
    NOT_TIMED,
    untimed_texts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torch._inductor.range_dispatch.record.records import (
        DispatchRecord,
        RangeRecord,
        SizeRecord,
    )


@dataclass(frozen=True)
class TextTable:
    """A table that ``str`` shows as text.

    The first ``labels`` columns are aligned left, the others right.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int = 1

    def __str__(self) -> str:
        widths = [max(map(len, cells)) for cells in zip(self.columns, *self.rows)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if number < self.labels else cell.rjust(width)
                for number, (cell, width) in enumerate(zip(row, widths))
            ).rstrip()
            for row in (self.columns, *self.rows)
        )


# What is told: a line of text, or a table below it.
Part: TypeAlias = "str | TextTable"


def plain(parts: Iterable[Part]) -> str:
    """Lines and tables as one text; tables are indented by two spaces."""
    lines = []
    for part in parts:
        indent = "  " if isinstance(part, TextTable) else ""
        lines += [f"{indent}{line}".rstrip() for line in str(part).split("\n")]
    return "".join(f"{line}\n" for line in lines)


def milliseconds_text(
    milliseconds: float | None, noise: float = 0.0, disturbed: bool = False
) -> str:
    """A time with four digits and its uncertainty: ``0.01234 ±0.00020``.

    ``(busy)`` follows if other programs disturbed the measurement, and the text is
    ``failed`` if there is no time.
    """
    if milliseconds is None:
        return "failed"
    decimals = _decimals(milliseconds, 4)
    text = f"{milliseconds:.{decimals}f}"
    text = f"{text} ±{noise:.{decimals}f}" if noise else text
    return f"{text} (busy)" if disturbed else text


def against_text(
    milliseconds: Mapping[str, float], noise: Mapping[str, float], winner: str | None
) -> str:
    """The winner's time, then the others', fastest first, in milliseconds.

    ``0.0800 ms ±0.0020 against 0.110 ms ±0.003 (other)``
    """

    def text(name: str) -> str:
        decimals = _decimals(milliseconds[name], 3)
        off = noise.get(name)
        spread = f" ±{off:.{decimals}f}" if off else ""
        return f"{milliseconds[name]:.{decimals}f} ms{spread}"

    others = [name for name in milliseconds if name != winner]
    others.sort(key=lambda name: milliseconds[name])
    own = "not timed"
    if winner is not None and winner in milliseconds:
        own = text(winner)
    if not others:
        return own
    return f"{own} against {', '.join(f'{text(name)} ({name})' for name in others)}"


def _decimals(milliseconds: float, digits: int) -> int:
    exponent = int(f"{milliseconds:.{digits - 1}e}".partition("e")[2])
    return max(0, digits - 1 - exponent)


def busy_texts(marks: Sequence[bool]) -> list[str]:
    """A line that says how many sizes were timed on a busy machine, if any were.

    ``marks`` has a bool for each size that was timed.
    """
    if not any(marks):
        return []
    return [f"timed on a busy machine: {sum(marks)} of {len(marks)} sizes"]


def describe_record(record: DispatchRecord) -> str:
    """All that is known of a call, as lines of text."""
    parts = record_parts(record)
    measured = [size for row in record.ranges for size in row.sizes]
    if measured:
        words = [[*map(str, one.sizes)] or ["all"] for one in measured]
        headings = record.axes or ("sizes",)
        table = _times_table(headings, words, measured, _time_at_size)
        parts += ["  at each size:", table]
    return plain(parts).rstrip("\n")


def record_parts(record: DispatchRecord) -> list[Part]:
    """A record as lines and tables, as ``TORCH_LOGS=range_dispatch`` shows it.

    They are: the op, its operands, the branches, a table of the cells with their
    winners and times, then remarks on what was not timed or timed on a busy machine.
    """
    dispatched = ", ".join(
        name if name == size else f"{name} = {size}"
        for name, size in zip(record.axes, record.sizes)
    )
    count = record.branches
    how = "inlined, no cond" if count == 1 else f"{count} branches"
    rows = record.ranges
    words = [
        [*(map(str, row.cell.ranges) if record.axes else ["all"]), row.winner]
        for row in rows
    ]
    headings = (*(record.axes or ("sizes",)), "winner")
    texts = [
        *guess_texts([row.cell for row in rows], [row.guess for row in rows]),
        *untimed_texts([row.untimed for row in rows]),
        *busy_texts([size.disturbed for row in rows for size in row.sizes]),
    ]
    return [
        f"{record.op} ({record.name})",
        f"  {record.call}",
        f"  dispatched on {dispatched}" if dispatched else "  one choice for all sizes",
        f"  {how}: {', '.join(record.branch_winners)}",
        *(f"  {text}" for text in fusion_texts(record)),
        *(f"  dropped: {one}" for one in record.dropped),
        _times_table(headings, words, rows, _time_in_range),
        *(f"  {text}" for text in texts),
    ]


def fusion_texts(record: DispatchRecord) -> list[str]:
    """What branches compute besides the op, and why they do not compute more."""
    texts = []
    if len(record.together) > 1:
        texts.append(f"branches shared by: {', '.join(record.together)}")
    if record.fused:
        texts.append(f"fused into each branch: {', '.join(record.fused)}")
    texts += [f"not fused: {name}, as {why}" for name, why in record.not_fused]
    return texts


def _times_table(
    headings: Sequence[str],
    words: Sequence[Sequence[str]],
    rows: Sequence[RangeRecord] | Sequence[SizeRecord],
    time_text: Callable[[Any, str], str],
) -> TextTable:
    """A column for each candidate that was timed, beside ``words`` for each row."""
    names = [*dict.fromkeys(name for row in rows for name in row.milliseconds)]
    return TextTable(
        [*headings, *(f"{name} ms" for name in names)],
        [
            [*own, *(time_text(row, name) for name in names)]
            for own, row in zip(words, rows)
        ],
        labels=len(headings),
    )


def _time_in_range(row: RangeRecord, name: str) -> str:
    if not row.milliseconds:
        return NOT_TIMED if row.untimed else ""
    return milliseconds_text(row.milliseconds.get(name), row.noise.get(name, 0.0))


def _time_at_size(one: SizeRecord, name: str) -> str:
    off = one.noise.get(name, 0.0)
    return milliseconds_text(one.milliseconds.get(name), off, one.disturbed)


def nearest_text(
    record: DispatchRecord, sizes: Sequence[int], winner: str | None
) -> str | None:
    """``nearest size timed: 64: 0.0800 ms ±0.0020 against 0.110 ms ±0.003 (other)``.

    It is the nearest on a log scale; of several that are as near one in the range of
    ``sizes``, which has one for each axis. Another range is told. None if nothing was
    timed, or there is no axis.
    """
    measured = [
        (one, row) for row in record.ranges for one in row.sizes if one.milliseconds
    ]
    if not sizes or not measured:
        return None

    def distance(found: tuple[SizeRecord, RangeRecord]) -> tuple[float, bool]:
        one, row = found
        here, there = ([math.log(max(n, 1)) for n in x] for x in (one.sizes, sizes))
        return round(math.dist(here, there), 9), sizes not in row.cell

    one, row = min(measured, key=distance)
    shown = ", ".join(map(str, one.sizes))
    if len(one.sizes) > 1:
        shown = f"({shown})"
    where = "" if sizes in row.cell else f", in {row.cell}"
    times = against_text(one.milliseconds, one.noise, winner)
    return f"nearest size timed: {shown}{where}: {times}"
