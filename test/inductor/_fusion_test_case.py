# Owner(s): ["module: inductor"]
"""Ops that branches of a dispatch take in work around, and how to check that they do.

The implementations differ in value, so that a result tells which branch ran.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from _fresh_test_case import FreshTestCase

import torch
from torch import Tensor
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig


SPLIT_POINTS = [8, 64]
# The first is compiled for.
SIZES = (70, 7, 8, 9, 64, 65)
COLUMNS = 32


@torch.library.custom_op("fusion::scale", mutates_args=())
def scale(x: Tensor, y: Tensor) -> Tensor:
    raise AssertionError("the op itself ran")


@scale.register_fake
def _(x: Tensor, y: Tensor) -> Tensor:
    return torch.empty_like(x)


scale.register_autograd(
    lambda context, grad: (grad * 5, grad), setup_context=lambda *_, **__: None
)


@torch.library.custom_op("fusion::scale_and_sum", mutates_args=())
def scale_and_sum(x: Tensor) -> tuple[Tensor, Tensor]:
    raise AssertionError("the op itself ran")


@scale_and_sum.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(x.shape[:-1])


@torch.library.custom_op("fusion::own", mutates_args=())
def own(x: Tensor) -> Tensor:
    return x * 3


@own.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("fusion::scale_into", mutates_args={"x"})
def scale_into(x: Tensor) -> Tensor:
    raise AssertionError("the op itself ran")


@scale_into.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def scaled(x: Tensor, y: Tensor, k: float) -> Tensor:
    return x * k + y


def scaled_and_summed(x: Tensor, k: float) -> tuple[Tensor, Tensor]:
    return x * k, (x * k).sum(-1)


def scaled_own(x: Tensor, k: float) -> Tensor:
    return x * k


def scaled_into(x: Tensor, k: float) -> Tensor:
    x.add_(k)
    return x * k


IMPLEMENTATIONS: dict[Any, Callable[..., Any]] = {
    scale: scaled,
    scale_and_sum: scaled_and_summed,
    own: scaled_own,
    scale_into: scaled_into,
}


def factor(size: int) -> float:
    """Of the implementation that a size is dispatched to."""
    return 1.0 + (size > 8) + (size > 64)


class Ops(NamedTuple):
    """The ops as models call them: dispatched, or one implementation by itself."""

    scale: Callable[..., Any]
    scale_and_sum: Callable[..., Any]
    scale_into: Callable[..., Any]


DISPATCHED = Ops(scale, scale_and_sum, scale_into)


def alone(k: float) -> Ops:
    """The implementation with this factor, never dispatched."""
    return Ops(
        lambda x, y: scaled(x, y, k),
        lambda x: scaled_and_summed(x, k),
        lambda x: scaled_into(x, k),
    )


def alone_at(size: int) -> Ops:
    """The implementations that a size is dispatched to."""
    return alone(factor(size))


def inputs(size: int, device: str = "cpu") -> list[Tensor]:
    generator = torch.Generator().manual_seed(size)
    return [
        torch.randn(shape, generator=generator).to(device)
        for shape in ((size, COLUMNS), (size, COLUMNS), (COLUMNS, COLUMNS))
    ]


class FusionTestCase(FreshTestCase):
    def setUp(self) -> None:
        super().setUp()
        for op, implementation in IMPLEMENTATIONS.items():
            self.enterContext(
                custom_op_autotuning(
                    op,
                    [CustomOpConfig(implementation, k=float(k)) for k in (1, 2, 3)],
                    dispatch_on={"tensor_name": "x", "dim": 0},
                    split_points=SPLIT_POINTS,
                    winners=[0, 1, 2],
                )
            )
