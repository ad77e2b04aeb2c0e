"""The winner of every range of a call: given, agreed by ranks, or timed."""

from __future__ import annotations

import dataclasses
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
from torch._inductor.range_dispatch.plan.ranges import Cell, ranges_from_split_points
from torch._inductor.range_dispatch.trace.guards import within
from torch._inductor.range_dispatch.trace.holding import hold, hold_where_it_wins
from torch._inductor.range_dispatch.tuning.choices import RangeChoice, reasons_of
from torch._inductor.range_dispatch.tuning.competitors import Competitors
from torch._inductor.range_dispatch.tuning.given_ranges import (
    measure_given,
    places_of,
    timings_of,
)
from torch._inductor.range_dispatch.tuning.range_search import RangeSearch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.benchmark.contests import Measured
    from torch._inductor.range_dispatch.benchmark.timing import Timings
    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask
    from torch._inductor.range_dispatch.region.fused_call import FusedCall
    from torch._inductor.range_dispatch.registration.candidates import Candidate
    from torch._inductor.range_dispatch.registration.dispatch_on import SearchedSizes
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
        chooser = _Chooser(registration, call, competitors)
        choices = chooser.choose(axes) or ()
        competitors.drops.warn()
        _guard_on_needs(choices, competitors, dispatched)
        dropped = competitors.drops.listed()
        reasons = reasons_of(registration, choices, dropped)
        chosen = ChosenCall(
            registration,
            call,
            expected,
            (),
            [
                dataclasses.replace(one, reason=reason)
                for one, reason in zip(choices, reasons)
            ],
            competitors.variants.fake_operands,
            len(known),
            dropped,
            chooser.agreed,
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
        hold(sympy.Not(within(left_out, sizes)), competitors.name)
    for winner in dict.fromkeys(choice.winner for choice in choices):
        if winner.needs:
            own = [c.task.cell for c in choices if c.winner is winner]
            others = [c.task.cell for c in choices if c.winner is not winner]
            others += left_out
            hold_where_it_wins(winner.needs, own, others, sizes, winner.candidate.name)


class _Chooser:
    """Finds the winners for one bound call; ``agreed`` are those that ranks agree on.

    The candidates of a range that has several are timed, unless the ranks of a job
    agreed on winners before.
    """

    def __init__(
        self, registration: Registration, call: BoundCall, competitors: Competitors
    ) -> None:
        self.agreed: AgreedWinners | None = None
        self._registration = registration
        self._call = call
        self._competitors = competitors
        # What ranks have to agree on, None if timing decides nothing.
        self._call_key = None
        if competitors.are_timed:
            self._call_key = CallKey.of(registration, call)

    def choose(self, axes: Sequence[Axis]) -> Sequence[RangeChoice] | None:
        """A choice for each range that can occur; None if not even the op itself can
        be traced for one."""
        dispatch = self._registration.dispatch
        if dispatch and dispatch.searched and not axes[0].is_static:
            return self._search(axes[0], dispatch.searched)
        return self._choose(tasks_for_cells(self._registration, self._call, axes))

    def _choose(self, tasks: Sequence[RangeTask]) -> Sequence[RangeChoice] | None:
        """A choice for each task."""
        competitors = self._competitors
        able_by_task = [(task, competitors.usable(task)) for task in tasks]
        left_out = competitors.variants.left_out
        kept = [(t, able) for t, able in able_by_task if t.cell not in left_out]
        if not kept:
            return None
        tasks, usable = map(list, zip(*kept))
        known = None
        if self._call_key is not None:
            known = decided(self._call_key, [task.index for task in tasks])
        measured: list[list[Measured]] = [[] for _ in tasks]
        timings: list[Timings] = [{} for _ in tasks]
        if known is None:
            measured = measure_given(
                self._registration, self._call, competitors.timer, tasks, usable
            )
            timings = [
                timings_of(self._registration, task, one)
                for task, one in zip(tasks, measured)
            ]
            winners = self._fastest(tasks, usable, measured, timings)
        else:
            winners = [
                competitors.candidate(task, known.winners[task.index]) for task in tasks
            ]
        choices = []
        for task, able, seen, times, winner in zip(
            tasks, usable, measured, timings, winners
        ):
            traced = next((one for one in able if one.candidate is winner), None)
            if len(able) == 1 and winner is None:
                (traced,) = able
            # Candidates that could not be run leave the op itself.
            traced = traced or competitors.last_resort(task)
            if traced is None:
                return None
            number = competitors.number(task, traced)
            is_untimed = known is None and len(able) > 1 and not seen
            choices.append(RangeChoice(task, traced, number, seen, times, is_untimed))
        if self._call_key is None:
            return choices
        found = {choice.task.index: choice.number for choice in choices}
        self.agreed = known or agree(AgreedWinners(self._call_key, found))
        return [
            self._in_agreement(choice, able, self.agreed.winners[choice.task.index])
            for choice, able in zip(choices, usable)
        ]

    def _fastest(
        self,
        tasks: Sequence[RangeTask],
        usable: Sequence[Sequence[TracedCandidate]],
        measured: Sequence[Sequence[Measured]],
        timings: Sequence[Timings],
    ) -> list[Candidate | None]:
        """The winner of each task, None where nothing tells.

        A cell that was not measured takes that of the nearest one.
        """
        places = places_of(self._registration, tasks)
        threshold = self._registration.min_speedup_threshold
        winners = choose(timings, threshold, neighbours(places))
        known = [(p, w) for p, w in zip(places, winners) if w is not None]
        for index, (place, able) in enumerate(zip(places, usable)):
            candidates = [one.candidate for one in able]
            near = [one for one in known if one[1] in candidates]
            if not measured[index] and near:
                _, winners[index] = min(near, key=lambda m: steps_between(m[0], place))
        return winners

    def _in_agreement(
        self, found: RangeChoice, able: Sequence[TracedCandidate], number: int
    ) -> RangeChoice:
        """This rank's own choice, or in its place the one that all ranks take."""
        if found.number == number:
            return found
        candidate = self._competitors.candidate(found.task, number)
        traced = next((one for one in able if one.candidate is candidate), None)
        if traced is None and candidate is not None and candidate.is_fallback:
            traced = self._competitors.variants.graph_for(candidate, found.task)
        if traced is None:
            raise self._cannot_agree(candidate or number, found.task)
        return dataclasses.replace(found, winner=traced, number=number)

    def _search(
        self, axis: Axis, searched: SearchedSizes
    ) -> Sequence[RangeChoice] | None:
        """Ranges with their winners, found by timing unless ranks agreed before."""
        search = RangeSearch(
            self._registration, searched, self._call, axis, self._competitors
        )
        if self._call_key is not None:
            self.agreed = decided(self._call_key, None)
            if self.agreed is not None:
                return self._agreed_ranges(self.agreed, search)
        choices = search.run()
        if choices is None or self._call_key is None:
            return choices
        numbers = dict(enumerate(choice.number for choice in choices))
        ends = [choice.task.size_range.end for choice in choices]
        splits = tuple(end for end in ends if end is not None)
        own = AgreedWinners(self._call_key, numbers, splits)
        self.agreed = agree(own)
        if self.agreed == own:
            return choices
        return self._agreed_ranges(self.agreed, search)

    def _agreed_ranges(
        self, agreed: AgreedWinners, search: RangeSearch
    ) -> Sequence[RangeChoice]:
        """The ranges and winners that all ranks take, not measured by this one."""
        choices = []
        ranges = ranges_from_split_points(agreed.split_points or ())
        for index, size_range in enumerate(ranges):
            interval = search.interval_of(size_range.start)
            task = dataclasses.replace(interval, index=index, cell=Cell((size_range,)))
            number = agreed.winners[index]
            candidate = self._competitors.candidate(interval, number)
            traced = None
            if candidate is not None:
                traced = self._competitors.variants.graph_for(candidate, task)
            if traced is None:
                raise self._cannot_agree(candidate or number, task)
            choices.append(RangeChoice(task, traced, number))
        return choices

    def _cannot_agree(self, winner: object, task: RangeTask) -> AgreementError:
        return AgreementError(
            f"all ranks take {winner} for range {task.cell} of "
            f"{self._call.op}, which this rank cannot: it was dropped, as the log "
            "says. Register the op with winners=[...] that every rank can run"
        )
