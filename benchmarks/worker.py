"""One peer of the dispatch benchmark in a process of its own.

Reads requests from standard input and answers each on standard output, JSON, one a
line. Everything runs on one thread and without gradients: what is compiled under one
mode is compiled anew, silently, when it is called under another.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import torch
from dispatch_peers import build, inductor
from failures import describe
from peers import REFERENCE
from workload import branch_that_ran, Implementation, make_inputs, size_for

PARTS = 10
"""A timing is the median of so many parts: one interruption cannot spoil it. Another
part goes before, untimed, as the processor's caches have been another worker's."""


class Worker:
    """The peer's function, the one that all are compared with, and calls to both.

    Where a process has its code and data in memory makes a tenth of its speed. So each
    worker has the reference, too: the implementation of a branch, compiled alone.
    """

    def __init__(self) -> None:
        self._function: Implementation
        self._reference: Implementation
        self._reference_graphs = 0
        self._calls: dict[tuple[int, int], int] = {}

    def compile(
        self,
        peer: str,
        branches: int,
        visit: list[int],
        timed: list[int],
        rows: list[int],
    ) -> dict[str, Any]:
        """Call the peer with every branch and number of rows; check what ran."""
        started = time.perf_counter()
        self._function = build(peer, branches)
        check(self._function, visit, rows)
        seconds = time.perf_counter() - started
        graphs = inductor.frame_count
        self._reference = build(REFERENCE, branches)
        check(self._reference, timed, rows)
        self._reference_graphs = inductor.frame_count - graphs
        return {"seconds": seconds, "graphs": graphs}

    def time(self, branch: int, rows: int, milliseconds: float) -> dict[str, Any]:
        """Microseconds a call of the peer and of the reference, in turn, over about
        this many milliseconds of calls each."""
        size = size_for(branch)
        x, weight = make_inputs(rows, size)
        function = chosen(self._function, size)
        reference = chosen(self._reference, size)
        key = branch, rows
        if key not in self._calls:
            self._calls[key] = _calls_in(milliseconds / PARTS, reference, x, weight)
        calls = self._calls[key]
        parts: dict[Implementation, list[float]] = {function: [], reference: []}
        for part in range(PARTS + 1):
            for one in (function, reference) if part % 2 else (reference, function):
                seconds = _seconds(one, x, weight, calls)
                if part:
                    parts[one].append(seconds / calls * 1e6)
        return {
            "microseconds": statistics.median(parts[function]),
            "reference": statistics.median(parts[reference]),
            "graphs": inductor.frame_count - self._reference_graphs,
        }


def check(function: Implementation, visit: list[int], rows: list[int]) -> None:
    """Call it with a size of each branch; raises if another branch ran."""
    for count in rows:
        for branch in visit:
            x, weight = make_inputs(count, size_for(branch))
            ran = branch_that_ran(function(x, weight), x, weight)
            if ran != branch:
                raise AssertionError(f"branch {branch} was due, {ran} ran")


def chosen(function: Implementation, size: int) -> Implementation:
    """The function to call at this size, if the choice shall not be timed."""
    for_size = getattr(function, "for_size", None)
    return function if for_size is None else for_size(size)


def _calls_in(
    milliseconds: float,
    function: Implementation,
    x: torch.Tensor,
    weight: torch.Tensor,
) -> int:
    """How many calls take about that long."""
    calls = 1
    while (seconds := _seconds(function, x, weight, calls)) < milliseconds / 4e3:
        calls *= 2
    return max(1, round(calls * milliseconds / 1e3 / seconds))


def _seconds(
    function: Implementation, x: torch.Tensor, weight: torch.Tensor, calls: int
) -> float:
    gc.collect(0)
    gc.disable()  # a collection would be charged to whichever peer it falls on
    try:
        started = time.perf_counter()
        for _ in range(calls):
            function(x, weight)
        return time.perf_counter() - started
    finally:
        gc.enable()


def answers(requests: TextIO) -> Iterator[dict[str, Any]]:
    """The answer to each request; what goes wrong is an answer as well."""
    worker = Worker()
    actions: dict[str, Callable[..., dict[str, Any]]] = {
        "compile": worker.compile,
        "time": worker.time,
    }
    for line in requests:
        request = json.loads(line)
        try:
            yield actions[request.pop("action")](**request)
        except Exception as error:
            yield describe(error)


def main() -> None:
    # torch and the compilers may print: only answers go to the real standard output.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    with torch.no_grad():
        for answer in answers(sys.stdin):
            print(json.dumps(answer), file=replies, flush=True)


if __name__ == "__main__":
    main()
