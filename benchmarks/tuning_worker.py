"""One compile of the tuning benchmark, in a process of its own.

Reads one request from standard input and writes the answer to standard output, JSON.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from failures import describe
from torch._dynamo.utils import counters
from torch._inductor.codecache import PyCodeCache
from torch._inductor.kernel import custom_op
from torch._inductor.kernel.custom_op import (
    CustomOpConfig,
    register_custom_op_autotuning,
)
from workload import (
    branch_that_ran,
    call_site,
    define,
    define_op,
    Implementation,
    make_implementation,
    make_inputs,
    size_for,
    split_points,
)

ROWS = 101
"""Enough to tell the candidates apart, and odd: no size of the other dimension is."""

COUNTERS = (
    "custom_op_candidates_compiled",
    "custom_op_candidates_timed",
    "custom_op_tuning_cache_hit",
)
TUNERS = ("select_winners", "autotune_custom_op")
"""What finds the winners: with the patch set for all ranges, in the base for one."""


class Clock:
    """The calls of a function, from whichever thread, and the seconds in them."""

    def __init__(self) -> None:
        self._taken: list[float] = []

    @property
    def calls(self) -> int:
        """How often it was called."""
        return len(self._taken)

    @property
    def seconds(self) -> float:
        """How long all the calls took."""
        return sum(self._taken)

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, on this clock."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._taken.append(time.perf_counter() - started)

        return timed


@contextmanager
def clock_on(owner: Any, name: str) -> Iterator[Clock]:
    """Times a function or method wherever it is called as ``owner.name``."""
    clock, original = Clock(), getattr(owner, name)
    setattr(owner, name, clock.wrap(original))
    try:
        yield clock
    finally:
        setattr(owner, name, original)


def candidates(count: int) -> list[Implementation]:
    """Implementations with the same result, of which the first is always the fastest.

    So with the patch set and without it one winner comes out, and the difference is
    what finding it takes. Distinct winners are measured with given ones.
    """
    slower = "torch.tanh(x)"
    implementations = []
    for index in range(count):
        added = f" + 1e-30 * {slower}" if index else ""
        implementations.append(
            define(
                f"def candidate_{index}(x, weight):\n"
                f"    return torch.sin(x * weight){added}\n",
                f"candidate_{index}",
                {"torch": torch},
            )
        )
        slower = f"torch.tanh(torch.exp(torch.tanh({slower})))"
    return implementations


def compile_tuned(ranges: int, count: int) -> dict[str, Any]:
    """Compile an op with this many candidates that are timed in each range."""
    implementations = candidates(count)
    op = define_op(implementations[0])
    arguments: dict[str, Any] = {"configs": [*map(CustomOpConfig, implementations)]}
    if ranges > 1:
        arguments["split_points"] = split_points(ranges)
        arguments["dispatch_on"] = {
            "tensor_name": "x",
            "dim": 1,
            # The open range is timed there: as small as the others.
            "range_upper_bound": size_for(ranges - 1),
        }
    register_custom_op_autotuning(op, **arguments)
    answer, function = measure(call_site(op))
    for size in {size_for(0), size_for(ranges - 1)}:
        x, weight = make_inputs(ROWS, size)
        expected = torch.sin(x * weight)
        torch.testing.assert_close(function(x, weight), expected, rtol=0, atol=1e-5)
    return answer


def compile_given(branches: int) -> dict[str, Any]:
    """Compile an op with as many branches, whose winners are given."""
    implementations = [make_implementation(branch) for branch in range(branches)]
    op = define_op(implementations[0])
    register_custom_op_autotuning(
        op,
        configs=[*map(CustomOpConfig, implementations)],
        dispatch_on={"tensor_name": "x", "dim": 1},
        split_points=split_points(branches),
        winners=[*range(branches)],
    )
    answer, function = measure(call_site(op))
    for branch in range(branches):
        x, weight = make_inputs(ROWS, size_for(branch))
        ran = branch_that_ran(function(x, weight), x, weight)
        if ran != branch:
            raise AssertionError(f"branch {branch} was due, {ran} ran")
    return answer


def measure(function: Implementation) -> tuple[dict[str, Any], Implementation]:
    """Compile by a first call: seconds, modules, memory, counters."""
    tuner = next(name for name in TUNERS if hasattr(custom_op, name))
    compiled = torch.compile(function, dynamic=True)
    inputs = make_inputs(ROWS, size_for(0))
    counters.clear()
    memory = peak_mebibytes()
    with (
        # Every generated wrapper is loaded there, a candidate's as well as the graph's.
        clock_on(PyCodeCache, "load_by_key_path") as modules,
        clock_on(custom_op, tuner) as tuning,
    ):
        started = time.perf_counter()
        compiled(*inputs)
        seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "tuning_seconds": tuning.seconds if tuning.calls else None,
        "modules": modules.calls,
        "extra_mebibytes": peak_mebibytes() - memory,
        "counters": {
            name: counters["inductor"][name]
            for name in COUNTERS
            if name in counters["inductor"]
        },
    }, compiled


def peak_mebibytes() -> float:
    """The most resident memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def warm_up() -> None:
    """Compile something else: imports and Inductor's precompiled headers are no part
    of what is measured."""
    x, weight = make_inputs(ROWS, 48)
    torch.compile(call_site(torch.add), dynamic=True)(x, weight)


ACTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "tuned": compile_tuned,
    "given": compile_given,
}


def main() -> None:
    # torch and the compilers may print: only the answer goes to standard output.
    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.readline())
    torch.set_num_threads(1)
    with torch.no_grad():
        try:
            warm_up()
            answer = ACTIONS[request.pop("action")](**request)
        except Exception as error:
            answer = describe(error)
    print(json.dumps(answer), file=reply, flush=True)


if __name__ == "__main__":
    main()
