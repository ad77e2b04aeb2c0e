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
from torch.fx.experimental.symbolic_shapes import (
    _ShapeEnvGuardError,
    free_unbacked_symbols,
    ShapeEnv,
    StrictMinMaxConstraint,
)
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch._inductor.range_dispatch.ranges import Cell

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
    """Whether it says that two sizes are equal, neither of them a constant."""
    return (
        isinstance(condition, sympy.Eq)
        and all(side.free_symbols for side in condition.args)
        and len(condition.free_symbols) > 1
    )


def joined(
    symbols: OrderedSet[sympy.Symbol], equalities: Sequence[sympy.Basic]
) -> OrderedSet[sympy.Symbol]:
    """Symbols, and those that equalities make depend on them."""
    found = OrderedSet([*symbols])
    for _ in equalities:
        for one in equalities:
            if one.free_symbols & found:
                found |= one.free_symbols
    return found


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


@dataclass(frozen=True)
class Promised:
    """Symbols of dimensions that the user promised something of.

    Those ``marked`` dynamic must not become constants, and those that were given
    ``bounds`` must not be guarded on at all.
    """

    marked: OrderedSet[sympy.Symbol]
    bounded: OrderedSet[sympy.Symbol]

    @classmethod
    def of(cls, shape_env: ShapeEnv) -> Promised:
        """What the inputs of the graph that is compiled were marked with."""
        marked: OrderedSet[sympy.Symbol] = OrderedSet()
        bounded: OrderedSet[sympy.Symbol] = OrderedSet()
        for tracked in shape_env.tracked_fakes or ():
            constraints = getattr(tracked.symbolic_context, "constraint_sizes", None)
            for size, constraint in zip(
                getattr(tracked.fake, "shape", ()), constraints or ()
            ):
                # Sizes that were seen to change are marked so that it only warns.
                if getattr(constraint, "warn_only", True) or not hasattr(size, "node"):
                    continue
                symbols = shape_env.replace(size.node.expr).free_symbols
                marked |= symbols
                if isinstance(constraint, StrictMinMaxConstraint):
                    bounded |= symbols
        return cls(marked, bounded)


def is_guard_error(error: Exception) -> bool:
    """Whether an exception says that a frozen shape environment refused a guard."""
    return isinstance(error, _ShapeEnvGuardError) or (
        isinstance(error, AssertionError)
        and "Guard attempted while ShapeEnv guards are frozen" in str(error)
    )
