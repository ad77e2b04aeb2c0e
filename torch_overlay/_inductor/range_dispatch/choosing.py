"""Chooses the winner of each range from what its candidates took."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.timing import SHORTEST, Timing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.candidates import Candidate
    from torch._inductor.range_dispatch.timing import Timings


def combined(measured: Sequence[tuple[Timings, float]], is_relative: bool) -> Timings:
    """What stands for the times of a range's candidates at several sizes, each with
    its weight: the mean time.

    If ``is_relative``, it is the mean ratio to the fastest at a size, so that large
    sizes decide no more than small ones, given as part of the fastest's mean time. A
    candidate that could not be run at one of the sizes is left out.
    """
    if not measured or not all(timings for timings, _ in measured):
        return {}
    total = sum(weight for _, weight in measured)
    shares = [weight / total for _, weight in measured]
    best = [min(t.milliseconds for t in timings.values()) for timings, _ in measured]
    best = [max(milliseconds, SHORTEST) for milliseconds in best]
    mean_best = sum(share * ms for share, ms in zip(shares, best))
    if is_relative:
        shares = [share * mean_best / ms for share, ms in zip(shares, best)]
    result = {}
    for candidate in measured[0][0]:
        times = [timings.get(candidate) for timings, _ in measured]
        if all(times):
            result[candidate] = Timing(
                sum(share * t.milliseconds for share, t in zip(shares, times) if t),
                math.hypot(*(share * t.noise for share, t in zip(shares, times) if t)),
            )
    return result


def choose(
    timings: Sequence[Timings],
    min_speedup_threshold: float,
    beside: Sequence[Sequence[int]],
) -> list[Candidate | None]:
    """The winner of each cell, None where nothing was timed.

    The op itself stays unless the fastest beats it by the threshold, a ratio. Where the
    winner of more of the neighbours, which ``beside`` numbers, is as fast within the
    noise, it wins here too: noise must not add branches.
    """
    winners = [fastest(one, min_speedup_threshold) for one in timings]
    for order in (range(len(winners)), range(len(winners) - 1, -1, -1)):
        for i in order:
            around = [winners[j] for j in beside[i]]
            done = [winners[j] for j in beside[i] if (j < i) == (order.step > 0)]
            for neighbour in dict.fromkeys(done):
                if around.count(neighbour) <= around.count(winners[i]):
                    continue  # already one with as many
                if _ties(timings[i], winners[i], neighbour, min_speedup_threshold):
                    winners[i] = neighbour
    return winners


def fastest(timings: Timings, min_speedup_threshold: float) -> Candidate | None:
    """The winner by itself, None if nothing was timed."""
    if not timings:
        return None
    best = min(timings, key=lambda candidate: timings[candidate].milliseconds)
    for candidate in timings:
        if candidate.is_fallback and not _beats(
            timings, best, candidate, min_speedup_threshold
        ):
            return candidate
    return best


def _beats(
    timings: Timings, candidate: Candidate, fallback: Candidate, threshold: float
) -> bool:
    needed = timings[candidate].milliseconds * threshold
    return timings[fallback].milliseconds >= needed


def _ties(
    timings: Timings,
    winner: Candidate | None,
    other: Candidate | None,
    min_speedup_threshold: float,
) -> bool:
    """Whether ``other`` may take a range from its winner."""
    if winner is other or winner not in timings or other not in timings:
        return False
    if winner is None or other is None:
        raise AssertionError("None is no candidate, and yet was timed")
    for candidate in timings:
        if candidate.is_fallback and candidate is not other:
            if not _beats(timings, other, candidate, min_speedup_threshold):
                return False
    best, near = timings[winner], timings[other]
    return near.milliseconds - best.milliseconds <= best.noise + near.noise
