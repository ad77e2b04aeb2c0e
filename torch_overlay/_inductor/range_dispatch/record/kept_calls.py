"""What a compiled graph keeps of its dispatched calls, to be explained where it runs.

It is pickled with the graph into Inductor's caches, so that a graph that comes from
there can be explained as well.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, TYPE_CHECKING, TypeAlias

import sympy

from torch._inductor import ir
from torch._inductor.range_dispatch.call.state import state_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.record.records import DispatchRecord


# Index of a graph's input, and how to read a symbol off it: the value itself, a size or
# a stride.
SymbolSource: TypeAlias = "tuple[int, str, int]"


@dataclass(frozen=True)
class KeptCall:
    """A dispatched call of a graph.

    ``sizes`` are the dispatched sizes, whose symbols are read off the graph's inputs as
    ``sources`` says; what depends on data has none. ``is_conditional`` tells that the
    call is in a branch of a cond.
    """

    record: DispatchRecord
    sizes: tuple[sympy.Expr, ...]
    is_conditional: bool
    sources: dict[sympy.Symbol, SymbolSource] = field(default_factory=dict)

    def sizes_in(self, inputs: Sequence[Any]) -> tuple[int | None, ...]:
        """The dispatched sizes for a graph's inputs, None for what they do not tell."""
        values = {}
        for symbol, (index, kind, dim) in self.sources.items():
            value = inputs[index]
            if kind == "value":
                number = int(value)
            else:
                number = value.shape[dim] if kind == "size" else value.stride(dim)
            values[symbol] = sympy.Integer(number)
        known = [size.xreplace(values) for size in self.sizes]
        return tuple(int(size) if size.is_Integer else None for size in known)


def calls_of(graph: Any) -> list[KeptCall]:
    """The calls noted for a ``GraphLowering``, with how to read their sizes."""
    noted = state_of(graph).calls
    if not noted:
        return []
    shape_env = graph.sizevars.shape_env
    sources = _symbol_sources(graph)
    kept = []
    for one in noted:
        # What lowering has found to be equal since has one symbol now.
        sizes = tuple(shape_env.replace(size) for size in one.sizes)
        used = {
            symbol: sources[symbol]
            for size in sizes
            for symbol in sorted(size.free_symbols, key=str)
            if symbol in sources
        }
        kept.append(dataclasses.replace(one, sizes=sizes, sources=used))
    return kept


def _symbol_sources(graph: Any) -> dict[sympy.Symbol, SymbolSource]:
    """Where the graph's inputs tell each symbol, ints before sizes and strides."""
    shape_env = graph.sizevars.shape_env
    found: dict[sympy.Symbol, SymbolSource] = {}
    inputs = [graph.graph_inputs[name] for name in graph.graph_input_names]
    for index, value in enumerate(inputs):
        if isinstance(value, sympy.Expr):
            found.setdefault(shape_env.replace(value), (index, "value", 0))
    for kind in ("size", "stride"):
        for index, value in enumerate(inputs):
            if not isinstance(value, ir.TensorBox):
                continue  # a number, None, a generator, a script or opaque object
            exprs = value.get_size() if kind == "size" else value.maybe_get_stride()
            for dim, expr in enumerate(exprs or ()):
                if isinstance(expr, sympy.Expr):
                    source = index, kind, dim
                    found.setdefault(shape_env.replace(expr), source)
    return {s: source for s, source in found.items() if isinstance(s, sympy.Symbol)}
