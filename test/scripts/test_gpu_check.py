"""scripts/gpu_check: its steps, its time, its page.

But for the slow test the installed torch is a small tree, and the worker a script that
answers as a test says.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from overlay_fixtures import (
    REPOSITORY,
    TAG,
    OverlayTestCase,
    make_wheel,
    torch_contents,
)

from gpu_check_tool import commands, steps, workers
from gpu_check_tool.in_worker import stand_ins
from gpu_check_tool.in_worker.checks import outcome
from gpu_check_tool.page import page
from gpu_check_tool.steps import IMPORTED
from setup_tool.linked_copy import copy_installed

HERE = Path(__file__).resolve().parent
MACHINE = {
    "processor": "Some processor",
    "cores": 16,
    "python": "3.12.3",
    "torch": "9.9.0",
    "triton": "3.6.0",
}
WORKER = """\
import faulthandler, json, sys, time
behaviour = json.loads({behaviour!r})
seconds, requests = json.load(sys.stdin)
for request in requests:
    key = request.get("model") or request.get("name") or request["action"]
    what = behaviour.get(key)
    if what == "die":
        sys.exit("out of memory")
    if what == "hang":
        time.sleep(100)
    if what == "timeout":
        faulthandler.dump_traceback_later(0.2, exit=True)
        time.sleep(100)
    answer = {{"seconds": 1.0}}
    if what == "fail":
        failure = {{"error": "AssertionError", "message": "1 is not 2"}}
        answer |= {{"failure": failure, "details": "a trace"}}
    elif request["action"] == "machine":
        answer |= {machine!r}
    elif request["action"] == "tests":
        answer["tests"] = ["SomeTest.test_a", "SomeTest.test_b"]
    elif what == "skip":
        answer |= {{"status": "skipped", "words": "no reason"}}
    print(json.dumps(answer), flush=True)
