"""What a tuning table has, call by call, for the commands that tell people."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.plan.ranges import (
    Cell,
    cells_of_grid,
    ranges_from_split_points,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch._inductor.range_dispatch.cache.tables import Choice, Entry, TuningTable


@dataclass(frozen=True)
class TableCall:
    """The choice of one call, if any is known, and the times that were taken for it."""

    op: str
    schema: str
    call: str
    axes: tuple[str, ...]
    environment: Mapping[str, str]
    choice: Choice | None = None
    entries: tuple[Entry, ...] = ()

    @property
    def identity(self) -> str:
        """The same for the same call in any environment."""
        return json.dumps([self.op, self.schema, self.call, self.axes])

    def headings(self) -> list[str]:
        """The op, its operands, what is dispatched on and where it was measured."""
        where = ", ".join(f"{k}: {v}" for k, v in self.environment.items() if v)
        on = f"dispatched on {', '.join(self.axes)}" if self.axes else "no dispatch"
        return [self.op, f"  {self.call}", f"  {on}", f"  {where}"]


def calls_of(table: TuningTable) -> list[TableCall]:
    """The calls of a table by op, then as they are described; entries by size."""
    found: dict[str, TableCall] = {}

    def call_of(part: Entry | Choice) -> TableCall:
        call = TableCall(
            part.op, part.schema, part.call, part.axes, dict(part.environment)
        )
        environment = json.dumps(call.environment, sort_keys=True)
        return found.setdefault(f"{call.identity} {environment}", call)

    choices = {id(call_of(one)): one for one in table.choices.values()}
    entries: dict[int, list[Entry]] = {}
    ordered = sorted(table.entries.values(), key=lambda e: (e.sizes, e.operands))
    for entry in ordered:
        entries.setdefault(id(call_of(entry)), []).append(entry)
    calls = [
        dataclasses.replace(
            call, choice=choices.get(id(call)), entries=tuple(entries.get(id(call), ()))
        )
        for call in found.values()
    ]
    return sorted(calls, key=lambda c: (c.identity, sorted(c.environment.items())))


def cells_of(choice: Choice) -> tuple[Cell, ...]:
    """The cells that the winners of a choice are for, in their order."""
    return cells_of_grid([*map(ranges_from_split_points, choice.split_points)])


def operands_text(entry: Entry) -> str:
    """The tensors of an entry: ``float32[64, 128]; int64[8]``."""
    tensors, _ = json.loads(entry.operands)
    return "; ".join(
        f"{dtype.removeprefix('torch.')}{size}" for size, _, dtype, *_ in tensors
    )
