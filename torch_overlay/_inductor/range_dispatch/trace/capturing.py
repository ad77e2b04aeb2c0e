"""Lets Dynamo trace an implementation, as it does when that is compiled alone.

Dynamo keeps Python's arithmetic on sizes symbolic, sees through cached helpers and
turns a size that is used as an index into an operator. What it decides by a size
becomes a condition, in the symbols of the operands that it is given.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import Any, TYPE_CHECKING

import sympy

import torch
import torch.utils._pytree as pytree
from torch._dynamo import config as dynamo_config
from torch._dynamo.convert_frame import fullgraph_capture
from torch._dynamo.utils import counters, get_metrics_context
from torch._inductor.range_dispatch.call.sizes import bounds_of
from torch._inductor.range_dispatch.trace.drops import CandidateRejected
from torch.fx.experimental import _config as symbolic_config
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils._python_dispatch import _disable_current_modes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch.fx.experimental.symbolic_shapes import ShapeEnv


_LOGGERS = (
    "torch._dynamo",
    "torch._subclasses.fake_tensor",
    "torch.fx.experimental.symbolic_shapes",
)

# Below it Dynamo takes a size for a constant, and from it on for a symbol.
_LEAST_SYMBOLIC = 2


def capture(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Callable[..., Any], Sequence[sympy.Basic]]:
    """Trace a call whose tensors are fake, with symbols of the graph being compiled.

    Gives what computes the same where the conditions hold.

    Raises:
        CandidateRejected: there is nothing that Dynamo would compile.
        Exception: whatever Dynamo cannot trace, or the implementation raises.
    """

    def implementation(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    # Sizes that may be 0 or 1 must not be taken for larger ones.
    leaves = pytree.tree_leaves([*args, *kwargs.values()])
    sizes = [size for leaf in leaves for size in getattr(leaf, "shape", ())]
    are_small = [
        bounds_of(size.node.expr)[0] < _LEAST_SYMBOLIC
        for size in sizes
        if isinstance(size, torch.SymInt)
    ]
    oblivious = symbolic_config.backed_size_oblivious or any(are_small)
    patch: Any = symbolic_config.patch  # type: ignore[attr-defined]
    with (
        _as_compiled_alone(),
        _disable_current_modes(),
        get_metrics_context(),
        patch(backed_size_oblivious=oblivious),
    ):
        output = fullgraph_capture(implementation, tuple(args), dict(kwargs))
    if output.backend_input is None:
        raise CandidateRejected("Dynamo has nothing to trace", "")
    scope = {"L": {"args": tuple(args), "kwargs": dict(kwargs)}}
    traced = output.forward_callable(extra_globals=implementation.__globals__)
    return traced, _conditions(output.backend_input.fake_mode.shape_env, scope)


@contextlib.contextmanager
def _as_compiled_alone() -> Iterator[None]:
    """Closed-over numbers and sizes are constants, and nothing that is counted or
    logged tells of the trace."""
    before = {name: counter.copy() for name, counter in counters.items()}
    try:
        with (
            dynamo_config.patch(
                assume_static_by_default=True,
                automatic_dynamic_shapes=False,
                specialize_float=True,
                specialize_int=False,
            ),
            quiet(),
        ):
            yield
    finally:
        for name, counter in counters.items():
            counter.clear()
            counter.update(before.get(name, {}))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep to ourselves what the base says of a trace whose failure is reported.

    Who asked for these logs gets them.
    """
    loggers = map(logging.getLogger, _LOGGERS)
    levels = {one: one.level for one in loggers if not one.isEnabledFor(logging.INFO)}
    try:
        for logger in levels:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def _conditions(inner: ShapeEnv | None, scope: dict[str, Any]) -> Sequence[sympy.Basic]:
    """What Dynamo assumed of sizes, in terms of the operands' symbols."""
    if inner is None:
        raise AssertionError("Dynamo traces with a shape environment")
    sizes: dict[sympy.Basic, sympy.Basic] = {}
    for symbol, sources in inner.var_to_sources.items():
        sizes[symbol] = inner.backed_var_to_val.get(symbol, symbol)
        for source in sources:
            # One that is no operand's is closed over, and so a constant.
            with contextlib.suppress(Exception):
                sizes[symbol] = _expr(source.get_value({}, scope, {}))
    found = [guard.expr.xreplace(sizes) for guard in inner.guards]
    return [one for one in found if not free_unbacked_symbols(one)]


def _expr(size: Any) -> sympy.Basic:
    return size.node.expr if isinstance(size, torch.SymInt) else sympy.sympify(size)
