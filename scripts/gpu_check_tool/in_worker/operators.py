"""Three operators, each with implementations that are best at different sizes.

In bfloat16 on a GPU; smaller, and in float32, on a CPU.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from operators.attention import attention, call as call_attention, flash, fused_loops
from operators.specification import RealOperator

EPSILON = 1e-6


def random(device: str, seed: int, *shape: int, scale: float = 1.0) -> torch.Tensor:
    """Random numbers in the dtype that is computed in on the device."""
    generator = torch.Generator(device).manual_seed(seed)
    numbers = torch.randn(shape, generator=generator, device=device) * scale
    return numbers.to(torch.float32 if device == "cpu" else torch.bfloat16)


def two_products(packed: torch.Tensor) -> torch.Tensor:
    """Attention with its scores as one matrix, between two multiplications."""
    query, key, value = packed.unbind(0)
    scores = (query @ key.mT) * packed.shape[-1] ** -0.5
    return torch.softmax(scores, -1) @ value


def in_one_pass(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """RMS norm as torch has it: a block of threads a row, best for many rows."""
    return torch.nn.functional.rms_norm(x, (x.shape[1],), weight, EPSILON)


def in_slices(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Sums over 16 slices of a row, then over those: of few long rows several blocks
    share each."""
    rows, width = x.shape
    slices = x.float().view(rows, 16, width // 16)
    mean = slices.square().sum(-1).sum(-1, keepdim=True) / width
    return (x.float() * torch.rsqrt(mean + EPSILON) * weight.float()).to(x.dtype)


@torch.library.custom_op("gpu_check::rms_norm", mutates_args=())
def rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Rows of ``x``, [rows, width], over their root mean square, times ``weight``."""
    return in_one_pass(x, weight)


@rms_norm.register_fake
def _(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def call_rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The op, alone."""
    return rms_norm(x, weight)


def plain(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """One product, whose result is divided among the processors."""
    return x @ weight


def split_by_8(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Eight products of slices, then their sum: of few rows and columns there are too
    few parts, so that the inner dimension is worth dividing, too."""
    return _split(x, weight, 8)


def split_by_32(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Thirty-two products of slices, then their sum."""
    return _split(x, weight, 32)


def _split(x: torch.Tensor, weight: torch.Tensor, slices: int) -> torch.Tensor:
    rows, inner = x.shape
    left = x.view(rows, slices, inner // slices).transpose(0, 1)
    right = weight.view(slices, inner // slices, weight.shape[1])
    return torch.bmm(left, right).sum(0, dtype=torch.float32).to(x.dtype)


@torch.library.custom_op("gpu_check::product", mutates_args=())
def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``x`` [rows, inner] times ``weight`` [inner, columns]."""
    return plain(x, weight)


@product.register_fake
def _(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape[0], weight.shape[1])


def call_product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The op, alone."""
    return product(x, weight)


@functools.cache
def make_operator(name: str, device: str) -> RealOperator:
    """The operator of this name for this device."""
    makers = {"attention": _attention, "rms_norm": _rms_norm, "split_k": _split_k}
    return makers[name](device, device == "cpu")


def _make(is_cpu: bool, gpu_sizes: list[int], **what: Any) -> RealOperator:
    """What they share; on a CPU also the ranges and sizes."""
    ranges = {"split_points": [8, 64], "open_size": 128, "sizes": [2, 6, 24, 96]}
    return RealOperator(
        first_size=48,
        relative_tolerance=1e-4 if is_cpu else 2e-2,
        absolute_tolerance=1e-4 if is_cpu else 3e-2,
        **({**what, **ranges} if is_cpu else {**what, "sizes": gpu_sizes}),
    )


def _attention(device: str, is_cpu: bool) -> RealOperator:
    """Self-attention by length: fused loops, two products, or flash."""
    # Heads of 32: benchmarks/operators/attention.py scales by the size of its own.
    batch = 2 if is_cpu else 32
    return _make(
        is_cpu,
        [4, 8, 12, 16, 24, 30, 40, 64, 96, 128, 192, 256, 512, 1024],
        name="attention",
        title=f"Attention of [{batch}, 8, length, 32]",
        unit="length of a sequence",
        op=attention,
        call=call_attention,
        implementations=(fused_loops, two_products, flash),
        eager=flash,
        tensor_name="packed",
        dim=3,
        split_points=[8, 16, 32, 64, 128, 256],
        open_size=1024,
        make_inputs=lambda length: (random(device, length, 3, batch, 8, length, 32),),
    )


def _rms_norm(device: str, is_cpu: bool) -> RealOperator:
    """RMS norm of long rows by their number."""
    width = 1024 if is_cpu else 65536
    return _make(
        is_cpu,
        [2, 4, 8, 16, 40, 64, 128, 256, 512, 1024],
        name="rms_norm",
        title=f"RMS norm of [rows, {width}]",
        unit="rows",
        op=rms_norm,
        call=call_rms_norm,
        implementations=(in_one_pass, in_slices),
        eager=in_one_pass,
        tensor_name="x",
        dim=0,
        split_points=[4, 16, 64, 256],
        open_size=1024,
        make_inputs=lambda n: (random(device, n, n, width), random(device, 0, width)),
    )


def _split_k(device: str, is_cpu: bool) -> RealOperator:
    """A product with a long inner dimension, by the number of rows."""
    inner, columns = (1024, 32) if is_cpu else (16384, 512)
    # Such that elements of the product are about 1.
    weight = random(device, 0, inner, columns, scale=inner**-0.5)
    return _make(
        is_cpu,
        [2, 4, 8, 16, 40, 64, 128, 256, 600, 1024, 2048, 4096],
        name="split_k",
        title=f"[rows, {inner}] @ [{inner}, {columns}]",
        unit="rows",
        op=product,
        call=call_product,
        implementations=(plain, split_by_8, split_by_32),
        eager=plain,
        tensor_name="x",
        dim=0,
        split_points=[4, 16, 64, 256, 1024],
        open_size=4096,
        make_inputs=lambda rows: (random(device, rows, rows, inner), weight),
    )
