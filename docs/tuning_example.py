"""The op of tuning.md: the rank of each element in its row, computed in two ways.

Of equal elements the first one comes first.
"""

import torch
from torch._inductor import range_dispatch
from torch._inductor.kernel.custom_op import (
    CustomOpConfig,
    register_custom_op_autotuning,
)


@torch.library.custom_op("demo::ranks", mutates_args=())
def ranks(x: torch.Tensor) -> torch.Tensor:
    return x.argsort(dim=1, stable=True).argsort(1)


@ranks.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x, dtype=torch.int64)


def by_sorting(x: torch.Tensor) -> torch.Tensor:
    return x.argsort(dim=1, stable=True).argsort(1)


def by_comparing(x: torch.Tensor) -> torch.Tensor:
    own, other = x[:, :, None], x[:, None, :]
    place = torch.arange(x.shape[1], device=x.device)
    is_before = place[None, :] < place[:, None]
    return ((other < own) | ((other == own) & is_before)).sum(2)


register_custom_op_autotuning(
    ranks,
    configs=[CustomOpConfig(by_sorting), CustomOpConfig(by_comparing)],
    dispatch_on={"tensor_name": "x", "dim": 1, "min": 4, "max": 2048},
    split_points="auto",
)


@torch.compile(dynamic=True)
def model(x: torch.Tensor) -> torch.Tensor:
    return ranks(x)


if __name__ == "__main__":
    model(torch.randn(64, 100))
    print(range_dispatch.explain(model, torch.randn(64, 300)))
