"""Traces a candidate in a scratch shape environment, and tells what it asks for."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sympy

from torch._inductor.range_dispatch.call.scratch import tried_in
from torch._inductor.range_dispatch.call.sizes import (
    agreeing,
    bounds_of,
    evaluate,
    hint_values,
    symbols_of,
    values_near,
)
from torch._inductor.range_dispatch.trace.guards import Listener
from torch._inductor.range_dispatch.trace.proving import predicate_of
from torch._inductor.range_dispatch.trace.tracing import trace_candidate
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask, SymbolValues
    from torch._inductor.range_dispatch.registration.candidates import Candidate
    from torch._inductor.range_dispatch.trace.guards import Asked


# How often a candidate is traced for a range, and how many sizes are looked at to find
# one that it takes.
_MOST_ATTEMPTS = 6
_MOST_SIZES = 1 << 12
# Where one is looked for that is like those seen at compile time, and of what size.
_MOST_LOOKED_AT = 1 << 8
_USUAL_SIZE = 60


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
    """The first unless it failed, or only the second's range decides what it asks."""
    if first.error or second.error:
        return second if first.error else first
    is_worse = first.asked.needs.of_range and not second.asked.needs.of_range
    return second if is_worse else first


@dataclass(frozen=True)
class Trial:
    """A candidate to be traced, for the sizes of a task or for all.

    ``sizes`` are the dispatched ones, and ``before`` what it asked for when it was
    traced for all.
    """

    candidate: Candidate
    call: BoundCall
    expected: Sequence[torch.Tensor]
    sizes: Sequence[sympy.Expr]
    task: RangeTask | None
    before: Asked | None

    def run(
        self, with_dynamo: bool = False, first: SymbolValues | None = None
    ) -> Attempt:
        """Trace; nothing is guarded on afterwards.

        Where the sizes seen at compile time are of another range, others stand for it:
        those given to be tried ``first``, some of the range, and then such as do not
        go the way that failed.
        """
        if self.task is None or is_seen_in(self.task):
            return self._run(None, with_dynamo)
        attempts: list[Attempt] = []
        seen = self.before.conditions if self.before else ()
        waiting = _sizes_of(self.call, self.task, seen)
        if first:
            waiting.insert(0, first)
        while waiting and len(attempts) < _MOST_ATTEMPTS:
            attempts.append(self._run(waiting.pop(0), with_dynamo))
            if attempts[-1].error is None:
                return attempts[-1]
            if not waiting:
                waiting = self._other_way(attempts[-1])
        return attempts[0] if attempts else self._run(None, with_dynamo)

    def _other_way(self, failed: Attempt) -> list[SymbolValues]:
        """The smallest sizes for which the last condition is another one, if any."""
        symbols = symbols_of(self.sizes)
        asked = [one for one in failed.asked.conditions if one.free_symbols <= symbols]
        if not asked or len(symbols) != 1 or self.task is None or not failed.values:
            return []
        (symbol,) = symbols
        conditions = [*asked[:-1], sympy.Not(asked[-1])]
        start, highest = bounds_of(symbol)
        end = start + _MOST_SIZES if highest is None else highest + 1
        for value in range(start, min(end, start + _MOST_SIZES)):
            values = {**failed.values, symbol: value}
            if [evaluate(size, values) for size in self.sizes] in self.task.cell:
                if _number_true(conditions, symbol, value) == len(conditions):
                    return [values]
        return []

    def _run(self, values: SymbolValues | None, with_dynamo: bool) -> Attempt:
        cell = None if self.task is None else self.task.cell
        equalities = self.before.equalities if self.before else ()
        with tried_in(self.sizes, cell, values, equalities):
            if values is not None:
                values = agreeing(values, self.sizes)
            listener = Listener(self.call, self.sizes)
            graph_module, error = None, None
            try:
                operands = self.call.fake_operands()
                graph_module = trace_candidate(
                    self.candidate, self.call, operands, self.expected, with_dynamo
                )
            except Exception as raised:
                error = raised
            return Attempt(values, graph_module, error, listener.asked(equalities))


def _sizes_of(
    call: BoundCall, task: RangeTask, asked: Sequence[sympy.Basic]
) -> list[SymbolValues]:
    """Sizes of a range to trace with, as far as some are known.

    First one at which as much as can be is as it is for the sizes seen at compile time,
    where conditions were ``asked``, then those that it is timed at.
    """
    if not task.samples:
        return []
    found = [task.samples[0].values, task.values]
    if len(task.sizes) == 1:
        size = task.sizes[0]
        lowest, highest = bounds_of(size)
        first = max(task.size_range.start, lowest)
        first_values = values_near(call, size, first, first)
        found.insert(0, first_values)
        if size.is_Symbol:
            ends = [end for end in (highest, task.size_range.end) if end is not None]
            last = min([first + _MOST_LOOKED_AT, *ends])
            found.insert(0, {**first_values, size: _alike(size, first, last, asked)})
        # Inputs that were seen to agree most likely have to.
        found = [one for values in found for one in (_together(values, size), values)]
    return [*{tuple(v.items()): v for v in found}.values()]


def _alike(
    symbol: sympy.Symbol, first: int, last: int, asked: Sequence[sympy.Basic]
) -> int:
    """The size from ``first`` to ``last`` for which most conditions hold."""
    conditions = [one for one in asked if one.free_symbols == OrderedSet([symbol])]

    def rank(value: int) -> tuple[int, int]:
        # Small sizes are special: half of one may be 1, which broadcasts.
        return _number_true(conditions, symbol, value), -abs(value - _USUAL_SIZE)

    return max(range(first, max(first, last) + 1), key=rank)


def _number_true(
    conditions: Sequence[sympy.Basic], symbol: sympy.Symbol, value: int
) -> int:
    """How many conditions on a size hold for a value."""
    number = 0
    for one in conditions:
        with contextlib.suppress(ArithmeticError, ValueError):
            number += bool(predicate_of(one, symbol)(value))
    return number


def _together(values: SymbolValues, size: sympy.Expr) -> SymbolValues:
    """The values, with other symbols that were seen to be as large as the dispatched
    one following it."""
    if not size.is_Symbol:
        return values
    seen = hint_values(OrderedSet(values))
    return {s: values[size] if seen[s] == seen[size] else v for s, v in values.items()}


def is_seen_in(task: RangeTask) -> bool:
    """Whether the sizes seen at compile time lie in a task's range."""
    seen = hint_values(symbols_of(task.sizes))
    return [evaluate(size, seen) for size in task.sizes] in task.cell
