"""Measures what the candidates of a call take, within a budget.

What is measured at is a *place*: a size, or the number of a contest of ranges that are
given. Of these all are measured, but of cells of several axes only those that a search
asks for.
"""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.benchmark.budget import Budget
from torch._inductor.range_dispatch.benchmark.contests import Contest, Measured
from torch._inductor.range_dispatch.benchmark.progress import TuningProgress
from torch._inductor.range_dispatch.benchmark.timing import OutOfTime
from torch._inductor.range_dispatch.call.sizes import input_bytes
from torch._inductor.range_dispatch.plan.choosing import combined, counts_calls, fastest
from torch._inductor.range_dispatch.plan.grid_search import (
    Place,
    search_grid,
    without_clear_neighbours,
)
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from torch._inductor.range_dispatch.benchmark.timing import Timings
    from torch._inductor.range_dispatch.call.sizes import RangeTask
    from torch._inductor.range_dispatch.plan.split_search import SearchRules
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate
    from torch._inductor.range_dispatch.tuning.candidate_timer import CandidateTimer


log = logging.getLogger(__name__)

# Inputs of fewer bytes make no difference to what a call takes.
SMALL_INPUTS = 1 << 20

# So many cells share the time, if there are as many. More are measured only if they
# are cheap.
EXPECTED_CELLS = 24

# What a search of cells is kept by.
_CELLS = "cells"


class Measuring:
    """Measures places, of which all share the registration's ``tuning_seconds``.

    What is stored is not timed. A search of the same contests as one before measures
    what that one did; where a table has times, no search times anything else.
    ``measured`` has what was found, and ``refused`` the places beyond the budget.
    """

    def __init__(
        self,
        timer: CandidateTimer,
        competing: Sequence[Contest],
        expected: int,
        rules: SearchRules | str | None = None,
        fitted: Callable[[Contest, Budget], Contest | None] | None = None,
    ) -> None:
        """``competing`` are contests with all graphs that may be timed.

        About ``expected`` places share the time. By the ``rules`` of a search one is
        begun only if there is time for all of it. ``fitted`` gives a contest at sizes
        that there is memory for, None if there is none.
        """
        self.measured: dict[int, Measured] = {}
        self.refused: OrderedSet[int] = OrderedSet()
        self.progress = TuningProgress(timer.registration.name, expected)
        self._seconds_each = timer.registration.seconds / max(expected, 1)
        self._timer = timer
        self._competing = competing
        self._rules = rules
        self._fitted = fitted or timer.fitting
        self._budget = Budget(timer.registration.seconds)
        self._replayed: OrderedSet[int] | None = None
        if rules is not None:
            self._replayed = timer.known.cache.load_search(competing, rules)

    @property
    def is_new(self) -> bool:
        """Whether places are chosen by what is timed now."""
        return self._replayed is None and not self._timer.known.uses_table

    def keep(self, places: Iterable[int]) -> None:
        """Let later compiles measure these places only."""
        if self.is_new and self._rules is not None:
            self._timer.known.cache.store_search(
                self._competing, self._rules, [*places]
            )

    def measure(self, place: int, contest: Contest, cost: int) -> Measured | None:
        """What candidates take at a place: stored times, or else new ones.

        A place that is asked for again is timed again, and the better times stand.
        ``cost`` is a number that calls take longer with. None if it is not measured.
        """
        is_first = place not in self.measured or self._replayed is not None
        timings = self._timer.known.find(contest, is_resumed=not is_first)
        if timings is not None:
            self.measured[place] = Measured(contest.sample, timings)
            return self.measured[place]
        # With a table, or a search before, nothing new is timed.
        if is_first and not self.is_new and place not in (self._replayed or ()):
            return None
        return self.time(place, contest, cost)

    def time(self, place: int, contest: Contest, cost: int) -> Measured | None:
        """Time a contest whose times are not known."""
        try:
            if self._rules is not None:
                can_afford = self._budget.allows(cost)
            else:
                # What all ranks time in step is timed whatever the others have left.
                can_afford = self._budget.left > 0 or contest.peers() is not None
            if not can_afford:
                raise OutOfTime
            found = self._time(place, contest, cost)
        except OutOfTime:
            if place not in self.measured:
                self.refused.add(place)
            return None
        self.progress.advance()
        if found is not None:
            self.refused.discard(place)
            self.measured[place] = found
        return found

    def _time(self, place: int, contest: Contest, cost: int) -> Measured | None:
        """None if there is no memory for it.

        Raises:
            OutOfTime: the budget did not last for a call of each candidate.
        """
        timer, budget = self._timer, self._budget
        with budget.spending():
            fitted = self._fitted(contest, budget)
        if fitted is None:
            return None
        timings = None if fitted is contest else timer.known.find(fitted)
        if timings is None:
            timer.compile(self._competing)
            earlier = self.measured.get(place)
            before = earlier.timings if earlier else {}
            with budget.measuring(cost) as noted:
                timings = timer.time(fitted, self._seconds_each, budget, before)
                noted.update(timings or {})
        return None if timings is None else Measured(fitted.sample, timings)


