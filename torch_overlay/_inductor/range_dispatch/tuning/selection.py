"""Chooses the winner of every range: shipped, forced, or timed."""

from __future__ import annotations

import dataclasses
import logging
import weakref
from dataclasses import dataclass, field
from typing import Any, TYPE_CHECKING, TypeAlias

import sympy

import torch
from torch._inductor import config
from torch._inductor.range_dispatch.call.binding import BoundCall
from torch._inductor.range_dispatch.call.sizes import concrete, RangeTask
from torch._inductor.range_dispatch.distributed.agreement import (
    agree,
    AgreedWinners,
    CallKey,
    decided,
    remember,
)
from torch._inductor.range_dispatch.distributed.ranks import AgreementError
from torch._inductor.range_dispatch.plan.grid_search import neighbours, steps_between
from torch._inductor.range_dispatch.plan.ranges import Cell, ranges_from_split_points
from torch._inductor.range_dispatch.registration.candidates import (
    Candidate,
    CandidatePool,
)
from torch._inductor.range_dispatch.registration.forcing import (
    forced_among,
    forced_name,
    given_winner,
)
from torch._inductor.range_dispatch.registration.spec import (
    check_config_list,
    FALLBACK,
    Registration,
)
from torch._inductor.range_dispatch.trace.drops import Dropped, Drops
from torch._inductor.range_dispatch.trace.guards import within
from torch._inductor.range_dispatch.trace.holding import hold, hold_where_it_wins
from torch._inductor.range_dispatch.trace.variants import Variants
from torch._inductor.range_dispatch.tuning.bench import Bench
from torch._inductor.range_dispatch.tuning.cell_search import CellSearch, places_of
from torch._inductor.range_dispatch.tuning.choosing import (
    choose,
    combined,
    counts_calls,
)
from torch._inductor.range_dispatch.tuning.range_search import RangeSearch
from torch._inductor.range_dispatch.tuning.tuning import tune
from torch._inductor.virtualized import V

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.benchmark.contests import Measured

    from torch._inductor.range_dispatch.benchmark.timing import Timings

    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.plan.guesses import Guess
    from torch._inductor.range_dispatch.region.fused_call import FusedCall
    from torch._inductor.range_dispatch.registration.dispatch_on import SearchedSizes
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate
    from torch.fx.experimental.symbolic_shapes import ShapeEnv


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RangeChoice:
    """The winner of a range, and what was measured to find it.

    ``number`` is the winner as registered. ``timings`` is what decided: the times at
    all sizes in one. ``is_untimed`` says that several candidates competed and none was
    timed: the winner is that of the nearest range, or the op itself. ``guess`` tells
    between which measured sizes the last one of the range lies, if that is not known
    any better (see ``FoundRange``).
    """

    task: RangeTask
    winner: TracedCandidate
    number: int
    measured: Sequence[Measured] = ()
    timings: Timings = field(default_factory=dict)
    is_untimed: bool = False
    guess: Guess | None = None


@dataclass(frozen=True)
class SearchTask:
    """Find ranges of the axis, and a winner for each."""

    axis: Axis
    searched: SearchedSizes


@dataclass(frozen=True)
class Selection:
    """The choices for one call, and the fake operands that its graphs are over.

    ``number`` tells apart the selections of one compile. ``decision`` is what ranks
    agreed on, None if the winners were given. ``dropped`` are the candidates that could
    not be used.
    """

    choices: list[RangeChoice]
    fake_operands: Sequence[Any]
    number: int
    decision: AgreedWinners | None
    dropped: tuple[Dropped, ...] = ()


# What ``config.range_dispatch.on_unusable_winner`` says to run the op itself.
_RUN_OP_ITSELF = "fallback"


class UnusableWinner(RuntimeError):
    """A winner that was given with ``winners=`` cannot be used."""


# By compile and signature; the call stays with it, as signatures hold identities.
_Known: TypeAlias = dict[Any, tuple[BoundCall, Selection | None]]
_known: weakref.WeakKeyDictionary[ShapeEnv, _Known] = weakref.WeakKeyDictionary()


