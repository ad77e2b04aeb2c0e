"""RMS norm with a derivative of its own, dispatched on the width of a row.

The op brings its backward formula, as one with a hand-written kernel would. The
forward pass dispatches; training compiles each of the two graphs once, for widths up to
4096. On CPU the formula won up to a width of 64 and the product with ones above; an
earlier run differed.
"""

from typing import Any

import torch
from _checking import explain_and_check
from torch._inductor.kernel.custom_op import (
    CustomOpConfig,
    register_custom_op_autotuning,
)

ROWS, EPSILON = 64, 1e-6


def formula(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The mean of the squares, as in most models."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * weight


def by_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The length of the row, as in older models."""
    mean = torch.linalg.vector_norm(x, dim=-1, keepdim=True) ** 2 / x.shape[-1]
    return x / torch.sqrt(mean + EPSILON) * weight


def by_product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The sum of the squares as a product with ones."""
    squares = x.square() @ torch.full_like(weight, 1.0 / x.shape[-1])[:, None]
    return x * torch.rsqrt(squares + EPSILON) * weight


@torch.library.custom_op("gallery::rms_norm", mutates_args=())
def rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Each row of ``x`` over the root of its mean square, times ``weight``."""
    return formula(x, weight)


@rms_norm.register_fake
def _(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def keep_inputs(ctx: Any, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
    """What the derivative needs."""
    ctx.save_for_backward(*inputs)


def derivative(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Those of ``x`` and ``weight``."""
    x, weight = ctx.saved_tensors
    scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON)
    unit, inner = x * scale, grad * weight
    of_x = (inner - unit * (inner * unit).mean(-1, keepdim=True)) * scale
    return of_x, (grad * unit).sum(0)


rms_norm.register_autograd(derivative, setup_context=keep_inputs)


OPTIONS: dict[str, Any] = {
    "configs": [
        CustomOpConfig(formula),
        CustomOpConfig(by_norm),
        CustomOpConfig(by_product),
    ],
    "dispatch_on": {"tensor_name": "x", "dim": 1, "range_upper_bound": 16384},
    "split_points": [16, 64, 256, 1024, 4096],
    "tuning_seconds": 20,
}
# Inductor's C++ code for a sum of float32 guards on "more than 4096", also without the
# op, so a width above that would have a second graph.
SIZES = [10, 50, 500, 2000, 4000]


def make_inputs(width: int) -> tuple[torch.Tensor, ...]:
    """Rows and weights, in one tensor that learns."""
    generator = torch.Generator().manual_seed(width)
    both = torch.randn(ROWS + 1, width, generator=generator, requires_grad=True)
    torch._dynamo.mark_dynamic(both, 1)
    return (both,)


def model(both: torch.Tensor) -> torch.Tensor:
    return rms_norm(both[1:], both[0])


def main() -> None:
    """Tune, explain, check."""
    register_custom_op_autotuning(rms_norm, **OPTIONS)
    explain_and_check(model, make_inputs, SIZES)


if __name__ == "__main__":
    main()
