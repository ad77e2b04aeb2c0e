"""Arranges branches as a tree of comparisons: plain integers.

Once every cell has a winner, cells with the same winner form one branch.
:func:`plan_decisions` makes a balanced binary tree of them. Each of its nodes sends the
sizes in some boxes to one side, with the branches split where that takes the fewest
boxes: a k-d tree, but for branches whose cells lie apart, which still are one leaf.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Generic, TYPE_CHECKING, TypeAlias, TypeVar

from torch._inductor.range_dispatch.plan.ranges import overlaps
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch._inductor.range_dispatch.plan.ranges import Cell


# First and last size; None where no size that gets there is below or above.
Interval: TypeAlias = tuple[int | None, int | None]
# An interval for each axis.
Box: TypeAlias = tuple[Interval, ...]


@dataclass(frozen=True)
class Branch:
    """A winner's number and the cells in which it runs."""

    winner: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Leaf:
    """A leaf of a decision tree: the index of the branch that runs."""

    branch: int


@dataclass(frozen=True)
class Decision:
    """A node of a decision tree: ``inside`` if sizes are in a box, else ``outside``.

    Each of ``boxes`` has for each axis a pair of the first and last size, None where
    it is open. They tell the two sides apart among the sizes that reach this node.
    """

    boxes: tuple[Box, ...]
    inside: DecisionTree
    outside: DecisionTree

    def holds(self, sizes: Sequence[int]) -> bool:
        """Whether sizes, one for each axis, go to ``inside``."""
        return any(
            all(
                (low is None or low <= size) and (high is None or size <= high)
                for size, (low, high) in zip(sizes, box, strict=True)
            )
            for box in self.boxes
        )


DecisionTree: TypeAlias = "Leaf | Decision"

# What a branch runs: a graph, or those of several ops.
_BranchT = TypeVar("_BranchT")

# The number of a cell's range on each axis, and those of a block of cells.
_Place: TypeAlias = tuple[int, ...]
_Block: TypeAlias = tuple[range, ...]


@dataclass(frozen=True)
class DispatchPlan(Generic[_BranchT]):
    """The distinct winners of all cells that can occur, and the tree that picks one."""

    branches: list[_BranchT]
    tree: DecisionTree


def plan_dispatch(
    winners: Sequence[_BranchT],
    cells: Sequence[Cell],
    bounds: Sequence[tuple[int, int | None]],
    merge: bool = True,
) -> DispatchPlan[_BranchT]:
    """Arrange the winners of ``cells`` as branches.

    ``bounds`` has for each axis the smallest and largest size that can occur. Without
    ``merge`` cells with the same winner do not share a branch.
    """
    kept = {
        cell: winner
        for cell, winner in zip(cells, winners, strict=True)
        if all(map(overlaps, cell.ranges, bounds))
    }
    distinct = list(dict.fromkeys(kept.values()))
    numbers = [distinct.index(winner) for winner in kept.values()]
    branches = group_by_winner([*kept], numbers, merge)
    return DispatchPlan(
        [distinct[branch.winner] for branch in branches], plan_decisions(branches)
    )


def group_by_winner(
    cells: Sequence[Cell], winners: Sequence[int], merge: bool = True
) -> tuple[Branch, ...]:
    """One branch for each distinct winner, in the order of their first cells.

    Args:
        cells: the cells.
        winners: the number of each cell's winner.
        merge: if False, every cell becomes a branch of its own.
    """
    if not merge:
        return tuple(Branch(w, (c,)) for c, w in zip(cells, winners, strict=True))
    by_winner: dict[int, list[Cell]] = {}
    for cell, winner in zip(cells, winners, strict=True):
        by_winner.setdefault(winner, []).append(cell)
    return tuple(Branch(w, tuple(own)) for w, own in by_winner.items())


def plan_decisions(branches: Sequence[Branch]) -> DecisionTree:
    """A balanced binary tree in which every branch is one leaf.

    Its depth is ``ceil(log2(branches))``. Each node splits the branches where that
    takes the fewest boxes.
    """
    owners = [(cell, i) for i, branch in enumerate(branches) for cell in branch.cells]
    return _plan([*range(len(branches))], owners)


def decide(tree: DecisionTree, sizes: Sequence[int]) -> int:
    """Index of the branch that the tree picks for sizes, one for each axis."""
    while isinstance(tree, Decision):
        tree = tree.inside if tree.holds(sizes) else tree.outside
    return tree.branch


