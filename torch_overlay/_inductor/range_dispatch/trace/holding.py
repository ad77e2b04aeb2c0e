"""Lets what candidates need of sizes hold: for a while, or in the compiled graph."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import sympy

from torch._inductor import ir
from torch._inductor.range_dispatch.call.scratch import add_guard, tried_in
from torch._inductor.range_dispatch.call.sizes import (
    agreeing,
    hint_values,
    Sample,
    symbols_of,
)
from torch._inductor.range_dispatch.plan.ranges import hull_of
from torch._inductor.range_dispatch.trace.guards import equates_sizes, Listener, within
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
def lowered_for(
    winners: Sequence[TracedCandidate], tasks: Sequence[RangeTask], call: BoundCall
) -> Iterator[Listener]:
    """Let graphs be lowered as what they were traced for, sizes of the tasks' ranges.

    Nothing is guarded on afterwards; the listener tells what was asked for.
    """
    cell = None
    if any(one.is_for_range for one in winners):
        cell = hull_of([task.cell for task in tasks])
    needs = [condition for one in winners for condition in one.needs.all]
    equalities = [one for one in needs if equates_sizes(one) and _holds(one, {})]
    values = None if any(map(is_seen_in, tasks)) else _traced_with(winners)
    with tried_in(tasks[0].sizes, cell, values, equalities):
        for condition in needs:
            add_guard(condition)
        yield Listener(call, tasks[0].sizes)


def _traced_with(winners: Sequence[TracedCandidate]) -> SymbolValues | None:
    """Sizes that the winners were traced with, such as all of them take if possible."""
    found = [one.values for one in winners if one.values is not None]
    fitting = [v for v in found if all(suits(one.needs, v) for one in winners)]
    return next(iter(fitting or found), None)


def sample_for(
    candidates: Sequence[TracedCandidate], sample: Sample, sizes: Sequence[sympy.Expr]
) -> Sample:
    """The sample, with sizes equal that all these candidates together need equal."""
    # What other ranges need may not hold for the sizes seen at compile time.
    needed = [c for one in candidates for c in one.needs.always if _holds(c, {})]
    with tried_in(sizes, None, None, needed) if needed else contextlib.nullcontext():
        return Sample(agreeing(sample.values, sizes), sample.weight)


def suits(needs: Needs, values: SymbolValues) -> bool:
    """Whether what a graph needs holds at these sizes."""
    return all(_holds(one, values) for one in needs.all)


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
    dispatched = symbols_of(sizes)
    elsewhere = sympy.Not(within(cells, sizes)) if others else sympy.false
    for condition in needs.all:
        symbols = condition.free_symbols
        is_of_one_kind = symbols <= dispatched or not symbols & dispatched
        is_general = is_of_one_kind or equates_sizes(condition)
        if condition in needs.always and is_general and _holds(condition, {}):
            hold(condition, what)
        else:
            hold(sympy.Or(elsewhere, condition), what)


def hold(condition: sympy.Basic, what: str) -> None:
    """Let a condition on sizes, which ``what`` needs, hold for the compiled graph.

    It is a guard, but for packages, which have none and raise where it does not hold.
    """
    if V.graph.sizevars.shape_env._maybe_evaluate_static(condition) == sympy.true:
        return
    if not add_guard(condition):
        raise AssertionError(f"{condition} does not hold for the sizes compiled with")
    if V.graph.aot_mode:
        check = ir.AssertScalar(condition, f"{what} was compiled for {condition}")
        V.graph.register_buffer(check, set_name=True)
        V.graph.register_operation(check)
