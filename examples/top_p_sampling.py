"""Top-p sampling, dispatched on the number of tokens to choose from.

A token is kept if those that are more probable have less than `p` together. Everybody
sorts. Without sorting: compare all pairs, or look for the lowest probability that is
kept by halving an interval, which reads the row again and again. On CPU comparing won
up to 16 tokens, sorting up to 128, and halving above.
"""

from typing import Any

import torch
from _checking import explain_and_check
from torch._inductor.kernel.custom_op import (
    CustomOpConfig,
    register_custom_op_autotuning,
)

ROWS = 16
HALVINGS = 16


def draw(kept: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """A token for each row, by probability: the first one of a race."""
    return (kept / noise).argmax(-1)


def by_sorting(
    probabilities: torch.Tensor, noise: torch.Tensor, p: float
) -> torch.Tensor:
    """Most probable first, until their sum is reached."""
    ordered, tokens = probabilities.sort(-1, descending=True)
    ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered >= p, 0.0)
    return draw(torch.zeros_like(ordered).scatter(-1, tokens, ordered), noise)


def by_comparing(
    probabilities: torch.Tensor, noise: torch.Tensor, p: float
) -> torch.Tensor:
    """The sum of all that are more probable, for each."""
    one, other = probabilities[:, :, None], probabilities[:, None, :]
    before = torch.where(other > one, other, 0.0).sum(-1)
    return draw(probabilities.masked_fill(before >= p, 0.0), noise)


def by_halving(
    probabilities: torch.Tensor, noise: torch.Tensor, p: float
) -> torch.Tensor:
    """The lowest probability that is kept, between 0 and the highest one."""
    low = torch.zeros_like(probabilities[:, :1])
    high = probabilities.amax(-1, keepdim=True)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = torch.where(probabilities > middle, probabilities, 0.0)
        too_low = above.sum(-1, keepdim=True) >= p
        low = torch.where(too_low, middle, low)
        high = torch.where(too_low, high, middle)
    return draw(probabilities.masked_fill(probabilities < low, 0.0), noise)


@torch.library.custom_op("gallery::sample_top_p", mutates_args=())
def sample_top_p(
    probabilities: torch.Tensor, noise: torch.Tensor, p: float
) -> torch.Tensor:
    """A token for each row; ``noise`` is exponential, so the caller has the seed."""
    return by_sorting(probabilities, noise, p)


@sample_top_p.register_fake
def _(probabilities: torch.Tensor, noise: torch.Tensor, p: float) -> torch.Tensor:
    return probabilities.new_empty(probabilities.shape[0], dtype=torch.int64)


OPTIONS: dict[str, Any] = {
    "configs": [
        CustomOpConfig(by_sorting),
        CustomOpConfig(by_comparing),
        CustomOpConfig(by_halving),
    ],
    "dispatch_on": {
        "tensor_name": "probabilities",
        "dim": 1,
        "range_upper_bound": 32768,
    },
    "split_points": [16, 32, 64, 128, 512, 2048, 8192],
    # Noise as it is drawn: above 0.
    "input_gen_fns": {
        "probabilities": lambda like: torch.softmax(torch.randn_like(like), -1),
        "noise": lambda like: torch.empty_like(like).exponential_(),
    },
    "tuning_seconds": 20,
}
SIZES = [8, 50, 300, 5000, 30000]


def make_inputs(tokens: int) -> tuple[torch.Tensor, ...]:
    """Scores, and the noise to draw with."""
    generator = torch.Generator().manual_seed(tokens)
    both = torch.randn(2, ROWS, tokens, generator=generator)
    both[1].exponential_(generator=generator)
    torch._dynamo.mark_dynamic(both, 2)
    return (both,)


def model(both: torch.Tensor) -> torch.Tensor:
    scores, noise = both.unbind(0)
    return sample_top_p(torch.softmax(scores / 0.7, -1), noise, 0.9)


def main() -> None:
    """Tune, explain, check."""
    register_custom_op_autotuning(sample_top_p, **OPTIONS)
    explain_and_check(model, make_inputs, SIZES)


if __name__ == "__main__":
    main()
