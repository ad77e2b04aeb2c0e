# Owner(s): ["module: inductor"]
# mypy: disallow-untyped-defs=False
"""Implementations of routing, sampling and what else looks at the data. The dispatched
size is the number of tokens."""

import math

from _candidate_table import Kind, Table

import torch
import torch.nn.functional as F
from torch import rand, randint, randn


ROUTING = Table()


def scores(n):
    return (randn(n, 6),)


def one_row(x, *_):
    return x.new_empty(x.shape[1])


def one_number_a_row(x, *_):
    return x.new_empty(x.shape[0], dtype=torch.long)


def few_columns(count, dtype=None):
    return lambda x, *_: x.new_empty(x.shape[0], count, dtype=dtype)


@ROUTING.add(
    Kind.NUMBER,
    lambda n: (randn(n, 5), randn(3, 5, 5), randn(5, 3)),
    fast=True,
    wrappers=True,
    trains=True,
)
def mixture_of_all_experts(x, w, gate):
    weights = (x @ gate).softmax(-1)
    result = torch.zeros_like(x)
    for expert in range(w.shape[0]):
        result = result + weights[:, expert, None] * torch.relu(x @ w[expert])
    return result


@ROUTING.add(Kind.NUMBER, lambda n: (randn(n, 5), randn(4, 5, 5), randn(5, 4)))
def top_two_experts(x, w, gate):
    weights, chosen = torch.topk(torch.softmax(x @ gate, -1), 2, dim=-1)
    weights = weights / weights.sum(-1, keepdim=True)
    result = torch.zeros_like(x)
    for expert in range(len(w)):
        share = (weights * (chosen == expert)).sum(-1, keepdim=True)
        result += share * (x @ w[expert])
    return result


@ROUTING.add(
    Kind.CONDITION,
    scores,
    returns="(Tensor, Tensor)",
    fake=lambda x: (x.new_empty(x.shape[0], 2), x.new_empty(x.shape[0], 2).long()),
    fast=True,
    tuned=True,
)
def top_k_at_most_all(x):
    k = min(2, x.shape[1])
    values, indices = x.softmax(dim=-1).topk(k, dim=-1)
    return values / values.sum(-1, keepdim=True), indices


@ROUTING.add(Kind.FORM, lambda n: (randn(n, 4),), fast=True)
def top_four_of_four(x):
    return torch.topk(x, 4, dim=1).values


@ROUTING.add(Kind.FORM, lambda n: (randn(n, 4),))
def first_and_last_two(x):
    k = 2
    return torch.cat((x[:, :k], x[:, x.shape[1] - k :]), dim=1) * x


@ROUTING.add(
    Kind.OPERATOR,
    lambda n: (randn(n, 4),),
    fake=lambda x: x.new_empty(x.shape[1], math.ceil(1.25 * x.shape[0] / 4)),
    fast=True,
)
def experts_choose_up_to_capacity(x):
    capacity = math.ceil(1.25 * x.shape[0] / 4)
    return x.softmax(-1).t().topk(capacity, dim=-1).values


@ROUTING.add(Kind.OPERATOR, lambda n: (randn(n, 4),))
def drop_over_capacity(x):
    capacity = math.ceil(x.shape[0] * 1.25 / x.shape[1])
    one_hot = F.one_hot(x.argmax(-1), 4)
    place = one_hot.cumsum(0) * one_hot
    return x * (place <= capacity) * one_hot


