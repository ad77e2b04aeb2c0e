"""The entries of tuning tables for one call: looked up, or made of what it took."""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import Any, TYPE_CHECKING

import torch
from torch._dynamo.utils import counters
from torch._inductor.range_dispatch.cache import table_store
from torch._inductor.range_dispatch.cache.environment import describe_environment
from torch._inductor.range_dispatch.cache.identity import (
    digest_of_implementation,
    Indescribable,
)
from torch._inductor.range_dispatch.cache.tables import CandidateTime, Entry
from torch._inductor.range_dispatch.call.inputs import operand_layouts
from torch._inductor.range_dispatch.call.sizes import evaluate
from torch._inductor.range_dispatch.plan.times import SHORTEST, Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch._inductor.range_dispatch.benchmark.timing import Timings

    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import SymbolValues
    from torch._inductor.range_dispatch.registration.candidates import Candidate
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate


log = logging.getLogger(__name__)


class CallTables:
    """What tables say of one call's candidates.

    They are told apart by the digest of their sources, not by their graphs, which
    another torch may trace otherwise. One without a digest is in no table.
    """

    def __init__(self, call: BoundCall) -> None:
        self._call = call
        self._known: dict[Candidate, str | None] = {}
        self._environment = describe_environment(call.nodes[0].get_device_or_error())

    def find(
        self,
        candidates: Sequence[TracedCandidate],
        values: SymbolValues,
        agreed: str | None = None,
    ) -> Timings | None:
        """The times in a table for these sizes, None if no table has them.

        With ``agreed`` they must have been noted with the same.
        """
        entry = self._entry(table_store.find, candidates, values)
        if entry is None or agreed not in (None, entry.agreed):
            return None
        counters["inductor"]["custom_op_tuning_table_hit"] += 1
        return _timings(entry, candidates)

    def take(
        self,
        candidates: Sequence[TracedCandidate],
        values: SymbolValues,
        axes: Sequence[Axis],
        agreed: str | None = None,
    ) -> Timings | None:
        """The times for these sizes in the table that the ``tune`` command goes on
        with; they stay in it, as times of this call. None if it has none."""
        entry = self._entry(table_store.find_tuned, candidates, values)
        if entry is None or agreed not in (None, entry.agreed):
            return None
        own = dataclasses.replace(entry, **self._for_people(values, axes))
        table_store.note(own, is_taken=True)
        return _timings(entry, candidates)

    def _entry(
        self,
        find: Callable[[str, str, str, Sequence[str], Mapping[str, str]], Entry | None],
        candidates: Sequence[TracedCandidate],
        values: SymbolValues,
    ) -> Entry | None:
        digests = self._digests(candidates)
        if digests is None:
            return None
        op = self._call.op
        operands = self._operands(values)
        return find(str(op), str(op._schema), operands, digests, self._environment)

    def note(
        self,
        candidates: Sequence[TracedCandidate],
        values: SymbolValues,
        axes: Sequence[Axis],
        timings: Timings,
        agreed: str | None = None,
    ) -> None:
        """Keep times for a table that this process may save.

        ``axes`` are what the call is dispatched on, and ``agreed`` is the tolerance
        within which candidates were found to agree with the op itself, if they were.
        """
        digests = self._digests(candidates)
        if digests is None:
            return
        times = []
        for one, digest in zip(candidates, digests):
            taken = timings.get(one.candidate)
            milliseconds = None if taken is None else max(taken.milliseconds, SHORTEST)
            noise = 0.0 if taken is None else taken.noise
            disturbed = taken is not None and taken.disturbed
            times.append(
                CandidateTime(
                    one.candidate.name, digest, milliseconds, noise, disturbed
                )
            )
        entry = Entry(
            op=str(self._call.op),
            schema=str(self._call.op._schema),
            environment=self._environment,
            operands=self._operands(values),
            candidates=tuple(times),
            agreed=agreed,
            **self._for_people(values, axes),
        )
        table_store.note(entry)

    def _for_people(self, values: SymbolValues, axes: Sequence[Axis]) -> dict[str, Any]:
        """What entries tell of this call besides what they are found by."""
        return {
            "call": self._call.describe(),
            "axes": tuple(axis.name for axis in axes),
            "sizes": tuple(evaluate(axis.size, values) for axis in axes),
        }

    def _digests(self, candidates: Sequence[TracedCandidate]) -> list[str] | None:
        """None if one of them has none."""
        for one in candidates:
            candidate = one.candidate
            if candidate not in self._known:
                try:
                    self._known[candidate] = digest_of_implementation(*candidate.source)
                except Indescribable as reason:
                    log.info("%s is in no tuning table: %s", candidate, reason)
                    self._known[candidate] = None
        found = [self._known[one.candidate] for one in candidates]
        return None if None in found else [digest for digest in found if digest]

    def _operands(self, values: SymbolValues) -> str:
        *tensors, symbols = operand_layouts(self._call, values)
        described = [
            (*layout, torch.device(device).type) for *layout, device in tensors
        ]
        return json.dumps([described, symbols])


def _timings(entry: Entry, candidates: Sequence[TracedCandidate]) -> Timings:
    return {
        one.candidate: Timing(time.milliseconds, time.noise, time.disturbed)
        for one, time in zip(candidates, entry.candidates)
        if time.milliseconds is not None
    }
