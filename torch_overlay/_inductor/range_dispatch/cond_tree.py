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
from typing import Any, TYPE_CHECKING

import sympy

import torch
import torch.utils._pytree as pytree
from torch._inductor.range_dispatch.ranges import Decision, DecisionTree, Leaf
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.symbolic_shapes import CallMethodKey, free_unbacked_symbols
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class TreeContext:
    """What all graphs of one tree have in common.

    ``operands`` are the fake tensors and SymInts that the placeholders stand for and
    ``outputs`` the fake tensors that every branch returns. Dispatch reads size ``dim``
    of operand ``tensor``. Names of subgraphs start with ``prefix``.
    """

    operands: Sequence[Any]
    outputs: Sequence[torch.Tensor]
    tensor: int
    dim: int
    prefix: str


def branch_name(prefix: str, index: int) -> str:
    """The attribute under which a cond's graph holds branch ``index``."""
    return f"{prefix}_branch_{index}"


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
        _call(graph, operator.getitem, cond, i) for i in range(len(context.outputs))
    ]
    graph.output(tuple(results))
    return GraphModule(root, graph, class_name="RangeDispatch")


def count_conds(graph_module: GraphModule) -> int:
    """Number of cond nodes in a dispatch graph and all its branches."""
    return sum(
        node.target is torch.ops.higher_order.cond
        for module in graph_module.modules()
        if isinstance(module, GraphModule)
        for node in module.graph.nodes
    )


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


def _call(graph: Graph, function: Callable[..., Any], *args: Any) -> Node:
    """Append a call, with the value that it has for the placeholders' values."""
    node = graph.call_function(function, args)
    node.meta["val"] = function(*torch.fx.map_arg(args, lambda n: n.meta["val"]))
    return node


def _predicate(
    graph: Graph, tree: Decision, placeholders: Sequence[Node], context: TreeContext
) -> Node:
    """Whether the dispatched size lies in one of the decision's intervals."""
    size = _call(
        graph, torch.ops.aten.sym_size.int, placeholders[context.tensor], context.dim
    )

    def within(low: int | None, high: int | None) -> Node:
        tests = []
        if low is not None:
            tests.append(_call(graph, operator.ge, size, low))
        if high is not None:
            tests.append(_call(graph, operator.le, size, high))
        return functools.reduce(functools.partial(_call, graph, operator.and_), tests)

    return functools.reduce(
        functools.partial(_call, graph, operator.or_),
        [within(low, high) for low, high in tree.intervals],
    )