def select_winners(
    registration: Registration,
    call: BoundCall,
    expected: Sequence[torch.Tensor],
    tasks: Sequence[RangeTask] | SearchTask,
    fused: FusedCall | None = None,
) -> Selection | None:
    """A choice for each task, None if not even the op itself can be traced.

    Candidates are timed with what is ``fused`` around the call.

    The ranges of a ``SearchTask`` are found as well.
    Calls that are alike are tuned once in a compile, and share their graphs.
    """
    known = _known.setdefault(V.graph.sizevars.shape_env, {})
    # Sizes that depend on data have symbols of their own in each call.
    sizes = tuple(str(tuple(tensor.shape)) for tensor in expected)
    around = None if fused is None else fused.digest
    key = (registration, call.signature(), sizes, around)
    if key not in known:
        choices: list[RangeChoice] | None
        if isinstance(tasks, SearchTask):
            dispatched = [tasks.axis.size]
            selector = _Selector(registration, call, expected, dispatched, fused)
            choices = selector.search(tasks)
        else:
            dispatched = tasks[0].sizes
            selector = _Selector(registration, call, expected, dispatched, fused)
            choices = selector.choose(tasks)
        selector.drops.warn()
        selector.guard_on_needs(choices or ())
        selection = choices and Selection(
            choices,
            selector.fake_operands,
            len(known),
            selector.decision,
            selector.drops.listed(),
        )
        known[key] = call, selection or None
    selection = known[key][1]
    if selection is not None and selection.decision is not None:
        remember(selection.decision)
    return selection


