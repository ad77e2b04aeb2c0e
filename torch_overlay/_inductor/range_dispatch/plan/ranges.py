"""Ranges of dispatched sizes, and the grid that they span: plain integers, no torch.

A registration's split points cut the sizes of each dispatched dimension, an *axis*,
into ranges.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class SizeRange:
    """The sizes from ``start`` to ``end``, both included; ``end`` is None if open."""

    start: int
    end: int | None

    def __contains__(self, size: int) -> bool:
        return self.start <= size and (self.end is None or size <= self.end)

    def __str__(self) -> str:
        return f"[{self.start}, {'inf' if self.end is None else self.end}]"


@dataclass(frozen=True)
class Cell:
    """A cell of a grid of ranges: one range for each dispatched size."""

    ranges: tuple[SizeRange, ...]

    def __contains__(self, sizes: Sequence[int]) -> bool:
        return all(n in r for n, r in zip(sizes, self.ranges, strict=True))

    def __str__(self) -> str:
        return " x ".join(map(str, self.ranges)) or "[0, inf]"


def hull_of(cells: Sequence[Cell]) -> Cell:
    """The smallest cell that holds all of these."""
    ranges = []
    for own in zip(*(cell.ranges for cell in cells)):
        ends = [one.end for one in own]
        last = None if None in ends else max(end for end in ends if end is not None)
        ranges.append(SizeRange(min(one.start for one in own), last))
    return Cell(tuple(ranges))


def ranges_from_split_points(split_points: Sequence[int]) -> tuple[SizeRange, ...]:
    """The ranges between split points; each split point ends its range.

    ``[512, 2048]`` gives ``[0, 512]``, ``[513, 2048]`` and ``[2049, inf]``. Without
    split points there is one range, of all sizes.
    """
    starts = [0, *(point + 1 for point in split_points)]
    return tuple(map(SizeRange, starts, [*split_points, None]))


def overlaps(size_range: SizeRange, bounds: tuple[int, int | None]) -> bool:
    """Whether a range holds at least one size from the first to the last of bounds."""
    lower, upper = bounds
    return (size_range.end is None or lower <= size_range.end) and (
        upper is None or size_range.start <= upper
    )


def cells_of_grid(axes: Sequence[Sequence[SizeRange]]) -> tuple[Cell, ...]:
    """The cells of a grid: all combinations of a range from each axis.

    The last axis changes fastest.
    """
    return tuple(map(Cell, itertools.product(*axes)))


def cell_of(cells: Sequence[Cell], sizes: Sequence[int]) -> int:
    """Index of the cell that holds the sizes; cells cover all sizes.

    Raises:
        ValueError: none does.
    """
    for index, cell in enumerate(cells):
        if sizes in cell:
            return index
    raise ValueError(f"no cell holds {sizes}")
