"""Tests of benchmarks/fusion.py: what it counts and compares, not how fast it is."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch._inductor.kernel import custom_op

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import fusion  # noqa: E402
from dispatch_peers import force_winners  # noqa: E402
from fusion_models import make_implementation, make_inputs, with_op  # noqa: E402
from fusion_peers import HIDDEN, Model, MODELS, rows_for  # noqa: E402
from fusion_report import counted_goals, timed_goals  # noqa: E402
from kernel_record import KERNEL, runs_of  # noqa: E402
from reporting import summary  # noqa: E402

ROWS = 3


class ModelsTest(unittest.TestCase):
    def test_implementations_compute_the_same_bits(self) -> None:
        for model in MODELS.values():
            inputs = make_inputs(model, ROWS)
            expected = with_op(model, make_implementation(model, 0))(*inputs)
            for branch in (1, 7):
                with self.subTest(model.name, branch=branch):
                    op = make_implementation(model, branch)
                    outputs = with_op(model, op)(*inputs)
                    torch.testing.assert_close(outputs, expected, rtol=0, atol=0)

    def test_the_base_takes_the_same_winners_for_every_call(self) -> None:
        winners = [make_implementation(MODELS["two_ops"], n) for n in range(2)]
        with mock.patch.object(custom_op, "autotune_custom_op"):
            force_winners(winners)
            ask: Any = custom_op.autotune_custom_op
            asked = [ask()[1] for _ in range(4)]
        self.assertEqual([one.decomposition for one in asked], winners * 2)

    def test_rows_are_no_other_size(self) -> None:
        self.assertNotIn(HIDDEN, [rows_for(branch) for branch in range(64)])


class KernelRecordTest(unittest.TestCase):
    def test_kernels_and_bytes(self) -> None:
        model: Model = MODELS["bias_activation"]
        function = torch.compile(with_op(model, make_implementation(model, 0)))
        inputs = make_inputs(model, ROWS)
        function(*inputs)
        for _ in range(2):  # what is wrapped to count is as before afterwards
            runs = runs_of(lambda: function(*inputs))
            # x is read and the result written; so are two vectors.
            self.assertEqual([run.bytes for run in runs], [4 * HIDDEN * (2 * ROWS + 2)])

    def test_what_changes_in_place_moves_twice(self) -> None:
        source = (
            "cpp_fused_add_0 = async_compile.cpp_pybinding(['float*'], r'''\n"
            '#include "prefix.h"\nextern "C"  void  kernel(float* in_out_ptr0,\n'
            "                       const int64_t ks0)\n{}''')\n"
        )
        (found,) = KERNEL.findall(source)
        name, parameters = found
        self.assertEqual(name, "cpp_fused_add_0")
        self.assertEqual(len(parameters.split(",")), 2)
        self.assertIn("in_out_ptr", parameters.split(",")[0])


class GoalsTest(unittest.TestCase):
    def round(self, kernels: int, moved: int, ratios: list[float]) -> dict[str, Any]:
        """Two sizes; at the second one ours runs this."""

        def run(count: int, size: int) -> dict[str, Any]:
            return {"kernels": ["kernel"] * count, "bytes": size}

        return {
            "model": "m",
            "winners": 2,
            "variants": {
                "plain": {"runs": [run(1, 100), run(1, 200)]},
                "ours": {"runs": [run(1, 100), run(kernels, moved)]},
            },
            "timings": [{"variants": {"ours": {"ratio": summary(ratios)}}}],
        }

    def test_counts_have_to_be_equal(self) -> None:
        for kernels, moved, expected in (
            (1, 200, [True, True]),
            (2, 200, [False, True]),
            (1, 300, [True, False]),
            (0, 100, [False, False]),
        ):
            goals = counted_goals(self.round(kernels, moved, [1.0]))
            self.assertEqual([goal.met for goal in goals], expected)

    def test_time_may_be_off_by_the_noise(self) -> None:
        for ratios, expected in (
            ([1.0, 1.0, 1.0], True),
            ([1.0, 1.1, 1.2], True),
            ([1.1, 1.1, 1.2], False),
        ):
            (goal,) = timed_goals(self.round(1, 200, ratios))
            self.assertEqual(goal.met, expected)

    def test_a_failure_of_ours_is_a_miss(self) -> None:
        one = self.round(1, 200, [1.0])
        one["variants"]["ours"] = {"failure": {"error": "SomeError", "message": ""}}
        (goal,) = counted_goals(one)
        self.assertEqual((goal.measured, goal.met), ("SomeError", False))
        self.assertEqual(timed_goals(one), [])


class ArgumentsTest(unittest.TestCase):
    def test_wrong_ones_are_named(self) -> None:
        for arguments in (
            ["--models", "nothing"],
            ["--variants", "nobody"],
            ["--winners", "1"],
            ["--repeats", "0"],
            ["--json", "figures.txt"],
            ["--plot", "no/such/x.png"],
        ):
            errors = io.StringIO()
            with self.subTest(arguments), contextlib.redirect_stderr(errors):
                with self.assertRaises(SystemExit) as end:
                    fusion.parse_arguments(arguments)
                self.assertEqual(end.exception.code, 2)
                self.assertIn(f"argument {arguments[0]}", errors.getvalue())

    def test_quick_gives_way_to_what_is_asked_for(self) -> None:
        options = fusion.parse_arguments(["--quick", "--winners", "3"])
        self.assertEqual(options.winners, [3])
        self.assertEqual(options.repeats, fusion.QUICK_REPEATS)

    def test_the_reference_is_always_measured(self) -> None:
        options = fusion.parse_arguments(["--variants", "ours"])
        self.assertEqual(options.variants, ["plain", "ours"])


@pytest.mark.slow
class RunTest(unittest.TestCase):
    def test_one_model(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            json_file, plot = Path(folder, "figures.json"), Path(folder, "plot.png")
            arguments = ["--quick", "--repeats", "1", "--milliseconds", "1"]
            arguments += ["--models", "bias_activation"]
            arguments += ["--variants", "ours", "unfused"]
            arguments += ["--json", str(json_file), "--picture", str(plot)]
            result = subprocess.run(
                [sys.executable, str(BENCHMARKS / "fusion.py"), *arguments],
                cwd=folder,
                capture_output=True,
                text=True,
            )
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(plot.read_bytes()[:4], b"\x89PNG")
            (one,) = json.loads(json_file.read_text())["rounds"]
        counts = {
            name: [len(run["kernels"]) for run in answer["runs"]]
            for name, answer in one["variants"].items()
        }
        self.assertEqual(counts, {"plain": [1, 1], "ours": [1, 1], "unfused": [3, 3]})
        self.assertEqual(
            [timing["rows"] for timing in one["timings"]], [rows_for(0), rows_for(1)]
        )


if __name__ == "__main__":
    unittest.main()
