"""The ops of the decoder that have several implementations, and the cache's writer.

Each implementation is a plain function, which can be compiled alone; the custom ops
are what :func:`dispatched` tunes. ``step`` is an int64 tensor [3, tokens]: for each
token of the step its id, the slot of its request, and its position there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, ExitStack
from typing import Any

import torch
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch.nn import functional as F

SLOTS = 8
TYPICAL_CONTEXT = 256
SPLIT_POINTS = [1, 2, 4, 8, 32, 256]
LARGEST_STEP = 2048
WEIGHT_BOUND = 0.05


@torch.library.custom_op("serving::write_cache", mutates_args=("keys", "values"))
def write_cache(
    keys: torch.Tensor,
    values: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    step: torch.Tensor,
) -> None:
    """Writes each token's k and v [tokens, heads, dim] to its slot and position."""
    keys[step[1], :, step[2]] = k
    values[step[1], :, step[2]] = v


@write_cache.register_fake
def _(*arguments: torch.Tensor) -> None:
    return None


def by_request(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    step: torch.Tensor,
    context: torch.Tensor,
) -> torch.Tensor:
    """One call of scaled_dot_product_attention for each request: reads no padding."""
    slots, counts = torch.unique_consecutive(step[1], return_counts=True)
    out = torch.empty_like(q)
    start = 0
    for slot, count in zip(slots.tolist(), counts.tolist()):
        positions = step[2, start : start + count]
        length = int(positions[-1]) + 1
        mask = None
        if count > 1:
            mask = torch.arange(length) <= positions[:, None]
        result = F.scaled_dot_product_attention(
            q[start : start + count].transpose(0, 1)[None],
            keys[slot, None, :, :length],
            values[slot, None, :, :length],
            attn_mask=mask,
        )
        out[start : start + count] = result[0].transpose(0, 1)
        start += count
    return out


def by_token(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    step: torch.Tensor,
    context: torch.Tensor,
) -> torch.Tensor:
    """Each token reads the keys of its own slot, in loops that Inductor makes."""
    slots, positions, length = step[1], step[2], context.shape[0]
    scores = (q[:, :, None] * keys[:, :, :length][slots]).sum(-1) * q.shape[-1] ** -0.5
    scores = scores.masked_fill((context > positions[:, None])[:, None], -torch.inf)
    weights = scores.softmax(-1)
    return (weights[..., None] * values[:, :, :length][slots]).sum(-2)


@torch.library.custom_op("serving::attention", mutates_args=())
def attention(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    step: torch.Tensor,
    context: torch.Tensor,
) -> torch.Tensor:
    """Causal attention of the step's tokens, q [tokens, heads, dim], to their slots.

    ``context`` is arange(the longest context); a request's tokens are neighbours.
    """
    return by_request(q, keys, values, step, context)


