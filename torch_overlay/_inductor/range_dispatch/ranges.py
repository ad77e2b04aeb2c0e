"""Size ranges of a dispatched dimension: plain integers, no torch.

A registration's split points cut the sizes of one dimension into ranges. Once
every range has a winner, ranges with the same winner form one branch, and
:func:`plan_decisions` arranges the branches as a balanced binary tree of
comparisons.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class SizeRange:
    """Inclusive interval ``[start, end]`` of sizes; ``end`` is None when open."""

    start: int
    end: int | None

    def __contains__(self, size: int) -> bool:
        return self.start <= size and (self.end is None or size <= self.end)

    def __str__(self) -> str:
        return f"[{self.start}, {'inf' if self.end is None else self.end}]"


@dataclass(frozen=True)
class Branch:
    """The ranges, in ascending order, that one winner serves."""

    winner: int
    ranges: tuple[SizeRange, ...]

    def __str__(self) -> str:
        return ", ".join(str(r) for r in self.ranges)


@dataclass(frozen=True)
class Leaf:
    """End of a decision: ``branch`` indexes the planned branches."""

    branch: int


@dataclass(frozen=True)
class Decision:
    """Go to ``inside`` if the size lies in one of ``intervals``, else ``outside``.

    ``intervals`` has the fewest intervals that tell the two sides apart *among the
    sizes that get here*; the first one has no lower bound if it may be left out
    (None), the last one no upper bound.
    """

    intervals: tuple[tuple[int | None, int | None], ...]
    inside: DecisionTree
    outside: DecisionTree


DecisionTree: TypeAlias = "Leaf | Decision"


def ranges_from_split_points(split_points: Sequence[int]) -> tuple[SizeRange, ...]:
    """Cut all sizes at the split points, each the last size of its range.

    ``[512, 2048]`` gives ``[0, 512]``, ``[513, 2048]`` and ``[2049, inf]``; no split
    point gives the one range of all sizes.
    """
    starts = [0, *(point + 1 for point in split_points)]
    return tuple(map(SizeRange, starts, [*split_points, None]))


def reachable(
    ranges: Sequence[SizeRange], lower: int, upper: int | None
) -> tuple[int, ...]:
    """Indices of the ranges that hold at least one size in ``[lower, upper]``."""
    return tuple(
        i
        for i, r in enumerate(ranges)
        if (r.end is None or lower <= r.end) and (upper is None or r.start <= upper)
    )


def group_by_winner(
    ranges: Sequence[SizeRange], winners: Sequence[int], merge: bool = True
) -> tuple[Branch, ...]:
    """One branch per distinct winner, adjacent ranges joined, in order of first range.

    With ``merge=False`` every range stays a branch of its own.
    """
    if not merge:
        return tuple(Branch(w, (r,)) for r, w in zip(ranges, winners, strict=True))
    joined: dict[int, list[SizeRange]] = {}
    previous: int | None = None
    for size_range, winner in zip(ranges, winners, strict=True):
        own = joined.setdefault(winner, [])
        if winner == previous:
            own[-1] = SizeRange(own[-1].start, size_range.end)
        else:
            own.append(size_range)
        previous = winner
    return tuple(Branch(w, tuple(own)) for w, own in joined.items())


def plan_decisions(branches: Sequence[Branch]) -> DecisionTree:
    """A binary tree with every branch as one leaf, depth ``ceil(log2(branches))``.

    Branches that serve several ranges would make some comparisons unions of
    intervals; among the cuts that keep the depth, the one with the shortest
    comparison is taken.
    """
    owners = sorted(
        ((r, i) for i, branch in enumerate(branches) for r in branch.ranges),
        key=lambda owner: owner[0].start,
    )
    order = list(dict.fromkeys(i for _, i in owners))
    return _plan(order, owners)


def _plan(order: list[int], owners: list[tuple[SizeRange, int]]) -> DecisionTree:
    if len(order) == 1:
        return Leaf(order[0])
    # A subtree of depth d holds at most 2**d leaves, so the cut may move only as
    # far from the middle as both sides still fit below this node.
    capacity = 1 << ((len(order) - 1).bit_length() - 1)
    middle = len(order) / 2

    def cost(cut: int) -> tuple[int, float]:
        return len(_intervals(owners, order[:cut])), abs(cut - middle)

    cut = min(range(len(order) - capacity, capacity + 1), key=cost)
    inside, outside = order[:cut], order[cut:]
    return Decision(
        _intervals(owners, inside),
        _plan(inside, [o for o in owners if o[1] in inside]),
        _plan(outside, [o for o in owners if o[1] in outside]),
    )


def _intervals(
    owners: list[tuple[SizeRange, int]], inside: list[int]
) -> tuple[tuple[int | None, int | None], ...]:
    """Maximal runs of ranges owned by ``inside``; bounds no size can cross are None."""
    members = frozenset(inside)
    runs: list[tuple[int | None, int | None]] = []
    previous_inside = False
    for position, (size_range, branch) in enumerate(owners):
        is_inside = branch in members
        if is_inside:
            last = position == len(owners) - 1
            end = None if last else size_range.end
            if previous_inside:
                runs[-1] = (runs[-1][0], end)
            else:
                runs.append((size_range.start if position else None, end))
        previous_inside = is_inside
    return tuple(runs)


def decide(tree: DecisionTree, size: int) -> int:
    """Index of the branch that the tree picks for ``size``."""
    while isinstance(tree, Decision):
        hit = any(
            (low is None or low <= size) and (high is None or size <= high)
            for low, high in tree.intervals
        )
        tree = tree.inside if hit else tree.outside
    return tree.branch


def depth(tree: DecisionTree) -> int:
    """Number of comparisons on the longest way through the tree."""
    if isinstance(tree, Leaf):
        return 0
    return 1 + max(depth(tree.inside), depth(tree.outside))


def range_of(ranges: Sequence[SizeRange], size: int) -> int:
    """Index of the range that holds ``size``; ranges cover all sizes in order."""
    return bisect.bisect_right([r.start for r in ranges], size) - 1
