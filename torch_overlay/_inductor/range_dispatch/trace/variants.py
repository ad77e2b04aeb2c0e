"""The graphs of candidates: one for all ranges where possible, else one a range."""

from __future__ import annotations

import functools
import logging
from typing import Any, TYPE_CHECKING

from torch._dynamo.utils import counters
from torch._inductor.range_dispatch.trace.guards import (
    constrained_symbols,
    Guard,
    install_guard,
    MAX_ADMITTED,
    NeedsGuard,
)
from torch._inductor.range_dispatch.trace.narrowing import known_to_be_in
from torch._inductor.range_dispatch.trace.tracing import (
    AddsGuards,
    CandidateRejected,
    trace_candidate,
    TracedCandidate,
)
from torch._inductor.virtualized import V
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import sympy

    import torch
    from torch._inductor.range_dispatch.binding import BoundCall
    from torch._inductor.range_dispatch.candidates import Candidate
    from torch._inductor.range_dispatch.ranges import Cell
    from torch._inductor.range_dispatch.sizes import RangeTask


log = logging.getLogger(__name__)


class Variants:
    """Traces the candidates of one bound call.

    An implementation may look at the dispatched size (``if x.shape[0] <= 16``) as far
    as its range decides the answer: it is then traced for each range by itself, and
    graphs that come out the same are one.
    """

    def __init__(
        self,
        call: BoundCall,
        expected: Sequence[torch.Tensor],
        sizes: Sequence[sympy.Expr],
        is_given: bool,
    ) -> None:
        """``sizes`` are the dispatched sizes if some are symbolic; ``is_given`` says
        that winners are given, so that what is traced is what will run."""
        self._call = call
        self._expected = expected
        self._dispatched = OrderedSet(s for size in sizes for s in size.free_symbols)
        self._is_given = is_given
        self._constrained = constrained_symbols(V.graph.sizevars.shape_env)
        self.fake_operands = self._fresh_operands()
        self._for_all: dict[Candidate, TracedCandidate | CandidateRejected] = {}
        self._by_range: dict[tuple[Candidate, Cell], TracedCandidate | None] = {}
        self._by_text: dict[tuple[Candidate, str], TracedCandidate] = {}

    def graph_for(
        self, candidate: Candidate, task: RangeTask
    ) -> TracedCandidate | None:
        """The candidate's graph for a range, None if it was dropped for it."""
        if candidate not in self._for_all:
            self._for_all[candidate] = self._trace_for_all(candidate)
        traced = self._for_all[candidate]
        if isinstance(traced, TracedCandidate):
            return traced
        key = (candidate, task.cell)
        if key not in self._by_range:
            self._by_range[key] = None
            if isinstance(traced, AddsGuards) and task.sizes:
                self._by_range[key] = self._trace_for_range(candidate, task)
            elif isinstance(traced, AddsGuards):
                self._drop(candidate, f"for range {task.cell}", traced)
        return self._by_range[key]

    def _trace_for_all(
        self, candidate: Candidate
    ) -> TracedCandidate | CandidateRejected:
        try:
            return self._trace(candidate, None)
        except AddsGuards as reason:
            return reason
        except CandidateRejected as reason:
            self._drop(candidate, "for all ranges", reason)
            return reason

    def _trace_for_range(
        self, candidate: Candidate, task: RangeTask
    ) -> TracedCandidate | None:
        try:
            traced = self._trace(candidate, task)
        except CandidateRejected as reason:
            self._drop(candidate, f"for range {task.cell}", reason)
            return None
        text = traced.graph_module.print_readable(print_output=False)
        return self._by_text.setdefault((candidate, text), traced)

    def _trace(self, candidate: Candidate, task: RangeTask | None) -> TracedCandidate:
        """Trace for a range, or for all; install the guards that are admitted."""
        shape_env = V.graph.sizevars.shape_env
        for _ in range(MAX_ADMITTED):
            try:
                if task is None or not task.sizes:
                    return self._trace_once(candidate, self._admits_for_all)
                with known_to_be_in(task.sizes, task.cell, shape_env):
                    return self._trace_once(candidate, self._admits)
            except NeedsGuard as needed:
                # Out here, where no more is known than holds for the whole graph.
                install_guard(shape_env, needed.guard)
        raise CandidateRejected(f"it needs more than {MAX_ADMITTED} guards")

    def _trace_once(
        self, candidate: Candidate, admits: Callable[[Guard], bool]
    ) -> TracedCandidate:
        # Fake tensors keep what was found out about their sizes, and the symbols that
        # stand for their values: each trace gets its own.
        operands = self._fresh_operands()
        return trace_candidate(candidate, self._call, operands, self._expected, admits)

    def _admits_for_all(self, guard: Guard) -> bool:
        """As for a range, but leaves to the range what it may decide."""
        undecided = guard.equates_sizes or not self._is_on_dispatched_size(guard)
        return undecided and self._admits(guard)

    def _admits(self, guard: Guard) -> bool:
        """Equal sizes; of a candidate chosen to run, all that its operators ask for.

        A candidate that is yet to be timed may lose, and must not restrict the graph.
        """
        if guard.equates_sizes:
            return True
        if guard.from_python or guard.expr.free_symbols & self._constrained:
            return False
        fits_a_constant = guard.equates and not self._is_on_dispatched_size(guard)
        return bool(fits_a_constant) or self._is_given

    def _is_on_dispatched_size(self, guard: Guard) -> bool:
        return bool(guard.expr.free_symbols & self._dispatched)

    def _fresh_operands(self) -> list[Any]:
        with V.fake_mode:
            return self._call.fake_operands()

    def _drop(
        self, candidate: Candidate, where: str, reason: CandidateRejected
    ) -> None:
        if isinstance(reason, AddsGuards):
            counters["inductor"]["custom_op_decomp_guard_skips"] += 1
        warn_dropped(self._call, candidate, where, reason)


def warn_dropped(
    call: BoundCall, candidate: Candidate, where: str, reason: Exception
) -> None:
    """Say once for each distinct case that a candidate was dropped, and why."""
    _warn_once(str(call.op), candidate.name, where, str(reason) or repr(reason))


@functools.cache
def _warn_once(op: str, candidate: str, where: str, reason: str) -> None:
    log.warning("%s: dropped candidate %s %s: %s", op, candidate, where, reason)
