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

from torch._inductor.range_dispatch.call.sizes import bounds_of, symbols_of
from torch._inductor.range_dispatch.trace.proving import holds_for_all
from torch._inductor.virtualized import V
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.plan.ranges import Cell


@dataclass(frozen=True)
class Needs:
    """Conditions under which a candidate's graph is right.

    Those ``of_range`` concern only sizes of the range that the graph is for, and were
    not decided by it; the others hold ``always``.
    """

    always: tuple[sympy.Basic, ...] = ()
    of_range: tuple[sympy.Basic, ...] = ()

    @property
    def all(self) -> tuple[sympy.Basic, ...]:
        return self.always + self.of_range

    def __bool__(self) -> bool:
        return bool(self.all)


@dataclass(frozen=True)
class Asked:
    """Conditions that were asked for, and what of them there is ``needs`` to guard on.

    ``constants`` are symbols that became numbers, ``dispatched`` those of the
    dispatched sizes, with those that are equal to them. If ``fixes_size``, a dispatched
    size as a whole became a number.
    """

    conditions: Sequence[sympy.Basic]
    needs: Needs
    constants: dict[sympy.Symbol, sympy.Integer]
    dispatched: OrderedSet[sympy.Symbol]
    fixes_size: bool

    @property
    def equalities(self) -> list[sympy.Basic]:
        """Which different sizes have to be equal."""
        return [one for one in self.conditions if equates_sizes(one)]


class Listener:
    """Collects the guards that are added to the shape environment from now on."""

    def __init__(self, call: BoundCall, sizes: Sequence[sympy.Expr]) -> None:
        """``sizes`` are the dispatched ones, with the bounds that they have now."""
        self._shape_env = V.graph.sizevars.shape_env
        self._sizes = [self._shape_env.replace(size) for size in sizes]
        self._own, self._given = symbols_of(self._sizes), symbols_of(sizes)
        symbols = call.size_symbols() | self._own
        self._bounds = {symbol: bounds_of(symbol) for symbol in symbols}
        self._open = [s for s in symbols if not self._shape_env.replace(s).is_Integer]
        self._before = len(self._shape_env.guards)

    def asked(self, equalities: Sequence[sympy.Basic] = ()) -> Asked:
        """What was asked since; ``equalities`` were before, for the same graph."""
        replace = self._shape_env.replace
        added = self._shape_env.guards[self._before :]
        conditions = [*equalities, *(simplified(guard.expr) for guard in added)]
        # A bound may leave a range one size, and is still a bound.
        equated = [one for one in conditions if isinstance(one, sympy.Eq)]
        fixed = symbols_of(equated)
        constants = {
            symbol: replace(symbol)
            for symbol in self._open
            if symbol in fixed and replace(symbol).is_Integer
        }
        dispatched, bounds = self._given | self._own, dict(self._bounds)
        for symbol in [*dispatched]:
            now = replace(symbol)
            dispatched |= now.free_symbols
            if symbol in self._own and now.is_Symbol:
                bounds[now] = bounds[symbol]
        always: OrderedSet[sympy.Basic] = OrderedSet()
        of_range: OrderedSet[sympy.Basic] = OrderedSet()
        for condition in conditions:
            if free_unbacked_symbols(condition) or _is_known(condition, bounds):
                continue
            # That sizes are equal is part of what a call means, whichever they are.
            is_of_range = condition.free_symbols <= dispatched
            is_of_range = is_of_range and not equates_sizes(condition)
            (of_range if is_of_range else always).add(condition)
        fixes_size = any(
            replace(size).is_Integer and size.free_symbols & constants.keys()
            for size in self._sizes
        )
        needs = Needs(tuple(always), tuple(of_range))
        return Asked(conditions, needs, constants, dispatched, fixes_size)


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


def _is_known(
    condition: sympy.Basic, bounds: dict[sympy.Symbol, tuple[int, int | None]]
) -> bool:
    """Whether it is true for all sizes in bounds."""
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
