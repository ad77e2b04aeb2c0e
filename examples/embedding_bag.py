"""Sums of embeddings by bag, a segment sum, dispatched on the number of items.

The bags of all items are known, as in graph networks and recommenders. On CPU adding
row by row won up to 4096 items, and above PyTorch's kernel, which makes no copy of the
rows. A product with a matrix of zeros and ones never won.
"""

from typing import Any

import torch
from _checking import explain_and_check
from torch._inductor.kernel.custom_op import (
    CustomOpConfig,
    register_custom_op_autotuning,
)

ROWS, WIDTH, BAGS = 1000, 64, 32


def one_hot(
    table: torch.Tensor, items: torch.Tensor, bags: torch.Tensor
) -> torch.Tensor:
    """A matrix that says which item is in which bag, times the rows."""
    member = bags == torch.arange(BAGS, device=bags.device)[:, None]
    return member.to(table.dtype) @ table[items]


def row_by_row(
    table: torch.Tensor, items: torch.Tensor, bags: torch.Tensor
) -> torch.Tensor:
    """Adds each row to its bag."""
    return table.new_zeros(BAGS, WIDTH).index_add(0, bags, table[items])


def library(
    table: torch.Tensor, items: torch.Tensor, bags: torch.Tensor
) -> torch.Tensor:
    """PyTorch's own kernel, which wants to know where each bag begins."""
    offsets = torch.searchsorted(bags, torch.arange(BAGS, device=bags.device))
    return torch.nn.functional.embedding_bag(items, table, offsets, mode="sum")


@torch.library.custom_op("gallery::embedding_bag", mutates_args=())
def embedding_bag(
    table: torch.Tensor, items: torch.Tensor, bags: torch.Tensor
) -> torch.Tensor:
    """Rows of ``table``, summed by bag; ``bags`` ascends."""
    return row_by_row(table, items, bags)


@embedding_bag.register_fake
def _(table: torch.Tensor, items: torch.Tensor, bags: torch.Tensor) -> torch.Tensor:
    return table.new_empty(BAGS, WIDTH)


OPTIONS: dict[str, Any] = {
    "configs": [
        CustomOpConfig(one_hot),
        CustomOpConfig(row_by_row),
        CustomOpConfig(library),
    ],
    "dispatch_on": {"tensor_name": "items", "dim": 0, "range_upper_bound": 65536},
    "split_points": [16, 64, 256, 1024, 4096, 16384],
    "input_gen_fns": {
        "items": lambda like: torch.randint_like(like, ROWS),
        "bags": lambda like: torch.randint_like(like, BAGS).sort().values,
    },
    "tuning_seconds": 20,
}
SIZES = [10, 50, 500, 5000, 50000]


def make_inputs(count: int) -> tuple[torch.Tensor, ...]:
    """A table; items and their bags, in one tensor."""
    generator = torch.Generator().manual_seed(count)
    table = torch.randn(ROWS, WIDTH, generator=generator)
    items = torch.randint(ROWS, (count,), generator=generator)
    bags = torch.randint(BAGS, (count,), generator=generator).sort().values
    both = torch.stack([items, bags])
    torch._dynamo.mark_dynamic(both, 1)
    return table, both


def model(table: torch.Tensor, both: torch.Tensor) -> torch.Tensor:
    return embedding_bag(table, both[0], both[1])


def main() -> None:
    """Tune, explain, check."""
    register_custom_op_autotuning(embedding_bag, **OPTIONS)
    explain_and_check(model, make_inputs, SIZES)


if __name__ == "__main__":
    main()
