"""Times candidates that communicate, with all ranks in step.

A collective returns when every rank has called it. So all ranks run the same candidates
in one order, on inputs of the same sizes, equally often, or none of them is run at all.
"""

from __future__ import annotations

import json
import logging
import statistics
import time
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

import torch
from torch._inductor import config
from torch._inductor.range_dispatch.distributed.ranks import (
    AgreementError,
    Peers,
    wait_until,
)
from torch._inductor.range_dispatch.trace.graph_passes import nodes_within
from torch._inductor.utils import is_collective_op

if TYPE_CHECKING:
    from collections.abc import Callable


log = logging.getLogger(__name__)

# Libraries whose ops wait for other ranks.
_LIBRARIES = ("_c10d_functional", "_c10d_functional_autograd", "c10d", "symm_mem")

MIN_RUNS = 3


def communicates(graph_module: torch.fx.GraphModule) -> bool:
    """Whether a graph, or one nested in it, holds a collective."""
    return any(
        isinstance(node.target, torch._ops.OpOverload)
        and (
            node.target.namespace in _LIBRARIES
            or is_collective_op(f"torch.ops.{node.target}")
        )
        for node in nodes_within(graph_module)
    )


@dataclass(frozen=True)
class Rendezvous:
    """An occasion on which all ranks time the same candidates on the same sizes."""

    peers: Peers
    topic: str

    @classmethod
    def enter(cls, peers: Peers, subject: str, plan: str) -> Rendezvous | None:
        """All ranks together; None, for all of them, if one has another plan.

        ``plan`` says what this rank is about to time. A rank that does not come within
        ``config.range_dispatch.agreement_timeout_seconds`` has another plan.
        """
        peers.entered[subject] += 1
        rendezvous = cls(peers, f"{subject}/rendezvous_{peers.entered[subject]}")
        timeout = config.range_dispatch.agreement_timeout_seconds
        plans = rendezvous._gather("plan", plan, timeout)
        is_common = plans is not None and all(one == plan for one in plans)
        # A rank that gave up waiting may be missed by one that did not.
        verdict = peers.decide(f"{rendezvous.topic}/verdict", str(is_common))
        return rendezvous if verdict == str(True) else None

    def exchange(self, what: str, value: Any) -> list[Any]:
        """What each rank has to say, in the order of ranks.

        Raises:
            AgreementError: a rank says nothing for
                ``config.collective_benchmark_timeout`` seconds.
        """
        timeout = config.collective_benchmark_timeout
        said = self._gather(what, json.dumps(value), timeout)
        if said is None:
            raise AgreementError(
                f"a rank fell out of step while candidates with collectives were "
                f"timed: rank {self.peers.rank} waited {timeout:g} seconds for its "
                f"{what}. Register the op with winners=[...], so that nothing is timed"
            )
        return [json.loads(one) for one in said]

    def _gather(self, what: str, text: str, seconds: float) -> list[str] | None:
        ranks = range(self.peers.world_size)
        keys = [f"{self.topic}/{what}/{rank}" for rank in ranks]
        self.peers.store.set(keys[self.peers.rank], text)
        if not wait_until(lambda: self.peers.has_all(keys), seconds):
            return None
        return [self.peers.store.get(key).decode() for key in keys]


def time_in_step(
    rendezvous: Rendezvous,
    name: str,
    run: Callable[[], Any],
    device: torch.device,
    seconds: float,
) -> float | Exception:
    """The milliseconds of a run on the slowest rank, or why it cannot be run.

    ``name`` tells runs apart. It takes about so many ``seconds``.
    """
    try:
        run()  # what is set up by the first call counts for nothing
        wanted = int(seconds / seconds_of_call(run, device))
        failure = None
    except Exception as error:
        wanted, failure = None, error
    counts = rendezvous.exchange(f"{name} first", wanted)
    if None in counts:
        return failure or RuntimeError(f"it fails on rank {counts.index(None)}")
    count = min(max(min(counts), MIN_RUNS), config.collective_benchmark_nruns)
    median = statistics.median(seconds_of_call(run, device) for _ in range(count))
    return max(rendezvous.exchange(f"{name} milliseconds", median * 1e3))


def seconds_of_call(run: Callable[[], Any], device: torch.device) -> float:
    """What one call takes, with all that it does on the device."""
    _synchronize(device)
    start = time.perf_counter()
    run()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device).synchronize(device)
