"""What memory a traced graph takes when it is compiled and called."""

from __future__ import annotations

import functools
import itertools
import operator
from typing import Any, TYPE_CHECKING

import sympy

import torch
import torch.utils._pytree as pytree
from torch._inductor.range_dispatch.call.sizes import concrete, SymbolValues
from torch._inductor.range_dispatch.region.node_kinds import kind_of, NodeKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch.fx import GraphModule, Node


# What Inductor computes where it is read, if it can.
_FUSED = (NodeKind.POINTWISE, NodeKind.CREATION)
_READS_FUSED = (NodeKind.POINTWISE, NodeKind.REDUCTION)


class Footprint:
    """The bytes of results and temporaries of a graph, as a function of its sizes.

    A storage lives from the node that makes it to the last one that reads it. What
    Inductor fuses has none: a pointwise value whose only readers are pointwise, or that
    has one reader, a reduction. It may fuse, and reuse, more than that. Memory that
    kernels of others take inside a node is not known here.
    """

    def __init__(self, graph_module: GraphModule) -> None:
        self._steps = len(graph_module.graph.nodes)
        self._storages = [*_storages([*graph_module.graph.nodes])]

    def peak(self, values: SymbolValues) -> int:
        """The most bytes alive at a time, operands not counted."""
        known: dict[Any, int] = {}
        changes = [0] * (self._steps + 1)
        for length, first, last in self._storages:
            if length not in known:
                known[length] = max(concrete(length, values), 0)
            changes[first] += known[length]
            changes[last + 1] -= known[length]
        return max(itertools.accumulate(changes))

    def results(self, values: SymbolValues) -> int:
        """The bytes of what it returns, operands not counted."""
        output = self._steps - 1
        lengths = (length for length, _, last in self._storages if last == output)
        return sum(max(concrete(length, values), 0) for length in lengths)


def _storages(nodes: Sequence[Node]) -> Iterator[tuple[Any, int, int]]:
    """For each storage its bytes, and the first and the last node that it is for."""
    position = {node: number for number, node in enumerate(nodes)}
    kinds = {node: kind_of(node) for node in nodes}

    def readers(node: Node) -> Iterator[Node]:
        for user in node.users:
            if _is_alias(user, kinds[user]):
                yield from readers(user)
            else:
                yield user

    # When a node's arguments are read: with its readers, if it is fused with them.
    reads_at: dict[Node, int] = {}
    for node in reversed(nodes):
        found = dict.fromkeys(readers(node))
        last = max((reads_at[one] for one in found), default=position[node])
        is_fused = kinds[node] in _FUSED and _are_fused([kinds[one] for one in found])
        reads_at[node] = last if is_fused else position[node]
        if is_fused or node.op in ("placeholder", "get_attr", "output"):
            continue
        if not _is_alias(node, kinds[node]):
            for value in pytree.tree_leaves(node.meta.get("val")):
                if isinstance(value, torch.Tensor):
                    yield _bytes_of(value), position[node], last


def _is_alias(node: Node, kind: NodeKind) -> bool:
    """Whether it shares the memory of what it reads."""
    return kind is NodeKind.VIEW or node.target is operator.getitem


def _are_fused(readers: Sequence[NodeKind]) -> bool:
    if not all(kind in _READS_FUSED for kind in readers):
        return False
    return len(readers) < 2 or NodeKind.REDUCTION not in readers


def _bytes_of(value: torch.Tensor) -> Any:
    sizes = [n.node.expr if isinstance(n, torch.SymInt) else n for n in value.shape]
    length = functools.reduce(operator.mul, sizes, value.dtype.itemsize)
    return sympy.sympify(length)
