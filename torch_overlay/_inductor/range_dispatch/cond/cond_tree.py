"""Builds the FX graph of nested ``torch.ops.higher_order.cond`` nodes.

The graphs of the branches are put together as they are: nothing is traced again and
Dynamo is not involved. Every graph of the tree, root and branches alike, takes the
same operands and returns a tuple of the same outputs; each predicate compares the
dispatched size with constants.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING, TypeVar

import sympy

import torch
import torch.utils._pytree as pytree
from torch._inductor import config
from torch._inductor.range_dispatch.call.size_nodes import add_call, add_size
from torch._inductor.range_dispatch.call.sizes import bounds_of
from torch._inductor.range_dispatch.plan.decisions import (
    Decision,
    DecisionTree,
    DispatchPlan,
    Leaf,
    plan_dispatch,
)
from torch._inductor.range_dispatch.trace.tracing import output_values
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.symbolic_shapes import (
    CallMethodKey,
    free_unbacked_symbols,
    is_symbolic,
)
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.plan.decisions import Box
    from torch._inductor.range_dispatch.plan.ranges import Cell


@dataclass(frozen=True)
class TreeContext:
    """What all graphs of one tree have in common.

    ``operands`` are the fake tensors and SymInts that the placeholders stand for and
    ``outputs`` the fake tensors that every branch returns. Dispatch reads ``axes``.
    Names of subgraphs start with ``prefix``.
    """

    operands: Sequence[Any]
    outputs: Sequence[torch.Tensor]
    axes: Sequence[Axis]
    prefix: str


def branch_name(prefix: str, index: int) -> str:
    """The attribute under which a cond's graph holds branch ``index``."""
    return f"{prefix}_branch_{index}"


# A graph, or those of several ops that share a branch.
_BranchT = TypeVar("_BranchT")


def plan_for(
    winners: Sequence[_BranchT],
    cells: Sequence[Cell],
    operands: Sequence[Any],
    axes: Sequence[Axis],
) -> DispatchPlan[_BranchT]:
    """Branches for what can occur by the bounds of the operands' symbols.

    Cells with the same winner share one unless config says not to.
    """
    sizes = [n for x in operands for n in getattr(x, "shape", [x])]
    shape_env = next((n.node.shape_env for n in sizes if is_symbolic(n)), None)
    bounds = [bounds_of(axis.size, shape_env) for axis in axes]
    merge = not config.test_configs.force_no_impl_grouping
    return plan_dispatch(winners, cells, bounds, merge)


def build_torch_cond_dispatch(
    name: str,
    plan: DispatchPlan[GraphModule],
    operands: Sequence[Any],
    axes: Sequence[Axis],
    outputs: Sequence[torch.Tensor] | None = None,
) -> GraphModule:
    """The graph that picks among traced implementations by sizes.

    It has nested ``torch.cond`` nodes: a balanced tree over the branches of the plan.
    With one branch it is that branch's graph.

    Args:
        name: what the names of the subgraphs start with.
        plan: the branches, and the tree that picks one. All graphs take ``operands``
            and return a tuple of tensors.
        operands: fake tensors and SymInts, one for each placeholder.
        axes: the sizes that decide.
        outputs: fake tensors with the strides that every branch must produce; those
            of the first branch by default.
    """
    context = TreeContext(
        operands, outputs or output_values(plan.branches[0]), axes, name
    )
    return build_cond_tree(plan.tree, plan.branches, context)


def build_cond_tree(
    tree: DecisionTree, branches: Sequence[GraphModule], context: TreeContext
) -> GraphModule:
    """The dispatch graph for a decision tree over ``branches``.

    A tree of one leaf is that branch's graph itself.
    """
    if isinstance(tree, Leaf):
        return branches[tree.branch]
    root = torch.nn.Module()
    graph = Graph()
    placeholders = [_placeholder(graph, i, x) for i, x in enumerate(context.operands)]
    predicate = _predicate(graph, tree, placeholders, context)
    sides: list[Node] = []
    for side, label in ((tree.inside, "inside"), (tree.outside, "outside")):
        if isinstance(side, Leaf):
            name = branch_name(context.prefix, side.branch)
        else:
            name = f"{context.prefix}_{label}"
        root.add_module(name, build_cond_tree(side, branches, context))
        sides.append(graph.create_node("get_attr", name))
    cond = graph.call_function(
        torch.ops.higher_order.cond, (predicate, *sides, tuple(placeholders))
    )
    cond.meta["val"] = tuple(context.outputs)
    cond.meta["unbacked_bindings"] = _data_dependent_sizes(context)
    results = [
        add_call(graph, operator.getitem, cond, i) for i in range(len(context.outputs))
    ]
    graph.output(tuple(results))
    return GraphModule(root, graph, class_name="RangeDispatch")


def _data_dependent_sizes(
    context: TreeContext,
) -> dict[sympy.Symbol, pytree.KeyPath]:
    """Where in the outputs the symbols are defined that no operand has."""
    known = OrderedSet(
        symbol
        for operand in context.operands
        for size in getattr(operand, "shape", [operand])
        for symbol in free_unbacked_symbols(size)
    )
    found: dict[sympy.Symbol, pytree.KeyPath] = {}
    for index, output in enumerate(context.outputs):
        for dim, size in enumerate(output.shape):
            if isinstance(size, torch.SymInt) and (
                isinstance(size.node.expr, sympy.Symbol)
                and free_unbacked_symbols(size)
                and size.node.expr not in known
            ):
                path = (
                    pytree.SequenceKey(index),
                    CallMethodKey("size"),
                    pytree.SequenceKey(dim),
                )
                found.setdefault(size.node.expr, path)
    return found


def _placeholder(graph: Graph, index: int, value: Any) -> Node:
    node = graph.placeholder(f"operand_{index}")
    node.meta["val"] = value
    return node


def _predicate(
    graph: Graph, tree: Decision, placeholders: Sequence[Node], context: TreeContext
) -> Node:
    """Whether the dispatched sizes lie in one of the decision's boxes."""
    compared = OrderedSet(
        number
        for box in tree.boxes
        for number, interval in enumerate(box)
        if interval != (None, None)
    )
    sizes = {n: _size(graph, context.axes[n], placeholders) for n in sorted(compared)}

    def within(box: Box) -> Node:
        tests = []
        for number, (low, high) in enumerate(box):
            if low is not None:
                tests.append(add_call(graph, operator.ge, sizes[number], low))
            if high is not None:
                tests.append(add_call(graph, operator.le, sizes[number], high))
        both = functools.partial(add_call, graph, operator.and_)
        return functools.reduce(both, tests)

    return functools.reduce(
        functools.partial(add_call, graph, operator.or_), map(within, tree.boxes)
    )


def _size(graph: Graph, axis: Axis, placeholders: Sequence[Node]) -> Node:
    """The size of an axis: read off an operand, or computed from symbols."""
    if axis.operand is not None:
        sym_size = torch.ops.aten.sym_size.int
        return add_call(graph, sym_size, placeholders[axis.operand], axis.dim)
    return add_size(graph, axis.size, placeholders)
