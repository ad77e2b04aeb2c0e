"""Finite impulse response filter; dispatched on the number of taps.

A handful of taps is one fused pass over the signal. More taps are worth a matrix
multiplication with a banded matrix, which computes zeros too, but at the speed of a
matrix multiplication. Many taps are worth Fourier transforms, whose time hardly
depends on their number.
"""

from __future__ import annotations

import torch
from operators.specification import fine_split_points, RealOperator, sweep_sizes

CHANNELS = 16
LENGTH = 16384  # samples of a channel

# Outputs that one row of the banded product computes.
BAND_OUTPUTS = 64

# Points of a transform, and how many of them are the end of the block before.
POINTS = 2048
OVERLAP = 512


def windows(padded: torch.Tensor, width: int, step: int, count: int) -> torch.Tensor:
    """A view [channels, count, width] of overlapping windows of contiguous rows.

    ``Tensor.unfold`` would do, but that pins a width known at run time only.
    """
    channels, length = padded.shape
    return padded.as_strided((channels, count, width), (length, step, 1))


def sliding_windows(signal: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Multiply each window with the taps and sum it, in one fused loop."""
    count = taps.shape[0]
    padded = torch.nn.functional.pad(signal, (count - 1, 0))
    return (windows(padded, count, 1, signal.shape[1]) * taps.flip(0)).sum(-1)


def banded_matmul(signal: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Multiply overlapping blocks with the band (Toeplitz) matrix of the taps.

    The matrix is [BAND_OUTPUTS + taps - 1, BAND_OUTPUTS].
    """
    channels, length = signal.shape
    count = taps.shape[0]
    rows = BAND_OUTPUTS + count - 1
    blocks = (length + BAND_OUTPUTS - 1) // BAND_OUTPUTS
    row = torch.arange(rows)[:, None]
    lag = torch.arange(BAND_OUTPUTS) + (count - 1) - row
    band = torch.where((lag >= 0) & (lag < count), taps[lag.clamp(0, count - 1)], 0.0)
    padded = torch.nn.functional.pad(
        signal, (count - 1, blocks * BAND_OUTPUTS - length)
    )
    product = windows(padded, rows, BAND_OUTPUTS, blocks) @ band
    return product.reshape(channels, -1)[:, :length].contiguous()


def overlap_save(signal: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Multiply the Fourier transforms of overlapping blocks with that of the taps.

    The product is a circular convolution, whose wrapped-around part lies in the
    overlap. More taps than that would need longer blocks; the range of sizes tells
    whether this implementation may be used.
    """
    if taps.shape[0] > OVERLAP:
        raise ValueError(f"{taps.shape[0]} taps, at most {OVERLAP} are possible")
    channels, length = signal.shape
    step = POINTS - OVERLAP
    blocks = (length + step - 1) // step
    padded = torch.nn.functional.pad(signal, (OVERLAP, blocks * step - length))
    spectrum = torch.fft.rfft(windows(padded, POINTS, step, blocks))
    response = torch.fft.rfft(taps, n=POINTS)
    filtered = torch.fft.irfft(spectrum * response, n=POINTS)[..., OVERLAP:]
    return filtered.reshape(channels, -1)[:, :length].contiguous()


@torch.library.custom_op("real_operators::fir_filter", mutates_args=())
def fir_filter(signal: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Causal filter of each channel, zeros before its start.

    ``signal`` is [channels, length], ``taps`` [taps], the result as ``signal``.
    """
    return banded_matmul(signal, taps)


@fir_filter.register_fake
def _(signal: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(signal)


def call(signal: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """The op, alone."""
    return fir_filter(signal, taps)


def make_inputs(taps: int) -> tuple[torch.Tensor, ...]:
    """A random signal and a filter that neither amplifies nor damps it."""
    generator = torch.Generator().manual_seed(taps)
    signal = torch.randn(CHANNELS, LENGTH, generator=generator)
    return signal, torch.randn(taps, generator=generator) / taps**0.5


OPERATOR = RealOperator(
    name="fir_filter",
    title=f"FIR filter of [{CHANNELS}, {LENGTH}]",
    unit="taps",
    op=fir_filter,
    call=call,
    implementations=(sliding_windows, banded_matmul, overlap_save),
    eager=banded_matmul,
    tensor_name="taps",
    dim=0,
    split_points=fine_split_points(4, 512),
    open_size=1024,
    sizes=sweep_sizes(4, 512),
    first_size=48,
    make_inputs=make_inputs,
)
