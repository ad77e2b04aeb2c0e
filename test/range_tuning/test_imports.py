# Owner(s): ["module: inductor"]
"""What the package and the engine import of each other, and how it is installed."""

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from torch._inductor import range_dispatch
from torch._inductor.test_case import run_tests, TestCase


ROOT = Path(__file__).resolve().parents[2]
ENGINE = "torch._inductor.range_dispatch"
HEAVY = ("matplotlib", "rich", "PIL")


def imports_of(file):
    """The module and name of everything that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)


class ImportsTest(TestCase):
    def test_the_package_imports_what_the_engine_exports(self):
        files = [*(ROOT / "range_tuning").rglob("*.py")]
        self.assertGreater(len(files), 10)
        for file in files:
            for module, name in imports_of(file):
                if module.startswith("torch"):
                    self.assertEqual(module, ENGINE, file)
                    self.assertIn(name, range_dispatch.__all__, file)

    def test_torch_imports_neither_the_package_nor_what_draws(self):
        files = [*(ROOT / "torch_overlay").rglob("*.py")]
        self.assertGreater(len(files), 50)
        for file in files:
            for module, _ in imports_of(file):
                self.assertNotIn(
                    module.partition(".")[0], (*HEAVY, "range_tuning"), file
                )

    def test_what_is_exported_is_there_and_documented(self):
        self.assertEqual(range_dispatch.__all__, sorted(range_dispatch.__all__))
        for name in range_dispatch.__all__:
            exported = getattr(range_dispatch, name)
            if name != "DecisionTree":  # an alias
                self.assertTrue(exported.__doc__, name)

    @pytest.mark.slow  # a process
    def test_nothing_slow_is_imported_before_it_is_needed(self):
        code = (
            f"import sys, {ENGINE}, range_tuning.__main__; "
            f"print([name for name in {HEAVY} if name in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        self.assertEqual(done.stdout, "[]\n")


class InstallTest(TestCase):
    @pytest.mark.slow  # processes
    def test_pip_installs_it_beside_torch(self):
        with tempfile.TemporaryDirectory() as name:
            source, target = Path(name, "source"), Path(name, "target")
            shutil.copytree(ROOT / "range_tuning", source / "range_tuning")
            for file in ("LICENSE", "README.md", "pyproject.toml", "setup.cfg"):
                shutil.copy(ROOT / file, source)
            pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet"]
            how = ["--no-build-isolation", "--no-index", "--target", target, source]
            subprocess.run([*pip, *how], check=True)
            (described,) = target.glob("*.dist-info/METADATA")
            required = [
                line.partition(" ")[2]
                for line in described.read_text().splitlines()
                if line.startswith("Requires-Dist") and "extra ==" not in line
            ]
            self.assertEqual(sorted(required), ["matplotlib", "rich"])
            shutil.rmtree(source)
            code = "import range_tuning.__main__ as m; print(m.__file__)"
            variables = {**os.environ, "PYTHONPATH": str(target)}
            done = subprocess.run(
                [sys.executable, "-c", code],
                cwd=name,
                env=variables,
                capture_output=True,
                text=True,
                check=True,
            )
            self.assertTrue(done.stdout.startswith(str(target)), done.stdout)


if __name__ == "__main__":
    run_tests()
