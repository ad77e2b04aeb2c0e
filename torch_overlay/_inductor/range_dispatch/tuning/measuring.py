"""Measures what candidates take at the places that a search asks for, within a budget.

A place is a range, a cell or a size, by the number that the search knows it by. One or
several contests are held there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.benchmark.budget import Budget
from torch._inductor.range_dispatch.benchmark.contests import Contest, Measured
from torch._inductor.range_dispatch.benchmark.progress import TuningProgress
from torch._inductor.range_dispatch.benchmark.timing import OutOfTime, Timings
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch._inductor.range_dispatch.plan.split_search import SearchRules
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.tuning.candidate_timer import CandidateTimer


class Measuring:
    """Measures places, of which all share the registration's ``tuning_seconds``.

    What is stored is not timed. A search of the same contests as one before measures
    what that one did; where a table has times, no search times anything else.
    ``measured`` has what was found, and ``refused`` the places beyond the budget.
    """

    def __init__(
        self,
        registration: Registration,
        timer: CandidateTimer,
        competing: Sequence[Contest],
        expected: int,
        rules: SearchRules | str | None = None,
        fitted: Callable[[Contest, Budget], Contest | None] | None = None,
    ) -> None:
        """``competing`` are all contests, or one for each range with its graphs.

        About ``expected`` places share the time of a search by ``rules``; without any,
        every contest gets a part of it. ``fitted`` gives a contest at sizes that there
        is memory for, None if there is none.
        """
        self.measured: dict[int, list[Measured]] = {}
        self.refused: OrderedSet[int] = OrderedSet()
        self.progress = TuningProgress(registration.name, expected)
        self._seconds = registration.seconds
        self._timer = timer
        self._competing = competing
        self._expected = expected
        self._rules = rules
        self._fitted = fitted or timer.fitting
        self._budget = Budget(registration.seconds)
        self._replayed: OrderedSet[int] | None = None
        if rules is not None:
            self._replayed = timer.known.searched_before(competing, rules)
        self._seconds_of_each: float | None = None

    @property
    def is_new(self) -> bool:
        """Whether places are chosen by what is timed now."""
        return self._replayed is None and not self._timer.known.uses_table

    def keep(self, places: Iterable[int]) -> None:
        """Let later compiles measure these places only."""
        if self.is_new and self._rules is not None:
            self._timer.known.keep_search(self._competing, self._rules, [*places])

    def measure(
        self, place: int, contests: Sequence[Contest], cost: int
    ) -> list[Measured]:
        """What candidates take at a place: stored times, or else new ones.

        A place that is asked for again is timed again, and the better times stand.
        ``cost`` is a number that calls take longer with. Empty if it is not measured.
        """
        is_first = place not in self.measured or self._replayed is not None
        find = self._timer.stored if is_first else self._timer.resumed
        known = [find(contest) for contest in contests]
        if None in known and not (is_first and self._is_complete(place)):
            return self.time(place, contests, known, cost)
        found = [
            Measured(contest.sample, timings, contest.task)
            for contest, timings in zip(contests, known)
            if timings is not None
        ]
        return self._noted(place, found)

    def _is_complete(self, place: int) -> bool:
        """Whether nothing new is timed: with a table, or a search before."""
        if self._replayed is not None:
            return place not in self._replayed
        return self._timer.known.uses_table

    def time(
        self,
        place: int,
        contests: Sequence[Contest],
        known: Sequence[Timings | None],
        cost: int,
    ) -> list[Measured]:
        """Time those contests of a place whose times are not known."""
        before = self.measured.get(place, ())
        found: list[Measured] = []
        try:
            if not self._can_afford(contests, cost):
                raise OutOfTime
            for contest, timings in zip(contests, known):
                if timings is not None:
                    found.append(Measured(contest.sample, timings, contest.task))
                    continue
                better = [m.timings for m in before if m.sample == contest.sample]
                one = self._time(contest, contests, cost, *better)
                found += [] if one is None else [one]
        except OutOfTime:
            if place not in self.measured:
                self.refused.add(place)
            return []
        self.progress.advance()
        return self._noted(place, found)

    def _noted(self, place: int, found: list[Measured]) -> list[Measured]:
        if found:
            self.measured[place] = found
        return found

    def _can_afford(self, contests: Sequence[Contest], cost: int) -> bool:
        if self._rules is not None:
            return self._budget.allows(cost)
        # What all ranks time in step is timed whatever the others have left.
        return self._budget.left > 0 or any(one.peers() for one in contests)

    def _time(
        self,
        contest: Contest,
        contests: Sequence[Contest],
        cost: int,
        before: Timings | None = None,
    ) -> Measured | None:
        """None if there is no memory for it.

        Raises:
            OutOfTime: the budget did not last for a call of each candidate.
        """
        with self._budget.spending():
            fitted = self._fitted(contest, self._budget)
        if fitted is None:
            return None
        timings = None if fitted is contest else self._timer.stored(fitted)
        if timings is None:
            self._timer.compile(self._competing)
            seconds_each = self._seconds_each(contests)
            with self._budget.measuring(cost) as noted:
                timings = self._timer.time(fitted, seconds_each, self._budget, before)
                noted.update(timings or {})
        if timings is None:
            return None
        return Measured(fitted.sample, timings, contest.task)

    def _seconds_each(self, contests: Sequence[Contest]) -> float:
        """What a candidate gets at each size."""
        if self._rules is not None:
            runs = sum(len(self._timer.running(contest)) for contest in contests)
            return self._seconds / max(runs * self._expected, 1)
        if self._seconds_of_each is None:
            runs = sum(len(self._timer.running(one)) for one in self._competing)
            self._seconds_of_each = self._seconds / max(runs, 1)
        return self._seconds_of_each
