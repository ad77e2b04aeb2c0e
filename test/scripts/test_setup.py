"""Tests of scripts/setup, scripts/test and scripts/run.

A real installation takes minutes. Here the commands run for real, in processes of
their own, on a repository in a temporary folder; only `python -m venv` is replaced:
what it makes has a shell script for a Python, which writes down how it was called.
"""

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from setup_tool import interpreter, pins, testing  # noqa: E402
from setup_tool.environment import site_packages_of, STAMP_NAME  # noqa: E402

FAKE_PYTHON = """#!/bin/sh
echo "begin $*" >> "$FAKE_LOG"
case "$*" in
    *"pip install"*) sleep "${FAKE_PIP_SECONDS:-0}"; status=${FAKE_PIP_STATUS:-0} ;;
    *"-m pytest"*) status=${FAKE_PYTEST_STATUS:-0} ;;
    *overlay.py*) echo overlay is on; status=${FAKE_OVERLAY_STATUS:-0} ;;
    *"-c import importlib"*)
        echo 1.x; echo a word >&2; status=${FAKE_IMPORT_STATUS:-0} ;;
esac
case "$*" in
    *--junitxml=*)
        test="<testcase>$FAKE_TEST</testcase>"
        last="<testcase><skipped/></testcase>"
        echo "<s>$test$test$last</s>" > "${*##*--junitxml=}" ;;
esac
echo "end $*" >> "$FAKE_LOG"
exit "${status:-0}"
"""

DRIVER = """
import shutil, sys
sys.path.insert(0, "scripts")
from setup_tool import commands, environment

def make_fake(folder):
    shutil.rmtree(folder)
    (folder / "bin").mkdir(parents=True)
    shutil.copy("fake_python", folder / "bin" / "python")

environment.make_empty = make_fake
sys.exit(commands.main(sys.argv[1], sys.argv[2:]))
"""

SETUP_CFG = """
[options.extras_require]
run =
    torch==1.0
    rich==15.0.0
test =
    pytest==9.2.0
lint =
    mypy==2.4.1
[constraints]
transitive =
    filelock==4.2.11
[mypy]
python_version = 3.11
[base v1.5]
requires =
    torch==1.5
    Rich==15.5.0
transitive =
    filelock==5.0
    cuda_bindings==1.0
"""

PATIENCE = 20.0
"""Seconds until a test that waits for another process gives up."""


