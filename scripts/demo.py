"""Three implementations of one op by size: timed first, then with given winners."""

from __future__ import annotations

import functools
import math
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.table import Table
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch.record.records import (
    DispatchRecord,
    record_dispatches,
)
from torch._inductor.utils import fresh_cache, run_and_get_code


SPLIT_POINTS = [512, 2048]
ROWS = 64


@torch.library.custom_op("range_dispatch_demo::activate", mutates_args=())
def activate(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The op itself: what runs outside ``torch.compile``, and the fallback inside."""
    return torch.sin(x * weight)


@activate.register_fake
def _(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def sin_impl(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``sin(x * weight)``"""
    return torch.sin(x * weight)


def tanh_impl(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``tanh(x * weight)``"""
    return torch.tanh(x * weight)


def relu_impl(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``relu(x * weight)``"""
    return torch.relu(x * weight)


IMPLEMENTATIONS: tuple[Callable[..., torch.Tensor], ...] = (
    sin_impl,
    tanh_impl,
    relu_impl,
)


CANDIDATES: dict[str, Callable[..., torch.Tensor]] = {
    **{impl.__name__: impl for impl in IMPLEMENTATIONS},
    "fallback": activate,
}


@dataclass(frozen=True)
class Result:
    """One compiled run: what was decided, its code, and its output at each size."""

    records: Sequence[DispatchRecord]
    code: str
    graphs: int
    inputs: dict[int, tuple[torch.Tensor, torch.Tensor]]
    outputs: dict[int, torch.Tensor]


def compile_and_call(sizes: Sequence[int], winners: Sequence[int] | None) -> Result:
    """Compile the op once with dynamic shapes and call it at every size."""
    generator = torch.Generator().manual_seed(0)
    draw = functools.partial(torch.randn, generator=generator)
    # A square first input would make both dimensions one symbol.
    rows = ROWS + (sizes[0] == ROWS)
    inputs = {size: (draw(rows, size), draw(size)) for size in sizes}
    counter = CompileCounterWithBackend("inductor")
    torch._dynamo.reset()
    with (
        fresh_cache(),
        custom_op_autotuning(
            activate,
            configs=[CustomOpConfig(impl) for impl in IMPLEMENTATIONS],
            dispatch_on={"tensor_name": "x", "dim": 1},
            split_points=SPLIT_POINTS,
            winners=winners,
            # Values tell which implementation ran.
            accuracy_tolerance=math.inf,
        ),
        record_dispatches() as records,
    ):
        compiled = torch.compile(
            lambda x, weight: activate(x, weight), dynamic=True, backend=counter
        )
        first, codes = run_and_get_code(compiled, *inputs[sizes[0]])
        outputs = {sizes[0]: first}
        for size in sizes[1:]:
            outputs[size] = compiled(*inputs[size])
    return Result(records, "\n".join(codes), counter.frame_count, inputs, outputs)


def has_value_of(result: Result, size: int, candidate: str) -> bool:
    """Whether the output at ``size`` is what the candidate computes eagerly."""
    expected = CANDIDATES[candidate](*result.inputs[size])
    return torch.allclose(result.outputs[size], expected, rtol=1e-4, atol=1e-5)


def timing_table(record: DispatchRecord) -> Table:
    """Range -> milliseconds of each candidate -> winner."""
    names = list(record.ranges[0].milliseconds)
    table = Table(
        title=f"Milliseconds by range of {record.axes[0]}",
        box=SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("range", no_wrap=True)
    table.add_column("timed at", justify="right")
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("winner", style="bold")
    for row in record.ranges:
        times = [row.milliseconds.get(name) for name in names]
        table.add_row(
            str(row.size_range),
            " ".join(map(str, row.timed_sizes)),
            *("-" if ms is None else f"{ms:.4f}" for ms in times),
            row.winner,
        )
    return table


def check_tuned(result: Result, problems: list[str]) -> Table:
    """The table of the benchmarked run; what is wrong goes to ``problems``."""
    (record,) = result.records
    for row in record.ranges:
        if not row.milliseconds or min(row.milliseconds.values()) <= 0:
            problems.append(f"range {row.size_range} was not timed")
            continue
        fastest = min(row.milliseconds, key=row.milliseconds.__getitem__)
        behind = row.milliseconds[row.winner] - row.milliseconds[fastest]
        if behind > row.noise[row.winner] + row.noise[fastest]:
            problems.append(f"range {row.size_range}: {row.winner} is not the fastest")
    for size in result.outputs:
        winner = next(r.winner for r in record.ranges if size in r.size_range)
        if not has_value_of(result, size, winner):
            problems.append(f"tuned run, size {size}: the value is not {winner}'s")
    if result.graphs != 1:
        problems.append(f"tuned run: {result.graphs} graphs were compiled, not 1")
    return timing_table(record)


def check_dispatched(result: Result, problems: list[str]) -> Table:
    """Which branch ran at each size when the winners are given."""
    table = Table(title="Dispatch with winners=[0, 1, 2]", box=SIMPLE_HEAD)
    for heading in ("size", "expected", "ran", "value"):
        table.add_column(heading, justify="right" if heading == "size" else "left")
    for size in result.outputs:
        expected = IMPLEMENTATIONS[sum(size > p for p in SPLIT_POINTS)].__name__
        ran = [
            impl.__name__
            for impl in IMPLEMENTATIONS
            if has_value_of(result, size, impl.__name__)
        ]
        right = ran == [expected]
        if not right:
            problems.append(f"size {size}: {ran} ran, not {expected}")
        table.add_row(
            str(size),
            expected,
            ", ".join(ran) or "none",
            "[green]equal[/]" if right else "[red]wrong[/]",
        )
    if result.graphs != 1:
        problems.append(f"{result.graphs} graphs were compiled, not 1")
    return table


def run(sizes: Sequence[int], show_code: bool) -> int:
    """Run both parts and print the tables; 1 if anything is not as it has to be."""
    console = Console()
    problems: list[str] = []
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task("compiling and timing the implementations", total=None)
        tuned = compile_and_call(sizes, winners=None)
        progress.update(task, description="compiling with given winners")
        given = compile_and_call(sizes, winners=[0, 1, 2])
    console.print(
        f"torch {torch.__version__}, {platform.machine()}, "
        f"{torch.get_num_threads()} threads, x is [{ROWS}, size]"
    )
    console.print(check_tuned(tuned, problems))
    console.print(check_dispatched(given, problems))
    console.print(f"graphs compiled for {len(sizes)} sizes: {given.graphs}")
    if show_code:
        if console.is_terminal:
            console.print(Syntax(given.code, "python", word_wrap=True))
        else:  # as it is, to be copied
            print(given.code)
    for problem in problems:
        console.print(f"[red]wrong:[/] {problem}")
    return 1 if problems else 0
