"""What is chosen for a call: the winner of each of its ranges."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Generic, TYPE_CHECKING, TypeVar

import sympy

from torch._inductor.range_dispatch.call.expected import ExpectedOutputs
from torch._inductor.range_dispatch.call.state import compile_state
from torch._inductor.range_dispatch.trace.guards import within
from torch._inductor.range_dispatch.trace.holding import hold, hold_where_it_wins

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask
    from torch._inductor.range_dispatch.plan.ranges import Cell
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.selection.competitors import Competitors
    from torch._inductor.range_dispatch.trace.drops import Dropped
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate
    from torch.fx import GraphModule


@dataclass(frozen=True)
class RangeChoice:
    """The winner of a range; ``number`` is the winner as registered."""

    task: RangeTask
    winner: TracedCandidate
    number: int


ChoiceT = TypeVar("ChoiceT", bound=RangeChoice)


@dataclass(frozen=True)
class ChosenCall(Generic[ChoiceT]):
    """A call, the outputs that it has to give, and the winner of each of its ranges.

    ``axes`` are the sizes that decide at run time. The graphs of the winners are over
    ``fake_operands``. ``number`` tells apart the choices of one compile. ``dropped``
    are the candidates that could not be used. ``agreed`` is what ranks agreed on, None
    if there was nothing to agree on.
    """

    registration: Registration
    call: BoundCall
    expected: ExpectedOutputs
    axes: tuple[Axis, ...]
    choices: Sequence[ChoiceT]
    fake_operands: Sequence[Any]
    number: int
    dropped: tuple[Dropped, ...]
    agreed: Any

    @property
    def cells(self) -> list[Cell]:
        """The range of each choice."""
        return [choice.task.cell for choice in self.choices]

    @property
    def winners(self) -> list[GraphModule]:
        """The graph of each choice."""
        return [choice.winner.graph_module for choice in self.choices]


@dataclass(frozen=True)
class Outcome(Generic[ChoiceT]):
    """The choices among ``competitors``, none if the op itself cannot be traced for a
    range; see ``ChosenCall`` for ``agreed``."""

    competitors: Competitors
    choices: Sequence[ChoiceT]
    agreed: Any = None


def chosen_call(
    registration: Registration,
    call: BoundCall,
    axes: Sequence[Axis],
    around: str | None,
    decide: Callable[[Sequence[torch.Tensor]], Outcome[ChoiceT]],
) -> ChosenCall[ChoiceT] | None:
    """The call with a winner for each range of ``axes`` that can occur. None if the
    call is left to the op itself.

    Calls that are alike are decided once in a compile, and share their graphs:
    ``around`` is the same for those with equal surroundings. ``decide`` is given the
    outputs that candidates have to give, as fake tensors.
    """
    expected = ExpectedOutputs.of(call)
    if expected is None:
        return None
    # Sizes that depend on data have symbols of their own in each call.
    sizes = tuple(str(tuple(tensor.shape)) for tensor in expected.outputs)
    key = (registration, call.signature(), sizes, around)
    known = compile_state().chosen
    if key not in known:
        outcome = decide(expected.outputs)
        competitors = outcome.competitors
        competitors.drops.warn()
        _guard_on_needs(outcome.choices, competitors, [axis.size for axis in axes])
        chosen = ChosenCall(
            registration,
            call,
            expected,
            (),
            outcome.choices,
            competitors.variants.fake_operands,
            len(known),
            competitors.drops.listed(),
            outcome.agreed,
        )
        # The call stays there, as its signature holds identities.
        known[key] = call, chosen if outcome.choices else None
    found: ChosenCall[ChoiceT] | None = known[key][1]
    if found is None:
        return None
    if found.agreed is not None:
        compile_state().agreed.append(found.agreed)
    # Tracing may have found sizes to be equal, or to be constants.
    simplified = tuple(axis.simplified() for axis in axes)
    return dataclasses.replace(found, call=call, expected=expected, axes=simplified)


def _guard_on_needs(
    choices: Sequence[RangeChoice],
    competitors: Competitors,
    sizes: Sequence[sympy.Expr],
) -> None:
    """Let the graph that is compiled hold for the sizes that its winners need."""
    left_out = [*competitors.variants.left_out]
    if left_out and choices:
        hold(sympy.Not(within(left_out, sizes)), str(competitors.call.op))
    for winner in dict.fromkeys(choice.winner for choice in choices):
        if winner.needs:
            own = [c.task.cell for c in choices if c.winner is winner]
            others = [c.task.cell for c in choices if c.winner is not winner]
            others += left_out
            hold_where_it_wins(winner.needs, own, others, sizes, winner.candidate.name)
