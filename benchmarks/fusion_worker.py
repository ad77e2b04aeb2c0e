"""One variant of a model of the fusion benchmark in a process of its own.

Reads requests from standard input and answers each on standard output, JSON, one a
line. Everything runs on one thread and without gradients.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from allocator import keep_freed_memory
from failures import describe
from fusion_models import dispatched, Function, make_inputs, plain
from fusion_peers import Model, MODELS, REFERENCE, rows_for
from kernel_record import runs_of
from torch._dynamo.testing import CompileCounterWithBackend

PARTS = 10
"""A timing is the median of so many parts. Another one goes before, untimed, as the
processor's caches have been another worker's."""


class Worker:
    """The variant, and the reference as well.

    Where a process has its code and data in memory makes a tenth of its speed, so that
    the two are timed in the same one.
    """

    def __init__(self) -> None:
        self._model: Model
        self._function: Function
        self._reference: Function
        self._reference_graphs = 0

    def compile(self, variant: str, model: str, branches: int) -> dict[str, Any]:
        """Call both with the rows of each branch; what ran, if the results agree."""
        self._model = MODELS[model]
        self._reference, reference_graphs = compiled(plain(self._model))
        if variant == "unfused":
            torch._inductor.config.range_dispatch.fuse = False
        # The reference is compiled twice in its own process: it shows the noise.
        is_plain = variant == REFERENCE
        function = plain(self._model) if is_plain else dispatched(self._model, branches)
        self._function, graphs = compiled(function)
        started = time.perf_counter()
        self._function(*make_inputs(self._model, rows_for(0)))
        seconds = time.perf_counter() - started
        runs = [self._checked(rows_for(branch)) for branch in range(branches)]
        for counter in (graphs, reference_graphs):
            if counter.frame_count != 1:
                raise AssertionError(f"{counter.frame_count} graphs, 1 expected")
        if not is_plain and len({str(one["kernels"]) for one in runs}) < branches:
            raise AssertionError("the same kernels ran for two branches")
        return {"seconds": seconds, "runs": runs}

    def _checked(self, rows: int) -> dict[str, Any]:
        inputs = make_inputs(self._model, rows)
        torch.testing.assert_close(self._function(*inputs), self._reference(*inputs))
        ran = runs_of(lambda: self._function(*inputs))
        if not ran:
            # Nothing would be as many as nothing.
            raise AssertionError("no kernel was seen: is Inductor's code cache off?")
        return {
            "rows": rows,
            "kernels": [run.name for run in ran],
            "bytes": sum(run.bytes for run in ran),
        }

    def time(self, rows: int, milliseconds: float) -> dict[str, Any]:
        """Microseconds a call of the variant and of the reference, in turn, over about
        this many milliseconds of calls each."""
        inputs = make_inputs(self._model, rows)
        once = _seconds(self._reference, inputs, 3) / 3
        calls = max(1, round(milliseconds / 1e3 / PARTS / once))
        parts: dict[str, list[float]] = {"variant": [], "reference": []}
        pair = [("variant", self._function), ("reference", self._reference)]
        for part in range(PARTS + 1):
            for name, one in pair if part % 2 else reversed(pair):
                seconds = _seconds(one, inputs, calls)
                if part:
                    parts[name].append(seconds / calls * 1e6)
        return {name: statistics.median(times) for name, times in parts.items()}


def compiled(function: Function) -> tuple[Function, CompileCounterWithBackend]:
    """Compiled for all sizes at once, at its first call, with a count of graphs."""
    counter = CompileCounterWithBackend("inductor")
    return torch.compile(function, dynamic=True, backend=counter), counter


def _seconds(function: Function, inputs: tuple[torch.Tensor, ...], calls: int) -> float:
    gc.collect(0)
    gc.disable()  # a collection would be charged to whichever function it falls on
    try:
        started = time.perf_counter()
        for _ in range(calls):
            function(*inputs)
        return time.perf_counter() - started
    finally:
        gc.enable()


def main() -> None:
    """Answer requests until there are no more."""
    # torch and the compilers may print: only answers go to the real standard output.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    keep_freed_memory()
    worker = Worker()
    actions: dict[str, Callable[..., dict[str, Any]]] = {
        "compile": worker.compile,
        "time": worker.time,
    }
    with torch.no_grad():
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = actions[request.pop("action")](**request)
            except Exception as error:
                answer = describe(error)
            print(json.dumps(answer), file=replies, flush=True)


if __name__ == "__main__":
    main()
