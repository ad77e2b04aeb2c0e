"""What was measured and decided, for people and tests to look at."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.benchmark import progress
from torch._inductor.range_dispatch.record.record_text import (
    describe_record,
    record_parts,
)
from torch._inductor.range_dispatch.record.text_tables import write
from torch._logging import getArtifactLogger, LazyString
from torch._logging._internal import trace_structured_artifact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch._inductor.range_dispatch.plan.decisions import DecisionTree
    from torch._inductor.range_dispatch.plan.guesses import Guess
    from torch._inductor.range_dispatch.plan.ranges import Cell, SizeRange


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

    ``number`` is the winner as registered with ``winners``. ``milliseconds`` and
    ``noise`` sum up ``sizes``, as ``choosing.combined`` says: it is they that decide. A
    candidate within the noise of the fastest may win. ``untimed`` says why none of
    several candidates was timed, empty if any was. ``guess`` has the measured sizes
    between which the last one of the range lies, if it is not known any better, or
    above which none was measured (see ``guesses``).
    """

    cell: Cell
    winner: str
    number: int
    sizes: tuple[SizeRecord, ...] = ()
    milliseconds: dict[str, float] = field(default_factory=dict)
    noise: dict[str, float] = field(default_factory=dict)
    untimed: str = ""
    guess: Guess | None = None

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
    """One lowered call.

    ``call`` tells the operands' dtypes, sizes and strides. ``axes`` are what is
    dispatched on, such as ``x.shape[1]``, and ``sizes`` what they are in the graph, as
    expressions; both are empty in plain autotuning. ``tree`` picks one of
    ``branch_winners``, which are names; if there is one, it was inlined without a cond.
    ``fused`` are the nodes of the graph that every branch computes as well, and
    ``not_fused`` those next to them that it does not, each with the reason.
    ``together`` are the dispatched calls, this one too, that the branches hold.
    ``dropped`` are the candidates that could not be used, for which ranges and why.
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
_silencers: list[None] = []


@contextlib.contextmanager
def record_dispatches() -> Iterator[list[DispatchRecord]]:
    """Collect a record of every autotuned call that is lowered in the context."""
    records: list[DispatchRecord] = []
    _listeners.append(records)
    try:
        yield records
    finally:
        # By identity: equal lists of nested contexts are different listeners.
        _listeners[:] = [one for one in _listeners if one is not records]


@contextlib.contextmanager
def without_summaries() -> Iterator[None]:
    """For a command that sums up all tuning itself."""
    _silencers.append(None)
    try:
        yield
    finally:
        _silencers.pop()


def publish(record: DispatchRecord) -> None:
    """Give a record to every context that is collecting, to logs and to tlparse."""
    for records in _listeners:
        records.append(record)
    artifact_log.debug("%s", LazyString(describe_record, record))
    _summarize(record)
    trace_structured_artifact(
        "range_dispatch", "json", lambda: json.dumps(dataclasses.asdict(record))
    )


def _summarize(record: DispatchRecord) -> None:
    """Below a bar that has been shown, say what came out."""
    if record.name in progress.shown:
        progress.shown.remove(record.name)
        if not _silencers:
            write(record_parts(record), sys.stderr)
