"""Which candidates compete for the ranges of a call, or which one is given."""

from __future__ import annotations

import functools
import logging
from typing import Any, TYPE_CHECKING

import torch
from torch._inductor import config
from torch._inductor.range_dispatch.call.sizes import concrete
from torch._inductor.range_dispatch.registration.candidates import CandidatePool
from torch._inductor.range_dispatch.registration.forcing import (
    forced_among,
    forced_name,
    given_winner,
)
from torch._inductor.range_dispatch.registration.spec import check_config_list, FALLBACK
from torch._inductor.range_dispatch.trace.drops import Drops
from torch._inductor.range_dispatch.trace.variants import Variants
from torch._inductor.range_dispatch.tuning.candidate_timer import CandidateTimer
from torch._inductor.virtualized import V

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sympy

    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask
    from torch._inductor.range_dispatch.plan.ranges import Cell
    from torch._inductor.range_dispatch.region.fused_call import FusedCall
    from torch._inductor.range_dispatch.registration.candidates import Candidate
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate


log = logging.getLogger(__name__)

# What ``config.range_dispatch.on_unusable_winner`` says to run the op itself.
_RUN_OP_ITSELF = "fallback"


class UnusableWinner(RuntimeError):
    """A winner that was given with ``winners=`` cannot be used."""


class Competitors:
    """The candidates of one bound call, traced for each range and numbered as they are
    registered.

    ``drops`` has those that cannot be used.
    """

    def __init__(
        self,
        registration: Registration,
        call: BoundCall,
        expected: Sequence[torch.Tensor],
        sizes: Sequence[sympy.Expr],
        fused: FusedCall | None,
    ) -> None:
        """``expected`` are the outputs that each has to give, ``sizes`` the dispatched
        ones, and ``fused`` is what candidates are timed with, if anything."""
        self.name = str(call.op)
        self._registration = registration
        self._call = call
        self._fused = fused
        self._pool = CandidatePool(registration.op, registration.uuid)
        self._configured_for_all: Sequence[Candidate] | None = None
        self._configured_by_range: dict[Cell, Sequence[Candidate]] = {}
        self._forced = forced_name(registration.op)
        is_given = registration.winners is not None or self._forced is not None
        self.drops = Drops(call)
        self.variants = Variants(call, expected, sizes, is_given, self.drops)

    @functools.cached_property
    def timer(self) -> CandidateTimer:
        """Times them.

        Raises:
            ValueError: config names a way to check accuracy that there is none of.
        """
        return CandidateTimer(
            self._registration,
            self._call,
            self.variants.fake_operands,
            self.drops,
            self._fused,
            self._graph_of_op,
        )

    @property
    def are_timed(self) -> bool:
        """Whether timing decides where several compete."""
        registration = self._registration
        force_configs = config.test_configs.force_custom_op_decomposition
        is_forced = force_configs is False and registration.include_fallback
        is_given = registration.winners is not None or self._forced is not None
        return not (is_given or is_forced or _is_deterministic())

    def usable(self, task: RangeTask) -> list[TracedCandidate]:
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
        graphs = (self.variants.graph_for(candidate, task) for candidate in distinct)
        usable = [traced for traced in graphs if traced is not None]
        if fixed is not None:
            if config.range_dispatch.on_unusable_winner == _RUN_OP_ITSELF:
                usable = [one for one in usable if self.timer.lowers(one, task)]
            if not usable and task.cell not in self.variants.left_out:
                self._check_usable(task, fixed)
        # Which candidate is fastest may differ from run to run: the first one wins.
        return usable[:1] if _is_deterministic() else usable

    def last_resort(self, task: RangeTask) -> TracedCandidate | None:
        """The op itself, for a range that no candidate is left for."""
        if not self._registration.include_fallback:
            raise RuntimeError(
                f"{self._call.op} has no candidate left for range {task.cell}: "
                "the log says why each was dropped, and include_fallback=False rules "
                "out the op itself"
            )
        return self.variants.graph_for(self._pool.fallback, task)

    def number(self, task: RangeTask, winner: TracedCandidate) -> int:
        """A winner as it would be registered."""
        if winner.candidate.is_fallback:
            return FALLBACK
        return [*self._configured(task)].index(winner.candidate)

    def candidate(self, task: RangeTask, number: int) -> Candidate | None:
        """The inverse of ``number``, None if this rank has no such candidate."""
        if number == FALLBACK:
            return self._pool.fallback
        configured = self._configured(task)
        return configured[number] if number < len(configured) else None

    def _graph_of_op(self, task: RangeTask) -> torch.fx.GraphModule | None:
        traced = self.variants.graph_for(self._pool.fallback, task)
        return None if traced is None else traced.graph_module

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


def _is_deterministic() -> bool:
    """Whether nothing may be decided by timing."""
    return config.deterministic or config.batch_invariant
