"""The Python-only route for real: a repository of the installed torch's sources.

Its binaries are the installed torch's own, so nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import pytest

from overlay_fixtures import commit_all, git, never_waits, REPOSITORY
from overlay_tool import commands
from overlay_tool.errors import OverlayError
from overlay_tool.patch_set import load_patch_set
from overlay_tool.trees import find_base, identify

PROGRAM = """
import inspect
import os

import torch
from torch.utils import cpp_extension

for folder in (*cpp_extension.include_paths(), *cpp_extension.library_paths()):
    assert os.path.isdir(folder), folder
print(inspect.getsourcefile(torch.nn.Linear))
"""

EDITED = "torch/nn/modules/linear.py"
KEY = "from torch._inductor.codecache import torch_key; print(torch_key().hex())"


def installed_torch() -> Path:
    """The folder that holds the installed torch; does not import it."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise unittest.SkipTest("torch is not installed")
    return Path(spec.origin).parents[1]


@pytest.mark.slow
class TestPythonOnlyForReal(unittest.TestCase):
    """What an engineer does with such an environment, one after the other."""

    def setUp(self) -> None:
        self.installed = installed_torch()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(os.path.realpath(folder.name))
        self.checkout = self.folder / "checkout"
        self.make_checkout()

    def make_checkout(self) -> None:
        """Commits the installed torch's Python, as released, without the overlay."""
        keep_python = shutil.ignore_patterns("__pycache__", "lib", "include", "bin")

        def ignore(folder: str, names: list[str]) -> set[str]:
            ignored = set(keep_python(folder, names))
            for name in names:
                is_file = not os.path.isdir(os.path.join(folder, name))
                if is_file and not name.endswith(".py"):
                    ignored.add(name)
            return ignored

        copied = self.folder / "copied"
        shutil.copytree(self.installed / "torch", copied / "torch", ignore=ignore)
        for name in (".torch_overlay", ".torch_overlay.json"):
            place = self.installed / name
            if place.is_dir():
                ignore_lock = shutil.ignore_patterns("lock")
                shutil.copytree(place, copied / name, ignore=ignore_lock)
            elif place.exists():
                shutil.copy2(place, copied / name)
        commands.revert(copied, never_waits)
        if find_base(identify(copied), load_patch_set(REPOSITORY).bases) is None:
            self.skipTest("the installed torch is none of our bases")
        try:
            commands.apply(copied, REPOSITORY, never_waits)
        except OverlayError:
            self.skipTest("the installed torch was changed by other means")
        commands.revert(copied, never_waits)
        self.checkout.mkdir()
        shutil.move(copied / "torch", self.checkout / "torch")
        git(self.checkout, "init", "-q")
        commit_all(self.checkout, "the release's Python")

    def build(self) -> str:
        """Calls scripts/build and returns what it printed."""
        command = [sys.executable, str(REPOSITORY / "scripts" / "build"), "editable"]
        command += ["--source", str(self.checkout), "--python-only"]
        command += ["--installed", str(self.installed)]
        return self.run_to_end(command)

    def python(self, code: str) -> str:
        """What a program prints in the new environment."""
        file = self.folder / "program.py"
        file.write_text(code)
        python = self.checkout / ".range-dispatch" / "venv" / "bin" / "python"
        return self.run_to_end([str(python), str(file)])

    def run_to_end(self, command: list[str]) -> str:
        """The standard output of a command that must do well."""
        cache = str(self.folder / "cache")
        result = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache},
            capture_output=True,
            text=True,
        )
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout.strip()

    def untracked(self) -> set[str]:
        """The top of everything that git sees and does not know."""
        lines = git(self.checkout, "status", "--porcelain").splitlines()
        return {line[3:] for line in lines if line.startswith("??")}

    def test_an_edit_takes_effect_at_once(self) -> None:
        # A dispatched operator compiles, C++ kernels and all, and runs.
        output = self.build()
        words = f"is {self.checkout}/torch/__init__.py, and dispatches by size"
        self.assertIn(words, output)
        overlay = {".torch_overlay.json", ".torch_overlay/"}
        overlay.add("torch/_inductor/range_dispatch/")
        self.assertEqual(self.untracked(), overlay)
        self.assertEqual(self.python(PROGRAM), str(self.checkout / EDITED))
        key = self.python(KEY)
        (self.checkout / "torch" / "_inductor" / "new.py").write_text("MARK = 1\n")
        with open(self.checkout / EDITED, "a", encoding="utf-8") as file:
            file.write("MARK = 2\n")
        # Inductor's caches see it, too.
        code = "import torch._inductor.new as new, torch.nn.modules.linear as linear\n"
        code += "print(new.MARK, linear.MARK)\n" + KEY
        marks, new_key = self.python(code).splitlines()
        self.assertEqual(marks, "1 2")
        self.assertNotEqual(new_key, key)
        self.assertIn("links to the wheel", self.build())
        python = self.checkout / ".range-dispatch" / "venv" / "bin" / "python"
        self.run_to_end([str(python), "-m", "pip", "check"])


if __name__ == "__main__":
    unittest.main()
