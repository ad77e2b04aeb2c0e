"""This repository's patch set on a copy of the torch that is installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import unittest
from pathlib import Path

from overlay_fixtures import REPOSITORY, never_waits, run_tool, snapshot
from overlay_tool import commands
from overlay_tool.patch_set import load_patch_set
from overlay_tool.trees import find_base, identify

COPIED_FILES = ("torch/version.py", ".torch_overlay.json")


def installed_tree() -> Path | None:
    """The folder that holds the installed torch; does not import it."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent.parent


def touched_packages() -> set[str]:
    """The packages of torch, and files beside them, that the patch set touches."""
    bases = load_patch_set(REPOSITORY).bases
    return {"/".join(path.split("/")[:2]) for base in bases for path in base.blobs}


class WheelTest(unittest.TestCase):
    def setUp(self) -> None:
        installed = installed_tree()
        if installed is None:
            self.skipTest("torch is not installed")
        if not (installed / "torch" / "version.py").is_file():
            self.skipTest("the installed torch has no version.py")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tree = Path(os.path.realpath(folder.name), "site-packages")
        # The overlay may be applied to the installed one: so the receipt and the
        # originals go with it, and the copy is reverted.
        for path in (*sorted(touched_packages()), ".torch_overlay"):
            if (installed / path).is_dir():
                shutil.copytree(
                    installed / path,
                    self.tree / path,
                    symlinks=True,
                    ignore=shutil.ignore_patterns("__pycache__", "lock"),
                )
        for path in (*COPIED_FILES, *touched_packages()):
            if (installed / path).is_file():
                shutil.copy2(installed / path, self.tree / path)
        commands.revert(self.tree, never_waits)
        patch_set = load_patch_set(REPOSITORY)
        base = find_base(identify(self.tree), patch_set.bases)
        if base is None:
            self.skipTest("the installed torch is none of our bases")
        if not patch_set.overlay and not patch_set.series(base):
            self.skipTest("the patch set has nothing for the installed torch")
        self.pristine = snapshot(self.tree)

    def test_apply_and_revert(self) -> None:
        self.assertNotIn(".torch_overlay", self.pristine)
        result = run_tool("apply", "--tree", self.tree)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn("offset", result.stdout)
        status = commands.status(self.tree, REPOSITORY)
        self.assertEqual(status.exit_code, 0, status.summary)
        files = status.details["files"]
        assert isinstance(files, dict)
        for path in files:
            if path.endswith(".py") and (self.tree / path).exists():
                with self.subTest(path=path):
                    source = (self.tree / path).read_bytes()
                    compile(source, path, "exec", dont_inherit=True)
        result = run_tool("revert", "--tree", self.tree)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(snapshot(self.tree), self.pristine)


if __name__ == "__main__":
    unittest.main()
