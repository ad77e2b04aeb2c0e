"""The graphs of candidates: one for all ranges where possible, else one a range."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch._dynamo.utils import counters
from torch._inductor.range_dispatch.binding import BoundCall
from torch._inductor.range_dispatch.candidates import Candidate
from torch._inductor.range_dispatch.inputs import RangeTask
from torch._inductor.range_dispatch.narrowing import known_to_be_in
from torch._inductor.range_dispatch.tracing import (
    AddsGuards,
    CandidateRejected,
    trace_candidate,
    TracedCandidate,
)
from torch._inductor.virtualized import V


log = logging.getLogger(__name__)


class Variants:
    """Traces the candidates of one bound call.

    An implementation may look at the dispatched size (``if x.shape[0] <= 16``) as far
    as its range decides the answer: it is then traced for each range by itself, and
    graphs that come out the same are one.
    """

    def __init__(self, call: BoundCall, expected: Sequence[torch.Tensor]) -> None:
        self._call = call
        self._expected = expected
        self.fake_operands = self._fresh_operands()
        self._for_all: dict[Candidate, TracedCandidate | CandidateRejected] = {}
        self._by_range: dict[tuple[Candidate, int], TracedCandidate | None] = {}
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
        key = (candidate, task.index)
        if key not in self._by_range:
            self._by_range[key] = None
            if isinstance(traced, AddsGuards) and task.size is not None:
                self._by_range[key] = self._trace_for_range(candidate, task)
            elif isinstance(traced, AddsGuards):
                self._drop(candidate, f"for range {task.size_range}", traced)
        return self._by_range[key]

    def _trace_for_all(
        self, candidate: Candidate
    ) -> TracedCandidate | CandidateRejected:
        try:
            return self._trace(candidate, self.fake_operands)
        except AddsGuards as reason:
            return reason
        except CandidateRejected as reason:
            self._drop(candidate, "for all ranges", reason)
            return reason

    def _trace_for_range(
        self, candidate: Candidate, task: RangeTask
    ) -> TracedCandidate | None:
        shape_env = V.graph.sizevars.shape_env
        try:
            with known_to_be_in(task.size, task.size_range, shape_env):
                # Fake tensors keep what was found out about their sizes.
                traced = self._trace(candidate, self._fresh_operands())
        except CandidateRejected as reason:
            self._drop(candidate, f"for range {task.size_range}", reason)
            return None
        text = traced.graph_module.print_readable(print_output=False)
        return self._by_text.setdefault((candidate, text), traced)

    def _trace(
        self, candidate: Candidate, fake_operands: Sequence[Any]
    ) -> TracedCandidate:
        return trace_candidate(candidate, self._call, fake_operands, self._expected)

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
