"""Which FX nodes branches of a dispatch can take in, and why others cannot be."""

from __future__ import annotations

import enum
import operator
from typing import Any, TYPE_CHECKING

import torch
import torch.utils._pytree as pytree
from torch._inductor.lowering import (
    fallback_node_due_to_unsupported_type,
    fallbacks,
    lowerings,
    user_lowerings,
)
from torch._inductor.utils import is_view, should_fallback_by_default
from torch._prims_common import is_non_overlapping_and_dense_or_false
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Collection

    import sympy

    from torch.fx import Node


aten = torch.ops.aten
prims = torch.ops.prims


class NodeKind(enum.Enum):
    """What a node does, as far as fusing it goes.

    ``VIEW`` and ``CREATION`` cost nothing in the kernel that reads them, nor does a
    ``CONSTANT``, so that a copy for each of their readers does no harm. ``SIZE`` nodes
    compute with sizes.
    """

    POINTWISE = enum.auto()
    REDUCTION = enum.auto()
    VIEW = enum.auto()
    CREATION = enum.auto()
    CONSTANT = enum.auto()
    SIZE = enum.auto()
    OTHER = enum.auto()

    @property
    def is_free(self) -> bool:
        """Whether a node may be copied for each of its readers."""
        return self in (NodeKind.VIEW, NodeKind.CREATION, NodeKind.CONSTANT)


# Of these kinds, but without the tag.
_POINTWISE = OrderedSet(
    [
        aten._unsafe_index.Tensor,
        aten.avg_pool2d.default,
        aten.cat.default,
        aten.constant_pad_nd.default,
        aten.copy.default,
        aten.embedding.default,
        aten.gather.default,
        aten.glu.default,
        aten.index.Tensor,
        aten.lift_fresh_copy.default,
        aten.repeat.default,
        aten.select_scatter.default,
        aten.slice_scatter.default,
        prims.rev.default,
    ]
)
_REDUCTIONS = OrderedSet(
    [
        aten.amax.default,
        aten.amin.default,
        aten.mean.dim,
        aten.sum.dim_IntList,
        aten.var.correction,
        aten.var_mean.correction,
    ]
)
_CREATIONS = OrderedSet(
    [aten.full.default, aten.scalar_tensor.default, prims.iota.default]
)
# They read or reinterpret memory, not values.
_BOUND_TO_MEMORY = OrderedSet(
    [aten.as_strided.default, aten.view.dtype, aten.view_as_real.default]
)
# Their results follow the memory of what they read.
_READS_STRIDES = OrderedSet(
    [aten.as_strided.default, aten.as_strided_scatter.default, aten.resize.default]
)
_RANDOM_LIBRARIES = ("rngprims", "inductor_prims")


def kind_of(node: Node) -> NodeKind:
    """What kind of node it is; OTHER is all that cannot be fused."""
    value = node.meta.get("val")
    if isinstance(value, (torch.SymInt, int)) and not isinstance(value, bool):
        return NodeKind.SIZE
    if node.op == "get_attr" and isinstance(value, torch.Tensor):
        return NodeKind.CONSTANT
    if node.op != "call_function" or refusal_of(node) is not None:
        return NodeKind.OTHER
    target: Any = node.target
    if target is operator.getitem:
        return kind_of(node.all_input_nodes[0])
    if _is_reduction(target):
        return NodeKind.REDUCTION
    if target in _CREATIONS:
        return NodeKind.CREATION
    if is_view_of_other(target) or _casts_nothing(node):
        return NodeKind.VIEW
    return NodeKind.POINTWISE


def refusal_of(node: Node) -> str | None:
    """Why a node cannot be fused, None if it can."""
    target: Any = node.target
    if node.op == "output":
        return "it is the graph's output"
    if node.op != "call_function":
        return f"it is a {node.op}"
    if target is operator.getitem:
        source: Any = node.args[0]
        if _is_reduction(source.target) or is_view_of_other(source.target):
            return refusal_of(source)
        return "it is part of a tuple"
    if not isinstance(target, torch._ops.OpOverload):
        return "it is no operator"
    if target in user_lowerings:
        return "it has an autotuned lowering of its own"
    if _is_random(target):
        return "it is random"
    if mutates(node):
        return "it writes to its arguments"
    if makes_sizes(node):
        return "its size depends on data"
    if not _is_of_fusable_kind(target):
        return "it is neither pointwise, a view nor a reduction"
    if (
        target not in lowerings
        or target in fallbacks
        or fallback_node_due_to_unsupported_type(node)
        or should_fallback_by_default(node)
    ):
        return "Inductor has no kernel of its own for it"
    if any(user.target in _READS_STRIDES for user in node.users):
        return "its strides are read"
    return _refusal_of_values(node)


