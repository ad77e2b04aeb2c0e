"""Lowers a branch as what it was traced for: sizes of its ranges."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.registration.forcing import given_winner
from torch._inductor.range_dispatch.selection.competitors import UnusableWinner
from torch._inductor.range_dispatch.trace.drops import CandidateRejected
from torch._inductor.range_dispatch.trace.guard_limits import Judge
from torch._inductor.range_dispatch.trace.holding import hold_where_it_wins, lowered_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask
    from torch._inductor.range_dispatch.plan.ranges import Cell
    from torch._inductor.range_dispatch.selection.choices import RangeChoice
    from torch._inductor.range_dispatch.trace.guards import Asked
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate


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
        winners = [choice.winner for choice in own[0]]
        branch.meta["inductor_lowering_context"] = functools.partial(
            _lowered_for, winners, [row[0].task for row in own], others, call
        )


@contextlib.contextmanager
def _lowered_for(
    winners: Sequence[TracedCandidate],
    tasks: Sequence[RangeTask],
    others: Sequence[Cell],
    call: BoundCall,
) -> Iterator[None]:
    """Sizes are those of the tasks' ranges; what lowering asks for is then guarded on
    where it is not decided by them."""
    cells = [task.cell for task in tasks]
    with lowered_for(winners, tasks, call) as listener:
        yield
        asked = listener.asked()
    _check(asked, winners, tasks, call)
    what = " and ".join(one.candidate.name for one in winners)
    hold_where_it_wins(asked.needs, cells, others, tasks[0].sizes, what)


def _check(
    asked: Asked,
    winners: Sequence[TracedCandidate],
    tasks: Sequence[RangeTask],
    call: BoundCall,
) -> None:
    """Raise for a marked size that became a number, and warn of another one."""
    judge = Judge(call)
    try:
        judge.check_lowered(asked, is_timed=False)
    except CandidateRejected as reason:
        names = " and ".join(str(one.candidate) for one in winners)
        raise UnusableWinner(
            f"{given_winner(call.op, tasks[0].index)} of {call.op}, {names}, cannot be "
            f"used for range {tasks[0].cell}: {reason}. To run the op itself there: "
            "config.range_dispatch.on_unusable_winner = 'fallback'"
        ) from reason
    if asked.fixes_size and asked.needs.of_range:
        judge.warn_one_size(tasks[0])
