"""Times candidates: one compile each, then one timing for each range."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._dynamo.utils import counters
from torch._inductor import config, metrics
from torch._inductor.range_dispatch.candidates import Candidate, TracedCandidate
from torch._inductor.runtime.benchmarking import benchmarker
from torch._inductor.utils import is_gpu
from torch._inductor.virtualized import V
from torch.utils._python_dispatch import _disable_current_modes


log = logging.getLogger(__name__)

# On CPU candidates are timed in interleaved rounds, so that drift of the machine hits
# all alike: at least MIN_ROUNDS, then until the range has used up its time. The best
# round counts: whatever else runs on the machine only ever adds to a round, and with
# threads that wait for each other it may add to most of them.
MIN_ROUNDS = 10
MAX_ROUNDS = 200
SECONDS_PER_CANDIDATE = 0.1

# After MIN_ROUNDS a candidate this much slower than the best is not timed further.
HOPELESS_RATIO = 3.0


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
            is_backward=V.graph.is_backward,
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
    on_failure: Callable[[Candidate, Exception], None],
) -> dict[Candidate, float]:
    """Milliseconds that each candidate takes on these inputs.

    One that fails is reported to ``on_failure`` and left out.
    """
    runs: dict[Candidate, Callable[[], Any]] = {}
    device = next(x.device for x in inputs if isinstance(x, torch.Tensor))
    devices = [device.index] if is_gpu(device.type) else []
    with (
        _disable_current_modes(),
        torch.no_grad(),
        torch.random.fork_rng(devices, device_type=device.type),
    ):
        for one in compiled:

            def run(call: Callable[[list[Any]], Any] = one.call) -> Any:
                return call([*inputs])

            try:
                run()
            except Exception as error:
                on_failure(one.candidate, error)
            else:
                runs[one.candidate] = run
        counters["inductor"]["custom_op_candidates_timed"] += len(runs)
        if device.type == "cpu":
            return _time_interleaved(runs)
        return {
            candidate: benchmarker.benchmark_gpu_with_cuda_graph(run)
            if use_cudagraphs
            else benchmarker.benchmark(run, device=device)
            for candidate, run in runs.items()
        }


def _time_interleaved(
    runs: dict[Candidate, Callable[[], Any]],
) -> dict[Candidate, float]:
    best = dict.fromkeys(runs, math.inf)
    deadline = time.perf_counter() + SECONDS_PER_CANDIDATE * len(runs)
    active = list(runs)
    for done in range(1, MAX_ROUNDS + 1):
        for candidate in active:
            start = time.perf_counter()
            runs[candidate]()
            elapsed = (time.perf_counter() - start) * 1e3
            best[candidate] = min(best[candidate], elapsed)
        if done >= MIN_ROUNDS:
            if time.perf_counter() > deadline:
                break
            limit = HOPELESS_RATIO * min(best.values(), default=0.0)
            active = [candidate for candidate in active if best[candidate] <= limit]
    return best


def choose(
    timings: dict[Candidate, float], min_speedup_threshold: float
) -> Candidate | None:
    """The fastest candidate, None if none was timed.

    The op itself stays unless the fastest beats it by the threshold, a ratio.
    """
    if not timings:
        return None
    best = min(timings, key=timings.__getitem__)
    for candidate, milliseconds in timings.items():
        if candidate.is_fallback and (
            milliseconds < timings[best] * min_speedup_threshold
        ):
            return candidate
    return best
