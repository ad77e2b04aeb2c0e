"""Candidates that compete for a range, at sizes that stand for it; and what timing
them there needs: inputs, and the other ranks."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

from torch._inductor.range_dispatch.call.inputs import (
    make_inputs,
    operand_layouts,
    warn_of_integers,
)
from torch._inductor.range_dispatch.call.memory import is_out_of_memory, release
from torch._inductor.range_dispatch.call.sizes import evaluate
from torch._inductor.range_dispatch.distributed.agreement import describe_registration
from torch._inductor.range_dispatch.distributed.in_step import communicates, Rendezvous
from torch._inductor.range_dispatch.distributed.ranks import find_peers, Peers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.benchmark.modules import CompiledCandidate
    from torch._inductor.range_dispatch.benchmark.timing import Timings
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import (
        RangeTask,
        Sample,
        SymbolValues,
    )
    from torch._inductor.range_dispatch.region.fused_call import FusedCall
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate


log = logging.getLogger(__name__)


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


def inputs_for(
    registration: Registration,
    call: BoundCall,
    fused: FusedCall | None,
    contest: Contest,
) -> list[Any] | None:
    """Tensors to time candidates with; with a warning None if there is no memory for
    them, and nothing if they cannot be made for another reason.

    Raises:
        ValueError: a generator of inputs is at fault.
    """
    values, generators = contest.sample.values, registration.input_gen_fns
    try:
        warn_of_integers(call, generators)
        if fused is None:
            return make_inputs(call, values, generators)
        return fused.make_inputs(values, generators)
    except ValueError:
        raise  # a generator's fault, which names the argument
    except Exception as error:
        if is_out_of_memory(error):
            release(error)
            log.warning(
                "%s: no memory for inputs to time range %s with, which is not timed at "
                "these sizes; if it is at no others, the winner of the nearest one is "
                "taken: %s",
                call.op,
                contest.describe(),
                error,
            )
            return None
        log.warning(
            "%s: no inputs to time range %s with, taking the op itself: %s",
            call.op,
            contest.task.cell,
            error,
        )
        return []


def meet(
    peers: Peers,
    registration: Registration,
    call: BoundCall,
    contest: Contest,
    running: Sequence[CompiledCandidate],
) -> Rendezvous | None:
    """All ranks at this contest, None and a warning if one is at another."""
    *tensors, symbols = operand_layouts(call, contest.sample.values)
    layouts = [layout[:-1] for layout in tensors]  # devices differ
    indices = [one.candidate.index for one in running]
    plan = f"{contest.task.cell} {layouts} {symbols} {indices}"
    rendezvous = Rendezvous.enter(peers, describe_registration(registration), plan)
    if rendezvous is None:
        log.warning(
            "%s: candidates with collectives can be timed only by all ranks together, "
            "with the same sizes. Taking the op itself for range %s; register it with "
            "winners=[...] to choose",
            call.op,
            contest.task.cell,
        )
    return rendezvous
