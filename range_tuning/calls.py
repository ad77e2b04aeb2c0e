"""What a tuning table has, call by call, and what decided in each cell of a call."""

from __future__ import annotations

import functools
import json
import math
import statistics
from dataclasses import dataclass
from typing import NamedTuple, TYPE_CHECKING

from torch._inductor.range_dispatch import (
    against_text,
    busy_texts,
    Cell,
    Choice,
    Decided,
    Entry,
    TuningTable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


NOT_KEPT = (
    "the table does not keep what decided: the times of ranges are geometric means of "
    "what was taken at the sizes in them"
)
NOT_TIMED = "not timed"
CANNOT_OCCUR = "cannot occur"


class Row(NamedTuple):
    """One cell of the grid, its winner and what decided that.

    The winner's name, and its number as registered, are None where the cell cannot
    occur.
    """

    cell: Cell
    name: str | None
    number: int | None
    decided: Decided | None


@dataclass(frozen=True)
class TableCall:
    """The choice of one call, if any is known, and the times that were taken for it."""

    op: str
    call: str
    axes: tuple[str, ...]
    schema: str
    environment: Mapping[str, str]
    choice: Choice | None = None
    entries: tuple[Entry, ...] = ()

    @property
    def identity(self) -> tuple[object, ...]:
        """The same for the same call in any environment."""
        return self.op, self.call, self.axes, self.schema

    @property
    def columns(self) -> tuple[str, ...]:
        """Headings over ``cell_texts``."""
        return self.axes or ("sizes",)

    @property
    def where(self) -> str:
        """The environment in words."""
        return ", ".join(f"{k}: {v}" for k, v in self.environment.items() if v)

    def headings(self) -> list[str]:
        """The op, its operands, what is dispatched on and where it was measured."""
        on = f"dispatched on {', '.join(self.axes)}" if self.axes else "no dispatch"
        return [self.op, f"  {self.call}", f"  {on}", f"  {self.where}"]

    @property
    def keeps_decided(self) -> bool:
        """Whether the table has what decided; older ones have not."""
        return self.choice is None or bool(self.choice.decided)

    @functools.cached_property
    def decided(self) -> Sequence[Decided | None]:
        """What decided in each cell, None where that is nothing.

        If the table does not keep it, it is the geometric mean of what was taken at the
        sizes in the cell.
        """
        if self.choice is None:
            return ()
        kept = self.choice.decided
        return kept or [_mean(cell, self.entries) for cell in self.choice.cells]

    @functools.cached_property
    def rows(self) -> Sequence[Row]:
        """The cells of the choice; none if no choice was kept."""
        if self.choice is None:
            return ()
        one = self.choice
        return [*map(Row, one.cells, one.names, one.winners, self.decided)]

    @property
    def timed_names(self) -> list[str]:
        """The candidates whose times decided, in the order of the entries."""
        known = {name: None for one in self.decided if one for name in one.milliseconds}
        ordered = [one.name for entry in self.entries for one in entry.candidates]
        return [*dict.fromkeys([*(name for name in ordered if name in known), *known])]

    @property
    def busy(self) -> list[str]:
        """How many sizes were timed on a busy machine, if any were."""
        return busy_texts([entry.is_disturbed for entry in self.entries])

    @property
    def unmeasured(self) -> list[str]:
        """Which splits are guesses, how many cells were not timed, and how many sizes
        on a busy machine."""
        if self.choice is None:
            return self.busy
        return [*self.choice.guesses, *self.choice.untimed, *self.busy]


def calls_of(table: TuningTable) -> list[TableCall]:
    """The calls of a table by op, operands and environment; entries by size."""

    def key(part: Entry | Choice) -> tuple[str, str, tuple[str, ...], str, str]:
        environment = json.dumps({**part.environment}, sort_keys=True)
        return part.op, part.call, part.axes, part.schema, environment

    choices = {key(choice): choice for choice in table.choices.values()}
    entries: dict[tuple[str, str, tuple[str, ...], str, str], list[Entry]] = {}
    for entry in sorted(table.entries.values(), key=lambda e: (e.sizes, e.operands)):
        entries.setdefault(key(entry), []).append(entry)
    return [
        TableCall(
            *one[:-1], json.loads(one[-1]), choices.get(one), (*entries.get(one, ()),)
        )
        for one in sorted({**choices, **entries})
    ]


def cell_texts(cell: Cell) -> tuple[str, ...]:
    """The range of each axis; ``all`` without an axis."""
    return tuple(map(str, cell.ranges)) or ("all",)


def operands_text(entry: Entry) -> str:
    """The tensors of an entry: ``float32[64, 128]; int64[8]``."""
    tensors, _ = json.loads(entry.operands)
    return "; ".join(
        f"{dtype.removeprefix('torch.')}{size}" for size, _, dtype, *_ in tensors
    )


def times_text(decided: Decided | None, winner: str | None) -> str:
    """``0.0800 ms ±0.0020 against 0.110 ms ±0.003 (other)``, fastest first; why there
    are no times, if a range was not timed, or nothing."""
    if decided is None:
        return ""
    if not decided.milliseconds:
        return decided.untimed
    return against_text(decided.milliseconds, decided.noise, winner)


def _mean(cell: Cell, entries: Sequence[Entry]) -> Decided | None:
    """Of the candidates that were timed at every size in a cell, where some were."""
    inside = [
        {(c.name, c.digest): c for c in entry.candidates if c.milliseconds is not None}
        for entry in entries
        if len(entry.sizes) == len(cell.ranges) and entry.sizes in cell
    ]
    milliseconds: dict[str, float] = {}
    noise: dict[str, float] = {}
    for key in inside[0] if inside else ():
        taken = [
            (one[key].milliseconds or 0.0, one[key].noise)
            for one in inside
            if key in one
        ]
        if len(taken) == len(inside):
            mean = statistics.geometric_mean(ms for ms, _ in taken)
            parts = math.hypot(*(off / ms for ms, off in taken)) / len(taken)
            milliseconds[key[0]], noise[key[0]] = mean, mean * parts
    return Decided(milliseconds, noise) if milliseconds else None
