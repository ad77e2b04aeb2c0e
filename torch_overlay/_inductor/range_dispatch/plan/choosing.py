"""Which candidate wins a range, by what each took: plain numbers, no torch."""

from __future__ import annotations

import math
import operator
from typing import Any, TYPE_CHECKING, TypeVar

from torch._inductor.range_dispatch.plan.times import SHORTEST, Timing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch._inductor.range_dispatch.plan.ranges import Cell


# What competes; its ``is_fallback`` tells the op itself from what is to replace it.
_CandidateT = TypeVar("_CandidateT", bound=Any)


def combined(
    measured: Sequence[tuple[Mapping[_CandidateT, Timing], float]],
    is_total: bool = False,
) -> dict[_CandidateT, Timing]:
    """What stands for the times of candidates at several sizes, each with its weight.

    It is the geometric mean, by which large sizes decide no more than small ones; if
    ``is_total``, where weights are how often sizes come, it is the arithmetic mean, as
    what all calls take together counts. A candidate that was not timed at one of the
    sizes is left out; all are if at one of them none was.
    """
    if not measured or not all(timings for timings, _ in measured):
        return {}
    total = math.fsum(weight for _, weight in measured)
    shares = [weight / total for _, weight in measured]
    result = {}
    for candidate in measured[0][0]:
        times = [timings[candidate] for timings, _ in measured if candidate in timings]
        if len(times) == len(shares):
            result[candidate] = _mean(times, shares, is_total)
    return result


def _mean(times: Sequence[Timing], shares: Sequence[float], is_total: bool) -> Timing:
    if is_total:
        return Timing(
            math.fsum(share * time.milliseconds for share, time in zip(shares, times)),
            math.hypot(*(share * time.noise for share, time in zip(shares, times))),
        )
    taken = [max(time.milliseconds, SHORTEST) for time in times]
    mean = math.exp(math.fsum(share * math.log(ms) for share, ms in zip(shares, taken)))
    parts = [time.noise / ms for time, ms in zip(times, taken)]
    return Timing(mean, mean * math.hypot(*map(operator.mul, shares, parts)))


def counts_calls(size_weights: Mapping[Any, float] | None, cell: Cell) -> bool:
    """Whether it is known how often sizes of a cell come, so that their total counts.

    Keys of ``size_weights`` are sizes, or tuples of one for each axis.
    """
    return any(
        weight > 0 and (size if isinstance(size, tuple) else (size,)) in cell
        for size, weight in (size_weights or {}).items()
    )


def choose(
    timings: Sequence[Mapping[_CandidateT, Timing]],
    min_speedup_threshold: float,
    beside: Sequence[Sequence[int]],
) -> list[_CandidateT | None]:
    """The winner of each cell, None where nothing was timed.

    The op itself stays unless the fastest beats it by the threshold, a ratio. Where the
    winner of more of the neighbours, which ``beside`` numbers, is as fast within the
    noise, it wins here too: noise must not add branches.
    """
    able = [_able(one, min_speedup_threshold) for one in timings]
    winners = [_fastest(one) for one in able]
    for order in (range(len(winners)), range(len(winners) - 1, -1, -1)):
        for i in order:
            around = [winners[j] for j in beside[i]]
            done = [winners[j] for j in beside[i] if (j < i) == (order.step > 0)]
            for neighbour in dict.fromkeys(done):
                if around.count(neighbour) <= around.count(winners[i]):
                    continue  # already one with as many
                if neighbour is not None and _ties(able[i], winners[i], neighbour):
                    winners[i] = neighbour
    return winners


def fastest(
    timings: Mapping[_CandidateT, Timing], min_speedup_threshold: float
) -> _CandidateT | None:
    """The winner by itself, None if nothing was timed."""
    return _fastest(_able(timings, min_speedup_threshold))


def _able(
    timings: Mapping[_CandidateT, Timing], threshold: float
) -> dict[_CandidateT, Timing]:
    """Those that may win: the op itself, and what beats it by the threshold."""
    limits = [one.milliseconds for c, one in timings.items() if c.is_fallback]
    return {
        candidate: timing
        for candidate, timing in timings.items()
        if candidate.is_fallback
        or all(timing.milliseconds * threshold <= limit for limit in limits)
    }


def _fastest(able: Mapping[_CandidateT, Timing]) -> _CandidateT | None:
    return min(able, key=lambda one: able[one].milliseconds, default=None)


def _ties(
    able: Mapping[_CandidateT, Timing], winner: _CandidateT | None, other: _CandidateT
) -> bool:
    """Whether ``other`` may win in place of ``winner``, as noise hides what is lost."""
    if winner is None or other not in able:
        return False
    best, near = able[winner], able[other]
    return near.milliseconds - best.milliseconds <= best.noise + near.noise
