"""Times the cells of a call that is dispatched on several sizes, within a budget."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.benchmark.budget import Budget
from torch._inductor.range_dispatch.benchmark.contests import Measured
from torch._inductor.range_dispatch.benchmark.progress import TuningProgress
from torch._inductor.range_dispatch.benchmark.timing import OutOfTime
from torch._inductor.range_dispatch.call.sizes import input_bytes
from torch._inductor.range_dispatch.plan.grid_search import (
    Place,
    search_grid,
    without_clear_neighbours,
)
from torch._inductor.range_dispatch.tuning.choosing import (
    combined,
    counts_calls,
    fastest,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate

    from torch._inductor.range_dispatch.tuning.bench import Bench
    from torch.utils._ordered_set import OrderedSet


log = logging.getLogger(__name__)

# Inputs of fewer bytes make no difference to what a call takes.
SMALL_INPUTS = 1 << 20

# So many cells share the time, if there are as many. More are measured only if they
# are cheap.
EXPECTED_CELLS = 24


class CellSearch:
    """Measures cells, coarse first; see ``grid_search``.

    A second search of the same cells measures those of the first, whose times are
    stored, and no others.
    """

    def __init__(
        self,
        registration: Registration,
        call: BoundCall,
        bench: Bench,
        tasks: Sequence[RangeTask],
        usable: Sequence[Sequence[TracedCandidate]],
    ) -> None:
        self._registration = registration
        self._call = call
        self._bench = bench
        self._tasks = tasks
        self._contests = [
            bench.memory.contests(able, task) for task, able in zip(tasks, usable)
        ]
        self._usable = usable
        self._budget = Budget(registration.seconds)
        self._measured: dict[int, list[Measured]] = {}
        self._replayed: OrderedSet[int] | None = None
        count = min(len(tasks), EXPECTED_CELLS)
        self._progress = TuningProgress(registration.name, count)

    def run(self) -> list[list[Measured]]:
        """What was measured for each task; nothing for those that were left out."""
        numbers = {
            place: number
            for number, place in enumerate(places_of(self._registration, self._tasks))
            if self._contests[number] and len(self._usable[number]) > 1
        }
        competing = [
            one for number in numbers.values() for one in self._contests[number]
        ]
        self._replayed = self._bench.searched_before(competing, "cells")

        def measure(place: Place) -> Hashable | None:
            return self._winner(numbers[place])

        if numbers:
            with self._progress:
                found = search_grid([*numbers], measure)
            if self._replayed is None and not self._bench.uses_table:
                self._bench.keep_search(competing, "cells", [*self._measured])
            guessed = without_clear_neighbours(found, numbers)
            if guessed and self._replayed is None and not self._bench.uses_table:
                log.warning(
                    "%s: %d of %d cells were timed, then %g s were used up: %d "
                    "between different winners take that of the nearest one. Give a "
                    "larger tuning_seconds=, or fewer split points",
                    self._call.op,
                    len(found),
                    len(numbers),
                    self._registration.seconds,
                    len(guessed),
                )
        return [self._measured.get(number, []) for number in range(len(self._tasks))]

    def _winner(self, number: int) -> Hashable | None:
        """The fastest candidate of a task; None if it is not measured."""
        if number not in self._measured:
            measured = self._measure(number)
            if not measured:
                return None
            self._measured[number] = measured
        timings = combined(
            [(one.timings, one.sample.weight) for one in self._measured[number]],
            counts_calls(self._registration.size_weights, self._tasks[number].cell),
        )
        threshold = self._registration.min_speedup_threshold
        # Where no candidate could be run, the op itself is taken.
        return fastest(timings, threshold) or "fallback"

    def _measure(self, number: int) -> list[Measured]:
        contests = self._contests[number]
        stored = [self._bench.stored(contest) for contest in contests]
        known = [
            Measured(contest.sample, timings)
            for contest, timings in zip(contests, stored)
            if timings is not None
        ]
        # With a table, or a search before, nothing new is timed.
        if len(known) == len(contests) or self._bench.uses_table:
            return known
        if self._replayed is not None and number not in self._replayed:
            return []
        largest = max(input_bytes(self._call, c.sample.values) for c in contests)
        size = max(largest, SMALL_INPUTS)
        if not self._budget.allows(size):
            return []
        self._bench.compile([one for row in self._contests for one in row[:1]])
        runs = sum(len(self._bench.running(contest)) for contest in contests)
        cells = min(len(self._tasks), EXPECTED_CELLS)
        seconds_each = self._registration.seconds / max(runs * cells, 1)
        measured = []
        for contest, timings in zip(contests, stored):
            if timings is not None:
                measured.append(Measured(contest.sample, timings))
                continue
            try:
                one = self._bench.measure(contest, seconds_each, self._budget, size)
            except OutOfTime:
                return []
            if one is not None:
                measured.append(one)
        self._progress.advance()
        return measured


def places_of(registration: Registration, tasks: Sequence[RangeTask]) -> list[Place]:
    """Where the tasks' cells are in the registration's grid."""
    numbers = [{r: i for i, r in enumerate(ranges)} for ranges in registration.grid]
    return [
        tuple(number[r] for number, r in zip(numbers, task.cell.ranges))
        for task in tasks
    ]
