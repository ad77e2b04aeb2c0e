"""The ways to serve that are compared: each compiles, and runs the step of a trace."""

import os
import time
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import serving_ops
import torch
from decoder import Decoder
from scheduler import Step
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor.range_dispatch import record_dispatches, SizeRange
from torch._inductor.runtime.cache_dir_utils import cache_dir
from torch._inductor.utils import fresh_cache

FIRST_STEP = 300
LINEAR_NAMES = ("qkv", "out", "gate_up", "down")

Run = Callable[..., torch.Tensor]
Choice = Mapping[str, Callable[..., Any]]

IMPLEMENTATIONS: Choice = {
    one.__name__: one for many in serving_ops.CANDIDATES.values() for one in many
}
DEFAULTS: Choice = {
    "attention": serving_ops.attention_by_request,
    "linear": serving_ops.float32_product,
    "add_norm": serving_ops.norm_by_mean,
}
"""What each op itself computes."""


@dataclass
class Variant:
    """One way to run a step; ``seconds`` are of the processor, compilers included."""

    name: str
    run: Run
    graphs: int = 0
    seconds: float = 0.0
    code_bytes: int = 0
    peak_bytes: int = 0
    times: list[float] = field(default_factory=list)


def typical_inputs(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A step of as many tokens, as tuning uses."""
    tokens = serving_ops.typical_step(torch.zeros(3, count, dtype=torch.long))
    context = torch.arange(serving_ops.TYPICAL_CONTEXT)
    return tokens, context, torch.arange(serving_ops.SLOTS) % count


def compile_step(
    decoder: Decoder, choice: Choice, backend: CompileCounterWithBackend
) -> Run:
    """Compiles one graph for all steps, of one token as well.

    The two sizes are unbacked: no guard can ask whether one of them is 1.
    """

    def call(*inputs: torch.Tensor) -> torch.Tensor:
        return decoder.step(choice, *inputs)

    # Dynamo keeps graphs with the code object, of which each variant has its own.
    own = types.FunctionType(
        call.__code__.replace(), call.__globals__, "call", None, call.__closure__
    )
    compiled = torch.compile(own, backend=backend, fullgraph=True)
    tokens, context, last = typical_inputs(FIRST_STEP)
    mark = torch._dynamo.decorators.mark_unbacked
    mark(tokens, 1, hint_override=FIRST_STEP)
    mark(context, 0, hint_override=serving_ops.TYPICAL_CONTEXT)
    compiled(tokens, context, last)
    return compiled


def built(name: str, build: Callable[[CompileCounterWithBackend], Run]) -> Variant:
    """Builds a variant with empty caches and says what that took."""
    with fresh_cache():
        backend = CompileCounterWithBackend("inductor")
        start = sum(os.times()[:4])
        run = build(backend)
        seconds = sum(os.times()[:4]) - start
        files = [one for one in Path(cache_dir()).rglob("*.so") if one.is_file()]
        code = sum(one.stat().st_size for one in files)
    return Variant(name, run, backend.frame_count, seconds, code)


def single(decoder: Decoder, name: str, **changes: str) -> Variant:
    """One implementation of each op for all sizes: the defaults but for some."""
    choice = {**DEFAULTS, **{op: IMPLEMENTATIONS[one] for op, one in changes.items()}}
    return built(name, lambda backend: compile_step(decoder, choice, backend))


@dataclass(frozen=True)
class RangeWinners:
    """The winners of all ops in a range; those of linear ops by the layer's weight."""

    size_range: SizeRange
    winners: Mapping[str, str]

    def choice(self, decoder: Decoder) -> Choice:
        """The functions to call in a graph for this range alone."""
        functions = {
            name: IMPLEMENTATIONS.get(winner, DEFAULTS[name.partition(".")[0]])
            for name, winner in self.winners.items()
        }
        names = {
            layer[name][0]: name for layer in decoder.layers for name in LINEAR_NAMES
        }
        shapes = {tuple(weight.shape): name for weight, name in names.items()}

        def linear(x: torch.Tensor, *forms: torch.Tensor) -> torch.Tensor:
            return functions[f"linear.{shapes[tuple(forms[0].shape)]}"](x, *forms)

        return {**functions, "linear": linear}


def tuned(decoder: Decoder) -> list[RangeWinners]:
    """Compiles the dispatched model, which tunes it, and returns what won."""
    with record_dispatches() as records:
        compile_step(decoder, serving_ops.OPS, CompileCounterWithBackend("inductor"))
    winners: dict[SizeRange, dict[str, str]] = {}
    linears = 0
    for record in records:
        name = record.op.split(".")[1]
        if name == "linear":
            name = f"linear.{LINEAR_NAMES[linears % len(LINEAR_NAMES)]}"
            linears += 1
        for row in record.ranges:
            winners.setdefault(row.size_range, {}).setdefault(name, row.winner)
    return [RangeWinners(one, winners[one]) for one in sorted(winners, key=_start)]


def _start(size_range: SizeRange) -> int:
    return size_range.start


def graph_per_range(decoder: Decoder, ranges: Sequence[RangeWinners]) -> Variant:
    """As vLLM's compile ranges: a graph for each, chosen in Python by the size."""

    def build(backend: CompileCounterWithBackend) -> Run:
        runs = [compile_step(decoder, one.choice(decoder), backend) for one in ranges]
        by_range = list(zip((one.size_range for one in ranges), runs))

        def run(tokens: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
            size = tokens.shape[1]
            return next(r for limits, r in by_range if size in limits)(tokens, *others)

        return run

    return built("graph per range", build)


def dispatch(decoder: Decoder) -> Variant:
    """One graph; what it takes to compile it when times are known."""
    return built(
        "dispatch", lambda backend: compile_step(decoder, serving_ops.OPS, backend)
    )


def eager(decoder: Decoder) -> Variant:
    """Nothing compiled."""
    return Variant("eager", lambda *inputs: decoder.step(DEFAULTS, *inputs))


def measure_peak(variant: Variant, count: int) -> None:
    """Memory of the largest step, beyond what is held before and after it."""
    inputs = typical_inputs(count)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    variant.run(*inputs)
    variant.peak_bytes = _status("VmHWM") - before


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {name} in /proc/self/status")


SLOW = 5.0
"""A variant so many times slower than the fastest is not run at larger steps."""


class Comparison:
    """Runs each step with all variants in turn, which share the cache."""

    def __init__(self, variants: Sequence[Variant]) -> None:
        self.variants = variants
        self.counts: list[int] = []
        self._slow_from: dict[str, int] = {}

    def run(self, step: Step) -> torch.Tensor:
        """Times a step; returns the logits of the first variant."""
        count = step.count
        inputs = (step.tokens, step.context, step.last)
        results, times = {}, {}
        turn = len(self.counts) % len(self.variants)
        for variant in [*self.variants[turn:], *self.variants[:turn]]:
            if count >= self._slow_from.get(variant.name, count + 1):
                continue
            start = time.thread_time()
            results[variant.name] = variant.run(*inputs)
            times[variant.name] = time.thread_time() - start
        best = min(times.values())
        for variant in self.variants:
            taken = times.get(variant.name, SLOW * best)
            variant.times.append(taken)
            if variant.name in times and taken > SLOW * best and count > 8:
                known = self._slow_from.get(variant.name, count)
                self._slow_from[variant.name] = min(known, count)
        self.counts.append(count)
        return results[self.variants[0].name]

    def is_bound(self, variant: Variant) -> bool:
        """Whether steps were left out, so that its time is a lower bound."""
        return variant.name in self._slow_from
