"""The winner of every range of a call: given, agreed by ranks, or timed."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

import sympy

from torch._inductor.range_dispatch.call.cells import tasks_for_cells
from torch._inductor.range_dispatch.call.expected import ExpectedOutputs
from torch._inductor.range_dispatch.call.state import compile_state
from torch._inductor.range_dispatch.distributed.agreement import (
    agree,
    AgreedWinners,
    CallKey,
    decided,
)
from torch._inductor.range_dispatch.distributed.ranks import AgreementError
from torch._inductor.range_dispatch.plan.choosing import choose
from torch._inductor.range_dispatch.plan.grid_search import neighbours, steps_between
from torch._inductor.range_dispatch.trace.guards import within
from torch._inductor.range_dispatch.trace.holding import hold, hold_where_it_wins
from torch._inductor.range_dispatch.tuning.choices import RangeChoice, reason_of
from torch._inductor.range_dispatch.tuning.competitors import Competitors
from torch._inductor.range_dispatch.tuning.measuring import (
    measure_given,
    places_of,
    timings_of,
)
from torch._inductor.range_dispatch.tuning.range_search import RangeSearch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask
    from torch._inductor.range_dispatch.plan.ranges import Cell
    from torch._inductor.range_dispatch.region.fused_call import FusedCall
    from torch._inductor.range_dispatch.registration.candidates import Candidate
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.drops import Dropped
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate
    from torch.fx import GraphModule


@dataclass(frozen=True)
class ChosenCall:
    """A call, the outputs that it has to give, and the winner of each of its ranges.

    ``axes`` are the sizes that decide at run time. The graphs of the winners are over
    ``fake_operands``. ``number`` tells apart the choices of one compile. ``dropped``
    are the candidates that could not be used. ``agreed`` is what ranks agreed on, None
    if timing decided nothing.
    """

    registration: Registration
    call: BoundCall
    expected: ExpectedOutputs
    axes: tuple[Axis, ...]
    choices: Sequence[RangeChoice]
    fake_operands: Sequence[Any]
    number: int
    dropped: tuple[Dropped, ...]
    agreed: AgreedWinners | None

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
    axes: Sequence[Axis] = (),
    fused: FusedCall | None = None,
) -> ChosenCall | None:
    """The call with a winner for each range of ``axes`` that can occur, which may be
    found by a search. None if the call is left to the op itself.

    Candidates are timed with what is ``fused`` around the call. Calls that are alike
    are tuned once in a compile, and share their graphs.
    """
    expected = ExpectedOutputs.of(call)
    if expected is None:
        return None
    # Sizes that depend on data have symbols of their own in each call.
    sizes = tuple(str(tuple(tensor.shape)) for tensor in expected.outputs)
    around = None if fused is None else fused.digest
    key = (registration, call.signature(), sizes, around)
    known = compile_state().chosen
    if key not in known:
        dispatched = [axis.size for axis in axes]
        competitors = Competitors(
            registration, call, expected.outputs, dispatched, fused
        )
        choices, agreed = _choose(competitors, axes)
        competitors.drops.warn()
        _guard_on_needs(choices, competitors, dispatched)
        dropped = competitors.drops.listed()
        is_timed = any(one.timings for one in choices)
        chosen = ChosenCall(
            registration,
            call,
            expected,
            (),
            [
                dataclasses.replace(
                    one, reason=reason_of(registration, one, is_timed, dropped)
                )
                for one in choices
            ],
            competitors.variants.fake_operands,
            len(known),
            dropped,
            agreed,
        )
        # The call stays there, as its signature holds identities.
        known[key] = call, chosen if choices else None
    found: ChosenCall | None = known[key][1]
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


def _choose(
    competitors: Competitors, axes: Sequence[Axis]
) -> tuple[Sequence[RangeChoice], AgreedWinners | None]:
    """A choice for each range that can occur, and what ranks agreed on, if anything.

    There are none if not even the op itself can be traced for a range. The candidates
    of one that has several are timed, unless the ranks of a job agreed on winners
    before.
    """
    registration, call = competitors.registration, competitors.call
    dispatch, search = registration.dispatch, None
    tasks: list[RangeTask] = []
    choose_here: Callable[[], Sequence[RangeChoice] | None]
    if dispatch and dispatch.searched and not axes[0].is_static:
        search = RangeSearch(competitors, dispatch.searched, axes[0])
        choose_here = search.run
    else:
        tasks = tasks_for_cells(registration, call, axes)
        usable = {task.index: competitors.usable(task) for task in tasks}
        left_out = competitors.variants.left_out
        tasks = [task for task in tasks if task.cell not in left_out]
        if not tasks:
            return (), None
        choose_here = functools.partial(_timed, competitors, tasks, usable)
    if not competitors.are_timed:
        return choose_here() or (), None
    call_key = CallKey.of(registration, call)
    agreed = decided(call_key, None if search else [task.index for task in tasks])
    own: dict[int, RangeChoice] = {}
    if agreed is None:
        choices = choose_here()
        if choices is None:
            return (), None
        own = {one.task.index: one for one in choices}
        found = AgreedWinners(call_key, {i: one.number for i, one in own.items()})
        if search:
            ends = [one.task.size_range.end for one in choices]
            splits = tuple(end for end in ends if end is not None)
            found = dataclasses.replace(found, split_points=splits)
        agreed = agree(found)
        if agreed == found:
            return choices, agreed
    if search:
        intervals = search.tasks_for(agreed.split_points or ())
        return [_taken(competitors, *one, agreed) for one in intervals], agreed
    choices = [_taken(competitors, t, t, agreed, own.get(t.index)) for t in tasks]
    return choices, agreed


def _timed(
    competitors: Competitors,
    tasks: Sequence[RangeTask],
    usable: Mapping[int, Sequence[TracedCandidate]],
) -> Sequence[RangeChoice] | None:
    """A choice for each task, by timing where several candidates are usable.

    A cell that was not measured takes the winner of the nearest one. None if not even
    the op itself can be traced for one.
    """
    registration = competitors.registration
    able = [usable[task.index] for task in tasks]
    measured = measure_given(competitors.timer, tasks, able)
    timings = [timings_of(registration, *one) for one in zip(tasks, measured)]
    places = places_of(registration, tasks)
    winners = choose(timings, registration.min_speedup_threshold, neighbours(places))
    known = [(p, w) for p, w in zip(places, winners) if w is not None]
    choices = []
    for index, task in enumerate(tasks):
        graphs: dict[Candidate | None, TracedCandidate]
        graphs = {one.candidate: one for one in able[index]}
        winner, is_measured = winners[index], bool(measured[index])
        near = [] if is_measured else [(p, w) for p, w in known if w in graphs]
        if near:
            _, winner = min(near, key=lambda one: steps_between(one[0], places[index]))
        traced = able[index][0] if len(graphs) == 1 else graphs.get(winner)
        # Candidates that could not be run leave the op itself.
        traced = traced or competitors.last_resort(task)
        if traced is None:
            return None
        choices.append(
            RangeChoice(
                task,
                traced,
                competitors.number(task, traced),
                measured[index],
                timings[index],
                len(graphs) > 1 and not is_measured,
            )
        )
    return choices


def _taken(
    competitors: Competitors,
    task: RangeTask,
    interval: RangeTask,
    agreed: AgreedWinners,
    own: RangeChoice | None = None,
) -> RangeChoice:
    """What all ranks take for a range, this rank's own choice if it is the same.

    ``interval`` is the task that candidates are numbered for.
    """
    number = agreed.winners[task.index]
    if own is not None and own.number == number:
        return own
    candidate, traced = competitors.candidate(interval, number), None
    if candidate is not None:
        traced = competitors.variants.graph_for(candidate, task)
    if traced is None:
        raise AgreementError(
            f"all ranks take {candidate or number} for range {task.cell} of "
            f"{competitors.call.op}, which this rank cannot: it was dropped, as the "
            "log says. Register the op with winners=[...] that every rank can run"
        )
    own = own or RangeChoice(task, traced, number)
    return dataclasses.replace(own, winner=traced, number=number)
