"""Guards that are tried, and what a range of sizes says of symbols."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import sympy

from torch._inductor.range_dispatch.call.sizes import (
    agreeing,
    bounds_of,
    evaluate,
    grows_with,
    largest_within,
)
from torch._inductor.virtualized import V
from torch.utils._ordered_set import OrderedSet
from torch.utils._sympy.value_ranges import ValueRanges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch._inductor.range_dispatch.call.sizes import SymbolValues
    from torch._inductor.range_dispatch.plan.ranges import Cell, SizeRange


def add_guard(guard: sympy.Basic) -> bool:
    """Guard on a condition, with all that follows from it; False if it does not hold
    for the sizes that are decided by."""
    shape_env = V.graph.sizevars.shape_env
    holds = bool(shape_env.evaluate_expr(guard))
    shape_env.forget_derived()
    return holds


@contextlib.contextmanager
def tried_in(
    sizes: Sequence[sympy.Expr],
    cell: Cell | None,
    values: SymbolValues | None,
    equalities: Sequence[sympy.Basic] = (),
) -> Iterator[None]:
    """Let guards be added for sizes of a cell, and take them back at the end.

    ``values`` stand for the sizes seen at compile time, and ``equalities`` hold.
    """
    shape_env = V.graph.sizevars.shape_env
    with shape_env.scratch():
        for one in equalities:
            add_guard(one)
        agreed = agreeing(values, sizes) if values else {}
        seen = shape_env.backed_var_to_val
        hints = {s: sympy.Integer(n) for s, n in agreed.items() if s in seen}
        with shape_env.scratch(hints), contextlib.ExitStack() as stack:
            if cell is not None:
                stack.enter_context(known_to_be_in(cell, sizes))
            yield


@contextlib.contextmanager
def known_to_be_in(cell: Cell, sizes: Sequence[sympy.Expr]) -> Iterator[None]:
    """Let symbols have the ranges inside that they have where sizes are in a cell."""
    shape_env = V.graph.sizevars.shape_env
    with contextlib.ExitStack() as stack:
        for size, size_range in zip(map(shape_env.replace, sizes), cell.ranges):
            ranges = _ranges_in(size_range, size)
            stack.enter_context(shape_env.scratch(ranges=ranges))
        yield


def _ranges_in(
    size_range: SizeRange, size: sympy.Expr
) -> dict[sympy.Symbol, ValueRanges[sympy.Expr]]:
    ranges: dict[sympy.Symbol, ValueRanges[sympy.Expr]] = {}
    if all(grows_with(size, symbol) for symbol in size.free_symbols):
        for symbol in size.free_symbols:
            known = V.graph.sizevars.shape_env.var_to_range[symbol]
            bounds = _bounds(size, symbol, size_range)
            # A range that no value of the symbol hits decides nothing.
            if bounds.lower <= known.upper and known.lower <= bounds.upper:
                ranges[symbol] = known & bounds
    return ranges


def _bounds(
    size: sympy.Expr, symbol: sympy.Symbol, size_range: SizeRange
) -> ValueRanges[sympy.Expr]:
    """What ``size`` in its range says of one symbol that it grows with."""
    lower, upper = bounds_of(symbol)
    others = size.free_symbols - OrderedSet([symbol])
    least, most = {}, {}
    for other in others:
        least[other], most[other] = bounds_of(other)
    if size_range.end is not None:
        upper = largest_within(size, symbol, least, size_range.end)
    if size_range.start > 0 and None not in most.values():
        below = largest_within(size, symbol, most, size_range.start - 1)
        if below >= lower and evaluate(size, {**most, symbol: below}) < (
            size_range.start
        ):
            lower = below + 1
    if upper is None:
        return ValueRanges.unknown_int() & ValueRanges(lower, sympy.oo)
    return ValueRanges(lower, max(upper, lower))
