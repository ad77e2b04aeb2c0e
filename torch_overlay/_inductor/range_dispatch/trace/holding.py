"""Lets what candidates need of sizes hold: for a while, or in the compiled graph."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import sympy

from torch._inductor import ir
from torch._inductor.range_dispatch.call.scratch import add_guard, scratch, tried_in
from torch._inductor.range_dispatch.call.sizes import (
    hint_values,
    Sample,
    with_equal_sizes,
)
from torch._inductor.range_dispatch.plan.ranges import hull_of
from torch._inductor.range_dispatch.trace.guards import equates_sizes, within
from torch._inductor.range_dispatch.trace.listening import Listener
from torch._inductor.range_dispatch.trace.trial import is_seen_in
from torch._inductor.virtualized import V
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask, SymbolValues
    from torch._inductor.range_dispatch.plan.ranges import Cell
    from torch._inductor.range_dispatch.trace.guards import Needs
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate


@contextlib.contextmanager
def assumed(needs: Sequence[Needs]) -> Iterator[None]:
    """Let what graphs need hold inside, and nothing be guarded on afterwards."""
    found = [condition for one in needs for condition in one.always]
    # What other ranges need may not hold for the sizes seen at compile time.
    conditions = [condition for condition in found if _holds(condition, {})]
    if not conditions:
        yield
        return
    shape_env = V.graph.sizevars.shape_env
    with scratch(shape_env):
        for condition in conditions:
            add_guard(shape_env, condition)
        yield


@contextlib.contextmanager
def lowered_for(
    winners: Sequence[TracedCandidate], tasks: Sequence[RangeTask], call: BoundCall
) -> Iterator[Listener]:
    """Let graphs be lowered as what they were traced for, sizes of the tasks' ranges.

    Nothing is guarded on afterwards; the listener tells what was asked for.
    """
    shape_env = V.graph.sizevars.shape_env
    cell = None
    if any(one.is_for_range for one in winners):
        cell = hull_of([task.cell for task in tasks])
    needs = [c for one in winners for c in (*one.needs.always, *one.needs.of_range)]
    equalities = [one for one in needs if equates_sizes(one) and _holds(one, {})]
    values = None if any(map(is_seen_in, tasks)) else _traced_with(winners)
    with tried_in(tasks[0].sizes, cell, values, shape_env, equalities) as sizes:
        for condition in needs:
            add_guard(shape_env, condition)
        yield Listener(call, sizes, shape_env)


def _traced_with(winners: Sequence[TracedCandidate]) -> SymbolValues | None:
    """Sizes that the winners were traced with, such as all of them take if possible."""
    found = [one.values for one in winners if one.values is not None]
    fitting = [v for v in found if all(suits(one.needs, v) for one in winners)]
    return next(iter(fitting or found), None)


def sample_for(
    candidates: Sequence[TracedCandidate], sample: Sample, sizes: Sequence[sympy.Expr]
) -> Sample:
    """The sample, with sizes equal that all these candidates together need equal."""
    with assumed([one.needs for one in candidates]):
        sample = with_equal_sizes(sample, sizes)
        values = dict(sample.values)
        for symbol in sample.values:
            now = V.graph.sizevars.shape_env.replace(symbol)
            if now != symbol and now.free_symbols <= values.keys():
                values[symbol] = int(now.xreplace(values))
    return Sample(values, sample.weight)


def suits(needs: Needs, values: SymbolValues) -> bool:
    """Whether what a graph needs holds at these sizes."""
    return all(_holds(one, values) for one in (*needs.always, *needs.of_range))


def _holds(condition: sympy.Basic, values: SymbolValues) -> bool:
    """Whether a condition holds at sizes; others are those seen at compile time."""
    unknown = OrderedSet(s for s in condition.free_symbols if s not in values)
    return condition.xreplace({**hint_values(unknown), **values}) != sympy.false


def hold_where_it_wins(
    needs: Needs,
    cells: Sequence[Cell],
    others: Sequence[Cell],
    sizes: Sequence[sympy.Expr],
    what: str,
) -> None:
    """Guard on what a winner needs of sizes.

    Of the dispatched sizes it is needed in the cells that it wins, not in ``others``.
    """
    dispatched = OrderedSet(symbol for size in sizes for symbol in size.free_symbols)
    elsewhere = sympy.Not(within(cells, sizes)) if others else sympy.false
    for condition in needs.always:
        is_general = equates_sizes(condition) or condition.free_symbols <= dispatched
        if not condition.free_symbols & dispatched:
            is_general = True
        if is_general and _holds(condition, {}):
            hold(condition, what)
        else:
            hold(sympy.Or(elsewhere, condition), what)
    for condition in needs.of_range:
        hold(sympy.Or(elsewhere, condition), what)


def hold(condition: sympy.Basic, what: str) -> None:
    """Let a condition on sizes, which ``what`` needs, hold for the compiled graph.

    It is a guard, but for packages, which have none and raise where it does not hold.
    """
    shape_env = V.graph.sizevars.shape_env
    known = shape_env._maybe_evaluate_static(condition)
    if known == sympy.true:
        return
    if not add_guard(shape_env, condition):
        raise AssertionError(f"{condition} does not hold for the sizes compiled with")
    if V.graph.aot_mode:
        check = ir.AssertScalar(condition, f"{what} was compiled for {condition}")
        V.graph.register_buffer(check, set_name=True)
        V.graph.register_operation(check)
