"""Operators whose best implementation depends on the size, dispatched and not.

For each: every implementation compiled alone, and the op that dispatches among them
by size, tuned in this run; interleaved, in one process. Each ratio is the median over
the repeats of (microseconds a call) / (those of the implementation that is best at the
size, in the same repeat). With one thread that is time on the processor, else by the
clock.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence

import operators
from allocator import keep_freed_memory
from goals import goals_table
from reporting import (
    add_output_arguments,
    arguments_for_json,
    integer_in,
    machine_description,
    machine_line,
    progress,
    write_json,
    write_plot,
)
from rich.console import Console


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; ends the process when an argument is wrong."""
    parser = argparse.ArgumentParser(prog="benchmarks/real_ops.py", description=__doc__)
    parser.add_argument(
        "--operators",
        choices=operators.NAMES,
        nargs="+",
        default=[*operators.NAMES],
        metavar="NAME",
        help=f"which ones, of {', '.join(operators.NAMES)} (default: all)",
    )
    parser.add_argument(
        "--repeats",
        type=integer_in(1),
        default=41,
        metavar="N",
        help="timings of each implementation and size (default: %(default)s)",
    )
    parser.add_argument(
        "--milliseconds",
        type=integer_in(1, 10_000),
        default=5,
        metavar="MS",
        help="about how long one timing takes, if one call takes less "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--tuning-seconds",
        type=integer_in(1, 10_000),
        default=20,
        metavar="S",
        help="budget to tune an operator with, config.range_dispatch.tuning_seconds "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=integer_in(1, len(os.sched_getaffinity(0))),
        default=1,
        metavar="N",
        help="threads that torch computes with (default: %(default)s: with more, "
        "whatever else runs on a shared machine stalls all of them)",
    )
    add_output_arguments(parser)
    options = parser.parse_args(arguments)
    options.operators = [name for name in operators.NAMES if name in options.operators]
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 if a result is wrong. A missed goal is no error."""
    options = parse_arguments(arguments)
    # Read when torch is first imported, which therefore comes later.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import torch
    from crossover import measure, steps_for, WrongResult
    from crossover_report import draw, goals_of, means_table, sweep_table
    from torch._inductor import config as inductor_config

    torch.set_num_threads(options.threads)
    keeps_memory = keep_freed_memory()
    # Inductor calls what PyTorch has for complex numbers, which is what is wanted. That
    # a candidate may not add guards is said again, with its name, if it is dropped.
    warnings.filterwarnings("ignore", message=".*complex operators.*")
    logging.getLogger("torch.fx.experimental.symbolic_shapes").setLevel(logging.ERROR)
    console = Console()
    machine = machine_description()
    console.print(f"{machine_line(machine)}, {options.threads} used")
    chosen = [operators.load(name) for name in options.operators]
    steps = sum(steps_for(one, options.repeats) for one in chosen)
    results = []
    try:
        tuning = {"range_dispatch.tuning_seconds": float(options.tuning_seconds)}
        with progress(steps) as reporter, inductor_config.patch(tuning):
            for operator in chosen:
                result = measure(
                    operator, options.repeats, options.milliseconds, reporter
                )
                results.append(result)
                console.print(sweep_table(result))
    except WrongResult as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    goals = [goal for result in results for goal in goals_of(result)]
    console.print(means_table(results))
    console.print(goals_table(goals))
    if options.json is not None:
        write_json(
            options.json,
            {
                "machine": machine,
                "arguments": arguments_for_json(options),
                "keeps_freed_memory": keeps_memory,
                "operators": {one.operator.name: one.as_json() for one in results},
                "goals": [goal.as_json() for goal in goals],
            },
        )
    if options.plot is not None:
        write_plot(options.plot, draw(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
