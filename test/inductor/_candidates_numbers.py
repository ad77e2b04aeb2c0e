# Owner(s): ["module: inductor"]
# mypy: disallow-untyped-defs=False
"""Implementations of quantisation and convolution. The dispatched size is the number
of rows or samples."""

import math

from _candidate_table import Kind, Table

import torch
import torch.nn.functional as F
from torch import randint, randn


NUMBERS = Table()
SIGNAL = torch.linspace(-1, 1, 64).sin()


def integers(low, high, *shape, dtype=torch.int8):
    return randint(low, high, shape).to(dtype)


def quantised_and_scale(x):
    return x.new_empty(x.shape, dtype=torch.int8), x.new_empty(x.shape[0], 1)


def as_many_columns(x, w, *_):
    return x.new_empty(x.shape[0], w.shape[1])


def samples_and_taps(n):
    return randn(n, 3), randn(5, 3)


# Quantisation.


@NUMBERS.add(
    Kind.CONDITION,
    lambda n: (randn(n, 24),),
    fast=True,
    wrappers=True,
    tuned=True,
    returns="(Tensor, Tensor)",
    fake=lambda x: (
        x.new_empty(x.shape, dtype=torch.int8),
        x.new_empty(x.shape[0], x.shape[1] // 8),
    ),
)
def quantised_in_blocks(x):
    rows, columns = x.shape
    assert columns % 8 == 0, f"{columns} columns are no whole number of blocks"
    blocks = x.view(rows, columns // 8, 8)
    scale = blocks.abs().amax(-1).clamp(min=1e-4) / 127
    quantised = torch.round(blocks / scale[..., None]).clamp(-128, 127)
    return quantised.to(torch.int8).view(rows, columns), scale


@NUMBERS.add(Kind.CONDITION, lambda n: (randn(n, 24),))
def rounded_in_blocks(x):
    block = 8
    if x.shape[-1] % block != 0:
        raise ValueError(f"the last dimension has to be a multiple of {block}")
    blocks = x.reshape(-1, block)
    scale = blocks.abs().max(dim=1, keepdim=True)[0] / 7
    return (torch.round(blocks / scale) * scale).reshape(x.shape)


@NUMBERS.add(
    Kind.CONDITION,
    lambda n: (randn(n, 6),),
    sizes=(16, 20, 8, 40),
    fast=True,
)
def rounded_in_blocks_of_rows(x):
    torch._check(x.shape[1] % 2 == 0)
    blocks = x.unflatten(1, (2, -1))
    low, high = blocks.amin(-1, keepdim=True), blocks.amax(-1, keepdim=True)
    step = (high - low).clamp(min=1e-5) / 15
    return (torch.round((blocks - low) / step) * step + low).flatten(1)


@NUMBERS.add(
    Kind.OPERATOR,
    lambda n: (randn(n, 6),),
    sizes=(16, 20, 8, 40),
)
def rounded_in_blocks_of_four_rows(x):
    assert x.shape[0] % 4 == 0
    blocks = x.reshape(x.shape[0] // 4, 4, x.shape[1])
    scale = blocks.abs().amax(1, keepdim=True) / 7
    return (torch.round(blocks / scale) * scale).view_as(x)


@NUMBERS.add(
    Kind.NOTHING,
    lambda n: (randn(n, 6),),
    returns="(Tensor, Tensor)",
    fake=quantised_and_scale,
    fast=True,
)
def quantised_by_row(x):
    scale = x.abs().amax(dim=-1, keepdim=True).clamp(min=1e-6) / 127.0
    return torch.clamp((x / scale).round(), -128, 127).to(torch.int8), scale


@NUMBERS.add(
    Kind.CONDITION,
    lambda n: (integers(-8, 8, n, 6), integers(-8, 8, 6, 10), randn(10)),
    fake=lambda x, w, scale: scale.new_empty(x.shape[0], w.shape[1]),
    fast=True,
)
def matmul_of_int8(x, w, scale):
    assert x.shape[1] == w.shape[0]
    accumulated = x.to(torch.int32) @ w.to(torch.int32)
    return accumulated.to(scale.dtype) * scale


@NUMBERS.add(
    Kind.NOTHING,
    lambda n: (integers(-8, 8, n, 6), integers(-8, 8, 6, 8)),
    fake=lambda x, w: x.new_empty(x.shape[0], w.shape[1], dtype=torch.int32),
)
def integer_matmul(x, w):
    return torch._int_mm(x, w)


@NUMBERS.add(
    Kind.FORM,
    lambda n: (integers(0, 16, n, 6, dtype=torch.uint8),),
    fake=lambda x: x.new_empty(x.shape[0], x.shape[1] // 2),
)
def packed_to_four_bits(x):
    low, high = x[:, ::2], x[:, 1::2]
    return low | (high << 4)


@NUMBERS.add(
    Kind.FORM,
    lambda n: (integers(0, 255, n, 6, dtype=torch.uint8), randn(n, 1)),
    fake=lambda x, scale: scale.new_empty(x.shape[0], x.shape[1] * 2),
)
def unpacked_from_four_bits(x, scale):
    nibbles = torch.stack((x & 15, x >> 4), dim=-1).reshape(x.shape[0], -1)
    return (nibbles.to(torch.float32) - 8) * scale


@NUMBERS.add(
    Kind.CONDITION,
    lambda n: (integers(-128, 127, n, 12), randn(n, 3)),
    fake=lambda x, scale: scale.new_empty(x.shape),
)
def dequantised_in_groups(x, scale):
    assert x.shape[1] % scale.shape[1] == 0
    group = x.shape[1] // scale.shape[1]
    return x.float() * scale.repeat_interleave(group, dim=1)


@NUMBERS.add(Kind.CONDITION, lambda n: (randn(n, 6), randn(6, 9)), fake=as_many_columns)
def weight_turned_if_need_be(x, w):
    if x.shape[1] == w.shape[0]:
        return x @ w
    return x @ w.T


@NUMBERS.add(
    Kind.NOTHING,
    lambda n: (randn(n, 6),),
    fails_alone=dict.fromkeys(("all", "marked"), "fake_quantize_per_tensor_affine"),
)
def rounded_straight_through(x):
    step = 0.25
    rounded = torch.fake_quantize_per_tensor_affine(x, step, 0, -128, 127)
    return x + (rounded - x).detach()


@NUMBERS.add(Kind.NUMBER, lambda n: (randn(n, 6),))
def rounded_to_levels_by_width(x):
    levels = 2 ** (x.shape[1] // 2) - 1
    low, high = x.aminmax(dim=1, keepdim=True)
    step = (high - low) / levels
    return torch.round((x - low) / step) * step + low


# Convolution.


@NUMBERS.add(Kind.NUMBER, samples_and_taps, fast=True, wrappers=True, trains=True)
def short_convolution_by_shifts(x, w):
    result = torch.zeros_like(x)
    for tap in range(w.shape[0]):
        shifted = F.pad(x, (0, 0, tap, 0))[: x.shape[0]]
        result = result + shifted * w[tap]
    return result


@NUMBERS.add(Kind.OPERATOR, samples_and_taps, fast=True)
def causal_depthwise_convolution(x, w):
    padded = F.pad(x.T.unsqueeze(0), (w.shape[0] - 1, 0))
    weight = w.flip(0).T.unsqueeze(1)
    return F.conv1d(padded, weight, groups=x.shape[1])[0].T.contiguous()


@NUMBERS.add(
    Kind.OPERATOR,
    lambda n: (randn(n, 3), randn(4, 3, 3)),
    fake=lambda x, w: x.new_empty(x.shape[0], 4),
)
def convolution_of_same_length(x, w):
    return F.conv1d(x.mT[None], w, padding=1).squeeze(0).mT.contiguous()


@NUMBERS.add(Kind.OPERATOR, samples_and_taps, fast=True)
def convolution_by_fft(x, w):
    length = 2 * x.shape[0]
    spectrum = torch.fft.rfft(x, n=length, dim=0) * torch.fft.rfft(w, n=length, dim=0)
    return torch.fft.irfft(spectrum, n=length, dim=0)[: x.shape[0]]


@NUMBERS.add(
    Kind.OPERATOR,
    lambda n: (randn(n, 1),),
    fake=lambda x: x.new_empty(SIGNAL.shape[0] + x.shape[0] - 1),
    fast=True,
)
def fft_over_kernel_length(x):
    length = SIGNAL.shape[0] + x.shape[0] - 1
    spectrum = torch.fft.rfft(SIGNAL, length) * torch.fft.rfft(x[:, 0], length)
    return torch.fft.irfft(spectrum, length)


@NUMBERS.add(
    Kind.OPERATOR,
    lambda n: (randn(n, 1),),
    fake=lambda x: x.new_empty(SIGNAL.shape[0] - x.shape[0] + 1),
    alone_with="inductor",
    graphs_alone={"all": 4},
    fails_alone={"marked": "specialized it"},
)
def direct_over_kernel_length(x):
    return F.conv1d(SIGNAL.view(1, 1, -1), x.view(1, 1, -1)).view(-1)


@NUMBERS.add(
    Kind.OPERATOR,
    lambda n: (randn(n, 1),),
    fake=lambda x: x.new_empty(SIGNAL.shape[0] - x.shape[0] + 1),
    graphs_alone={"all": 4},
    fails_alone={"marked": "specialized it"},
)
def windows_over_kernel_length(x):
    return SIGNAL.unfold(0, x.shape[0], 1) @ x.squeeze(1)


@NUMBERS.add(
    Kind.NUMBER,
    lambda n: (randn(n, 3), randn(4, 3)),
    fake=lambda x, w: x.new_empty(x.shape[0] - w.shape[0] + 1, x.shape[1]),
)
def convolution_by_unfolding(x, w):
    windows = x.unfold(0, w.shape[0], 1)
    return torch.einsum("nct,tc->nc", windows, w) / math.sqrt(w.shape[0])


@NUMBERS.add(
    Kind.OPERATOR,
    lambda n: (randn(n, 3),),
    fake=lambda x: x.new_empty(x.shape[0] - 3, x.shape[1]),
)
def moving_average_by_cumsum(x):
    total = F.pad(x.cumsum(0), (0, 0, 1, 0))
    return (total[4:] - total[:-4]) / 4


@NUMBERS.add(Kind.AGREEMENT, lambda n: (randn(n, 3), randn(n)))
def convolution_by_toeplitz_matrix(x, kernel):
    n = x.shape[0]
    lag = torch.arange(n)[:, None] - torch.arange(n)[None, :]
    matrix = torch.where(lag >= 0, kernel[lag.clamp(min=0)], 0.0)
    return matrix @ x


@NUMBERS.add(Kind.ARITHMETIC, lambda n: (randn(n, 3),))
def exponential_average(x):
    n = x.shape[0]
    alpha = 2 / (n + 1)
    powers = (1 - alpha) ** torch.arange(n - 1, -1, -1, dtype=x.dtype)
    return torch.cumsum(x * powers[:, None], 0) * alpha / powers[:, None]


@NUMBERS.add(
    Kind.NOTHING,
    lambda n: (randn(n, 2, 5, 5), randn(3, 2, 3, 3), randn(3)),
    fake=lambda x, w, b: x.new_empty(x.shape[0], 3, 5, 5),
    graphs_alone={"all": 2, "marked": 2},
)
def convolution_of_a_batch(x, w, b):
    return F.relu(F.conv2d(x, w, b, padding=1))


@NUMBERS.add(
    Kind.NUMBER,
    lambda n: (randn(n, 2, 5, 5), randn(3, 2, 3, 3)),
    fake=lambda x, w: x.new_empty(x.shape[0], 3, 3, 3),
)
def convolution_by_matmul(x, w):
    side = x.shape[-1] - w.shape[-1] + 1
    columns = F.unfold(x, w.shape[-1])
    return (w.flatten(1) @ columns).view(x.shape[0], w.shape[0], side, side)


@NUMBERS.add(
    Kind.FORM,
    lambda n: (randn(n, 3),),
    fake=lambda x: x.new_empty(x.shape[0] // 2, x.shape[1]),
    sizes=(16, 18, 6, 40),
)
def halved_by_mean_of_pairs(x):
    return x.reshape(x.shape[0] // 2, 2, x.shape[1]).mean(1)
