"""Self-attention; dispatched on the length of the sequences.

For a few positions, products and sums in fused loops do without a call of two matrix
multiplications for each head. Longer sequences need these, and their scores computed
in chunks that stay in cache, as PyTorch's own kernel does.
"""

from __future__ import annotations

import torch
from operators.specification import fine_split_points, RealOperator, sweep_sizes

BATCH = 32
HEADS = 8
HEAD_SIZE = 32


def fused_loops(packed: torch.Tensor) -> torch.Tensor:
    """Both products as a multiplication and a sum, for Inductor to fuse."""
    query, key, value = packed.unbind(0)
    scores = (query[..., :, None, :] * key[..., None, :, :]).sum(-1) * HEAD_SIZE**-0.5
    weights = torch.softmax(scores, -1)
    return (weights[..., None] * value[..., None, :, :]).sum(-2)


def flash(packed: torch.Tensor) -> torch.Tensor:
    """PyTorch's own kernel: scores in chunks, their softmax online."""
    query, key, value = packed.unbind(0)
    return torch.nn.functional.scaled_dot_product_attention(query, key, value)


@torch.library.custom_op("real_operators::attention", mutates_args=())
def attention(packed: torch.Tensor) -> torch.Tensor:
    """Attention of each position to all, without a mask.

    ``packed`` holds query, key and value, [3, batch, heads, length, head size]. One
    tensor has one length: of three, each would be dynamic by itself, and tuning would
    vary the one that is dispatched on only. The result is [batch, heads, length, head
    size].
    """
    return flash(packed)


@attention.register_fake
def _(packed: torch.Tensor) -> torch.Tensor:
    return packed.new_empty(packed.shape[1:])


def call(packed: torch.Tensor) -> torch.Tensor:
    """The op, alone."""
    return attention(packed)


def make_inputs(length: int) -> tuple[torch.Tensor, ...]:
    """Random queries, keys and values."""
    generator = torch.Generator().manual_seed(length)
    return (torch.randn(3, BATCH, HEADS, length, HEAD_SIZE, generator=generator),)


OPERATOR = RealOperator(
    name="attention",
    title=f"Attention of [{BATCH}, {HEADS}, length, {HEAD_SIZE}]",
    unit="length of a sequence",
    op=attention,
    call=call,
    implementations=(fused_loops, flash),
    eager=flash,
    tensor_name="packed",
    dim=3,
    split_points=fine_split_points(4, 256),
    open_size=512,
    sizes=sweep_sizes(4, 256),
    first_size=48,
    make_inputs=make_inputs,
)
