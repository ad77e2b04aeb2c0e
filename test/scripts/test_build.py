"""Tests of scripts/build, on a stub checkout and with stubs of all that it calls."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sys
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from build_fixtures import (  # noqa: E402
    BuildTestCase,
    CHECKOUT_FILES,
    EXTENSION,
    PATIENCE,
    version_file,
    WHEEL_ONLY,
)
from overlay_fixtures import (  # noqa: E402
    commit_all,
    git,
    KERNEL,
    NEW,
    NEW_DEEP,
    write_files,
)

from build_tool import checkout as checkouts, machine  # noqa: E402
from build_tool.jobs import choose_jobs  # noqa: E402
from build_tool.progress import Progress  # noqa: E402
from build_tool.variables import choose_device, chosen_variables  # noqa: E402
from setup_tool.steps import SetupError  # noqa: E402


class TestPreflight(BuildTestCase):
    """What is missing is named, with what to do, before anything is changed."""

    def test_no_checkout(self) -> None:
        for source, words in (
            (self.folder / "nowhere", "is not a folder"),
            (self.folder, "it has no torch/_inductor"),
        ):
            output = self.refused("--source", source)
            self.assertIn(f"--source {source}", output)
            self.assertIn(words, output)

    def test_installed_torch_is_no_checkout(self) -> None:
        installed = self.folder / "installed"
        write_files(installed, CHECKOUT_FILES)
        write_files(installed, {"torch/version.py": version_file(self.commit)})
        self.assertIn("is no git checkout", self.refused("--source", installed))

    def test_unknown_base(self) -> None:
        shutil.rmtree(self.checkout / ".git")
        git(self.checkout, "init", "-q")
        commit_all(self.checkout, "another")
        output = self.refused()
        self.assertIn("not a known base. Known: v9.9.0", output)

    def test_submodules(self) -> None:
        (self.checkout / ".gitmodules").write_text(
            '[submodule "third_party/x"]\npath = third_party/x\nurl = nowhere\n'
        )
        link = f"160000,{self.commit},third_party/x"
        git(self.checkout, "update-index", "--add", "--cacheinfo", link)
        output = self.refused()
        self.assertIn("submodules: 1 not as the checkout wants them (third", output)
        self.assertIn("submodule update --init --recursive", output)

    def test_compiler(self) -> None:
        self.assertIn("gcc 12.2", self.call("--dry-run"))
        output = self.refused(FAKE_GCC="8")
        self.assertIn("compiler: c++ (gcc 8.2) is too old, gcc 9.3 is needed", output)
        self.assertIn("CXX names 'none'", self.refused(CXX="none"))
        self.program("broken", "#!/bin/sh\necho disk on fire >&2\nexit 1\n")
        self.assertIn("disk on fire", self.refused(CXX="broken"))

    def test_cmake_and_ninja_come_with_pip_or_are_on_the_path(self) -> None:
        self.assertIn("pip will install cmake>=3.27", self.call("--dry-run"))
        (self.checkout / "requirements-build.txt").write_text("numpy  # why\n# no\n")
        output = self.refused(PATH=self.only_programs())
        self.assertIn("cmake: there is no cmake on PATH", output)
        self.assertIn("ninja: there is no ninja on PATH", output)
        self.program("cmake", "#!/bin/sh\necho cmake version 3.18.4\n")
        self.program("ninja", "#!/bin/sh\necho 1.11.1\n")
        self.assertIn("is 3.18.4, 3.27 is needed", self.refused())
        self.program("cmake", "#!/bin/sh\necho cmake version 3.31.2\n")
        self.assertIn("cmake, 3.31.2", self.call("--dry-run"))
        self.program("ninja", "#!/bin/sh\nexit 1\n")
        self.assertIn("ninja --version does not work", self.refused())

    def test_build_requirements_that_cannot_be_told(self) -> None:
        (self.checkout / "pyproject.toml").unlink()
        self.assertIn("requirements: ", self.refused())
        (self.checkout / "pyproject.toml").write_text("[")
        self.assertIn("pyproject.toml cannot be read", self.refused())

    def test_disk_and_memory(self) -> None:
        output = self.refused(FAKE_FREE="12", FAKE_MEMORY="1")
        self.assertIn("disk: 12.0 GiB free", output)
        self.assertIn("20.0 are needed", output)
        self.assertIn("memory: 1.0 GiB available", output)
        output = self.refused("--cuda", FAKE_FREE="50", FAKE_MEMORY="3")
        self.assertIn("60.0 are needed", output)
        self.assertIn("one job for cuda takes 4 GiB", output)

    def test_cuda(self) -> None:
        output = self.refused("--cuda", CUDA_HOME=str(self.folder))
        self.assertIn("has no bin/nvcc", output)
        (self.folder / "bin").mkdir()
        shutil.copy(self.machine / "c++", self.folder / "bin" / "nvcc")
        self.call("--cuda", "--dry-run", variables={"CUDA_HOME": str(self.folder)})
        self.assertIn("drop one of the two", self.refused("--cuda", USE_CUDA="0"))
        self.assertIn("0 or 1 is needed", self.refused(USE_CUDA="perhaps"))

    def test_python(self) -> None:
        output = self.refused("--python", "no-such-python")
        self.assertIn("--python no-such-python: there is no such program", output)
        self.program("odd", "#!/bin/sh\necho 3 7\n")
        self.assertIn("is no working Python 3", self.refused("--python", "odd"))
        project = (self.checkout / "pyproject.toml").read_text()
        newer = project.replace(">=3.10", ">=3.99")
        (self.checkout / "pyproject.toml").write_text(newer)
        self.assertIn("the checkout wants >=3.99", self.refused())
        answer = {"version": [3, 99, 0], "headers": "/none", "suffix": ".so"}
        for has_venv, words in ((False, "no ensurepip"), (True, "no Python.h in /n")):
            text = json.dumps({**answer, "has_venv": has_venv})
            self.program("bare", f"#!/bin/sh\necho '{text}'\n")
            self.assertIn(words, self.refused("--python", "bare"))

    def test_a_folder_of_somebody_else_is_left_alone(self) -> None:
        taken = self.folder / "taken"
        taken.mkdir()
        (taken / "file").touch()
        for route in ((), ("--python-only", "--wheel", self.wheel)):
            output = self.refused("--venv", taken, *route)
            self.assertIn(f"--venv {taken} exists and this command did not", output)

    def test_all_problems_are_reported_together(self) -> None:
        output = self.refused(
            "--cuda", "--python", "none", FAKE_FREE="1", CXX="none", CUDA_HOME="/none"
        )
        self.assertIn("4 problems, nothing was changed:", output)
        for number, word in enumerate(("Python", "compiler", "CUDA", "disk"), 1):
            self.assertIn(f"  {number}. {word}: ", output)

    def test_wrong_usage(self) -> None:
        for arguments, words in (
            (("--cpu", "--cuda"), "not allowed with"),
            (("--wheel", "x"), "--wheel goes with --python-only"),
            (("--installed", "x"), "--installed goes with --python-only"),
            (("--jobs", "0"), "no number from 1 on"),
            (("--jobs", "2", "--python-only"), "nothing is compiled"),
            (("--pyth",), "unrecognized arguments"),
        ):
            with self.subTest(arguments):
                self.assertIn(words, self.call(*arguments, expect=2))
        self.assertFalse(self.place.exists())

    def test_dry_run_says_the_plan(self) -> None:
        output = self.call("--dry-run", "--cpu", "--jobs", "3")
        self.assertIn("pip install setuptools>=70 cmake>=3.27 ninja numpy", output)
        self.assertRegex(output, "MAX_JOBS=3 USE_CUDA=0 pip install --no-build-isol")
        self.assertFalse(self.place.exists())


class TestJobs(unittest.TestCase):
    """How many compilers run, and what else the build is told."""

    def test_number_of_jobs(self) -> None:
        for device, cores, memory, asked, variables, count in (
            ("cpu", 16, 64.0, None, {}, 16),
            ("cpu", 16, 9.0, None, {}, 4),
            ("cuda", 16, 9.0, None, {}, 2),
            ("cuda", 16, 1.0, None, {}, 1),
            ("cpu", 2, 64.0, None, {"MAX_JOBS": "7"}, 7),
            ("cpu", 2, 64.0, 5, {"MAX_JOBS": "7"}, 5),
        ):
            with self.subTest(device=device, memory=memory, asked=asked):
                jobs = choose_jobs(device, cores, memory, asked, variables)
                self.assertEqual(jobs.count, count)
        self.assertIn("MAX_JOBS=7 is set aside", jobs.why)

    def test_a_number_that_is_none_is_refused(self) -> None:
        for given in ("0", "many", "-1"):
            with self.assertRaisesRegex(SetupError, f"MAX_JOBS={given}"):
                choose_jobs("cpu", 2, 8.0, None, {"MAX_JOBS": given})

    def test_what_the_user_has_set_stays(self) -> None:
        jobs = choose_jobs("cpu", 2, 8.0, None, {})
        mine = {"BUILD_TEST": "1", "CMAKE_BUILD_PARALLEL_LEVEL": "9", "USE_CUDA": "ON"}
        self.assertEqual(chosen_variables("cuda", jobs, mine), {"MAX_JOBS": "2"})
        wanted = {
            "MAX_JOBS": "2",
            "CMAKE_BUILD_PARALLEL_LEVEL": "2",
            "USE_CUDA": "0",
            "BUILD_TEST": "0",
        }
        self.assertEqual(chosen_variables("cpu", jobs, {}), wanted)

    def test_device(self) -> None:
        self.assertEqual(choose_device(None, {}), "cpu")
        self.assertEqual(choose_device(None, {"USE_CUDA": "1"}), "cuda")
        self.assertEqual(choose_device("cuda", {"USE_CUDA": "ON"}), "cuda")

    def test_the_machine_is_read(self) -> None:
        self.assertGreaterEqual(machine.cores(), 1)
        self.assertGreater(machine.memory_gibibytes(), 0)

    def test_versions(self) -> None:
        self.assertTrue(checkouts.fits((3, 11, 7), ">=3.10,<3.15"))
        self.assertFalse(checkouts.fits((3, 15, 0), ">=3.10,<3.15"))
        self.assertFalse(checkouts.fits((3, 9), ">=3.10"))
        self.assertTrue(checkouts.fits((3, 9), "!=3.8.*"))
        needs = ["numpy", "cmake>=3.27,<4 ; platform_system == 'Linux'"]
        self.assertEqual(checkouts.required_version(needs, "cmake"), ">=3.27,<4")
        self.assertEqual(checkouts.required_version(needs, "numpy"), "")
        self.assertIsNone(checkouts.required_version(needs, "ninja"))


class TestProgress(unittest.TestCase):
    """What a stage shows while it runs."""

    def follow(self, terminal: bool) -> str:
        """What is shown of two lines of ninja and a warning."""
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            progress = Progress("build", terminal)
            for line in ("Collecting x", "[12/48] Building a.o", "a.cpp:1: warning"):
                progress.line(line)
            progress.tick()
            progress.shown -= 31
            progress.tick()
            progress.tick()
            progress.end()
        return shown.getvalue()

    def test_terminal_has_one_changing_line(self) -> None:
        shown = self.follow(True)
        self.assertNotIn("\n", shown)
        self.assertEqual(shown.count("[12/48] 25% Building a.o"), 3)

    def test_elsewhere_there_is_a_line_every_half_minute(self) -> None:
        (line,) = self.follow(False).splitlines()
        self.assertRegex(line, r"^build: +\d+ s, \[12/48\] 25% Building a.o$")


class TestFullRoute(BuildTestCase):
    """The base's own editable install, up to the compiler."""

    def log_text(self) -> str:
        """The log of all attempts."""
        return (self.place / "build.log").read_text()

    def test_everything_in_order(self) -> None:
        output = self.call("--cpu", "--jobs", "3")
        requirements, build = self.calls("pip install")
        self.assertTrue(requirements.endswith(">=70 cmake>=3.27 ninja numpy"))
        self.assertEqual(build, "-m pip install --no-build-isolation -v -e .")
        wanted = ["BUILD_TEST=0", "CMAKE_BUILD_PARALLEL_LEVEL=3", "MAX_JOBS=3"]
        self.assertEqual(self.calls("=")[1:4], wanted)
        self.assertEqual(self.calls("USE_CUDA"), ["USE_CUDA=0"])
        self.assertIn(f"torch 9.9.0 is {self.checkout}/torch/__init__.py", output)
        self.assertIn("activate", output)
        log = self.log_text()
        self.assertIn(f"attempt: full, {self.checkout}, base v9.9.0", log)
        self.assertIn("[2/4] Building CXX object b.cpp.o", log)
        self.assertEqual((self.checkout / KERNEL).read_bytes(), b"# our custom_op\n")
        self.assertNotIn(".range-dispatch", git(self.checkout, "status", "--short"))

    def test_second_call_builds_nothing(self) -> None:
        self.call()
        before = len(self.calls("pip"))
        output = self.call()
        self.assertEqual(len(self.calls("pip")), before)
        self.assertIn("build:        done before", output)
        (self.checkout / "torch" / "nn" / "__init__.py").write_text("MARK = 'edited'\n")
        self.assertIn("build:        done before", self.call("--jobs", "2"))

    def test_what_is_compiled_is_built_again_when_it_changes(self) -> None:
        self.call()
        (self.checkout / "torch" / "lib" / "libshm" / "core.h").write_text("// new\n")
        self.call()
        self.assertEqual(len(self.calls("--no-build-isolation")), 2)
        (self.checkout / "new.cpp").write_text("// new\n")
        self.call()
        self.call("--again")
        self.call(variables={"USE_MKLDNN": "0"})
        self.assertEqual(len(self.calls("--no-build-isolation")), 5)
        self.assertEqual(len(self.calls("-m venv")), 1)

    def test_failed_build_shows_the_log_and_is_taken_up_again(self) -> None:
        words = "\n".join(f"line {number}" for number in range(60))
        variables = {"FAKE_BUILD_STATUS": "4", "FAKE_BUILD_WORDS": words}
        output = self.call(variables=variables, expect=1)
        self.assertIn("build failed with exit status 4", output)
        self.assertIn(str(self.place / "build.log"), output)
        self.assertIn("  | line 59", output)
        self.assertNotIn("| line 19\n", output)
        output = self.call()
        self.assertIn("environment:  done before", output)
        self.assertEqual(len(self.calls("-m venv")), 1)
        self.assertEqual(self.log_text().count("attempt: full"), 2)

    def test_out_of_memory_has_advice(self) -> None:
        words = "c++: fatal error: Killed signal terminated program cc1plus"
        variables = {"FAKE_BUILD_STATUS": "1", "FAKE_BUILD_WORDS": words}
        self.assertIn("fewer --jobs", self.call(variables=variables, expect=1))

    def test_half_made_environment_is_made_anew(self) -> None:
        output = self.call(variables={"FAKE_PIP_STATUS": "2"}, expect=1)
        self.assertIn("environment failed with exit status 2", output)
        self.assertEqual(self.calls("--no-build-isolation"), [])
        trace = self.environment / "trace"
        trace.touch()
        self.call()
        self.assertFalse(trace.exists())
        (self.environment / "bin" / "python").unlink()
        self.assertIn("environment:  made", self.call())

    def start_and_wait_for_the_build(self) -> int:
        """Starts a call whose build takes a while; returns the build's process id."""
        self.process = self.start(variables={"FAKE_BUILD_SECONDS": "3"})
        return int(self.wait_for(Path(f"{self.log}.build")))

    def wait_for(self, file: Path) -> str:
        """The content of a file that is about to be written."""
        deadline = time.monotonic() + PATIENCE
        while not file.exists() or not file.read_text().endswith("\n"):
            self.assertLess(time.monotonic(), deadline, f"no {file}")
            time.sleep(0.02)
        return file.read_text()

    def test_stopped_build_leaves_no_process_and_is_taken_up_again(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            # Run in the background of a shell, the test ignores Ctrl-C, and so would
            # its child.
            before = signal.signal(signal.SIGINT, signal.default_int_handler)
            self.addCleanup(signal.signal, signal.SIGINT, before)
            build = self.start_and_wait_for_the_build()
            os.kill(self.process.pid, number)
            output, _ = self.process.communicate(timeout=PATIENCE)
            self.assertEqual(self.process.returncode, 128 + number, output)
            self.assertIn(f"stopped by {number.name}", output)
            self.assertNotIn("Traceback", output)
            self.assertEqual(running_in_group(build), [])
            Path(f"{self.log}.build").unlink()
        self.assertIn("environment:  done before", self.call())
        self.assertEqual(len(self.calls("--no-build-isolation")), 3)

    def test_killed_call_leaves_a_build_that_the_next_one_waits_for(self) -> None:
        self.start_and_wait_for_the_build()
        self.process.kill()
        self.process.communicate()
        output = self.call()
        self.assertIn("holds lock", output)
        self.assertIn("environment:  done before", output)
        self.assertEqual(len(self.calls("--no-build-isolation")), 2)

    def test_python_of_the_environment_itself_is_refused(self) -> None:
        self.call()
        python = self.environment / "bin" / "python"
        output = self.call("--python", python, expect=1)
        self.assertIn("is of the environment that is to be made", output)
        self.assertTrue(python.exists())

    def test_damaged_state_is_named(self) -> None:
        self.call()
        (self.place / "state.json").write_text("[")
        self.assertIn("state.json cannot be read", self.call(expect=1))

    def test_torch_of_elsewhere_is_noticed(self) -> None:
        self.call()
        site = next(self.environment.glob("lib/*/site-packages"))
        write_files(site, {"torch/__init__.py": b"__version__ = 'other'\n"})
        write_files(site, {"torch/_inductor/kernel/custom_op.py": b""})
        write_files(site, {"torch/version.py": b""})
        output = self.call(expect=1)
        self.assertIn(f"imports {site}/torch/__init__.py and not", output)

    def test_overlay_that_does_not_fit_stops_before_the_environment(self) -> None:
        (self.checkout / KERNEL).write_text("# edited\n")
        output = self.call(expect=1)
        self.assertIn("the overlay could not be applied", output)
        self.assertFalse(self.environment.exists())


def running_in_group(group: int) -> list[str]:
    """The processes of a group, without those that only wait to be reaped."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, number = file.read_text().rpartition(")")[2].split()[:3]
            if int(number) == group and state not in "ZX":
                found.append(file.parent.name)
    return found


class TestPythonOnly(BuildTestCase):
    """Binaries from a wheel, Python from the checkout."""

    def build(self, *arguments: str | Path, expect: int = 0) -> str:
        """Makes the environment from the wheel."""
        return self.call(
            "--python-only", "--wheel", self.wheel, *arguments, expect=expect
        )

    def untracked(self) -> list[str]:
        """What git sees in the checkout besides what it knows."""
        lines = git(self.checkout, "status", "--porcelain", "-uall").splitlines()
        return sorted(line[3:] for line in lines if line.startswith("??"))

    def test_only_what_the_wheel_alone_has_is_linked(self) -> None:
        output = self.build()
        self.assertIn(f"torch 9.9.0 is {self.checkout}/torch/__init__.py", output)
        for path in (
            EXTENSION,
            "torch/lib/libc10.so",
            "torch/include",
            "torch/nn/a [strange] name*.pyi",
            "torch/version.py",
            "torchgen/packaged",
        ):
            link = self.checkout / path
            self.assertTrue(link.is_symlink(), path)
            target = self.place / "torch-wheel" / path
            self.assertEqual(os.readlink(link), str(target))
            self.assertTrue(link.exists(), path)
        for path in ("torch/lib/libshm/core.h", "torch/__init__.py"):
            self.assertFalse((self.checkout / path).is_symlink(), path)
        self.assertFalse((self.checkout / "torch" / "__pycache__").is_symlink())
        site = next(self.environment.glob("lib/*/site-packages"))
        names = sorted(entry.name for entry in site.iterdir())
        path_file = "torch-range-dispatch.pth"
        self.assertEqual(names, ["functorch", "torch-9.9.0.dist-info", path_file])

    def test_git_sees_the_overlay_and_nothing_else(self) -> None:
        self.build()
        write_files(self.checkout, {"torch/nn/__pycache__/x.pyc": b""})
        seen = [path for path in self.untracked() if ".torch_overlay" not in path]
        self.assertEqual(seen, sorted([NEW, NEW_DEEP]))

    def test_edits_new_files_and_deletions_are_live(self) -> None:
        self.build()
        mark = "print(__import__('torch.nn').nn.MARK)"
        self.assertEqual(self.import_torch(mark), "committed")
        write_files(self.checkout, {"torch/nn/__init__.py": b"MARK = 'edited'\n"})
        self.assertEqual(self.import_torch(mark), "edited")
        write_files(self.checkout, {"torch/nn/new.py": b"", "torch/new/a.py": b""})
        self.import_torch("import torch.nn.new, torch.new.a")
        # A file that git knows and the user deleted is not brought back by a link.
        (self.checkout / "torch" / "nn" / "__init__.py").unlink()
        self.build()
        self.assertFalse((self.checkout / "torch" / "nn" / "__init__.py").exists())

    def test_second_call_changes_nothing_and_repairs(self) -> None:
        self.build()
        output = self.build()
        self.assertIn("environment:  done before", output)
        self.assertRegex(output, r"links: +\d+ to the wheel, 0 made")
        (self.checkout / EXTENSION).unlink()
        stale = self.checkout / "torch" / "gone.so"
        stale.symlink_to("/old/torch-wheel/torch/gone.so")
        foreign = self.checkout / "torch" / "foreign.so"
        foreign.symlink_to("/elsewhere/foreign.so")
        moved = self.checkout / "torch" / "lib" / "libc10.so"
        moved.unlink()
        moved.symlink_to("/old/torch-wheel/torch/lib/libc10.so")
        self.assertRegex(self.build(), "links: .* 2 made, 1 removed")
        self.assertTrue((self.checkout / EXTENSION).exists())
        self.assertTrue(moved.exists())
        self.assertTrue(foreign.is_symlink())

    def test_environment_that_is_not_whole_is_made_anew(self) -> None:
        self.build()
        for damage in (
            self.environment / "bin" / "python",
            self.place / "torch-wheel" / "torch" / "version.py",
        ):
            damage.unlink()
            self.assertIn("environment:  made", self.build())
        site = next(self.environment.glob("lib/*/site-packages"))
        write_files(site, {"torch/__init__.py": b""})  # pip install --upgrade torch
        self.assertIn("environment:  made", self.build())

    def test_another_wheel_makes_another_environment(self) -> None:
        self.build()
        other = self.make_wheel(version_file(self.commit), "torch-9.9.0+x.whl")
        output = self.call("--python-only", "--wheel", other)
        self.assertIn("environment:  made", output)
        elsewhere = self.folder / "elsewhere"
        output = self.build("--venv", elsewhere)
        self.assertIn(f"{self.environment} is not used any more", output)
        self.assertTrue((elsewhere / "bin" / "python").exists())

    def test_wheel_that_does_not_match(self) -> None:
        other = "2" * 40
        wheel = self.make_wheel(version_file(other))
        output = self.refused("--python-only", "--wheel", wheel)
        self.assertIn(f"--wheel {wheel} is torch 9.9.0 of commit {other}", output)
        self.assertIn(f"base v9.9.0, commit {self.commit}", output)

    def test_wheel_that_is_none(self) -> None:
        for path, words in (
            (self.folder / "none.whl", "there is no such file"),
            (self.driver, "is no wheel of torch"),
        ):
            output = self.refused("--python-only", "--wheel", path)
            self.assertIn(f"--wheel {path}", output)
            self.assertIn(words, output)

    def test_wheel_of_another_python(self) -> None:
        include = self.folder / "include"
        write_files(include, {"Python.h": b""})
        answer = {"version": [3, 12, 0], "suffix": ".cpython-312.so"}
        answer |= {"headers": str(include), "has_venv": True}
        self.program("other", f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
        output = self.refused(
            "--python-only", "--wheel", self.wheel, "--python", "other"
        )
        self.assertIn("has no torch/_C.cpython-312.so but", output)

    def test_device_of_the_wheel(self) -> None:
        output = self.refused("--python-only", "--wheel", self.wheel, "--cuda")
        self.assertIn("--cuda was given and", output)
        self.assertIn("has no CUDA", output)
        wheel = self.make_wheel(version_file(self.commit, cuda="13.0"))
        output = self.refused("--python-only", "--wheel", wheel, "--cpu")
        self.assertIn("has CUDA 13.0", output)

    def test_without_a_wheel_pip_gets_the_release(self) -> None:
        self.call("--python-only")
        (install,) = self.calls("pip install")
        self.assertIn("torch==9.9.0", install.split())
        self.assertTrue((self.checkout / EXTENSION).exists())

    def test_pip_s_torch_that_does_not_match(self) -> None:
        wheel = self.make_wheel(version_file("3" * 40), "other.whl")
        variables = {"FAKE_INDEX": str(wheel)}
        output = self.call("--python-only", variables=variables, expect=1)
        self.assertIn("what pip installed is torch 9.9.0 of commit 3333", output)
        self.assertFalse((self.checkout / EXTENSION).exists())

    def test_installed_torch_lends_its_binaries(self) -> None:
        installed = self.folder / "installed"
        write_files(installed, {**WHEEL_ONLY, "beside.py": b"MARK = 5\n"})
        version = version_file(self.commit)
        write_files(installed, {"torch/version.py": version, "torch/__init__.py": b""})
        self.call("--python-only", "--installed", installed)
        self.assertEqual(self.calls("pip install"), [])
        code = "import beside, functorch; print(torch.__file__, beside.MARK)"
        expected = f"{self.checkout}/torch/__init__.py 5"
        self.assertEqual(self.import_torch(code), expected)
        self.assertEqual((self.checkout / EXTENSION).read_bytes(), b"binary")
        self.call("--remove")
        self.assertTrue((installed / EXTENSION).exists())
        empty = self.folder / "empty"
        output = self.refused("--python-only", "--installed", empty)
        self.assertIn("holds no installed torch", output)

    def test_removal_takes_all_away(self) -> None:
        excluded = self.checkout / ".git" / "info" / "exclude"
        excluded.write_text("mine")
        self.build("--venv", self.folder / "elsewhere")
        self.assertIn("/torch/version.py\n", excluded.read_text())
        self.assertIn("would remove", self.call("--remove", "--dry-run"))
        self.assertTrue((self.checkout / EXTENSION).exists())
        self.call("--remove")
        self.assertFalse(os.path.lexists(self.checkout / EXTENSION))
        self.assertFalse(self.place.exists())
        self.assertFalse((self.folder / "elsewhere").exists())
        self.assertEqual(excluded.read_text().strip(), "mine")
        self.assertIn("removed 0 links", self.call("--remove"))

    def test_the_two_routes_do_not_mix(self) -> None:
        self.build()
        output = self.call(expect=1)
        self.assertIn("holds a build of the other kind (python-only)", output)
        self.assertIn("links of --python-only are in", output)
        self.call("--remove")
        write_files(self.checkout, {"torch/lib/libtorch_cpu.so": b"built"})
        output = self.build(expect=1)
        self.assertIn("this checkout was built", output)

    def test_a_failed_installation_leaves_no_links(self) -> None:
        variables = {"FAKE_PIP_STATUS": "1"}
        self.call(
            "--python-only", "--wheel", self.wheel, variables=variables, expect=1
        )
        self.assertFalse(os.path.lexists(self.checkout / EXTENSION))
        self.assertIn("environment:  made", self.build())

    def test_dry_run(self) -> None:
        output = self.build("--dry-run")
        self.assertIn(f"pip install {self.wheel} numpy", output)
        self.assertFalse(self.place.exists())


if __name__ == "__main__":
    unittest.main()