def timings_of(
    registration: Registration, task: RangeTask, measured: Sequence[Measured]
) -> Timings:
    """The times that decide on a range: those at all its sizes in one."""
    weighted = [(one.timings, one.sample.weight) for one in measured]
    return combined(weighted, counts_calls(registration.size_weights, task.cell))


def places_of(registration: Registration, tasks: Sequence[RangeTask]) -> list[Place]:
    """Where the tasks' cells are in the registration's grid."""
    places = [*itertools.product(*(range(len(axis)) for axis in registration.grid))]
    return [places[task.index] for task in tasks]


def measure_given(
    timer: CandidateTimer,
    tasks: Sequence[RangeTask],
    usable: Sequence[Sequence[TracedCandidate]],
) -> list[list[Measured]]:
    """What the candidates take, for each task at each of its sizes.

    Of several axes not every cell is measured, but for candidates with collectives,
    which all ranks time in step. ``usable`` are those of each task; a single one is not
    timed.
    """
    number = itertools.count()
    rows = [
        {next(number): one for one in timer.memory.contests(able, task)}
        if len(able) > 1
        else {}
        for able, task in zip(usable, tasks)
    ]
    contests = {place: one for row in rows for place, one in row.items()}
    if not contests:
        return [[] for _ in tasks]
    if len(tasks[0].axes) > 1 and all(c.peers() is None for c in contests.values()):
        found = _measure_cells(timer, tasks, rows)
    else:
        found = measure_all(timer, contests)
    return [[found[place] for place in row if place in found] for row in rows]


def measure_all(
    timer: CandidateTimer, contests: Mapping[int, Contest]
) -> dict[int, Measured]:
    """What the candidates take in each contest, the smallest sizes first.

    Those that no time is left for are left out, as are those at sizes that the memory
    is not enough for.
    """
    stored = {place: timer.known.find(contest) for place, contest in contests.items()}
    untimed = [(place, contests[place]) for place in stored if stored[place] is None]
    competing = [contest for _, contest in untimed]
    measuring = Measuring(timer, competing, len(untimed))
    with measuring.progress:
        # What is far behind at small sizes is not called at large ones.
        for place, contest in sorted(untimed, key=lambda one: one[1].extent):
            measuring.time(place, contest, max(contest.extent, 1))
    if measuring.refused:
        log.warning(
            "%s: %d of %d sizes were timed, then %g s were used up: ranges without any "
            "take the winner of the nearest one. Give a larger tuning_seconds=",
            timer.call.op,
            len(contests) - len(measuring.refused),
            len(contests),
            timer.registration.seconds,
        )
    known = {
        place: Measured(contests[place].sample, timings)
        for place, timings in stored.items()
        if timings is not None
    }
    return known | measuring.measured


def _measure_cells(
    timer: CandidateTimer,
    tasks: Sequence[RangeTask],
    rows: Sequence[Mapping[int, Contest]],
) -> dict[int, Measured]:
    """Of cells coarse ones first (see ``grid_search``); nothing for those left out."""
    registration, call = timer.registration, timer.call
    cells = {
        cell: (task, row)
        for cell, task, row in zip(places_of(registration, tasks), tasks, rows)
        if row
    }
    competing = [one for row in rows for one in row.values()]
    expected = len(competing) * min(len(cells), EXPECTED_CELLS) // len(cells)
    measuring = Measuring(timer, competing, expected, _CELLS)

    def measure(cell: Place) -> list[Measured] | None:
        """What was measured for a cell; None if not all of it fits the budget."""
        _, row = cells[cell]
        largest = max(input_bytes(call, one.sample.values) for one in row.values())
        for place, contest in row.items():
            if place not in measuring.measured:
                measuring.measure(place, contest, max(largest, SMALL_INPUTS))
            if place in measuring.refused:
                return None
        return [measuring.measured[one] for one in row if one in measuring.measured]

    def winner(cell: Place) -> Hashable | None:
        """The fastest candidate of a cell; None if it is not measured."""
        measured = measure(cell)
        if not measured:
            return None
        timings = timings_of(registration, cells[cell][0], measured)
        # Where no candidate could be run, the op itself is taken.
        return fastest(timings, registration.min_speedup_threshold) or "fallback"

    with measuring.progress:
        found = search_grid([*cells], winner)
    places = [place for cell in found for place in cells[cell][1]]
    measured = {p: measuring.measured[p] for p in places if p in measuring.measured}
    measuring.keep(measured)
    guessed = without_clear_neighbours(found, cells)
    if guessed and measuring.is_new:
        log.warning(
            "%s: %d of %d cells were timed, then %g s were used up: %d between "
            "different winners take that of the nearest one. Give a larger "
            "tuning_seconds=, or fewer split points",
            call.op,
            len(found),
            len(cells),
            registration.seconds,
            len(guessed),
        )
    return measured
