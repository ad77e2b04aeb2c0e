"""Which sizes stand for a range, and how much each counts: plain numbers, no torch."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def spread_sizes(first: int, last: int, count: int) -> list[int]:
    """At most ``count`` sizes from ``first`` to ``last``, equally far on a log scale.

    A single one is the last. ``first`` is at least 1.
    """
    if count == 1:
        return [last]
    ratio = last / first
    sizes = (round(first * ratio ** (i / (count - 1))) for i in range(count))
    return [*dict.fromkeys(sizes)]


def log_shares(sizes: Sequence[int]) -> list[float]:
    """The part of the log scale that is nearest to each of ascending sizes.

    The parts add up to 1.
    """
    if len(sizes) < 2:
        return [1.0] * len(sizes)
    logs = [math.log(size) for size in sizes]
    middles = [(a + b) / 2 for a, b in itertools.pairwise(logs)]
    edges = [logs[0], *middles, logs[-1]]
    return [(b - a) / (logs[-1] - logs[0]) for a, b in itertools.pairwise(edges)]


def sizes_of_histogram(
    histogram: Mapping[int, float], first: int, last: int | None, count: int
) -> dict[int, float]:
    """Reduce a histogram to at most ``count`` sizes of a range, with their weights.

    Neighbouring sizes are grouped so that groups have about the same weight; the median
    represents a group. The result is empty if the histogram has no size in the range.

    Args:
        histogram: how often each size occurs.
        first: the first size of the range.
        last: the last size of the range; None if it is open.
        count: how many sizes to return at most.
    """
    seen = sorted(
        (size, weight)
        for size, weight in histogram.items()
        if first <= size and (last is None or size <= last) and weight > 0
    )
    if len(seen) <= count:
        return dict(seen)
    total = sum(weight for _, weight in seen)
    groups: list[list[tuple[int, float]]] = [[] for _ in range(count)]
    below = 0.0
    for size, weight in seen:
        # By the middle of its own weight, which no rounding puts beyond the last.
        groups[min(int((below + weight / 2) / total * count), count - 1)].append(
            (size, weight)
        )
        below += weight
    return {_median(group): sum(w for _, w in group) for group in groups if group}


def _median(group: Sequence[tuple[int, float]]) -> int:
    half = sum(weight for _, weight in group) / 2
    below = itertools.accumulate(weight for _, weight in group)
    return next(size for (size, _), reached in zip(group, below) if reached >= half)
