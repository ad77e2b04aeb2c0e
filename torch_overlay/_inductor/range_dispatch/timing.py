"""Times compiled candidates on real inputs."""

from __future__ import annotations

import contextlib
import functools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING, TypeAlias

import torch
from torch._dispatch.python import no_python_dispatcher
from torch._dynamo.utils import counters
from torch._inductor.range_dispatch.candidates import Candidate
from torch._inductor.range_dispatch.in_step import Meeting, time_in_step
from torch._inductor.range_dispatch.progress import show_candidate
from torch._inductor.runtime.benchmarking import benchmarker
from torch._inductor.utils import is_gpu
from torch.utils._python_dispatch import _disable_current_modes

if TYPE_CHECKING:
    from torch._inductor.range_dispatch.modules import CompiledCandidate


# On CPU candidates are timed in interleaved rounds, so that drift of the machine hits
# all alike: at least MIN_ROUNDS, then until the time for them is used up.
MIN_ROUNDS = 3
MAX_ROUNDS = 30

# In a round a candidate is called as often as fits this time, and its best call counts:
# whatever else runs on the machine only ever adds to a call, and may add milliseconds
# to most of them where threads wait for each other.
SECONDS_PER_ROUND = 5e-3
MAX_CALLS_PER_ROUND = 10

# After MIN_ROUNDS a candidate this much slower than the best is not timed further.
HOPELESS_RATIO = 3.0

# One that takes this much longer than the best for a single call, and this long, is
# timed by that call. The first call may make things ready, and is made again unless it
# took so long on CPU that nothing can have been made ready for.
FAR_BEHIND = 10.0
SECONDS_THAT_MATTER = 0.05
SECONDS_BEYOND_DOUBT = 1.0


# Milliseconds that a call takes at least; a coarse clock may show none.
SHORTEST = 1e-9


@dataclass(frozen=True)
class Timing:
    """Milliseconds of the median round, and by how much that may be off."""

    milliseconds: float
    noise: float = 0.0


Timings: TypeAlias = dict[Candidate, Timing]
Runs: TypeAlias = dict[Candidate, Callable[[], Any]]
OnFailure: TypeAlias = Callable[[Candidate, Exception], None]


def time_candidates(
    compiled: Sequence[CompiledCandidate],
    inputs: Sequence[Any],
    use_cudagraphs: bool,
    seconds: float,
    on_failure: OnFailure,
    meeting: Meeting | None = None,
) -> Timings:
    """What each candidate takes on these inputs, found out in about ``seconds``.

    One that fails is reported to ``on_failure`` and left out. At a ``meeting`` they
    are timed with all ranks in step.
    """
    device = next(x.device for x in inputs if isinstance(x, torch.Tensor))
    with undisturbed(device):
        runs: Runs = {c.candidate: functools.partial(_run, c, inputs) for c in compiled}
        if meeting is not None:
            return _time_at(meeting, runs, device, seconds, on_failure)
        runs, first = _without_failures(runs, _seconds, on_failure)
        counters["inductor"]["custom_op_candidates_timed"] += len(runs)
        beyond_doubt = SECONDS_BEYOND_DOUBT if device.type == "cpu" else math.inf
        slow = _far_behind(runs, first, beyond_doubt, on_failure)
        runs = {one: run for one, run in runs.items() if one not in slow}
        if device.type == "cpu":
            return slow | _time_interleaved(runs, seconds, on_failure)

        def benchmark(run: Callable[[], Any]) -> Timing:
            if use_cudagraphs:
                return Timing(benchmarker.benchmark_gpu_with_cuda_graph(run))
            return Timing(benchmarker.benchmark(run, device=device))

        return slow | _without_failures(runs, benchmark, on_failure)[1]


