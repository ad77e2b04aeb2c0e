"""In a worker: an operator is tuned, and what dispatches is timed beside the winners.

Only implementations compete, each of which is compiled alone as well: the fallback is
left out.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from crossover import DISPATCH, autotuned, branches_of, check, measure
from gpu_check_tool.in_worker.operators import make_operator
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
    chosen = make_operator(operator, device)
    options = {"include_fallback": False, "tuning_seconds": seconds}
    torch._dynamo.reset()
    with (
        fresh_cache(),
        config.patch(autotune_local_cache=False),
        torch.no_grad(),
        autotuned(chosen, benchmark_with_cudagraphs=cudagraphs, **options),
    ):
        compiled = torch.compile(chosen.call)
        started = time.perf_counter()
        with record_dispatches() as records:
            compiled(*chosen.make_first_inputs())
        taken = time.perf_counter() - started
        check(chosen, {DISPATCH: compiled})
    (record,) = records
    ranges: list[dict[str, Any]] = [
        {
            "range": str(branch.size_range),
            "winner": branch.implementation,
            "timed_at": [*branch.timed_at],
            "milliseconds": dict(branch.milliseconds),
        }
        for branch in branches_of(chosen, record)
    ]
    return {
        "title": chosen.title,
        "unit": chosen.unit,
        "implementations": [one.__name__ for one in chosen.implementations],
        "compile_seconds": round(taken, 1),
        "winners": [row.number for row in record.ranges],
        "ranges": ranges,
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
    chosen = make_operator(operator, device)
    count = len(chosen.implementations)
    in_turn = [n % count for n in range(len(chosen.split_points) + 1)]
    if device == "cpu":
        # With more, whatever else runs on a shared machine stalls all of them.
        torch.set_num_threads(1)
    options = {"winners": winners or in_turn, "include_fallback": False}
    result = measure(chosen, repeats, milliseconds, SilentReporter(), **options)
    sizes = []
    for one in result.sizes:
        alone, dispatched = one.microseconds[one.branch], one.microseconds[DISPATCH]
        medians = {name: median(times) for name, times in one.microseconds.items()}
        ratio = median(paired_ratios(dispatched, alone))
        found = {"size": one.size, "branch": one.branch, "microseconds": medians}
        best = {"best": one.best, "ratio_to_best": one.ratio(DISPATCH)}
        sizes.append({**found, "ratio": ratio, **best})
    what = {"title": chosen.title, "unit": chosen.unit, "in_turn": winners is None}
    return {**what, "sizes": sizes}