@attention.register_fake
def _(q: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
    return q.new_empty(q.shape)


@torch.library.custom_op("serving::attention_by_request", mutates_args=())
def attention_by_request(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    step: torch.Tensor,
    context: torch.Tensor,
) -> torch.Tensor:
    """The same, never dispatched: its loop over requests cannot be traced."""
    return by_request(q, keys, values, step, context)


@attention_by_request.register_fake
def _(q: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
    return q.new_empty(q.shape)


def float32_product(
    x: torch.Tensor,
    weight: torch.Tensor,
    half: torch.Tensor,
    integers: torch.Tensor,
    scale: torch.Tensor,
) -> torch.Tensor:
    """The library's float32 product."""
    return F.linear(x, weight)


def bfloat16_loops(
    x: torch.Tensor,
    weight: torch.Tensor,
    half: torch.Tensor,
    integers: torch.Tensor,
    scale: torch.Tensor,
) -> torch.Tensor:
    """Reads half the bytes; each row reads all of them again."""
    return (x[:, None] * half.float()).sum(-1)


def int8_loops(
    x: torch.Tensor,
    weight: torch.Tensor,
    half: torch.Tensor,
    integers: torch.Tensor,
    scale: torch.Tensor,
) -> torch.Tensor:
    """Reads a quarter of the bytes."""
    return (x[:, None] * integers.float()).sum(-1) * scale


@torch.library.custom_op("serving::linear", mutates_args=())
def linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    half: torch.Tensor,
    integers: torch.Tensor,
    scale: torch.Tensor,
) -> torch.Tensor:
    """x [tokens, inner] times the weight [outer, inner], which is there three times."""
    return float32_product(x, weight, half, integers, scale)


@linear.register_fake
def _(x: torch.Tensor, weight: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


Pair = tuple[torch.Tensor, torch.Tensor]


def norm_by_mean(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> Pair:
    """As it is written down."""
    total = x + residual
    return total * (total.square().mean(-1, keepdim=True) + eps).rsqrt() * weight, total


def norm_by_product(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> Pair:
    """Squares are summed by a batched product of each row with itself."""
    total = x + residual
    squares = torch.bmm(total[:, None], total[:, :, None])[:, 0]
    return total * (squares / x.shape[1] + eps).rsqrt() * weight, total


@torch.library.custom_op("serving::add_norm", mutates_args=())
def add_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> Pair:
    """The sum of x and the residual, after its RMS norm."""
    total = x + residual
    return F.rms_norm(total, (x.shape[1],), weight, eps), total


@add_norm.register_fake
def _(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> Pair:
    return torch.empty_like(x), torch.empty_like(x)


def typical_step(like: torch.Tensor) -> torch.Tensor:
    """A step of as many tokens to time with: a decode each, then whole prompts."""
    count = like.shape[1]
    index = torch.arange(count)
    decodes = count if count <= SLOTS else SLOTS - 1
    prompt = index - decodes
    slots = torch.where(prompt < 0, index, decodes - prompt // TYPICAL_CONTEXT)
    positions = torch.where(
        prompt < 0,
        TYPICAL_CONTEXT // 2 + index * TYPICAL_CONTEXT // (2 * SLOTS),
        prompt % TYPICAL_CONTEXT,
    )
    return torch.stack([like[0], slots % SLOTS, positions])


def typical_weight(like: torch.Tensor) -> torch.Tensor:
    """A weight that is the same for all forms of a shape."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(like.shape, generator=generator) * 2 - 1
    if like.is_floating_point():
        return (weight * WEIGHT_BOUND).to(like.dtype)
    return (weight * 127).round().to(like.dtype)


Implementation = Callable[..., Any]

OPS: Mapping[str, Any] = {
    "attention": attention,
    "linear": linear,
    "add_norm": add_norm,
}

CANDIDATES: Mapping[str, Sequence[Implementation]] = {
    "attention": [by_token],
    "linear": [float32_product, bfloat16_loops, int8_loops],
    "add_norm": [norm_by_mean, norm_by_product],
}
"""What competes with each op's own implementation."""

TOLERANCES = {"attention": 1e-3, "linear": 0.05, "add_norm": 1e-4}
"""Half and integer weights are rounded, which is accepted."""

TYPICAL: Mapping[str, Mapping[str, Implementation]] = {
    "attention": {
        "step": typical_step,
        "context": lambda like: torch.arange(like.shape[0]),
    },
    "linear": {
        "weight": typical_weight,
        "half": typical_weight,
        "integers": typical_weight,
        "scale": lambda like: like.new_full(like.shape, WEIGHT_BOUND / 127),
    },
}
"""What to time with, where random numbers will not do."""


@contextmanager
def dispatched(
    winners: Mapping[str, Sequence[int]] | None = None, seconds: float = 20
) -> Iterator[None]:
    """Registers every op's candidates; with winners, nothing is timed."""
    with ExitStack() as stack:
        for name, op in OPS.items():
            on = "q" if name == "attention" else "x"
            options: dict[str, Any] = {"winners": winners[name]} if winners else {}
            if name in TYPICAL:
                options["input_gen_fns"] = TYPICAL[name]
            registration = custom_op_autotuning(
                op,
                configs=[CustomOpConfig(one) for one in CANDIDATES[name]],
                dispatch_on={
                    "tensor_name": on,
                    "dim": 0,
                    "range_upper_bound": LARGEST_STEP,
                },
                split_points=SPLIT_POINTS,
                accuracy_tolerance=TOLERANCES[name],
                tuning_seconds=seconds,
                **options,
            )
            stack.enter_context(registration)
        yield
