"""Times candidates: one compile each, then one timing for each range."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch._dynamo.utils import counters
from torch._inductor import config, metrics
from torch._inductor.range_dispatch.candidates import Candidate
from torch._inductor.range_dispatch.tracing import TracedCandidate
from torch._inductor.runtime.benchmarking import benchmarker
from torch._inductor.utils import is_gpu
from torch._inductor.virtualized import V
from torch.utils._python_dispatch import _disable_current_modes

# On CPU candidates are timed in interleaved rounds, so that drift of the machine hits
# all alike: at least MIN_ROUNDS, then until the range has used up its time. The best
# round counts: whatever else runs on the machine only ever adds to a round, and with
# threads that wait for each other it may add to most of them.
MIN_ROUNDS = 10
MAX_ROUNDS = 200
SECONDS_PER_CANDIDATE = 0.1

# After MIN_ROUNDS a candidate this much slower than the best is not timed further.
HOPELESS_RATIO = 3.0


@dataclass(frozen=True)
class Timing:
    """Milliseconds of the best round, and by how much that may be off."""

    milliseconds: float
    noise: float = 0.0


Timings: TypeAlias = dict[Candidate, Timing]
Runs: TypeAlias = dict[Candidate, Callable[[], Any]]
OnFailure: TypeAlias = Callable[[Candidate, Exception], None]


@dataclass(frozen=True, eq=False)
class CompiledCandidate:
    """A traced candidate with the compiled module that is timed."""

    traced: TracedCandidate
    call: Callable[[list[Any]], Any]

    @property
    def candidate(self) -> Candidate:
        return self.traced.candidate


def compile_candidate(
    traced: TracedCandidate, fake_operands: Sequence[Any]
) -> CompiledCandidate:
    """Compile a candidate's graph by itself, once for all sizes.

    Nested autotuning is off, as in the base's own subgraph choices: it would cost more
    than what it decides here.
    """
    from torch._inductor.graph import GraphLowering

    patches = {
        "max_autotune": False,
        "max_autotune_gemm": False,
        "max_autotune_gemm_backends": "ATEN",
        "benchmark_fusion": False,
        "pipeline_max_autotune_gemm": False,
        **traced.candidate.config_patches,
    }
    shape_env = V.graph.sizevars.shape_env
    with _unseen_by_metrics(), shape_env.suppress_guards(), config.patch(patches):
        graph = GraphLowering(
            gm=traced.graph_module,
            example_inputs=fake_operands,
            shape_env=shape_env,
            is_inference=V.graph.is_inference,
            name="benchmark_candidate",
        )
        with V.set_graph_handler(graph):
            graph.run(*fake_operands)
            module = graph.compile_to_module()
    counters["inductor"]["custom_op_candidates_compiled"] += 1
    return CompiledCandidate(traced, module.call)


@contextlib.contextmanager
def _unseen_by_metrics() -> Iterator[None]:
    """Keep benchmark modules out of what counts and shows the generated code."""
    from torch._inductor.graph import GraphLowering

    before = metrics.CachedMetricsHelper()
    save_output_code, GraphLowering.save_output_code = (
        GraphLowering.save_output_code,
        None,
    )
    try:
        yield
    finally:
        GraphLowering.save_output_code = save_output_code
        added = dataclasses.asdict(before.get_deltas())
        metrics.CachedMetricsHelper.apply_deltas(
            metrics.CachedMetricsDeltas(**{name: -n for name, n in added.items()})
        )


def time_candidates(
    compiled: Sequence[CompiledCandidate],
    inputs: Sequence[Any],
    use_cudagraphs: bool,
    on_failure: OnFailure,
) -> Timings:
    """What each candidate takes on these inputs.

    One that fails is reported to ``on_failure`` and left out.
    """
    device = next(x.device for x in inputs if isinstance(x, torch.Tensor))
    devices = [device.index] if is_gpu(device.type) else []
    with (
        _disable_current_modes(),
        torch.no_grad(),
        torch.random.fork_rng(devices, device_type=device.type),
    ):
        runs: Runs = {c.candidate: functools.partial(_run, c, inputs) for c in compiled}
        runs = _without_failures(runs, lambda run: run(), on_failure)[0]
        counters["inductor"]["custom_op_candidates_timed"] += len(runs)
        if device.type == "cpu":
            return _time_interleaved(runs, on_failure)

        def benchmark(run: Callable[[], Any]) -> Timing:
            if use_cudagraphs:
                return Timing(benchmarker.benchmark_gpu_with_cuda_graph(run))
            return Timing(benchmarker.benchmark(run, device=device))

        return _without_failures(runs, benchmark, on_failure)[1]


def _run(compiled: CompiledCandidate, inputs: Sequence[Any]) -> Any:
    return compiled.call([*inputs])  # the module empties the list that it gets


def _without_failures(
    runs: Runs, action: Callable[[Callable[[], Any]], Any], on_failure: OnFailure
) -> tuple[Runs, dict[Candidate, Any]]:
    """Those for which ``action`` did not raise, and what it returned for each."""
    results = {}
    for candidate, run in runs.items():
        try:
            results[candidate] = action(run)
        except Exception as error:
            on_failure(candidate, error)
    return {candidate: runs[candidate] for candidate in results}, results


def _time_interleaved(runs: Runs, on_failure: OnFailure) -> Timings:
    rounds: dict[Candidate, list[float]] = {candidate: [] for candidate in runs}
    deadline = time.perf_counter() + SECONDS_PER_CANDIDATE * len(runs)
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
            best = {candidate: min(rounds[candidate]) for candidate in active}
            limit = HOPELESS_RATIO * min(best.values(), default=0.0)
            active = {c: run for c, run in active.items() if best[c] <= limit}
    return {candidate: _best_round(taken) for candidate, taken in rounds.items()}


def _milliseconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def _best_round(milliseconds: list[float]) -> Timing:
    """The best round; two halves of the rounds tell how well it repeats."""
    halves = min(milliseconds[::2]), min(milliseconds[1::2], default=math.inf)
    return Timing(min(halves), abs(halves[0] - halves[1]))


def choose(
    timings: Sequence[Timings], min_speedup_threshold: float
) -> list[Candidate | None]:
    """The winner of each range, None where nothing was timed.

    The op itself stays unless the fastest beats it by the threshold, a ratio. Where the
    winner of a neighbouring range is as fast within the noise, it wins here too: noise
    must not add branches.
    """
    winners = [_fastest(one, min_speedup_threshold) for one in timings]
    for order in (range(1, len(winners)), range(len(winners) - 2, -1, -1)):
        step = -order.step
        for i in order:
            neighbour = winners[i + step]
            if i - step in range(len(winners)) and winners[i - step] is winners[i]:
                continue  # already one with the range on the other side
            if _ties(timings[i], winners[i], neighbour, min_speedup_threshold):
                winners[i] = neighbour
    return winners


def _fastest(timings: Timings, min_speedup_threshold: float) -> Candidate | None:
    if not timings:
        return None
    best = min(timings, key=lambda candidate: timings[candidate].milliseconds)
    for candidate in timings:
        if candidate.is_fallback and not _beats(
            timings, best, candidate, min_speedup_threshold
        ):
            return candidate
    return best


def _beats(
    timings: Timings, candidate: Candidate, fallback: Candidate, threshold: float
) -> bool:
    needed = timings[candidate].milliseconds * threshold
    return timings[fallback].milliseconds >= needed


def _ties(
    timings: Timings,
    winner: Candidate | None,
    other: Candidate | None,
    min_speedup_threshold: float,
) -> bool:
    """Whether ``other`` may take a range from its winner."""
    if winner is other or winner not in timings or other not in timings:
        return False
    assert winner is not None and other is not None
    for candidate in timings:
        if candidate.is_fallback and candidate is not other:
            if not _beats(timings, other, candidate, min_speedup_threshold):
                return False
    best, near = timings[winner], timings[other]
    return near.milliseconds - best.milliseconds <= best.noise + near.noise
