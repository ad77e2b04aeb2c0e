"""Which candidates compete for the ranges of a call, or which one is given."""

from __future__ import annotations

import logging
from typing import Any, TYPE_CHECKING

import torch
from torch._inductor import config
from torch._inductor.range_dispatch.call.sizes import concrete, concrete_layout
from torch._inductor.range_dispatch.registration.base_release import (
    decides_without_timing,
)
from torch._inductor.range_dispatch.registration.candidates import CandidatePool
from torch._inductor.range_dispatch.registration.forcing import (
    forced_among,
    forced_name,
    given_winner,
)
from torch._inductor.range_dispatch.registration.spec import check_config_list, FALLBACK
from torch._inductor.range_dispatch.trace.drops import Drops
from torch._inductor.range_dispatch.trace.variants import Variants
from torch._inductor.virtualized import V

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sympy

    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask
    from torch._inductor.range_dispatch.plan.ranges import Cell
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
    ) -> None:
        """``expected`` are the outputs that each has to give, ``sizes`` the dispatched
        ones."""
        self.registration = registration
        self.call = call
        self._pool = CandidatePool(registration.op, registration.uuid)
        self._configured_for: dict[Cell | None, Sequence[Candidate]] = {}
        self._forced = forced_name(registration.op)
        self._is_given = registration.winners is not None or self._forced is not None
        self.drops = Drops(call)
        self.variants = Variants(call, expected, sizes, self._is_given, self.drops)

    def lowers(self, traced: TracedCandidate, task: RangeTask) -> bool:
        """Whether a winner that is given can be lowered for its range, as far as that
        is known before it is."""
        return True

    def graph_of_op(self, task: RangeTask) -> torch.fx.GraphModule | None:
        """The graph of the op itself for a range, None if it cannot be traced."""
        traced = self.variants.graph_for(self._pool.fallback, task)
        return None if traced is None else traced.graph_module

    @property
    def are_timed(self) -> bool:
        """Whether timing decides where several compete."""
        return not (self._is_given or self._is_op_forced or decides_without_timing())

    @property
    def _is_op_forced(self) -> bool:
        """Whether the base's own setting rules out all configs."""
        force_configs = config.test_configs.force_custom_op_decomposition
        return force_configs is False and self.registration.include_fallback

    def usable(self, task: RangeTask) -> list[TracedCandidate]:
        """The traced candidates that compete for a range; one if it is given."""
        configured = self._configured(task)
        fixed = self._fixed_winner(task, configured)
        force_configs = config.test_configs.force_custom_op_decomposition
        if fixed is not None:
            competing = [fixed]
        elif force_configs or not self.registration.include_fallback:
            competing = [*configured]
        else:
            competing = [*configured, self._pool.fallback]
        distinct = dict.fromkeys(competing)
        graphs = (self.variants.graph_for(candidate, task) for candidate in distinct)
        usable = [traced for traced in graphs if traced is not None]
        if fixed is not None:
            if config.range_dispatch.on_unusable_winner == _RUN_OP_ITSELF:
                usable = [one for one in usable if self.lowers(one, task)]
            if not usable and task.cell not in self.variants.left_out:
                self._check_usable(task, fixed)
        # Which candidate is fastest may differ from run to run: the first one wins.
        return usable[:1] if decides_without_timing() else usable

    def last_resort(self, task: RangeTask) -> TracedCandidate | None:
        """The op itself, for a range that no candidate is left for."""
        if not self.registration.include_fallback:
            raise RuntimeError(
                f"{self.call.op} has no candidate left for range {task.cell}: "
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

    def _fixed_winner(
        self, task: RangeTask, configured: Sequence[Candidate]
    ) -> Candidate | None:
        """The candidate that wins without being timed, None if timing decides."""
        fallback, winners = self._pool.fallback, self.registration.winners
        if self._forced is not None:
            among = [*configured, fallback]
            return forced_among(self.call.op, self._forced, among)
        if self._is_op_forced:
            return fallback
        if winners is not None:
            given = self.candidate(task, winners[task.index])
            if given is None:
                raise ValueError(
                    f"winners[{task.index}] of {self.registration.op} is "
                    f"{winners[task.index]}, but config_generator returned "
                    f"{len(configured)} configs for range {task.cell}"
                )
            return given
        force_configs = config.test_configs.force_custom_op_decomposition
        may_fall_back = force_configs is None and self.registration.include_fallback
        if decides_without_timing() and may_fall_back:
            log.info("%s: deterministic mode, taking the op itself", self.call.op)
            return fallback
        return None

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
        if not self._is_given or on_unusable == _RUN_OP_ITSELF:
            return
        dropped = self.drops.of(winner)
        reasons = [one.reason for one in dropped if one.concerns(task.cell)]
        what = given_winner(self.call.op, task.index)
        raise UnusableWinner(
            f"{what} of {self.call.op}, {winner}, cannot be used for "
            f"range {task.cell}: {'; '.join(reasons)}. To run the op itself there: "
            "config.range_dispatch.on_unusable_winner = 'fallback'"
        )

    def _configured(self, task: RangeTask) -> Sequence[Candidate]:
        """A candidate for each config of the range.

        Configs may collapse into one candidate, or into the fallback. What a generator
        makes anew each time would be other candidates: it is asked once for a range.
        """
        configs: Sequence[Any] | None = self.registration.configs
        key = task.cell if configs is None else None
        if key not in self._configured_for:
            configs = self._generated_configs(task) if configs is None else configs
            self._configured_for[key] = [self._pool.add(one) for one in configs]
        return self._configured_for[key]

    def _generated_configs(self, task: RangeTask) -> Sequence[Any]:
        registration, values = self.registration, task.values
        if registration.config_generator is None:
            raise AssertionError(f"{registration} has no config_generator")
        # Static fake tensors: whatever the generator asks about sizes adds no guard.
        with V.fake_mode:
            tensors = [
                torch.empty_strided(
                    *concrete_layout(node, values),
                    dtype=node.get_dtype(),
                    device=node.get_device(),
                )
                for node in self.call.nodes
            ]
            symbols = [concrete(s, values) for s in self.call.symbols]
            named = self.call.tensors_by_name([*tensors, *symbols])
            generated = registration.config_generator(named)
        return check_config_list(registration.op, generated, "config_generator result")
