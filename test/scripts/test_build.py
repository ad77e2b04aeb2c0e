"""Tests of scripts/build, on a stub checkout and with stubs of all that it calls."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path
from unittest import mock

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

from build_tool.commands import DISPATCH_CHECK, variables  # noqa: E402


class TestPreflight(BuildTestCase):
    """What is missing is named, with what to do, before anything is changed."""

    def test_errors_name_source(self) -> None:
        installed = self.folder / "installed"
        write_files(installed, {**CHECKOUT_FILES, **WHEEL_ONLY})
        write_files(installed, {"torch/version.py": version_file(self.commit)})
        for source, words in (
            (self.folder / "nowhere", "is not a folder"),
            (self.folder, "it has no torch/_inductor"),
            (installed, "is no git checkout of PyTorch (it has no .git)"),
        ):
            for route in ("--cpu", "--python-only", "--remove"):
                output = self.refused(route, "--source", source)
                self.assertIn(f"scripts/build: --source {source}", output)
                self.assertIn(words, output)

    def test_unknown_base(self) -> None:
        shutil.rmtree(self.checkout / ".git")
        git(self.checkout, "init", "-q")
        commit_all(self.checkout, "another")
        output = self.refused("--cpu")
        self.assertIn(f"--source {self.checkout}: ", output)
        self.assertIn("not a known base. Known: v9.9.0", output)

    def test_submodules(self) -> None:
        (self.checkout / ".gitmodules").write_text(
            '[submodule "third_party/x"]\npath = third_party/x\nurl = nowhere\n'
        )
        link = f"160000,{self.commit},third_party/x"
        git(self.checkout, "update-index", "--add", "--cacheinfo", link)
        output = self.refused("--cpu")
        self.assertRegex(output, "missing +submodules +1 not as .* third_party/x: git")
        self.assertIn("submodule update --init --recursive", output)

    def test_cmake_and_ninja_come_with_pip_or_are_on_the_path(self) -> None:
        self.assertIn("pip installs them", self.call("--cpu", "--dry-run"))
        file = self.checkout / "pyproject.toml"
        project = file.read_text()
        file.write_text(project.replace('"cmake>=3.27", ', ""))
        self.assertIn("no cmake on PATH", self.refused("--cpu", PATH=self.programs()))
        self.program("cmake", "#!/bin/sh\n")
        self.call("--cpu", "--dry-run", variables={"PATH": self.programs()})
        file.write_text("[")
        self.assertIn("pyproject.toml cannot be read", self.refused("--cpu"))

    def test_cuda(self) -> None:
        home = str(self.folder)
        output = self.refused("--cuda", CUDA_HOME=home)
        self.assertRegex(output, "missing +CUDA +no nvcc in CUDA_HOME")
        (self.folder / "bin").mkdir()
        shutil.copy(self.machine / "c++", self.folder / "bin" / "nvcc")
        output = self.call("--cuda", "--dry-run", variables={"CUDA_HOME": home})
        self.assertRegex(output, f"ok +CUDA +{home}/bin/nvcc")

    def test_python(self) -> None:
        self.assertIn("No such file", self.refused("--cpu", "--python", "no-such"))
        file = self.checkout / "pyproject.toml"
        project = file.read_text()
        for wanted in (">=3.99", ">=3.10,<3.11"):
            file.write_text(project.replace(">=3.10", wanted))
            self.assertIn(f"not {wanted}: name another", self.refused("--cpu"))
        file.write_text(project.replace(">=3.10", ">=3.10,<3.99"))
        self.program("bare", "#!/bin/sh\necho 11 /no/headers\n")
        output = self.refused("--python-only", "--python", "bare")
        self.assertIn("no Python.h for ", output)
        self.assertIn("install python3.11-dev", output)

    def test_all_that_is_missing_is_told_together(self) -> None:
        output = self.refused(
            "--cuda", "--python", "none", FAKE_FREE="50", CXX="none", CUDA_HOME="/none"
        )
        for name in ("Python", "compiler", "disk", "CUDA"):
            self.assertRegex(output, f"(?m)^missing +{name} ")
        self.assertRegex(output, "(?m)^ok +submodules ")
        self.assertIn("4 of 8 missing, nothing was changed", output)
        self.assertNotIn("missing  disk", self.refused("--cpu", CXX="none"))
        output = self.refused("--cpu", FAKE_COMPILER_STATUS="1")
        self.assertIn("cannot compile a two-line program", output)

    def test_wrong_usage(self) -> None:
        for arguments, words in (
            ((), "one of the arguments --cpu --cuda --python-only --remove is"),
            (("--cpu", "--cuda"), "not allowed with"),
            (("--cpu", "--wheel", "x"), "--wheel goes with --python-only"),
            (("--cuda", "--installed", "x"), "--installed goes with --python-only"),
            (("--python-only", "--wheel", "x", "--installed", "x"), "not allowed with"),
            (("--cpu", "--pyth"), "unrecognized arguments"),
        ):
            with self.subTest(arguments):
                self.assertIn(words, self.call(*arguments, expect=2))
        self.assertFalse(self.place.exists())

    def test_dry_run_says_the_plan(self) -> None:
        output = self.call("--dry-run", "--cpu")
        self.assertIn("pip install 'setuptools>=70' 'cmake>=3.27' ninja numpy", output)
        self.assertIn("-m pip install --no-build-isolation -v -e .", output)
        output = self.call("--dry-run", "--python-only", "--wheel", self.wheel)
        self.assertIn(f"pip install --no-compile {self.wheel} numpy", output)
        self.assertFalse(self.place.exists())

    def test_variables(self) -> None:
        mine = {"MAX_JOBS": "7", "BUILD_TEST": "1", "USE_CUDA": "1"}
        with mock.patch.dict(os.environ, mine):
            self.assertEqual(variables("cpu"), {**mine, "USE_CUDA": "0"})
        with mock.patch.dict(os.environ, MAX_JOBS="", BUILD_TEST=""):
            chosen = variables("cuda")
        self.assertGreaterEqual(int(chosen.pop("MAX_JOBS")), 1)
        self.assertEqual(chosen, {"BUILD_TEST": "0", "USE_CUDA": "1"})


class TestFullRoute(BuildTestCase):
    """The base's own editable install, up to the compiler."""

    def test_everything_in_order(self) -> None:
        output = self.call("--cpu", variables={"MAX_JOBS": "3"})
        requirements, build = self.calls("pip install")
        self.assertTrue(requirements.endswith(">=70 cmake>=3.27 ninja numpy"))
        self.assertEqual(build, "-m pip install --no-build-isolation -v -e .")
        wanted = ["BUILD_TEST=0", "MAX_JOBS=3", "USE_CUDA=0"]
        self.assertEqual(self.calls("=")[-3:], wanted)
        self.assertIn(f"torch 9.9.0 is {self.checkout}/torch/__init__.py", output)
        self.assertIn("applied 4 files (base v9.9.0", output)
        self.assertIn("activate", output)
        for text in (output, (self.place / "build.log").read_text()):
            self.assertIn("[1/4] Building CXX object a.cpp.o", text)
        self.assertEqual((self.checkout / KERNEL).read_bytes(), b"# our custom_op\n")
        self.assertNotIn(".range-dispatch", git(self.checkout, "status", "--short"))

    def test_second_call_leaves_the_environment_to_pip(self) -> None:
        self.call("--cpu")
        self.assertIn("venv is as it was made", self.call("--cpu"))
        self.assertEqual(len(self.calls("-m venv")), 1)
        self.assertEqual(len(self.calls("--no-build-isolation")), 2)

    def test_failed_build_says_what_is_applied(self) -> None:
        output = self.call("--cpu", variables={"FAKE_BUILD_STATUS": "4"}, expect=1)
        self.assertIn("failed with exit status 4; its output is in", output)
        self.assertIn("unfinished, and the overlay is applied: call again", output)
        undo = f"scripts/overlay.py revert --tree {self.checkout}"
        self.assertIn(undo, output)
        self.assertEqual((self.checkout / KERNEL).read_bytes(), b"# our custom_op\n")
        self.call("--cpu")
        self.assertEqual(len(self.calls("-m venv")), 1)

    def test_half_made_environment_is_made_anew(self) -> None:
        output = self.call("--cpu", variables={"FAKE_PIP_STATUS": "2"}, expect=1)
        self.assertIn("pip install ... failed with exit status 2", output)
        self.assertEqual(self.calls("--no-build-isolation"), [])
        # Nothing of the checkout was changed by then.
        self.assertEqual(git(self.checkout, "status", "--porcelain"), "")
        trace = self.environment / "trace"
        trace.touch()
        self.call("--cpu")
        self.assertFalse(trace.exists())

    def start_and_wait_for_the_build(self) -> int:
        """Starts a call whose build takes a while; returns the build's process id."""
        self.process = self.start("--cpu", variables={"FAKE_BUILD_SECONDS": "3"})
        file = Path(f"{self.log}.build")
        deadline = time.monotonic() + PATIENCE
        while not file.exists() or not file.read_text().endswith("\n"):
            self.assertLess(time.monotonic(), deadline, f"no {file}")
            time.sleep(0.02)
        return int(file.read_text())

    def test_stopped_build_leaves_no_process_and_is_taken_up_again(self) -> None:
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            # Run in the background of a shell, the test ignores Ctrl-C, and so would
            # its child.
            before = signal.signal(signal.SIGINT, signal.default_int_handler)
            self.addCleanup(signal.signal, signal.SIGINT, before)
            build = self.start_and_wait_for_the_build()
            os.kill(self.process.pid, number)
            output, _ = self.process.communicate(timeout=PATIENCE)
            self.assertEqual(self.process.returncode, status, output)
            self.assertIn("unfinished, and the overlay is applied", output)
            self.assertNotIn("Traceback", output)
            self.assertEqual(running_in_group(build), [])
            Path(f"{self.log}.build").unlink()
        self.call("--cpu")
        self.assertEqual(len(self.calls("-m venv")), 1)
        self.assertEqual(len(self.calls("--no-build-isolation")), 3)

    def test_killed_call_leaves_a_build_that_the_next_one_waits_for(self) -> None:
        self.start_and_wait_for_the_build()
        self.process.kill()
        self.process.communicate()
        output = self.call("--cpu")
        self.assertIn("holds lock", output)
        self.assertEqual(len(self.calls("-m venv")), 1)
        self.assertEqual(len(self.calls("--no-build-isolation")), 2)

    def test_python_of_the_environment_itself(self) -> None:
        """The one that it was made of is taken: its own is to be deleted."""
        self.call("--cpu")
        link = self.environment / "bin" / "python3"
        link.symlink_to(self.machine / "fake-python")
        self.assertIn("as it was made", self.call("--cpu", "--python", link))

    def test_overlay_that_does_not_fit(self) -> None:
        (self.checkout / KERNEL).write_text("# edited\n")
        output = self.call("--cpu", expect=1)
        self.assertIn(KERNEL, output)
        self.assertEqual(self.calls("--no-build-isolation"), [])
        self.assertEqual((self.checkout / KERNEL).read_text(), "# edited\n")


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
        git(self.checkout, "rm", "-rq", "--cached", "torch/nn")
        self.build()
        self.assertFalse((self.checkout / "torch" / "nn" / "__init__.py").exists())

    def test_second_call_keeps_the_environment_and_repairs_links(self) -> None:
        self.build()
        self.assertIn("venv is as it was made", self.build())
        self.assertEqual(len(self.calls("-m venv")), 1)
        (self.checkout / EXTENSION).unlink()
        stale = self.checkout / "torch" / "gone.so"
        stale.symlink_to("/old/torch-wheel/torch/gone.so")
        foreign = self.checkout / "torch" / "foreign.so"
        foreign.symlink_to("/elsewhere/foreign.so")
        moved = self.checkout / "torch" / "lib" / "libc10.so"
        moved.unlink()
        moved.symlink_to("/old/torch-wheel/torch/lib/libc10.so")
        self.build()
        self.assertTrue((self.checkout / EXTENSION).exists())
        self.assertTrue(moved.exists())
        self.assertFalse(stale.is_symlink())
        self.assertTrue(foreign.is_symlink())

    def test_another_torch_in_the_environment_is_noticed(self) -> None:
        self.build()
        site = next(self.environment.glob("lib/*/site-packages"))
        other = {"torch/__init__.py": b"__version__ = 1\n"}
        write_files(site, other)  # as by pip install --upgrade torch
        self.assertIn("dispatch_check.py", self.build(expect=1))

    def test_another_wheel_makes_another_environment(self) -> None:
        self.build()
        other = self.make_wheel(version_file(self.commit), "torch-9.9.0+x.whl")
        self.call("--python-only", "--wheel", other)
        self.assertEqual(len(self.calls("-m venv")), 2)

    def test_wheel_that_does_not_match(self) -> None:
        other = "2" * 40
        wheel = self.make_wheel(version_file(other))
        output = self.refused("--python-only", "--wheel", wheel)
        self.assertIn(f"--wheel {wheel} is a torch of commit {other}", output)
        self.assertIn(f"base v9.9.0, commit {self.commit}", output)

    def test_wheel_that_is_none(self) -> None:
        for option, path in (
            ("--wheel", self.folder / "none.whl"),
            ("--wheel", self.driver),
            ("--installed", self.folder / "empty"),
        ):
            output = self.refused("--python-only", option, path)
            self.assertIn(f"{option} {path} holds no torch", output)

    def test_without_a_wheel_pip_gets_the_release(self) -> None:
        self.call("--python-only")
        (install,) = self.calls("pip install")
        self.assertIn("torch==9.9.0", install.split())
        self.assertTrue((self.checkout / EXTENSION).exists())

    def test_pip_s_torch_that_does_not_match(self) -> None:
        wheel = self.make_wheel(version_file("3" * 40), "other.whl")
        index = {"FAKE_INDEX": str(wheel)}
        output = self.call("--python-only", variables=index, expect=1)
        self.assertIn("what pip installed is a torch of commit 3333", output)
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

    def test_repository_made_of_a_wheel(self) -> None:
        """As README says: nothing but the wheel's Python files."""
        shutil.rmtree(self.checkout)
        names = [name for name in CHECKOUT_FILES if name.startswith("torch")]
        files = {name: CHECKOUT_FILES[name] for name in names if name.endswith(".py")}
        files["torch/version.py"] = version_file(self.commit)
        write_files(self.checkout, files)
        self.assertIn("it has no .git", self.call("--python-only", expect=1))
        git(self.checkout, "init", "-q")
        commit_all(self.checkout, "the wheel's Python")
        self.build()
        self.assertTrue((self.checkout / EXTENSION).is_symlink())
        self.assertFalse((self.checkout / "torch" / "version.py").is_symlink())
        self.assertIn("it has no setup.py", self.call("--cpu", expect=1))

    def test_removal_takes_all_away(self) -> None:
        excluded = self.checkout / ".git" / "info" / "exclude"
        for mine in ("mine", "mine\n"):
            excluded.write_text(mine)
            self.build()
            self.assertIn("/torch/version.py\n", excluded.read_text())
            self.assertIn("would remove", self.call("--remove", "--dry-run"))
            self.assertTrue((self.checkout / EXTENSION).exists())
            self.call("--remove")
            self.assertFalse(os.path.lexists(self.checkout / EXTENSION))
            self.assertFalse(self.place.exists())
            self.assertEqual(excluded.read_text(), mine)
        self.assertIn("0 links", self.call("--remove"))

    def test_the_two_routes_do_not_mix(self) -> None:
        self.build()
        output = self.call("--cpu", expect=1)
        self.assertRegex(output, "missing +old links +. links of --python-only")
        self.call("--remove")
        write_files(self.checkout, {"torch/lib/libtorch_cpu.so": b"built"})
        self.assertRegex(self.build(expect=1), "missing +old build .*libtorch_cpu.so")

    def test_a_failed_installation_changes_nothing(self) -> None:
        pip = {"FAKE_PIP_STATUS": "1"}
        self.call("--python-only", "--wheel", self.wheel, variables=pip, expect=1)
        self.assertEqual(git(self.checkout, "status", "--porcelain", "-uall"), "")
        self.assertFalse(os.path.lexists(self.checkout / EXTENSION))
        self.build()


class TestDispatchCheck(unittest.TestCase):
    """The last step, with a real torch."""

    def test_torch_of_elsewhere(self) -> None:
        # An environment in the checkout has a place of its own there, too.
        environment = Path(sys.prefix).parent
        result = subprocess.run(
            [sys.executable, str(DISPATCH_CHECK), str(environment)],
            capture_output=True,
            text=True,
        )
        self.assertEqual(result.returncode, 1)
        self.assertIn(f"not {environment}/torch: call", result.stderr)


if __name__ == "__main__":
    unittest.main()
