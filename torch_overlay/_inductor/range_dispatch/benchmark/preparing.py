"""What timing a contest needs: inputs, and the other ranks."""

from __future__ import annotations

import logging
from typing import Any, TYPE_CHECKING

from torch._inductor.range_dispatch.call.inputs import (
    make_inputs,
    operand_layouts,
    warn_of_integers,
)

from torch._inductor.range_dispatch.call.memory import is_out_of_memory, release

from torch._inductor.range_dispatch.distributed.agreement import describe_registration
from torch._inductor.range_dispatch.distributed.in_step import Rendezvous

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.benchmark import modules
    from torch._inductor.range_dispatch.benchmark.contests import Contest
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.distributed.ranks import Peers
    from torch._inductor.range_dispatch.region.fused_call import FusedCall
    from torch._inductor.range_dispatch.registration.spec import Registration


log = logging.getLogger(__name__)


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
    running: Sequence[modules.CompiledCandidate],
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
