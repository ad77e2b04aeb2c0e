"""The winner of every range of a call, as it is given."""

from __future__ import annotations

from typing import Any, TYPE_CHECKING

from torch._inductor.range_dispatch.call.cells import tasks_for_cells
from torch._inductor.range_dispatch.selection.choices import (
    chosen_call,
    ChosenCall,
    Outcome,
    RangeChoice,
)
from torch._inductor.range_dispatch.selection.competitors import Competitors

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.registration.spec import Registration


def choose_winners(
    registration: Registration,
    call: BoundCall,
    axes: Sequence[Axis] = (),
    fused: Any = None,
) -> ChosenCall[RangeChoice] | None:
    """The call with a winner for each range of ``axes`` that can occur. None if the
    call is left to the op itself.

    Where several candidates compete, the op itself is taken: nothing is timed yet.
    ``fused`` is what is around the call.
    """

    def decide(expected: Sequence[torch.Tensor]) -> Outcome[RangeChoice]:
        sizes = [axis.size for axis in axes]
        competitors = Competitors(registration, call, expected, sizes)
        choices = []
        for task in tasks_for_cells(registration, call, axes):
            usable = competitors.usable(task)
            if task.cell in competitors.variants.left_out:
                continue
            winner = usable[0] if len(usable) == 1 else competitors.last_resort(task)
            if winner is None:
                return Outcome(competitors, ())
            number = competitors.number(task, winner)
            choices.append(RangeChoice(task, winner, number))
        return Outcome(competitors, choices)

    around = None if fused is None else fused.digest
    return chosen_call(registration, call, axes, around, decide)
