"""Which ops with a user lowering a graph may come to."""

from __future__ import annotations

import functools
import types
from typing import Any, TYPE_CHECKING

import torch
from torch._inductor import config
from torch._inductor.range_dispatch.cache.identity import (
    described,
    Indescribable,
    is_released,
)
from torch._inductor.range_dispatch.cache.op_digests import (
    autograd_of,
    is_traced_through,
)
from torch._inductor.range_dispatch.registration.forcing import names_of_op
from torch._library.custom_ops import OPDEFS
from torch._library.triton import get_triton_kernels_for_op
from torch._library.utils import is_builtin
from torch.utils._ordered_set import OrderedSet
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch._inductor.range_dispatch.cache.op_digests import OpDigests


# Passes of users, which may put any op into a graph.
_PASSES = (
    "pre_grad_custom_pass",
    "joint_custom_pre_pass",
    "joint_custom_post_pass",
    "post_grad_custom_pre_pass",
    "post_grad_custom_post_pass",
    "custom_partitioner_fn",
)


class _Unknown(Exception):
    """It cannot be told which ops a graph comes to."""


def ops_called(
    graph_module: torch.fx.GraphModule | None, inputs: Sequence[Any], digests: OpDigests
) -> list[torch._ops.OpOverload]:
    """The registered ops that occur in a graph, also inside branches and in what they
    and other custom ops call; all of them if that cannot be told.

    Ops of torch itself always count: others decompose into them.
    """
    registered = [*digests.registered]
    if graph_module is None or not registered:
        return registered
    try:
        _check_surroundings(inputs)
        return _Calls(digests).of(graph_module)
    except (_Unknown, Indescribable):
        return registered


def _check_surroundings(inputs: Sequence[Any]) -> None:
    """Raise if something else than a graph's nodes may bring in ops.

    Raises:
        _Unknown: that is so.
    """
    if any(map(is_traceable_wrapper_subclass, inputs)):
        raise _Unknown("an input is of a tensor subclass")
    if any(getattr(config, name, None) is not None for name in _PASSES):
        raise _Unknown("users' passes change the graph")
    if _users_decompositions():
        raise _Unknown("users' decompositions change the graph")


def _users_decompositions() -> bool:
    from torch._inductor.decomposition import decompositions

    return not all(
        is_released(_module_of(function))
        for op, function in decompositions.items()
        if isinstance(op, torch._ops.OpOverload) and is_builtin(op)
    )


def _module_of(function: Any) -> str:
    return getattr(function, "__module__", None) or type(function).__module__


class _Calls:
    """Collects registered ops, and those that their code may name."""

    def __init__(self, digests: OpDigests) -> None:
        self._digests = digests
        self._found: OrderedSet[torch._ops.OpOverload] = OrderedSet()
        self._seen: OrderedSet[torch._ops.OpOverload] = OrderedSet()

    def of(self, graph_module: torch.fx.GraphModule) -> list[torch._ops.OpOverload]:
        for op in self._digests.registered:
            if is_builtin(op):
                self._add(op)
        for module in graph_module.modules():
            if isinstance(module, torch.fx.GraphModule):
                for node in module.graph.nodes:
                    self._visit(module, node)
            elif not is_released(type(module).__module__):
                raise _Unknown(f"{type(module).__name__} is no graph")
        return [op for op in self._digests.registered if op in self._found]

    def _visit(self, module: torch.fx.GraphModule, node: torch.fx.Node) -> None:
        value = node.meta.get("example_value", node.meta.get("val"))
        if node.op in ("placeholder", "get_attr"):
            if is_traceable_wrapper_subclass(value):
                raise _Unknown(f"{node} is of a tensor subclass")
        elif node.op == "call_function":
            target = node.target
            if isinstance(target, torch._ops.OpOverload):
                self._add(target)
            elif isinstance(target, torch._ops.OpOverloadPacket):
                for name in target.overloads():
                    self._add(getattr(target, name))
            elif not isinstance(target, torch._ops.HigherOrderOperator):
                is_compiled = isinstance(target, types.BuiltinFunctionType)
                if not is_compiled and not is_released(_module_of(target)):
                    raise _Unknown(f"{target} may call anything")

    def _add(self, op: torch._ops.OpOverload) -> None:
        """Take in an op and what it calls while a graph is traced."""
        if op in self._seen:
            return
        self._seen.add(op)
        if op in self._digests.registered:
            self._found.add(op)
            self._add_named(self._digests.strings(op))
        if op._name in OPDEFS:
            traced = autograd_of(op), OPDEFS[op._name]._vmap_fn
            kernels = get_triton_kernels_for_op(op._name)
            traced += (OPDEFS[op._name]._init_fn,) if kernels else ()
            if any(one not in (None, (None, None)) for one in traced):
                self._add_named(described(traced)[1])
        elif is_traced_through(op):
            raise _Unknown(f"the kernels of {op} cannot be seen")

    def _add_named(self, strings: OrderedSet[str]) -> None:
        for op in self._digests.registered:
            if any(name in strings for name in _names(op)):
                self._add(op)


@functools.cache
def _names(op: torch._ops.OpOverload) -> Iterable[str]:
    """What code may call an op by: ``torch.ops.lib.op``, or all of it in a string."""
    names = names_of_op(op)
    return [*names, *(name.replace(".", "::", 1) for name in names)]
