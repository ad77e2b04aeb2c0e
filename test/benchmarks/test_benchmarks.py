"""Tests of the dispatch and the tuning benchmark: what they measure, not how fast.

What needs a compile runs the benchmarks for real, at their smallest.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
sys.path.append(str(BENCHMARKS))

import dispatch  # noqa: E402
import reporting  # noqa: E402
import tuning  # noqa: E402
from dispatch_goals import dispatch_goals  # noqa: E402
from failures import describe, failure  # noqa: E402
from peers import PEERS  # noqa: E402
from processes import fresh_folder, worker_variables, WorkerProcess  # noqa: E402
from tuning_report import Results, tuning_goals  # noqa: E402
from workload import if_chain, positions, size_for, split_points  # noqa: E402


class Shaped:
    """As much of a tensor as choosing a branch takes."""

    def __init__(self, size: int) -> None:
        self.shape = (4, size)


def run_benchmark(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A benchmark from another folder than the repository's."""
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *arguments],
        cwd=tempfile.gettempdir(),
        capture_output=True,
        text=True,
    )


def summed_up(value: float) -> dict[str, Any]:
    """A figure that came out the same in three repeats."""
    return reporting.summary([value] * 3)


class StatisticsTest(unittest.TestCase):
    def test_every_function_comes_first_in_turn(self) -> None:
        order: list[str] = []

        def measure(name: str) -> float:
            order.append(name)
            return float(len(order))

        measured = reporting.interleaved(
            {name: partial(measure, name) for name in "abc"}, 3
        )
        self.assertEqual("".join(order), "abcbcacab")
        self.assertEqual(measured["a"], [1.0, 6.0, 8.0])

    def test_summary(self) -> None:
        self.assertEqual(
            reporting.summary([4.0, 1.0, 2.0, 3.0, 5.0]),
            {
                "median": 3.0,
                "lower_quartile": 2.0,
                "upper_quartile": 4.0,
                "repeats": [4.0, 1.0, 2.0, 3.0, 5.0],
            },
        )
        self.assertEqual(reporting.quartiles([7.0]), (7.0, 7.0))

    def test_ratios_are_of_the_same_repeat(self) -> None:
        self.assertEqual(reporting.paired_ratios([2.0, 9.0], [1.0, 3.0]), [2.0, 3.0])
        self.assertAlmostEqual(reporting.geometric_mean([0.5, 8.0]), 2.0)


class OutputTest(unittest.TestCase):
    def test_a_failed_write_leaves_what_was_there(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "figures.json")
            reporting.write_json(path, {"a": 1})
            with self.assertRaises(ValueError):
                reporting.write_json(path, {"a": math.nan})
            self.assertEqual(json.loads(path.read_text()), {"a": 1})
            self.assertEqual([*Path(folder).iterdir()], [path])

    def test_machine(self) -> None:
        machine = reporting.machine_description()
        self.assertLessEqual({"processor", "cores", "python", "torch"}, {*machine})
        self.assertIn(machine["torch"], reporting.machine_line(machine))

    def test_no_path_goes_into_the_arguments(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            options = tuning.parse_arguments(["--json", f"{folder}/x.json"])
        kept = reporting.arguments_for_json(options)
        self.assertNotIn("json", kept)
        self.assertEqual(kept["repeats"], options.repeats)


class ArgumentTest(unittest.TestCase):
    def assert_refused(
        self, parse: Callable[[list[str]], Any], arguments: list[str], words: str
    ) -> None:
        """The error names the argument, and nothing was begun."""
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), self.assertRaises(SystemExit) as end:
            parse(arguments)
        self.assertEqual(end.exception.code, 2)
        self.assertIn(words, errors.getvalue())

    def test_bad_arguments(self) -> None:
        for parse in (dispatch.parse_arguments, tuning.parse_arguments):
            for arguments, words in (
                (["--repeats", "0"], "argument --repeats: must be at least 1, got 0"),
                (["--repeats", "few"], "--repeats: 'few' is not a whole number"),
                (["--json", "figures.txt"], "--json: 'figures.txt' does not end in"),
                (["--plot", "no/such/x.png"], "--plot: there is no folder 'no/such'"),
            ):
                with self.subTest(parse=parse.__module__, arguments=arguments):
                    self.assert_refused(parse, arguments, words)

    def test_bad_arguments_of_dispatch(self) -> None:
        for arguments, words in (
            (["--branches", "0"], "argument --branches: must be at least 1, got 0"),
            (["--branches", "5000"], "argument --branches: must be at most 1024"),
            (["--peers", "nobody"], "argument --peers: invalid choice: 'nobody'"),
            (["--rows", "66"], "argument --rows: 66 is also a size of the other"),
            (["--rows", "3"], "argument --rows: 3 must be more than --small-rows, 4"),
            (["--milliseconds", "0"], "argument --milliseconds: must be at least 1"),
        ):
            with self.subTest(arguments=arguments):
                self.assert_refused(dispatch.parse_arguments, arguments, words)

    def test_the_reference_is_always_measured(self) -> None:
        options = dispatch.parse_arguments(["--peers", "ours"])
        self.assertEqual(options.peers, ["plain", "ours"])

    def test_scripts_answer_from_another_folder(self) -> None:
        for name in ("dispatch.py", "tuning.py"):
            with self.subTest(name=name):
                result = run_benchmark(name, "--help")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertIn("--plot", result.stdout)