@contextlib.contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Let real tensors be computed with while a graph is compiled.

    The state of random numbers on the device, and on CPU, is the same afterwards.
    """
    devices = [device.index] if is_gpu(device.type) else []
    with (
        _disable_current_modes(),
        # In force while a graph is compiled, where it would hold up every ATen call.
        no_python_dispatcher(),
        torch.no_grad(),
        torch.random.fork_rng(devices, device_type=device.type),
    ):
        yield


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _far_behind(
    runs: Runs,
    first: dict[Candidate, float],
    beyond_doubt: float,
    on_failure: OnFailure,
) -> Timings:
    """What candidates take that a call, the ``first`` or another, shows to be slow."""
    limit = max(FAR_BEHIND * min(first.values(), default=0.0), SECONDS_THAT_MATTER)
    suspects = {one: seconds for one, seconds in first.items() if seconds > limit}
    doubtful = {one: runs[one] for one in suspects if suspects[one] < beyond_doubt}
    suspects |= _without_failures(doubtful, _seconds, on_failure)[1]
    return {one: Timing(s * 1e3) for one, s in suspects.items() if s > limit}


def _run(compiled: CompiledCandidate, inputs: Sequence[Any]) -> Any:
    return compiled.call([*inputs])  # the module empties the list that it gets


def _without_failures(
    runs: Runs, action: Callable[[Callable[[], Any]], Any], on_failure: OnFailure
) -> tuple[Runs, dict[Candidate, Any]]:
    """Those for which ``action`` did not raise, and what it returned for each."""
    results = {}
    for candidate, run in runs.items():
        show_candidate(candidate.name)
        try:
            results[candidate] = action(run)
        except Exception as error:
            on_failure(candidate, error)
    return {candidate: runs[candidate] for candidate in results}, results


def _time_at(
    meeting: Meeting,
    runs: Runs,
    device: torch.device,
    seconds: float,
    on_failure: OnFailure,
) -> Timings:
    seconds_each = seconds / max(len(runs), 1)
    results = time_in_step(meeting, [*runs.values()], device, seconds_each)
    timings = {}
    for candidate, result in zip(runs, results):
        if isinstance(result, Exception):
            on_failure(candidate, result)
        else:
            timings[candidate] = Timing(result)
    counters["inductor"]["custom_op_candidates_timed"] += len(timings)
    return timings


def _time_interleaved(runs: Runs, seconds: float, on_failure: OnFailure) -> Timings:
    deadline = time.perf_counter() + seconds
    rounds: dict[Candidate, list[float]] = {candidate: [] for candidate in runs}
    active = runs
    for done in range(1, MAX_ROUNDS + 1):
        running, taken = _without_failures(active, _milliseconds, on_failure)
        for candidate in active:
            if candidate in running:
                rounds[candidate].append(taken[candidate])
            else:
                del rounds[candidate]
        active = running
        if done >= MIN_ROUNDS:
            if time.perf_counter() > deadline:
                break
            medians = {c: statistics.median(rounds[c]) for c in active}
            limit = HOPELESS_RATIO * min(medians.values(), default=0.0)
            active = {c: run for c, run in active.items() if medians[c] <= limit}
    return {candidate: _median_round(taken) for candidate, taken in rounds.items()}


def _milliseconds(run: Callable[[], Any]) -> float:
    """One round: the best of the calls that fit into it."""
    best = math.inf
    end_of_round = time.perf_counter() + SECONDS_PER_ROUND
    for _ in range(MAX_CALLS_PER_ROUND):
        start = time.perf_counter()
        run()
        now = time.perf_counter()
        best = min(best, now - start)
        if now > end_of_round:
            break
    return best * 1e3


def _median_round(milliseconds: list[float]) -> Timing:
    """The median round; the spread of the middle half tells how well it repeats."""
    ordered = sorted(milliseconds)
    quarter = len(ordered) // 4
    spread = ordered[-1 - quarter] - ordered[quarter]
    return Timing(statistics.median(ordered), spread / math.sqrt(len(ordered)))