class _Selector:
    """Finds the winners for one bound call.

    Traces the candidates of each range, and times those of a range that has several,
    unless the ranks of a job agreed on winners before.
    """

    def __init__(
        self,
        registration: Registration,
        call: BoundCall,
        expected: Sequence[torch.Tensor],
        sizes: Sequence[sympy.Expr],
        fused: FusedCall | None,
    ) -> None:
        self._fused = fused
        self._registration = registration
        self._call = call
        self._pool = CandidatePool(registration.op, registration.uuid)
        self._configured_for_all: Sequence[Candidate] | None = None
        self._configured_by_range: dict[Cell, Sequence[Candidate]] = {}
        self._forced = forced_name(registration.op)
        is_given = registration.winners is not None or self._forced is not None
        self.drops = Drops(call)
        self._sizes = sizes
        self._variants = Variants(call, expected, sizes, is_given, self.drops)
        self.decision: AgreedWinners | None = None

    @property
    def fake_operands(self) -> Sequence[Any]:
        """Fake tensors and SymInts in the operands' place."""
        return self._variants.fake_operands

    def guard_on_needs(self, choices: Sequence[RangeChoice]) -> None:
        """Let the graph that is compiled hold for the sizes that its winners need."""
        left_out = [*self._variants.left_out]
        if left_out and choices:
            hold(sympy.Not(within(left_out, self._sizes)), str(self._call.op))
        for winner in dict.fromkeys(choice.winner for choice in choices):
            if winner.needs:
                own = [c.task.cell for c in choices if c.winner is winner]
                others = [c.task.cell for c in choices if c.winner is not winner]
                others += left_out
                hold_where_it_wins(
                    winner.needs, own, others, self._sizes, winner.candidate.name
                )

    def choose(self, tasks: Sequence[RangeTask]) -> list[RangeChoice] | None:
        able_by_task = [(task, self._usable(task)) for task in tasks]
        left_out = self._variants.left_out
        kept = [(t, able) for t, able in able_by_task if t.cell not in left_out]
        if not kept:
            return None
        tasks, usable = map(list, zip(*kept))
        call_key = self._call_key()
        known = None
        if call_key is not None:
            known = decided(call_key, [task.index for task in tasks])
        if known is None:
            measured = self._measure(tasks, usable)
            weights = self._registration.size_weights
            timings = [
                _combined(one, counts_calls(weights, task.cell))
                for one, task in zip(measured, tasks)
            ]
            winners = self._winners(tasks, usable, measured, timings)
        else:
            measured = [[] for _ in tasks]
            timings = [{} for _ in tasks]
            winners = [self._candidate(t, known.winners[t.index]) for t in tasks]
        choices = []
        for task, able, seen, times, winner in zip(
            tasks, usable, measured, timings, winners
        ):
            traced = next(
                (t for t in able if winner is None or t.candidate is winner), None
            )
            # Candidates that could not be run leave the op itself.
            if winner is None and len(able) > 1:
                traced = None
            traced = traced or self._last_resort(task)
            if traced is None:
                return None
            number = self._number(task, traced)
            is_untimed = known is None and len(able) > 1 and not seen
            choices.append(RangeChoice(task, traced, number, seen, times, is_untimed))
        if call_key is None:
            return choices
        found = {choice.task.index: choice.number for choice in choices}
        self.decision = known or agree(AgreedWinners(call_key, found))
        return [
            self._agreed(choice, able, self.decision.winners[choice.task.index])
            for choice, able in zip(choices, usable)
        ]

    def _winners(
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

    def search(self, task: SearchTask) -> list[RangeChoice] | None:
        """Ranges with their winners, found by timing unless ranks agreed before."""
        bench = self._bench()
        search = RangeSearch(
            self._registration,
            task.searched,
            self._call,
            task.axis,
            bench,
            self._usable,
        )
        call_key = self._call_key()
        known = None if call_key is None else decided(call_key, None)
        if known is not None:
            self.decision = known
            return self._agreed_ranges(known, search)
        found = search.run()
        winners = [one.winner or self._last_resort(one.task) for one in found]
        choices = [
            RangeChoice(
                one.task,
                winner,
                self._number(one.interval, winner),
                one.measured,
                _combined(one.measured),
                one.is_untimed,
                one.guess,
            )
            for one, winner in zip(found, winners)
            if winner is not None
        ]
        if len(choices) < len(found):
            return None
        if call_key is None:
            return choices
        numbers = [choice.number for choice in choices]
        ends = [one.task.size_range.end for one in found]
        splits = tuple(end for end in ends if end is not None)
        own = AgreedWinners(call_key, dict(enumerate(numbers)), splits)
        self.decision = agree(own)
        if self.decision == own:
            return choices
        return self._agreed_ranges(self.decision, search)

    def _agreed_ranges(
        self, decision: AgreedWinners, search: RangeSearch
    ) -> list[RangeChoice]:
        """The ranges and winners that all ranks take, not measured by this one."""
        choices = []
        ranges = ranges_from_split_points(decision.split_points or ())
        for index, size_range in enumerate(ranges):
            interval = search.interval_of(size_range.start)
            task = dataclasses.replace(interval, index=index, cell=Cell((size_range,)))
            number = decision.winners[index]
            candidate = self._candidate(interval, number)
            traced = None
            if candidate is not None:
                traced = self._variants.graph_for(candidate, task)
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

    def _measure(
        self, tasks: Sequence[RangeTask], usable: Sequence[Sequence[TracedCandidate]]
    ) -> list[list[Measured]]:
        """What the candidates take, for each task at each of its sizes.

        Of several axes not every cell is measured, but for candidates with
        collectives, which all ranks time in step.
        """
        bench = self._bench()
        contests = [
            contest
            for able, task in zip(usable, tasks)
            if len(able) > 1
            for contest in bench.memory.contests(able, task)
        ]
        if not contests:
            return [[] for _ in tasks]
        if len(tasks[0].axes) > 1 and all(c.peers() is None for c in contests):
            search = CellSearch(self._registration, self._call, bench, tasks, usable)
            return search.run()
        measured = tune(self._registration, bench, contests)
        return [[one for one in measured if one.task is task] for task in tasks]

    def _bench(self) -> Bench:
        return Bench(
            self._registration,
            self._call,
            self.fake_operands,
            self.drops,
            self._fused,
            self._graph_of_op,
        )

    def _graph_of_op(self, task: RangeTask) -> torch.fx.GraphModule | None:
        traced = self._variants.graph_for(self._pool.fallback, task)
        return None if traced is None else traced.graph_module

    def _last_resort(self, task: RangeTask) -> TracedCandidate | None:
        """The op itself, for a range that no candidate is left for."""
        if not self._registration.include_fallback:
            raise RuntimeError(
                f"{self._call.op} has no candidate left for range {task.cell}: "
                "the log says why each was dropped, and include_fallback=False rules "
                "out the op itself"
            )
        return self._variants.graph_for(self._pool.fallback, task)

    def _call_key(self) -> CallKey | None:
        """What ranks have to agree on, None if timing decides nothing."""
        registration = self._registration
        force_configs = config.test_configs.force_custom_op_decomposition
        is_forced = force_configs is False and registration.include_fallback
        if registration.winners is not None or is_forced or _is_deterministic():
            return None
        if self._forced is not None:
            return None
        return CallKey.of(registration, self._call)

    def _number(self, task: RangeTask, winner: TracedCandidate) -> int:
        """A winner as it would be registered."""
        if winner.candidate.is_fallback:
            return FALLBACK
        return [*self._configured(task)].index(winner.candidate)

    def _candidate(self, task: RangeTask, number: int) -> Candidate | None:
        """The inverse of ``_number``, None if this rank has no such candidate."""
        if number == FALLBACK:
            return self._pool.fallback
        configured = self._configured(task)
        return configured[number] if number < len(configured) else None

    def _agreed(
        self, found: RangeChoice, able: Sequence[TracedCandidate], number: int
    ) -> RangeChoice:
        """This rank's own choice, or in its place the one that all ranks take."""
        task = found.task
        if found.number == number:
            return found
        candidate = self._candidate(task, number)
        traced = next((one for one in able if one.candidate is candidate), None)
        if traced is None and candidate is self._pool.fallback:
            traced = self._variants.graph_for(candidate, task)
        if traced is None:
            raise self._cannot_agree(candidate or number, task)
        return dataclasses.replace(found, winner=traced, number=number)

    def _usable(self, task: RangeTask) -> list[TracedCandidate]:
        """The traced candidates that compete for a range; one if it is given."""
        configured = self._configured(task)
        fixed = self._fixed_winner(task, configured)
        if fixed is not None:
            competing = [fixed]
        elif config.test_configs.force_custom_op_decomposition:
            competing = [*configured]
        elif not self._registration.include_fallback:
            competing = [*configured]
        else:
            competing = [*configured, self._pool.fallback]
        distinct = dict.fromkeys(competing)
        graphs = (self._variants.graph_for(candidate, task) for candidate in distinct)
        usable = [traced for traced in graphs if traced is not None]
        if (
            fixed is not None
            and config.range_dispatch.on_unusable_winner == _RUN_OP_ITSELF
        ):
            usable = [one for one in usable if self._bench().lowers(one, task)]
        if (
            fixed is not None
            and not usable
            and task.cell not in self._variants.left_out
        ):
            self._check_usable(task, fixed)
        # Which candidate is fastest may differ from run to run: the first one wins.
        return usable[:1] if _is_deterministic() else usable

    def _check_usable(self, task: RangeTask, winner: Candidate) -> None:
        """Raise for a winner that was dropped, unless config says to fall back.

        Raises:
            UnusableWinner: it was given.
            ValueError: the config has another value.
        """
        allowed = ("error", _RUN_OP_ITSELF)
        on_unusable = config.range_dispatch.on_unusable_winner
        if on_unusable not in allowed:
            raise ValueError(
                "config.range_dispatch.on_unusable_winner must be one of "
                f"{', '.join(allowed)}, got {on_unusable!r}"
            )
        is_given = self._registration.winners is not None
        if not (is_given or self._forced) or on_unusable == _RUN_OP_ITSELF:
            return
        dropped = self.drops.of(winner)
        reasons = [one.reason for one in dropped if one.concerns(task.cell)]
        what = given_winner(self._call.op, task.index)
        raise UnusableWinner(
            f"{what} of {self._call.op}, {winner}, cannot be used for "
            f"range {task.cell}: {'; '.join(reasons)}. To run the op itself there: "
            "config.range_dispatch.on_unusable_winner = 'fallback'"
        )

    def _configured(self, task: RangeTask) -> Sequence[Candidate]:
        """A candidate for each config of the range.

        Configs may collapse into one candidate, or into the fallback.
        """
        if self._registration.configs is None:
            # What a generator makes anew each time would be other candidates.
            if task.cell not in self._configured_by_range:
                generated = self._generated_configs(task)
                self._configured_by_range[task.cell] = [
                    self._pool.add(one) for one in generated
                ]
            return self._configured_by_range[task.cell]
        if self._configured_for_all is None:
            configs = self._registration.configs
            self._configured_for_all = [self._pool.add(one) for one in configs]
        return self._configured_for_all

    def _generated_configs(self, task: RangeTask) -> Sequence[Any]:
        registration = self._registration
        if registration.config_generator is None:
            raise AssertionError(f"{registration} has no config_generator")
        # Static fake tensors: whatever the generator asks about sizes adds no guard.
        with V.fake_mode:
            tensors = [
                torch.empty_strided(
                    [concrete(s, task.values) for s in node.get_size()],
                    [concrete(s, task.values) for s in node.get_stride()],
                    dtype=node.get_dtype(),
                    device=node.get_device(),
                )
                for node in self._call.nodes
            ]
            symbols = [concrete(s, task.values) for s in self._call.symbols]
            named = self._call.tensors_by_name([*tensors, *symbols])
            generated = registration.config_generator(named)
        return check_config_list(registration.op, generated, "config_generator result")

    def _fixed_winner(
        self, task: RangeTask, configured: Sequence[Candidate]
    ) -> Candidate | None:
        """The candidate that wins without being timed, None if timing decides."""
        if self._forced is not None:
            among = [*configured, self._pool.fallback]
            return forced_among(self._call.op, self._forced, among)
        force_configs = config.test_configs.force_custom_op_decomposition
        may_fall_back = self._registration.include_fallback
        if force_configs is False and may_fall_back:
            return self._pool.fallback
        if self._registration.winners is not None:
            index = self._registration.winners[task.index]
            if index == FALLBACK:
                return self._pool.fallback
            if index >= len(configured):
                raise ValueError(
                    f"winners[{task.index}] of {self._registration.op} is {index}, but "
                    f"config_generator returned {len(configured)} configs for range "
                    f"{task.cell}"
                )
            return configured[index]
        if _is_deterministic() and force_configs is None and may_fall_back:
            log.info("%s: deterministic mode, taking the op itself", self._call.op)
            return self._pool.fallback
        return None


def _combined(measured: Sequence[Measured], is_total: bool = False) -> Timings:
    weighted = [(one.timings, one.sample.weight) for one in measured]
    return combined(weighted, is_total)


def _is_deterministic() -> bool:
    """Whether nothing may be decided by timing."""
    return config.deterministic or config.batch_invariant