class FakeRepository(unittest.TestCase):
    """A repository in a temporary folder, in which the commands can be called."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        # Resolved, as the commands report real paths.
        self.root = Path(folder.name).resolve()
        shutil.copytree(
            ROOT / "scripts" / "setup_tool",
            self.root / "scripts" / "setup_tool",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        (self.root / "scripts" / "main_job.py").write_text("parse_arguments = print\n")
        (self.root / "driver.py").write_text(DRIVER)
        (self.root / "fake_python").write_text(FAKE_PYTHON)
        (self.root / "fake_python").chmod(0o755)
        (self.root / "setup.cfg").write_text(SETUP_CFG)
        (self.root / "test").mkdir()
        self.log = self.root / "log"
        self.environment = self.root / ".venv"

    def start(
        self, *arguments: str, variables: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Starts a command in a process group of its own, as a terminal does."""
        # A compiler that compiles anything, at once.
        changed = {"FAKE_LOG": str(self.log), "CXX": "true", **(variables or {})}
        return subprocess.Popen(
            [sys.executable, "driver.py", *arguments],
            cwd=self.root,
            env={**os.environ, **changed},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def call(
        self,
        *arguments: str,
        expect: int = 0,
        variables: dict[str, str] | None = None,
    ) -> str:
        """Calls a command, checks its exit status and returns what it printed."""
        process = self.start(*arguments, variables=variables)
        output, _ = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, expect, output)
        self.assertNotIn("Traceback", output)
        return output

    def calls(self, word: str, moment: str = "begin") -> list[str]:
        """The logged calls of the environment's Python that contain `word`."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if line.startswith(moment) and word in line]

    def start_setup_and_wait_for_pip(self) -> subprocess.Popen[str]:
        """Starts scripts/setup and returns while its pip is at work."""
        process = self.start("setup", variables={"FAKE_PIP_SECONDS": "1"})
        deadline = time.monotonic() + PATIENCE
        while not self.calls("pip install"):
            self.assertLess(time.monotonic(), deadline, "pip was never called")
            time.sleep(0.02)
        return process

    def leave_a_trace(self) -> Path:
        """Puts a file into the environment that no rebuild lets live."""
        trace = self.environment / "trace"
        trace.touch()
        return trace

    def change_setup_cfg(self, old: str, new: str) -> None:
        """Replaces text in setup.cfg."""
        file = self.root / "setup.cfg"
        self.assertIn(old, file.read_text())
        file.write_text(file.read_text().replace(old, new))


class TestSetup(FakeRepository):
    """What scripts/setup does in each state that it can find."""

    def test_first_call_installs_and_second_does_not(self) -> None:
        first = self.call("setup")
        self.assertIn("made .venv, torch==1.0: there was none", first)
        (install,) = self.calls("pip install")
        for requirement in ("torch==1.0", "rich==15.0.0", "pytest==9.2.0"):
            self.assertIn(requirement, install.split())
        self.assertNotIn("filelock", install)

        second = self.call("setup")
        self.assertIn(".venv is up to date, torch==1.0", second)
        self.assertEqual(len(self.calls("pip")), 1)

    def test_every_call_lays_the_overlay_over_site_packages(self) -> None:
        self.assertIn("overlay is on", self.call("setup"))
        self.call("setup")
        tree = site_packages_of(self.environment)
        script = self.root / "scripts" / "overlay.py"
        expected = f"begin {script} apply --tree {tree}"
        self.assertEqual(self.calls("overlay.py"), [expected] * 2)

    def test_the_package_is_linked_beside_torch(self) -> None:
        (self.root / "range_tuning").mkdir()
        link = site_packages_of(self.environment) / "range_tuning"
        for before in (None, self.root / "elsewhere", self.root / "range_tuning"):
            with self.subTest(before):
                link.unlink(missing_ok=True)
                if before:
                    link.symlink_to(before)
                self.call("setup")
                self.assertEqual(link.readlink(), self.root / "range_tuning")
        link.unlink()
        link.mkdir()
        output = self.call("setup", expect=1)
        self.assertIn("pip uninstall torch-range-dispatch", output)

    def test_an_overlay_that_does_not_apply_is_an_error_with_its_words(self) -> None:
        output = self.call("setup", variables={"FAKE_OVERLAY_STATUS": "3"}, expect=1)
        self.assertIn("could not be laid over", output)
        self.assertIn("overlay is on", output)

    def test_changed_pin_is_installed_into_the_same_environment(self) -> None:
        for old, new in (
            ("rich==15.0.0", "rich==15.0.1"),
            ("filelock==4.2.11", "filelock==4.2.12"),
        ):
            with self.subTest(new):
                self.call("setup")
                trace = self.leave_a_trace()
                before = len(self.calls("pip install"))
                self.change_setup_cfg(old, new)
                output = self.call("setup")
                self.assertIn("pins in setup.cfg changed", output)
                self.assertEqual(len(self.calls("pip install")), before + 1)
                self.assertTrue(trace.exists())

    def test_other_settings_in_setup_cfg_change_nothing(self) -> None:
        self.call("setup")
        self.change_setup_cfg("python_version = 3.11", "python_version = 3.12")
        self.assertIn("up to date", self.call("setup"))

    def test_another_torch_gets_a_new_environment(self) -> None:
        self.call("setup")
        trace = self.leave_a_trace()
        self.change_setup_cfg("torch==1.0", "torch==1.1")
        self.assertIn("torch==1.0 became torch==1.1", self.call("setup"))
        self.assertFalse(trace.exists())

    def test_environment_without_usable_stamp_is_rebuilt(self) -> None:
        stamp = self.environment / STAMP_NAME
        for content in (None, "", "[]", '{"state": "complete"}'):
            with self.subTest(content=content):
                self.call("setup")
                trace = self.leave_a_trace()
                if content is None:
                    stamp.unlink()
                else:
                    stamp.write_text(content)
                self.assertIn("no stamp of a set-up", self.call("setup"))
                self.assertFalse(trace.exists())

    def test_environment_whose_python_is_gone_is_rebuilt(self) -> None:
        self.call("setup")
        (self.environment / "bin" / "python").unlink()
        self.assertIn("its Python is gone", self.call("setup"))

    def test_environment_of_another_python_is_rebuilt(self) -> None:
        self.call("setup")
        stamp = self.environment / STAMP_NAME
        content = {**json.loads(stamp.read_text()), "python": "3.10"}
        stamp.write_text(json.dumps(content))
        self.assertIn("it was made by Python 3.10", self.call("setup"))

    def test_another_base_gets_an_environment_of_its_own(self) -> None:
        self.assertIn("made .venv-v1.5, torch==1.5", self.call("setup", "--base=v1.5"))
        self.assertTrue((self.root / ".venv-v1.5" / STAMP_NAME).exists())
        self.assertFalse(self.environment.exists())
        (call,) = self.calls("pip install")
        self.assertRegex(call, r"pytest==9.2.0 mypy==2.4.1 torch==1.5 Rich==15.5.0$")
        self.assertIn("made .venv, torch==1.0", self.call("setup"))
        for name in ("v1.5", "1.5"):
            self.assertIn("up to date, torch==1.5", self.call("setup", "--base", name))
        bases = pins.read_bases(self.root)
        self.assertEqual([*bases], ["v1.0", "v1.5"])
        constraints = ("filelock==5.0", "cuda_bindings==1.0")
        self.assertEqual(bases["v1.5"].pins.constraints, constraints)

    def test_unknown_base_is_refused_by_name(self) -> None:
        for command in ("setup", "test", "run"):
            output = self.call(command, "--base", "v9", expect=2)
            self.assertIn("--base v9: setup.cfg knows v1.0, v1.5", output)
            self.assertNotIn("machine:", output)
        self.change_setup_cfg("[base v1.5]", "[base v1.6]")
        self.assertIn("[base v1.6] pins torch==1.5", self.call("setup", expect=1))

    def test_failed_pip_is_an_error_and_the_next_call_starts_over(self) -> None:
        output = self.call("setup", variables={"FAKE_PIP_STATUS": "2"}, expect=1)
        self.assertIn("pip install failed with exit status 2", output)
        self.assertEqual(self.calls("overlay.py"), [])
        self.assertIn("an earlier set-up was interrupted", self.call("setup"))
        self.assertIn("up to date", self.call("setup"))

    def test_unpinned_requirement_is_refused_by_name(self) -> None:
        self.change_setup_cfg("rich==15.0.0", "rich>=15")
        self.assertIn("'rich>=15' is not pinned", self.call("setup", expect=1))


class TestInterruptions(FakeRepository):
    """Two set-ups at once, and set-ups that end before they are done."""

    def test_killed_set_up_is_waited_for_and_then_done_again(self) -> None:
        process = self.start_setup_and_wait_for_pip()
        process.kill()
        output = self.call("setup")
        process.communicate()
        self.assertIn("another set-up, or a pip it left", output)
        self.assertIn("an earlier set-up was interrupted", output)
        # One after the other: the pip that was left behind had ended by then.
        lines = self.log.read_text().splitlines()
        moments = [line.split()[0] for line in lines if "pip install" in line]
        self.assertEqual(moments, ["begin", "end", "begin", "end"])
        self.assertIn("up to date", self.call("setup"))

    def test_second_set_up_waits_for_the_first(self) -> None:
        process = self.start_setup_and_wait_for_pip()
        second = self.call("setup")
        first, _ = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 0, first)
        self.assertIn("made .venv", first)
        self.assertIn("another set-up, or a pip it left", second)
        self.assertIn("up to date", second)
        self.assertEqual(len(self.calls("pip install")), 1)

    def test_control_c_ends_with_one_line(self) -> None:
        # Run in the background of a shell, the test ignores Ctrl-C, and so would its
        # child.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)
        process = self.start_setup_and_wait_for_pip()
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 130)
        self.assertNotIn("Traceback", output)
        last_line = output.splitlines()[-1]
        self.assertRegex(last_line, "^scripts/setup: interrupted; call .* again")
        self.assertEqual(self.calls("pip install", moment="end"), [])
        self.assertIn("an earlier set-up was interrupted", self.call("setup"))


class TestMachine(FakeRepository):
    """What the machine lacks is named before anything is made."""

    def machine_with(self, *programs: str) -> str:
        """A folder for PATH that has these programs and no others."""
        folder = self.root / "machine"
        folder.mkdir()
        for program in programs:
            found = shutil.which(program)
            assert found is not None
            (folder / program).symlink_to(found)
        return str(folder)

    def refused(self, **variables: str) -> str:
        """What a set-up prints that these variables must keep from starting."""
        output = self.call("setup", variables=variables, expect=1)
        self.assertFalse(self.environment.exists())
        return output

    def test_no_git(self) -> None:
        self.assertIn("git is needed", self.refused(PATH=self.machine_with()))

    def test_no_compiler(self) -> None:
        output = self.refused(PATH=self.machine_with("git"), CXX="")
        self.assertIn("a C++ compiler is needed (g++ or clang++", output)

    def test_compiler_variable_that_names_nothing(self) -> None:
        output = self.refused(CXX="no-such-compiler")
        self.assertIn("CXX names 'no-such-compiler'", output)

    def test_compiler_that_does_not_compile(self) -> None:
        broken = self.root / "broken"
        broken.write_text("#!/bin/sh\necho disk on fire >&2\nexit 1\n")
        broken.chmod(0o755)
        output = self.refused(CXX=str(broken))
        self.assertIn("cannot compile a two-line program:\ndisk on fire", output)

    def test_another_python_is_told_what_is_needed(self) -> None:
        for name, path in (("none", "/nonexistent"), ("stand-in", str(self.root))):
            with self.subTest(name):
                stand_in = self.root / "python3.11"
                stand_in.write_text("#!/bin/sh\necho 3 7\n")
                stand_in.chmod(0o755)
                with mock.patch.dict(os.environ, PATH=path):
                    with self.assertRaisesRegex(SystemExit, "needs Python 3.11"):
                        interpreter.continue_in_needed_python("setup")

    def test_another_python_hands_over_to_the_needed_one(self) -> None:
        script = self.root / "scripts" / "setup"
        shutil.copy(ROOT / "scripts" / "setup", script)
        (self.root / "python3.11").symlink_to(sys.executable)
        pretend = f"""
