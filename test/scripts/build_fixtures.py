"""A stub checkout and a stub machine for the tests of scripts/build.

The checkout is a git repository with a torch of a few lines. The Python that builds
are told to use is a shell script: it makes "environments" that are copies of itself,
"installs" wheels by unpacking them, and "compiles" by printing what ninja prints.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import unittest
import zipfile
from collections.abc import Mapping
from pathlib import Path

from overlay_fixtures import (
    BASE_FILES,
    commit_all,
    git,
    make_patch_set,
    REPOSITORY,
    write_files,
)

PATIENCE = 30.0
"""Seconds until a test that waits for another process gives up."""

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
EXTENSION = f"torch/_C{SUFFIX}"
VERSION_FILE = "torch/version.py"

FAKE_PYTHON = """#!/bin/sh
echo "$*" | head -n 1 >> "$FAKE_LOG"
here=$(dirname "$(dirname "$0")")
site="$here/lib/python%(version)s/site-packages"
start='import site, sys; del sys.path[0]; site.addsitedir(sys.argv.pop(1))
exec(sys.argv.pop(1))'
case "$*" in
    *"import torch"*)
        shift
        exec %(python)s -S -B -c "$start" "$site" "$@" ;;
    *dispatch_check.py*)
        exec %(python)s -S -B -c "$start" "$site" "$(cat "$1")" "$2" ;;
    -c*)
        exec %(python)s "$@" ;;
    *"-m venv"*)
        for folder; do
            case "$folder" in /*) break ;; esac
        done
        rm -rf "$folder"
        mkdir -p "$folder/bin" "$folder/lib/python%(version)s/site-packages"
        cp "$0" "$folder/bin/python" ;;
    *"--no-build-isolation"*)
        env | grep -E '^(MAX_JOBS|USE_|BUILD_|CMAKE_)' | sort >> "$FAKE_LOG"
        echo "[1/4] Building CXX object a.cpp.o"
        if [ -n "$FAKE_BUILD_SECONDS" ]; then
            echo "$$" > "$FAKE_LOG.build"
            sleep "$FAKE_BUILD_SECONDS"
        fi
        [ -z "$FAKE_BUILD_STATUS" ] || exit "$FAKE_BUILD_STATUS"
        echo "git_version = 'built'" > torch/version.py
        pwd > "$site/editable.pth" ;;
    *"-m pip install"*)
        for wheel; do
            case "$wheel" in
                *.whl) %(python)s -m zipfile -e "$wheel" "$site" ;;
                torch==*) %(python)s -m zipfile -e "$FAKE_INDEX" "$site" ;;
            esac
        done
        exit "${FAKE_PIP_STATUS:-0}" ;;
esac
"""

DRIVER = """
import collections, os, shutil, sys
from pathlib import Path
sys.path.insert(0, %(scripts)r)
from build_tool import commands

commands.ROOT = Path(%(patch_set)r)
commands.DISPATCH_CHECK = Path(__file__).with_name("dispatch_check.py")
Usage = collections.namedtuple("Usage", "total used free")
free = float(os.environ.get("FAKE_FREE", 500)) * 2**30
shutil.disk_usage = lambda folder: Usage(0, 0, free)
sys.exit(commands.main("build", sys.argv[1:]))
"""

STUB_CHECK = """
import sys, torch
print("torch", torch.__version__, "is", torch.__file__)
sys.exit(not torch.__file__.startswith(sys.argv[1] + "/torch/"))
"""

FAKE_COMPILER = "#!/bin/sh\nexit ${FAKE_COMPILER_STATUS:-0}\n"

PROJECT = """
[build-system]
requires = ["setuptools>=70", "cmake>=3.27", "ninja", "numpy"]
[project]
requires-python = ">=3.10"
"""

CHECKOUT_FILES: Mapping[str, bytes] = {
    **BASE_FILES,
    "setup.py": b"# setup\n",
    "pyproject.toml": PROJECT.encode(),
    "torch/__init__.py": b"from . import version\n__version__ = '9.9.0'\n",
    "torch/nn/__init__.py": b"MARK = 'committed'\n",
    "torch/lib/libshm/core.h": b"// in the checkout, too\n",
    "torchgen/__init__.py": b"",
}
WHEEL_ONLY: Mapping[str, bytes] = {
    EXTENSION: b"binary",
    "torch/lib/libc10.so": b"binary",
    "torch/include/torch/tensor.h": b"// header\n",
    "torch/nn/a [strange] name*.pyi": b"# generated\n",
    "torch/__pycache__/x.pyc": b"never linked",
    "torchgen/packaged/native.yaml": b"- func: f\n",
    "functorch/__init__.py": b"# a package that the checkout does not have\n",
    "torch-9.9.0.dist-info/METADATA": b"Name: torch\nVersion: 9.9.0\n",
}


def version_file(commit: str, cuda: str = "") -> bytes:
    """The content of a torch/version.py."""
    cuda_line = f"cuda: Optional[str] = {cuda!r}" if cuda else "cuda = None"
    lines = ["from typing import Optional", "__version__ = '9.9.0'", cuda_line]
    return "\n".join([*lines, f"git_version = '{commit}'", ""]).encode()


class BuildTestCase(unittest.TestCase):
    """Has a checkout, a patch set that fits it, a wheel of it and a stub machine."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(os.path.realpath(folder.name))
        self.checkout = self.folder / "check out"
        write_files(self.checkout, CHECKOUT_FILES)
        git(self.checkout, "init", "-q")
        self.commit = commit_all(self.checkout, "base")
        self.patch_set = self.folder / "patch set"
        make_patch_set(self.patch_set, self.commit)
        self.place = self.checkout / ".range-dispatch"
        self.environment = self.place / "venv"
        self.log = self.folder / "calls"
        self.wheel = self.make_wheel(version_file(self.commit))
        self.driver = self.folder / "driver.py"
        where = {"scripts": str(REPOSITORY / "scripts")}
        where["patch_set"] = str(self.patch_set)
        self.driver.write_text(DRIVER % where)
        (self.folder / "dispatch_check.py").write_text(STUB_CHECK)
        self.machine = self.folder / "machine"
        self.machine.mkdir()
        version = "{}.{}".format(*sys.version_info)
        fake = FAKE_PYTHON % {"python": f'"{sys.executable}"', "version": version}
        self.program("fake-python", fake)
        self.program("c++", FAKE_COMPILER)
        self.variables = {
            "PATH": os.pathsep.join([str(self.machine), os.environ["PATH"]]),
            "FAKE_LOG": str(self.log),
            "FAKE_INDEX": str(self.wheel),
            "CXX": "c++",
        }
        for name in ("MAX_JOBS", "USE_CUDA", "CUDA_HOME", "BUILD_TEST"):
            self.variables[name] = ""

    def program(self, name: str, text: str) -> None:
        """Puts a program on PATH, before all others."""
        (self.machine / name).write_text(text)
        (self.machine / name).chmod(0o755)

    def programs(self) -> str:
        """A PATH with the stub programs and, of the real ones, what they need."""
        git_wants = ("git", "sh", "sed", "basename", "uname")
        for name in (*git_wants, "head", "dirname", "rm", "mkdir", "cp"):
            found = shutil.which(name)
            assert found is not None, name
            if not (self.machine / name).exists():
                (self.machine / name).symlink_to(found)
        return str(self.machine)

    def make_wheel(self, version: bytes, name: str = "torch-9.9.0.whl") -> Path:
        """A wheel of the checkout's Python with what a build would add."""
        wheel = self.folder / name
        with zipfile.ZipFile(wheel, "w") as archive:
            for path, content in {**CHECKOUT_FILES, **WHEEL_ONLY}.items():
                if path.startswith(("torch", "functorch")):
                    archive.writestr(path, content)
            archive.writestr(VERSION_FILE, version)
        return wheel

    def start(
        self, *arguments: str | Path, variables: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Starts scripts/build editable on the checkout."""
        command = [sys.executable, "-B", str(self.driver), "editable"]
        command += ["--source", str(self.checkout), "--python", "fake-python"]
        command += map(str, arguments)
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **self.variables, **(variables or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def call(
        self,
        *arguments: str | Path,
        expect: int = 0,
        variables: Mapping[str, str] | None = None,
    ) -> str:
        """Calls it to the end, checks the exit status and returns what it printed."""
        process = self.start(*arguments, variables=variables)
        output, _ = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, expect, output)
        self.assertNotIn("Traceback", output)
        return output

    def refused(self, *arguments: str | Path, **variables: str) -> str:
        """What a call prints that must fail before it changes anything."""
        before = git(self.checkout, "status", "--porcelain", "--ignored")
        output = self.call(*arguments, expect=1, variables=variables)
        after = git(self.checkout, "status", "--porcelain", "--ignored")
        self.assertEqual(after, before)
        self.assertFalse(self.place.exists())
        return output

    def calls(self, word: str) -> list[str]:
        """The logged calls of the stub Python that contain `word`."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if word in line]

    def import_torch(self, code: str) -> str:
        """What a program prints in the environment that was made."""
        result = subprocess.run(
            [str(self.environment / "bin" / "python"), "-c", f"import torch\n{code}"],
            cwd=self.folder,
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.strip()
