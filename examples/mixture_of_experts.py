"""A mixture of experts with two of eight for a token, dispatched on the tokens.

A few tokens gather the weights of their own experts. Many tokens go through every
expert, or each expert takes its own, which do less work but in parts whose size is
known only when they run.
"""

from typing import Any

import torch
from _checking import explain_and_check
from torch._inductor.kernel.custom_op import (
    CustomOpConfig,
    register_custom_op_autotuning,
)

EXPERTS, CHOSEN, WIDTH, INNER = 8, 2, 64, 128


def gathered(
    x: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    experts: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """The weights of each token's experts, then a product for each token."""
    inner = torch.relu(torch.einsum("td,tkdi->tki", x, up[experts]))
    return torch.einsum("tki,tkid,tk->td", inner, down[experts], weights)


def every_expert(
    x: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    experts: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """All experts for all tokens; most of it has weight 0."""
    share = x.new_zeros(x.shape[0], EXPERTS).scatter(1, experts, weights)
    output = torch.relu(x @ up) @ down
    return (output * share.t()[:, :, None]).sum(0)


def own_tokens(
    x: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    experts: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Each expert for its own tokens; how many there are is up to the router."""
    output = torch.zeros_like(x)
    for expert in range(EXPERTS):
        token, place = torch.where(experts == expert)
        part = torch.relu(x[token] @ up[expert]) @ down[expert]
        output = output.index_add(0, token, part * weights[token, place, None])
    return output


@torch.library.custom_op("gallery::experts", mutates_args=())
def mixture(
    x: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    experts: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """``x`` is [tokens, width], experts and their weights are [tokens, chosen]."""
    return own_tokens(x, up, down, experts, weights)


@mixture.register_fake
def _(x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


OPTIONS: dict[str, Any] = {
    "configs": [
        CustomOpConfig(gathered),
        CustomOpConfig(every_expert),
        CustomOpConfig(own_tokens),
    ],
    "dispatch_on": {"tensor_name": "x", "dim": 0, "range_upper_bound": 2048},
    "split_points": [2, 4, 8, 16, 64, 256],
    # Any experts are as good as others to time with, but there are only eight.
    "input_gen_fns": {
        "experts": lambda like: torch.rand(len(like), EXPERTS).argsort(-1)[:, :CHOSEN]
    },
    "tuning_seconds": 20,
    "accuracy_tolerance": 1e-3,
}
SIZES = [2, 6, 30, 200, 1500]


def make_inputs(tokens: int) -> tuple[torch.Tensor, ...]:
    """Tokens, the router, and the experts' weights."""
    generator = torch.Generator().manual_seed(tokens)
    x = torch.randn(tokens, WIDTH, generator=generator)
    torch._dynamo.mark_dynamic(x, 0)
    router = torch.randn(WIDTH, EXPERTS, generator=generator)
    up = torch.randn(EXPERTS, WIDTH, INNER, generator=generator) * WIDTH**-0.5
    down = torch.randn(EXPERTS, INNER, WIDTH, generator=generator) * INNER**-0.5
    return x, router, up, down


def model(
    x: torch.Tensor, router: torch.Tensor, up: torch.Tensor, down: torch.Tensor
) -> torch.Tensor:
    weights, experts = torch.softmax(x @ router, -1).topk(CHOSEN, -1)
    return mixture(x, up, down, experts, weights)


def main() -> None:
    """Tune, explain, check."""
    register_custom_op_autotuning(mixture, **OPTIONS)
    explain_and_check(model, make_inputs, SIZES)


if __name__ == "__main__":
    main()
