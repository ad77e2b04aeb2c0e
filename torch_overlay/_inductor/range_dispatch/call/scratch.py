"""A shape environment to try things in: what is found out there is forgotten."""

from __future__ import annotations

import contextlib
from typing import Any, TYPE_CHECKING

import sympy

from torch._inductor.range_dispatch.call.sizes import (
    bounds_of,
    grows_with,
    largest_within,
    Sample,
    with_equal_sizes,
)
from torch.fx.experimental.symbolic_shapes import _ShapeEnvGuardError
from torch.utils._ordered_set import OrderedSet
from torch.utils._sympy.value_ranges import ValueRanges

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch._inductor.range_dispatch.call.sizes import SymbolValues

    from torch._inductor.range_dispatch.plan.ranges import Cell, SizeRange
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

_CONTAINERS = (dict, list, set, OrderedSet)  # noqa: set_linter (the base has both)

# Counters that belong to the containers that are put back.
_COUNTERS = ("num_deferred_runtime_asserts", "frozen")


@contextlib.contextmanager
def scratch(shape_env: ShapeEnv) -> Iterator[None]:
    """Let guards be added freely, and take them back at the end.

    So are equalities, ranges and what else they imply for the symbols that were there
    before; what is known of symbols that are made inside stays.
    """
    known = OrderedSet(shape_env.var_to_range)
    containers = {
        name: (value, _copied(value))
        for name, value in vars(shape_env).items()
        if isinstance(value, _CONTAINERS)
    }
    counters = {name: getattr(shape_env, name) for name in _COUNTERS}
    shape_env.frozen = False
    forget_evaluations(shape_env)
    try:
        yield
    finally:
        new = OrderedSet(shape_env.var_to_range) - known
        for value, before in containers.values():
            _put_back(value, before, new)
        vars(shape_env).update(counters)
        forget_evaluations(shape_env)


def add_guard(shape_env: ShapeEnv, guard: sympy.Basic) -> bool:
    """Guard on a condition, with all that follows from it; False if it does not hold
    for the sizes that are decided by."""
    holds = bool(shape_env.evaluate_expr(guard))
    # What a guard implies is not part of the version of the cached derivations.
    shape_env._version_counter += 1
    return holds


def decide_by(shape_env: ShapeEnv, values: Mapping[sympy.Symbol, int]) -> None:
    """Let sizes be these, not what was seen at compile time; for use in ``scratch``.

    Symbols that are known to be equal to others follow them.
    """
    seen = shape_env.backed_var_to_val
    equal = {symbol: shape_env.replace(symbol) for symbol in [*shape_env.replacements]}
    for symbol, value in values.items():
        if symbol in seen:
            seen[symbol] = sympy.Integer(value)
    for symbol, expr in equal.items():
        if symbol in seen and expr.free_symbols <= seen.keys():
            seen[symbol] = expr.xreplace(seen)
    forget_evaluations(shape_env)


def forget_evaluations(shape_env: ShapeEnv) -> None:
    """Drop results that were derived from what is known of symbols."""
    shape_env._prev_cache_key = shape_env._get_key()
    shape_env._version_counter += 1
    shape_env._replacements_version_counter += 1
    shape_env._resimplify_floor_div_axioms = True
    for method in vars(type(shape_env)).values():
        if hasattr(method, "cache_clear"):
            method.cache_clear()  # not all look at the version


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
            decide_by(shape_env, with_equal_sizes(Sample(values), sizes).values)
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


def is_guard_error(error: Exception) -> bool:
    """Whether an exception says that a frozen shape environment refused a guard."""
    return isinstance(error, _ShapeEnvGuardError) or (
        isinstance(error, AssertionError)
        and "Guard attempted while ShapeEnv guards are frozen" in str(error)
    )


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


def _copied(container: Any) -> Any:
    """A copy, also of lists that a dictionary holds."""
    if not isinstance(container, dict):
        return container.copy()
    copied = container.copy()
    for key, value in container.items():
        if isinstance(value, list):
            copied[key] = value.copy()
    return copied


def _put_back(container: Any, before: Any, new: OrderedSet[Any]) -> None:
    """Let the container hold what it did before, and what is about new symbols."""
    if isinstance(container, list):
        container[:] = before
        return
    if isinstance(container, dict):
        # Some are by symbol, others by a symbol's name.
        names = OrderedSet(symbol.name for symbol in new)
        kept: Any = {k: v for k, v in container.items() if k in new or k in names}
        kept.update(before)
    else:
        kept = [*before, *(one for one in container if one in new)]
    container.clear()
    container.update(kept)
