"""Lowers a call of an op to the op itself, and says so where nobody may expect it."""

from __future__ import annotations

import functools
import logging
from typing import Any, TYPE_CHECKING

import torch
from torch._inductor.lowering import lowerings, user_lowerings
from torch._inductor.range_dispatch.call.schemas import with_names
from torch._inductor.range_dispatch.call.state import compile_state
from torch._inductor.range_dispatch.trace.graph_passes import nodes_within
from torch._inductor.virtualized import V

if TYPE_CHECKING:
    from collections.abc import Sequence


log = logging.getLogger(__name__)


def lower_op_itself(
    op: torch._ops.OpOverload, args: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    """The results of a call of the op, as the normal lowering gives them."""
    warn_if_packaged(op)
    args, kwargs = with_names(op, args, kwargs)
    results = lowerings[op](*args, **kwargs)
    return () if results is None else results  # None would ask for them again


def warn_of_effect(op: torch._ops.OpOverload) -> None:
    """Say once that an op with a registered effect is never dispatched.

    It is called by ``with_effects``, in its place among others, and what it does
    besides returning tensors cannot be told from an implementation's graph.
    """
    from torch._higher_order_ops.effects import _get_effect, has_effects

    if has_effects(op):
        _warn_once(op, str(_get_effect(op)))


@functools.cache
def _warn_once(op: torch._ops.OpOverload, effect: str) -> None:
    log.warning(
        "%s is never autotuned: it has the registered effect %s, so that torch.compile "
        "calls the op itself, in order; register the effect None for it, or give an op "
        "without effects these implementations",
        op,
        effect,
    )


def warn_if_packaged(op: torch._ops.OpOverload) -> None:
    """Say once a package that it needs an op, as the op itself is called in it."""
    if not V.graph.aot_mode or torch._library.utils.is_builtin(op):
        return
    warned = compile_state().packaged
    if op not in warned:
        warned.add(op)
        log.warning(
            "%s itself runs for some sizes in the package that is compiled, which can "
            "be loaded only where that op is registered; winners without -1, or "
            "include_fallback=False, leave it out",
            op,
        )


def warn_of_packaged_calls(graph_module: torch.fx.GraphModule) -> None:
    """The same for the ops that a graph to be inlined calls and that are not asked
    for another implementation."""
    if not V.graph.aot_mode:
        return
    for node in nodes_within(graph_module):
        target: Any = node.target
        if target in user_lowerings and target in V.active_user_lowering_ops:
            warn_if_packaged(target)
