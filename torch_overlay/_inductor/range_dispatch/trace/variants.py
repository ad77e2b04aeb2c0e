"""The graphs of candidates: one for all ranges where possible, else one a range."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch._dynamo.utils import counters
from torch._inductor.range_dispatch.call.sizes import symbols_of
from torch._inductor.range_dispatch.trace.drops import (
    AddsGuards,
    as_rejection,
    CandidateRejected,
)
from torch._inductor.range_dispatch.trace.guard_limits import Judge
from torch._inductor.range_dispatch.trace.guards import Needs
from torch._inductor.range_dispatch.trace.tracing import TracedCandidate
from torch._inductor.range_dispatch.trace.trial import better_of, is_seen_in, Trial
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sympy

    import torch
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask
    from torch._inductor.range_dispatch.plan.ranges import Cell
    from torch._inductor.range_dispatch.registration.candidates import Candidate
    from torch._inductor.range_dispatch.trace.drops import Drops
    from torch._inductor.range_dispatch.trace.guards import Asked
    from torch._inductor.range_dispatch.trace.trial import Attempt


class Variants:
    """Traces the candidates of one bound call.

    An implementation may look at the dispatched size (``if x.shape[0] <= 16``) as far
    as its range decides the answer: it is then traced for each range by itself, and
    graphs that come out the same are one. What it asks of other sizes comes with its
    graph. Nothing is guarded on before a candidate has won.
    """

    def __init__(
        self,
        call: BoundCall,
        expected: Sequence[torch.Tensor],
        sizes: Sequence[sympy.Expr],
        is_given: bool,
        drops: Drops,
    ) -> None:
        """``sizes`` are the dispatched sizes if some are symbolic; ``is_given`` says
        that winners are given, so that what is traced is what will run."""
        self._call = call
        self._expected = expected
        self._sizes = sizes
        self._is_given = is_given
        self._drops = drops
        self._judge = Judge(call)
        self.fake_operands = call.fake_operands()
        # Given winners that make a graph for each size, and so leave their ranges to
        # graphs of their own.
        self.left_out: OrderedSet[Cell] = OrderedSet()
        self._for_all: dict[Candidate, TracedCandidate | CandidateRejected] = {}
        self._by_range: dict[tuple[Candidate, Cell], TracedCandidate | None] = {}
        self._by_text: dict[tuple[Candidate, str, Needs], TracedCandidate] = {}
        # What they asked for when they were traced for all ranges.
        self._asked: dict[Candidate, Asked] = {}

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
        return self._by_range[key]

    def _trace_for_all(
        self, candidate: Candidate
    ) -> TracedCandidate | CandidateRejected:
        try:
            return self._trace(candidate, None)
        except CandidateRejected as reason:
            if not isinstance(reason, AddsGuards) or not self._sizes:
                self._drop(candidate, None, reason)
            return reason

    def _trace_for_range(
        self, candidate: Candidate, task: RangeTask
    ) -> TracedCandidate | None:
        try:
            traced = self._trace(candidate, task)
        except CandidateRejected as reason:
            # With what it needs for the sizes seen, others may not come at all.
            asked = self._asked[candidate]
            fixes_size = not asked.dispatched.isdisjoint(asked.constants)
            if self._is_given and fixes_size and not is_seen_in(task):
                self.left_out.add(task.cell)
            if task.cell not in self.left_out:
                self._drop(candidate, task.cell, reason)
            return None
        text = traced.graph_module.print_readable(print_output=False)
        return self._by_text.setdefault((candidate, text, traced.needs), traced)

    def _trace(self, candidate: Candidate, task: RangeTask | None) -> TracedCandidate:
        """Trace for a range, or for all.

        Where it depends on sizes, or it cannot be traced, Dynamo traces it first, as
        it does when it is compiled alone.
        """
        asked = self._asked.get(candidate)
        trial = Trial(candidate, self._call, self._expected, self._sizes, task, asked)
        attempt = trial.run()
        if (attempt.asked.needs or attempt.error) and not candidate.is_fallback:
            attempt = better_of(trial.run(True, attempt.values), attempt)
        if task is None:
            self._asked[candidate] = attempt.asked
        needs = self._needs(attempt, task)
        if attempt.graph_module is None:
            raise AssertionError("neither traced nor failed")
        return TracedCandidate(
            candidate, attempt.graph_module, needs, task is not None, attempt.values
        )

    def _needs(self, attempt: Attempt, task: RangeTask | None) -> Needs:
        """What is to be guarded on if the candidate wins.

        Raises:
            CandidateRejected: it failed, or may not have what it needs.
        """
        is_for_all = task is None and bool(self._sizes)
        if attempt.error is not None:
            asked = symbols_of(attempt.asked.conditions)
            if is_for_all and asked & attempt.asked.dispatched:
                raise AddsGuards("it fails for some sizes", "")
            raise as_rejection(attempt.error) from attempt.error
        self._judge.check_traced(attempt.asked)
        needs = attempt.asked.needs
        if not needs.of_range:
            return needs
        if is_for_all or not self._is_given:
            raise self._judge.undecided(attempt.asked)
        if not attempt.asked.fixes_size or task is None:
            return needs
        # A given winner that makes a graph for each size in its range.
        self._judge.warn_one_size(task)
        if not is_seen_in(task):
            self.left_out.add(task.cell)
            raise AddsGuards("it makes a graph for each size", "")
        return Needs(needs.all)

    def _drop(
        self, candidate: Candidate, cell: Cell | None, reason: CandidateRejected
    ) -> None:
        if isinstance(reason, AddsGuards):
            counters["inductor"]["custom_op_decomp_guard_skips"] += 1
        self._drops.add(candidate, cell, reason)