"""


class GpuCheckTestCase(OverlayTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.out = self.folder / "out"
        self.enterContext(mock.patch.object(steps, "find_torch", lambda: self.tree))
        # Of the command itself, not of the process that the tests run in.
        self.enterContext(mock.patch.object(commands.signal, "signal"))

    def run_command(self, *arguments: str, **behaviour: str) -> tuple[int, str]:
        """The exit status and what was printed; workers behave as told, by model or
        name of a test."""
        worker = self.folder / "worker.py"
        text = WORKER.format(behaviour=json.dumps(behaviour), machine=MACHINE)
        worker.write_text(text)
        printed = io.StringIO()
        with (
            mock.patch.object(workers, "WORKER", worker),
            mock.patch.object(steps, "PATCH_SET", self.patch_set),
            contextlib.redirect_stdout(printed),
        ):
            status = commands.main(["--out", str(self.out), *arguments])
        return status, printed.getvalue()

    def data(self) -> dict[str, Any]:
        return json.loads((self.out / "gpu_check.json").read_text())

    def page(self) -> str:
        return (self.out / "gpu_check.md").read_text()

    def step(self, name: str) -> dict[str, Any]:
        return next(step for step in self.data()["steps"] if step["name"] == name)

    def statuses(self, name: str) -> dict[str, str]:
        return {c["name"]: c["status"] for c in self.step(name)["checks"]}


class TestRun(GpuCheckTestCase):
    def test_all_is_well(self) -> None:
        status, printed = self.run_command("--steps", "rows", "tests")
        self.assertEqual(status, 0, printed)
        data = self.data()
        self.assertEqual(data["status"], "passed")
        self.assertEqual(data["base"], TAG)
        self.assertEqual(data["machine"], MACHINE)
        # Paths of the machine have no place in a file that others read.
        self.assertNotIn("gpu-check-", json.dumps(data))
        self.assertEqual(len(self.statuses("rows")), 22)
        self.assertEqual({*self.statuses("rows").values()}, {"passed"})
        self.assert_pristine()
        self.assertIn("| `cudagraph_trees` | ✓ |", self.page())
        self.assertIn("tests 1 of 12: test_cond_codegen SomeTest.test_a", printed)
        self.assertIn("passed: gpu_check.json and gpu_check.md are written", printed)

    def test_a_failed_check_stops_no_other(self) -> None:
        status, printed = self.run_command(
            *("--steps", "rows", "tests"),
            **{"two": "fail", "three": "die", "five": "skip", "apart": "timeout"},
        )
        self.assertEqual(status, 1)
        found = self.statuses("rows")
        self.assertEqual(found["cudagraph_trees two"], "failed")
        self.assertEqual(found["cudagraph_trees three"], "failed")
        self.assertEqual(found["cudagraph_trees five"], "skipped")
        self.assertEqual(found["cudagraph_trees two_ops"], "passed")
        self.assertEqual(self.step("tests")["status"], "passed")
        self.assertIn(
            "* **device_context two** failed: AssertionError: 1 is not 2", self.page()
        )
        self.assertIn(
            "* **device_context three** failed: died: with exit status 1", self.page()
        )
        self.assertIn(
            "**cudagraph_trees apart** failed: timeout: no answer after 60", self.page()
        )
        self.assertIn("* 2 skipped: no reason", self.page())
        self.assertIn("device_context two failed", printed)

    def test_a_step_that_hangs_leaves_the_others_their_time(self) -> None:
        status, _ = self.run_command(
            "--seconds", "12", "--steps", "rows", "tests", three="hang"
        )
        self.assertEqual(status, 1)
        rows = self.step("rows")
        self.assertEqual(rows["status"], "out of time")
        found = self.statuses("rows")
        self.assertEqual(found["device_context two"], "passed")
        self.assertEqual(found["device_context three"], "not reached")
        self.assertEqual(self.step("tests")["status"], "passed")
        self.assertIn("Out of time: its time was up.", self.page())
        self.assertLess(self.data()["took"], 12)

    def test_torch_of_no_known_base(self) -> None:
        make_wheel(self.tree, commit="2" * 40)
        status, printed = self.run_command()
        self.assertEqual(status, 1)
        self.assertIn(
            "it is of commit 2222222222222222222222222222222222222222, which is not a "
            "known base. Known: v9.9.0",
            self.page(),
        )
        self.assertEqual(self.step("dispatch")["status"], "not run")
        self.assertIn("Not run: no torch to check.", self.page())
        self.assertNotIn(str(self.folder), self.page())

    def test_an_edited_torch(self) -> None:
        (self.tree / "torch/_inductor/ir.py").write_text("edited\n")
        status, _ = self.run_command()
        self.assertEqual(status, 1)
        self.assertIn("torch/_inductor/ir.py", self.page())
        self.assertNotIn(str(self.folder), self.page())

    def test_no_gpu(self) -> None:
        status, _ = self.run_command("--steps", "rows", machine="fail")
        self.assertEqual(status, 1)
        self.assertEqual(self.statuses("overlay")["import"], "failed")
        self.assertEqual(self.step("rows")["status"], "not run")

    def test_what_needs_a_gpu_is_named(self) -> None:
        status, _ = self.run_command("--device", "cpu", "--steps", "rows")
        self.assertEqual(status, 0)
        self.assertEqual(
            {name.split()[0] for name in self.statuses("rows")}, {"graph_partition"}
        )
        self.assertIn("device_context, cudagraph_trees: need a GPU", self.page())
        self.assertIn("**This run was on a CPU.**", self.page())

    @pytest.mark.slow
    def test_interrupted(self) -> None:
        """What waits for an answer, one process or several, waits no longer."""
        for cores in (2, 16):
            main = threading.main_thread().ident
            interrupt = threading.Timer(9, signal.pthread_kill, (main, signal.SIGINT))
            interrupt.start()
            self.addCleanup(interrupt.cancel)
            with (
                self.subTest(cores=cores),
                mock.patch.object(os, "sched_getaffinity", lambda _: range(cores)),
            ):
                status, _ = self.run_command(three="hang", apart="hang")
                self.assertEqual(status, 130)
                self.assertLess(self.data()["took"], 40)
                steps = {s["name"]: s["status"] for s in self.data()["steps"]}
                self.assertEqual(steps, {"overlay": "passed", "rows": "interrupted"})
                self.assertEqual(self.statuses("rows")["device_context two"], "passed")

    def test_several_at_a_time_out_of_time(self) -> None:
        with mock.patch.object(os, "sched_getaffinity", lambda _: range(16)):
            status, _ = self.run_command(
                *("--seconds", "9", "--steps", "rows"), three="hang", apart="hang"
            )
        self.assertEqual(status, 1)
        found = self.statuses("rows")
        self.assertEqual(self.step("rows")["status"], "out of time")
        hung = [name for name in found if name.split()[1] in ("three", "apart")]
        self.assertEqual({found[name] for name in hung}, {"not reached"})


class TestUsage(GpuCheckTestCase):
    def test_what_is_wrong_is_named(self) -> None:
        self.out.write_text("a file")
        for arguments, message in (
            (["--seconds", "0"], "argument --seconds: must be at least 1, got 0"),
            (["--steps", "all"], "argument --steps: invalid choice: 'all'"),
            (["--models", "none"], "argument --models: invalid choice: 'none'"),
            (["--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
            ([], "argument --out:"),
        ):
            with self.subTest(arguments):
                errors = io.StringIO()
                with (
                    contextlib.redirect_stderr(errors),
                    self.assertRaises(SystemExit) as exit_,
                ):
                    self.run_command(*arguments)
                self.assertEqual(exit_.exception.code, 2)
                self.assertIn(message, errors.getvalue())

    def test_the_script(self) -> None:
        script = str(REPOSITORY / "scripts" / "gpu_check")
        result = subprocess.run(
            [sys.executable, script], capture_output=True, text=True
        )
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn("required: --out", result.stderr)


class TestDeadlines(unittest.TestCase):
    def test_each_step_has_its_part(self) -> None:
        found = steps.deadlines(290, ["overlay", "rows", "tuning"])
        self.assertEqual(found, {"overlay": 50, "rows": 150, "tuning": 290})


class TestOutcome(unittest.TestCase):
    def outcome_of(self, body: Callable[[unittest.TestCase], object]) -> dict[str, Any]:
        return outcome(
            unittest.TestSuite([unittest.FunctionTestCase(lambda: body(self))])
        )

    def test_how_a_test_ends(self) -> None:
        def fails(case: unittest.TestCase) -> None:
            case.assertEqual(1, 2, "as was\nto be shown")

        def raises(case: unittest.TestCase) -> None:
            try:
                int("x")
            except ValueError as error:
                raise RuntimeError("around it") from error

        self.assertEqual(self.outcome_of(lambda _: None), {"status": "passed"})
        skipped = self.outcome_of(lambda case: case.skipTest("no GPU"))
        self.assertEqual(skipped, {"status": "skipped", "words": "no GPU"})
        failed = self.outcome_of(fails)
        self.assertEqual(
            failed["failure"],
            {"error": "AssertionError", "message": "1 != 2 : as was"},
        )
        self.assertIn("to be shown", failed["details"])
        self.assertEqual(
            self.outcome_of(raises)["failure"],
            {"error": "ValueError", "message": int_error("x")},
        )


class TestStandIns(unittest.TestCase):
    def test_compares(self) -> None:
        case = stand_ins.ExpectTestCase()
        case.assertExpectedInline("a\nb\n", "a\nb\n")
        with self.assertRaisesRegex(AssertionError, r"- a\n\+ b"):
            case.assertExpectedInline("b", "a")
        case.assertExpectedRaisesInline(ValueError, int, int_error("x"), "x")
        with self.assertRaises(AssertionError):
            case.assertExpectedRaisesInline(ValueError, int, "another", "x")

    def test_only_for_what_is_missing(self) -> None:
        with mock.patch.dict(sys.modules, {"expecttest": None}):
            self.assertEqual(stand_ins.missing(), ["expecttest"])
            stand_ins.provide()
            self.assertEqual(stand_ins.missing(), [])
            self.assertIs(sys.modules["pytest"], pytest)
            import expecttest

            self.assertIs(expecttest.TestCase, stand_ins.ExpectTestCase)


def int_error(text: str) -> str:
    """What int() says of a text that is no number."""
    return f"invalid literal for int() with base 10: {text!r}"


class TestPage(unittest.TestCase):
    maxDiff = None

    def test_of_a_fixed_run(self) -> None:
        found = json.loads((HERE / "gpu_check_fixed.json").read_text())
        expected = (HERE / "gpu_check_fixed.md").read_text()
        self.assertMultiLineEqual(page(found), expected)


class TestLinkedCopy(GpuCheckTestCase):
    def test_of_another_file_system(self) -> None:
        """What cannot be a hard link is a symbolic one; Python files are copies."""
        copy = self.folder / "copy"
        with mock.patch.object(os, "link", side_effect=OSError("another device")):
            copy_installed(self.tree, copy)
        self.assertEqual(torch_contents(copy), torch_contents(self.tree))
        links = {x.name for x in copy.rglob("*") if x.is_symlink()}
        self.assertEqual(links, {"tool.sh"})
        (copy / "torch/_inductor/ir.py").write_text("edited\n")
        self.assert_pristine()


ALL_THAT_WORKERS_IMPORT = """\
import sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))
from gpu_check_tool.in_worker import stand_ins
assert stand_ins.missing() == ["expecttest", "pytest"], stand_ins.missing()
stand_ins.provide()
from gpu_check_tool.in_worker import timing
from gpu_check_tool.in_worker.checks import tests
from gpu_check_tool.steps import CPU_ROWS, GPU_ROWS, MODELS, OPERATORS, TESTS
from _backend_rows_memory import ROWS
from _dispatched_models import MODEL_BY_NAME
assert [*MODEL_BY_NAME] == MODELS
assert [timing.make_operator(name, "cpu").name for name in OPERATORS] == OPERATORS
rows = {row.name: row.vehicle.value for row in ROWS}
assert tuple(n for n in rows if rows[n] == "GPU") == GPU_ROWS, rows
assert {rows[n] for n in CPU_ROWS} == {"CPU"}, rows
for module, classes in TESTS.items():
    found = tests(module, classes)["tests"]
    assert {*classes} <= {name.partition(".")[0] for name in found}, (module, found)
    assert found, module