import os, runpy, sys
os.environ["PATH"] = {str(self.root)!r} + os.pathsep + os.environ["PATH"]
sys.version_info = (3, 8, 0)
sys.argv = [{str(script)!r}, "--help"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
        command = [sys.executable, "-c", pretend]
        # runpy does not put the script's folder on the path, as a real start does.
        variables = {**os.environ, "PYTHONPATH": str(script.parent)}
        output = subprocess.check_output(command, text=True, env=variables)
        self.assertIn("usage: scripts/setup", output)


class TestCommands(FakeRepository):
    """What scripts/test and scripts/run hand on."""

    def test_arguments_go_to_pytest(self) -> None:
        (self.root / "test" / "x.py").touch()
        workers = f"-n {len(os.sched_getaffinity(0))} --dist worksteal"
        for options, words in (([], "-m not slow "), (["--all"], "")):
            self.call("test", *options, "-k", "some name", "test/x.py")
            call = self.calls("-m pytest")[-1]
            end = f"{workers} {words}-k some name test/x.py"
            self.assertEqual(call, f"begin -m pytest {end}")

    def test_file_that_is_missing_is_a_usage_error_before_set_up(self) -> None:
        for name in ("nofile.py", "test/nofile.py::NoTest::test_it"):
            with self.subTest(name):
                output = self.call("test", name, expect=2)
                file = name.partition("::")[0]
                self.assertIn(f"there is no test file {file}", output)
        self.assertFalse(self.environment.exists())

    def test_status_of_pytest_is_the_status_of_the_command(self) -> None:
        # 5 is pytest's word for: no test ran. It must not pass for success.
        for status in (0, 1, 5):
            with self.subTest(status=status):
                variables = {"FAKE_PYTEST_STATUS": str(status)}
                self.call("test", variables=variables, expect=status)

    def test_torch_does_not_take_our_ci_for_its_own(self) -> None:
        with mock.patch.dict(os.environ, CI="true"):
            with testing.variables_for_tests("g++") as variables:
                self.assertNotIn("CI", variables)
                self.assertEqual(variables["PYTORCH_HYPOTHESIS_PROFILE"], "pytorch_ci")

    def test_main_job_gets_all_arguments_and_the_environment_s_python(self) -> None:
        job = self.root / "scripts" / "main_job.py"
        self.call("run", "--json", "a b")
        self.assertEqual(self.calls("main_job"), [f"begin {job} --json a b"])
        self.log.unlink()
        self.call("run", "--base", "v1.5", "--json")
        self.assertEqual(self.calls("main_job"), [f"begin {job} --json"])

    def test_examples(self) -> None:
        examples = self.root / "examples"
        examples.mkdir()
        for name in ("_shared.py", "norm.py", "softmax.py"):
            (examples / name).touch()
        self.assertEqual(self.call("run", "--example"), "norm\nsoftmax\n")
        error = self.call("run", "--example", "sofmax", expect=2)
        self.assertIn("there is no example sofmax: norm, softmax", error)
        self.assertFalse(self.environment.exists())
        self.call("run", "--example", "norm")
        self.assertEqual(self.calls("norm.py"), [f"begin {examples / 'norm.py'}"])

    def test_the_main_job_reads_its_arguments_before_set_up(self) -> None:
        shutil.copy(ROOT / "scripts" / "main_job.py", self.root / "scripts")
        for argument, status, words in (
            ("--help", 0, "--size N"),
            ("--size=1", 2, "argument --size: must be at least 2"),
            ("--sizes=300", 2, "unrecognized arguments: --sizes=300"),
        ):
            with self.subTest(argument):
                self.assertIn(words, self.call("run", argument, expect=status))
                self.assertFalse(self.environment.exists())


class TestGroups(FakeRepository):
    """Which tests scripts/test leaves out since they passed as they are."""

    def setUp(self) -> None:
        super().setUp()
        for name in ("scripts/test_x.py", "inductor/test_triton_on_cpu.py"):
            (self.root / "test" / name).parent.mkdir()
            (self.root / "test" / name).touch()

    def left_out(self, *arguments: str, status: int = 0) -> set[str]:
        """The test files that a call leaves out."""
        variables = {"FAKE_PYTEST_STATUS": str(status)}
        self.call("test", *arguments, variables=variables, expect=status)
        call = self.calls("-m pytest")[-1]
        return set(re.findall(r"--ignore=test/(\S+)", call))

    def test_what_passed_is_left_out_until_it_changes(self) -> None:
        every = {"scripts/test_x.py", "inductor/test_triton_on_cpu.py"}
        self.assertEqual(self.left_out(status=1), set())
        self.assertEqual(self.left_out(), set())
        self.assertEqual(self.left_out(), every)
        for changed, left in (
            ("test/scripts/fixture.py", {"inductor/test_triton_on_cpu.py"}),
            ("scripts/setup_tool/new.toml", {"inductor/test_triton_on_cpu.py"}),
            ("test/inductor/_triton_new.py", {"scripts/test_x.py"}),
        ):
            with self.subTest(changed):
                (self.root / changed).touch()
                self.assertEqual(self.left_out(status=1), left)
                self.assertEqual(self.left_out(), left)
                self.assertEqual(self.left_out(), every)

    def test_what_is_asked_for_is_not_left_out(self) -> None:
        self.left_out()
        self.assertEqual(self.left_out("--all"), set())
        self.assertEqual(self.left_out("test/scripts/test_x.py"), set())
        self.assertEqual(self.left_out("test/scripts"), set())
        self.assertNotEqual(self.left_out("-k", "name"), set())

    def test_only_a_run_of_every_test_counts(self) -> None:
        for arguments in (("-k", "name"), ("test/scripts",), ("--base", "v1.5")):
            self.assertEqual(self.left_out(*arguments), set())
        self.assertEqual(self.left_out("--all"), set())
        self.assertNotEqual(self.left_out(), set())


class TestVerify(FakeRepository):
    """The matrix of bases that scripts/verify prints."""

    def setUp(self) -> None:
        super().setUp()
        (self.root / "torch_overlay" / "ours").mkdir(parents=True)
        (self.root / "torch_overlay" / "ours" / "__init__.py").touch()
        (self.root / "torch_overlay" / "ours" / "one.py").touch()
        self.write_bases("v1.0", "v1.5")

    def write_bases(self, *tags: str) -> None:
        (self.root / "patches").mkdir(exist_ok=True)
        (self.root / "patches" / "bases.toml").write_text(
            "".join(
                f'[[base]]\ntag = "{tag}"\n[base.blobs]\n"torch/_b.py" = ["1"]\n'
                for tag in tags
            )
        )

    def verify(
        self, *arguments: str, expect: int = 0, **variables: str
    ) -> dict[str, str]:
        """The rows that were printed, by base."""
        output = self.call("verify", *arguments, expect=expect, variables=variables)
        lines = output.split("\n\n")[-1].strip().splitlines()
        self.assertRegex(lines[0], r"^base +applies +imports +tests$")
        return {line.split()[0]: line for line in lines[1:]}

    def test_a_row_for_every_base(self) -> None:
        rows = self.verify("-k", "name")
        self.assertEqual([*rows], ["v1.0", "v1.5"])
        for row in rows.values():
            cells = r"yes, 3 modules +yes, torch 1\.x +yes, 2 passed, 1 skipped$"
            self.assertRegex(row, cells)
        for call in self.calls("-m pytest"):
            self.assertRegex(call, r"-m not slow -k name --junitxml=")
        modules = " torch._b torch.ours torch.ours.one\n"
        self.assertEqual(self.log.read_text().count(modules), 2 * len(rows))

    def test_smoke_and_environments_that_go_again(self) -> None:
        self.verify("--smoke", "--remove", "-k", "name")
        for call in self.calls("-m pytest"):
            words = r"-m not slow test/inductor -m smoke and not slow -k name"
            self.assertRegex(call, words)
        self.assertTrue(self.environment.exists())
        self.assertFalse((self.root / ".venv-v1.5").exists())

    def test_only_the_bases_that_are_named(self) -> None:
        self.assertEqual([*self.verify("--base", "v1.5")], ["v1.5"])
        self.assertEqual([*self.verify("--base", "1.5")], ["v1.5"])
        output = self.call("verify", "--base", "v9", expect=2)
        self.assertIn("--base v9: there are v1.0, v1.5", output)

    def test_holes(self) -> None:
        """Each ends with 1, and leaves the other base's row as it is."""
        for variables, cells in (
            ({"FAKE_OVERLAY_STATUS": "1"}, r"NO, the overlay could .* NO, not reached"),
            ({"FAKE_IMPORT_STATUS": "1"}, r"NO, a word +NO, not reached$"),
            ({"FAKE_PYTEST_STATUS": "1"}, r"NO, 2 passed, 1 skipped$"),
            ({"FAKE_TEST": "<skipped/>"}, r"NO, 0 passed, 3 skipped$"),
            ({"FAKE_TEST": "<failure/>", "FAKE_PYTEST_STATUS": "1"}, r"2 failed"),
        ):
            with self.subTest(variables):
                rows = self.verify(expect=1, **variables)
                for tag in ("v1.0", "v1.5"):
                    self.assertRegex(rows[tag], cells)

    def test_a_base_that_only_one_file_knows_is_a_hole(self) -> None:
        self.write_bases("v1.0", "v1.5", "v2.0")
        self.assertRegex(self.verify(expect=1)["v2.0"], "NO, setup.cfg has no env")


class TestPins(unittest.TestCase):
    """The real setup.cfg against the environment that it made."""

    def setUp(self) -> None:
        version = Version(importlib.metadata.version("torch")).public
        self.pins = pins.choose_base(ROOT, f"v{version}").pins
        lines = map(Requirement, self.pins.requirements + self.pins.constraints)
        self.pinned = {canonicalize_name(line.name): line for line in lines}
        # A constraint is installed only where something needs it.
        self.installed = {
            canonicalize_name(found.name): found.version
            for found in importlib.metadata.distributions()
        }

    def test_what_is_installed_is_what_is_pinned(self) -> None:
        for line in self.pins.requirements:
            self.assertIn(canonicalize_name(Requirement(line).name), self.installed)
        for name in self.pinned.keys() & self.installed.keys():
            with self.subTest(name):
                self.assertIn(self.installed[name], self.pinned[name].specifier)

    def test_every_dependency_is_pinned(self) -> None:
        for name in self.pinned.keys() & self.installed.keys():
            for line in importlib.metadata.requires(name) or ():
                dependency = Requirement(line)
                marker = dependency.marker
                if marker is not None and not marker.evaluate({"extra": ""}):
                    continue
                if name == "torch" and "==" in str(dependency.specifier):
                    # A build with CUDA pins its own libraries.
                    continue
                with self.subTest(package=name, needs=line):
                    self.assertIn(canonicalize_name(dependency.name), self.pinned)


if __name__ == "__main__":
    unittest.main()
