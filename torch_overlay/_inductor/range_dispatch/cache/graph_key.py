"""The part of a graph's cache key that tells the user lowerings in it apart.

A cached graph holds the dispatch of the registrations that it was compiled with, so
the key has to change with everything that a dispatch depends on: ranges, winners,
configs, the code of implementations and what that reads, the op's schema and its
autograd formula. What the key cannot hold keeps a graph out of the cache.
"""

from __future__ import annotations

import functools
import types
import uuid
import weakref
from typing import Any, TYPE_CHECKING

import torch
import torch.utils._pytree as pytree
from torch._functorch import config as functorch_config
from torch._guards import TracingContext
from torch._inductor import config
from torch._inductor.range_dispatch.cache import table_store
from torch._inductor.range_dispatch.cache.identity import (
    described,
    Indescribable,
    is_released,
)
from torch._inductor.range_dispatch.region.forming import frozen_inputs, registration_of
from torch._inductor.range_dispatch.registration.forcing import names_of_op
from torch._inductor.range_dispatch.trace.graph_passes import nodes_within
from torch._library.custom_ops import OPDEFS
from torch._library.triton import get_triton_kernels_for_op
from torch._library.utils import is_builtin
from torch.utils._ordered_set import OrderedSet
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


# Kernels that are traced through or make another graph, so that a key has to know them.
_TRACED_KEYS = ("CompositeImplicitAutograd", "Autograd")

# Passes of users, which may put any op into a graph.
_PASSES = (
    "pre_grad_custom_pass",
    "joint_custom_pre_pass",
    "joint_custom_post_pass",
    "post_grad_custom_pre_pass",
    "post_grad_custom_post_pass",
    "custom_partitioner_fn",
)

_OPS = (
    torch._ops.OpOverload,
    torch._ops.OpOverloadPacket,
    torch._ops.HigherOrderOperator,
)

# What each compile found registered when it first asked, and the parts of keys since.
_Found = tuple[dict[torch._ops.OpOverload, Any], dict[str, str]]
_found: weakref.WeakKeyDictionary[TracingContext, _Found] = weakref.WeakKeyDictionary()


def user_lowerings_key(
    graph_module: torch.fx.GraphModule | None = None, inputs: Sequence[Any] = ()
) -> list[tuple[str, str]]:
    """The ops with a user lowering that a graph may come to, and their digests.

    All that are registered count without a graph.

    Raises:
        BypassFxGraphCache: a lowering cannot be described, what is registered has
            changed since the compile began, whose key the graph would get, or branches
            hold constants that the graph which is looked up does not.
    """
    from torch._inductor.codecache import BypassFxGraphCache
    from torch._inductor.lowering import user_lowerings

    @functools.cache
    def describe(op: torch._ops.OpOverload) -> tuple[str, OrderedSet[str]]:
        return _described_op(op, user_lowerings[op])

    key = []
    for op in _ops_called(graph_module, inputs, [*user_lowerings], describe):
        try:
            key.append((str(op), describe(op)[0]))
        except Indescribable as reason:
            # An artifact to be saved needs a key, though nothing may be found by it.
            if not functorch_config.force_non_lazy_backward_lowering:
                raise BypassFxGraphCache(f"lowering of {op}: {reason}") from reason
            return [(str(op), uuid.uuid4().hex)]
    if key and (tables := table_store.state()):
        key.append(("tuning tables", tables))
    key.sort()
    if (
        config.freezing
        and graph_module
        and any(map(frozen_inputs, _dispatched(graph_module)))
    ):
        raise BypassFxGraphCache("branches compute constants of frozen parameters")
    if _have_changed(user_lowerings, key):
        raise BypassFxGraphCache("user lowerings have changed during the compile")
    return key


def _dispatched(graph_module: torch.fx.GraphModule) -> Iterator[torch.fx.Node]:
    return filter(registration_of, nodes_within(graph_module))


def _have_changed(
    registered: dict[torch._ops.OpOverload, Any], key: Sequence[tuple[str, str]]
) -> bool:
    context = TracingContext.try_get()
    if context is None:
        return False
    before, digests = _found.setdefault(context, (dict(registered), {}))
    is_same = all(digests.setdefault(name, digest) == digest for name, digest in key)
    return not is_same or before != registered


def _described_op(
    op: torch._ops.OpOverload, lowering: Any
) -> tuple[str, OrderedSet[str]]:
    """A digest that changes with what is compiled for the op; and names, constants and
    ops in the code of its implementations.

    Raises:
        Indescribable: not all of it can be seen.
    """
    registration = getattr(lowering, "registration", None)
    if registration is not None and registration.uuid is not None:
        what = registration.key_parts()
    else:
        what = lowering, _autograd_of(op)
    return described((what, str(op._schema)))


def _autograd_of(op: torch._ops.OpOverload) -> Any:
    """What an op's derivative is made by, None if it has none of its own.

    Raises:
        Indescribable: it was registered where it cannot be seen.
    """
    definition = OPDEFS.get(op._name)
    if definition is not None:
        return definition._setup_context_fn, definition._backward_fn
    if _is_traced_through(op):
        raise Indescribable(f"the autograd formula of {op} cannot be seen")
    return None


