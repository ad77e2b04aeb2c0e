"""Chooses the winner of every range: shipped, forced, or timed."""

from __future__ import annotations

import logging
import weakref
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING, TypeAlias

import torch
from torch._inductor import config
from torch._inductor.range_dispatch.agreement import (
    agree,
    decided,
    Decision,
    Matter,
    remember,
)
from torch._inductor.range_dispatch.binding import BoundCall
from torch._inductor.range_dispatch.candidates import Candidate, CandidatePool
from torch._inductor.range_dispatch.choosing import choose
from torch._inductor.range_dispatch.inputs import concrete, RangeTask, settled_values
from torch._inductor.range_dispatch.ranks import AgreementError
from torch._inductor.range_dispatch.spec import (
    check_config_list,
    FALLBACK,
    Registration,
)
from torch._inductor.range_dispatch.tuning import Contest, tune
from torch._inductor.range_dispatch.variants import Variants
from torch._inductor.virtualized import V

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sympy

    from torch._inductor.range_dispatch.timing import Timings
    from torch._inductor.range_dispatch.tracing import TracedCandidate
    from torch.fx.experimental.symbolic_shapes import ShapeEnv


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RangeChoice:
    """The winner of a range, and what the candidates timed for it took."""

    task: RangeTask
    winner: TracedCandidate
    timings: Timings


@dataclass(frozen=True)
class Selection:
    """The choices for one call, and the fake operands that its graphs are over.

    ``number`` tells apart the selections of one compile. ``decision`` is what ranks
    agreed on, None if the winners were given.
    """

    choices: list[RangeChoice]
    fake_operands: Sequence[Any]
    number: int
    decision: Decision | None


# By compile and signature; the call stays with it, as signatures hold identities.
_Known: TypeAlias = dict[Any, tuple[BoundCall, Selection | None]]
_known: weakref.WeakKeyDictionary[ShapeEnv, _Known] = weakref.WeakKeyDictionary()


def select_winners(
    registration: Registration,
    call: BoundCall,
    expected: Sequence[torch.Tensor],
    tasks: Sequence[RangeTask],
) -> Selection | None:
    """A choice for each task, None if not even the op itself can be traced.

    Calls that are alike are tuned once in a compile, and share their graphs.
    """
    known = _known.setdefault(V.graph.sizevars.shape_env, {})
    # Sizes that depend on data have symbols of their own in each call.
    sizes = tuple(str(tuple(tensor.shape)) for tensor in expected)
    key = (registration, call.signature(), sizes)
    if key not in known:
        selector = _Selector(registration, call, expected, tasks[0].size)
        choices = selector.choose(tasks)
        selection = choices and Selection(
            choices, selector.fake_operands, len(known), selector.decision
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
        size: sympy.Expr | None,
    ) -> None:
        self._registration = registration
        self._call = call
        self._pool = CandidatePool(registration.op)
        self._configured_for_all: Sequence[Candidate] | None = None
        self._configured_by_range: dict[int, Sequence[Candidate]] = {}
        is_given = registration.winners is not None
        self._variants = Variants(call, expected, size, is_given)
        self.decision: Decision | None = None

    @property
    def fake_operands(self) -> Sequence[Any]:
        """Fake tensors and SymInts in the operands' place."""
        return self._variants.fake_operands

    def choose(self, tasks: Sequence[RangeTask]) -> list[RangeChoice] | None:
        usable = [self._usable(task) for task in tasks]
        contests = [
            Contest(able, task, settled_values(task))
            for able, task in zip(usable, tasks)
            if len(able) > 1
        ]
        matter = self._matter()
        known = None
        if matter is not None:
            known = decided(matter, [task.index for task in tasks])
        if known is None:
            tuned = tune(self._registration, self._call, self.fake_operands, contests)
            timings = [tuned.get(task.index, {}) for task in tasks]
            winners = choose(timings, self._registration.min_speedup_threshold)
        else:
            timings = [{} for _ in tasks]
            winners = [self._candidate(t, known.winners[t.index]) for t in tasks]
        choices = []
        for task, able, times, winner in zip(tasks, usable, timings, winners):
            traced = next(
                (t for t in able if winner is None or t.candidate is winner), None
            )
            # Candidates that could not be run leave the op itself.
            if winner is None and len(able) > 1:
                traced = None
            traced = traced or self._last_resort(task)
            if traced is None:
                return None
            choices.append(RangeChoice(task, traced, times))
        if matter is None:
            return choices
        found = {c.task.index: self._number(c.task, c.winner) for c in choices}
        self.decision = known or agree(Decision(matter, found))
        return [
            self._agreed(choice, able, self.decision.winners[choice.task.index])
            for choice, able in zip(choices, usable)
        ]

    def _last_resort(self, task: RangeTask) -> TracedCandidate | None:
        """The op itself, for a range that no candidate is left for."""
        if not self._registration.include_fallback:
            raise RuntimeError(
                f"{self._call.op} has no candidate left for range {task.size_range}: "
                "the log says why each was dropped, and include_fallback=False rules "
                "out the op itself"
            )
        return self._variants.graph_for(self._pool.fallback, task)

    def _matter(self) -> Matter | None:
        """What ranks have to agree on, None if timing decides nothing."""
        registration = self._registration
        force_configs = config.test_configs.force_custom_op_decomposition
        is_forced = force_configs is False and registration.include_fallback
        if registration.winners is not None or is_forced or _is_deterministic():
            return None
        return Matter.of(registration, self._call)

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
        if self._number(task, found.winner) == number:
            return found
        candidate = self._candidate(task, number)
        traced = next((one for one in able if one.candidate is candidate), None)
        if traced is None and candidate is self._pool.fallback:
            traced = self._variants.graph_for(candidate, task)
        if traced is None:
            raise AgreementError(
                f"all ranks take {candidate or number} for range {task.size_range} of "
                f"{self._call.op}, which this rank cannot: it was dropped, as the log "
                "says. Register the op with winners=[...] that every rank can run"
            )
        return RangeChoice(task, traced, found.timings)

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
        # Which candidate is fastest may differ from run to run: the first one wins.
        return usable[:1] if _is_deterministic() else usable

    def _configured(self, task: RangeTask) -> Sequence[Candidate]:
        """A candidate for each config of the range.

        Configs may collapse into one candidate, or into the fallback.
        """
        if self._registration.configs is None:
            # What a generator makes anew each time would be other candidates.
            if task.index not in self._configured_by_range:
                generated = self._generated_configs(task)
                self._configured_by_range[task.index] = [
                    self._pool.add(one) for one in generated
                ]
            return self._configured_by_range[task.index]
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
                    f"{task.size_range}"
                )
            return configured[index]
        if _is_deterministic() and force_configs is None and may_fall_back:
            log.info("%s: deterministic mode, taking the op itself", self._call.op)
            return self._pool.fallback
        return None


def _is_deterministic() -> bool:
    """Whether nothing may be decided by timing."""
    return config.deterministic or config.batch_invariant
