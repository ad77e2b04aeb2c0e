# Owner(s): ["module: inductor"]
# mypy: disallow-untyped-defs=False
"""Implementations of linear algebra, splits and embeddings, and unusual ways to write
an implementation or to call its op."""

import functools
import math

from _candidate_table import Kind, Table

import torch
import torch.nn.functional as F
from torch import eye, rand, randint, randn


ALGEBRA = Table()
EMBEDDINGS = torch.linspace(-2, 2, 128 * 6).cos().reshape(128, 6)
BIAS = torch.linspace(-1, 1, 6)


def positive_definite(size):
    root = randn(size, size)
    return root @ root.T + size * eye(size)


def rows_and_matrix(n):
    return randn(n, 6), positive_definite(6)


def as_many_columns(x, w, *_):
    return x.new_empty(x.shape[0], w.shape[1])


# Linear algebra.


@ALGEBRA.add(
    Kind.EFFECT, rows_and_matrix, fast=True, trains=True, wrappers=True, tuned=True
)
def solved(x, a):
    return torch.linalg.solve(a, x.T).T.contiguous()


@ALGEBRA.add(Kind.EFFECT, rows_and_matrix, fast=True)
def times_inverse(x, a):
    return x @ torch.linalg.inv(a)


@ALGEBRA.add(Kind.EFFECT, rows_and_matrix)
def whitened_by_cholesky(x, a):
    factor = torch.linalg.cholesky(a)
    return torch.linalg.solve_triangular(factor, x.T, upper=False).T.contiguous()


@ALGEBRA.add(Kind.EFFECT, lambda n: (randn(n, 3), randn(n)), fake=lambda x, _: x[0] + 0)
def ridge_regression(x, y):
    gram = x.T @ x + 0.1 * torch.eye(x.shape[1])
    return torch.linalg.solve(gram, x.T @ y)


@ALGEBRA.add(
    Kind.EFFECT, lambda n: (randn(n, 3), randn(n)), tuned=True, sizes=(16, 17, 5)
)
def kernel_regression(x, y):
    distances = (x[:, None] - x[None]).square().sum(-1)
    kernel = torch.exp(-distances) + torch.eye(x.shape[0])
    weights = torch.cholesky_solve(y[:, None], torch.linalg.cholesky(kernel))
    return x * weights


@ALGEBRA.add(Kind.NOTHING, lambda n: (randn(n, 3),), fake=lambda x: x.new_empty(3, 3))
def covariance(x):
    centred = x - x.mean(0, keepdim=True)
    return centred.T @ centred


@ALGEBRA.add(
    Kind.AGREEMENT,
    lambda n: (randn(2, n, 6), randn(2, n, 5)),
    dim=1,
    fake=lambda x, y: x.new_empty(x.shape[0], x.shape[2], y.shape[2]),
)
def outer_products_summed(x, y):
    return torch.einsum("bni,bnj->bij", x, y)


@ALGEBRA.add(
    Kind.NUMBER,
    lambda n: (randn(n, 6), randn(9, 6)),
    fake=lambda x, y: x.new_empty(x.shape[0], y.shape[0]),
)
def distances_by_width(x, y):
    squares = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T
    return torch.exp(-squares / (2 * math.sqrt(x.shape[1])))


# Splits.


