"""Which guards on sizes a call can keep: a candidate with others is dropped."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

import sympy

from torch._inductor.range_dispatch.trace.drops import AddsGuards
from torch._inductor.range_dispatch.trace.guards import equates_sizes
from torch._inductor.virtualized import V
from torch.fx.experimental.symbolic_shapes import StrictMinMaxConstraint
from torch.utils._ordered_set import OrderedSet
from torch.utils._sympy.printers import PythonPrinter

if TYPE_CHECKING:
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask
    from torch._inductor.range_dispatch.trace.guards import Asked


log = logging.getLogger(__name__)


class Judge:
    """Judges the candidates of one call."""

    def __init__(self, call: BoundCall) -> None:
        self._call = call
        self._marked, self._bounded = _marked_symbols()
        self._names: dict[sympy.Basic, str] = {}
        named = call.named_scalars()
        for name, index in call.named_operands():
            for dim, size in enumerate(call.nodes[index].get_size()):
                named.append((f"{name}.shape[{dim}]", sympy.sympify(size)))
        for name, size in named:
            for expr in (size, V.graph.sizevars.shape_env.replace(size)):
                if expr.free_symbols:
                    self._names.setdefault(expr, name)

    def check_traced(self, asked: Asked) -> None:
        """Keep what users said of dimensions that they marked.

        Raises:
            AddsGuards: it cannot be kept.
        """
        self._check_constants(asked)
        conditions = asked.needs.all
        equalities = asked.equalities
        bounded = OrderedSet(self._bounded)  # and what equalities make depend on them
        for one in equalities * len(equalities):
            if one.free_symbols & bounded:
                bounded |= one.free_symbols
        for one in conditions:
            if one.free_symbols <= bounded and not equates_sizes(one):
                raise AddsGuards(
                    f"it needs {self._text(one)}, and that dimension is marked "
                    "dynamic with bounds",
                    "mark it without min= and max=, or let it do for all sizes",
                )
        # Packages check when they run.
        is_final = V.graph.sizevars.shape_env.frozen and not V.graph.aot_mode
        if conditions and is_final:
            raise AddsGuards(
                f"it needs {self._text(conditions[0])}, and the guards of a "
                "backward graph are known before it is compiled",
                "let it do for all sizes",
            )

    def check_lowered(self, asked: Asked, is_timed: bool) -> None:
        """What is timed has to be lowered for all sizes of its range.

        Raises:
            AddsGuards: it is for one of them, or a marked dimension became a number.
        """
        self._check_constants(asked)
        if is_timed and asked.fixes_size and asked.needs.of_range:
            raise self.undecided(asked)

    def _check_constants(self, asked: Asked) -> None:
        """A dimension that users marked dynamic does not become a number."""
        for symbol, value in asked.constants.items():
            if symbol in self._marked:
                size = self._text(symbol)
                raise AddsGuards(
                    f"it holds for {size} == {value} only, and that dimension is "
                    "marked dynamic",
                    f"let it compute with {size} in torch (no loop, shape or Python "
                    "number made of it), or leave the dimension unmarked",
                )

    def undecided(self, asked: Asked) -> AddsGuards:
        """Why a candidate is out that needs more than its range decides."""
        found = asked.needs.of_range
        fixing = [one for one in found if isinstance(one, sympy.Eq)]
        condition = self._text([*fixing, *found][0])
        if asked.fixes_size:
            return AddsGuards(
                f"it needs {condition}, one size of those dispatched on",
                "let it do for all sizes, or give it with winners= and have a graph "
                "for each size",
            )
        return AddsGuards(
            f"it needs {condition}, which the range does not decide",
            "split the range where that changes, or give it with winners=",
        )

    def warn_one_size(self, task: RangeTask) -> None:
        """Say that a given winner is the end of one graph for all sizes."""
        sizes = " and ".join(map(self._text, task.sizes))
        _warn_of_sizes(str(self._call.op), sizes, str(task.cell))

    def _text(self, expr: sympy.Basic) -> str:
        """An expression or a condition in Python, in terms of the call's arguments:
        ``w.shape[1]``, not s21."""
        names = {e: sympy.Symbol(name) for e, name in self._names.items()}
        # Compound sizes first: a symbol may be a part of them.
        compound = {e: n for e, n in names.items() if not e.is_Symbol}
        with sympy.evaluate(False):
            renamed = expr.xreplace(compound).xreplace(names)
        return PythonPrinter().doprint(renamed)


@functools.cache
def _warn_of_sizes(op: str, sizes: str, cell: str) -> None:
    log.warning(
        "%s: the winner given for range %s needs one %s: each size of that range has a "
        "graph of its own; an implementation that does for all sizes keeps it at one",
        op,
        cell,
        sizes,
    )


def _marked_symbols() -> tuple[OrderedSet[sympy.Symbol], OrderedSet[sympy.Symbol]]:
    """Symbols of dimensions that users marked dynamic, which must not become constants;
    and of those that were given bounds, which must not be guarded on at all."""
    marked: OrderedSet[sympy.Symbol] = OrderedSet()
    bounded: OrderedSet[sympy.Symbol] = OrderedSet()
    shape_env = V.graph.sizevars.shape_env
    for tracked in shape_env.tracked_fakes or ():
        constraints = getattr(tracked.symbolic_context, "constraint_sizes", None)
        for size, constraint in zip(
            getattr(tracked.fake, "shape", ()), constraints or ()
        ):
            # Sizes that were seen to change are marked so that it only warns.
            if getattr(constraint, "warn_only", True) or not hasattr(size, "node"):
                continue
            symbols = shape_env.replace(size.node.expr).free_symbols
            marked |= symbols
            if isinstance(constraint, StrictMinMaxConstraint):
                bounded |= symbols
    return marked, bounded
