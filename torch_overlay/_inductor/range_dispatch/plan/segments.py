"""The fewest runs of sizes that each have one good option: plain numbers, no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch._inductor.range_dispatch.plan.sampling import log_shares
from torch._inductor.range_dispatch.plan.times import Timing


# Among some thirty comparisons one is off by twice its noise now and then.
NOISE_MARGIN = 2.0

Option: TypeAlias = Hashable
Times: TypeAlias = Mapping[Option, Timing]
# Segments, each by the number of its first size and its option, and what they lose.
_Reached: TypeAlias = tuple[tuple[tuple[int, Option], ...], float]


@dataclass(frozen=True)
class Segment:
    """One option for the measured sizes from ``first`` to ``last``."""

    first: int
    last: int
    option: Option


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
