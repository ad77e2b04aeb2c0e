"""Compiles and times the candidates of one call."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, TYPE_CHECKING, TypeAlias

import torch
from torch._inductor.range_dispatch.benchmark import modules, timing
from torch._inductor.range_dispatch.benchmark.accuracy import Accuracy
from torch._inductor.range_dispatch.benchmark.budget import Behind, Budget
from torch._inductor.range_dispatch.benchmark.contention import (
    one_thread,
    warn_of_busy_machine,
)
from torch._inductor.range_dispatch.benchmark.contests import Contest, inputs_for, meet
from torch._inductor.range_dispatch.benchmark.fitting import Fitting
from torch._inductor.range_dispatch.benchmark.progress import show
from torch._inductor.range_dispatch.call.memory import is_out_of_memory, release
from torch._inductor.range_dispatch.trace.drops import as_rejection, CandidateRejected
from torch._inductor.range_dispatch.trace.guard_limits import Judge
from torch._inductor.range_dispatch.trace.holding import lowered_for, suits
from torch._inductor.range_dispatch.trace.tracing import TracedCandidate
from torch._inductor.range_dispatch.tuning.known_times import KnownTimes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask
    from torch._inductor.range_dispatch.plan.ranges import Cell
    from torch._inductor.range_dispatch.region.fused_call import FusedCall
    from torch._inductor.range_dispatch.registration.candidates import Candidate
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.drops import Drops
    from torch.fx import GraphModule


# None for what does not compile.
_Compiled: TypeAlias = dict[TracedCandidate, modules.CompiledCandidate | None]


class CandidateTimer:
    """Times the candidates of one call.

    Each distinct graph is compiled at most once, whatever the number of sizes, and only
    if there is a size that has not been timed by an earlier compile (see ``known``).
    ``memory`` tells at which sizes there is enough of it.
    """

    def __init__(
        self,
        registration: Registration,
        call: BoundCall,
        fake_operands: Sequence[Any],
        drops: Drops,
        fused: FusedCall | None,
        graph_of_op: Callable[[RangeTask], GraphModule | None],
    ) -> None:
        """``fused`` is the call with what candidates are timed with, if anything, and
        ``graph_of_op`` traces the op itself for a range.

        Candidates that do not compile or run are added to ``drops``.
        """
        self._drops = drops
        self._fused = fused
        self.registration = registration
        self.call = call
        self._fake_operands = fused.fake_operands() if fused else fake_operands
        self._accuracy = Accuracy(registration, call, fused, graph_of_op)
        self._behind = Behind(str(call.op))
        self.known = KnownTimes(
            registration, call, fused, self._as_timed, self._accuracy, self._behind
        )
        self.memory = Fitting(
            call,
            fused or call,
            self._as_timed,
            registration,
            drops,
            self._accuracy.is_on,
        )
        self._composed: dict[TracedCandidate, TracedCandidate] = {}
        self._compiled: _Compiled = {}
        # What graphs were lowered for, and modules of them for a busy machine.
        self._tasks: dict[TracedCandidate, list[RangeTask]] = {}
        self._compiled_for_one: _Compiled = {}

    def _as_timed(self, one: TracedCandidate) -> TracedCandidate:
        """The graph that is timed: with what is fused around the candidate."""
        if self._fused is None:
            return one
        if one not in self._composed:
            composed = self._fused.compose([one.graph_module])
            self._composed[one] = dataclasses.replace(one, graph_module=composed)
        return self._composed[one]

    def compile(self, contests: Sequence[Contest]) -> None:
        """Compile every graph that competes in one of the contests, side by side."""
        new: dict[TracedCandidate, list[RangeTask]] = {}
        for contest in contests:
            for one in map(self._as_timed, contest.candidates):
                if one not in self._compiled:
                    new.setdefault(one, []).append(contest.task)
        self._tasks.update(new)
        self._compile_into(self._compiled, [*new])

    def _compile_into(
        self, compiled: _Compiled, graphs: Sequence[TracedCandidate]
    ) -> None:
        done = modules.compile_candidates(
            graphs,
            self._fake_operands,
            lambda traced: self._lowered(traced, self._tasks[traced]),
            _dropping(self._drops, None, "it does not compile"),
        )
        compiled.update(dict.fromkeys(graphs))
        compiled.update((one.traced, one) for one in done)

    @contextlib.contextmanager
    def _lowered(
        self,
        traced: TracedCandidate,
        tasks: Sequence[RangeTask],
        is_timed: bool = True,
    ) -> Iterator[None]:
        with lowered_for([traced], tasks, self.call) as listener:
            yield
            asked = listener.asked()
        Judge(self.call).check_lowered(asked, is_timed)

    def lowers(self, traced: TracedCandidate, task: RangeTask) -> bool:
        """Whether a candidate that is not timed can be lowered for its range."""
        try:
            with self._lowered(traced, [task], is_timed=False):
                modules.generate_code(traced, self._fake_operands)
        except Exception as error:
            drop = _dropping(self._drops, task.cell, "it cannot be lowered")
            drop(traced.candidate, error)
            return False
        return True

    def fitting(self, contest: Contest, budget: Budget) -> Contest:
        """The contest at sizes that there is memory for, also for the op itself."""
        for one in contest.candidates:
            if one.candidate.is_fallback and not self._behind.rules_out(
                one.candidate, contest.sample.values
            ):
                return self.memory.with_op(contest, budget.limit)
        return contest

    def time(
        self,
        contest: Contest,
        seconds: float,
        budget: Budget,
        before: timing.Timings,
    ) -> timing.Timings | None:
        """Time the candidates for about so long; keep the result for later compiles.

        Of the times measured ``before`` the better ones stand. None if there is no
        memory for inputs. What a candidate ran out of memory at is not kept: there may
        be more the next time.

        Raises:
            timing.OutOfTime: the budget did not last for a call of each.
        """
        show(contest.describe())
        drop = _dropping(self._drops, contest.task.cell, "it does not run")
        ran_out = []

        def on_failure(candidate: Candidate, error: Exception) -> None:
            if is_out_of_memory(error):
                ran_out.append(candidate)
                error = _out_of_memory(contest, error)
            drop(candidate, error)

        timings = self._time(contest, seconds, budget, on_failure)
        if timings is None:
            return None
        timings = _better(before, timings)
        if contest.peers() is None:
            self._behind.note(contest, timings)
            if timings and not ran_out:
                self.known.keep(contest, timings)
        if timings:
            self.known.log(contest, timings)
        return timings

    def _running(self, contest: Contest) -> list[modules.CompiledCandidate]:
        """The modules of the candidates that could be compiled and take its sizes."""
        values = contest.sample.values
        graphs = map(self._as_timed, contest.candidates)
        able = [one for one in graphs if suits(one.needs, values)]
        found = (self._compiled.get(one) for one in able)
        return [
            one
            for one in found
            if one is not None and not self._behind.rules_out(one.candidate, values)
        ]

    def _time(
        self,
        contest: Contest,
        seconds: float,
        budget: Budget,
        on_failure: timing.OnFailure,
    ) -> timing.Timings | None:
        """What the candidates that can be run on the range's sizes take.

        None if there is no memory for inputs of these sizes.
        """
        call, registration = self.call, self.registration
        running, peers, rendezvous = self._running(contest), contest.peers(), None
        if running and peers is not None:
            rendezvous = meet(peers, registration, call, contest, running)
        if not running or (peers is not None and rendezvous is None):
            return {}
        inputs = inputs_for(registration, call, self._fused, contest)
        if not inputs:
            return None if inputs is None else {}
        comparing = None
        if peers is None:
            comparing = self._accuracy.comparing(contest, running, inputs)

        def time_all(
            running: Sequence[modules.CompiledCandidate],
            comparing: Callable[[], timing.OnResults] | None = None,
        ) -> timing.Timings:
            return timing.time_candidates(
                running,
                inputs,
                registration.benchmark_with_cudagraphs,
                seconds,
                on_failure,
                budget.limit,
                comparing,
                rendezvous,
            )

        timings = time_all(running, comparing)
        if timing.is_disturbed(timings):
            if torch.get_num_threads() > 1:
                # Those that were not dropped; they are not compared a second time.
                timed = [one.traced for one in running if one.candidate in timings]
                timings = self._on_one_thread(timed, time_all, budget) or timings
            warn_of_busy_machine(str(call.op))
        return timings

    def _on_one_thread(
        self,
        graphs: Sequence[TracedCandidate],
        time_all: Callable[[Sequence[modules.CompiledCandidate]], timing.Timings],
        budget: Budget,
    ) -> timing.Timings:
        """The times where other programs keep threads waiting for each other; none if
        the budget did not last."""
        with one_thread():
            with budget.paused():
                new = [one for one in graphs if one not in self._compiled_for_one]
                self._compile_into(self._compiled_for_one, new)
            found = (self._compiled_for_one[one] for one in graphs)
            try:
                timings = time_all([one for one in found if one is not None])
            except timing.OutOfTime:
                return {}
        return {
            candidate: dataclasses.replace(time, disturbed=True)
            for candidate, time in timings.items()
        }


def _better(before: timing.Timings, timings: timing.Timings) -> timing.Timings:
    """The shorter times: whatever else runs on a machine only ever adds to one.

    A disturbed one, which may be of another number of threads, is never better.
    """

    def rank(time: timing.Timing) -> tuple[bool, float]:
        return time.disturbed, time.milliseconds

    return {
        candidate: min(time, before.get(candidate, time), key=rank)
        for candidate, time in timings.items()
    }


def _dropping(
    drops: Drops, cell: Cell | None, what: str
) -> Callable[[Candidate, Exception], None]:
    def drop(candidate: Candidate, error: Exception) -> None:
        if not isinstance(error, CandidateRejected):
            error = CandidateRejected(what, str(as_rejection(error)))
        drops.add(candidate, cell, error)

    return drop


def _out_of_memory(contest: Contest, error: Exception) -> CandidateRejected:
    """The reason to drop a candidate; what it had allocated is freed."""
    release(error)
    first_line = next(iter(str(error).splitlines()), type(error).__name__)
    return CandidateRejected(
        f"it ran out of memory when it was timed in {contest.describe()}: {first_line}",
        "to use it there, register the op with winners=[...]",
    )
