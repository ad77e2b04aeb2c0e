# Owner(s): ["module: inductor"]
# mypy: disallow-untyped-defs=False
"""Implementations of attention. The dispatched size is the number of queries."""

import functools
import math

from _candidate_table import Kind, Table

import torch
import torch.nn.functional as F
from torch import randn


ATTENTION = Table()


def query_keys_values(n):
    return randn(n, 6), randn(12, 6), randn(12, 6)


def one_sequence(n):
    return randn(n, 8), randn(n, 8), randn(n, 8)


def grouped(n):
    return randn(n, 4, 6), randn(n, 2, 6), randn(n, 2, 6)


@ATTENTION.add(
    Kind.NUMBER, query_keys_values, fast=True, trains=True, wrappers=True, tuned=True
)
def naive_attention(x, k, v):
    scores = x @ k.transpose(-2, -1) / math.sqrt(x.shape[-1])
    return torch.softmax(scores, dim=-1) @ v


@ATTENTION.add(Kind.NUMBER, query_keys_values)
def online_softmax(x, k, v):
    scale = x.shape[-1] ** -0.5
    highest = x.new_full((x.shape[0], 1), float("-inf"))
    total = x.new_zeros(x.shape[0], 1)
    result = torch.zeros_like(x)
    for start in range(0, k.shape[0], 4):
        scores = x @ k[start : start + 4].T * scale
        new_highest = torch.maximum(highest, scores.amax(-1, keepdim=True))
        weights = torch.exp(scores - new_highest)
        correction = torch.exp(highest - new_highest)
        total = total * correction + weights.sum(-1, keepdim=True)
        result = result * correction + weights @ v[start : start + 4]
        highest = new_highest
    return result / total


@ATTENTION.add(Kind.NUMBER, query_keys_values)
def attention_in_uneven_blocks(x, k, v):
    block = 5
    outputs, logsumexps = [], []
    for start in range(0, k.shape[0], block):
        end = min(start + block, k.shape[0])
        scores = x @ k[start:end].T / x.size(-1) ** 0.5
        logsumexps.append(scores.logsumexp(-1))
        outputs.append(scores.softmax(-1) @ v[start:end])
    weights = torch.stack(logsumexps).softmax(0)
    return (weights[..., None] * torch.stack(outputs)).sum(0)


@ATTENTION.add(Kind.NOTHING, one_sequence, trains=True)
def causal_attention(x, k, v):
    n = x.shape[0]
    mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
    scores = (x @ k.T) * 0.35
    return scores.masked_fill(~mask, float("-inf")).softmax(-1) @ v


@ATTENTION.add(Kind.AGREEMENT, one_sequence)
def causal_mask_of_positions(x, k, v):
    rows = torch.arange(x.shape[0])[:, None]
    columns = torch.arange(k.shape[0])[None, :]
    scores = torch.where(columns <= rows, x @ k.mT, -1e9)
    return torch.matmul(scores.softmax(-1), v)


@ATTENTION.add(Kind.AGREEMENT, one_sequence)
def sliding_window_attention(x, k, v):
    positions = torch.arange(x.shape[0], device=x.device)
    near = (positions[:, None] - positions[None, :]).abs() <= 3
    scores = torch.einsum("id,jd->ij", x, k) / math.sqrt(x.shape[1])
    bias = torch.zeros_like(scores).masked_fill(~near, float("-inf"))
    return torch.einsum("ij,jd->id", F.softmax(scores + bias, -1), v)


@ATTENTION.add(Kind.AGREEMENT, grouped, wrappers=True)
def grouped_queries_expanded(x, k, v):
    tokens, heads, width = x.shape
    groups = heads // k.shape[1]
    k = k[:, :, None, :].expand(-1, -1, groups, -1).reshape(tokens, heads, width)
    v = v[:, :, None, :].expand(-1, -1, groups, -1).reshape(tokens, heads, width)
    scores = torch.einsum("ihd,jhd->hij", x, k) / math.sqrt(width)
    return torch.einsum("hij,jhd->ihd", scores.softmax(-1), v)