@ALGEBRA.add(Kind.OPERATOR, lambda n: (randn(n, 6),), fast=True)
def halves_exchanged(x):
    n = x.shape[0]
    first, second = torch.split(x, [n // 2, n - n // 2])
    return torch.cat([second, first * 2])


@ALGEBRA.add(
    Kind.OPERATOR,
    lambda n: (randn(n, 6),),
    returns="Tensor[]",
    fake=lambda x: [
        x.new_empty(x.shape[0] // 2, x.shape[1]),
        x.new_empty(x.shape[0] - x.shape[0] // 2, x.shape[1]),
    ],
)
def split_into_a_list(x):
    half = x.shape[0] // 2
    return [part * 2 for part in x.split([half, x.shape[0] - half])]


@ALGEBRA.add(Kind.OPERATOR, lambda n: (randn(n, 6),), sizes=(16, 17, 7, 40))
def prefix_kept(x):
    kept, rest = x.tensor_split([x.shape[0] // 3])
    return torch.cat((kept, rest.flip(0)))


@ALGEBRA.add(Kind.REPEATED, lambda n: (randn(n, 12), randn(12)))
def summed_parts(x, w):
    a, b, c = (x * w).chunk(3, dim=1)
    return torch.cat((a + b, b + c, c + a), dim=1)


@ALGEBRA.add(Kind.REPEATED, lambda n: (randn(n, 8, 3),))
def neighbours_exchanged(x):
    even, odd = x.unflatten(1, (-1, 2)).unbind(2)
    return torch.stack((odd, even), 2).flatten(1, 2)


@ALGEBRA.add(Kind.NUMBER, lambda n: (randn(n, 7),))
def padded_to_groups(x):
    groups = math.ceil(x.shape[1] / 4)
    padded = F.pad(x, (0, groups * 4 - x.shape[1]))
    sums = padded.view(x.shape[0], groups, 4).sum(-1)
    return x - sums.repeat_interleave(4, dim=1)[:, : x.shape[1]]


@ALGEBRA.add(Kind.AGREEMENT, lambda n: (randn(n, 6), randn(n, 6)), fast=True)
def mixed_if_alike(x, y):
    if x.shape != y.shape:
        raise ValueError("only what has one shape can be mixed")
    return torch.lerp(x, y, 0.25)


# Embeddings.


@ALGEBRA.add(
    Kind.NOTHING,
    lambda n: (randint(0, 9, (n,)), randn(9, 5)),
    fake=lambda x, w: w.new_empty(x.shape[0], w.shape[1]),
    fast=True,
)
def embedded(x, w):
    return F.embedding(x, w) * 2


@ALGEBRA.add(
    Kind.NUMBER,
    lambda n: (randint(0, 9, (n,)), randn(9, 5)),
    fake=lambda x, w: w.new_empty(x.shape[0], w.shape[1]),
)
def embedded_by_one_hot(x, w):
    one_hot = (x[:, None] == torch.arange(w.shape[0])).to(w.dtype)
    return one_hot @ w * math.sqrt(w.shape[1])


@ALGEBRA.add(
    Kind.OPERATOR,
    lambda n: (randint(0, 128, (n,)),),
    fake=lambda x: torch.empty(x.shape[0], 6),
    sizes=(16, 17, 5, 128),
)
def embedded_with_positions(x):
    return EMBEDDINGS[x] + EMBEDDINGS[: x.shape[0]]


@ALGEBRA.add(
    Kind.AGREEMENT,
    lambda n: (randint(0, 9, (n,)), randn(9, 5), rand(n)),
    fake=lambda x, w, _: w.new_empty(3, w.shape[1]),
)
def bags_of_embeddings(x, w, weight):
    bag = torch.arange(x.shape[0]) % 3
    rows = w.index_select(0, x) * weight[:, None]
    return w.new_zeros(3, w.shape[1]).index_add_(0, bag, rows)


# Unusual functions, calls and results.


@ALGEBRA.add(
    Kind.CALL,
    lambda n: (randn(n, 6),),
    call=lambda op, x: op(x, x.shape[0] // 2),
    fast=True,
    wrappers=True,
)
def rolled_by_a_size(x, shift: int):
    return torch.cat((x[shift:], x[:shift]))


@ALGEBRA.add(
    Kind.CALL,
    lambda n: (randn(n, 6),),
    call=lambda op, x: op(x, x.shape[1] // 2, 0.5),
)
def columns_scaled_from(x, start: int, factor: float):
    return torch.cat((x[:, :start], x[:, start:] * factor), dim=1)


@ALGEBRA.add(
    Kind.CALL,
    lambda n: (randn(n, 6), randn(4, 6)),
    returns="(Tensor, Tensor, Tensor)",
    fake=lambda x, w: (x + 0, x[:, 0] + 0, x.new_empty(x.shape[0], w.shape[0])),
    fast=True,
    wrappers=True,
)
def three_results(x, w):
    scores = x @ w.T / math.sqrt(w.shape[1])
    return x / scores.shape[1], scores.logsumexp(-1), scores


@ALGEBRA.add(
    Kind.CALL,
    lambda n: ([randn(n, 6), randn(n, 6)], randn(n, 6)),
    call=lambda op, parts, x: op(x, parts),
    fake=lambda x, parts: torch.empty_like(x),
)
def sum_of_a_list(x, parts: list):
    for number, part in enumerate(parts):
        x = x + part / (number + 1)
    return x / math.sqrt(len(parts) * x.shape[1])


class Mixer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.linspace(-1, 1, 36).view(6, 6))

    def forward(self, x):
        return torch.tanh(x @ self.weight / math.sqrt(x.shape[-1]))

    def mixed_back(self, x):
        return self(x) @ self.weight.T


class Scaling:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor / x.shape[1]


def added(x, y, *, scale):
    return x + y * scale / x.shape[1]


def closing_over(weight):
    def weighted(x):
        assert x.shape[1] == weight.shape[0]
        return x * weight + x.shape[1]

    return weighted


def times(x):
    return x * 2


def one_tensor(n):
    return (randn(n, 6),)


mixer = Mixer()
call = ALGEBRA.add
call(Kind.CALL, one_tensor, name="module", like=times, fast=True)(mixer)
call(Kind.CALL, one_tensor, name="method", like=times)(mixer.mixed_back)
call(Kind.CALL, one_tensor, name="module_with_parameters", like=times)(
    torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.GELU(), torch.nn.Linear(4, 6))
    .requires_grad_(False)
    .eval()
)
call(
    Kind.CALL,
    lambda n: (randn(n, 6), randn(n, 6)),
    name="partial",
    trains=True,
)(functools.partial(added, scale=0.5))
call(Kind.CALL, one_tensor, name="closure", fast=True, tuned=True)(closing_over(BIAS))
call(Kind.CALL, one_tensor, name="callable_object", like=times)(Scaling(2))
