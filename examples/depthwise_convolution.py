"""A causal convolution of each channel, dispatched on the length of the sequences.

Directly, each result takes as many products as there are taps; with a Fourier transform
their number hardly matters, but a transform has a price for the shortest sequence, too.
The taps are as many in every call: Inductor compiles a convolution for one size of its
filter, so one that has as many taps as the sequence has steps makes a graph for each.
"""

from typing import Any

import torch
from _checking import explain_and_check
from torch._inductor.kernel.custom_op import (
    CustomOpConfig,
    register_custom_op_autotuning,
)

BATCH, CHANNELS, TAPS = 4, 32, 128


def direct(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """A convolution with a group for each channel."""
    padded = torch.nn.functional.pad(x, (TAPS - 1, 0))
    weight = taps.flip(-1)[:, None]
    return torch.nn.functional.conv1d(padded, weight, groups=CHANNELS)


def windows(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Overlapping windows, as a view, times the taps."""
    padded = torch.nn.functional.pad(x, (TAPS - 1, 0))
    return torch.einsum("bclt,ct->bcl", padded.unfold(-1, TAPS, 1), taps.flip(-1))


def fourier(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """A product of Fourier transforms, with room for what would wrap around."""
    points = x.shape[-1] + TAPS
    spectrum = torch.fft.rfft(x, n=points) * torch.fft.rfft(taps, n=points)
    return torch.fft.irfft(spectrum, n=points)[..., : x.shape[-1]].contiguous()


@torch.library.custom_op("gallery::depthwise_convolution", mutates_args=())
def depthwise_convolution(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """``x`` is [batch, channels, length], ``taps`` [channels, taps]."""
    return direct(x, taps)


@depthwise_convolution.register_fake
def _(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


OPTIONS: dict[str, Any] = {
    "configs": [
        CustomOpConfig(direct),
        CustomOpConfig(windows),
        CustomOpConfig(fourier),
    ],
    "dispatch_on": {"tensor_name": "x", "dim": 2, "range_upper_bound": 4096},
    "split_points": [16, 32, 64, 128, 512, 2048],
    "accuracy_tolerance": 1e-4,
    "tuning_seconds": 20,
}
SIZES = [8, 24, 100, 500, 4000]


def make_inputs(length: int) -> tuple[torch.Tensor, ...]:
    """Signals and filters."""
    generator = torch.Generator().manual_seed(length)
    x = torch.randn(BATCH, CHANNELS, length, generator=generator)
    torch._dynamo.mark_dynamic(x, 2)
    return x, torch.randn(CHANNELS, TAPS, generator=generator) / TAPS**0.5


def model(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    return torch.relu(depthwise_convolution(x, taps))


def main() -> None:
    """Tune, explain, check."""
    register_custom_op_autotuning(depthwise_convolution, **OPTIONS)
    explain_and_check(model, make_inputs, SIZES)


if __name__ == "__main__":
    main()
