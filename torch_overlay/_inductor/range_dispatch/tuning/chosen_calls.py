"""Calls of registered ops together with the winner of each of their ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.call.cells import tasks_for_cells
from torch._inductor.range_dispatch.call.expected import ExpectedOutputs
from torch._inductor.range_dispatch.tuning.selection import (
    SearchTask,
    select_winners,
    Selection,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask
    from torch._inductor.range_dispatch.plan.ranges import Cell
    from torch._inductor.range_dispatch.region.fused_call import FusedCall
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.tuning.selection import RangeChoice
    from torch.fx import GraphModule


@dataclass(frozen=True)
class ChosenCall:
    """A call, the outputs that it has to give, and what was chosen for it.

    ``axes`` are the sizes that decide at run time.
    """

    registration: Registration
    call: BoundCall
    expected: ExpectedOutputs
    axes: tuple[Axis, ...]
    selection: Selection

    @property
    def choices(self) -> Sequence[RangeChoice]:
        """One for each range that can occur."""
        return self.selection.choices

    @property
    def cells(self) -> list[Cell]:
        """The range of each choice."""
        return [choice.task.cell for choice in self.choices]

    @property
    def winners(self) -> list[GraphModule]:
        """The graph of each choice."""
        return [choice.winner.graph_module for choice in self.choices]


def choose_winners(
    registration: Registration,
    call: BoundCall,
    tasks: Sequence[RangeTask] | SearchTask,
    axes: Sequence[Axis],
    timed: FusedCall | None = None,
) -> ChosenCall | None:
    """The call with the winner of each task, None if it is left to the op itself.

    Candidates are ``timed`` with what is around the call, or by themselves.
    """
    expected = ExpectedOutputs.of(call)
    if expected is None:
        return None
    selection = select_winners(registration, call, expected.outputs, tasks, timed)
    if selection is None:
        return None
    # Tracing may have found sizes to be equal, or to be constants.
    settled = tuple(axis.settled() for axis in axes)
    return ChosenCall(registration, call, expected, settled, selection)


def dispatch_tasks(
    registration: Registration, call: BoundCall, axes: Sequence[Axis]
) -> Sequence[RangeTask] | SearchTask:
    """What is to be chosen for a call that is dispatched on these sizes.

    Raises:
        AssertionError: the registration dispatches on nothing.
    """
    dispatch = registration.dispatch
    if dispatch is None:
        raise AssertionError(f"{registration} has nothing to dispatch on")
    if dispatch.searched is not None and not axes[0].is_static:
        return SearchTask(axes[0], dispatch.searched)
    return tasks_for_cells(registration, call, axes)
