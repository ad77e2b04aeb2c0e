"""New keys are written into a cache, in place, dispatched on how many there are.

One token a step, or a whole prompt. The op changes its argument: what Inductor makes of
an implementation that writes elsewhere has to be copied back. No crossover was found on
CPU: writing the whole cache won every range, by 2 to 4 % up to 64 tokens.
"""

from typing import Any

import torch
from _checking import explain_and_check
from torch._inductor.kernel.custom_op import (
    CustomOpConfig,
    register_custom_op_autotuning,
)

BATCH, HEADS, LONGEST, HEAD_SIZE = 4, 8, 1024, 32


def index_copy(cache: torch.Tensor, new: torch.Tensor, places: torch.Tensor) -> None:
    """PyTorch's own kernel for it."""
    cache.index_copy_(2, places, new)


def index_put(cache: torch.Tensor, new: torch.Tensor, places: torch.Tensor) -> None:
    """An assignment, for which Inductor makes a loop."""
    cache[:, :, places] = new


def whole_cache(cache: torch.Tensor, new: torch.Tensor, places: torch.Tensor) -> None:
    """For every place what it had or what comes: all of the cache is written."""
    source = places.new_full((LONGEST,), -1)
    source[places] = torch.arange(places.shape[0], device=places.device)
    written = new[:, :, source.clamp(min=0)]
    cache.copy_(torch.where((source >= 0)[:, None], written, cache))


@torch.library.custom_op("gallery::write_keys", mutates_args=("cache",))
def write_keys(cache: torch.Tensor, new: torch.Tensor, places: torch.Tensor) -> None:
    """``new`` is [batch, heads, count, n] and goes to the ``places`` in ``cache``."""
    index_put(cache, new, places)


@write_keys.register_fake
def _(cache: torch.Tensor, new: torch.Tensor, places: torch.Tensor) -> None:
    return None


OPTIONS: dict[str, Any] = {
    "configs": [
        CustomOpConfig(index_copy),
        CustomOpConfig(index_put),
        CustomOpConfig(whole_cache),
    ],
    "dispatch_on": {"tensor_name": "new", "dim": 2, "range_upper_bound": LONGEST},
    "split_points": [4, 16, 64, 256, 512],
    # No place is written twice.
    "input_gen_fns": {"places": lambda like: torch.arange(len(like))},
    "tuning_seconds": 20,
}
SIZES = [2, 8, 50, 300, 1000]


def make_inputs(count: int) -> tuple[torch.Tensor, ...]:
    """A cache, and what is to be written from its start."""
    generator = torch.Generator().manual_seed(count)
    new = torch.randn(BATCH, HEADS, count, HEAD_SIZE, generator=generator)
    torch._dynamo.mark_dynamic(new, 2)
    return torch.zeros(BATCH, HEADS, LONGEST, HEAD_SIZE), new


def model(cache: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    write_keys(cache, new, torch.arange(new.shape[2], device=new.device))
    return new.amax(-1)


def main() -> None:
    """Tune, explain, check."""
    register_custom_op_autotuning(write_keys, **OPTIONS)
    explain_and_check(model, make_inputs, SIZES)


if __name__ == "__main__":
    main()
