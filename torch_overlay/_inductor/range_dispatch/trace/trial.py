"""Traces a candidate in a scratch shape environment, and tells what it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sympy

from torch._inductor.range_dispatch.sizes import (
    bounds_of,
    evaluate,
    hint_values,
    values_near,
)
from torch._inductor.range_dispatch.trace.guards import equates_sizes, Needs, sort_needs
from torch._inductor.range_dispatch.trace.narrowing import tried_in
from torch._inductor.range_dispatch.trace.tracing import trace_candidate
from torch._inductor.virtualized import V
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch._inductor.range_dispatch.binding import BoundCall
    from torch._inductor.range_dispatch.candidates import Candidate
    from torch._inductor.range_dispatch.sizes import RangeTask, SymbolValues
    from torch.fx.experimental.symbolic_shapes import ShapeEnv


@dataclass(frozen=True)
class Attempt:
    """A candidate's graph or the error of tracing it, and what was asked of sizes.

    ``constants`` are symbols that became numbers, ``dispatched`` those of the
    dispatched sizes, with those that are equal to them. If ``fixes_size``, a dispatched
    size as a whole became a number.
    """

    graph_module: torch.fx.GraphModule | None
    error: Exception | None
    conditions: Sequence[sympy.Basic]
    needs: Needs
    constants: dict[sympy.Symbol, sympy.Integer]
    dispatched: OrderedSet[sympy.Symbol]
    fixes_size: bool

    @property
    def looks_at_dispatched(self) -> bool:
        """Whether anything was asked of a dispatched size."""
        return any(one.free_symbols & self.dispatched for one in self.conditions)

    @property
    def fixes_dispatched(self) -> bool:
        """Whether it is for one value of a symbol of the dispatched sizes only."""
        return any(symbol in self.dispatched for symbol in self.constants)

    @property
    def equalities(self) -> Sequence[sympy.Basic]:
        """Which different sizes have to be equal."""
        return [one for one in self.conditions if equates_sizes(one)]


def better_of(first: Attempt, second: Attempt) -> Attempt:
    """The first unless it failed, or its range does not decide what it asks for."""
    if second.error is None and (first.error is not None or first.needs.of_range):
        if first.error is not None or not second.needs.of_range:
            return second
    return second if first.error is not None else first


@dataclass(frozen=True)
class Trial:
    """A candidate to be traced, for the sizes of a task or for all.

    ``sizes`` are the dispatched ones. ``equalities`` are known to be needed.
    """

    candidate: Candidate
    call: BoundCall
    expected: Sequence[torch.Tensor]
    sizes: Sequence[sympy.Expr]
    task: RangeTask | None
    equalities: Sequence[sympy.Basic]

    def run(self, with_dynamo: bool = False) -> Attempt:
        """Trace; nothing is guarded on afterwards.

        Where the sizes seen at compile time are of another range, the smallest of the
        range stand for it, or the largest if that fails.
        """
        if self.task is None or is_seen_in(self.task):
            return self._run(None, with_dynamo)
        attempts = []
        for values in sizes_of(self.call, self.task):
            attempts.append(self._run(values, with_dynamo))
            if attempts[-1].error is None:
                return attempts[-1]
        return attempts[0] if attempts else self._run(None, with_dynamo)

    def _run(self, values: SymbolValues | None, with_dynamo: bool) -> Attempt:
        shape_env = V.graph.sizevars.shape_env
        cell = None if self.task is None else self.task.cell
        with tried_in(self.sizes, cell, values, shape_env, self.equalities) as sizes:
            return self._trace(shape_env, sizes, with_dynamo)

    def _trace(
        self, shape_env: ShapeEnv, sizes: Sequence[sympy.Expr], with_dynamo: bool
    ) -> Attempt:
        symbols = OrderedSet(s for size in sizes for s in size.free_symbols)
        of_call = self.call.size_symbols() | symbols
        bounds = {s: bounds_of(s, shape_env) for s in of_call}
        known = OrderedSet(s for s in of_call if shape_env.replace(s).is_Integer)
        before = len(shape_env.guards)
        graph_module, error = None, None
        try:
            with V.fake_mode:
                operands = self.call.fake_operands()
            graph_module = trace_candidate(
                self.candidate, self.call, operands, self.expected, with_dynamo
            )
        except Exception as raised:
            error = raised
        asked = [guard.expr for guard in shape_env.guards[before:]]
        dispatched = self._dispatched(shape_env, symbols, bounds)
        conditions = [*self.equalities, *asked]
        # A bound may leave a range one size, and is still a bound.
        equated = [one for one in conditions if isinstance(one, sympy.Eq)]
        fixed = OrderedSet(s for one in equated for s in one.free_symbols)
        constants = {
            s: shape_env.replace(s)
            for s in of_call - known
            if s in fixed and shape_env.replace(s).is_Integer
        }
        needs = sort_needs(conditions, dispatched, bounds)
        fixes_size = any(
            shape_env.replace(size).is_Integer and size.free_symbols & constants.keys()
            for size in sizes
        )
        return Attempt(
            graph_module, error, conditions, needs, constants, dispatched, fixes_size
        )

    def _dispatched(
        self,
        shape_env: ShapeEnv,
        symbols: OrderedSet[sympy.Symbol],
        bounds: dict[sympy.Symbol, tuple[int, int | None]],
    ) -> OrderedSet[sympy.Symbol]:
        """The dispatched symbols and those that tracing found to be equal to them."""
        found = OrderedSet([*symbols])
        for size in self.sizes:
            found |= size.free_symbols
        for symbol in [*found]:
            now = shape_env.replace(symbol)
            found |= now.free_symbols
            if now.is_Symbol and symbol in bounds:
                bounds[now] = bounds[symbol]
        return found


def sizes_of(call: BoundCall, task: RangeTask) -> list[SymbolValues]:
    """Sizes of a range to trace with, the smallest and the largest that it is timed at,
    as far as some are known."""
    if not task.samples:
        return []
    found = [task.samples[0].values, task.values]
    if len(task.sizes) == 1:
        size = task.sizes[0]
        first = max(task.size_range.start, bounds_of(size)[0])
        found.insert(0, values_near(call, size, first, first))
    return [*{tuple(v.items()): v for v in found}.values()]


def is_seen_in(task: RangeTask) -> bool:
    """Whether the sizes seen at compile time lie in a task's range."""
    seen = hint_values(OrderedSet(s for size in task.sizes for s in size.free_symbols))
    return [evaluate(size, seen) for size in task.sizes] in task.cell
