"""Times compiled candidates on real inputs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TYPE_CHECKING, TypeAlias

import torch
from torch._dispatch.python import no_python_dispatcher
from torch._dynamo.utils import counters
from torch._inductor.range_dispatch.benchmark.contention import waited_here, WaitedShare
from torch._inductor.range_dispatch.benchmark.progress import show
from torch._inductor.range_dispatch.distributed.in_step import (
    Rendezvous,
    seconds_of_call,
    time_in_step,
)
from torch._inductor.range_dispatch.plan.times import Timing
from torch._inductor.range_dispatch.registration.candidates import Candidate
from torch._inductor.runtime.benchmarking import benchmarker
from torch._inductor.utils import is_gpu
from torch.utils._python_dispatch import _disable_current_modes

if TYPE_CHECKING:
    from torch._inductor.range_dispatch.benchmark.modules import CompiledCandidate


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
SECONDS_OF_INTEREST = 0.05
SECONDS_BEYOND_DOUBT = 1.0

# Where threads wait for a processor for more than this part of the time, times of
# calls say little: one thread that is held up holds up all.
BUSY = 0.1
# A time that may be off by more than this part of it is marked if the machine is busy.
CERTAIN = 0.25


class OutOfTime(Exception):
    """The time that was left was used up before every candidate had been called."""


Timings: TypeAlias = dict[Candidate, Timing]
Runs: TypeAlias = dict[Candidate, Callable[[], Any]]
OnFailure: TypeAlias = Callable[[Candidate, Exception], None]
# Gets what the first call of a candidate returned, the only item of a list that it
# empties. It may raise what an ``OnFailure`` is to be told.
OnResults: TypeAlias = Callable[[Candidate, list[Any]], None]


def is_disturbed(timings: Timings) -> bool:
    """Whether other programs have disturbed what was timed."""
    return any(timing.disturbed for timing in timings.values())


def time_candidates(
    compiled: Sequence[CompiledCandidate],
    inputs: Sequence[Any],
    use_cudagraphs: bool,
    seconds: float,
    on_failure: OnFailure,
    limit: float = math.inf,
    comparing: Callable[[], OnResults] | None = None,
    rendezvous: Rendezvous | None = None,
) -> Timings:
    """What each candidate takes on these inputs, found out in about ``seconds``.

    No call is begun after ``limit`` seconds. A candidate that fails is reported to
    ``on_failure`` and left out. ``comparing`` makes what looks at first results, those
    of the op itself before all others. At a ``rendezvous`` it is done with every rank
    in step, whatever the limit, and nothing looks at results.

    Raises:
        OutOfTime: not every candidate could be called before that.
    """
    device = next(x.device for x in inputs if isinstance(x, torch.Tensor))
    deadline = time.perf_counter() + limit
    with undisturbed(device):
        runs: Runs = {c.candidate: functools.partial(_run, c, inputs) for c in compiled}
        if rendezvous is not None:
            return _time_at(rendezvous, runs, device, seconds, on_failure)
        waited = WaitedShare()
        call = functools.partial(_seconds_of_call, device=device)
        first = _first_calls(runs, call, comparing, on_failure, deadline)
        counters["inductor"]["custom_op_candidates_timed"] += len(first)
        is_busy = waited.so_far() > BUSY
        may_doubt = device.type != "cpu" or is_busy
        beyond_doubt = math.inf if may_doubt else SECONDS_BEYOND_DOUBT
        slow = _far_behind(runs, first, call, beyond_doubt, on_failure, deadline)
        runs = {one: runs[one] for one in first if one not in slow}
        if device.type == "cpu":
            timings = _time_interleaved(runs, first, seconds, on_failure, deadline)
            if is_disturbed(timings):
                slow = {
                    c: dataclasses.replace(t, disturbed=True) for c, t in slow.items()
                }
            return slow | timings

        def benchmark(run: Callable[[], Any]) -> float | None:
            if time.perf_counter() > deadline:
                return None
            if use_cudagraphs:
                return benchmarker.benchmark_gpu_with_cuda_graph(run)
            return benchmarker.benchmark(run, device=device)

        taken = _without_failures(runs, benchmark, on_failure)
        return slow | {c: Timing(ms or first[c] * 1e3) for c, ms in taken.items()}


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


def _seconds_of_call(run: Callable[[], Any], device: torch.device) -> float:
    """Without what a thread that does all the work was held up."""
    if device.type != "cpu" or torch.get_num_threads() > 1:
        return seconds_of_call(run, device)
    before = waited_here()
    seconds = seconds_of_call(run, device)
    return max(seconds - (waited_here() - before), 0.0)


def _first_calls(
    runs: Runs,
    seconds_of: Callable[[Callable[[], Any]], float],
    comparing: Callable[[], OnResults] | None,
    on_failure: OnFailure,
    deadline: float,
) -> dict[Candidate, float]:
    """The seconds that the first call takes of each candidate that it succeeds for."""
    if comparing is None:
        return _without_failures(runs, seconds_of, on_failure, deadline)
    look_at = comparing()

    def looked_at(candidate: Candidate) -> float:
        results: list[Any] = []
        seconds = seconds_of(lambda: results.append(runs[candidate]()))
        look_at(candidate, results)
        return seconds

    ordered = sorted(runs, key=lambda one: not one.is_fallback)
    calls: Runs = {one: functools.partial(looked_at, one) for one in ordered}
    taken = _without_failures(calls, lambda call: call(), on_failure, deadline)
    return {one: taken[one] for one in runs if one in taken}


def _far_behind(
    runs: Runs,
    first: dict[Candidate, float],
    call: Callable[[Callable[[], Any]], float],
    beyond_doubt: float,
    on_failure: OnFailure,
    deadline: float,
) -> Timings:
    """What candidates take that a call, the ``first`` or another, shows to be slow."""
    limit = max(FAR_BEHIND * min(first.values(), default=0.0), SECONDS_OF_INTEREST)
    suspects = {one: seconds for one, seconds in first.items() if seconds > limit}
    doubtful = {one: runs[one] for one in suspects if suspects[one] < beyond_doubt}
    with contextlib.suppress(OutOfTime):
        suspects |= _without_failures(doubtful, call, on_failure, deadline)
    return {one: Timing(s * 1e3) for one, s in suspects.items() if s > limit}


def _run(compiled: CompiledCandidate, inputs: Sequence[Any]) -> Any:
    return compiled.call([*inputs])  # the module empties the list that it gets


def _without_failures(
    runs: Runs,
    action: Callable[[Callable[[], Any]], Any],
    on_failure: OnFailure,
    deadline: float = math.inf,
) -> dict[Candidate, Any]:
    """What ``action`` returned for each for which it did not raise.

    Raises:
        OutOfTime: the deadline came before all had their turn.
    """
    results = {}
    for candidate, run in runs.items():
        if time.perf_counter() > deadline:
            raise OutOfTime
        show(candidate=candidate.name)
        try:
            results[candidate] = action(run)
        except Exception as error:
            on_failure(candidate, error)
    return results


def _time_at(
    rendezvous: Rendezvous,
    runs: Runs,
    device: torch.device,
    seconds: float,
    on_failure: OnFailure,
) -> Timings:
    timings = {}
    for number, (candidate, run) in enumerate(runs.items()):
        name, seconds_each = f"candidate {number}", seconds / len(runs)
        result = time_in_step(rendezvous, name, run, device, seconds_each)
        if isinstance(result, Exception):
            on_failure(candidate, result)
        else:
            timings[candidate] = Timing(result)
    counters["inductor"]["custom_op_candidates_timed"] += len(timings)
    return timings


def _time_interleaved(
    runs: Runs,
    first: Mapping[Candidate, float],
    seconds: float,
    on_failure: OnFailure,
    deadline: float = math.inf,
) -> Timings:
    """Those that the deadline leaves no round for keep the time of their ``first``
    call, in seconds."""
    waited = WaitedShare()
    rounds = _rounds(runs, _best_call, seconds, on_failure, deadline, waited)
    is_busy = waited.so_far() > BUSY
    if is_busy and torch.get_num_threads() == 1:
        one_round = functools.partial(_best_call, waited_so_far=waited_here)
        rounds = _rounds(runs, one_round, seconds, on_failure, deadline)
    timings = {}
    for candidate, taken in rounds.items():
        timing = _median_round(taken or [first[candidate] * 1e3])
        is_certain = (
            torch.get_num_threads() == 1
            and len(taken) >= MIN_ROUNDS
            and timing.noise <= CERTAIN * timing.milliseconds
        )
        disturbed = is_busy and not is_certain
        timings[candidate] = dataclasses.replace(timing, disturbed=disturbed)
    return timings


def _rounds(
    runs: Runs,
    one_round: Callable[[Callable[[], Any], float], float],
    seconds: float,
    on_failure: OnFailure,
    deadline: float,
    waited: WaitedShare | None = None,
) -> dict[Candidate, list[float]]:
    """The milliseconds of each candidate's rounds, which take about so long.

    It ends early where ``waited`` shows that the machine is busy.
    """
    enough = time.perf_counter() + seconds
    rounds: dict[Candidate, list[float]] = {candidate: [] for candidate in runs}
    active = runs

    def measure(run: Callable[[], Any]) -> float:
        return one_round(run, deadline)

    for done in range(1, MAX_ROUNDS + 1):
        try:
            taken = _without_failures(active, measure, on_failure, deadline)
        except OutOfTime:
            break
        for candidate in active:
            if candidate in taken:
                rounds[candidate].append(taken[candidate])
            else:
                del rounds[candidate]
        active = {candidate: runs[candidate] for candidate in taken}
        if done >= MIN_ROUNDS:
            if time.perf_counter() > enough:
                break
            # Asked once, as it takes time, too.
            if done == MIN_ROUNDS and waited is not None and waited.so_far() > BUSY:
                break
            medians = {c: statistics.median(rounds[c]) for c in active}
            limit = HOPELESS_RATIO * min(medians.values(), default=0.0)
            active = {c: run for c, run in active.items() if medians[c] <= limit}
    return rounds


def _best_call(
    run: Callable[[], Any],
    deadline: float,
    waited_so_far: Callable[[], float] = lambda: 0.0,
) -> float:
    """One round: milliseconds of the best of the calls that fit into it.

    If this thread does all the work and is held up, ``waited_so_far`` tells for how
    many seconds. What was waited in a call is taken off; such calls count only if all
    were held up, as it may have been just before or after the call.
    """
    whole = held_up = math.inf
    end_of_round = time.perf_counter() + SECONDS_PER_ROUND
    for _ in range(MAX_CALLS_PER_ROUND):
        before = waited_so_far()
        start = time.perf_counter()
        run()
        now = time.perf_counter()
        waited = waited_so_far() - before
        own = max(now - start - waited, 0.0)
        if waited:
            held_up = min(held_up, own)
        else:
            whole = min(whole, own)
        is_answered = whole < math.inf or own > SECONDS_PER_ROUND
        if now > deadline or (now > end_of_round and is_answered):
            break
    return (whole if whole < math.inf else held_up) * 1e3


def _median_round(milliseconds: list[float]) -> Timing:
    """The median round; the spread of the middle half tells how well it repeats."""
    ordered = sorted(milliseconds)
    quarter = len(ordered) // 4
    spread = ordered[-1 - quarter] - ordered[quarter]
    return Timing(statistics.median(ordered), spread / math.sqrt(len(ordered)))
