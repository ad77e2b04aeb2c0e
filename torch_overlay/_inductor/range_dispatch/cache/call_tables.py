"""The entries of tuning tables for one call: looked up, or made of what it took."""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import TYPE_CHECKING

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
    from torch._inductor.range_dispatch.benchmark.contests import Contest
    from torch._inductor.range_dispatch.benchmark.timing import Timings
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import SymbolValues
    from torch._inductor.range_dispatch.registration.candidates import Candidate


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

    def find(self, contest: Contest, agreed: str | None = None) -> Timings | None:
        """The times in a table for a contest, None if no table has them.

        With ``agreed`` they must have been noted with the same.
        """
        wanted = self._entry(contest)
        entry = wanted and table_store.find(wanted)
        if entry is None or agreed not in (None, entry.agreed):
            return None
        counters["inductor"]["custom_op_tuning_table_hit"] += 1
        return _timings(entry, contest)

    def take(self, contest: Contest, agreed: str | None = None) -> Timings | None:
        """The times for a contest in the table that the ``tune`` command goes on with;
        they stay in it, as times of this call. None if it has none."""
        table, wanted = table_store.tuned_table(), self._entry(contest)
        if table is None or wanted is None:
            return None
        entry = table.find(wanted)
        if entry is None or agreed not in (None, entry.agreed):
            return None
        own = dataclasses.replace(
            wanted, candidates=entry.candidates, agreed=entry.agreed
        )
        table_store.note(own, is_taken=True)
        return _timings(entry, contest)

    def note(
        self, contest: Contest, timings: Timings, agreed: str | None = None
    ) -> None:
        """Keep times for a table that this process may save.

        ``agreed`` is the tolerance within which candidates were found to agree with the
        op itself, if they were.
        """
        entry = self._entry(contest, timings, agreed)
        if entry is not None:
            table_store.note(entry)

    def _entry(
        self,
        contest: Contest,
        timings: Timings | None = None,
        agreed: str | None = None,
    ) -> Entry | None:
        """A table's entry for a contest; None if a candidate has no digest."""
        times = []
        for candidate in (one.candidate for one in contest.candidates):
            digest = self._digest(candidate)
            if digest is None:
                return None
            taken = (timings or {}).get(candidate)
            if taken is None:
                time = CandidateTime(candidate.name, digest, None, 0.0)
            else:
                milliseconds = max(taken.milliseconds, SHORTEST)
                time = CandidateTime(
                    candidate.name, digest, milliseconds, taken.noise, taken.disturbed
                )
            times.append(time)
        values, axes = contest.sample.values, contest.task.axes
        return Entry(
            op=str(self._call.op),
            schema=str(self._call.op._schema),
            environment=self._environment,
            call=self._call.describe(),
            axes=tuple(axis.name for axis in axes),
            operands=self._operands(values),
            sizes=tuple(evaluate(axis.size, values) for axis in axes),
            candidates=tuple(times),
            agreed=agreed,
        )

    def _digest(self, candidate: Candidate) -> str | None:
        if candidate not in self._known:
            try:
                self._known[candidate] = digest_of_implementation(*candidate.source)
            except Indescribable as reason:
                log.info("%s is in no tuning table: %s", candidate, reason)
                self._known[candidate] = None
        return self._known[candidate]

    def _operands(self, values: SymbolValues) -> str:
        *tensors, symbols = operand_layouts(self._call, values)
        described = [
            (*layout, torch.device(device).type) for *layout, device in tensors
        ]
        return json.dumps([described, symbols])


def _timings(entry: Entry, contest: Contest) -> Timings:
    return {
        one.candidate: Timing(time.milliseconds, time.noise, time.disturbed)
        for one, time in zip(contest.candidates, entry.candidates)
        if time.milliseconds is not None
    }
