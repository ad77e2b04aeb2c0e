"""In a worker: an operator is tuned, and what dispatches is timed beside the winners.

Only implementations compete, each of which is compiled alone as well: the op itself,
uncompiled, is left out.
"""

from __future__ import annotations

import importlib
import time
from typing import Any

import torch
from crossover import DISPATCH, Branch, autotuned, branches_of, check, measure
from operators.specification import RealOperator
from reporting import Reporter, median, paired_ratios
from torch._inductor import config
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.utils import fresh_cache


class SilentReporter(Reporter):
    """The process that asks tells how far things are."""

    def __init__(self) -> None:
        pass

    def describe(self, text: str) -> None:
        """Nothing is shown."""

    def advance(self) -> None:
        """Nothing is shown."""


def tune(
    operator: str, device: str, cudagraphs: bool, seconds: float
) -> dict[str, Any]:
    """Tune once, and check what the compiled op computes at every size.

    Args:
        cudagraphs: candidates are timed by replay of CUDA graphs.
        seconds: budget for timing, ``tuning_seconds``.
    """
    chosen = _load(operator, device)
    torch._dynamo.reset()
    with (
        fresh_cache(),
        config.patch(autotune_local_cache=False),
        torch.no_grad(),
        autotuned(
            chosen,
            benchmark_with_cudagraphs=cudagraphs,
            include_fallback=False,
            tuning_seconds=seconds,
        ),
    ):
        compiled = torch.compile(chosen.call)
        started = time.perf_counter()
        with record_dispatches() as records:
            compiled(*chosen.make_first_inputs())
        taken = time.perf_counter() - started
        check(chosen, {DISPATCH: compiled})
    (record,) = records
    return {
        "title": chosen.title,
        "unit": chosen.unit,
        "implementations": [one.__name__ for one in chosen.implementations],
        "compile_seconds": round(taken, 1),
        "winners": [row.number for row in record.ranges],
        "ranges": [_as_json(branch) for branch in branches_of(chosen, record)],
        "dropped": list(record.dropped),
    }


def dispatch(
    operator: str,
    device: str,
    winners: list[int] | None,
    repeats: int,
    milliseconds: int,
) -> dict[str, Any]:
    """Time the dispatch among these winners and every implementation compiled alone.

    Without winners the implementations take the ranges in turn.
    """
    chosen = _load(operator, device)
    in_turn = winners is None
    if winners is None:
        count = len(chosen.implementations)
        winners = [n % count for n in range(len(chosen.split_points) + 1)]
    if device == "cpu":
        # With more, whatever else runs on a shared machine stalls all of them.
        torch.set_num_threads(1)
    result = measure(
        chosen,
        repeats,
        milliseconds,
        SilentReporter(),
        winners=winners,
        include_fallback=False,
    )
    sizes = []
    for one in result.sizes:
        alone, dispatched = one.microseconds[one.branch], one.microseconds[DISPATCH]
        sizes.append(
            {
                "size": one.size,
                "branch": one.branch,
                "microseconds": {n: median(t) for n, t in one.microseconds.items()},
                "ratio": median(paired_ratios(dispatched, alone)),
                "best": one.best,
                "ratio_to_best": one.ratio(DISPATCH),
            }
        )
    return {
        "title": chosen.title,
        "unit": chosen.unit,
        "in_turn": in_turn,
        "sizes": sizes,
    }


def _load(operator: str, device: str) -> RealOperator:
    """The operator of this name for this device; its op is defined once a process."""
    module = importlib.import_module(f"gpu_check_tool.in_worker.op_{operator}")
    return module.make_operator(device)


def _as_json(branch: Branch) -> dict[str, Any]:
    return {
        "range": str(branch.size_range),
        "winner": branch.implementation,
        "timed_at": [*branch.timed_at],
        "milliseconds": {**branch.milliseconds},
    }
