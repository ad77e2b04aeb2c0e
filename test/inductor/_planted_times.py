# Owner(s): ["module: inductor"]
"""Times that a test plants, in place of timing, and an op of quick candidates."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from unittest import mock

import torch
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch.benchmark import timing
from torch._inductor.range_dispatch.benchmark.timing import Timing
from torch._inductor.range_dispatch.registration.candidates import Candidate
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


def planted_times(
    milliseconds: Callable[[Candidate, Sequence[Any]], float | None],
    noise: float = 0.0,
) -> contextlib.AbstractContextManager[Any]:
    """Nothing is run to be timed: a candidate takes ``milliseconds(candidate, inputs)``.

    None stands for one that cannot be run.
    """

    def time_candidates(compiled: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        counters["inductor"]["sizes_timed"] += 1
        taken = {one.candidate: milliseconds(one.candidate, inputs) for one in compiled}
        return {
            candidate: Timing(time, noise)
            for candidate, time in taken.items()
            if time is not None
        }

    return mock.patch.object(timing, "time_candidates", time_candidates)


def planted(split: int) -> contextlib.AbstractContextManager[Any]:
    """Timing finds k=1 the fastest up to ``split`` elements, and k=2 above."""

    def milliseconds(candidate: Candidate, inputs: Sequence[Any]) -> float:
        fastest = 1 if inputs[0].numel() <= split else 2
        return 0.001 * (1 + (candidate.params.get("k") != fastest))

    return planted_times(milliseconds, noise=0.0001)


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
