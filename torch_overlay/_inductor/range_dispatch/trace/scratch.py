"""A shape environment to try things in: what is found out there is forgotten."""

from __future__ import annotations

import contextlib
from typing import Any, TYPE_CHECKING

import sympy

from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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
