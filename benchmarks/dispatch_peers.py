"""Builds the peers of the dispatch benchmark; runs inside the worker processes."""

from __future__ import annotations

import bisect
import inspect
import itertools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor.kernel import custom_op
from torch._inductor.kernel.custom_op import (
    CustomOpConfig,
    register_custom_op_autotuning,
)
from workload import (
    call_site,
    define,
    define_op,
    if_chain,
    Implementation,
    make_implementation,
    split_points,
)


inductor = CompileCounterWithBackend("inductor")
"""Inductor, and the number of graphs that it was given (``frame_count``): one more is
a recompilation, which would pass unnoticed otherwise."""


def build(peer: str, branches: int) -> Implementation:
    """The peer's function of ``x`` and ``weight``; compiles when it is called."""
    implementations = [make_implementation(branch) for branch in range(branches)]
    return BUILDERS[peer](implementations)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled for all sizes at once, at its first call."""
    return torch.compile(function, dynamic=True, backend=inductor)


def plain(implementations: Sequence[Implementation]) -> Implementation:
    """Every implementation compiled by itself.

    The caller may take the right one out of ``by_size``, to call it without the
    choice.
    """
    return _Chosen([compiled(call_site(one)) for one in implementations])


class _Chosen:
    """Compiled functions, of which :meth:`for_size` picks before the clock starts."""

    def __init__(self, functions: Sequence[Implementation]) -> None:
        self._functions = functions
        self._points = split_points(len(functions))

    def for_size(self, size: int) -> Implementation:
        """The function for this size."""
        return self._functions[bisect.bisect_left(self._points, size)]

    def __call__(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return self.for_size(x.shape[1])(x, weight)


def range_dispatch(implementations: Sequence[Implementation]) -> Implementation:
    """The op with a range for each implementation, whichever torch this is."""
    # A single branch takes two ranges with the same winner, as the base needs a point.
    winners = [*range(len(implementations))]
    points = split_points(len(winners))
    if not points:
        winners, points = [0, 0], split_points(2)
    op = define_op(implementations[0])
    configs = [CustomOpConfig(one) for one in implementations]
    arguments: dict[str, Any] = {
        "configs": configs,
        "dispatch_on": {"tensor_name": "x", "dim": 1},
        "split_points": points,
    }
    if "winners" in inspect.signature(register_custom_op_autotuning).parameters:
        arguments["winners"] = winners
    else:
        force_winners([implementations[winner] for winner in winners])
    register_custom_op_autotuning(op, **arguments)
    return compiled(call_site(op))


def force_winners(winners: Sequence[Callable[..., Any]]) -> None:
    """Make the base take these, range by range, in place of what it would time.

    For each call it asks ``autotune_custom_op`` for each range's winner, in order, and
    reads no more than this of the answer.
    """
    remaining = itertools.cycle(winners)

    def forced(*args: Any, **kwargs: Any) -> tuple[None, SimpleNamespace]:
        return None, SimpleNamespace(
            decomposition=next(remaining), decomposition_kwargs={}, config_patches={}
        )

    custom_op.autotune_custom_op = forced  # type: ignore[assignment]


def recompiling(implementations: Sequence[Implementation]) -> Implementation:
    """A Python ``if`` chain that torch.compile sees."""
    return compiled(if_chain(implementations))


def python_if(implementations: Sequence[Implementation]) -> Implementation:
    """A Python ``if`` chain outside, over functions compiled one by one."""
    return if_chain([compiled(call_site(one)) for one in implementations])


def python_bisect(implementations: Sequence[Implementation]) -> Implementation:
    """The same with a binary search: what can be had outside at best."""
    return define(
        "def chosen(x, weight):\n"
        "    return functions[bisect_left(points, x.shape[1])](x, weight)\n",
        "chosen",
        {
            "bisect_left": bisect.bisect_left,
            "points": split_points(len(implementations)),
            "functions": [compiled(call_site(one)) for one in implementations],
        },
    )


def nested_cond(implementations: Sequence[Implementation]) -> Implementation:
    """``torch.cond`` written by hand, each in the false branch of the one before."""
    *others, level = implementations
    for branch, point in reversed([*enumerate(split_points(len(implementations)))]):
        name = f"level_{branch}"
        level = define(
            f"def {name}(x, weight):\n"
            f"    return cond(x.shape[1] <= {point}, here, below, (x, weight))\n",
            name,
            {"cond": torch.cond, "here": others[branch], "below": level},
        )
    return compiled(level if others else call_site(level))


BUILDERS: dict[str, Callable[[Sequence[Implementation]], Implementation]] = {
    "plain": plain,
    "ours": range_dispatch,
    "base": range_dispatch,
    "recompiling": recompiling,
    "python_if": python_if,
    "nested_cond": nested_cond,
    "eager": if_chain,
    "python_bisect": python_bisect,
    "nested_cond_patched": nested_cond,
}
