"""Compares a dispatch with the same kernels without one: compiling, and calling.

Compiles run in a process of their own each, with a cold cache, a dispatch and its peer
in turn: CPU seconds of the process and of the compilers that it starts. Calls of a
dispatch and of its winner compiled alone take turns in one process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goals import Goal, goals_table
from pristine import patched_python, SetupError
from processes import fresh_folder, worker_variables
from reporting import (
    add_json_argument,
    arguments_for_json,
    integer_in,
    machine_description,
    machine_line,
    median,
    paired_ratios,
    progress,
    report_console,
    write_json,
)
from rich.table import Table

WORKER = Path(__file__).with_name("branches_worker.py")


@dataclass(frozen=True)
class Compiled:
    """What is compiled for ours and for its peer, how often, and what it may take."""

    title: str
    ours: tuple[str, int]
    peer: tuple[str, int]
    allowed: float


COMPILES = (
    Compiled("16 branches", ("branches", 16), ("plain", 16), 1.3),
    Compiled("64 branches", ("branches", 64), ("plain", 64), 1.3),
    Compiled("3 candidates, 16 ranges, tuned", ("tuned", 0), ("candidates", 0), 1.5),
)
CALLS = {"frozen": ("frozen Linear, {}", 1.02), "branches": ("{}", 1.02)}
"""What the worker calls, as what, and the ratio that it may take."""


@dataclass(frozen=True)
class Benchmark:
    """What one script measures, with what it says of itself."""

    name: str
    description: str
    compiles: Sequence[Compiled]
    calls: Mapping[str, tuple[str, float]]


def parse_arguments(
    benchmark: Benchmark, arguments: list[str] | None = None
) -> argparse.Namespace:
    """The command line; ends the process when an argument is wrong."""
    parser = argparse.ArgumentParser(
        prog=f"benchmarks/{benchmark.name}.py",
        description=benchmark.description,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--repeats",
        type=integer_in(1),
        default=3,
        metavar="N",
        help="compiles of each, and processes that call (default: %(default)s)",
    )
    add_json_argument(parser)
    return parser.parse_args(arguments)


def ask_worker(python: Path, *arguments: str) -> Any:
    """The worker's answer, from a cold cache. Raises RuntimeError if it fails."""
    with fresh_folder("branches-") as cache:
        ran = subprocess.run(
            [str(python), str(WORKER), *arguments],
            env=worker_variables(cache) | {"TORCHINDUCTOR_COMPILE_THREADS": "1"},
            capture_output=True,
            text=True,
        )
    if ran.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{ran.stderr[-4000:]}")
    return json.loads(ran.stdout)


def run(benchmark: Benchmark, options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything, ours and its peer in turn."""
    python = patched_python()
    compiles: dict[str, dict[str, list[float]]] = {}
    calls: dict[str, dict[str, list[float]]] = {}
    steps = options.repeats * (2 * len(benchmark.compiles) + len(benchmark.calls))
    with progress(steps) as reporter:
        for _ in range(options.repeats):
            for one in benchmark.compiles:
                for name, (kind, count) in (("ours", one.ours), ("peer", one.peer)):
                    reporter.describe(f"compile: {one.title}, {name}")
                    seconds = ask_worker(python, "compile", kind, str(count))
                    found = compiles.setdefault(one.title, {"ours": [], "peer": []})
                    found[name].append(seconds)
                    reporter.advance()
            for kind, (title, _) in benchmark.calls.items():
                reporter.describe(f"calls: {kind}")
                for case, values in ask_worker(python, "calls", kind).items():
                    found = calls.setdefault(
                        title.format(case), {"ours": [], "peer": []}
                    )
                    for name, microseconds in values.items():
                        found[name].append(microseconds)
                reporter.advance()
    return {
        "benchmark": benchmark.name,
        "machine": machine_description(),
        "arguments": arguments_for_json(options),
        "compile_seconds": compiles,
        "call_microseconds": calls,
    }


def allowed_ratios(benchmark: Benchmark) -> Iterator[tuple[str, float]]:
    """For what each row begins with, or is, the ratio that it may take."""
    for one in benchmark.compiles:
        yield one.title, one.allowed
    for title, allowed in benchmark.calls.values():
        yield title.partition("{")[0], allowed


def print_report(benchmark: Benchmark, data: dict[str, Any]) -> list[Goal]:
    """The tables and the goals; returns the goals."""
    console = report_console()
    goals = []
    for figures, what, unit in (
        ("compile_seconds", "Compiling", "CPU s"),
        ("call_microseconds", "A call", "us"),
    ):
        table = Table(title=f"{what}\n{machine_line(data['machine'])}")
        table.add_column("")
        for column in (f"dispatch, {unit}", f"without, {unit}", "ratio"):
            table.add_column(column, justify="right")
        for title, values in data[figures].items():
            ratio = median(paired_ratios(values["ours"], values["peer"]))
            shown = (f"{median(values[name]):.1f}" for name in ("ours", "peer"))
            table.add_row(title, *shown, f"{ratio:.3f}")
            allowed = next(
                most
                for start, most in allowed_ratios(benchmark)
                if title.startswith(start)
            )
            goals.append(
                Goal(f"{title}: at most {allowed:g}x", f"{ratio:.3f}", ratio <= allowed)
            )
        console.print(table)
    console.print(goals_table(goals))
    return goals


def main(benchmark: Benchmark) -> int:
    """Run the benchmark; 1 when it could not be run or a goal is missed."""
    options = parse_arguments(benchmark)
    try:
        data = run(benchmark, options)
    except (SetupError, RuntimeError) as error:
        print(f"benchmarks/{benchmark.name}.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    goals = print_report(benchmark, data)
    data["goals"] = [goal.as_json() for goal in goals]
    if options.json:
        write_json(options.json, data)
    return 0 if all(goal.met for goal in goals) else 1


BRANCHES = Benchmark("branches", __doc__ or "", COMPILES, CALLS)

if __name__ == "__main__":
    sys.exit(main(BRANCHES))
