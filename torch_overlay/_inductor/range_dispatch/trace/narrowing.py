"""Tracing with the knowledge that a branch runs for the sizes of its range only."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import sympy

from torch._inductor.range_dispatch.sizes import (
    bounds_of,
    grows_with,
    largest_within,
    Sample,
    settled,
)
from torch._inductor.range_dispatch.trace.scratch import (
    add_guard,
    decide_by,
    forget_evaluations,
    scratch,
)
from torch.utils._ordered_set import OrderedSet
from torch.utils._sympy.value_ranges import ValueRanges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch._inductor.range_dispatch.ranges import Cell, SizeRange
    from torch._inductor.range_dispatch.sizes import SymbolValues
    from torch.fx.experimental.symbolic_shapes import ShapeEnv


@contextlib.contextmanager
def tried_in(
    sizes: Sequence[sympy.Expr],
    cell: Cell | None,
    values: SymbolValues | None,
    shape_env: ShapeEnv,
    equalities: Sequence[sympy.Basic] = (),
) -> Iterator[Sequence[sympy.Expr]]:
    """Let guards be added for sizes of a cell, and take them back at the end.

    ``values`` stand for the sizes seen at compile time, and ``equalities`` hold. Gives
    the sizes as they are then.
    """
    with scratch(shape_env), contextlib.ExitStack() as stack:
        for one in equalities:
            add_guard(shape_env, one)
        now = [shape_env.replace(size) for size in sizes]
        if values is not None:  # first: what is seen must be in its bounds
            decide_by(shape_env, settled(Sample(values), sizes).values)
        if cell is not None:
            stack.enter_context(known_to_be_in(now, cell, shape_env))
        yield now


@contextlib.contextmanager
def known_to_be_in(
    sizes: Sequence[sympy.Expr], cell: Cell, shape_env: ShapeEnv
) -> Iterator[None]:
    """Let comparisons that ``cell`` decides be evaluated without a guard.

    Nothing may be guarded on inside: what holds here does not hold for the graph.
    """
    ranges = shape_env.var_to_range
    before = {symbol: ranges[symbol] for size in sizes for symbol in size.free_symbols}
    for size, size_range in zip(sizes, cell.ranges, strict=True):
        if not all(grows_with(size, s) for s in size.free_symbols):
            continue
        for symbol in size.free_symbols:
            bounds = _bounds(size, symbol, size_range, shape_env)
            known = ranges[symbol]
            # A range that no value of the symbol hits decides nothing.
            if bounds.lower <= known.upper and known.lower <= bounds.upper:
                ranges[symbol] = known & bounds
    forget_evaluations(shape_env)
    try:
        yield
    finally:
        shape_env.var_to_range.update(before)
        forget_evaluations(shape_env)


def _bounds(
    size: sympy.Expr, symbol: sympy.Symbol, size_range: SizeRange, shape_env: ShapeEnv
) -> ValueRanges[sympy.Expr]:
    """What ``size`` in its range says of one symbol that it grows with."""
    lower, upper = bounds_of(symbol, shape_env)
    least, most = {}, {}
    for other in size.free_symbols - OrderedSet([symbol]):
        least[other], most[other] = bounds_of(other, shape_env)
    if size_range.end is not None:
        upper = largest_within(size, symbol, least, size_range.end, shape_env)
    if size_range.start > 0 and None not in most.values():
        below = largest_within(size, symbol, most, size_range.start - 1, shape_env)
        if below >= lower and int(size.xreplace({**most, symbol: below})) < (
            size_range.start
        ):
            lower = below + 1
    if upper is None:
        return ValueRanges.unknown_int() & ValueRanges(lower, sympy.oo)
    return ValueRanges(lower, max(upper, lower))
