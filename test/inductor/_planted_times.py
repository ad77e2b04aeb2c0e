# Owner(s): ["module: inductor"]
"""An op of quick candidates, and a timer that finds the fastest that a test wants."""

from collections.abc import Iterable
from typing import Any
from unittest import mock

import torch
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch.benchmark import timing
from torch._inductor.range_dispatch.benchmark.timing import Timing
from torch._inductor.utils import fresh_cache


@torch.library.custom_op("command_test::add", mutates_args=())
def add(x: torch.Tensor) -> torch.Tensor:
    return x - 1


@add.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("command_test::plus", mutates_args=())
def plus_kernel(x: torch.Tensor, k: int) -> torch.Tensor:
    return x + k


@plus_kernel.register_fake
def _(x: torch.Tensor, k: int) -> torch.Tensor:
    return torch.empty_like(x)


def plus(x: torch.Tensor, k: int) -> torch.Tensor:
    """Tells by its value which ``k`` ran; an extern kernel, quick to compile."""
    return torch.ops.command_test.plus.default(x, k)


CONFIGS = [CustomOpConfig(plus, k=k) for k in (1, 2)]


def planted(split: int) -> Any:
    """Timing finds k=1 the fastest up to ``split`` elements, and k=2 above."""

    def time_candidates(compiled: Any, inputs: Any, *_: Any) -> Any:
        counters["inductor"]["sizes_timed"] += 1
        fastest = 1 if inputs[0].numel() <= split else 2
        return {
            one.candidate: Timing(
                0.001 * (1 + (one.candidate.params.get("k") != fastest)), 0.0001
            )
            for one in compiled
        }

    return mock.patch.object(timing, "time_candidates", time_candidates)


def compiled_values(shapes: Iterable[Any], **options: Any) -> list[float]:
    """What runs for each shape, compiled once: the value tells the candidate."""
    torch._dynamo.reset()
    options.setdefault("configs", CONFIGS)
    with (
        fresh_cache(),
        config.patch(fx_graph_cache=False),
        custom_op_autotuning(add, **options),
    ):
        compiled = torch.compile(lambda x: add(x), dynamic=True)
        return [compiled(torch.zeros(shape)).max().item() for shape in shapes]
