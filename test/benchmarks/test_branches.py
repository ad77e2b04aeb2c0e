"""Tests of benchmarks/branches.py and layers.py: what they compare, not how fast."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import branches  # noqa: E402
from branches import BRANCHES  # noqa: E402
from layers import LAYERS  # noqa: E402


def data(benchmark: branches.Benchmark, ratio: float) -> dict[str, Any]:
    """Figures in which the dispatch takes ``ratio`` times what its peer does."""
    figures = {"ours": [2.0 * ratio] * 3, "peer": [2.0] * 3}
    calls = [title.format("first") for title, _ in benchmark.calls.values()]
    return {
        "machine": branches.machine_description(),
        "compile_seconds": {one.title: figures for one in benchmark.compiles},
        "call_microseconds": dict.fromkeys(calls, figures),
    }


class BranchesTest(unittest.TestCase):
    def test_wrong_arguments(self) -> None:
        for arguments in (["--repeats", "0"], ["--json", "x.txt"]):
            errors = io.StringIO()
            with self.subTest(arguments), contextlib.redirect_stderr(errors):
                with self.assertRaises(SystemExit) as end:
                    branches.parse_arguments(BRANCHES, arguments)
                self.assertEqual(end.exception.code, 2)
                self.assertIn(f"argument {arguments[0]}", errors.getvalue())

    def test_exit_status_tells_of_a_missed_goal(self) -> None:
        for benchmark, ratio, misses in (
            (BRANCHES, 1.01, 0),
            (BRANCHES, 1.25, 2),
            (LAYERS, 1.01, 0),
            (LAYERS, 1.25, 1),
        ):
            printed = io.StringIO()
            with (
                self.subTest(benchmark=benchmark.name, ratio=ratio),
                mock.patch.object(branches, "run", return_value=data(benchmark, ratio)),
                mock.patch.object(sys, "argv", ["branches.py"]),
                contextlib.redirect_stdout(printed),
            ):
                self.assertEqual(branches.main(benchmark), 1 if misses else 0)
            self.assertEqual(printed.getvalue().count("miss"), misses)

    def test_a_dispatch_and_its_peer_take_turns(self) -> None:
        asked = []

        def answer(_: Path, *arguments: str) -> Any:
            asked.append(arguments)
            return 2.0 if arguments[0] == "compile" else {"4": {"ours": 1, "peer": 2}}

        options = branches.parse_arguments(BRANCHES, ["--repeats", "2"])
        with (
            mock.patch.object(branches, "ask_worker", answer),
            mock.patch.object(branches, "patched_python", lambda: Path("python")),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            found = branches.run(BRANCHES, options)
        one = [
            ("compile", kind, str(count))
            for compiled in BRANCHES.compiles
            for kind, count in (compiled.ours, compiled.peer)
        ]
        one += [("calls", kind) for kind in BRANCHES.calls]
        self.assertEqual(asked, one * 2)
        self.assertEqual(
            found["call_microseconds"]["frozen Linear, 4"],
            {"ours": [1, 1], "peer": [2, 2]},
        )
        json.dumps(found["compile_seconds"])


if __name__ == "__main__":
    unittest.main()
