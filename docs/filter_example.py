"""The op of how_it_works.md: a causal filter of a signal, computed in three ways."""

import torch
from torch._inductor import range_dispatch
from torch._inductor.kernel.custom_op import (
    CustomOpConfig,
    register_custom_op_autotuning,
)


BLOCK, POINTS, OVERLAP = 64, 2048, 512


def windows(x: torch.Tensor, width: int, step: int, count: int) -> torch.Tensor:
    """Overlapping windows of each row, as a view [rows, count, width]."""
    return x.as_strided((x.shape[0], count, width), (x.shape[1], step, 1))


def sliding(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """A few taps: multiply each window with the taps and sum."""
    n = taps.shape[0]
    padded = torch.nn.functional.pad(x, (n - 1, 0))
    return (windows(padded, n, 1, x.shape[1]) * taps.flip(0)).sum(-1)


def matmul(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """More taps: multiply blocks with a banded matrix."""
    n, blocks = taps.shape[0], -(-x.shape[1] // BLOCK)
    lag = torch.arange(BLOCK) + (n - 1) - torch.arange(BLOCK + n - 1)[:, None]
    band = torch.where((lag >= 0) & (lag < n), taps[lag.clamp(0, n - 1)], 0.0)
    padded = torch.nn.functional.pad(x, (n - 1, blocks * BLOCK - x.shape[1]))
    product = windows(padded, BLOCK + n - 1, BLOCK, blocks) @ band
    return product.reshape(x.shape[0], -1)[:, : x.shape[1]].contiguous()


def fourier(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Many taps: multiply the Fourier transforms of overlapping blocks."""
    if taps.shape[0] > OVERLAP:
        raise ValueError(f"{taps.shape[0]} taps, at most {OVERLAP} are possible")
    step = POINTS - OVERLAP
    blocks = -(-x.shape[1] // step)
    padded = torch.nn.functional.pad(x, (OVERLAP, blocks * step - x.shape[1]))
    spectrum = torch.fft.rfft(windows(padded, POINTS, step, blocks))
    filtered = torch.fft.irfft(spectrum * torch.fft.rfft(taps, n=POINTS), n=POINTS)
    kept = filtered[..., OVERLAP:].reshape(x.shape[0], -1)
    return kept[:, : x.shape[1]].contiguous()


@torch.library.custom_op("demo::fir", mutates_args=())
def fir(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    return matmul(x, taps)


@fir.register_fake
def _(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


register_custom_op_autotuning(
    fir,
    configs=[CustomOpConfig(sliding), CustomOpConfig(matmul), CustomOpConfig(fourier)],
    dispatch_on={"tensor_name": "taps", "dim": 0, "range_upper_bound": 1024},
    split_points=[8, 32, 128, 512],
    accuracy_tolerance=1e-3,
    sizes_per_range=5,
    tuning_seconds=30,
)


@torch.compile
def model(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    return torch.relu(fir(x, taps))


if __name__ == "__main__":
    x, taps = torch.randn(16, 16384), torch.randn(48)
    torch._dynamo.mark_dynamic(taps, 0)
    model(x, taps)
    print(range_dispatch.explain(model, x, torch.randn(100)))
