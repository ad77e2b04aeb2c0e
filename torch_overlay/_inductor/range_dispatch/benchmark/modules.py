"""Compiles candidates' graphs into modules that can be timed."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

from torch._dynamo.utils import counters
from torch._inductor import config, metrics
from torch._inductor.async_compile import get_compile_threads
from torch._inductor.codecache import output_code_log, PyCodeCache
from torch._inductor.range_dispatch.call.state import share_choices
from torch._inductor.virtualized import V

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from torch._inductor.range_dispatch.registration.candidates import Candidate
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate


# Threads that wait for the compile workers; there may be hundreds of candidates.
MAX_WAITING = 32


@dataclass(frozen=True, eq=False)
class CompiledCandidate:
    """A traced candidate with the compiled module that is timed."""

    traced: TracedCandidate
    call: Callable[[list[Any]], Any]

    @property
    def candidate(self) -> Candidate:
        return self.traced.candidate


@dataclass(frozen=True)
class GeneratedCode:
    """A candidate's wrapper code: loading it compiles the kernels in it."""

    text: str
    attributes: Mapping[str, Any]
    # Inductor's config belongs to the context, and no new thread has it.
    context: contextvars.Context

    def load(self) -> Callable[[list[Any]], Any]:
        """Compile and load; returns the function that runs the candidate."""
        key, path = PyCodeCache.write(self.text)
        output_code_log.info("Output code written to: %s", path)
        return PyCodeCache.load_by_key_path(key, path, attrs={**self.attributes}).call


def compile_candidates(
    candidates: Sequence[TracedCandidate],
    fake_operands: Sequence[Any],
    lowered_as: Callable[[TracedCandidate], AbstractContextManager[Any]],
    on_failure: Callable[[Candidate, Exception], None],
) -> list[CompiledCandidate]:
    """Compile each graph by itself, once for all sizes, the kernels side by side.

    It is lowered in the context that ``lowered_as`` makes, in which nothing is guarded
    on for good. One that fails is reported to ``on_failure`` and left out.
    """
    if not candidates:
        return []
    threads = min(len(candidates), MAX_WAITING) if get_compile_threads() > 1 else 1
    compiled = []
    with ThreadPoolExecutor(threads) as pool:
        started: list[tuple[TracedCandidate, Future[Callable[[list[Any]], Any]]]] = []
        for traced in candidates:
            try:
                with lowered_as(traced):
                    code = generate_code(traced, fake_operands)
            except Exception as error:
                on_failure(traced.candidate, error)
            else:
                # A thread only waits: the base's compile workers do the work.
                started.append((traced, pool.submit(code.context.run, code.load)))
        for traced, loading in started:
            try:
                compiled.append(CompiledCandidate(traced, loading.result()))
            except Exception as error:
                on_failure(traced.candidate, error)
    counters["inductor"]["custom_op_candidates_compiled"] += len(compiled)
    return compiled


def generate_code(
    traced: TracedCandidate, fake_operands: Sequence[Any]
) -> GeneratedCode:
    """Lower a candidate's graph to wrapper code.

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
        # Timed from Python, whatever the wrapper of the graph that is compiled.
        "triton.autotune_at_compile_time": False,
        # Nor do its kernels belong to what is said about that graph.
        "trace.enabled": False,
        "trace.provenance_tracking_level": 0,
        **traced.candidate.config_patches,
    }
    shape_env = V.graph.sizevars.shape_env
    with _unseen_by_metrics(), config.patch(patches):
        graph = GraphLowering(
            gm=traced.graph_module,
            example_inputs=fake_operands,
            shape_env=shape_env,
            is_inference=V.graph.is_inference,
            name="benchmark_candidate",
        )
        share_choices(graph)
        with V.set_graph_handler(graph):
            graph.run(*fake_operands)
            code, _ = graph.codegen()
        _show(code.value)
        attributes = {**graph.constants, **graph.torchbind_constants}
        return GeneratedCode(code.value, attributes, contextvars.copy_context())


def _show(code: str) -> None:
    """Let the code be seen where that of all modules is that Inductor makes."""
    from torch._inductor.graph import GraphLowering

    if GraphLowering.save_output_code is not None:
        GraphLowering.save_output_code(code)
    output_code_log.debug("Output code: \n%s", code)


@contextlib.contextmanager
def _unseen_by_metrics() -> Iterator[None]:
    """Keep benchmark modules out of what counts the generated code."""
    before = metrics.CachedMetricsHelper()
    try:
        yield
    finally:
        added = dataclasses.asdict(before.get_deltas())
        metrics.CachedMetricsHelper.apply_deltas(
            metrics.CachedMetricsDeltas(**{name: -n for name, n in added.items()})
        )
