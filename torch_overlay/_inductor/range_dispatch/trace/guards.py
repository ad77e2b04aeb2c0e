"""What a candidate's graph needs of sizes, judged by what it is about.

A condition on the dispatched size is decided by the range that the graph is for. If it
is not, the graph is of use for a winner that was given, with a guard for that range.
Conditions on other sizes are guards of the graph that is compiled if the candidate
wins, as they would be if it were compiled alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sympy

from torch._inductor.range_dispatch.trace.proving import holds_for_all
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch._inductor.range_dispatch.plan.ranges import Cell

    # The smallest and the largest value, None if there is none.
    Bounds = Mapping[sympy.Symbol, tuple[int, int | None]]


@dataclass(frozen=True)
class Needs:
    """Conditions under which a candidate's graph is right.

    Those ``of_range`` concern only sizes of the range that the graph is for, and were
    not decided by it; the others hold ``always``.
    """

    always: tuple[sympy.Basic, ...] = ()
    of_range: tuple[sympy.Basic, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.always or self.of_range)


def sort_needs(
    conditions: Iterable[sympy.Basic],
    dispatched: OrderedSet[sympy.Symbol],
    bounds: Bounds,
) -> Needs:
    """What is left of conditions, of which some are true for all sizes in bounds.

    That different sizes are equal is part of what a call means, whichever they are.
    """
    always: OrderedSet[sympy.Basic] = OrderedSet()
    of_range: OrderedSet[sympy.Basic] = OrderedSet()
    for condition in conditions:
        if free_unbacked_symbols(condition) or _is_known(condition, bounds):
            continue
        if condition.free_symbols <= dispatched and not equates_sizes(condition):
            of_range.add(condition)
        else:
            always.add(condition)
    return Needs(tuple(always), tuple(of_range))


def equates_sizes(condition: sympy.Basic) -> bool:
    """Whether it says that two sizes are equal, neither of them a constant.

    What it says of one size and others besides, as that it is divisible, is no such.
    """
    if not isinstance(condition, sympy.Eq):
        return False
    left, right = (side.free_symbols for side in condition.args)
    return not (left <= right or right <= left)


def simplified(condition: sympy.Basic) -> sympy.Basic:
    """An equation without what both sides have; another condition as it is."""
    if not isinstance(condition, sympy.Eq):
        return condition
    left, right = condition.args
    _, difference = sympy.expand(left - right).primitive()
    parts = sympy.Add.make_args(difference)
    taken = [one for one in parts if one.could_extract_minus_sign()]
    added = [one for one in parts if not one.could_extract_minus_sign()]
    equation = sympy.Eq(sympy.Add(*added), -sympy.Add(*taken))
    return min(condition, equation, key=sympy.count_ops)


def _is_known(condition: sympy.Basic, bounds: Bounds) -> bool:
    symbols = [*condition.free_symbols]
    if not symbols:
        return condition == sympy.true
    if len(symbols) > 1 or symbols[0] not in bounds:
        return False
    return holds_for_all(condition, *bounds[symbols[0]])


def within(cells: Sequence[Cell], sizes: Sequence[sympy.Expr]) -> sympy.Basic:
    """The condition that the dispatched sizes lie in one of the cells."""
    boxes = []
    for cell in cells:
        sides = []
        for size, size_range in zip(sizes, cell.ranges, strict=True):
            if size_range.start:
                sides.append(sympy.Ge(size, size_range.start))
            if size_range.end is not None:
                sides.append(sympy.Le(size, size_range.end))
        boxes.append(sympy.And(*sides))
    return sympy.Or(*boxes)
