"""Tests of benchmarks/plain_compile.py: what it takes and compares, not how fast."""

from __future__ import annotations

import contextlib
import io
import sys
import unittest
from pathlib import Path
from unittest import mock

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import plain_compile  # noqa: E402


def figures(pristine: float, patched: float) -> dict[str, dict[str, list[float]]]:
    found = {"pristine": [pristine] * 3, "patched": [patched] * 3}
    return dict.fromkeys(plain_compile.FIGURES, found)


class PlainCompileTest(unittest.TestCase):
    def test_wrong_arguments(self) -> None:
        for arguments in (["--layers", "0"], ["--repeats", "0"], ["--json", "x.txt"]):
            errors = io.StringIO()
            with self.subTest(arguments), contextlib.redirect_stderr(errors):
                with self.assertRaises(SystemExit) as end:
                    plain_compile.parse_arguments(arguments)
                self.assertEqual(end.exception.code, 2)
                self.assertIn(f"argument {arguments[0]}", errors.getvalue())

    def test_exit_status_tells_of_a_missed_goal(self) -> None:
        for patched, status in ((10.05, 0), (10.2, 1)):
            data = {
                "machine": plain_compile.machine_description(),
                "arguments": {"layers": 12},
                "figures": figures(10.0, patched),
            }
            with (
                self.subTest(patched),
                mock.patch.object(plain_compile, "run", return_value=data),
                mock.patch.object(sys, "argv", ["plain_compile.py"]),
                contextlib.redirect_stdout(io.StringIO()),
            ):
                self.assertEqual(plain_compile.main(), status)


if __name__ == "__main__":
    unittest.main()
