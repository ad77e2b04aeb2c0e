"""Whether candidates compute what the op computes.

Where candidates are timed, the results of their first calls are compared with those of
the op itself on the same inputs. A candidate's graph returns the new values of what the
op mutates, and writes to no input: they are compared as other results are.
``config.range_dispatch.check_accuracy`` says what to do about one that differs.
"""

from __future__ import annotations

import logging
import weakref
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

import torch
import torch.utils._pytree as pytree
from torch._inductor import config
from torch._inductor.range_dispatch.benchmark.repeatable import (
    is_random,
    uninitialized_outputs,
)
from torch._inductor.range_dispatch.call.sizes import concrete_layout, evaluate
from torch._inductor.range_dispatch.registration.differences import difference
from torch._inductor.range_dispatch.trace.drops import CandidateRejected
from torch._inductor.utils import clone_preserve_strides
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from torch._inductor.range_dispatch.benchmark.contests import Contest
    from torch._inductor.range_dispatch.benchmark.modules import CompiledCandidate
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask
    from torch._inductor.range_dispatch.plan.ranges import Cell
    from torch._inductor.range_dispatch.region.fused_call import FusedCall
    from torch._inductor.range_dispatch.registration.candidates import Candidate
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch.fx import GraphModule


log = logging.getLogger(__name__)

MODES = ("warn", "drop", "off")

_REMEDY = (
    "fix it, or allow more by accuracy_tolerance= (math.inf if it differs on purpose), "
    "or set config.range_dispatch.check_accuracy = 'off'"
)

# The candidates that were warned of, by name.
_warned: weakref.WeakKeyDictionary[Registration, OrderedSet[str]] = (
    weakref.WeakKeyDictionary()
)


@dataclass(frozen=True)
class Reference:
    """The op itself: its overload, or a graph with it, and what computes its results
    and then the new values of what it mutates. It may be one of the candidates."""

    target: torch._ops.OpOverload | GraphModule
    compute: Callable[[], Sequence[torch.Tensor]]
    is_candidate: bool


class Accuracy:
    """What is known of how the candidates of one call agree with the op itself."""

    def __init__(
        self,
        registration: Registration,
        call: BoundCall,
        fused: FusedCall | None,
        graph_of_op: Callable[[RangeTask], GraphModule | None],
    ) -> None:
        """``fused`` is what candidates are timed with, if anything; then
        ``graph_of_op`` traces the op for a range in which it does not compete.

        Raises:
            ValueError: ``config.range_dispatch.check_accuracy`` is none of ``MODES``.
        """
        self._mode = _mode_in_force(registration)
        self._registration = registration
        self._call = call
        self._fused = fused
        self._graph_of_op = graph_of_op
        self._was_called = False
        self._gave_up = False
        # Those that differ, by the sizes that candidates were compared at.
        self._differing: dict[Hashable, OrderedSet[Candidate]] = {}
        # What was found first of a candidate in a range stands for the range.
        self._found: dict[tuple[Candidate, Cell], str] = {}

    @property
    def is_on(self) -> bool:
        """Whether candidates are compared."""
        return self._mode != "off"

    @property
    def required(self) -> str | None:
        """What ``agreed`` must be of stored times that are used, None for anything."""
        return self._within if self._mode == "drop" else None

    def agreed(self, contest: Contest) -> str | None:
        """Within which tolerance those candidates agree with the op itself that have
        times for a contest; None if they do not, or were not compared."""
        none = OrderedSet[Any]() if self._gave_up else None
        differing = self._differing.get(_key(contest), none)
        if differing is None or (differing and self._mode != "drop"):
            return None
        return self._within

    def has_dropped(self, contest: Contest) -> bool:
        """Whether a candidate was left out at these sizes."""
        return self._mode == "drop" and bool(self._differing.get(_key(contest)))

    @property
    def _within(self) -> str:
        return str(self._registration.accuracy_tolerance or "default")

    def comparing(
        self,
        contest: Contest,
        running: Sequence[CompiledCandidate],
        inputs: Sequence[Any],
    ) -> Callable[[], Comparison] | None:
        """What starts a comparison; None if there is to be none, such as at sizes that
        are timed once more. The op itself may compete and not be ``running``."""
        if self._mode == "off" or self._gave_up:
            return None
        if _key(contest) in self._differing and not self.has_dropped(contest):
            return None
        self._differing[_key(contest)] = OrderedSet()
        reference = self._reference(contest, running, inputs)
        if reference is not None and is_random(reference.target):
            reference = None
        graphs = {one.candidate: one.traced.graph_module for one in running}
        return lambda: Comparison(self, contest, graphs, reference)

    def _reference(
        self,
        contest: Contest,
        running: Sequence[CompiledCandidate],
        inputs: Sequence[Any],
    ) -> Reference | None:
        """The op itself as it is timed, or as it is called where that is cheapest: at
        the first sizes, which are the smallest."""
        if any(one.candidate.is_fallback for one in contest.candidates):
            for one in running:
                if one.candidate.is_fallback:
                    graph_module, run = one.traced.graph_module, one.call
                    return Reference(graph_module, lambda: run([*inputs]), True)
            return None
        if self._was_called:
            return None
        self._was_called = True
        if self._fused is None:
            return Reference(self._call.op, lambda: self._call_op(inputs), False)
        own = self._graph_of_op(contest.task)
        if own is None:
            return None
        composed = self._fused.compose([own])
        return Reference(composed, lambda: composed(*inputs), False)

    def _call_op(self, inputs: Sequence[Any]) -> list[torch.Tensor]:
        """The op's results, then the new values of what it mutates: copies."""
        mutated = self._call.mutated
        operands = [
            clone_preserve_strides(one) if index in mutated else one
            for index, one in enumerate(inputs)
        ]
        results = self._call.invoke(self._call.op, {}, operands)
        leaves = [one for one in pytree.tree_leaves(results) if one is not None]
        return [*leaves, *(operands[index] for index in mutated)]

    def find(
        self,
        own: Sequence[torch.Tensor],
        due: Sequence[torch.Tensor],
        ignored: OrderedSet[int],
    ) -> str | None:
        """Which of the results differs, and how; None if none does."""
        tolerance = self._registration.accuracy_tolerance
        mutated = self._call.mutated
        for index, (actual, expected) in enumerate(zip(own, due)):
            if index in ignored:
                continue
            found = difference(actual, expected, tolerance)
            if found is not None:
                place = index - (len(due) - len(mutated))
                if mutated and place >= 0:
                    name = self._call.name_of(mutated[place])
                    return f"the new value of {name!r} {found}"
                return f"output {index} {found}"
        return None

    def known(self, candidate: Candidate) -> str | None:
        """What was found of a candidate that differs at other sizes."""
        found = (text for (one, _), text in self._found.items() if one is candidate)
        return next(found, None)

    def report(self, candidate: Candidate, contest: Contest, text: str) -> None:
        """Warn once of a candidate that differs.

        Raises:
            CandidateRejected: it is to be dropped.
        """
        text = self._found.setdefault((candidate, contest.task.cell), text)
        self._differing[_key(contest)].add(candidate)
        if self._mode == "drop":
            raise CandidateRejected(text, _REMEDY)
        warned = _warned.setdefault(self._registration, OrderedSet())
        if candidate.name not in warned:
            warned.add(candidate.name)
            log.warning(
                "%s: candidate %s competes, but %s; %s",
                self._call.op,
                candidate,
                text,
                _REMEDY,
            )

    def sizes_of(self, contest: Contest) -> str:
        """The sizes for people: ``x.shape[0] = 128``."""
        values = contest.sample.values
        axes = contest.task.axes
        found = [f"{one.name} = {evaluate(one.size, values)}" for one in axes]
        if not found:
            found = [
                f"{self._call.name_of(index)} of shape "
                f"{[*concrete_layout(node, values)[0]]}"
                for index, node in enumerate(self._call.nodes)
            ]
        return ", ".join(found)

    def give_up(self, reason: str) -> None:
        """Compare no more, as that would tell nothing."""
        log.info("%s: candidates are not compared: %s", self._call.op, reason)
        self._gave_up = True


