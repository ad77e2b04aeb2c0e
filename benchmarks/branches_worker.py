"""What a dispatch costs over the same kernels without one, measured once; prints JSON.

`compile KIND [COUNT]` gives CPU seconds of this process and its compilers, `calls KIND`
median microseconds of a call, ours and its peer's in turn.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from reporting import interleaved, median
from torch._inductor import config
from torch._inductor.kernel.custom_op import (
    CustomOpConfig,
    register_custom_op_autotuning,
)

ROWS, COLUMNS = 16, 300
"""Of the small input."""
FROZEN = 1024
"""Features of the frozen Linear, in and out."""
BRANCHES_CALLED = (2, 16, 64)
RANGES_TUNED = 16
LAYERS, WIDTH = 32, 256
REPEATS = 60

Implementation = Callable[..., torch.Tensor]


def distinct(number: int) -> Implementation:
    """One of many implementations, each with a kernel of its own."""

    def implementation(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x * (number + 2) + w) - (number + 0.5)

    implementation.__name__ = f"implementation_{number}"
    return implementation


def by_tanh(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x * 2 + w) - 0.5


def by_sigmoid(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return 2 * torch.sigmoid(2 * (x * 2 + w)) - 1.5


def by_exp(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return 0.5 - 2 / (torch.exp(2 * (x * 2 + w)) + 1)


def linear_alone(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.linear(x, w, b)


def linear_clamped(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.linear(x, w, b).clamp(-1e9, 1e9)


def registered(
    name: str,
    reference: Implementation,
    implementations: Sequence[Implementation],
    split_points: list[int],
    schema: str,
    **arguments: Any,
) -> Any:
    """A dispatched op of x's rows, with so many ranges."""
    op = torch.library.custom_op(
        f"branches::{name}", reference, mutates_args=(), schema=schema
    )
    op.register_fake(reference)
    register_custom_op_autotuning(
        op,
        configs=[CustomOpConfig(one) for one in implementations],
        dispatch_on={"tensor_name": "x", "dim": 0},
        split_points=split_points,
        **arguments,
    )
    return op


TWO = "(Tensor x, Tensor w) -> Tensor"
THREE = "(Tensor x, Tensor w, Tensor b) -> Tensor"


def with_branches(count: int) -> Any:
    """An op with so many branches, each of eight sizes and a kernel of its own."""
    return registered(
        f"of_{count}",
        by_tanh,
        [distinct(n) for n in range(count)],
        [8 * n for n in range(1, count)],
        TWO,
        winners=[*range(count)],
    )


def small_input(rows: int = ROWS, columns: int = COLUMNS) -> torch.Tensor:
    """An input whose number of rows is dynamic."""
    x = torch.randn(rows, columns)
    torch._dynamo.mark_dynamic(x, 0)
    return x


