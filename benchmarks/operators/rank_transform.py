"""Rank of each value in its row; dispatched on the length of the row.

Counting how many values come before each one is quadratic, but a vectorized loop
without a branch. Sorting takes n log n steps, each of them slow.
"""

from __future__ import annotations

import torch
from operators.specification import fine_split_points, RealOperator, sweep_sizes

ROWS = 2000


def counting(values: torch.Tensor) -> torch.Tensor:
    """Compare each value with every other one of its row.

    The sum is of floats, exact up to 2**24, because Inductor's vectorized loops take
    several times longer to sum booleans as integers.
    """
    place = torch.arange(values.shape[1])
    one, other = values[:, :, None], values[:, None, :]
    is_before = (other < one) | ((other == one) & (place < place[:, None]))
    return is_before.to(torch.float32).sum(-1).to(torch.int64)


def sorting(values: torch.Tensor) -> torch.Tensor:
    """Sort, then write each place in the order to where its value came from."""
    order = values.argsort(dim=1, stable=True)
    places = torch.arange(values.shape[1]).expand_as(order)
    return torch.empty_like(order).scatter(1, order, places)


@torch.library.custom_op("real_operators::rank_transform", mutates_args=())
def rank_transform(values: torch.Tensor) -> torch.Tensor:
    """How many values of the row come before each, equal ones in order of place.

    ``values`` is [rows, length], the result int64 of the same shape.
    """
    return sorting(values)


@rank_transform.register_fake
def _(values: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(values, dtype=torch.int64)


def call(values: torch.Tensor) -> torch.Tensor:
    """The op, alone."""
    return rank_transform(values)


def make_inputs(length: int) -> tuple[torch.Tensor, ...]:
    """Random rows."""
    generator = torch.Generator().manual_seed(length)
    return (torch.randn(ROWS, length, generator=generator),)


OPERATOR = RealOperator(
    name="rank_transform",
    title=f"Ranks in rows of [{ROWS}, length]",
    unit="length of a row",
    op=rank_transform,
    call=call,
    implementations=(counting, sorting),
    eager=sorting,
    tensor_name="values",
    dim=1,
    split_points=fine_split_points(8, 512),
    open_size=1024,
    sizes=sweep_sizes(8, 512),
    first_size=48,
    make_inputs=make_inputs,
)
