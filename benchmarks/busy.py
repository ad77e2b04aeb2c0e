"""What tuning chooses while other programs keep the processors busy.

Three ops have two implementations, of which one does twice the work of the other, and
the op itself does the same as the slower one. Each is tuned many times, in turn idle
and beside processes that never wait, as many as twice the processors. Stored times and
graphs are not used; compiled kernels are, so that a repeat is mostly timing.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import logging
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from reporting import (
    add_output_arguments,
    arguments_for_json,
    integer_in,
    machine_description,
    machine_line,
    median,
    new_figure,
    progress,
    report_console,
    Reporter,
    write_json,
    write_plot,
)
from rich import box
from rich.table import Table

import torch
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch.record.records import record_dispatches

LOADS = ("idle", "busy")
WANTED = 0.95


def _sines(x: torch.Tensor, count: int) -> torch.Tensor:
    for _ in range(count):
        x = torch.sin(x) * 2 + 1
    return x


def _products(x: torch.Tensor, count: int) -> torch.Tensor:
    for _ in range(count):
        x = x @ x
    return x


def _softmaxes(x: torch.Tensor, count: int) -> torch.Tensor:
    for _ in range(count):
        x = torch.softmax(x, -1).cumsum(-1)
    return x


@dataclass(frozen=True)
class Op:
    """``work(x, count)`` does a unit of work ``count`` times on x of a shape."""

    name: str
    shape: tuple[int, int]
    work: Callable[[torch.Tensor, int], torch.Tensor]

    def define(self) -> Any:
        """The custom op, which does the work four times."""

        def double(x: torch.Tensor) -> torch.Tensor:
            return self.work(x, 4)

        op = torch.library.custom_op(f"busy::{self.name}", double, mutates_args=())
        op.register_fake(torch.empty_like)
        return op

    def implementations(self) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """Named ``twice`` and ``four_times`` for how often they do the work."""

        def twice(x: torch.Tensor) -> torch.Tensor:
            return self.work(x, 2)

        def four_times(x: torch.Tensor) -> torch.Tensor:
            return self.work(x, 4)

        return [four_times, twice]


OPS = (
    Op("pointwise", (64, 512), _sines),
    Op("matmul", (256, 256), _products),
    Op("softmax", (512, 2048), _softmaxes),
)


def _spin() -> None:
    while True:
        pass


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many processes busy in the context."""
    spawn = multiprocessing.get_context("spawn")
    spinning = [spawn.Process(target=_spin, daemon=True) for _ in range(count)]
    for one in spinning:
        one.start()
    try:
        time.sleep(1.0 if spinning else 0.0)  # they import this file first
        yield
    finally:
        for one in spinning:
            one.kill()
            one.join()


def tune(op: Op, defined: Any) -> dict[str, Any]:
    """Tune once; the winner, what was measured, and how long that took."""
    torch._dynamo.reset()
    x = torch.randn(op.shape)
    with (
        config.patch(autotune_local_cache=False, fx_graph_cache=False),
        custom_op_autotuning(
            defined,
            configs=[CustomOpConfig(one) for one in op.implementations()],
            accuracy_tolerance=math.inf,
        ),
        record_dispatches() as records,
        torch.no_grad(),
    ):
        started = time.perf_counter()
        torch.compile(lambda x: defined(x))(x)
        seconds = time.perf_counter() - started
    ((only,),) = (record.ranges for record in records)
    return {
        "winner": only.winner,
        "marked": any(size.disturbed for size in only.sizes),
        "milliseconds": only.milliseconds,
        "seconds": seconds,
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All ops with each number of threads, idle and busy in turn."""
    threads_in_all = [*dict.fromkeys((1, os.cpu_count() or 1))]
    steps = len(threads_in_all) * len(OPS) * options.repeats * len(LOADS)
    load = options.load or 2 * (os.cpu_count() or 1)
    answers: dict[tuple[str, int, str], list[dict[str, Any]]]
    answers = collections.defaultdict(list)
    defined = {op.name: op.define() for op in OPS}
    with progress(steps) as reporter:
        for threads in threads_in_all:
            torch.set_num_threads(threads)
            for op in OPS:
                tune(op, defined[op.name])  # compiles the kernels
                for _ in range(options.repeats):
                    for name in LOADS:
                        with busy(load if name == "busy" else 0):
                            answer = tune(op, defined[op.name])
                        answers[op.name, threads, name].append(answer)
                        _show(reporter, op, threads, name)
    return {
        "benchmark": "busy",
        "machine": machine_description(),
        "arguments": {**arguments_for_json(options), "load": load},
        "results": [
            {"op": op, "threads": threads, "load": name, "repeats": found}
            for (op, threads, name), found in answers.items()
        ],
    }


def _show(reporter: Reporter, op: Op, threads: int, load: str) -> None:
    reporter.describe(f"{op.name}, {threads} threads, {load}")
    reporter.advance()


def print_report(data: dict[str, Any]) -> bool:
    """A row for each op, number of threads and load; whether the goal is met."""
    console = report_console()
    console.print(machine_line(data["machine"]))
    table = Table(
        title=f"busy: {data['arguments']['load']} processes that never wait",
        box=box.SIMPLE_HEAD,
    )
    for column in ("op", "threads", "load", "right", "marked"):
        table.add_column(column)
    for column in ("ms, right one", "ms, other one", "seconds"):
        table.add_column(column, justify="right")
    is_met = True
    for row in data["results"]:
        found = row["repeats"]
        right = sum(one["winner"] == "twice" for one in found)
        is_met = is_met and right >= WANTED * len(found)
        table.add_row(
            row["op"],
            str(row["threads"]),
            row["load"],
            f"{right} of {len(found)}",
            str(sum(one["marked"] for one in found)),
            *(f"{_typical(found, name):.4f}" for name in ("twice", "four_times")),
            f"{median([one['seconds'] for one in found]):.2f}",
        )
    console.print(table)
    verdict = "met" if is_met else "missed"
    console.print(f"goal: {WANTED:.0%} right everywhere: {verdict}")
    return is_met


def _typical(found: list[dict[str, Any]], name: str) -> float:
    times = [one["milliseconds"].get(name, math.nan) for one in found]
    return median(times)


def draw(path: Any, data: dict[str, Any]) -> None:
    """How often the choice was right."""
    figure, axes = new_figure(7.0, 3.0)
    rows = [
        (f"{row['op']}, {row['threads']} threads, {row['load']}", row["repeats"])
        for row in data["results"]
    ]
    shares = [
        sum(one["winner"] == "twice" for one in found) / len(found) for _, found in rows
    ]
    axes.barh([name for name, _ in rows], shares)
    axes.axvline(WANTED, color="black", linewidth=0.8)
    axes.set_xlabel("part of the repeats with the right choice")
    write_plot(path, figure)


def main() -> int:
    """Run the benchmark; exits with status 1 if a choice depends on the load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=integer_in(1), default=20)
    parser.add_argument(
        "--load",
        type=integer_in(1),
        help="processes that never wait; twice the processors if not given",
    )
    add_output_arguments(parser)
    options = parser.parse_args()
    logging.getLogger("torch._inductor.range_dispatch").setLevel(logging.ERROR)
    data = run(options)
    is_met = print_report(data)
    if options.json:
        write_json(options.json, data)
    if options.plot:
        draw(options.plot, data)
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
