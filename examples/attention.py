"""Causal attention in bfloat16, dispatched on the length of the sequences.

The scores of all pairs at once, the keys in parts with a softmax that is corrected as
they come, or PyTorch's own kernel. No crossover was found on CPU: that kernel won every
range. Only at length 2, within the first range, was the formula faster.
"""

import math
from typing import Any

import torch
from _checking import explain_and_check
from torch._inductor.kernel.custom_op import (
    CustomOpConfig,
    register_custom_op_autotuning,
)

BATCH, HEADS, HEAD_SIZE = 4, 8, 32
PARTS = 4


def naive(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """The formula: all scores at once."""
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    place = torch.arange(query.shape[-2], device=query.device)
    scores = scores.masked_fill(place > place[:, None], -math.inf)
    return torch.softmax(scores.float(), -1).to(query.dtype) @ value


def online_softmax(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    """The keys in parts; what is summed so far is scaled to each new maximum."""
    length = query.shape[-2]
    width = -(-length // PARTS)
    missing = PARTS * width - length  # After the last place: no query sees them.
    key, value = (
        torch.nn.functional.pad(one, (0, 0, 0, missing)).unflatten(2, (PARTS, width))
        for one in (key, value)
    )
    place = torch.arange(PARTS * width, device=query.device)
    highest = torch.full_like(query[..., :1], -math.inf, dtype=torch.float32)
    total, output = torch.zeros_like(highest), torch.zeros_like(query).float()
    for part in range(PARTS):
        keys, values = key[:, :, part], value[:, :, part]
        scores = (query @ keys.transpose(-2, -1)).float() / math.sqrt(HEAD_SIZE)
        other = place[part * width : (part + 1) * width]
        scores = scores.masked_fill(other > place[:length, None], -math.inf)
        new_highest = torch.maximum(highest, scores.amax(-1, keepdim=True))
        weights, scale = (scores - new_highest).exp(), (highest - new_highest).exp()
        total = total * scale + weights.sum(-1, keepdim=True)
        output = output * scale + weights.to(query.dtype) @ values
        highest = new_highest
    return (output / total).to(query.dtype)


def sdpa(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """PyTorch's own kernel."""
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True
    )


@torch.library.custom_op("gallery::attention", mutates_args=())
def attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    """Each position attends to itself and those before it, [batch, heads, length, n]"""
    return naive(query, key, value)


@attention.register_fake
def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return query.new_empty(query.shape)


OPTIONS: dict[str, Any] = {
    "configs": [
        CustomOpConfig(naive),
        CustomOpConfig(online_softmax),
        CustomOpConfig(sdpa),
    ],
    "dispatch_on": {"tensor_name": "query", "dim": 2, "range_upper_bound": 1024},
    "split_points": [16, 32, 64, 128, 256, 512],
    "tuning_seconds": 20,
}
SIZES = [8, 24, 100, 300, 1000]


def make_inputs(length: int) -> tuple[torch.Tensor, ...]:
    """Query, key and value in one tensor, as a projection makes them."""
    generator = torch.Generator().manual_seed(length)
    shape = (3, BATCH, HEADS, length, HEAD_SIZE)
    packed = torch.randn(shape, generator=generator).bfloat16()
    torch._dynamo.mark_dynamic(packed, 3)
    return (packed,)


def model(packed: torch.Tensor) -> torch.Tensor:
    return attention(*packed.unbind(0))


def main() -> None:
    """Tune, explain, check."""
    register_custom_op_autotuning(attention, **OPTIONS)
    explain_and_check(model, make_inputs, SIZES, rtol=0.02, atol=0.05)


if __name__ == "__main__":
    main()
