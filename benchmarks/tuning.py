"""What compiling a range-tuned op costs, with the patch set and without it.

Each compile runs in a fresh process. Its cache folder is fresh as well, but for the
"warm" ones, which come after another process with the same folder (the cache of whole
graphs is off, so that a warm one shows what the tuning results are worth).
Seconds are those of the first call, without imports and precompiled headers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pristine import patched_python, pristine_python, SetupError
from processes import Answer, fresh_folder, worker_variables, WorkerProcess
from reporting import (
    add_output_arguments,
    arguments_for_json,
    integer_in,
    machine_description,
    progress,
    Reporter,
    rotated,
    summary,
    write_json,
)
from tuning_report import draw, print_report

RANGES = [1, 2, 4, 8, 16, 32, 64]
GIVEN_BRANCHES = [16, 64, 256]
CANDIDATES = 3
FIGURES = ("seconds", "tuning_seconds", "extra_mebibytes")
"""What an answer holds that varies from repeat to repeat."""


@dataclass(frozen=True)
class Case:
    """One compile: ``peer`` is ours or base, ``count`` its ranges or branches.

    ``warm`` says that a second process follows with the same cache folder.
    """

    peer: str
    action: str
    count: int
    warm: bool = False

    @property
    def name(self) -> str:
        """For the progress bar, and to tell cases apart."""
        what = "ranges, tuned" if self.action == "tuned" else "branches, winners given"
        return f"{self.peer}: {self.count} {what}"

    def request(self) -> dict[str, Any]:
        """What the worker is asked."""
        if self.action == "given":
            return {"action": "given", "branches": self.count}
        return {"action": "tuned", "ranges": self.count, "count": CANDIDATES}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; ends the process when an argument is wrong."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/tuning.py", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--ranges",
        type=integer_in(1, 1024),
        nargs="+",
        default=RANGES,
        metavar="N",
        help=f"numbers of ranges to tune for (default: {RANGES})",
    )
    parser.add_argument(
        "--given-branches",
        type=integer_in(2, 1024),
        nargs="*",
        default=GIVEN_BRANCHES,
        metavar="N",
        help="numbers of distinct branches to compile with given winners, ours only "
        f"(default: {GIVEN_BRANCHES})",
    )
    parser.add_argument(
        "--repeats",
        type=integer_in(1),
        default=3,
        metavar="N",
        help="compiles of each case (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=integer_in(1),
        default=300,
        metavar="SECONDS",
        help="give a compile up after that long (default: %(default)s)",
    )
    parser.add_argument(
        "--given-timeout",
        type=integer_in(1),
        default=1800,
        metavar="SECONDS",
        help="the same for those with given winners (default: %(default)s)",
    )
    parser.add_argument(
        "--no-base",
        action="store_true",
        help="leave the pristine base out, and the environment it needs",
    )
    add_output_arguments(parser)
    options = parser.parse_args(arguments)
    options.ranges = sorted({*options.ranges})
    options.given_branches = sorted({*options.given_branches})
    return options


def cases_for(options: argparse.Namespace) -> list[Case]:
    """What is measured, the two peers side by side."""
    cases = []
    for count in options.ranges:
        cases.append(Case("ours", "tuned", count, warm=True))
        if not options.no_base:
            cases.append(Case("base", "tuned", count))
    return cases + [Case("ours", "given", n) for n in options.given_branches]


class Runner:
    """Runs the cases and keeps their answers."""

    def __init__(
        self, options: argparse.Namespace, pythons: Mapping[str, Path]
    ) -> None:
        self._options = options
        self._pythons = pythons
        self._answers: dict[tuple[str, Case], list[Answer]] = {}

    def run_all(self, reporter: Reporter) -> None:
        """Every case once a repeat, in an order that rotates."""
        cases = {case.name: case for case in cases_for(self._options)}
        for repeat in range(self._options.repeats):
            for name in rotated([*cases], repeat):
                reporter.describe(name)
                self._run(cases[name])
                reporter.advance()

    def _run(self, case: Case) -> None:
        if any("failure" in one for one in self._answers.get(("cold", case), [])):
            return  # it would fail again, and a timeout takes long
        with fresh_folder("tuning-benchmark-") as cache:
            for kind in ("cold", "warm") if case.warm else ("cold",):
                answer = self._compile(case, cache)
                self._answers.setdefault((kind, case), []).append(answer)
                if "failure" in answer:
                    return

    def _compile(self, case: Case, cache: Path) -> Answer:
        tuned = case.action == "tuned"
        limit = self._options.timeout if tuned else self._options.given_timeout
        worker = WorkerProcess(
            self._pythons[case.peer],
            "tuning_worker.py",
            worker_variables(cache),
            cache / "worker.log",
        )
        try:
            answer = worker.ask(case.request(), limit)
        finally:
            worker.end()
        details = answer.pop("details", "")
        if "failure" in answer and case.peer == "ours":
            print(f"{case.name}:\n{details}", file=sys.stderr)
        return answer

    def results(self) -> list[dict[str, Any]]:
        """A record for each case, with its figures summed up over the repeats."""
        return [
            {
                "peer": case.peer,
                "action": case.action,
                "count": case.count,
                "cache": kind,
                **_summed_up(answers),
            }
            for (kind, case), answers in self._answers.items()
        ]


def _summed_up(answers: Sequence[Answer]) -> dict[str, Any]:
    for answer in answers:
        if "failure" in answer:
            return {"failure": answer["failure"]}
    figures: dict[str, Any] = {}
    for name in FIGURES:
        values = [answer[name] for answer in answers]
        figures[name] = None if None in values else summary(values)
    # The same in every repeat, or else a reader should see that it is not.
    figures["modules"] = [answer["modules"] for answer in answers]
    figures["counters"] = [answer["counters"] for answer in answers]
    return figures


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all cases."""
    pythons = {"ours": patched_python()}
    if not options.no_base:
        pythons["base"] = pristine_python()
    runner = Runner(options, pythons)
    with progress(len(cases_for(options)) * options.repeats) as reporter:
        runner.run_all(reporter)
    return {
        "benchmark": "tuning",
        "machine": machine_description(),
        "arguments": arguments_for_json(options),
        "candidates": CANDIDATES,
        "results": runner.results(),
    }


def main() -> int:
    """Run the benchmark; 1 when it could not be run."""
    options = parse_arguments()
    try:
        data = run(options)
    except SetupError as error:
        print(f"benchmarks/tuning.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    data["goals"] = print_report(data)
    if options.json:
        write_json(options.json, data)
    if options.plot:
        draw(options.plot, data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
