"""Proposes split points, and weights of sizes, from the sizes that were counted.

Sizes are split where there are few of them. On the scale of their base-2 logarithms,
each size weighing as much as it was called, they are cut into the contiguous clusters
with the least mean square distance from their means (one-dimensional k-means, solved
exactly). The clusters are as few as leave a size about half an octave from its
cluster's mean, and ``max_ranges`` at most. What is rare hence gets no range of its own,
and one size is never split from itself. Between two clusters the split point is the
power of two nearest to the middle of the gap, if there is one in it.
"""

from __future__ import annotations

import collections
import itertools
import math
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

from torch._inductor.range_dispatch import (
    live_counts,
    LiveCount,
    read_counts,
    sizes_of_histogram,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


MAX_WEIGHTS = 32
# Octaves that sizes are from the middle of their range, in the root mean square.
_CLOSE = 0.5
# Distinct sizes that clusters are made of: more are put together with neighbours.
_MAX_GROUPS = 256


@dataclass(frozen=True)
class Suggestion:
    """Arguments of ``register_custom_op_autotuning`` for the sizes that came.

    ``split_points`` has a list for each of ``axes``; it is empty where all sizes are
    about the same. The keys of ``size_weights`` are sizes, or tuples if several axes
    are split. ``calls`` is the number of calls, ``spans`` the smallest and the largest
    size on each axis.
    """

    op: str
    axes: tuple[str, ...]
    calls: int
    spans: tuple[tuple[int, int], ...]
    split_points: tuple[tuple[int, ...], ...]
    size_weights: dict[Any, int]

    def __str__(self) -> str:
        spans = ", ".join(
            f"{name} from {low} to {high}"
            for name, (low, high) in zip(self.axes, self.spans)
        )
        lines = [f"{self.op}, called {self.calls} times, {spans}:"]
        split = [[*points] for points in self.split_points if points]
        for name, points in zip(self.axes, self.split_points):
            if not points:
                lines.append(f"# {name}: about one size, which needs no split point")
        if split:
            shown = split[0] if len(split) == 1 else split
            lines.append(f"split_points={shown},")
        if self.size_weights:
            lines.append(f"size_weights={self.size_weights},")
        return "\n    ".join(lines)


class Suggestions(list[Suggestion]):
    """A list of ``Suggestion``; ``print`` shows it as text."""

    def __str__(self) -> str:
        if not self:
            return (
                "nothing was counted: compile with torch._inductor.config."
                "range_dispatch.count_calls = 1, or N for one in N calls, and call "
                "what was compiled"
            )
        return "\n".join(map(str, self))


def suggest(
    op: Any = None,
    max_ranges: int = 4,
    counts: Iterable[LiveCount] | None = None,
) -> Suggestions:
    """Propose ``split_points`` and ``size_weights`` from the sizes that were counted.

    Args:
        op: a custom op, an overload or its name; None for all ops.
        max_ranges: the most ranges to split an axis into.
        counts: a list of ``LiveCount``; by default that of this process.

    Returns:
        a ``Suggestion`` for each op and what it is dispatched on.

    Raises:
        ValueError: ``max_ranges`` is not a positive integer.
    """
    if isinstance(max_ranges, bool) or not isinstance(max_ranges, int):
        raise ValueError(f"max_ranges must be an integer, got {max_ranges!r}")
    if max_ranges < 1:
        raise ValueError(f"max_ranges must be at least 1, got {max_ranges}")
    name = None if op is None else str(getattr(op, "_opoverload", op))
    together: dict[tuple[str, tuple[str, ...]], list[LiveCount]] = {}
    for one in live_counts() if counts is None else counts:
        if name in (None, one.op) and one.sizes:
            together.setdefault((one.op, one.axes), []).append(one)
    return Suggestions(
        _suggestion(op, axes, rows, max_ranges)
        for (op, axes), rows in sorted(together.items())
    )


def suggest_file(path: str, max_ranges: int = 4) -> str:
    """The text of ``suggest`` for a file that ``save_counts`` has written.

    Raises:
        ValueError: the file is damaged, of another format or newer than this code.
        OSError: it cannot be read.
    """
    return str(suggest(max_ranges=max_ranges, counts=read_counts(path)))


def _suggestion(
    op: str, axes: tuple[str, ...], counts: Sequence[LiveCount], max_ranges: int
) -> Suggestion:
    called: collections.Counter[tuple[int, ...]] = collections.Counter()
    for one in counts:
        for sizes, times in one.sizes.items():
            called[sizes] += times * one.every
    histograms: list[collections.Counter[int]] = [collections.Counter() for _ in axes]
    for sizes, times in called.items():
        for histogram, size in zip(histograms, sizes, strict=True):
            histogram[size] += times
    points = tuple(split_points_for(h, max_ranges) for h in histograms)
    return Suggestion(
        op,
        axes,
        sum(called.values()),
        tuple((min(h), max(h)) for h in histograms),
        points,
        _weights(called, histograms, points),
    )


def _weights(
    called: collections.Counter[tuple[int, ...]],
    histograms: Sequence[collections.Counter[int]],
    points: Sequence[Sequence[int]],
) -> dict[Any, int]:
    """``size_weights`` for the axes that are split; for an only one in any case."""
    split = [i for i, one in enumerate(points) if one or len(points) == 1]
    if len(split) == 1:
        seen = histograms[split[0]]
        found = sizes_of_histogram(seen, min(seen), None, MAX_WEIGHTS)
        return {size: round(weight) for size, weight in found.items()}
    together: collections.Counter[tuple[int, ...]] = collections.Counter()
    for sizes, times in called.items():
        together[tuple(sizes[i] for i in split)] += times
    return dict(sorted(together.most_common(MAX_WEIGHTS))) if split else {}


def split_points_for(
    histogram: Mapping[int, float], max_ranges: int
) -> tuple[int, ...]:
    """Where to split sizes, given what each weighs; see the top of the file."""
    groups = _neighbours(size for size, weight in histogram.items() if weight > 0)
    # Of all groups before each: weight, and sums of logarithms and of their squares.
    sums = [
        [
            0.0,
            *itertools.accumulate(
                math.fsum(histogram[size] * _log(size) ** power for size in group)
                for group in groups
            ),
        ]
        for power in range(3)
    ]

    def cost(i: int, j: int) -> float:
        """The weighted square distance of groups ``i`` to ``j - 1`` from their mean."""
        weight, first, second = (one[j] - one[i] for one in sums)
        return max(second - first * first / weight, 0.0)

    for ranges in range(1, min(max_ranges, len(groups)) + 1):
        loss, ends = _clusters(len(groups), ranges, cost)
        if math.sqrt(loss / sums[0][-1]) <= _CLOSE:
            break
    return tuple(_between(groups[end - 1][-1], groups[end][0]) for end in ends)


def _neighbours(sizes: Iterable[int]) -> list[list[int]]:
    """Sizes in ascending order; if they are many, those close together in a group."""
    ordered = sorted(sizes)
    if not ordered:
        raise ValueError("no size has a weight above 0")
    low, high = _log(ordered[0]), _log(ordered[-1])
    width = (high - low) / _MAX_GROUPS if len(ordered) > _MAX_GROUPS else 0.0
    grouped = itertools.groupby(
        ordered, lambda size: int((_log(size) - low) / width) if width else size
    )
    return [[*members] for _, members in grouped]


def _log(size: int) -> float:
    return math.log2(max(size, 0.5))


def _clusters(
    count: int, ranges: int, cost: Callable[[int, int], float]
) -> tuple[float, list[int]]:
    """The least cost of cutting ``count`` groups into ``ranges``, and the cuts.

    A cut is the number of groups before it.
    """
    best: list[tuple[float, list[int]]] = [
        (cost(0, j) if j else 0.0, []) for j in range(count + 1)
    ]
    for done in range(1, ranges):
        best = [
            min((best[i][0] + cost(i, j), [*best[i][1], i]) for i in range(done, j))
            if j > done
            else (math.inf, [])
            for j in range(count + 1)
        ]
    return best[count]


def _between(low: int, high: int) -> int:
    """The last size of a range that holds ``low`` and not ``high``."""
    middle = (_log(low) + _log(high)) / 2
    powers = [1 << n for n in range(high.bit_length()) if low <= 1 << n < high]
    if powers:
        return min(powers, key=lambda power: abs(_log(power) - middle))
    return min(max(int(2**middle), low), high - 1)
