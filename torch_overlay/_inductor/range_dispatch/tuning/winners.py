"""The winner of every range of a call: given, agreed by ranks, or timed."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.call.cells import tasks_for_cells
from torch._inductor.range_dispatch.distributed.agreement import (
    agree,
    AgreedWinners,
    CallKey,
    decided,
)
from torch._inductor.range_dispatch.distributed.ranks import AgreementError
from torch._inductor.range_dispatch.plan.choosing import choose
from torch._inductor.range_dispatch.plan.grid_search import neighbours, steps_between
from torch._inductor.range_dispatch.selection.choices import (
    chosen_call,
    ChosenCall,
    Outcome,
)
from torch._inductor.range_dispatch.tuning.measuring import (
    measure_given,
    places_of,
    timings_of,
)
from torch._inductor.range_dispatch.tuning.range_search import RangeSearch
from torch._inductor.range_dispatch.tuning.timed_choices import reason_of, TimedChoice
from torch._inductor.range_dispatch.tuning.timed_competitors import TimedCompetitors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch
    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask
    from torch._inductor.range_dispatch.region.fused_call import FusedCall
    from torch._inductor.range_dispatch.registration.candidates import Candidate
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate


def choose_winners(
    registration: Registration,
    call: BoundCall,
    axes: Sequence[Axis] = (),
    fused: FusedCall | None = None,
) -> ChosenCall[TimedChoice] | None:
    """The call with a winner for each range of ``axes`` that can occur, which may be
    found by a search. None if the call is left to the op itself.

    Candidates are timed with what is ``fused`` around the call.
    """

    def decide(expected: Sequence[torch.Tensor]) -> Outcome[TimedChoice]:
        sizes = [axis.size for axis in axes]
        competitors = TimedCompetitors(registration, call, expected, sizes, fused)
        choices, agreed = _choose(competitors, axes)
        dropped = competitors.drops.listed()
        is_timed = any(one.timings for one in choices)
        with_reasons = [
            dataclasses.replace(
                one, reason=reason_of(registration, one, is_timed, dropped)
            )
            for one in choices
        ]
        return Outcome(competitors, with_reasons, agreed)

    around = None if fused is None else fused.digest
    return chosen_call(registration, call, axes, around, decide)


def _choose(
    competitors: TimedCompetitors, axes: Sequence[Axis]
) -> tuple[Sequence[TimedChoice], AgreedWinners | None]:
    """A choice for each range that can occur, and what ranks agreed on, if anything.

    There are none if not even the op itself can be traced for a range. The candidates
    of one that has several are timed, unless the ranks of a job agreed on winners
    before.
    """
    registration, call = competitors.registration, competitors.call
    dispatch, search = registration.dispatch, None
    tasks: list[RangeTask] = []
    choose_here: Callable[[], Sequence[TimedChoice] | None]
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
    own: dict[int, TimedChoice] = {}
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
    competitors: TimedCompetitors,
    tasks: Sequence[RangeTask],
    usable: Mapping[int, Sequence[TracedCandidate]],
) -> Sequence[TimedChoice] | None:
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
            TimedChoice(
                task,
                traced,
                competitors.number(task, traced),
                measured=measured[index],
                timings=timings[index],
                is_untimed=len(graphs) > 1 and not is_measured,
            )
        )
    return choices


def _taken(
    competitors: TimedCompetitors,
    task: RangeTask,
    interval: RangeTask,
    agreed: AgreedWinners,
    own: TimedChoice | None = None,
) -> TimedChoice:
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
    own = own or TimedChoice(task, traced, number)
    return dataclasses.replace(own, winner=traced, number=number)