class WorkloadTest(unittest.TestCase):
    def test_each_branch_has_a_size_in_its_range(self) -> None:
        for branches in (1, 2, 16):
            chain = if_chain(
                [partial(lambda i, x, weight: i, i) for i in range(branches)]
            )
            self.assertEqual(len(split_points(branches)), branches - 1)
            ran: list[Any] = [
                chain(Shaped(size_for(i)), None)  # type: ignore[arg-type]
                for i in range(branches)
            ]
            self.assertEqual(ran, [*range(branches)])

    def test_positions(self) -> None:
        self.assertEqual(positions(1), {"first": 0})
        self.assertEqual(positions(2), {"first": 0, "last": 1})
        self.assertEqual(positions(16), {"first": 0, "middle": 8, "last": 15})

    def test_expected_graphs(self) -> None:
        expected = {name: PEERS[name].expected_graphs(16, 3) for name in PEERS}
        self.assertEqual(expected["ours"], 1)
        self.assertEqual(expected["plain"], 3)
        self.assertEqual(expected["python_if"], 16)
        self.assertEqual(expected["recompiling"], 8)
        self.assertEqual(expected["eager"], 0)


class FailureTest(unittest.TestCase):
    def test_the_first_cause_is_named(self) -> None:
        try:
            try:
                raise RecursionError("too deep")
            except RecursionError as cause:
                raise RuntimeError("while compiling") from cause
        except RuntimeError as error:
            found = describe(error)["failure"]
        self.assertEqual(found, {"error": "RecursionError", "message": "too deep"})

    def test_a_cause_that_is_only_in_the_message(self) -> None:
        found = describe(RuntimeError("LoweringException: KeyError: 'buf1'\nmore"))
        self.assertEqual(found["failure"], {"error": "KeyError", "message": "'buf1'"})

    def test_no_path_of_the_machine(self) -> None:
        found = failure("OSError", "cannot open /some/where/file.py")["failure"]
        self.assertEqual(found["message"], "cannot open file.py")


class WorkerTest(unittest.TestCase):
    def start(self, folder: Path, script: str) -> WorkerProcess:
        worker = WorkerProcess(
            Path(sys.executable), script, worker_variables(folder), folder / "log"
        )
        self.addCleanup(worker.end)
        return worker

    def test_a_worker_that_takes_too_long(self) -> None:
        with fresh_folder("worker-test-") as folder:
            worker = self.start(folder, "worker.py")
            answer = worker.ask({"action": "time"}, 0.01)
        self.assertEqual(
            answer["failure"],
            {"error": "timeout", "message": "no answer after 0.01 seconds"},
        )

    def test_a_worker_that_dies(self) -> None:
        with fresh_folder("worker-test-") as folder:
            answer = self.start(folder, "no_such_worker.py").ask({}, 60)
        self.assertEqual(answer["failure"]["error"], "died")
        self.assertIn("no_such_worker.py", answer["details"])

    @pytest.mark.slow
    def test_a_request_that_fails_is_answered(self) -> None:
        with fresh_folder("worker-test-") as folder:
            worker = self.start(folder, "worker.py")
            for _ in range(2):
                answer = worker.ask({"action": "nothing"}, 120)
                self.assertEqual(answer["failure"]["error"], "KeyError")


