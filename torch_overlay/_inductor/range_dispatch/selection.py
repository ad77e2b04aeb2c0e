"""Chooses the winner of every range: shipped, forced, or timed."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import sympy

import torch
from torch._inductor import config
from torch._inductor.range_dispatch import tuning
from torch._inductor.range_dispatch.binding import BoundCall
from torch._inductor.range_dispatch.candidates import Candidate, CandidatePool
from torch._inductor.range_dispatch.inputs import (
    concrete,
    make_inputs,
    RangeTask,
    settled_values,
)
from torch._inductor.range_dispatch.spec import (
    check_config_list,
    FALLBACK,
    Registration,
)
from torch._inductor.range_dispatch.tracing import TracedCandidate
from torch._inductor.range_dispatch.variants import Variants, warn_dropped
from torch._inductor.virtualized import V
from torch.fx.experimental.symbolic_shapes import ShapeEnv


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RangeChoice:
    """The winner of a range, and what the candidates timed for it took."""

    task: RangeTask
    winner: TracedCandidate
    timings: tuning.Timings


@dataclass(frozen=True)
class Selection:
    """The choices for one call, and the fake operands that its graphs are over."""

    choices: list[RangeChoice]
    fake_operands: Sequence[Any]


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
        selection = choices and Selection(choices, selector.fake_operands)
        known[key] = call, selection or None
    return known[key][1]


class _Selector:
    """Finds the winners for one bound call.

    Each distinct graph of a candidate is compiled at most once, whatever the number of
    ranges, and only if there is something to compare it with.
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
        is_given = registration.winners is not None
        self._variants = Variants(call, expected, size, is_given)
        self._compiled: dict[TracedCandidate, tuning.CompiledCandidate | None] = {}

    @property
    def fake_operands(self) -> Sequence[Any]:
        """Fake tensors and SymInts in the operands' place."""
        return self._variants.fake_operands

    def choose(self, tasks: Sequence[RangeTask]) -> list[RangeChoice] | None:
        usable = [self._usable(task) for task in tasks]
        timings = [
            self._time(able, task) if len(able) > 1 else {}
            for able, task in zip(usable, tasks)
        ]
        winners = tuning.choose(timings, self._registration.min_speedup_threshold)
        choices = []
        for task, able, times, winner in zip(tasks, usable, timings, winners):
            traced = next(
                (t for t in able if winner is None or t.candidate is winner), None
            )
            # Candidates that could not be run leave the op itself.
            if winner is None and len(able) > 1:
                traced = None
            traced = traced or self._variants.graph_for(self._pool.fallback, task)
            if traced is None:
                return None
            choices.append(RangeChoice(task, traced, times))
        return choices

    def _usable(self, task: RangeTask) -> list[TracedCandidate]:
        """The traced candidates that compete for a range; one if it is given."""
        # Configs may collapse into one candidate, or into the fallback.
        configured = [self._pool.add(one) for one in self._configs(task)]
        fixed = self._fixed_winner(task, configured)
        if fixed is not None:
            competing = [fixed]
        elif config.test_configs.force_custom_op_decomposition:
            competing = configured
        else:
            competing = [*configured, self._pool.fallback]
        distinct = dict.fromkeys(competing)
        graphs = (self._variants.graph_for(candidate, task) for candidate in distinct)
        return [traced for traced in graphs if traced is not None]

    def _configs(self, task: RangeTask) -> Sequence[Any]:
        registration = self._registration
        if registration.configs is not None:
            return registration.configs
        assert registration.config_generator is not None
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

    def _compile(self, traced: TracedCandidate) -> tuning.CompiledCandidate | None:
        if traced not in self._compiled:
            try:
                compiled = tuning.compile_candidate(traced, self.fake_operands)
            except Exception as error:
                compiled = None
                where = "for all ranges: it does not compile"
                self._warn(traced.candidate, where, error)
            self._compiled[traced] = compiled
        return self._compiled[traced]

    def _time(
        self, usable: Sequence[TracedCandidate], task: RangeTask
    ) -> tuning.Timings:
        """What the candidates that can be run on the task's sizes take."""
        registration = self._registration
        compiled = [c for t in usable if (c := self._compile(t)) is not None]
        values = settled_values(task)
        try:
            inputs = make_inputs(self._call, values, registration.input_gen_fns)
        except ValueError:
            raise  # a generator's fault, which names the argument
        except Exception as error:
            log.warning(
                "%s: no inputs to time range %s with, taking the op itself: %s",
                self._call.op,
                task.size_range,
                error,
            )
            return {}
        timings = tuning.time_candidates(
            compiled,
            inputs,
            registration.benchmark_with_cudagraphs,
            lambda candidate, error: self._warn(
                candidate, f"for range {task.size_range}: it does not run", error
            ),
        )
        log.info(
            "%s range %s: %s",
            registration.name,
            task.size_range,
            ", ".join(f"{c} {t.milliseconds:.4f} ms" for c, t in timings.items()),
        )
        return timings

    def _warn(self, candidate: Candidate, where: str, reason: Exception) -> None:
        warn_dropped(self._call, candidate, where, reason)
