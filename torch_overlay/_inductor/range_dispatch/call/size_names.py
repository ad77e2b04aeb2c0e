"""Conditions on sizes in the terms of a call's arguments: ``w.shape[1]``, not s21."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sympy

from torch._inductor.virtualized import V
from torch.utils._sympy.printers import PythonPrinter

if TYPE_CHECKING:
    from torch._inductor.range_dispatch.call.binding import BoundCall


class SizeNames:
    """What the sizes of a call are called by those who call the op."""

    def __init__(self, call: BoundCall) -> None:
        self._names: dict[sympy.Basic, str] = {}
        shape_env = V.graph.sizevars.shape_env
        named = [(name, expr) for name, expr in call.named_scalars()]
        for name, index in call.named_operands():
            for dim, size in enumerate(call.nodes[index].get_size()):
                named.append((f"{name}.shape[{dim}]", size))
        for name, size in named:
            for expr in (sympy.sympify(size), shape_env.replace(sympy.sympify(size))):
                if expr.free_symbols:
                    self._names.setdefault(expr, name)

    def text(self, expr: sympy.Basic) -> str:
        """An expression or a condition in Python, with the names in it."""
        names = {e: sympy.Symbol(name) for e, name in self._names.items()}
        # Compound sizes first: a symbol may be a part of them.
        compound = {e: n for e, n in names.items() if not e.is_Symbol}
        with sympy.evaluate(False):
            renamed = expr.xreplace(compound).xreplace(names)
        return PythonPrinter().doprint(renamed)
