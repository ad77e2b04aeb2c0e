"""Lowers a branch as what it was traced for: sizes of its ranges."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.ranges import hull_of
from torch._inductor.range_dispatch.sizes import bounds_of
from torch._inductor.range_dispatch.trace.guards import sort_needs
from torch._inductor.range_dispatch.trace.holding import hold_where_it_wins
from torch._inductor.range_dispatch.trace.narrowing import tried_in
from torch._inductor.range_dispatch.trace.scratch import add_guard
from torch._inductor.range_dispatch.trace.trial import is_seen_in, sizes_of
from torch._inductor.virtualized import V
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import sympy

    import torch
    from torch._inductor.range_dispatch.binding import BoundCall
    from torch._inductor.range_dispatch.ranges import Cell
    from torch._inductor.range_dispatch.selection import RangeChoice
    from torch._inductor.range_dispatch.sizes import RangeTask


def lower_for_ranges(
    branches: Sequence[torch.fx.GraphModule],
    rows: Sequence[Sequence[RangeChoice]],
    call: BoundCall,
) -> None:
    """Let branches whose graphs hold for their ranges only be lowered for these.

    Else lowering asks again for what the range decided when the graph was traced, and
    the graph that is compiled is guarded on it. ``branches`` and ``rows`` tell for each
    range what runs, and the choices of the ops in it; ``call`` is the first op's.
    """
    for branch in dict.fromkeys(branches):
        own = [row for one, row in zip(branches, rows, strict=True) if one is branch]
        if not any(choice.winner.is_for_range for choice in own[0]):
            continue
        others = [
            row[0].task.cell for one, row in zip(branches, rows) if one is not branch
        ]
        needs = [n for choice in own[0] for n in choice.winner.needs.of_range]
        branch.meta["inductor_lowering_context"] = functools.partial(
            _lowered_for,
            [row[0].task for row in own],
            needs,
            others,
            call,
            " and ".join(choice.winner.candidate.name for choice in own[0]),
        )


@contextlib.contextmanager
def _lowered_for(
    tasks: Sequence[RangeTask],
    needs: Sequence[sympy.Basic],
    others: Sequence[Cell],
    call: BoundCall,
    what: str,
) -> Iterator[None]:
    """Sizes are those of the tasks' ranges; what lowering asks for is then guarded on
    where it is not decided by them."""
    shape_env = V.graph.sizevars.shape_env
    cells = [task.cell for task in tasks]
    values = None
    if not any(map(is_seen_in, tasks)):
        values = next(iter(sizes_of(call, tasks[0])), None)
    with tried_in(tasks[0].sizes, hull_of(cells), values, shape_env) as sizes:
        symbols = OrderedSet(symbol for size in sizes for symbol in size.free_symbols)
        bounds = {s: bounds_of(s, shape_env) for s in call.size_symbols() | symbols}
        for condition in needs:
            add_guard(shape_env, condition)
        before = len(shape_env.guards)
        yield
        asked = [guard.expr for guard in shape_env.guards[before:]]
        found = sort_needs(asked, symbols, bounds)
    hold_where_it_wins(found, cells, others, sizes, what)