def mutates(node: Node) -> bool:
    """Whether a node may write to a tensor that exists before it."""
    if node.op != "call_function" or node.target is operator.getitem:
        return False
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target._schema.is_mutable
    # Of higher-order operators only some tell; functions on sizes write nothing.
    return isinstance(node.target, torch._ops.HigherOrderOperator)


def is_pure(node: Node) -> bool:
    """Whether a node may be lowered before nodes that it does not depend on."""
    target = node.target
    return (
        isinstance(target, torch._ops.OpOverload)
        and torch._library.utils.is_builtin(target)
        and target not in user_lowerings
        and not mutates(node)
        and not _is_random(target)
        and isinstance(node.meta.get("val"), torch.Tensor)
        and not makes_sizes(node)
    )


def _is_random(target: torch._ops.OpOverload) -> bool:
    return (
        torch.Tag.nondeterministic_seeded in target.tags
        or target.namespace in _RANDOM_LIBRARIES
        or target._schema.name.startswith("prims::inductor_")
    )


def _is_reduction(target: Any) -> bool:
    return isinstance(target, torch._ops.OpOverload) and (
        target in _REDUCTIONS or torch.Tag.reduction in target.tags
    )


def _is_of_fusable_kind(target: torch._ops.OpOverload) -> bool:
    if target in _BOUND_TO_MEMORY:
        return False
    if _is_reduction(target) or target in _CREATIONS or target in _POINTWISE:
        return True
    if not torch._library.utils.is_builtin(target):
        return False
    returns = target._schema.returns
    if len(returns) == 1 and is_view_of_other(target):
        return str(returns[0].type) in ("Tensor", "List[Tensor]")
    is_tensor = len(returns) == 1 and str(returns[0].type) == "Tensor"
    return is_tensor and torch.Tag.pointwise in target.tags


def _refusal_of_values(node: Node) -> str | None:
    for value in values_of(node):
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            return "it does not return a plain tensor"
        if type(value) is not torch._subclasses.FakeTensor:
            return "it returns a tensor subclass"
        is_dense = is_non_overlapping_and_dense_or_false(value)
        if not is_dense and not _has_strides_of_a_view(node.target):
            return "its result is not dense"
    for argument in node.all_input_nodes:
        value = argument.meta.get("val")
        if isinstance(value, (torch.SymFloat, torch.SymBool, float, bool)):
            return "it depends on a number that is known at run time only"
    return None


def is_view_of_other(target: Any) -> bool:
    """Whether the result has no memory of its own."""
    return isinstance(target, torch._ops.OpOverload) and (
        is_view(target) or target is aten._unsafe_view.default
    )


def _has_strides_of_a_view(target: Any) -> bool:
    # What is written to a view of a functional graph comes as a copy like the view.
    return is_view_of_other(target) or target is aten.copy.default


def makes_sizes(node: Node) -> bool:
    """Whether a size of the result is known only when the node has run."""
    return bool(node.meta.get("unbacked_bindings"))


def data_dependent_sizes(node: Node) -> OrderedSet[sympy.Symbol]:
    """The symbols of sizes that depend on data, of what the node reads and returns."""
    values = [node.meta.get("val")]
    values += [one.meta.get("val") for one in node.all_input_nodes]
    return OrderedSet(
        symbol
        for value in pytree.tree_leaves(values)
        if isinstance(value, (torch.Tensor, torch.SymInt))
        for symbol in free_unbacked_symbols(value)
    )


def _casts_nothing(node: Node) -> bool:
    """Whether it lowers to what it reads."""
    if node.target is not prims.convert_element_type.default:
        return False
    source: Any = node.args[0]
    return source.meta["val"].dtype == node.meta["val"].dtype


def values_of(node: Node) -> list[Any]:
    """What the node returns: the leaves of its fake value."""
    return pytree.tree_leaves(node.meta.get("val"))


def returns_plain_tensors(op: Node) -> bool:
    """Whether an op returns one tensor, or a tuple of nothing else."""
    values: Any = op.meta.get("val")
    parts = values if is_tuple(op) else [values]
    return all(isinstance(part, torch.Tensor) for part in parts)


def is_tuple(node: Node) -> bool:
    """Whether a node returns several values."""
    return isinstance(node.meta.get("val"), (tuple, list))


def is_tensor(node: Node) -> bool:
    """Whether a node returns one tensor."""
    return isinstance(node.meta.get("val"), torch.Tensor)


def is_part_of(node: Node, ops: Collection[Node]) -> bool:
    """Whether a node takes one tensor from what one of the ops returns."""
    return node.target is operator.getitem and node.args[0] in ops


def device_of(node: Node) -> torch.device | None:
    """The device of the first tensor that a node returns."""
    tensors = (v for v in values_of(node) if isinstance(v, torch.Tensor))
    return next((tensor.device for tensor in tensors), None)


def stream_of(node: Node) -> int | None:
    """The stream that the user put a node on; None is the default one."""
    return node.meta.get("custom", {}).get("stream")
