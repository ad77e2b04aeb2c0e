"""Finds the ranges of a call whose split points are not given, by timing."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
import logging
import math
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.benchmark.contests import Contest, Measured
from torch._inductor.range_dispatch.call.sizes import (
    bounds_of,
    evaluate,
    RangeTask,
    Sample,
    SymbolValues,
    values_near,
    values_up_to,
)
from torch._inductor.range_dispatch.plan.ranges import (
    Cell,
    cell_of,
    ranges_from_split_points,
)
from torch._inductor.range_dispatch.plan.sampling import log_shares
from torch._inductor.range_dispatch.plan.split_search import (
    FoundRange,
    geometric_grid,
    SplitSearch,
)
from torch._inductor.range_dispatch.plan.times import SHORTEST, Timing
from torch._inductor.range_dispatch.trace.holding import sample_for
from torch._inductor.range_dispatch.tuning.measuring import Measuring, timings_of
from torch._inductor.range_dispatch.tuning.timed_choices import TimedChoice
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.benchmark.budget import Budget
    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.plan.guesses import Guess
    from torch._inductor.range_dispatch.plan.ranges import SizeRange
    from torch._inductor.range_dispatch.registration.dispatch_on import SearchedSizes
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate
    from torch._inductor.range_dispatch.tuning.timed_competitors import TimedCompetitors


log = logging.getLogger(__name__)

# A search measures about so many sizes if it can, and shares its time among them.
EXPECTED_SIZES = 40


class RangeSearch:
    """Searches the sizes of one call for those where the fastest candidate changes.

    A candidate that looks at the size is traced for each interval of the coarse grid
    by itself (see ``Variants``): what competes is its graph, which serves the
    intervals that it was traced for.
    """

    def __init__(
        self, competitors: TimedCompetitors, searched: SearchedSizes, axis: Axis
    ) -> None:
        self._registration = competitors.registration
        self._rules = searched.rules
        self._call = call = competitors.call
        self._axis = axis
        self._competitors = competitors
        self._values: dict[int, SymbolValues] = {}
        lower, upper = bounds_of(axis.size)
        self._lowest = lowest = max(searched.lowest, lower, 1)
        highest = searched.highest if upper is None else min(searched.highest, upper)
        largest = values_up_to(call, axis.size, lowest, max(lowest, highest))
        grid = geometric_grid(lowest, max(lowest, self._note(largest)))
        self._grid = sorted(OrderedSet(map(self._snap, grid)))
        # The intervals of the grid: each starts at one of its sizes.
        ranges = ranges_from_split_points([start - 1 for start in self._grid[1:]])
        self._tasks = [
            RangeTask(index, Cell((one,)), (Sample(self._values[start]),), (axis,))
            for index, (one, start) in enumerate(zip(ranges, self._grid))
        ]
        # What competes in each interval, and fits in memory at the smallest size.
        self._able: list[Sequence[TracedCandidate]] = []
        self._measured: dict[int, Measured] = {}

    def tasks_for(
        self, split_points: Sequence[int]
    ) -> list[tuple[RangeTask, RangeTask]]:
        """A task for each range, and that of the interval that it begins in."""
        found = []
        for index, one in enumerate(ranges_from_split_points(split_points)):
            interval = self._tasks[self._index_of(one.start)]
            task = dataclasses.replace(interval, index=index, cell=Cell((one,)))
            found.append((task, interval))
        return found

    def _index_of(self, size: int) -> int:
        return cell_of([task.cell for task in self._tasks], (size,))

    def run(self) -> list[TimedChoice] | None:
        """The ranges in order; together they hold every size. None if not even the op
        itself can be traced for one."""
        memory, least = self._competitors.timer.memory, self._tasks[0].values
        self._able = [
            memory.able(self._competitors.usable(one), one, least)
            for one in self._tasks
        ]
        if all(len(able) < 2 for able in self._able):
            return self._choices([])
        contests = [self._contest(size) for size in self._grid]
        if any(contest.peers() is not None for contest in contests):
            log.warning(
                "%s: ranks cannot find split points of candidates with collectives; "
                "taking the op itself. Register it with split_points and winners",
                self._call.op,
            )
            return self._choices([])
        return self._choices(self._search(contests))

    def _search(self, contests: Sequence[Contest]) -> list[FoundRange]:
        measuring = Measuring(
            self._competitors.timer,
            contests,
            EXPECTED_SIZES,
            self._rules,
            self._fitted,
        )
        measure = functools.partial(self._times_at, measuring)
        search = SplitSearch(self._fitting_grid(), self._snap, measure, self._rules)
        with measuring.progress:
            found = search.run()
        # But for sizes at which no candidate could be run.
        measured = sorted(measuring.measured.items(), key=lambda one: one[0])
        self._measured = {size: one for size, one in measured if one.timings}
        measuring.keep(self._measured)
        missing = [size for size in self._grid if size in measuring.refused]
        if missing:
            log.warning(
                "%s: %d of %d sizes were timed, then %g s were used up: splits above "
                "%d are not measured. Give a larger tuning_seconds=, or a smaller max",
                self._call.op,
                len(self._measured),
                len(self._measured) + len(missing),
                self._registration.seconds,
                max(self._measured, default=0),
            )
        return found

    def _note(self, values: SymbolValues) -> int:
        """The dispatched size at these values, which are kept for it."""
        size = evaluate(self._axis.size, values)
        self._values.setdefault(size, values)
        return size

    def _snap(self, size: int) -> int:
        return self._note(values_near(self._call, self._axis.size, self._lowest, size))

    def _contest(self, size: int) -> Contest:
        index = self._index_of(size)
        able, sample = self._able[index], Sample(self._values[size])
        sample = sample_for(able, sample, [self._axis.size])
        return Contest(able, self._tasks[index], sample)

    def _fitting_grid(self) -> list[int]:
        """The grid up to the largest size at which memory is enough for all."""
        fitting = [*itertools.takewhile(self._fits, self._grid)]
        if len(fitting) == len(self._grid):
            return fitting
        too_large = self._grid[len(fitting)]
        last = fitting[-1] if fitting else too_large
        between = range(last + 1, too_large)
        last += bisect.bisect_left(between, True, key=lambda n: not self._fits(n))
        log.info("%s: sizes above %d are not timed, for memory", self._call.op, last)
        return [*OrderedSet([*fitting, self._snap(last)])]

    def _fits(self, size: int) -> bool:
        able = self._able[self._index_of(size)]
        return self._competitors.timer.memory.fits(able, self._values[self._snap(size)])

    def _fitted(self, contest: Contest, budget: Budget) -> Contest | None:
        """The contest if there is enough memory also for the op itself, the smallest
        size left aside."""
        memory, values = self._competitors.timer.memory, contest.sample.values
        memory.measure_op(contest, budget.limit)
        size = evaluate(self._axis.size, values)
        if size <= self._grid[0] or memory.fits(contest.candidates, values):
            return contest
        log.info(
            "%s: size %d is not timed: the op itself would take more memory than "
            "timing may (see memory.tuning_bytes)",
            self._call.op,
            size,
        )
        return None

    def _times_at(
        self, measuring: Measuring, size: int
    ) -> dict[TracedCandidate, Timing] | None:
        """What the graphs that serve a size take, the op itself with the head start
        that it has over what is to replace it; None if out of budget."""
        able = self._able[self._index_of(size)]
        if len(able) == 1:
            return {able[0]: Timing(1.0)}
        found = measuring.measure(size, self._contest(size), size)
        if found is None:
            return None
        times: dict[TracedCandidate, Timing] = {}
        for one in able:
            if one.candidate in found.timings:
                timing, head_start = found.timings[one.candidate], 1.0
                if one.candidate.is_fallback:
                    head_start = self._registration.min_speedup_threshold
                milliseconds = max(timing.milliseconds / head_start, SHORTEST)
                times[one] = Timing(milliseconds, timing.noise / head_start)
        return times

    def _choices(self, found: Sequence[FoundRange]) -> list[TimedChoice] | None:
        pieces = self._pieces(found)
        splits = [one.last for one in pieces if one.last is not None]
        choices = []
        for index, part in enumerate(ranges_from_split_points(splits)):
            choice = self._choice(index, part, pieces)
            if choice is None:
                return None
            choices.append(choice)
        return choices

    def _pieces(self, found: Sequence[FoundRange]) -> list[FoundRange]:
        """What was found, as far as the graphs serve the intervals; no option where
        several do, and none was timed."""
        splits = OrderedSet(start - 1 for start in self._grid[1:])
        splits.update(one.last for one in found if one.last is not None)
        pieces: list[FoundRange] = []
        for part in ranges_from_split_points(sorted(splits)):
            able = self._able[self._index_of(part.start)]
            one = next(
                (r for r in found if r.last is None or part.start <= r.last),
                FoundRange(None, None),
            )
            option = one.option if one.option in able else None
            if len(able) == 1:
                (option,) = able
            if pieces and pieces[-1].option is option:
                pieces.pop()
            guess = one.guess if part.end == one.last else None
            pieces.append(FoundRange(part.end, option, guess))
        return pieces

    def _guess(self, index: int, pieces: Sequence[FoundRange]) -> Guess | None:
        """The measured sizes around the end of a piece, if it is a guess.

        It is none where one candidate has another graph from there on.
        """
        piece = pieces[index]
        if piece.last is None:
            return None if piece.option is None else piece.guess
        after = pieces[index + 1]
        if piece.option is None or after.option is None:
            below = [size for size in self._measured if size <= piece.last]
            above = [size for size in self._measured if size > piece.last]
            return (max(below), min(above, default=None)) if below else None
        is_same = piece.option.candidate is after.option.candidate
        return None if is_same else piece.guess

    def _choice(
        self, index: int, part: SizeRange, pieces: Sequence[FoundRange]
    ) -> TimedChoice | None:
        # The shares by which the search has chosen.
        shares = dict(zip(self._measured, log_shares([*self._measured])))
        own = {size: one for size, one in self._measured.items() if size in part}
        total = math.fsum(shares[size] for size in own)
        measured = [
            Measured(Sample(one.sample.values, shares[size] / total), one.timings)
            for size, one in own.items()
        ]
        interval = self._tasks[self._index_of(part.start)]
        samples = tuple(one.sample for one in measured) or interval.samples
        task = RangeTask(index, Cell((part,)), samples, (self._axis,))
        option = pieces[index].option
        winner = option or self._competitors.last_resort(task)
        if winner is None:
            return None
        return TimedChoice(
            task,
            winner,
            self._competitors.number(interval, winner),
            measured=measured,
            timings=timings_of(self._registration, task, measured),
            is_untimed=option is None and len(self._able[interval.index]) > 1,
            guess=self._guess(index, pieces),
        )
