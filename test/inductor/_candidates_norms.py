# Owner(s): ["module: inductor"]
# mypy: disallow-untyped-defs=False
"""Implementations of rotary embeddings, norms and gated units. The dispatched size is
the number of tokens."""

import functools
import math

from _candidate_table import Kind, Table

import torch
import torch.nn.functional as F
from torch import rand, randn


NORMS = Table()
POSITIONS = torch.linspace(-1, 1, 128 * 6).reshape(128, 6)


def half_as_wide(x, *_):
    return x.new_empty(x.shape[0], x.shape[1] // 2)


def one_row(x, *_):
    return x.new_empty(x.shape[1])


def table_of_angles(n):
    return randn(n, 6), rand(n, 3)


@NORMS.add(Kind.FORM, table_of_angles, fast=True, wrappers=True, trains=True)
def rotary_interleaved(x, angles):
    even, odd = x[:, ::2], x[:, 1::2]
    cos, sin = angles.cos(), angles.sin()
    pairs = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return pairs.flatten(-2)


@NORMS.add(Kind.FORM, table_of_angles)
def rotary_halves(x, angles):
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    rotated = torch.cat((-second, first), dim=-1)
    cos = torch.cat((angles, angles), -1).cos()
    sin = torch.cat((angles, angles), -1).sin()
    return x * cos + rotated * sin


@NORMS.add(Kind.REPEATED, table_of_angles)
def rotary_chunked(x, angles):
    first, second = x.chunk(2, dim=-1)
    cos, sin = torch.cos(angles), torch.sin(angles)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


@NORMS.add(Kind.FORM, lambda n: (randn(n, 2, 6),))
def rotary_with_frequencies(x):
    n, _, width = x.shape
    inverse = 1.0 / 10000 ** (torch.arange(0, width, 2).float() / width)
    angles = torch.outer(torch.arange(n).float(), inverse)[:, None, :]
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    rotated = (a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos())
    return torch.stack(rotated, -1).flatten(-2)


@NORMS.add(Kind.FORM, table_of_angles)
def rotary_of_complex_numbers(x, angles):
    numbers = torch.view_as_complex(x.reshape(x.shape[0], -1, 2))
    turned = numbers * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(turned).flatten(1)


@NORMS.add(Kind.ARITHMETIC, lambda n: (randn(n, 8), rand(n, 1)))
def rotary_of_a_part(x, angles):
    rotated_width = int(x.shape[-1] * 0.25)
    head, rest = x[:, :rotated_width], x[:, rotated_width:]
    a, b = head[:, : rotated_width // 2], head[:, rotated_width // 2 :]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), dim=1)


@NORMS.add(
    Kind.OPERATOR,
    lambda n: (randn(n, 6),),
    sizes=(16, 17, 5, 128),
    fast=True,
    trains=True,
    wrappers=True,
)
def learned_positions(x):
    return x + POSITIONS[: x.shape[0]]


@NORMS.add(Kind.OPERATOR, lambda n: (randn(2, n, 6),), dim=1, sizes=(16, 17, 5, 128))
def rotary_from_closed_over_table(x):
    table = POSITIONS.narrow(0, 0, x.size(1))
    half = x.shape[-1] // 2
    rotated = torch.cat((-x[..., half:], x[..., :half]), -1)
    return x * table.cos() + rotated * table.sin()


@NORMS.add(Kind.OPERATOR, lambda n: (randn(n, 6),), sizes=(16, 17, 5, 128))
def positions_from_the_end(x):
    return x * POSITIONS[-x.shape[0] :] + x


@NORMS.add(Kind.FORM, lambda n: (randn(n, 6),))
def sinusoidal_positions(x):
    n, width = x.shape
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = torch.arange(n).unsqueeze(1) * rates
    return x + torch.stack((angles.sin(), angles.cos()), dim=2).view(n, width)


@NORMS.add(Kind.FORM, lambda n: (randn(n, 6),))
def pairs_normalised(x):
    pairs = x.reshape(x.shape[0], x.shape[1] // 2, 2)
    return (pairs / (pairs.norm(dim=-1, keepdim=True) + 1e-3)).flatten(1)


@NORMS.add(Kind.NOTHING, lambda n: (randn(n, 6), randn(6)), fast=True, trains=True)
def rms_norm(x, w):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * w


@NORMS.add(Kind.NUMBER, lambda n: (randn(n, 6), randn(6)), trains=True)
def rms_norm_by_length(x, w):
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / (length / math.sqrt(x.shape[-1]) + 1e-6) * w


@NORMS.add(Kind.NUMBER, lambda n: (randn(n, 6), randn(6)))
def rms_norm_of_torch(x, w):
    return F.rms_norm(x, (x.shape[-1],), w, eps=1e-6)


@NORMS.add(Kind.CONDITION, lambda n: (randn(n, 6), randn(6), randn(6)), trains=True)
def layer_norm(x, w, b):
    return F.layer_norm(x, x.shape[1:], w, b)


@NORMS.add(Kind.CONDITION, lambda n: (randn(n, 6), randn(6)))
def layer_norm_by_hand(x, w):
    if w.shape[0] != x.shape[-1]:
        raise ValueError(f"expected {x.shape[-1]} weights, got {w.shape[0]}")
    variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5) * w


@NORMS.add(Kind.CONDITION, lambda n: (randn(n, 12),), fast=True, wrappers=True)
def group_norm_by_hand(x):
    groups = 4
    assert x.shape[1] % groups == 0
    parts = x.view(x.shape[0], groups, x.shape[1] // groups)
    mean = parts.mean(-1, keepdim=True)
    variance = parts.var(-1, unbiased=False, keepdim=True)
    return ((parts - mean) * torch.rsqrt(variance + 1e-5)).view_as(x)


@NORMS.add(Kind.CONDITION, lambda n: (randn(n, 12, 3), randn(12), randn(12)))
def group_norm(x, w, b):
    return F.group_norm(x, 3, w, b)


@NORMS.add(Kind.ARITHMETIC, lambda n: (randn(n, 6),), fake=one_row, fast=True)
def sum_over_root_of_tokens(x):
    return x.sum(0) / math.sqrt(x.shape[0])


@NORMS.add(Kind.ARITHMETIC, lambda n: (randn(n, 6),), trains=True)
def standardised_over_tokens(x):
    n = x.shape[0]
    centred = x - x.sum(0) / n
    return centred * (centred.square().sum(0) / (n - 1) + 1e-5) ** -0.5


@NORMS.add(
    Kind.ARITHMETIC,
    lambda n: (randn(n, 6),),
    graphs_alone={"all": 4},
    fails_alone={"marked": "specialized it"},
)
def scaled_by_log_of_tokens(x):
    return x * math.log(x.shape[0]) / math.log(512)


@NORMS.add(Kind.ARITHMETIC, lambda n: (randn(n, 9),), fast=True)
def root_of_width_is_a_side(x):
    side = int(x.shape[1] ** 0.5)
    squares = x.view(-1, side, side)
    return (squares - squares.mean((1, 2), keepdim=True)).transpose(1, 2).flatten(1)


@NORMS.add(Kind.NOTHING, lambda n: (randn(n, 6),))
def softmax_with_temperature(x):
    stable = x - x.max(dim=-1, keepdim=True).values
    exponents = torch.exp(stable / 0.7)
    return exponents / exponents.sum(-1, keepdim=True)


@NORMS.add(
    Kind.REPEATED, lambda n: (randn(n, 12),), fake=half_as_wide, fast=True, trains=True
)
def swiglu(x):
    gate, up = x.chunk(2, -1)
    return F.silu(gate) * up


@NORMS.add(Kind.REPEATED, lambda n: (randn(n, 12),), fake=half_as_wide)
def gated_by_split(x):
    gate, up = torch.split(x, x.shape[-1] // 2, dim=-1)
    return torch.sigmoid(gate) * up


@NORMS.add(Kind.CONDITION, lambda n: (randn(n, 12),), fake=half_as_wide, tuned=True)
def gated_linear_unit(x):
    assert x.shape[-1] % 2 == 0, "gate and value have to be of one width"
    return F.glu(x, dim=-1)


@NORMS.add(
    Kind.NUMBER,
    lambda n: (randn(n, 6), randn(6, 10), randn(6, 10), randn(10, 6)),
    trains=True,
)
def gated_feed_forward(x, gate, up, down):
    hidden = F.gelu(x @ gate, approximate="tanh") * (x @ up)
    return hidden @ down / math.sqrt(down.shape[0])


@NORMS.add(Kind.NUMBER, lambda n: (randn(n, 6), randn(4, 6), randn(6, 4)), tuned=True)
def low_rank_update(x, a, b):
    rank = a.shape[0]
    return x + (8.0 / rank) * (x @ a.T @ b.T)


@functools.lru_cache(maxsize=8)
def window(n):
    return torch.hann_window(n, periodic=False)


@NORMS.add(
    Kind.CACHED,
    lambda n: (randn(n, 6),),
    graphs_alone={"all": 4},
    fails_alone={"marked": "specialized it"},
)
def tapered_by_cached_window(x):
    return x * window(x.size(0))[:, None]


@NORMS.add(
    Kind.NUMBER,
    lambda n: (randn(n, 8),),
)
def hadamard_transform(x):
    width, half = x.shape[1], 1
    while half < width:
        pairs = x.view(x.shape[0], -1, 2, half)
        a, b = pairs[:, :, 0], pairs[:, :, 1]
        x = torch.stack((a + b, a - b), dim=2).reshape(x.shape[0], width)
        half *= 2
    return x / math.sqrt(width)
