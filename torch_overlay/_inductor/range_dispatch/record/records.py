"""What was measured and decided for a call: its record, given to logs, tables, the
compiled graph and whoever listens."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.benchmark import progress
from torch._inductor.range_dispatch.benchmark.timing import is_disturbed
from torch._inductor.range_dispatch.cache import table_store
from torch._inductor.range_dispatch.cache.environment import describe_environment
from torch._inductor.range_dispatch.cache.tables import Choice, Decided
from torch._inductor.range_dispatch.call.sizes import evaluate
from torch._inductor.range_dispatch.call.state import compile_state, root_graph
from torch._inductor.range_dispatch.plan.times import SHORTEST
from torch._inductor.range_dispatch.record.kept_calls import KeptCall
from torch._inductor.range_dispatch.record.record_text import (
    describe_record,
    plain,
    record_parts,
)
from torch._inductor.virtualized import V
from torch._logging import getArtifactLogger, LazyString
from torch._logging._internal import trace_structured_artifact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.plan.decisions import DecisionTree, DispatchPlan
    from torch._inductor.range_dispatch.plan.guesses import Guess
    from torch._inductor.range_dispatch.plan.ranges import Cell, SizeRange
    from torch._inductor.range_dispatch.region.regions import Surroundings
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.selection.choices import ChosenCall
    from torch._inductor.range_dispatch.tuning.timed_choices import TimedChoice
    from torch.fx import GraphModule


log = logging.getLogger(__name__)
# TORCH_LOGS=range_dispatch
artifact_log = getArtifactLogger(__name__, "range_dispatch")


@dataclass(frozen=True)
class SizeRecord:
    """What candidates took at one size: milliseconds, and by how many each may be off.

    ``sizes`` has one for each axis, none in plain autotuning. ``weight`` is how much
    they count in their cell. They are ``disturbed`` if other programs kept the
    processors busy.
    """

    sizes: tuple[int, ...]
    weight: float
    milliseconds: dict[str, float]
    noise: dict[str, float]
    disturbed: bool = False


@dataclass(frozen=True)
class RangeRecord:
    """One cell: its winner, and the times that decided, if any were taken.

    ``number`` is the winner as registered with ``winners``, and ``reason`` says why it
    won. ``milliseconds`` and ``noise`` sum up ``sizes``, as ``choosing.combined`` says:
    it is they that decide. A candidate within the noise of the fastest may win.
    ``untimed`` is the reason if none of several candidates was timed, empty if any was.
    ``guess`` has the measured sizes between which the last one of the range lies, if it
    is not known any better, or above which none was measured (see ``guesses``).
    """

    cell: Cell
    winner: str
    number: int
    sizes: tuple[SizeRecord, ...] = ()
    milliseconds: dict[str, float] = field(default_factory=dict)
    noise: dict[str, float] = field(default_factory=dict)
    untimed: str = ""
    guess: Guess | None = None
    reason: str = ""

    @property
    def size_range(self) -> SizeRange:
        """The range of the only axis."""
        (only,) = self.cell.ranges
        return only

    @property
    def timed_sizes(self) -> list[int]:
        """The sizes of the only axis that stand for the range, ascending."""
        return [size for one in self.sizes for size in one.sizes]


@dataclass(frozen=True)
class DispatchRecord:
    """What was decided for one lowered call.

    ``call`` describes the operands: dtypes, sizes and strides. ``axes`` are what is
    dispatched on, such as ``x.shape[1]``, and ``sizes`` the same as expressions of the
    graph's symbols; without ``dispatch_on`` both are empty. ``ranges`` has a record for
    each cell: winner, reason and times. ``branch_winners`` names the winner of each
    branch, and ``tree`` picks among them; a single one is inlined, without a cond.
    ``fused`` are the graph's nodes that were fused into every branch, ``not_fused``
    pairs of a neighbouring node and the reason why it was not. ``together`` are the
    calls that share the branches. ``dropped`` says which candidates could not be used,
    for which ranges and why.
    """

    op: str
    name: str
    call: str
    axes: tuple[str, ...]
    sizes: tuple[str, ...]
    ranges: tuple[RangeRecord, ...]
    branch_winners: tuple[str, ...]
    tree: DecisionTree
    fused: tuple[str, ...] = ()
    not_fused: tuple[tuple[str, str], ...] = ()
    together: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def branches(self) -> int:
        """How many branches there are."""
        return len(self.branch_winners)


_listeners: list[list[DispatchRecord]] = []


@contextlib.contextmanager
def record_dispatches() -> Iterator[list[DispatchRecord]]:
    """Collect a ``DispatchRecord`` for every call that is lowered in a ``with`` block.

    The block gets the list, which grows as calls are lowered. What comes from a cache
    of compiled graphs is not lowered, and leaves no record.
    """
    records: list[DispatchRecord] = []
    _listeners.append(records)
    try:
        yield records
    finally:
        # By identity: equal lists of nested contexts are different listeners.
        _listeners[:] = [one for one in _listeners if one is not records]


def publish(
    chosen: ChosenCall[TimedChoice],
    plan: DispatchPlan[GraphModule],
    surroundings: Surroundings,
) -> DispatchRecord:
    """Make known what was chosen for a call, and how its graph picks among it.

    The record goes to every context that is collecting, to logs, tlparse, the graph and
    tables.
    """
    registration, call, axes = chosen.registration, chosen.call, chosen.axes
    winners = [choice.winner for choice in chosen.choices]
    names = {one.graph_module: one.candidate.name for one in winners}
    record = DispatchRecord(
        op=str(registration.op),
        name=registration.name,
        call=call.describe(),
        axes=tuple(axis.name for axis in axes),
        sizes=tuple(str(axis.size) for axis in axes),
        ranges=tuple(map(_range_record, chosen.choices)),
        branch_winners=tuple(names[branch] for branch in plan.branches),
        tree=plan.tree,
        fused=surroundings.fused,
        not_fused=surroundings.not_fused,
        together=surroundings.together,
        dropped=tuple(map(str, chosen.dropped)),
    )
    for row in record.ranges:
        log.info("%s range %s -> %s", registration.name, row.cell, row.winner)
    for records in _listeners:
        records.append(record)
    artifact_log.debug("%s", LazyString(describe_record, record))
    _summarize(record)
    trace_structured_artifact(
        "range_dispatch", "json", lambda: json.dumps(dataclasses.asdict(record))
    )
    exprs = tuple(axis.size for axis in axes)
    is_conditional = root_graph() is not V.graph
    compile_state().calls.append(KeptCall(record, exprs, is_conditional))
    table_store.note_choice(_choice(registration, call, record))
    return record


def _range_record(choice: TimedChoice) -> RangeRecord:
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
        choice.reason if choice.is_untimed and not choice.timings else "",
        choice.guess,
        choice.reason,
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


def _summarize(record: DispatchRecord) -> None:
    """Below a line that has been shown, say what came out; the ``tune`` command sums up
    all tuning itself."""
    if record.name in progress.shown:
        progress.shown.remove(record.name)
        if table_store.tuned_table() is None:
            sys.stderr.write(plain(record_parts(record)))
