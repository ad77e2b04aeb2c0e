"""Candidates that compete for a range, at sizes that stand for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.call.sizes import evaluate

from torch._inductor.range_dispatch.distributed.in_step import communicates
from torch._inductor.range_dispatch.distributed.ranks import find_peers, Peers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.benchmark.timing import Timings

    from torch._inductor.range_dispatch.call.sizes import (
        RangeTask,
        Sample,
        SymbolValues,
    )
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate


def describe_sizes(task: RangeTask, values: SymbolValues) -> str:
    """The dispatched sizes: ``128``, or ``128 x 64`` if there are several."""
    return " x ".join(str(evaluate(size, values)) for size in task.sizes)


@dataclass(frozen=True)
class Contest:
    """The candidates for a range, and sizes of it to time them at."""

    candidates: Sequence[TracedCandidate]
    task: RangeTask
    sample: Sample

    def describe(self) -> str:
        """The range and the sizes that are timed: ``[0, 512] at 128``."""
        sizes = describe_sizes(self.task, self.sample.values)
        return f"{self.task.cell} at {sizes}" if sizes else "all sizes"

    @property
    def extent(self) -> int:
        """The product of the sizes that are timed."""
        return math.prod(evaluate(s, self.sample.values) for s in self.task.sizes)

    def peers(self) -> Peers | None:
        """Those to time the candidates together with, None if this rank alone can."""
        if any(communicates(one.graph_module) for one in self.candidates):
            return find_peers()
        return None


@dataclass(frozen=True)
class Measured:
    """What the candidates took at the sizes of a sample; nothing if none could run."""

    sample: Sample
    timings: Timings
