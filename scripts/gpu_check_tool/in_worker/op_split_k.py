"""A product with a long inner dimension, dispatched on the number of rows.

A matrix multiplication divides its result among the processors. Of few rows and
columns there are too few parts, so that the inner dimension is worth dividing, too.
"""

from __future__ import annotations

import functools

import torch
from gpu_check_tool.in_worker.dtypes import dtype_for
from operators.specification import RealOperator


def plain(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """One product."""
    return x @ weight


def split_by_8(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Eight products of slices, then their sum."""
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


def call(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The op, alone."""
    return product(x, weight)


@functools.cache
def make_weight(inner: int, columns: int, device: str) -> torch.Tensor:
    """The same for all sizes, such that elements of the product are about 1."""
    generator = torch.Generator(device).manual_seed(0)
    weight = torch.randn(inner, columns, generator=generator, device=device)
    return (weight * inner**-0.5).to(dtype_for(device))


def make_inputs(
    rows: int, device: str, inner: int, columns: int
) -> tuple[torch.Tensor, ...]:
    """Random rows, and the weight."""
    weight = make_weight(inner, columns, device)
    generator = torch.Generator(device).manual_seed(rows)
    x = torch.randn(rows, inner, generator=generator, device=device)
    return x.to(weight.dtype), weight


def make_operator(device: str) -> RealOperator:
    """In bfloat16 on a GPU; smaller, and in float32, on a CPU."""
    is_cpu = device == "cpu"
    shape = (
        {"inner": 1024, "columns": 32} if is_cpu else {"inner": 16384, "columns": 512}
    )
    return RealOperator(
        name="split_k",
        title="[rows, {inner}] @ [{inner}, {columns}]".format(**shape),
        unit="rows",
        op=product,
        call=call,
        implementations=(plain, split_by_8, split_by_32),
        eager=plain,
        tensor_name="x",
        dim=0,
        split_points=[8, 64] if is_cpu else [4, 16, 64, 256, 1024],
        open_size=128 if is_cpu else 4096,
        sizes=[2, 6, 24, 96]
        if is_cpu
        else [2, 4, 8, 16, 40, 64, 128, 256, 600, 1024, 2048, 4096],
        first_size=48,
        make_inputs=functools.partial(make_inputs, device=device, **shape),
        relative_tolerance=1e-4 if is_cpu else 2e-2,
        absolute_tolerance=1e-4 if is_cpu else 3e-2,
    )
