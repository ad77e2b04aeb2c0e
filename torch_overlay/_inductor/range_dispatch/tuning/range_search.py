"""Finds the ranges of a call whose split points are not given, by timing."""

from __future__ import annotations

import functools
import logging
import math
from dataclasses import dataclass
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
    SizeRange,
)
from torch._inductor.range_dispatch.plan.sampling import log_shares
from torch._inductor.range_dispatch.plan.split_search import (
    FoundRange,
    geometric_grid,
    SplitSearch,
)
from torch._inductor.range_dispatch.plan.times import SHORTEST, Timing
from torch._inductor.range_dispatch.trace.holding import sample_for
from torch._inductor.range_dispatch.tuning.choices import RangeChoice
from torch._inductor.range_dispatch.tuning.given_ranges import timings_of
from torch._inductor.range_dispatch.tuning.measuring import Measuring
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch._inductor.range_dispatch.benchmark.budget import Budget

    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.plan.guesses import Guess
    from torch._inductor.range_dispatch.plan.segments import Option
    from torch._inductor.range_dispatch.registration.dispatch_on import SearchedSizes
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate
    from torch._inductor.range_dispatch.tuning.competitors import Competitors


log = logging.getLogger(__name__)

# A search measures about so many sizes if it can, and shares its time among them.
EXPECTED_SIZES = 40


@dataclass(frozen=True)
class _Piece:
    """A part of an interval, or of several, that has one winner."""

    part: SizeRange
    winner: TracedCandidate | None
    guess: Guess | None
    is_untimed: bool


