"""A product of int8 matrices, scaled to float32, dispatched on the number of rows.

Quantized layers see one row a step while they write a text, and hundreds while they
read one. Integers can be multiplied as such, in loops that Inductor makes or by
PyTorch's own kernel, or as float32, which holds sums of a thousand products exactly.
No crossover was found on CPU: the fallback, float32 run eagerly, won every range.
"""

from typing import Any

import torch
from _checking import explain_and_check
from torch._inductor.kernel.custom_op import (
    CustomOpConfig,
    register_custom_op_autotuning,
)

INNER, COLUMNS = 512, 256


def loops(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Products and their sum in one loop nest."""
    return (x[:, None].int() * weight.int()).sum(-1, dtype=torch.int32) * scale


def as_float32(
    x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """A float32 product; exact, as no sum exceeds 2**24."""
    return (x.float() @ weight.float().t()) * scale


def as_int8(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """PyTorch's own int8 product."""
    return torch._int_mm(x, weight.t()) * scale


@torch.library.custom_op("gallery::int8_matmul", mutates_args=())
def int8_matmul(
    x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """[rows, inner] times [columns, inner], with a scale for each column."""
    return as_float32(x, weight, scale)


@int8_matmul.register_fake
def _(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return scale.new_empty(x.shape[0], weight.shape[0])


OPTIONS: dict[str, Any] = {
    "configs": [
        CustomOpConfig(loops),
        CustomOpConfig(as_float32),
        CustomOpConfig(as_int8),
    ],
    "dispatch_on": {"tensor_name": "x", "dim": 0, "range_upper_bound": 1024},
    "split_points": [2, 4, 8, 16, 64, 256],
    "tuning_seconds": 20,
}
SIZES = [2, 6, 30, 200, 1000]


def make_inputs(rows: int) -> tuple[torch.Tensor, ...]:
    """Quantized activations and weights, and the scales."""
    generator = torch.Generator().manual_seed(rows)
    x, weight = (
        torch.randint(-127, 128, shape, dtype=torch.int8, generator=generator)
        for shape in ((rows, INNER), (COLUMNS, INNER))
    )
    torch._dynamo.mark_dynamic(x, 0)
    return x, weight, torch.rand(COLUMNS, generator=generator) / 127**2


def model(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return torch.relu(int8_matmul(x, weight, scale))


def main() -> None:
    """Tune, explain, check."""
    register_custom_op_autotuning(int8_matmul, **OPTIONS)
    explain_and_check(model, make_inputs, SIZES)


if __name__ == "__main__":
    main()
