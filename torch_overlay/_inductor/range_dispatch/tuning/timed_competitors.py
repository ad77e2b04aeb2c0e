"""The candidates of a call with what times them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.selection.competitors import Competitors
from torch._inductor.range_dispatch.tuning.candidate_timer import CandidateTimer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sympy

    import torch
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask
    from torch._inductor.range_dispatch.region.fused_call import FusedCall
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate


class TimedCompetitors(Competitors):
    """Candidates that are timed where several compete."""

    def __init__(
        self,
        registration: Registration,
        call: BoundCall,
        expected: Sequence[torch.Tensor],
        sizes: Sequence[sympy.Expr],
        fused: FusedCall | None,
    ) -> None:
        """See ``Competitors``; ``fused`` is what candidates are timed with, if
        anything."""
        super().__init__(registration, call, expected, sizes)
        self._fused = fused

    @functools.cached_property
    def timer(self) -> CandidateTimer:
        """Times them.

        Raises:
            ValueError: config names a way to check accuracy that there is none of.
        """
        return CandidateTimer(
            self.registration,
            self.call,
            self.variants.fake_operands,
            self.drops,
            self._fused,
            self.graph_of_op,
        )

    def lowers(self, traced: TracedCandidate, task: RangeTask) -> bool:
        return self.timer.lowers(traced, task)
