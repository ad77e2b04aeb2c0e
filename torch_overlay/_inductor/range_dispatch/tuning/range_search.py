"""Finds the ranges of a call whose split points are not given, by timing."""

from __future__ import annotations

import functools
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.benchmark.budget import Budget
from torch._inductor.range_dispatch.benchmark.contests import Contest, Measured
from torch._inductor.range_dispatch.benchmark.progress import TuningProgress
from torch._inductor.range_dispatch.benchmark.timing import (
    OutOfTime,
    SHORTEST,
    Timing,
    Timings,
)
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
    range_of,
    ranges_from_split_points,
    SizeRange,
)
from torch._inductor.range_dispatch.plan.sampling import log_shares
from torch._inductor.range_dispatch.plan.split_search import (
    FoundRange,
    geometric_grid,
    SplitSearch,
)
from torch._inductor.range_dispatch.trace.holding import sample_for
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.plan.guesses import Guess
    from torch._inductor.range_dispatch.plan.segments import Option, Time
    from torch._inductor.range_dispatch.registration.dispatch_on import SearchedSizes
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate
    from torch._inductor.range_dispatch.tuning.bench import Bench


log = logging.getLogger(__name__)

# A search measures about so many sizes if it can, and shares its time among them.
EXPECTED_SIZES = 40


@dataclass(frozen=True)
class FoundChoice:
    """A range that was found, and what was measured in it.

    ``interval`` is the one of the coarse grid that it starts in, and ``winner`` None
    where no candidate could be timed; ``is_untimed`` tells that some might have been.
    ``guess`` has the measured sizes between which its last size lies, if it is not
    known any better (see ``FoundRange``).
    """

    task: RangeTask
    interval: RangeTask
    winner: TracedCandidate | None
    measured: Sequence[Measured]
    guess: Guess | None = None
    is_untimed: bool = False


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
        bench: Bench,
        usable: Callable[[RangeTask], Sequence[TracedCandidate]],
    ) -> None:
        """``usable`` gives the graphs that compete for the sizes of a task."""
        self._registration = registration
        self._rules = searched.rules
        self._call = call
        self._axis = axis
        self._size = size = axis.size
        self._bench = bench
        self._values: dict[int, SymbolValues] = {}
        self._measured: dict[int, Measured] = {}
        self._budget = Budget(registration.seconds)
        lower, upper = bounds_of(size)
        lowest = max(searched.lowest, lower, 1)
        highest = searched.highest if upper is None else min(searched.highest, upper)
        self._lowest = lowest
        highest = self._note(values_up_to(call, size, lowest, max(lowest, highest)))
        grid = geometric_grid(lowest, max(lowest, highest))
        self._grid = sorted(OrderedSet(map(self._snap, grid)))
        self._tasks = self._intervals()
        self._usable = usable
        self._replayed: OrderedSet[int] | None = None
        self._too_expensive: OrderedSet[int] = OrderedSet()
        self._progress = TuningProgress(registration.name, EXPECTED_SIZES)

    @functools.cached_property
    def _able(self) -> list[Sequence[TracedCandidate]]:
        """What competes in each interval, and fits in memory at the smallest size."""
        memory, least = self._bench.memory, self._tasks[0].values
        return [memory.able(self._usable(one), one, least) for one in self._tasks]

    @functools.cached_property
    def _contests(self) -> list[Contest]:
        return [self._contest(i, task.values) for i, task in enumerate(self._tasks)]

    def interval_of(self, size: int) -> RangeTask:
        """The interval of the coarse grid that holds a size."""
        return self._tasks[self._index_of(size)]

    def run(self) -> list[FoundChoice]:
        """The ranges in order; together they hold every size."""
        if all(len(able) < 2 for able in self._able):
            return self._choices([])
        if any(contest.peers() is not None for contest in self._contests):
            log.warning(
                "%s: ranks cannot find split points of candidates with collectives; "
                "taking the op itself. Register it with split_points and winners",
                self._call.op,
            )
            return self._choices([])
        self._replayed = self._bench.searched_before(self._contests, self._rules)
        search = SplitSearch(
            self._fitting_grid(), self._snap, self._measure, self._rules
        )
        with self._progress:
            found = search.run()
        if self._replayed is None and not self._bench.uses_table:
            self._bench.keep_search(self._contests, self._rules, [*self._measured])
        missing = [size for size in self._grid if size in self._too_expensive]
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
        return self._bench.memory.fits(able, self._values[self._snap(size)])

    def _has_memory(self, contest: Contest, size: int) -> bool:
        """Whether there is enough at a size also for the op itself, the smallest size
        left aside."""
        memory = self._bench.memory
        memory.measure_op(contest, self._budget.limit)
        fits = memory.fits(contest.candidates, contest.sample.values)
        if not fits and size > self._grid[0]:
            log.info(
                "%s: size %d is not timed: the op itself would take more memory than "
                "timing may (see memory.tuning_bytes)",
                self._call.op,
                size,
            )
        return fits or size <= self._grid[0]

    def _contest(self, index: int, values: SymbolValues) -> Contest:
        sample = sample_for(self._able[index], Sample(values), [self._size])
        return Contest(self._able[index], self._tasks[index], sample)

    def _index_of(self, size: int) -> int:
        return range_of([task.size_range for task in self._tasks], size)

    def _measure(self, size: int) -> dict[Option, Time] | None:
        """What the graphs that serve a size take; None if out of budget."""
        index = self._index_of(size)
        able = self._able[index]
        if len(able) == 1:
            return {able[0]: Timing(1.0)}
        contest = self._contest(index, self._values[size])
        timings = self._timings(contest, size)
        if timings:
            self._measured[size] = Measured(contest.sample, timings)
        if timings is None:
            return None
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

    def _timings(self, contest: Contest, size: int) -> Timings | None:
        """Stored times or new ones, the better of both if it is measured again."""
        resumed = self._bench.resumed(contest)
        if resumed is not None:
            return resumed
        before = self._measured.get(size)
        if before is None or self._replayed is not None:
            stored = self._bench.stored(contest)
            if stored is not None:
                return stored
            # With a table, or a search before, nothing new is timed.
            if self._replayed is None and self._bench.uses_table:
                return None
            if self._replayed is not None and size not in self._replayed:
                return None
        if not self._budget.allows(size):
            if size not in self._measured:
                self._too_expensive.add(size)
            return None
        with self._budget.spending():
            if not self._has_memory(contest, size):
                return None
        self._bench.compile(self._contests)
        seconds_each = self._registration.seconds / EXPECTED_SIZES
        seconds_each /= max(len(self._bench.running(contest)), 1)
        known = None if before is None else before.timings
        try:
            with self._budget.measuring(size) as noted:
                timings = self._bench.time(contest, seconds_each, self._budget, known)
                noted.update(timings or {})
        except OutOfTime:
            if size not in self._measured:
                self._too_expensive.add(size)
            return None
        if timings is None:
            return None
        self._progress.advance()
        return timings

    def _choices(self, found: Sequence[FoundRange]) -> list[FoundChoice]:
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
        return [
            self._choice(index, piece, self._guess(piece, after))
            for index, (piece, after) in enumerate(zip(pieces, [*pieces[1:], None]))
        ]

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

    def _choice(self, index: int, piece: _Piece, guess: Guess | None) -> FoundChoice:
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
        return FoundChoice(
            task, interval, piece.winner, measured, guess, piece.is_untimed
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