def stacked(call: Implementation) -> Callable[..., torch.Tensor]:
    """Layers that each call the op, on the results of the last one."""

    def model(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        for _ in range(LAYERS):
            x = call(torch.relu(x) @ w, w[0])
        return x

    return model


def dispatched_layers() -> Callable[..., torch.Tensor]:
    """The stack with three winners, of which the last is what its peer has."""
    op = registered(
        "layer",
        by_tanh,
        [by_sigmoid, by_exp, by_tanh],
        [8, 256],
        TWO,
        winners=[0, 1, 2],
    )
    return stacked(op)


def compile_seconds(kind: str, count: int) -> float:
    """CPU seconds of compiling, from a cold cache, what a kind stands for."""
    w = torch.randn(COLUMNS)
    functions: list[Callable[..., Any]]
    inputs: tuple[Any, ...] = (small_input(), w)
    if kind == "branches":
        functions = [with_branches(count)]
    elif kind == "plain":
        implementations = [distinct(n) for n in range(count)]
        functions = [lambda xs, w: [f(x, w) for f, x in zip(implementations, xs)]]
        inputs = ([small_input() for _ in range(count)], w)
    elif kind == "tuned":
        splits = [8 * n for n in range(1, RANGES_TUNED)]
        candidates = [by_tanh, by_sigmoid, by_exp]
        functions = [registered("tuned", by_tanh, candidates, splits, TWO)]
    elif kind == "candidates":
        functions = [by_tanh, by_sigmoid, by_exp]
    else:
        layers = dispatched_layers() if kind == "layers" else stacked(by_tanh)
        functions = [layers]
        inputs = (small_input(columns=WIDTH), torch.randn(WIDTH, WIDTH))
    before = os.times()
    for function in functions:
        torch.compile(lambda *args, function=function: function(*args))(*inputs)
    after = os.times()
    return sum(after[:4]) - sum(before[:4])


def in_turn(
    functions: Mapping[str, Callable[[], object]], calls: int
) -> dict[str, float]:
    """Median microseconds of a call of each."""

    def timed(function: Callable[[], object]) -> Callable[[], float]:
        def measure() -> float:
            started = time.perf_counter()
            for _ in range(calls):
                function()
            return (time.perf_counter() - started) / calls * 1e6

        return measure

    for function in functions.values():
        function()
    found = interleaved({n: timed(f) for n, f in functions.items()}, REPEATS)
    return {name: median(values) for name, values in found.items()}


def frozen_calls() -> dict[str, dict[str, float]]:
    """A frozen Linear in branches, and the same compiled alone."""

    class Frozen(torch.nn.Module):
        def __init__(self, call: Implementation) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.w = torch.nn.Parameter(torch.randn(FROZEN, FROZEN))
            self.b = torch.nn.Parameter(torch.randn(FROZEN))
            self.call = call

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.call(x, self.w, self.b)

    winners = [linear_alone, linear_clamped]
    op = registered("linear", linear_alone, winners, [64], THREE, winners=[0, 1])
    found = {}
    with config.patch(freezing=True):
        ours = torch.compile(Frozen(op).eval())
        peers = {f: torch.compile(Frozen(f).eval()) for f in winners}
        for rows in (4, 8, 64, 256):
            x, peer = small_input(rows, FROZEN), peers[winners[rows > 64]]
            functions = {"ours": lambda: ours(x), "peer": lambda: peer(x)}
            found[f"{rows} rows"] = in_turn(functions, 20)
    return found


def branch_calls() -> dict[str, dict[str, float]]:
    """The first and the last branch of several, and their winners compiled alone."""
    found = {}
    w = torch.randn(COLUMNS)
    for count in BRANCHES_CALLED:
        ours = torch.compile(with_branches(count))
        for number in (0, count - 1):
            peer = torch.compile(distinct(number))
            x = small_input(8 * number + 4)
            functions = {"ours": lambda: ours(x, w), "peer": lambda: peer(x, w)}
            place = "last" if number else "first"
            found[f"{count} branches, {place}"] = in_turn(functions, 200)
    return found


def layer_calls() -> dict[str, dict[str, float]]:
    """A stack of layers with the op, and with the winner of each size."""
    ours = torch.compile(dispatched_layers())
    peers = {f: torch.compile(stacked(f)) for f in (by_sigmoid, by_exp, by_tanh)}
    found = {}
    w = torch.randn(WIDTH, WIDTH) / 16
    for rows, winner in ((4, by_sigmoid), (100, by_exp), (512, by_tanh)):
        x, peer = small_input(rows, WIDTH), peers[winner]
        functions = {"ours": lambda: ours(x, w), "peer": lambda: peer(x, w)}
        found[f"{rows} rows"] = in_turn(functions, 5)
    return found


CALLS = {"frozen": frozen_calls, "branches": branch_calls, "layers": layer_calls}


def main() -> None:
    """Measure what the arguments name."""
    what, kind, *rest = sys.argv[1:]
    torch.set_num_threads(1)
    torch._dynamo.config.recompile_limit = 100
    with torch.no_grad():
        answer: Any
        if what == "compile":
            answer = compile_seconds(kind, int(rest[0]))
        else:
            answer = CALLS[kind]()
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