class Comparison:
    """Compares candidates with the op itself on the same inputs, one by one.

    No more is kept than the op's own results.
    """

    def __init__(
        self,
        accuracy: Accuracy,
        contest: Contest,
        graphs: Mapping[Candidate, GraphModule],
        reference: Reference | None,
    ) -> None:
        self._accuracy = accuracy
        self._contest = contest
        self._graphs = graphs
        self._expected: Sequence[torch.Tensor] | None = None
        self._reference = reference
        if reference is not None and not reference.is_candidate:
            try:
                self._expected = reference.compute()
            except Exception as error:
                accuracy.give_up(f"the op itself fails: {error!r}")

    def __call__(
        self, candidate: Candidate, results: list[Sequence[torch.Tensor]]
    ) -> None:
        """Compare what a candidate has returned, which is taken out of the list.

        The op itself comes first, if it competes. Where it is not called, what other
        sizes have shown of a candidate stands.

        Raises:
            CandidateRejected: the candidate differs, and is to be dropped.
        """
        if candidate.is_fallback:
            self._expected = results.pop() if self._reference else None
            return
        if self._expected is None:
            found = self._accuracy.known(candidate)
        else:
            found = self._difference(candidate, results.pop)
        if found is not None:
            self._accuracy.report(candidate, self._contest, found)

    def _difference(
        self, candidate: Candidate, take: Callable[[], Sequence[torch.Tensor]]
    ) -> str | None:
        graph_module = self._graphs[candidate]
        if is_random(graph_module):
            return None
        found = self._find(take, uninitialized_outputs(graph_module))
        if found is None or not self._repeats():
            return None
        sizes = self._accuracy.sizes_of(self._contest)
        return f"it does not compute what the op computes: for {sizes}, {found}"

    def _find(
        self,
        take: Callable[[], Sequence[torch.Tensor]],
        ignored: OrderedSet[int],
    ) -> str | None:
        """How the results that ``take`` returns, and nobody keeps, differ."""
        if self._reference is None or self._expected is None:
            return None
        if isinstance(self._reference.target, torch.fx.GraphModule):
            ignored = ignored | uninitialized_outputs(self._reference.target)
        try:
            return self._accuracy.find(take(), self._expected, ignored)
        except Exception as error:  # such as no memory, or a dtype without arithmetic
            self._accuracy.give_up(repr(error))
            return None

    def _repeats(self) -> bool:
        """Whether the op computes the same once more: it may draw random numbers where
        no tag of an operator tells."""
        if self._reference is None:
            return False
        if self._find(self._reference.compute, OrderedSet()) is None:
            return True
        self._expected = None
        self._accuracy.give_up("the op itself does not compute the same twice")
        return False


def _mode_in_force(registration: Registration) -> str:
    mode = config.range_dispatch.check_accuracy
    if mode not in MODES:
        raise ValueError(
            f"config.range_dispatch.check_accuracy must be one of {', '.join(MODES)}, "
            f"got {mode!r}"
        )
    tolerance = registration.accuracy_tolerance
    return "off" if tolerance is not None and tolerance.is_infinite else mode


def _key(contest: Contest) -> Hashable:
    """The same for the same sizes of a range."""
    return contest.task.cell, frozenset(contest.sample.values.items())
