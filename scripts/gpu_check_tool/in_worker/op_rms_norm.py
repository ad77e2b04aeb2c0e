"""RMS norm, dispatched on the number of rows.

One block of threads a row is best for many rows. Of few long rows several blocks share
each, which takes a second pass over their sums.
"""

from __future__ import annotations

import functools

import torch
from gpu_check_tool.in_worker.dtypes import dtype_for
from operators.specification import RealOperator

EPSILON = 1e-6
SLICES = 16


def in_one_pass(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """As torch has it."""
    return torch.nn.functional.rms_norm(x, (x.shape[1],), weight, EPSILON)


def in_slices(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Sums over slices of a row, then over those."""
    rows, width = x.shape
    slices = x.float().view(rows, SLICES, width // SLICES)
    mean = slices.square().sum(-1).sum(-1, keepdim=True) / width
    return (x.float() * torch.rsqrt(mean + EPSILON) * weight.float()).to(x.dtype)


@torch.library.custom_op("gpu_check::rms_norm", mutates_args=())
def rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Rows of ``x``, [rows, width], over their root mean square, times ``weight``."""
    return in_one_pass(x, weight)


@rms_norm.register_fake
def _(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def call(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The op, alone."""
    return rms_norm(x, weight)


def make_inputs(rows: int, device: str, width: int) -> tuple[torch.Tensor, ...]:
    """Random rows and weights."""
    generator = torch.Generator(device).manual_seed(rows)
    x = torch.randn(rows, width, generator=generator, device=device)
    weight = torch.rand(width, generator=generator, device=device)
    return x.to(dtype_for(device)), weight.to(dtype_for(device))


def make_operator(device: str) -> RealOperator:
    """In bfloat16 on a GPU; smaller, and in float32, on a CPU."""
    is_cpu = device == "cpu"
    width = 1024 if is_cpu else 65536
    tolerance = 1e-4 if is_cpu else 2e-2
    return RealOperator(
        name="rms_norm",
        title=f"RMS norm of [rows, {width}]",
        unit="rows",
        op=rms_norm,
        call=call,
        implementations=(in_one_pass, in_slices),
        eager=in_one_pass,
        tensor_name="x",
        dim=0,
        split_points=[8, 64] if is_cpu else [4, 16, 64, 256],
        open_size=128 if is_cpu else 1024,
        sizes=[2, 6, 24, 96] if is_cpu else [2, 4, 8, 16, 40, 64, 128, 256, 512, 1024],
        first_size=48,
        make_inputs=functools.partial(make_inputs, device=device, width=width),
        relative_tolerance=tolerance,
        absolute_tolerance=tolerance,
    )