"""


class TestOnThisMachine(unittest.TestCase):
    @pytest.mark.slow
    def test_workers_need_only_torch(self) -> None:
        """Neither do the tests that they run; names of rows, models, tests are real."""
        paths = [str(REPOSITORY / name) for name in IMPORTED]
        result = subprocess.run(
            [sys.executable, "-c", ALL_THAT_WORKERS_IMPORT]
            + ["expecttest", "pytest", "hypothesis", "rich", "matplotlib"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
        )
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_a_check_that_takes_too_long_ends_its_worker(self) -> None:
        paths = [str(REPOSITORY / name) for name in IMPORTED]
        result = subprocess.run(
            [sys.executable, str(workers.WORKER)],
            input=json.dumps([0.1, [{"action": "machine", "device": "cpu"}]]),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
        )
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertIn("Timeout (0:00:00.1", result.stderr)

    @pytest.mark.slow
    def test_what_a_cpu_allows(self) -> None:
        """Tuning and dispatch of one operator, and a cell of the matrix, for real."""
        with contextlib.ExitStack() as stack:
            out = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            status = commands.main(
                ["--device", "cpu", "--out", str(out), "--seconds", "900"]
                + ["--steps", "rows", "tuning", "dispatch"]
                + ["--operators", "rms_norm", "--models", "two"]
            )
            data = json.loads((out / "gpu_check.json").read_text())
        self.assertEqual(status, 0, data)
        _, _, tuning, dispatch = data["steps"]
        tuned = tuning["checks"][0]["answer"]
        self.assertEqual(len(tuned["ranges"]), len(tuned["winners"]))
        sizes = dispatch["checks"][0]["answer"]["sizes"]
        self.assertEqual([one["size"] for one in sizes], [2, 6, 24, 96])
        for one in sizes:
            self.assertIn("dispatch", one["microseconds"])
            self.assertGreater(one["ratio"], 0)


if __name__ == "__main__":
    unittest.main()
