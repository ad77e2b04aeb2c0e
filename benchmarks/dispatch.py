"""What the dispatch costs a call, side by side with every other way to do it.

Each peer runs in a process of its own; one at a time is asked to call its function for
a few milliseconds, in an order that rotates. Ratios are medians over the repeats of
(microseconds a call) / (those of the winner compiled alone, in the same process).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dispatch_report import draw, print_report
from peers import OURS, Peer, PEERS, REFERENCE
from pristine import patched_python, pristine_python, SetupError
from processes import Answer, fresh_folder, worker_variables, WorkerProcess
from reporting import (
    add_output_arguments,
    arguments_for_json,
    integer_in,
    interleaved,
    machine_description,
    paired_ratios,
    progress,
    Reporter,
    summary,
    write_json,
)
from workload import positions, size_for

BRANCHES = [1, 2, 4, 16, 64, 256]
MAX_BRANCHES = 1024


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; ends the process when an argument is wrong."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/dispatch.py",
        description=__doc__,
        epilog="Peers: "
        + "; ".join(f"{p.name} ({p.letter}) {p.title}" for p in PEERS.values()),
    )
    parser.add_argument(
        "--branches",
        type=integer_in(1, MAX_BRANCHES),
        nargs="+",
        default=BRANCHES,
        metavar="N",
        help=f"numbers of distinct branches (default: {BRANCHES})",
    )
    parser.add_argument(
        "--peers",
        choices=list(PEERS),
        nargs="+",
        default=list(PEERS),
        metavar="NAME",
        help=f"peers to measure; {REFERENCE} is always one (default: all)",
    )
    parser.add_argument(
        "--repeats",
        type=integer_in(1),
        default=41,
        metavar="N",
        help="timings of each peer, position and input (default: %(default)s)",
    )
    parser.add_argument(
        "--milliseconds",
        type=integer_in(1, 10_000),
        default=10,
        metavar="MS",
        help="about how long one timing takes (default: %(default)s)",
    )
    parser.add_argument(
        "--small-rows",
        type=integer_in(2),
        default=4,
        metavar="N",
        help="x.shape[0] of the small input (default: %(default)s)",
    )
    parser.add_argument(
        "--rows",
        type=integer_in(2),
        default=4096,
        metavar="N",
        help="x.shape[0] of the large input (default: %(default)s)",
    )
    parser.add_argument(
        "--compile-timeout",
        type=integer_in(1),
        default=900,
        metavar="SECONDS",
        help="give a peer up after that long (default: %(default)s)",
    )
    add_output_arguments(parser)
    options = parser.parse_args(arguments)
    options.branches = sorted({*options.branches})
    options.peers = [n for n in PEERS if n in {*options.peers, REFERENCE}]
    if options.small_rows >= options.rows:
        parser.error(
            f"argument --rows: {options.rows} must be more than --small-rows, "
            f"{options.small_rows}"
        )
    sizes = {size_for(i) for n in options.branches for i in range(n)}
    for name in ("small_rows", "rows"):
        rows = getattr(options, name)
        if rows in sizes:
            # torch.compile would take the two dimensions for one symbol.
            flag = f"--{name.replace('_', '-')}"
            parser.error(
                f"argument {flag}: {rows} is also a size of the other dimension "
                f"(even, {min(sizes)} to {max(sizes)}); choose another"
            )
    return options


def pythons_for(peers: Sequence[Peer]) -> dict[bool, Path]:
    """The Python of each environment needed, by whether it is the pristine one."""
    pythons = {False: patched_python()}
    if any(peer.pristine for peer in peers):
        pythons[True] = pristine_python()
    return pythons


class Round:
    """All that is measured at one number of branches."""

    def __init__(
        self,
        options: argparse.Namespace,
        branches: int,
        pythons: Mapping[bool, Path],
        folder: Path,
        reporter: Reporter,
    ) -> None:
        self._options = options
        self._branches = branches
        self._pythons = pythons
        self._folder = folder
        self._reporter = reporter
        self._workers: dict[str, WorkerProcess] = {}
        self._positions = positions(branches)
        self._rows = {"small": options.small_rows, "large": options.rows}
        self.peers: dict[str, Answer] = {}

    def run(self) -> dict[str, Any]:
        """Compile every peer, then time those that did."""
        try:
            for name in self._options.peers:
                self._reporter.describe(f"{self._branches} branches: compiling {name}")
                self._compile(PEERS[name])
                self._reporter.advance()
            timings = [
                self._time(input_name, position)
                for input_name in self._rows
                for position in self._positions
            ]
        finally:
            for worker in self._workers.values():
                worker.end()
        return {"branches": self._branches, "peers": self.peers, "timings": timings}

    def _compile(self, peer: Peer) -> None:
        worker = WorkerProcess(
            self._pythons[peer.pristine],
            "worker.py",
            worker_variables(self._folder / "cache"),
            self._folder / f"{peer.name}.log",
        )
        self._workers[peer.name] = worker
        timed = [*self._positions.values()]
        answer = worker.ask(
            {
                "action": "compile",
                "peer": peer.name,
                "branches": self._branches,
                "visit": [*range(self._branches)] if peer.visits_all else timed,
                "timed": timed,
                "rows": [*self._rows.values()],
            },
            self._options.compile_timeout,
        )
        if "failure" in answer:
            self._give_up(peer.name, answer)
            return
        answer["expected_graphs"] = peer.expected_graphs(self._branches, len(timed))
        self.peers[peer.name] = answer

    def _give_up(self, name: str, answer: Answer) -> None:
        """A failure is a result, of every peer but the one that all refer to."""
        self._workers.pop(name).end()
        details = answer.pop("details")
        self.peers[name] = answer
        if name in (REFERENCE, OURS):
            print(f"{name}, {self._branches} branches:\n{details}", file=sys.stderr)
        if name == REFERENCE:
            error = answer["failure"]["error"]
            raise RuntimeError(f"{name} failed at {self._branches} branches: {error}")

    def _time(self, input_name: str, position: str) -> dict[str, Any]:
        self._reporter.describe(
            f"{self._branches} branches: {input_name} input, {position} branch"
        )
        branch = self._positions[position]
        request = {
            "action": "time",
            "branch": branch,
            "rows": self._rows[input_name],
            "milliseconds": self._options.milliseconds,
        }

        microseconds: dict[str, list[float]] = {name: [] for name in self._workers}

        def measure(name: str) -> float:
            """The ratio to the reference in the same process at the same time."""
            if name not in self._workers:
                return math.nan  # it has failed in an earlier repeat
            answer = self._workers[name].ask(request, 60 + self._options.milliseconds)
            if "failure" in answer:
                self._give_up(name, answer)
                return math.nan
            # More graphs than expected: it was compiled anew while the clock ran.
            self.peers[name]["graphs"] = answer["graphs"]
            microseconds[name].append(answer["microseconds"])
            return answer["microseconds"] / answer["reference"]

        ratios = interleaved(
            {name: partial(measure, name) for name in self._workers},
            self._options.repeats,
        )
        self._reporter.advance()
        figures: dict[str, Any] = {}
        for name in self._workers:
            figures[name] = {
                "microseconds": summary(microseconds[name]),
                "ratio": summary(ratios[name]),
            }
            if OURS in self._workers and name != OURS:
                ours_to_it = paired_ratios(ratios[OURS], ratios[name])
                figures[name]["ratio_of_ours"] = summary(ours_to_it)
        return {
            "input": input_name,
            "rows": self._rows[input_name],
            "position": position,
            "branch": branch,
            "size": size_for(branch),
            "peers": figures,
        }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; what is there so far is kept in the JSON file after each round."""
    pythons = pythons_for([PEERS[name] for name in options.peers])
    data: dict[str, Any] = {
        "benchmark": "dispatch",
        "machine": machine_description(),
        "arguments": arguments_for_json(options),
        "peers": {
            name: {"letter": PEERS[name].letter, "title": PEERS[name].title}
            for name in options.peers
        },
        "rounds": [],
    }
    steps = sum(len(options.peers) + 2 * len(positions(n)) for n in options.branches)
    with (
        # The peers share compiled kernels: all that differs is what calls them.
        fresh_folder("dispatch-benchmark-") as folder,
        progress(steps) as reporter,
    ):
        for branches in options.branches:
            one = Round(options, branches, pythons, folder, reporter)
            data["rounds"].append(one.run())
            if options.json:
                write_json(options.json, data)
    return data


def main() -> int:
    """Run the benchmark; 1 when it could not be run."""
    options = parse_arguments()
    try:
        data = run(options)
    except (SetupError, RuntimeError) as error:
        print(f"benchmarks/dispatch.py: {error}", file=sys.stderr)
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
