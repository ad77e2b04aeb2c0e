"""Tells what was measured and chosen for a call: records, logs and tables."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.benchmark.timing import is_disturbed, SHORTEST

from torch._inductor.range_dispatch.cache import table_store
from torch._inductor.range_dispatch.cache.environment import describe_environment
from torch._inductor.range_dispatch.cache.tables import Choice, Decided
from torch._inductor.range_dispatch.call.sizes import evaluate
from torch._inductor.range_dispatch.record.kept_calls import note_call
from torch._inductor.range_dispatch.record.records import (
    DispatchRecord,
    publish,
    RangeRecord,
    SizeRecord,
)
from torch._inductor.range_dispatch.tuning.reasons import reasons_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.plan.decisions import DispatchPlan
    from torch._inductor.range_dispatch.region.regions import Region
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.drops import Dropped
    from torch._inductor.range_dispatch.tuning.selection import RangeChoice
    from torch.fx import GraphModule


log = logging.getLogger(__name__)


def publish_choices(
    registration: Registration,
    call: BoundCall,
    axes: Sequence[Axis],
    choices: Sequence[RangeChoice],
    plan: DispatchPlan[GraphModule],
    dropped: Sequence[Dropped],
    region: Region | None = None,
    not_fused: tuple[tuple[str, str], ...] = (),
) -> DispatchRecord:
    """Make known what was chosen for a call, and how its graph picks among it.

    ``dropped`` are the candidates that could not be used. The ``region`` is what its
    branches take in from around the op; without one ``not_fused`` has what they do not,
    and why.
    """
    reasons = reasons_of(registration, choices, dropped)
    names = {c.winner.graph_module: c.winner.candidate.name for c in choices}
    record = DispatchRecord(
        op=str(registration.op),
        name=registration.name,
        call=call.describe(),
        axes=tuple(axis.name for axis in axes),
        sizes=tuple(str(axis.size) for axis in axes),
        ranges=tuple(map(_range_record, choices, reasons)),
        branch_winners=tuple(names[branch] for branch in plan.branches),
        tree=plan.tree,
        fused=() if region is None else region.absorbed,
        not_fused=not_fused if region is None else region.refused,
        together=tuple(op.name for op in region.ops) if region else (),
        dropped=tuple(map(str, dropped)),
    )
    for row in record.ranges:
        log.info("%s range %s -> %s", registration.name, row.cell, row.winner)
    publish(record)
    note_call(record, reasons, axes)
    table_store.note_choice(_choice(registration, call, record))
    return record


def _range_record(choice: RangeChoice, reason: str) -> RangeRecord:
    return RangeRecord(
        choice.task.cell,
        choice.winner.candidate.name,
        choice.number,
        tuple(
            SizeRecord(
                tuple(evaluate(size, one.sample.values) for size in choice.task.sizes),
                one.sample.weight,
                {c.name: t.milliseconds for c, t in one.timings.items()},
                {c.name: t.noise for c, t in one.timings.items()},
                is_disturbed(one.timings),
            )
            for one in choice.measured
        ),
        {c.name: t.milliseconds for c, t in choice.timings.items()},
        {c.name: t.noise for c, t in choice.timings.items()},
        reason if choice.is_untimed and not choice.timings else "",
        choice.guess,
    )


def _choice(
    registration: Registration, call: BoundCall, record: DispatchRecord
) -> Choice:
    """The record as a table keeps it: one winner for each cell of the grid."""
    dispatch = registration.dispatch
    split_points: tuple[tuple[int, ...], ...] = ()
    cells = registration.cells
    if dispatch is not None and dispatch.searched is None:
        split_points = tuple(axis.split_points for axis in dispatch.axes)
    elif dispatch is not None:
        cells = tuple(row.cell for row in record.ranges)
        ends = [row.size_range.end for row in record.ranges]
        split_points = (tuple(end for end in ends if end is not None),)
    chosen = {row.cell: row for row in record.ranges}
    rows = [chosen.get(cell) for cell in cells]
    return Choice(
        op=record.op,
        schema=str(call.op._schema),
        environment=describe_environment(call.nodes[0].get_device_or_error()),
        call=record.call,
        axes=record.axes,
        split_points=split_points,
        winners=tuple(None if row is None else row.number for row in rows),
        names=tuple(None if row is None else row.winner for row in rows),
        dropped=record.dropped,
        decided=tuple(None if row is None else _decided(row) for row in rows),
    )


def _decided(row: RangeRecord) -> Decided:
    # As in the entries: no time is 0.
    milliseconds = {n: max(ms, SHORTEST) for n, ms in row.milliseconds.items()}
    return Decided(milliseconds, row.noise, row.untimed, row.guess)