def _plan(branches: list[int], owners: list[tuple[Cell, int]]) -> DecisionTree:
    if len(branches) == 1:
        return Leaf(branches[0])
    # A subtree of depth d holds at most 2**d leaves, so the cut may move only as
    # far from the middle as both sides still fit below this node.
    capacity = 1 << ((len(branches) - 1).bit_length() - 1)
    middle = len(branches) / 2
    grid = _Grid(owners)
    cuts = OrderedSet(
        tuple(sorted(order[:cut]))
        for order in _orders(owners)
        for cut in range(len(branches) - capacity, capacity + 1)
    )
    covers = {inside: grid.cover(inside) for inside in cuts}

    def cost(inside: tuple[int, ...]) -> tuple[float, ...]:
        boxes = covers[inside]
        bounds = [bound for box in boxes for interval in box for bound in interval]
        comparisons = len(bounds) - bounds.count(None)
        return len(boxes), abs(len(inside) - middle), comparisons

    inside = min(covers, key=cost)
    outside = [branch for branch in branches if branch not in inside]
    return Decision(
        covers[inside],
        _plan([*inside], [o for o in owners if o[1] in inside]),
        _plan(outside, [o for o in owners if o[1] in outside]),
    )


def _orders(owners: list[tuple[Cell, int]]) -> Iterator[list[int]]:
    """The branches in order of their first cells along each axis."""
    starts = [([one.start for one in cell.ranges], branch) for cell, branch in owners]
    for axis in range(len(starts[0][0])):
        ordered = sorted(starts, key=lambda own: (own[0][axis], own[0]))
        yield [*dict.fromkeys(branch for _, branch in ordered)]


class _Grid:
    """The cells that get to a node, each by the numbers of its ranges on the axes.

    What no cell takes up belongs to nobody: no size from there gets to the node.
    """

    def __init__(self, owners: list[tuple[Cell, int]]) -> None:
        self._axes = [
            sorted(dict.fromkeys(ranges), key=lambda one: one.start)
            for ranges in zip(*(cell.ranges for cell, _ in owners))
        ]
        numbers = [{r: i for i, r in enumerate(ranges)} for ranges in self._axes]
        self._owners = [
            (tuple(number[r] for number, r in zip(numbers, cell.ranges)), branch)
            for cell, branch in owners
        ]

    def cover(self, inside: Sequence[int]) -> tuple[Box, ...]:
        """Few boxes with all cells of the branches inside, and none of the others."""
        members = frozenset(inside)
        own = [place for place, branch in self._owners if branch in members]
        others = OrderedSet(p for p, branch in self._owners if branch not in members)
        boxes = []
        left = sorted(own)
        while left:
            grown = (
                self._grow(left[0], others, order)
                for order in itertools.permutations(range(len(self._axes)))
            )
            best = max(grown, key=lambda block: len(_held(block, left)))
            boxes.append(self._box(best, _held(best, own)))
            left = [place for place in left if not _held(best, [place])]
        return tuple(boxes)

    def _grow(
        self, place: _Place, others: OrderedSet[_Place], order: Sequence[int]
    ) -> _Block:
        """Widen along each axis, in this order, as far as there are no others."""
        block = [range(number, number + 1) for number in place]

        def is_free(axis: int, number: int) -> bool:
            layer = [*block[:axis], (number,), *block[axis + 1 :]]
            return not any(one in others for one in itertools.product(*layer))

        for axis in order:
            low = high = place[axis]
            while low > 0 and is_free(axis, low - 1):
                low -= 1
            while high + 1 < len(self._axes[axis]) and is_free(axis, high + 1):
                high += 1
            block[axis] = range(low, high + 1)
        return tuple(block)

    def _box(self, block: _Block, held: Sequence[_Place]) -> Box:
        """The sizes of the cells held; open where the block could grow to the end."""
        box: list[Interval] = []
        for ranges, numbers, taken in zip(self._axes, block, zip(*held)):
            start = ranges[min(taken)].start if numbers[0] > 0 else None
            end = ranges[max(taken)].end if numbers[-1] < len(ranges) - 1 else None
            box.append((start, end))
        return tuple(box)


def _held(block: _Block, places: Sequence[_Place]) -> list[_Place]:
    """Those in a block."""
    return [
        one for one in places if all(n in numbers for numbers, n in zip(block, one))
    ]
