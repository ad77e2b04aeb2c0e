"""What a dispatch costs a model whose work around the op could be fused with it.

Models that are bound by memory, compiled plainly with a single implementation of their
op, and with the op dispatched: fused, with fusion off, and by the pristine base. The
kernels that a call runs are counted, and the bytes of their tensors. Time is measured
in an order that rotates, each variant in a process of its own, as a ratio to the plain
model in the same process. The exit status is 1 if ours does not run as many kernels and
move as many bytes as the plain model. Time does not decide it.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fusion_peers import (
    FIRST_ROWS,
    MODELS,
    OURS,
    REFERENCE,
    rows_for,
    VARIANTS,
)
from fusion_report import draw, print_report
from pristine import patched_python, pristine_python, SetupError
from processes import Answer, fresh_folder, worker_variables, WorkerProcess
from reporting import (
    add_output_arguments,
    arguments_for_json,
    integer_in,
    interleaved,
    machine_description,
    output_file,
    progress,
    Reporter,
    summary,
    write_json,
)

WINNERS = [2, 3, 8]
REPEATS = 15
QUICK_WINNERS = [2]
QUICK_REPEATS = 3


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; ends the process when an argument is wrong."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/fusion.py", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--models",
        choices=[*MODELS],
        nargs="+",
        default=[*MODELS],
        metavar="NAME",
        help=f"which ones, of {', '.join(MODELS)} (default: all)",
    )
    parser.add_argument(
        "--variants",
        choices=[*VARIANTS],
        nargs="+",
        default=[*VARIANTS],
        metavar="NAME",
        help=f"which ones, of {', '.join(VARIANTS)}; {REFERENCE} is always one "
        "(default: all)",
    )
    parser.add_argument(
        "--winners",
        type=integer_in(2, 64),
        nargs="+",
        metavar="N",
        help=f"numbers of distinct branches (default: {WINNERS})",
    )
    parser.add_argument(
        "--repeats",
        type=integer_in(1),
        metavar="N",
        help=f"timings of each variant and size (default: {REPEATS})",
    )
    parser.add_argument(
        "--milliseconds",
        type=integer_in(1, 10_000),
        default=20,
        metavar="MS",
        help="about how long one timing takes; at least ten calls "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=integer_in(1),
        default=900,
        metavar="SECONDS",
        help="give a compile up after that long (default: %(default)s)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_WINNERS[0]} winners and {QUICK_REPEATS} repeats, where the "
        "command line does not say otherwise: what is counted is the same",
    )
    add_output_arguments(parser)
    parser.add_argument(
        "--picture",
        dest="plot",
        type=partial(output_file, ".png"),
        metavar="FILE.png",
        help="the same as --plot",
    )
    options = parser.parse_args(arguments)
    if options.winners is None:
        options.winners = QUICK_WINNERS if options.quick else WINNERS
    if options.repeats is None:
        options.repeats = QUICK_REPEATS if options.quick else REPEATS
    options.winners = sorted({*options.winners})
    options.models = [name for name in MODELS if name in options.models]
    chosen = {*options.variants, REFERENCE}
    options.variants = [name for name in VARIANTS if name in chosen]
    return options


class Round:
    """All that is measured of a model at one number of winners."""

    def __init__(
        self,
        options: argparse.Namespace,
        model: str,
        branches: int,
        pythons: Mapping[bool, Path],
        folder: Path,
    ) -> None:
        self._options = options
        self._model = model
        self._branches = branches
        self._pythons = pythons
        self._folder = folder
        self._workers: dict[str, WorkerProcess] = {}
        self._answers: dict[str, Answer] = {}

    def run(self, reporter: Reporter) -> dict[str, Any]:
        """Compile every variant and count what it runs, then time those that do."""
        name = f"{self._model}, {self._branches} winners"
        timings = []
        try:
            for variant in self._options.variants:
                reporter.describe(f"{name}: compiling {variant}")
                self._compile(variant)
                reporter.advance()
            for branch in range(self._branches):
                reporter.describe(f"{name}: timing {rows_for(branch)} rows")
                timings.append(self._time(rows_for(branch)))
                reporter.advance()
        finally:
            for worker in self._workers.values():
                worker.end()
        return {
            "model": self._model,
            "winners": self._branches,
            "variants": self._answers,
            "timings": timings,
        }

    def _compile(self, variant: str) -> None:
        worker = WorkerProcess(
            self._pythons[VARIANTS[variant].pristine],
            "fusion_worker.py",
            worker_variables(self._folder / "cache"),
            self._folder / f"{variant}.log",
        )
        self._workers[variant] = worker
        answer = worker.ask(
            {
                "action": "compile",
                "variant": variant,
                "model": self._model,
                "branches": self._branches,
            },
            self._options.timeout,
        )
        if "failure" in answer:
            self._give_up(variant, answer)
        else:
            self._answers[variant] = answer

    def _give_up(self, variant: str, answer: Answer) -> None:
        """A failure is a result, of every variant but the one that all refer to."""
        self._workers.pop(variant).end()
        details = answer.pop("details")
        self._answers[variant] = answer
        where = f"{variant}, {self._model}, {self._branches} winners"
        if variant in (REFERENCE, OURS):
            print(f"{where}:\n{details}", file=sys.stderr)
        if variant == REFERENCE:
            raise RuntimeError(f"{where}: {answer['failure']['error']}")

    def _time(self, rows: int) -> dict[str, Any]:
        milliseconds = self._options.milliseconds
        request = {"action": "time", "rows": rows, "milliseconds": milliseconds}
        microseconds: dict[str, list[float]] = {name: [] for name in self._workers}

        def measure(variant: str) -> float:
            """The ratio to the reference in the same process at the same time."""
            if variant not in self._workers:
                return math.nan  # it has failed in an earlier repeat
            answer = self._workers[variant].ask(request, 60 + milliseconds)
            if "failure" in answer:
                self._give_up(variant, answer)
                return math.nan
            microseconds[variant].append(answer["variant"])
            return answer["variant"] / answer["reference"]

        ratios = interleaved(
            {name: partial(measure, name) for name in self._workers},
            self._options.repeats,
        )
        figures = {
            name: {
                "microseconds": summary(microseconds[name]),
                "ratio": summary(ratios[name]),
            }
            for name in self._workers
        }
        return {"rows": rows, "variants": figures}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; what is there so far is kept in the JSON file after each round."""
    pythons = {False: patched_python()}
    if any(VARIANTS[name].pristine for name in options.variants):
        pythons[True] = pristine_python()
    data: dict[str, Any] = {
        "benchmark": "fusion",
        "machine": machine_description(),
        "arguments": arguments_for_json(options),
        "first_rows": FIRST_ROWS,
        "variants": {name: VARIANTS[name].title for name in options.variants},
        "models": {name: MODELS[name].title for name in options.models},
        "rounds": [],
    }
    steps = sum(len(options.variants) + n for n in options.winners)
    with (
        # Kernels that are the same need not be compiled by each variant.
        fresh_folder("fusion-benchmark-") as folder,
        progress(steps * len(options.models)) as reporter,
    ):
        for model in options.models:
            for winners in options.winners:
                one = Round(options, model, winners, pythons, folder)
                data["rounds"].append(one.run(reporter))
                if options.json:
                    write_json(options.json, data)
    return data


def main() -> int:
    """Run the benchmark; 1 when it could not be run or ours runs more than plain."""
    options = parse_arguments()
    try:
        data = run(options)
    except (SetupError, RuntimeError) as error:
        print(f"benchmarks/fusion.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    counted, timed = print_report(data)
    data["goals"] = [goal.as_json() for goal in [*counted, *timed]]
    if options.json:
        write_json(options.json, data)
    if options.plot:
        draw(options.plot, data)
    return 0 if all(goal.met for goal in counted) else 1


if __name__ == "__main__":
    sys.exit(main())
