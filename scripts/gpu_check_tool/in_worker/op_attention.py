"""Self-attention, dispatched on the length: fused loops, two products, or flash."""

from __future__ import annotations

import functools

import torch
from operators.attention import attention, call, flash, fused_loops
from gpu_check_tool.in_worker.dtypes import dtype_for
from operators.specification import RealOperator


def two_products(packed: torch.Tensor) -> torch.Tensor:
    """The scores as one matrix, between two multiplications."""
    query, key, value = packed.unbind(0)
    scores = (query @ key.mT) * packed.shape[-1] ** -0.5
    return torch.softmax(scores, -1) @ value


def make_inputs(
    length: int, device: str, batch: int, heads: int, head_size: int
) -> tuple[torch.Tensor, ...]:
    """Random queries, keys and values, [3, batch, heads, length, head size]."""
    generator = torch.Generator(device).manual_seed(length)
    shape = (3, batch, heads, length, head_size)
    packed = torch.randn(shape, generator=generator, device=device)
    return (packed.to(dtype_for(device)),)


def make_operator(device: str) -> RealOperator:
    """In bfloat16 on a GPU; smaller, and in float32, on a CPU."""
    is_cpu = device == "cpu"
    # benchmarks/operators/attention.py scales by the size of its own heads.
    shape = {"batch": 2 if is_cpu else 32, "heads": 8, "head_size": 32}
    tolerance = 1e-4 if is_cpu else 2e-2
    return RealOperator(
        name="attention",
        title=f"Attention of [{shape['batch']}, 8, length, 32]",
        unit="length of a sequence",
        op=attention,
        call=call,
        implementations=(fused_loops, two_products, flash),
        eager=flash,
        tensor_name="packed",
        dim=3,
        split_points=[8, 64] if is_cpu else [8, 16, 32, 64, 128, 256],
        open_size=128 if is_cpu else 1024,
        sizes=[4, 6, 24, 96]
        if is_cpu
        else [4, 8, 12, 16, 24, 30, 40, 64, 96, 128, 192, 256, 512, 1024],
        first_size=48,
        make_inputs=functools.partial(make_inputs, device=device, **shape),
        relative_tolerance=tolerance,
        absolute_tolerance=tolerance,
    )
