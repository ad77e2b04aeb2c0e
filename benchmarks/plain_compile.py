"""Compiles a model without any registered op, with the patch set and without it.

Twelve layers of a transformer are compiled in a process of their own each time, in
turn: the CPU seconds of the process that lowers them and its peak memory have to be
those of the pristine base. Kernels are compiled once, before the first repeat, and
taken from a cache folder that all processes share.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from goals import Goal, goals_table
from pristine import patched_python, pristine_python, SetupError
from processes import fresh_folder
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
    rotated,
    summary,
    write_json,
)
from rich.table import Table

WORKER = Path(__file__).with_name("plain_compile_worker.py")
REFERENCE, OURS = "pristine", "patched"
FIGURES = {
    "cpu_seconds": "CPU seconds of a compile",
    "peak_mebibytes": "peak memory in MiB",
}
ALLOWED = 1.01
"""What ours may take, as a ratio to the base."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; ends the process when an argument is wrong."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/plain_compile.py", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--layers",
        type=integer_in(1, 96),
        default=12,
        metavar="N",
        help="of the transformer (default: %(default)s)",
    )
    parser.add_argument(
        "--repeats",
        type=integer_in(1),
        default=9,
        metavar="N",
        help="compiles of each (default: %(default)s)",
    )
    add_json_argument(parser)
    return parser.parse_args(arguments)


def compile_once(python: Path, layers: int, cache: Path) -> dict[str, float]:
    """The figures of one compile. Raises RuntimeError if it fails."""
    variables = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(cache),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "TORCHINDUCTOR_FX_GRAPH_CACHE": "0",
        "TORCHINDUCTOR_AUTOGRAD_CACHE": "0",
    }
    ran = subprocess.run(
        [str(python), str(WORKER), str(layers)],
        env=variables,
        capture_output=True,
        text=True,
    )
    if ran.returncode:
        raise RuntimeError(f"a compile failed:\n{ran.stderr[-4000:]}")
    return json.loads(ran.stdout)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure both in turn."""
    pythons = {REFERENCE: pristine_python(), OURS: patched_python()}
    figures: dict[str, dict[str, list[float]]] = {
        figure: {name: [] for name in pythons} for figure in FIGURES
    }
    with (
        fresh_folder("plain-compile-") as cache,
        progress(len(pythons) * (options.repeats + 1)) as reporter,
    ):
        for repeat in range(-1, options.repeats):
            for name in rotated([*pythons], repeat):
                reporter.describe(f"{name}, repeat {repeat + 1}")
                found = compile_once(pythons[name], options.layers, cache)
                reporter.advance()
                if repeat >= 0:
                    for figure, values in figures.items():
                        values[name].append(found[figure])
    return {
        "benchmark": "plain_compile",
        "machine": machine_description(),
        "arguments": arguments_for_json(options),
        "figures": figures,
    }


def print_report(data: dict[str, Any]) -> list[Goal]:
    """The table and the goals; returns the goals."""
    console = report_console()
    title = f"{data['arguments']['layers']} layers, no registered op"
    table = Table(title=f"{title}\n{machine_line(data['machine'])}")
    for column in ("", REFERENCE, OURS, "ratio", "quartiles"):
        table.add_column(column, justify="left" if not column else "right")
    goals = []
    for figure, title in FIGURES.items():
        values = data["figures"][figure]
        ratios = summary(paired_ratios(values[OURS], values[REFERENCE]))
        table.add_row(
            title,
            *(f"{median(values[name]):.2f}" for name in (REFERENCE, OURS)),
            f"{ratios['median']:.4f}",
            f"{ratios['lower_quartile']:.4f} to {ratios['upper_quartile']:.4f}",
        )
        goals.append(
            Goal(
                f"{title}: at most {ALLOWED:g} of the base's",
                f"{ratios['median']:.4f}",
                ratios["median"] <= ALLOWED,
            )
        )
    console.print(table)
    console.print(goals_table(goals))
    return goals


def main() -> int:
    """Run the benchmark; 1 when it could not be run or a goal is missed."""
    options = parse_arguments()
    try:
        data = run(options)
    except (SetupError, RuntimeError) as error:
        print(f"benchmarks/plain_compile.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    goals = print_report(data)
    data["goals"] = [goal.as_json() for goal in goals]
    if options.json:
        write_json(options.json, data)
    return 0 if all(goal.met for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
