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
from torch._inductor.range_dispatch.trace.listening import Listener
from torch._inductor.range_dispatch.trace.scratch import tried_in
from torch._inductor.range_dispatch.trace.tracing import trace_candidate
from torch._inductor.virtualized import V
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch._inductor.range_dispatch.binding import BoundCall
    from torch._inductor.range_dispatch.candidates import Candidate
    from torch._inductor.range_dispatch.sizes import RangeTask, SymbolValues
    from torch._inductor.range_dispatch.trace.listening import Asked


# How often a candidate is traced for a range, and how many sizes are looked at to find
# one that it takes.
_MOST_ATTEMPTS = 6
_MOST_SIZES = 1 << 12


@dataclass(frozen=True)
class Attempt:
    """A candidate's graph or the error of tracing it, and what was asked of sizes.

    ``values`` are the sizes that decided, None for those seen at compile time.
    """

    values: SymbolValues | None
    graph_module: torch.fx.GraphModule | None
    error: Exception | None
    asked: Asked


def better_of(first: Attempt, second: Attempt) -> Attempt:
    """The first unless it failed, or its range does not decide what it asks for."""
    if second.error is None and (first.error is not None or first.asked.needs.of_range):
        if first.error is not None or not second.asked.needs.of_range:
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

    def run(
        self, with_dynamo: bool = False, first: SymbolValues | None = None
    ) -> Attempt:
        """Trace; nothing is guarded on afterwards.

        Where the sizes seen at compile time are of another range, others stand for it:
        those given to be tried ``first``, the smallest of the range, the largest, and
        then such as do not go the way that failed.
        """
        if self.task is None or is_seen_in(self.task):
            return self._run(None, with_dynamo)
        attempts: list[Attempt] = []
        waiting = [*([first] if first else []), *_sizes_of(self.call, self.task)]
        while waiting and len(attempts) < _MOST_ATTEMPTS:
            attempts.append(self._run(waiting.pop(0), with_dynamo))
            if attempts[-1].error is None:
                return attempts[-1]
            if not waiting:
                waiting = self._other_way(attempts[-1])
        return attempts[0] if attempts else self._run(None, with_dynamo)

    def _other_way(self, failed: Attempt) -> list[SymbolValues]:
        """The smallest sizes for which the last condition is another one, if any."""
        symbols = OrderedSet(s for size in self.sizes for s in size.free_symbols)
        asked = [one for one in failed.asked.conditions if one.free_symbols <= symbols]
        if not asked or len(symbols) != 1 or self.task is None or not failed.values:
            return []
        (symbol,) = symbols
        way = sympy.And(*asked[:-1], sympy.Not(asked[-1]))
        start, _ = bounds_of(symbol)
        for value in range(start, start + _MOST_SIZES):
            values = {**failed.values, symbol: value}
            if [evaluate(size, values) for size in self.sizes] in self.task.cell:
                if way.xreplace({symbol: sympy.Integer(value)}) == sympy.true:
                    return [values]
        return []

    def _run(self, values: SymbolValues | None, with_dynamo: bool) -> Attempt:
        shape_env = V.graph.sizevars.shape_env
        cell = None if self.task is None else self.task.cell
        with tried_in(self.sizes, cell, values, shape_env, self.equalities):
            if values is not None:  # with those that turned out to be equal
                seen = shape_env.backed_var_to_val
                values = {s: int(seen.get(s, v)) for s, v in values.items()}
            listener = Listener(self.call, self.sizes, shape_env)
            graph_module, error = None, None
            try:
                with V.fake_mode:
                    operands = self.call.fake_operands()
                graph_module = trace_candidate(
                    self.candidate, self.call, operands, self.expected, with_dynamo
                )
            except Exception as raised:
                error = raised
            asked = listener.asked(self.equalities)
            return Attempt(values, graph_module, error, asked)


def _sizes_of(call: BoundCall, task: RangeTask) -> list[SymbolValues]:
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
