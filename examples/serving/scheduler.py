"""Continuous batching: which tokens of which requests each step computes."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from serving_ops import LARGEST_STEP, SLOTS


@dataclass
class Request:
    """A prompt, the step it arrives at, and the answer as far as it is known."""

    arrival: int
    prompt: list[int]
    answer_length: int
    slot: int = -1
    answer: list[int] = field(default_factory=list)


def make_trace(
    count: int, vocabulary: int, seed: int = 0, longest: int = 1024, gap: float = 12
) -> list[Request]:
    """Requests with log-normal prompt and answer lengths and random arrivals.

    A fifth of them comes in bursts, so that steps have from 1 to some 2000 tokens.
    """
    generator = torch.Generator().manual_seed(seed)

    def length(median: float, sigma: float, most: int) -> int:
        value = torch.randn((), generator=generator).mul(sigma).exp() * median
        return min(max(1, int(value)), most)

    requests, now = [], 0.0
    for index in range(count):
        prompt = torch.randint(
            vocabulary, (length(longest / 16, 1.2, longest),), generator=generator
        )
        if index % 5:
            now += float(torch.empty(()).exponential_(1 / gap, generator=generator))
        requests.append(Request(int(now), prompt.tolist(), length(24, 0.8, 192)))
    return requests


@dataclass(frozen=True)
class Step:
    """The inputs of one call of the model; ``last`` has an index for each slot."""

    tokens: torch.Tensor
    context: torch.Tensor
    last: torch.Tensor

    @property
    def count(self) -> int:
        """How many tokens there are."""
        return self.tokens.shape[1]


def serve(
    requests: list[Request],
    run: Callable[[Step], torch.Tensor],
    budget: int = LARGEST_STEP,
) -> list[list[int]]:
    """Serves all requests, greedily, and returns their answers.

    Each step has a token of every request that writes, then whole prompts of waiting
    ones, as far as slots and the budget of tokens allow.
    """
    waiting = deque(sorted(requests, key=lambda one: one.arrival))
    running: list[Request] = []
    free = list(range(SLOTS))
    now = 0
    while waiting or running:
        if not running:
            now = max(now, waiting[0].arrival)
        parts = [(one, [one.answer[-1]]) for one in running]
        used = len(parts)
        while waiting and free and waiting[0].arrival <= now:
            prompt = waiting[0].prompt
            if used + len(prompt) > budget:
                break
            request = waiting.popleft()
            request.slot = free.pop(0)
            parts.append((request, prompt))
            used += len(prompt)
        logits = run(_make_step(parts))
        for (request, _), token in zip(parts, logits.argmax(-1).tolist()):
            request.answer.append(token)
        running = [one for one, _ in parts if len(one.answer) < one.answer_length]
        free += [one.slot for one, _ in parts if one not in running]
        free.sort()
        now += 1
    return [one.answer for one in requests]


def _make_step(parts: list[tuple[Request, list[int]]]) -> Step:
    tokens: list[int] = []
    slots: list[int] = []
    positions: list[int] = []
    last = []
    for request, new in parts:
        written = len(request.prompt) + len(request.answer)
        tokens += new
        slots += [request.slot] * len(new)
        positions += range(written - len(new), written)
        last.append(len(tokens) - 1)
    last += [0] * (SLOTS - len(last))
    return Step(
        torch.tensor([tokens, slots, positions]),
        torch.arange(max(positions) + 1),
        torch.tensor(last),
    )