class GoalTest(unittest.TestCase):
    def dispatch_data(self, first: float, last: float) -> dict[str, Any]:
        """A run of 64 branches in which the base fails and ours has these ratios."""
        return {
            "rounds": [
                {
                    "branches": 64,
                    "peers": {
                        "ours": {"graphs": 1},
                        "base": {"failure": {"error": "RecursionError"}},
                        "python_if": {"graphs": 64},
                    },
                    "timings": [
                        {
                            "input": "small",
                            "position": position,
                            "peers": {
                                "ours": {"ratio": summed_up(ratio)},
                                "python_if": {"ratio_of_ours": summed_up(ratio / 1.06)},
                            },
                        }
                        for position, ratio in (("first", first), ("last", last))
                    ],
                }
            ]
        }

    def test_dispatch_goals(self) -> None:
        goals = dispatch_goals(self.dispatch_data(1.04, 1.08))
        self.assertEqual(
            [(goal.goal.partition(": ")[2], goal.met) for goal in goals],
            [
                ("ours at most 1.10x (a)", True),
                ("ours' first and last branch the same (quartiles overlap)", False),
                ("ours faster than (c)", True),
                ("ours not slower than (e), within quartiles", False),
            ],
        )
        self.assertEqual(goals[0].measured, "1.080x (last)")
        self.assertEqual(goals[2].measured, "(c) RecursionError")

    def record(self, count: int, **figures: Any) -> dict[str, Any]:
        record = {"peer": "ours", "action": "tuned", "count": count, "cache": "cold"}
        return {**record, **figures}

    def test_tuning_goals(self) -> None:
        def figures(tuning_seconds: float, modules: int) -> dict[str, Any]:
            return {
                "seconds": summed_up(tuning_seconds + 1),
                "tuning_seconds": summed_up(tuning_seconds),
                "modules": [modules],
                "counters": [{}],
            }

        results = [
            self.record(4, **figures(2.0, 4)),
            self.record(64, **figures(2.5, 4)),
            {
                **self.record(64, failure={"error": "timeout"}),
                "peer": "base",
            },
        ]
        goals = {
            goal.goal: goal.met
            for goal in tuning_goals(Results({"candidates": 3, "results": results}))
        }
        self.assertEqual([*goals.values()], [True, True, True])
        results[1] = self.record(64, **figures(3.5, 64 * 3 + 1))
        goals = {
            goal.goal: goal.met
            for goal in tuning_goals(Results({"candidates": 3, "results": results}))
        }
        self.assertEqual([*goals.values()], [False, False, True])


class RunTest(unittest.TestCase):
    """The benchmarks themselves, at their smallest and without the second torch."""

    def run_for_json(self, name: str, *arguments: str) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            json_file, plot = Path(folder, "x.json"), Path(folder, "x.png")
            output = ("--json", str(json_file), "--plot", str(plot))
            result = run_benchmark(name, *arguments, "--repeats", "1", *output)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(result.stderr, "")
            self.assertIn("Goals", result.stdout)
            self.assertEqual(plot.read_bytes()[:4], b"\x89PNG")
            text = json_file.read_text()
        self.assertNotIn(str(ROOT), text)
        return json.loads(text)

    @pytest.mark.slow
    def test_dispatch(self) -> None:
        peers = ["plain", "ours", "python_if", "eager"]
        data = self.run_for_json(
            "dispatch.py", "--branches", "2", "--milliseconds", "1", "--peers", *peers
        )
        (one,) = data["rounds"]
        for name in peers:
            answer = one["peers"][name]
            self.assertEqual(answer["graphs"], answer["expected_graphs"], name)
        self.assertEqual(
            [(t["input"], t["position"], t["size"]) for t in one["timings"]],
            [
                (input_name, position, size)
                for input_name in ("small", "large")
                for position, size in (("first", 64), ("last", 66))
            ],
        )
        for timing in one["timings"]:
            self.assertEqual([*timing["peers"]], peers)
            # The reference against itself: noise, but no factor.
            self.assertLess(timing["peers"]["plain"]["ratio"]["median"], 3.0)

    @pytest.mark.slow
    def test_tuning(self) -> None:
        data = self.run_for_json(
            "tuning.py", "--no-base", "--ranges", "2", "--given-branches", "2"
        )
        self.assertEqual(
            [(r["action"], r["cache"]) for r in data["results"]],
            [("tuned", "cold"), ("tuned", "warm"), ("given", "cold")],
        )
        for record in data["results"]:
            self.assertNotIn("failure", record)
        # Every candidate once, not once a range, and the graph.
        self.assertIn(data["results"][0]["modules"][0], (4, 5))
        self.assertEqual(data["results"][2]["modules"], [1])


if __name__ == "__main__":
    unittest.main()
