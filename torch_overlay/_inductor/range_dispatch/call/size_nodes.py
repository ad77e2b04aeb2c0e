"""FX nodes that compute a size from what a graph's placeholders stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.fx import Graph, Node, Proxy
from torch.fx.proxy import GraphAppendingTracer
from torch.utils._ordered_set import OrderedSet
from torch.utils._sympy.interp import sympy_interp
from torch.utils._sympy.reference import PythonReferenceAnalysis

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    import sympy


def add_call(graph: Graph, function: Callable[..., Any], *args: Any) -> Node:
    """Append a call, with the value that it has for the placeholders' values."""
    node = graph.call_function(function, args)
    node.meta["val"] = function(*torch.fx.map_arg(args, lambda n: n.meta["val"]))
    return node


def add_size(graph: Graph, size: sympy.Expr, placeholders: Sequence[Node]) -> Node:
    """Append what computes ``size`` from symbols and sizes among the placeholders.

    Raises:
        KeyError: a symbol is neither a placeholder nor the size of one.
    """
    sym_size = torch.ops.aten.sym_size.int
    known: dict[sympy.Basic, Node] = {}
    for placeholder in placeholders:
        value = placeholder.meta["val"]
        if isinstance(value, torch.SymInt):
            known.setdefault(value.node.expr, placeholder)
            continue
        for dim, extent in enumerate(value.shape):
            wanted = isinstance(extent, torch.SymInt) and extent.node.expr
            if wanted in size.free_symbols and wanted not in known:
                known[wanted] = add_call(graph, sym_size, placeholder, dim)
    before = OrderedSet(graph.nodes)
    tracer = GraphAppendingTracer(graph)
    values = {symbol: Proxy(known[symbol], tracer) for symbol in size.free_symbols}
    result = sympy_interp(PythonReferenceAnalysis, values, size).node
    for node in graph.nodes:
        if node not in before:
            args = torch.fx.map_arg(node.args, lambda n: n.meta["val"])
            node.meta["val"] = node.target(*args)
    return result
