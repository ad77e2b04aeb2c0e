"""What a region reads, as IR nodes in memory, and what its calls are bound to."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any, TYPE_CHECKING

import torch
import torch.utils._pytree as pytree
from torch._inductor import ir
from torch._inductor.lowering import (
    constrain_to_fake_tensors,
    get_layout_constraint_tag,
    lowerings,
    maybe_layout_constraints,
    tag_to_layout_constraint,
)
from torch._inductor.range_dispatch.call.binding import (
    bind_call,
    BoundCall,
    realize_operand,
)
from torch._inductor.range_dispatch.call.schemas import bind_to_schema
from torch._inductor.range_dispatch.region.node_kinds import is_tensor
from torch.fx import map_arg, Node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.region.regions import Region


@dataclass(frozen=True)
class RegionInputs:
    """The lowered inputs of a region.

    ``values`` are what the graph's placeholders were lowered to. ``nodes`` are the
    tensors among them in memory, but for the ``constants``, which Inductor writes into
    kernels.
    """

    values: dict[Node, Any]
    nodes: dict[Node, ir.IRNode]
    constants: dict[Node, torch.Tensor]
    _stand_ins: dict[Node, ir.IRNode] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        region: Region,
        values: dict[Node, Any],
        constants: dict[Node, torch.Tensor],
    ) -> RegionInputs:
        """Realize the inputs, with the strides that the ops want of their arguments."""
        constrained = {**values}
        for op in region.ops:
            _constrain(op, constrained)
        nodes: dict[Node, ir.IRNode] = {}
        by_box: dict[int, ir.IRNode] = {}
        for one in region.inputs:
            if one not in constants:
                box = constrained[one]
                if id(box) not in by_box:
                    by_box[id(box)] = realize_operand(box)
                nodes[one] = by_box[id(box)]
        return cls(values, nodes, constants)

    def stand_in(self, node: Node) -> ir.IRNode:
        """An IR node with the layout of what a node computes, which is in no graph."""
        if node not in self._stand_ins:
            value = node.meta["val"]
            layout = ir.FixedLayout(
                value.device, value.dtype, _exprs(value.shape), _exprs(value.stride())
            )
            name = f"stand_in_for_{node.name}"
            self._stand_ins[node] = ir.InputBuffer(name=name, layout=layout)
        return self._stand_ins[node]

    def bind(self, op: Node) -> BoundCall:
        """The call that a node of the region is.

        Raises:
            UnsupportedArgument: an argument cannot become an operand of a branch.
        """
        tensors = {
            one: self.nodes.get(one) or self.stand_in(one)
            for one in op.all_input_nodes
            if is_tensor(one)
        }

        def lowered(one: Node) -> Any:
            if one in tensors:
                return ir.TensorBox(tensors[one])
            if one in self.values:
                return self.values[one]
            return _exprs([one.meta["val"]])[0]

        args, kwargs = map_arg((op.args, op.kwargs), lowered)
        stand_ins = {
            number: tensors[leaf]
            for number, leaf in enumerate(argument_leaves(op))
            if isinstance(leaf, Node) and leaf in tensors
        }
        target: Any = op.target
        return bind_call(target, args, kwargs, stand_ins)


def constants_of(
    region: Region, arguments: dict[Node, Any], values: dict[Node, Any], module: Any
) -> dict[Node, torch.Tensor]:
    """The inputs that Inductor writes into kernels, so that none has to be an operand.

    ``arguments`` are the nodes of the graph around the region, which ``module`` holds.
    """
    return {
        one: operator.attrgetter(str(arguments[one].target))(module)
        for one in region.inputs
        if arguments[one].op == "get_attr" and not ir.is_storage_and_layout(values[one])
    }


def _exprs(sizes: Sequence[Any]) -> list[Any]:
    return [getattr(getattr(n, "node", n), "expr", n) for n in sizes]


def argument_leaves(op: Node) -> list[Any]:
    """The leaves of a call's arguments, in the order of the schema."""
    return _leaves_by_schema(op, op.args, op.kwargs)


def _leaves_by_schema(op: Node, args: Sequence[Any], kwargs: Any) -> list[Any]:
    target: Any = op.target
    return pytree.tree_leaves(bind_to_schema(target, args, dict(kwargs)))


def _constrain(op: Node, values: dict[Node, Any]) -> None:
    """Give inputs that an op reads the strides that Inductor gives its arguments.

    What is computed in the region is computed as it is wanted.
    """
    target: Any = op.target
    constraint = maybe_layout_constraints(target)
    if constraint is None and target not in lowerings:
        tag: Any = get_layout_constraint_tag(target, with_default=True)
        constraint = tag_to_layout_constraint(tag)
    if constraint is constrain_to_fake_tensors and "eager_input_vals" in op.meta:
        fakes = _leaves_by_schema(op, *op.meta["eager_input_vals"])
        for leaf, fake in zip(argument_leaves(op), fakes, strict=True):
            if isinstance(leaf, Node) and leaf in values:
                (values[leaf],), _ = constraint([values[leaf]], {}, [fake], {})
    elif constraint not in (None, constrain_to_fake_tensors):
        if all(node in values for node in op.all_input_nodes):
            args, kwargs = map_arg((op.args, op.kwargs), values.__getitem__)
            constrained = constraint(op, *args, **kwargs)
            leaves = pytree.tree_leaves((op.args, op.kwargs))
            boxes = zip(leaves, pytree.tree_leaves(constrained), strict=True)
            values.update({n: box for n, box in boxes if isinstance(n, Node)})
