"""Measures an op with two ways to compute it, and reports: ``tuning_example.py OUT``.

Writes OUT/ranks.json, the tuning table, and OUT/report. No cache is used, so that a
second run measures again.
"""

import os
import sys

import torch
from torch._inductor import config, range_dispatch
from torch._inductor.kernel.custom_op import (
    CustomOpConfig,
    register_custom_op_autotuning,
)
from torch._inductor.range_dispatch.report import write_report


@torch.library.custom_op("demo::ranks", mutates_args=())
def ranks(x: torch.Tensor) -> torch.Tensor:
    return x.argsort(1).argsort(1)


@ranks.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x, dtype=torch.int64)


def by_sorting(x: torch.Tensor) -> torch.Tensor:
    return x.argsort(1).argsort(1)


def by_comparing(x: torch.Tensor) -> torch.Tensor:
    return (x[:, None, :] < x[:, :, None]).sum(2)


def main(out: str) -> None:
    register_custom_op_autotuning(
        ranks,
        configs=[CustomOpConfig(by_sorting), CustomOpConfig(by_comparing)],
        dispatch_on={"tensor_name": "x", "dim": 1, "min": 4, "max": 2048},
        split_points="auto",
    )
    with config.patch(force_disable_caches=True):
        torch.compile(lambda x: ranks(x), dynamic=True)(torch.randn(64, 100))
    table = os.path.join(out, "ranks.json")
    range_dispatch.save(table)
    for path in write_report(table, os.path.join(out, "report")):
        print(path)


if __name__ == "__main__":
    main(sys.argv[1])
