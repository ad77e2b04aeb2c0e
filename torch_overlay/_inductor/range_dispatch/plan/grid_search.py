"""The order in which the cells of a grid are measured: plain numbers, no torch.

Cells that lie a power of two apart come first. Of those between them only the ones are
needed whose neighbours have different winners; the others are measured with what is
left of the budget.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeAlias

from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Hashable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )


# The numbers of a cell's ranges on the axes.
Place: TypeAlias = tuple[int, ...]


def search_grid(
    places: Sequence[Place], measure: Callable[[Place], Hashable | None]
) -> dict[Place, Hashable]:
    """The winners of the places that were measured.

    ``measure`` gives a place's winner, None if that is beyond the budget. It may be
    asked for a place twice, as what is refused at first may turn out to be cheap.
    """
    found: dict[Place, Hashable] = {}
    expected: dict[Place, Hashable] = {}
    waiting: OrderedSet[Place] = OrderedSet()

    def take(place: Place) -> None:
        winner = measure(place)
        if winner is None:
            waiting.add(place)
        else:
            found[place] = winner
            waiting.discard(place)

    stride = _coarsest(places)
    lattice = _Lattice(places, stride)
    for place in lattice.places:
        take(place)
    while stride > 1:
        stride //= 2
        coarser, lattice = lattice, _Lattice(places, stride)
        for place in lattice.places:
            if place in found or place in waiting:
                continue
            around = (
                found.get(one, expected.get(one)) for one in coarser.around(place)
            )
            corners = OrderedSet(winner for winner in around if winner is not None)
            if len(corners) == 1:
                (expected[place],) = corners
                waiting.add(place)
            else:
                take(place)
    for place in [*waiting]:
        take(place)
    return found


def neighbours(places: Sequence[Place]) -> list[list[int]]:
    """For each place the indices of those beside it, earlier ones first."""
    index = {place: i for i, place in enumerate(places)}
    steps = [
        tuple(sign if i == axis else 0 for i in range(len(place)))
        for place in places[:1]
        for sign in (-1, 1)
        for axis in range(len(place))
    ]
    return [
        sorted(
            index[near]
            for step in steps
            if (near := tuple(map(sum, zip(place, step)))) in index
        )
        for place in places
    ]


def steps_between(one: Place, other: Place) -> int:
    """How many neighbours lie between, and one."""
    return sum(abs(a - b) for a, b in zip(one, other))


def without_clear_neighbours(
    found: Mapping[Place, Hashable], places: Iterable[Place]
) -> list[Place]:
    """The places without a winner whose nearest ones have different winners."""
    unclear = []
    for place in places:
        if place not in found:
            steps = {one: steps_between(one, place) for one in found}
            nearest = min(steps.values(), default=0)
            around = OrderedSet(found[one] for one in found if steps[one] == nearest)
            if len(around) != 1:
                unclear.append(place)
    return unclear


def _coarsest(places: Sequence[Place]) -> int:
    """About four cells on the longest axis."""
    longest = max((max(place, default=0) for place in places), default=0)
    return 1 << max((longest // 3).bit_length() - 1, 0)


class _Lattice:
    """Places that lie a stride apart, or at an end of an axis."""

    def __init__(self, places: Sequence[Place], stride: int) -> None:
        self._lasts = [max(numbers) for numbers in zip(*places)]
        self._stride = stride
        self.places = [place for place in places if all(self._has(*place))]

    def _has(self, *place: int) -> Iterator[bool]:
        for number, last in zip(place, self._lasts):
            yield number % self._stride == 0 or number == last

    def around(self, place: Place) -> list[Place]:
        """The corners of the smallest block with a place, whether there are such."""
        sides = []
        for number, last, has in zip(place, self._lasts, self._has(*place)):
            below = number - number % self._stride
            above = min(below + self._stride, last)
            sides.append((number,) if has else (below, above))
        return [*itertools.product(*sides)]
