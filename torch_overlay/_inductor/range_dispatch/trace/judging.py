"""Whether a call can have a candidate, from what the candidate asks of sizes."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.call.size_names import SizeNames
from torch._inductor.range_dispatch.trace.drops import AddsGuards
from torch._inductor.range_dispatch.trace.guards import equates_sizes
from torch._inductor.virtualized import V
from torch.fx.experimental.symbolic_shapes import ShapeEnv, StrictMinMaxConstraint
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sympy

    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask
    from torch._inductor.range_dispatch.trace.listening import Asked


log = logging.getLogger(__name__)


class Judge:
    """Judges the candidates of one call."""

    def __init__(self, call: BoundCall) -> None:
        self._call = call
        self._marked = _Marked.of(V.graph.sizevars.shape_env)
        # A condition in Python, with sizes named after the arguments.
        self.text = SizeNames(call).text

    def check_traced(self, asked: Asked) -> None:
        """Keep what users said of dimensions that they marked.

        Raises:
            AddsGuards: it cannot be kept.
        """
        self.check_constants(asked)
        conditions = [*asked.needs.always, *asked.needs.of_range]
        bounded = _joined(self._marked.bounded, asked.equalities)
        for one in conditions:
            if one.free_symbols <= bounded and not equates_sizes(one):
                raise AddsGuards(
                    f"it needs {self.text(one)}, and that dimension is marked "
                    "dynamic with bounds",
                    "mark it without min= and max=, or let it do for all sizes",
                )
        # Packages check when they run.
        is_final = V.graph.sizevars.shape_env.frozen and not V.graph.aot_mode
        if conditions and is_final:
            raise AddsGuards(
                f"it needs {self.text(conditions[0])}, and the guards of a "
                "backward graph are known before it is compiled",
                "let it do for all sizes",
            )

    def check_constants(self, asked: Asked) -> None:
        """A dimension that users marked dynamic does not become a number.

        Raises:
            AddsGuards: it does.
        """
        broken = [s for s in asked.constants if s in self._marked.marked]
        if broken:
            size, value = self.text(broken[0]), asked.constants[broken[0]]
            raise AddsGuards(
                f"it holds for {size} == {value} only, and that dimension is marked "
                "dynamic",
                f"let it compute with {size} in torch (no loop, shape or Python number "
                "made of it), or leave the dimension unmarked",
            )

    def check_lowered(self, asked: Asked, is_timed: bool) -> None:
        """What is timed has to be lowered for all sizes of its range.

        Raises:
            AddsGuards: it is for one of them.
        """
        self.check_constants(asked)
        if is_timed and asked.fixes_size and asked.needs.of_range:
            raise self.undecided(asked)

    def warn_one_size(self, task: RangeTask) -> None:
        """Say that a given winner is the end of one graph for all sizes."""
        sizes = " and ".join(map(self.text, task.sizes))
        _warn_of_sizes(str(self._call.op), sizes, str(task.cell))

    def undecided(self, asked: Asked) -> AddsGuards:
        """Why a candidate is out that needs more than its range decides."""
        condition = self.text(asked.undecided)
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


@functools.cache
def _warn_of_sizes(op: str, sizes: str, cell: str) -> None:
    log.warning(
        "%s: the winner given for range %s needs one %s: each size of that range has a "
        "graph of its own; an implementation that does for all sizes keeps it at one",
        op,
        cell,
        sizes,
    )


@dataclass(frozen=True)
class _Marked:
    """Symbols of dimensions that the user said something of.

    Those ``marked`` dynamic must not become constants, and those that were given
    ``bounds`` must not be guarded on at all.
    """

    marked: OrderedSet[sympy.Symbol]
    bounded: OrderedSet[sympy.Symbol]

    @classmethod
    def of(cls, shape_env: ShapeEnv) -> _Marked:
        """What the inputs of the graph that is compiled were marked with."""
        marked: OrderedSet[sympy.Symbol] = OrderedSet()
        bounded: OrderedSet[sympy.Symbol] = OrderedSet()
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
        return cls(marked, bounded)


def _joined(
    symbols: OrderedSet[sympy.Symbol], equalities: Sequence[sympy.Basic]
) -> OrderedSet[sympy.Symbol]:
    """Symbols, and those that equalities make depend on them."""
    found = OrderedSet([*symbols])
    for _ in equalities:
        for one in equalities:
            if one.free_symbols & found:
                found |= one.free_symbols
    return found
