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
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence


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

    lasts = [max(numbers) for numbers in zip(*places)]
    # About four cells on the longest axis.
    stride = 1 << max((max(lasts, default=0) // 3).bit_length() - 1, 0)
    for place in places:
        if _corners(place, lasts, stride) == [place]:
            take(place)
    while stride > 1:
        for place in places:
            if place in found or place in waiting:
                continue
            if _corners(place, lasts, stride // 2) != [place]:
                continue
            around = _corners(place, lasts, stride)
            winners = OrderedSet(found.get(one, expected.get(one)) for one in around)
            winners.discard(None)
            if len(winners) == 1:
                (expected[place],) = winners
                waiting.add(place)
            else:
                take(place)
        stride //= 2
    for place in [*waiting]:
        take(place)
    return found


def _corners(place: Place, lasts: Sequence[int], stride: int) -> list[Place]:
    """The corners of the smallest block that holds a place, of those whose corners lie
    a stride apart or at an end of an axis; the place alone if it is such a corner."""
    sides = []
    for number, last in zip(place, lasts):
        below = number - number % stride
        is_corner = number in (below, last)
        sides.append((number,) if is_corner else (below, min(below + stride, last)))
    return [*itertools.product(*sides)]


def neighbours(places: Sequence[Place]) -> list[list[int]]:
    """For each place the indices of those beside it, earlier ones first."""
    index = {place: i for i, place in enumerate(places)}
    beside = []
    for place in places:
        near = (
            (*place[:axis], place[axis] + step, *place[axis + 1 :])
            for axis in range(len(place))
            for step in (-1, 1)
        )
        beside.append(sorted(index[one] for one in near if one in index))
    return beside


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
