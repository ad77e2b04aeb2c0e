"""Finds the sizes at which the fastest option changes: plain numbers, no torch.

A coarse grid, each size a factor above the last, shows which options are fast where.
Between neighbouring sizes that need different ones the crossover is bisected; what is
left of the budget goes into the widest gaps, where another option may hide.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING, TypeAlias

from torch._inductor.range_dispatch.plan.sampling import log_shares
from torch._inductor.range_dispatch.plan.times import Timing
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch._inductor.range_dispatch.plan.guesses import Guess


# Neighbouring sizes of the first grid differ by this factor at most, those of the last
# one by the other, as far as the budget goes.
GRID_FACTOR = 4.0
CHECK_FACTOR = 1.5

# A grid of fewer steps shows no trend.
MIN_GRID_STEPS = 2

# Among some thirty comparisons one is off by twice its noise now and then.
NOISE_MARGIN = 2.0

# What serves a size: any object.
Option: TypeAlias = Hashable
Times: TypeAlias = Mapping[Any, Timing]
# Segments, each by the number of its first size and its option, and what they lose.
_Reached: TypeAlias = tuple[tuple[tuple[int, Option], ...], float]


@dataclass(frozen=True)
class SearchRules:
    """How close a split has to be, and what a range may lose to save one.

    A split is within ``precision`` of where two options cross, as a part of the size.
    No measured size takes more than ``max_loss`` over its best option, as a part of
    the time, but for noise.
    """

    precision: float = 0.05
    max_loss: float = 0.03


@dataclass(frozen=True)
class FoundRange:
    """An option and the last size that it serves, None if there is no last one.

    ``guess`` has the measured sizes between which ``last`` lies, if the search could
    not come as close as its rules ask. Of the last range it has the largest size that
    was measured, if larger ones were refused.
    """

    last: int | None
    option: Any
    guess: Guess | None = None


@dataclass(frozen=True)
class Segment:
    """One option for the measured sizes from ``first`` to ``last``."""

    first: int
    last: int
    option: Option


class SplitSearch:
    """Measures sizes, those of a coarse grid first, until the ranges are known.

    ``measured`` has what was found at each size and ``refused`` the sizes beyond the
    budget.

    Args:
        grid: ascending sizes that can be measured.
        snap: the size nearest to a given one that can be measured.
        measure: what the options take at a size that ``snap`` gave, None if that is
            beyond the budget. An option that cannot serve the size is left out. A size
            may be asked for again, to be measured better.
    """

    def __init__(
        self,
        grid: Sequence[int],
        snap: Callable[[int], int],
        measure: Callable[[int], Times | None],
        rules: SearchRules = SearchRules(),
    ) -> None:
        self.measured: dict[int, Times] = {}
        self.refused: OrderedSet[int] = OrderedSet()
        self._grid = grid
        self._snap = snap
        self._measure = measure
        self._rules = rules
        self._measured_twice: OrderedSet[int] = OrderedSet()

    def run(self) -> list[FoundRange]:
        """The fewest ranges that keep to the rules; none if nothing was measured."""
        # Small sizes first: what is far behind there is not called at large ones.
        for size in self._grid:
            self._try(size)
        while self._refine_split() or self._measure_doubtful() or self._fill_gap():
            pass
        segments = self._segments()
        if not segments:
            return []
        found = [
            FoundRange(self._crossing(one, after), one.option, self._guess(one, after))
            for one, after in itertools.pairwise(segments)
        ]
        highest = segments[-1].last
        beyond = (highest, None) if self._grid[-1] > highest else None
        return [*found, FoundRange(None, segments[-1].option, beyond)]

    def _segments(self) -> list[Segment]:
        sizes = sorted(self.measured)
        times = [self.measured[size] for size in sizes]
        return fewest_segments(sizes, times, self._rules.max_loss)

    def _refine_split(self) -> bool:
        """Measure inside the widest interval that a split lies in; False if none is."""
        gaps = [
            (one.last, after.first)
            for one, after in itertools.pairwise(self._segments())
            if self._is_worth_refining(one, after)
        ]
        return self._measure_in_widest(gaps, 1 + self._rules.precision)

    def _measure_doubtful(self) -> bool:
        """Measure again what alone makes a range: it may have been disturbed."""
        for one in self._segments():
            if one.first == one.last and one.first not in self._measured_twice:
                self._measured_twice.add(one.first)
                if self._try(one.first):
                    return True
        return False

    def _fill_gap(self) -> bool:
        gaps = itertools.pairwise(sorted(self.measured))
        return self._measure_in_widest(gaps, CHECK_FACTOR)

    def _measure_in_widest(
        self, gaps: Iterable[tuple[int, int]], factor: float
    ) -> bool:
        """Measure inside a gap wider than ``factor``; False if there is none."""
        wide = [(low, high) for low, high in gaps if high > low * factor]
        for low, high in sorted(wide, key=lambda gap: gap[0] / gap[1]):
            middle = self._between(low, high)
            if middle is not None and middle not in self.refused:
                if self._try(middle):
                    return True
        return False

    def _between(self, low: int, high: int) -> int | None:
        """A size in the middle of two that can be measured, None if there is none."""
        middle = self._snap(round(math.sqrt(low * high)))
        return middle if low < middle < high else None

    def _try(self, size: int) -> bool:
        """Whether the size could be measured."""
        times = self._measure(size)
        if not times:
            self.refused.add(size)
            return False
        self.refused.discard(size)
        self.measured[size] = times
        return True

    def _is_worth_refining(self, one: Segment, after: Segment) -> bool:
        """Whether the options differ by more than noise on either side of the split."""
        typical = typical_noise([*self.measured.values()])
        for times in (self.measured[one.last], self.measured[after.first]):
            if one.option not in times or after.option not in times:
                return True
            if differ(times[one.option], times[after.option], typical):
                return True
        return False

    def _guess(self, one: Segment, after: Segment) -> Guess | None:
        """The sizes on both sides of a split that is not known as the rules ask."""
        low, high = one.last, after.first
        if high <= low * (1 + self._rules.precision):
            return None
        if self._between(low, high) is None or not self._is_worth_refining(one, after):
            return None
        if after.option not in self.measured[low] and high in self._grid:
            return None  # it serves no smaller size
        return low, high

    def _crossing(self, one: Segment, after: Segment) -> int:
        """The last size of the first of two ranges, by interpolation of logarithms."""
        low, high = one.last, after.first
        leads = []
        for times in (self.measured[low], self.measured[high]):
            if one.option not in times or after.option not in times:
                return high - 1  # what serves a size serves all up to the next one
            ratio = times[after.option].milliseconds / times[one.option].milliseconds
            leads.append(math.log(ratio))
        part = 0.5
        if leads[0] > 0 > leads[1]:
            part = leads[0] / (leads[0] - leads[1])
        crossing = math.exp(math.log(low) + part * math.log(high / low))
        return min(max(int(crossing), low), high - 1)


def geometric_grid(lowest: int, highest: int) -> list[int]:
    """Sizes from ``lowest`` to ``highest``, ``GRID_FACTOR`` apart at most."""
    ratio = highest / lowest
    steps = max(MIN_GRID_STEPS, math.ceil(math.log(ratio, GRID_FACTOR)))
    return [round(lowest * ratio ** (i / steps)) for i in range(steps + 1)]


def fewest_segments(
    sizes: Sequence[int], times: Sequence[Times], max_loss: float
) -> list[Segment]:
    """Cover ascending ``sizes`` with segments, as few as can be.

    Everywhere the option of a segment takes at most ``max_loss`` more than the best
    one there, as a part of its time, or no more than noise explains. Among equally
    many segments those win that lose the least, each size counting for its share of
    the sizes on a log scale.
    """
    typical = typical_noise(times)
    # By option of the last size.
    reached: dict[Option, _Reached] = {}
    for index, (one, weight) in enumerate(zip(times, log_shares(sizes))):
        segments, lost = min(reached.values(), key=_cost, default=((), 0.0))
        before, reached = reached, {}
        for option, loss in _losses(one, typical, max_loss).items():
            best: _Reached = (*segments, (index, option)), lost
            if option in before and _cost(before[option]) < _cost(best):
                best = before[option]
            reached[option] = best[0], best[1] + weight * loss
    segments, _ = min(reached.values(), key=_cost, default=((), 0.0))
    ends = [*(index for index, _ in segments[1:]), len(sizes)]
    return [
        Segment(sizes[index], sizes[end - 1], option)
        for (index, option), end in zip(segments, ends)
    ]


def _cost(reached: _Reached) -> tuple[int, float]:
    segments, lost = reached
    return len(segments), lost


def differ(one: Timing, other: Timing, typical: float) -> bool:
    """Whether two times differ by more than noise, ``typical`` as a part of a time."""
    noise = sum(max(t.noise, t.milliseconds * typical) for t in (one, other))
    return abs(one.milliseconds - other.milliseconds) > NOISE_MARGIN * noise


def typical_noise(times: Sequence[Times]) -> float:
    """The median noise as a part of the time; one size's own is from few rounds."""
    found = [t.noise / t.milliseconds for one in times for t in one.values()]
    return statistics.median(found) if found else 0.0


def _losses(times: Times, typical: float, max_loss: float) -> dict[Option, float]:
    """What each option that may be taken loses to the best, as a logarithm."""
    best = min(times.values(), key=lambda time: time.milliseconds)
    return {
        option: math.log(time.milliseconds / best.milliseconds)
        for option, time in times.items()
        if time.milliseconds <= best.milliseconds * (1 + max_loss)
        or not differ(time, best, typical)
    }
