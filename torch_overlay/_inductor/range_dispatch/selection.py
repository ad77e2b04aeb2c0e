"""Chooses the winner of every range: shipped, forced, or timed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._inductor import config
from torch._inductor.range_dispatch import tuning
from torch._inductor.range_dispatch.binding import BoundCall
from torch._inductor.range_dispatch.candidates import (
    Candidate,
    CandidatePool,
    CandidateRejected,
    trace_candidate,
    TracedCandidate,
    warn_rejected,
)
from torch._inductor.range_dispatch.inputs import evaluate, make_inputs, SymbolValues
from torch._inductor.range_dispatch.ranges import SizeRange
from torch._inductor.range_dispatch.spec import (
    check_config_list,
    FALLBACK,
    Registration,
)
from torch._inductor.virtualized import V


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RangeTask:
    """A range to find a winner for; ``index`` is its place in the registration and
    ``values`` the sizes that stand for it."""

    index: int
    size_range: SizeRange
    values: SymbolValues


@dataclass(frozen=True)
class RangeChoice:
    """The winner of a range, and the milliseconds of the candidates timed for it."""

    task: RangeTask
    winner: TracedCandidate
    timings: dict[Candidate, float]


class Selector:
    """Finds the winners for one bound call.

    Each candidate is traced at most once and compiled at most once, whatever the
    number of ranges, and only if it can win.
    """

    def __init__(
        self,
        registration: Registration,
        call: BoundCall,
        fake_operands: Sequence[Any],
        outputs: Sequence[torch.Tensor],
    ) -> None:
        self._registration = registration
        self._call = call
        self._fake_operands = fake_operands
        self._outputs = outputs
        self._pool = CandidatePool(registration.op)
        self._traced: dict[Candidate, TracedCandidate | None] = {}
        self._compiled: dict[Candidate, tuning.CompiledCandidate | None] = {}

    def choose(self, tasks: Sequence[RangeTask]) -> list[RangeChoice] | None:
        """A choice for each task, None if not even the op itself can be traced."""
        choices = []
        for task in tasks:
            choice = self._choose_one(task)
            if choice is None:
                return None
            choices.append(choice)
        return choices

    def _choose_one(self, task: RangeTask) -> RangeChoice | None:
        # Configs may collapse into one candidate, or into the fallback.
        configured = [self._pool.add(one) for one in self._configs(task)]
        fixed = self._fixed_winner(task, configured)
        if fixed is not None:
            traced = self._trace(fixed, task) or self._trace(self._pool.fallback, task)
            return None if traced is None else RangeChoice(task, traced, {})
        fallback = self._pool.fallback
        force_configs = config.test_configs.force_custom_op_decomposition is True
        names = dict.fromkeys(configured if force_configs else [*configured, fallback])
        usable = [t for c in names if (t := self._trace(c, task)) is not None]
        if len(usable) > 1:
            usable, timings = self._time(usable, task)
        else:
            timings = {}
        best = tuning.choose(timings, self._registration.min_speedup_threshold)
        for traced in usable:
            if best is None or traced.candidate is best:
                return RangeChoice(task, traced, timings)
        traced_fallback = self._trace(fallback, task)
        return traced_fallback and RangeChoice(task, traced_fallback, timings)

    def _configs(self, task: RangeTask) -> Sequence[Any]:
        registration = self._registration
        if registration.configs is not None:
            return registration.configs
        assert registration.config_generator is not None
        # Static fake tensors: whatever the generator asks about sizes adds no guard.
        with V.fake_mode:
            tensors = [
                torch.empty_strided(
                    [evaluate(s, task.values) for s in node.get_size()],
                    [evaluate(s, task.values) for s in node.get_stride()],
                    dtype=node.get_dtype(),
                    device=node.get_device(),
                )
                for node in self._call.nodes
            ]
            symbols = [task.values[s] for s in self._call.symbols]
            named = self._call.tensors_by_name([*tensors, *symbols])
            generated = registration.config_generator(named)
        return check_config_list(registration.op, generated, "config_generator result")

    def _fixed_winner(
        self, task: RangeTask, configured: Sequence[Candidate]
    ) -> Candidate | None:
        """The candidate that wins without being timed, None if timing decides."""
        force_configs = config.test_configs.force_custom_op_decomposition
        if force_configs is False:
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
        if config.deterministic and force_configs is None:
            # Which candidate is fastest may differ from run to run.
            log.info("%s: deterministic mode, taking the op itself", self._call.op)
            return self._pool.fallback
        return None

    def _trace(self, candidate: Candidate, task: RangeTask) -> TracedCandidate | None:
        if candidate not in self._traced:
            try:
                self._traced[candidate] = trace_candidate(
                    candidate, self._call, self._fake_operands, self._outputs
                )
            except CandidateRejected as reason:
                self._traced[candidate] = None
                self._warn(candidate, "for all ranges", reason)
        return self._traced[candidate]

    def _compile(self, traced: TracedCandidate) -> tuning.CompiledCandidate | None:
        candidate = traced.candidate
        if candidate not in self._compiled:
            try:
                self._compiled[candidate] = tuning.compile_candidate(
                    traced, self._fake_operands
                )
            except Exception as error:
                self._compiled[candidate] = None
                self._warn(candidate, "for all ranges, it does not compile", error)
        return self._compiled[candidate]

    def _time(
        self, usable: Sequence[TracedCandidate], task: RangeTask
    ) -> tuple[list[TracedCandidate], dict[Candidate, float]]:
        """The candidates that ran on the task's sizes, and their milliseconds."""
        registration = self._registration
        compiled = [c for t in usable if (c := self._compile(t)) is not None]
        inputs = make_inputs(self._call, task.values, registration.input_gen_fns)
        timings = tuning.time_candidates(
            compiled,
            inputs,
            registration.benchmark_with_cudagraphs,
            lambda candidate, error: self._warn(
                candidate, f"for range {task.size_range}, it does not run", error
            ),
        )
        log.info(
            "%s range %s: %s",
            registration.name,
            task.size_range,
            ", ".join(f"{c} {ms:.4f} ms" for c, ms in timings.items()),
        )
        return [t for t in usable if t.candidate in timings], timings

    def _warn(self, candidate: Candidate, where: str, reason: Exception) -> None:
        op = str(self._registration.op)
        warn_rejected(op, candidate.name, where, str(reason) or repr(reason))