def _is_traced_through(op: torch._ops.OpOverload) -> bool:
    """Whether a user's kernels of an op run while a graph is traced."""
    return not is_builtin(op) and any(
        torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), key)
        for key in _TRACED_KEYS
    )


def _ops_called(
    graph_module: torch.fx.GraphModule | None,
    inputs: Sequence[Any],
    registered: list[torch._ops.OpOverload],
    describe: Callable[[torch._ops.OpOverload], tuple[str, OrderedSet[str]]],
) -> list[torch._ops.OpOverload]:
    """The registered ops that occur in a graph, also inside branches and in what they
    and other custom ops call; all of them if that cannot be told.

    Ops of torch itself always count: others decompose into them.
    """
    if graph_module is None or not registered:
        return registered
    try:
        _check_surroundings(inputs)
        return _Calls(registered, describe).of(graph_module)
    except Indescribable:
        return registered


def _check_surroundings(inputs: Sequence[Any]) -> None:
    """Raise if something else than a graph's nodes may bring in ops.

    Raises:
        Indescribable: that is so.
    """
    from torch._inductor.decomposition import decompositions

    if any(map(is_traceable_wrapper_subclass, inputs)):
        raise Indescribable("an input is of a tensor subclass")
    if any(getattr(config, name, None) is not None for name in _PASSES):
        raise Indescribable("users' passes change the graph")
    if not all(
        is_released(_module_of(function))
        for op, function in decompositions.items()
        if isinstance(op, torch._ops.OpOverload) and is_builtin(op)
    ):
        raise Indescribable("users' decompositions change the graph")


def _module_of(function: Any) -> str:
    return getattr(function, "__module__", None) or type(function).__module__


class _Calls:
    """Collects registered ops, and those that their code may name."""

    def __init__(
        self,
        registered: Sequence[torch._ops.OpOverload],
        describe: Callable[[torch._ops.OpOverload], tuple[str, OrderedSet[str]]],
    ) -> None:
        self._registered = registered
        self._describe = describe
        self._found: OrderedSet[torch._ops.OpOverload] = OrderedSet()
        self._seen: OrderedSet[torch._ops.OpOverload] = OrderedSet()

    def of(self, graph_module: torch.fx.GraphModule) -> list[torch._ops.OpOverload]:
        for op in self._registered:
            if is_builtin(op):
                self._add(op)
        for module in graph_module.modules():
            if isinstance(module, torch.fx.GraphModule):
                for node in module.graph.nodes:
                    self._visit(module, node)
            elif not is_released(type(module).__module__):
                raise Indescribable(f"{type(module).__name__} is no graph")
        return [op for op in self._registered if op in self._found]

    def _visit(self, module: torch.fx.GraphModule, node: torch.fx.Node) -> None:
        value = node.meta.get("example_value", node.meta.get("val"))
        if node.op in ("placeholder", "get_attr"):
            if is_traceable_wrapper_subclass(value):
                raise Indescribable(f"{node} is of a tensor subclass")
        elif node.op == "call_function":
            # A higher order operator is given the op that it calls, as
            # auto_functionalized_v2 is one that writes in place.
            for one in pytree.tree_leaves((node.target, node.args, node.kwargs)):
                if isinstance(one, torch._ops.OpOverload):
                    self._add(one)
                elif isinstance(one, torch._ops.OpOverloadPacket):
                    for name in one.overloads():
                        self._add(getattr(one, name))
            target = node.target
            is_compiled = isinstance(target, types.BuiltinFunctionType)
            if not (
                is_compiled
                or isinstance(target, _OPS)
                or is_released(_module_of(target))
            ):
                raise Indescribable(f"{target} may call anything")

    def _add(self, op: torch._ops.OpOverload) -> None:
        """Take in an op and what it calls while a graph is traced."""
        if op in self._seen:
            return
        self._seen.add(op)
        if op in self._registered:
            self._found.add(op)
            self._add_named(self._describe(op)[1])
        if op._name in OPDEFS:
            traced = _autograd_of(op), OPDEFS[op._name]._vmap_fn
            kernels = get_triton_kernels_for_op(op._name)
            traced += (OPDEFS[op._name]._init_fn,) if kernels else ()
            if any(one not in (None, (None, None)) for one in traced):
                self._add_named(described(traced)[1])
        elif _is_traced_through(op):
            raise Indescribable(f"the kernels of {op} cannot be seen")

    def _add_named(self, strings: OrderedSet[str]) -> None:
        for op in self._registered:
            if any(name in strings for name in _names(op)):
                self._add(op)


@functools.cache
def _names(op: torch._ops.OpOverload) -> Iterable[str]:
    """What code may call an op by: ``torch.ops.lib.op``, or all of it in a string."""
    names = names_of_op(op)
    return [*names, *(name.replace(".", "::", 1) for name in names)]
