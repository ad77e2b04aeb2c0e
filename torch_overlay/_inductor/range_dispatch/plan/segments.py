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


@dataclass(frozen=True)
class Segment:
    """One option for the measured sizes from ``first`` to ``last``."""

    first: int
    last: int
    option: Option


def fewest_segments(
    sizes: Sequence[int],
    times: Sequence[Times],
    max_loss: float,
) -> list[Segment]:
    """Cover ascending ``sizes`` with segments, as few as can be.

    Everywhere the option of a segment takes at most ``max_loss`` more than the best
    one there, as a part of its time, or no more than noise explains. Among equally
    many segments those win that lose the least, each size counting for its share of
    the sizes on a log scale.
    """
    typical = typical_noise(times)
    losses = [_losses(one, typical, max_loss) for one in times]
    weights = log_shares(sizes)
    # By option of the last size: segments and loss so far, and the option before it.
    reached: list[dict[Option, tuple[int, float, Option]]] = []
    for index, (loss, weight) in enumerate(zip(losses, weights)):
        before = reached[-1] if index else {}
        cheapest = min(before, key=lambda option: before[option][:2], default=None)
        row = {}
        for option, lost in loss.items():
            count, total, previous = 1, 0.0, option
            if cheapest is not None:
                count, total, previous = *before[cheapest][:2], cheapest
                count += 1
            if option in before and before[option][:2] < (count, total):
                count, total, previous = *before[option][:2], option
            row[option] = count, total + weight * lost, previous
        reached.append(row)
    return _trace_back(sizes, reached)


def _trace_back(
    sizes: Sequence[int], reached: Sequence[dict[Option, tuple[int, float, Option]]]
) -> list[Segment]:
    segments: list[Segment] = []
    if not reached:
        return segments
    option: Option = min(reached[-1], key=lambda one: reached[-1][one][:2])
    last = len(reached) - 1
    for index in range(last, -1, -1):
        previous = reached[index][option][2]
        if index == 0 or previous is not option:
            segments.append(Segment(sizes[index], sizes[last], option))
            option, last = previous, index - 1
    return segments[::-1]


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