class RangeSearch:
    """Searches the sizes of one call for those where the fastest candidate changes.

    A candidate that looks at the size is traced for each interval of the coarse grid
    by itself (see ``Variants``): what competes is its graph, which serves the
    intervals that it was traced for.
    """

    def __init__(
        self,
        registration: Registration,
        searched: SearchedSizes,
        call: BoundCall,
        axis: Axis,
        competitors: Competitors,
    ) -> None:
        self._registration = registration
        self._rules = searched.rules
        self._call = call
        self._axis = axis
        self._size = size = axis.size
        self._values: dict[int, SymbolValues] = {}
        lower, upper = bounds_of(size)
        lowest = max(searched.lowest, lower, 1)
        highest = searched.highest if upper is None else min(searched.highest, upper)
        self._lowest = lowest
        highest = self._note(values_up_to(call, size, lowest, max(lowest, highest)))
        grid = geometric_grid(lowest, max(lowest, highest))
        self._grid = sorted(OrderedSet(map(self._snap, grid)))
        self._tasks = self._intervals()
        self._competitors = competitors
        self._measuring: Measuring | None = None

    @functools.cached_property
    def _able(self) -> list[Sequence[TracedCandidate]]:
        """What competes in each interval, and fits in memory at the smallest size."""
        memory, least = self._competitors.timer.memory, self._tasks[0].values
        return [
            memory.able(self._competitors.usable(one), one, least)
            for one in self._tasks
        ]

    @functools.cached_property
    def _contests(self) -> list[Contest]:
        return [self._contest(i, task.values) for i, task in enumerate(self._tasks)]

    @property
    def _measured(self) -> dict[int, Measured]:
        """By size, but for those at which no candidate could be run."""
        if self._measuring is None:
            return {}
        found = self._measuring.measured.items()
        return {size: one for size, (one,) in found if one.timings}

    def interval_of(self, size: int) -> RangeTask:
        """The interval of the coarse grid that holds a size."""
        return self._tasks[self._index_of(size)]

    def run(self) -> list[RangeChoice] | None:
        """The ranges in order; together they hold every size. None if not even the op
        itself can be traced for one."""
        if all(len(able) < 2 for able in self._able):
            return self._choices([])
        if any(contest.peers() is not None for contest in self._contests):
            log.warning(
                "%s: ranks cannot find split points of candidates with collectives; "
                "taking the op itself. Register it with split_points and winners",
                self._call.op,
            )
            return self._choices([])
        self._measuring = measuring = Measuring(
            self._registration,
            self._competitors.timer,
            self._contests,
            EXPECTED_SIZES,
            self._rules,
            self._fitted,
        )
        measure = functools.partial(self._measure, measuring)
        search = SplitSearch(self._fitting_grid(), self._snap, measure, self._rules)
        with measuring.progress:
            found = search.run()
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
        return self._choices(found)

    def _note(self, values: SymbolValues) -> int:
        """The dispatched size at these values, which are kept for it."""
        size = evaluate(self._size, values)
        self._values.setdefault(size, values)
        return size

    def _snap(self, size: int) -> int:
        values = values_near(self._call, self._size, self._lowest, size)
        return self._note(values)

    def _intervals(self) -> list[RangeTask]:
        """The coarse grid's intervals: each starts at a size of the grid."""
        ranges = ranges_from_split_points([start - 1 for start in self._grid[1:]])
        return [
            RangeTask(
                index,
                Cell((size_range,)),
                (Sample(self._values[start]),),
                (self._axis,),
            )
            for index, (size_range, start) in enumerate(zip(ranges, self._grid))
        ]

    def _fitting_grid(self) -> list[int]:
        """The grid up to the largest size at which memory is enough for all."""
        fitting: list[int] = []
        for size in self._grid:
            if not self._fits(size):
                low, high = (fitting or [size])[-1], size
                while high - low > 1:
                    middle = (low + high) // 2
                    if self._fits(middle):
                        low = middle
                    else:
                        high = middle
                log.info(
                    "%s: sizes above %d are not timed, for memory", self._call.op, low
                )
                return [*OrderedSet([*fitting, self._snap(low)])]
            fitting.append(size)
        return fitting

    def _fits(self, size: int) -> bool:
        able = self._able[self._index_of(size)]
        return self._competitors.timer.memory.fits(able, self._values[self._snap(size)])

    def _fitted(self, contest: Contest, budget: Budget) -> Contest | None:
        """The contest if there is enough memory also for the op itself, the smallest
        size left aside."""
        memory, values = self._competitors.timer.memory, contest.sample.values
        memory.measure_op(contest, budget.limit)
        size = evaluate(self._size, values)
        if size <= self._grid[0] or memory.fits(contest.candidates, values):
            return contest
        log.info(
            "%s: size %d is not timed: the op itself would take more memory than "
            "timing may (see memory.tuning_bytes)",
            self._call.op,
            size,
        )
        return None

    def _contest(self, index: int, values: SymbolValues) -> Contest:
        sample = sample_for(self._able[index], Sample(values), [self._size])
        return Contest(self._able[index], self._tasks[index], sample)

    def _index_of(self, size: int) -> int:
        return cell_of([task.cell for task in self._tasks], (size,))

    def _measure(self, measuring: Measuring, size: int) -> dict[Option, Timing] | None:
        """What the graphs that serve a size take; None if out of budget."""
        index = self._index_of(size)
        able = self._able[index]
        if len(able) == 1:
            return {able[0]: Timing(1.0)}
        contest = self._contest(index, self._values[size])
        found = measuring.measure(size, [contest], size)
        if not found:
            return None
        timings = found[0].timings
        return {
            one: self._comparable(one, timings[one.candidate])
            for one in able
            if one.candidate in timings
        }

    def _comparable(self, traced: TracedCandidate, timing: Timing) -> Timing:
        """With the head start that the op itself has over what is to replace it."""
        head_start = 1.0
        if traced.candidate.is_fallback:
            head_start = self._registration.min_speedup_threshold
        milliseconds = max(timing.milliseconds / head_start, SHORTEST)
        return Timing(milliseconds, timing.noise / head_start)

    def _choices(self, found: Sequence[FoundRange]) -> list[RangeChoice] | None:
        """What was found, as far as the graphs serve the intervals."""
        pieces: list[_Piece] = []
        for task, able in zip(self._tasks, self._able):
            for part, option, guess in _parts(found, task.size_range):
                winner = next((one for one in able if one is option), None)
                if len(able) == 1:
                    winner = able[0]
                is_untimed = winner is None and len(able) > 1
                if pieces and pieces[-1].winner is winner:
                    last = pieces.pop()
                    part = SizeRange(last.part.start, part.end)
                    is_untimed |= last.is_untimed
                pieces.append(_Piece(part, winner, guess, is_untimed))
        choices = []
        for index, (piece, after) in enumerate(zip(pieces, [*pieces[1:], None])):
            choice = self._choice(index, piece, self._guess(piece, after))
            if choice is None:
                return None
            choices.append(choice)
        return choices

    def _guess(self, piece: _Piece, after: _Piece | None) -> Guess | None:
        """The measured sizes around the end of a piece, if it is a guess.

        It is none where one candidate has another graph from there on.
        """
        if after is None:
            return None if piece.is_untimed else piece.guess
        if piece.is_untimed or after.is_untimed:
            end = piece.part.end or 0
            below = [size for size in self._measured if size <= end]
            above = [size for size in self._measured if size > end]
            return (max(below), min(above, default=None)) if below else None
        if piece.winner and after.winner:
            if piece.winner.candidate is after.winner.candidate:
                return None
        return piece.guess

    def _choice(
        self, index: int, piece: _Piece, guess: Guess | None
    ) -> RangeChoice | None:
        part = piece.part
        # The shares by which the search has chosen.
        everywhere = sorted(self._measured)
        shares = dict(zip(everywhere, log_shares(everywhere)))
        sizes = [size for size in everywhere if size in part]
        total = math.fsum(shares[size] for size in sizes)
        samples = [
            Sample(self._measured[size].sample.values, shares[size] / total)
            for size in sizes
        ]
        measured = [
            Measured(sample, self._measured[size].timings)
            for size, sample in zip(sizes, samples)
        ]
        interval = self.interval_of(part.start)
        task = RangeTask(
            index,
            Cell((part,)),
            tuple(samples) or interval.samples,
            (self._axis,),
        )
        winner = piece.winner or self._competitors.last_resort(task)
        if winner is None:
            return None
        return RangeChoice(
            task,
            winner,
            self._competitors.number(interval, winner),
            measured,
            timings_of(self._registration, task, measured),
            piece.is_untimed,
            guess,
        )


def _parts(
    found: Sequence[FoundRange], interval: SizeRange
) -> Iterator[tuple[SizeRange, Option, Guess | None]]:
    """The interval cut where the ranges that were found meet, with their options, and
    where the parts end if that is a guess."""
    if not found:
        yield interval, None, None
        return
    ranges = ranges_from_split_points(
        [one.last for one in found if one.last is not None]
    )
    for size_range, one in zip(ranges, found):
        start = max(size_range.start, interval.start)
        ends = [r.end for r in (size_range, interval) if r.end is not None]
        end = min(ends, default=None)
        if end is None or start <= end:
            guess = one.guess if end == one.last else None
            yield SizeRange(start, end), one.option, guess
