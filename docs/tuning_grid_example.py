"""The op of tuning.md that dispatches on two sizes: distances between all points."""

import torch
from torch._inductor.kernel.custom_op import (
    CustomOpConfig,
    register_custom_op_autotuning,
)


@torch.library.custom_op("demo::distances", mutates_args=())
def distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.cdist(x, y).square()


@distances.register_fake
def _(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape[0], y.shape[0])


def by_differences(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x[:, None] - y).square().sum(2)


def by_products(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    squares = x.square().sum(1)[:, None] + y.square().sum(1)
    return torch.addmm(squares, x, y.t(), alpha=-2)


register_custom_op_autotuning(
    distances,
    configs=[CustomOpConfig(by_differences), CustomOpConfig(by_products)],
    dispatch_on=[
        {"tensor_name": "x", "dim": 0, "range_upper_bound": 2048},
        {"tensor_name": "y", "dim": 0, "range_upper_bound": 2048},
    ],
    split_points=[[4, 32, 256], [4, 32, 256]],
    accuracy_tolerance=1e-4,
)


@torch.compile(dynamic=True)
def model(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return distances(x, y)


if __name__ == "__main__":
    points = torch.randn(100, 16)
    torch.testing.assert_close(
        model(points, points[:50]), torch.cdist(points, points[:50]).square()
    )