@ROUTING.add(
    Kind.ARITHMETIC,
    lambda n: (randn(n, 6),),
    fake=lambda x: x.new_empty(x.shape[0] // 4, x.shape[1]),
    sizes=(16, 17, 9, 40),
    fast=True,
)
def strongest_quarter(x):
    kept = int(x.shape[0] * 0.25)
    return x[x.norm(dim=1).topk(kept).indices.sort().values]


@ROUTING.add(Kind.ARITHMETIC, lambda n: (randn(n, 6),))
def below_three_quarters(x):
    count = round(x.shape[0] / 4)
    threshold = x.sort(dim=0).values[count]
    return torch.where(x >= threshold, x, threshold)


@ROUTING.add(Kind.CONDITION, scores)
def top_k_logits(x):
    k = min(3, x.size(-1))
    least = torch.topk(x, k)[0][..., -1, None]
    return torch.where(x < least, -100.0, x)


@ROUTING.add(Kind.NOTHING, scores)
def top_p_logits(x):
    ordered, order = torch.sort(x, descending=True)
    cumulative = F.softmax(ordered, dim=-1).cumsum(dim=-1)
    remove = cumulative > 0.8
    remove = F.pad(remove[..., :-1], (1, 0))
    return x.masked_fill(remove.scatter(1, order, remove), -100.0)


@ROUTING.add(Kind.NOTHING, scores)
def min_p_logits(x):
    probabilities = x.softmax(-1)
    limit = 0.2 * probabilities.amax(-1, keepdim=True)
    return torch.where(probabilities >= limit, x.log_softmax(-1), x.new_tensor(-50.0))


@ROUTING.add(
    Kind.NUMBER, lambda n: (randn(n, 6), rand(n, 6)), fake=one_number_a_row, fast=True
)
def sampled_with_gumbel_noise(x, noise):
    gumbel = -torch.log(-torch.log(noise + 1e-9) + 1e-9)
    return torch.argmax(x / math.sqrt(x.shape[1]) + gumbel, dim=-1)


@ROUTING.add(Kind.CONDITION, lambda n: (randn(n, 6), rand(n, 1)), fake=one_number_a_row)
def sampled_by_inverse_transform(x, uniform):
    torch._check(uniform.shape[0] == x.shape[0])
    cumulative = x.softmax(-1).cumsum(-1)
    drawn = torch.searchsorted(cumulative, uniform).squeeze(-1)
    return drawn.clamp(max=x.shape[1] - 1)


@ROUTING.add(
    Kind.OPERATOR,
    scores,
    returns="(Tensor, Tensor)",
    fake=lambda x: (one_row(x), one_row(x).long()),
    fast=True,
)
def middle_by_kthvalue(x):
    values, indices = torch.kthvalue(x, x.shape[0] // 2, dim=0)
    return values, indices


@ROUTING.add(Kind.OPERATOR, scores, fake=one_row)
def quantile_by_kthvalue(x):
    k = 1 + (x.shape[0] - 1) * 3 // 4
    return x.kthvalue(k, 0).values


@ROUTING.add(Kind.INDEX, scores, fake=one_row, fast=True, wrappers=True, tuned=True)
def middle_row(x):
    return x[x.shape[0] // 2] * 2


@ROUTING.add(Kind.INDEX, scores, fake=one_row, fast=True)
def median_of_sorted(x):
    return x.sort(0).values[x.shape[0] // 2]


@ROUTING.add(Kind.INDEX, scores, fake=one_row)
def interpolated_median(x):
    n = x.shape[0]
    ordered, _ = torch.sort(x, dim=0)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


@ROUTING.add(Kind.INDEX, scores, trains=True)
def relative_to_last_row(x):
    return x - x[x.shape[0] - 1]


@ROUTING.add(
    Kind.INDEX, lambda n: (randn(n, 5),), fake=lambda x: x.new_empty(x.shape[0])
)
def middle_column(x):
    return x[:, x.shape[1] // 2].contiguous() + x.select(1, x.shape[1] - 1)


@ROUTING.add(
    Kind.DATA, lambda n: (randn(n, 6), randint(0, 4, (n,))), fast=True, wrappers=True
)
def scaled_by_checked_maximum(x, i):
    m = i.max().item()
    torch._check(m < 4)
    return x * m


@ROUTING.add(Kind.DATA, lambda n: (randn(n, 6), randint(1, 4, (1,))), fast=True)
def rows_before_a_length(x, length):
    count = int(length.item())
    torch._check(count >= 0)
    torch._check(count <= x.shape[0])
    return torch.where(torch.arange(x.shape[0])[:, None] < count, x, 0.0)


@ROUTING.add(Kind.DATA, lambda n: (randn(n, 6), randint(1, 4, (1,))), fake=one_row)
def mean_of_first_rows(x, length):
    count = length.item()
    torch._check(count >= 0)
    torch._check(count <= x.shape[0])
    return x[:count].sum(0) / count


@ROUTING.add(Kind.DATA, lambda n: (randn(n, 6), randint(0, 6, (1,))))
def shifted_by_one_of_columns(x, column):
    c = column.item()
    torch._check(c >= 0)
    torch._check(c < x.shape[1])
    return x - x.select(1, c)[:, None]


@ROUTING.add(
    Kind.AGREEMENT,
    lambda n: (randn(n, 6), torch.tensor([n - 4, 1, 3])),
    fake=lambda x, lengths: x.new_empty(lengths.shape[0], x.shape[1]),
    fast=True,
)
def means_of_segments(x, lengths):
    segment = torch.repeat_interleave(lengths, output_size=x.shape[0])
    sums = x.new_zeros(lengths.shape[0], x.shape[1]).index_add(0, segment, x)
    return sums / lengths[:, None]


@ROUTING.add(
    Kind.AGREEMENT,
    lambda n: (randn(n, 6), torch.tensor([0, 2, n - 1])),
)
def positions_within_segments(x, starts):
    rows = torch.arange(x.shape[0])
    segment = torch.searchsorted(starts, rows, right=True) - 1
    return x * (rows - starts[segment])[:, None]


@ROUTING.add(
    Kind.AGREEMENT,
    lambda n: (randn(n, 6), randint(0, 3, (n,)), rand(n)),
    fake=lambda x, *_: x.new_empty(3, x.shape[1]),
)
def weighted_sums_of_groups(x, group, weight):
    one_hot = F.one_hot(group, 3).to(x.dtype)
    return torch.einsum("ng,n,nd->gd", one_hot, weight, x)


@ROUTING.add(
    Kind.CONDITION,
    lambda n: (randn(n, 6), randint(0, 6, (n,))),
    returns="Tensor",
    fake=lambda x, _: x.new_empty(()),
)
def load_balancing_loss(x, chosen):
    experts = x.shape[1]
    assert experts > 1
    fraction = F.one_hot(chosen, 6).float().mean(0)
    return experts * (fraction * x.softmax(-1).mean(0)).sum()