@ATTENTION.add(Kind.CONDITION, grouped)
def grouped_queries_repeated(x, k, v):
    assert x.shape[1] % k.shape[1] == 0
    if k.shape[1] != x.shape[1]:
        k = k.repeat_interleave(x.shape[1] // k.shape[1], dim=1)
        v = v.repeat_interleave(x.shape[1] // v.shape[1], dim=1)
    x, k, v = (t.transpose(0, 1) for t in (x, k, v))
    scores = x @ k.mT * x.shape[-1] ** -0.5
    return (scores.softmax(-1) @ v).transpose(0, 1).contiguous()


@ATTENTION.add(Kind.AGREEMENT, grouped)
def grouped_queries_viewed(x, k, v):
    n, heads, width = x.shape
    x = x.view(n, k.shape[1], -1, width)
    scores = torch.einsum("nkgd,mkd->kgnm", x, k) * width**-0.5
    out = torch.einsum("kgnm,mkd->nkgd", scores.softmax(-1), v)
    return out.reshape(n, heads, width)


@ATTENTION.add(Kind.AGREEMENT, one_sequence, tuned=True)
def linear_attention(x, k, v):
    q, k = F.elu(x) + 1, F.elu(k) + 1
    state = torch.einsum("td,tv->tdv", k, v).cumsum(0)
    norm = torch.einsum("td,td->t", q, k.cumsum(0)) + 1e-6
    return torch.einsum("td,tdv->tv", q, state) / norm[:, None]


@ATTENTION.add(Kind.AGREEMENT, one_sequence, trains=True)
def linear_attention_of_all(x, k, v):
    q, k = x.softmax(-1), k.softmax(0)
    return q @ (k.T @ v)


@ATTENTION.add(Kind.AGREEMENT, one_sequence)
def retention(x, k, v):
    n = x.shape[0]
    distance = torch.arange(n).unsqueeze(1) - torch.arange(n).unsqueeze(0)
    decay = torch.where(distance >= 0, 0.9 ** distance.clamp(min=0).float(), 0.0)
    return (x @ k.transpose(0, 1) * decay) @ v


@ATTENTION.add(
    Kind.AGREEMENT, lambda n: (randn(2, n, 6), randn(2, n, 5)), dim=1, fast=True
)
def mixing_by_similarity(x, y):
    scores = torch.softmax(x @ x.mT, -1)
    return torch.einsum("bij,bjd->bid", scores, y).sum(-1, keepdim=True) + x


@ATTENTION.add(Kind.NUMBER, lambda n: (randn(n, 3, 4), randn(12, 3, 4)))
def attention_with_linear_biases(x, k):
    heads = x.shape[1]
    slopes = torch.tensor([2 ** (-8 * (i + 1) / heads) for i in range(heads)])
    positions = torch.arange(k.shape[0], dtype=x.dtype)
    scores = torch.einsum("ihd,jhd->hij", x, k) / math.sqrt(x.shape[2])
    scores = scores + slopes[:, None, None] * positions
    return torch.einsum("hij,jhd->ihd", scores.softmax(-1), k)


@ATTENTION.add(Kind.CONDITION, lambda n: (randn(n, 12), randn(12, 12), randn(12, 12)))
def multi_head_attention(x, wq, wo):
    n, width = x.shape
    heads = 3
    assert width % heads == 0, f"{width} is not divisible by {heads}"
    q = F.linear(x, wq).view(n, heads, width // heads).transpose(0, 1)
    scores = q @ q.transpose(-2, -1) / math.sqrt(width // heads)
    out = (scores.softmax(-1) @ q).transpose(0, 1).reshape(n, width)
    return F.linear(out, wo)


@ATTENTION.add(
    Kind.REPEATED,
    lambda n: (randn(n, 6), randn(6, 18)),
    fast=True,
    trains=True,
    wrappers=True,
)
def fused_projection_chunked(x, w):
    q, k, v = (x @ w).chunk(3, dim=-1)
    return F.softmax(q @ k.T, dim=-1) @ v


@ATTENTION.add(Kind.REPEATED, lambda n: (randn(n, 18),), fake=lambda x: x[:, :6] + 0)
def packed_projections_split(x):
    d = x.shape[-1] // 3
    q, k, v = x.split(d, -1)
    return torch.softmax(q @ k.T / math.sqrt(d), -1) @ v


@ATTENTION.add(
    Kind.REPEATED,
    lambda n: (randn(n, 20),),
    fake=lambda x: x.new_empty(x.shape[0], x.shape[1] * 3 // 5),
)
def packed_projections_of_grouped_queries(x):
    d = x.shape[1] // 5
    q, k, v = x.split([3 * d, d, d], dim=1)
    q = q.unflatten(1, (3, d))
    weights = torch.einsum("nhd,md->hnm", q, k).softmax(-1)
    return torch.einsum("hnm,md->nhd", weights, v).flatten(1)


@ATTENTION.add(Kind.NOTHING, one_sequence)
def scaled_dot_product(x, k, v):
    q, k, v = (t[None, None] for t in (x, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)[0, 0]


@ATTENTION.add(
    Kind.NUMBER,
    lambda n: (randn(n, 6), randn(9, 6), torch.randint(1, 9, (n,))),
)
def attention_to_valid_keys(x, k, lengths):
    valid = torch.arange(k.shape[0])[None, :] < lengths[:, None]
    scores = x @ k.T / math.sqrt(k.shape[1])
    return scores.masked_fill(~valid, float("-inf")).softmax(-1) @ k


@functools.lru_cache
def triangle(n):
    return torch.ones(n, n).tril()


@ATTENTION.add(Kind.CACHED, lambda n: (randn(n, 6),), fast=True)
def attention_with_cached_mask(x):
    scores = (x @ x.T).masked_fill(triangle(x.shape[0]) == 0, float("-inf"))
    return scores.softmax(-1) @ x


@functools.cache
def slopes_for(heads):
    start = 2 ** (-8 / heads)
    return [start ** (i + 1) for i in range(heads)]


@ATTENTION.add(Kind.CACHED, lambda n: (randn(n, 3, 4),))
def decay_with_cached_slopes(x):
    slopes = torch.tensor(slopes_for(x.shape[1]))
    positions = torch.arange(x.shape[0], dtype=x.dtype)
    return x * torch.exp(-slopes[None, :, None] * positions[:, None, None])


@functools.cache
def distances(n, m):
    return torch.arange(n)[:, None] - torch.arange(m)[None, :]


@ATTENTION.add(Kind.CACHED, query_keys_values)
def attention_with_cached_distances(x, k, v):
    scores = x @ k.T - 0.1 * distances(x.shape[0], k.shape[0]).abs()
    return scores.softmax(-1) @ v


@ATTENTION.add(
    Kind.OPERATOR,
    lambda n: (randn(n, 6),),
    sizes=(16, 18, 6, 40),
    wrappers=True,
)
def two_halves_attend_to_each_other(x):
    n = x.shape[0]
    a, b = torch.split(x, [n // 2, n - n // 2])
    return torch.cat([(a @ b.T).softmax(-1) @ b, (b @ a.T).softmax(-1) @ a])


# Blocks, and what is left over.


@ATTENTION.add(Kind.CONDITION, one_sequence, fast=True)
def attention_within_blocks(x, k, v):
    rows, width = x.shape
    blocks = -(-rows // 4)
    missing = blocks * 4 - rows
    x, k, v = (F.pad(t, (0, 0, 0, missing)).view(blocks, 4, width) for t in (x, k, v))
    outside = (torch.arange(blocks * 4) >= rows).view(blocks, 1, 4)
    scores = (x @ k.mT).masked_fill(outside, -1e9)
    return (scores.softmax(-1) @ v).flatten(0, 1)[:rows]


@ATTENTION.add(
    Kind.CONDITION,
    lambda n: (randn(n, 6),),
    graphs_alone={"all": 2, "marked": 2},
)
def rows_swapped_in_pairs(x):
    first = x.shape[0] % 2
    pairs = x[first:].reshape(-1, 2, x.shape[1]).flip(1).reshape(-1, x.shape[1])
    return torch.cat((x[:1], pairs)) if first else pairs


@ATTENTION.add(
    Kind.CONDITION,
    lambda n: (randn(n, 6),),
    graphs_alone={"all": 2, "marked": 2},
)
def landmarks_of_four_rows(x):
    padding = (4 - x.shape[0] % 4) % 4
    padded = F.pad(x, (0, 0, 0, padding)) if padding else x
    landmarks = padded.unflatten(0, (-1, 4)).mean(1)
    return (x @ landmarks.mT).softmax(-1) @ landmarks


ROTATIONS = torch.polar(torch.ones(64, 3), torch.arange(64.0)[:, None] / 7)


@ATTENTION.add(Kind.OPERATOR, lambda n: (randn(n, 6),), fast=True)
def rotary_by_complex_numbers(x):
    rotated = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * ROTATIONS[: len(x)]
    return torch.view_as_real(rotated).flatten(-2)
