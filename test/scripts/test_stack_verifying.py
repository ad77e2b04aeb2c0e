"""scripts/verify --stack: pull requests on a pristine torch, one after the other."""

from __future__ import annotations

import contextlib
import io
import sys
import unittest

from overlay_fixtures import (
    BASE_FILES,
    KERNEL,
    NEW,
    NEW_DEEP,
    PATCHED,
    REPOSITORY,
    OverlayTestCase,
    make_diff,
    make_patch_set,
    make_wheel,
    torch_contents,
    write_files,
)
from setup_tool.cells import NOT_REACHED, Cell, Environment
from setup_tool.environment import site_packages_of
from setup_tool.stack_verifying import stack_rows
from setup_tool.steps import SetupError

TAG = "v9.9.0"
STACK = """
[[pull_request]]
name = "fixes"
summary = "Fixes"
steps = [
    {patches = ["fix"]},
    {files = ["test/inductor/test_fix.py"], message = "Test the fix"},
]

[[pull_request]]
name = "feature"
summary = "A feature"
steps = [
    {files = ["torch/*"], message = "The feature"},
    {files = ["test/*"], message = "Test the feature"},
]
"""
FIXED = "import torch\nfrom torch._inductor import ir\n\ndef test_fix():\n"
TESTS = {
    "test/inductor/test_fix.py": f"{FIXED}    assert ir.FIXED == 1\n"
    "def test_nothing_of_the_feature_is_there():\n"
    "    from torch._inductor.kernel import custom_op\n"
    "    assert not hasattr(custom_op, 'OURS')\n",
    "test/inductor/test_feature.py": "def test_feature():\n"
    "    from torch._inductor.kernel import custom_op\n"
    "    assert custom_op.OURS\n",
}


class StackVerifyingTest(OverlayTestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = self.folder / "environment"
        self.tree = site_packages_of(folder)
        make_wheel(self.tree)
        plain = {
            PATCHED: b"FIXED = 0\n",
            "torch/__init__.py": b"from .version import __version__\n",
            "torch/_inductor/compile_fx.py": b"",
            "torch/lib/libtorch.so": b"large",
        }
        write_files(self.tree, plain)
        fix = make_diff({PATCHED: plain[PATCHED]}, {PATCHED: b"FIXED = 1\n"})
        date = b"\nDate: Sat, 21 Nov 2026 00:00:00 +0000"
        mail = fix.replace(b"\nSubject", date + b"\nSubject")
        ours = {KERNEL: b"OURS = True\n", NEW: b"", NEW_DEEP: b""}
        kernel = [path for path in BASE_FILES if path != PATCHED]
        make_patch_set(
            self.patch_set, overlay=ours, patches=[("fix.patch", mail)], pinned=kernel
        )
        self.pin_patched()
        files = {"patches/stack.toml": STACK, "setup.cfg": "[tool:pytest]\n", **TESTS}
        write_files(self.patch_set, {k: v.encode() for k, v in files.items()})
        (self.patch_set / "scripts").symlink_to(REPOSITORY / "scripts")
        python = folder / "bin" / "python"
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        self.environment = Environment(python, "true")
        self.apply()

    def pin_patched(self) -> None:
        """The base's file differs from the one of other tests."""
        from overlay_tool.bases import Base, load_bases, save_bases
        from overlay_tool.filesystem import blob_id

        file = self.patch_set / "patches" / "bases.toml"
        (base,) = load_bases(file)
        blobs = {**base.blobs, PATCHED: (blob_id(b"FIXED = 0\n"),)}
        save_bases(file, [Base(base.tag, base.commit, blobs)])

    def rows(self, wanted: str | None = None) -> dict[str, list[Cell]]:
        with contextlib.redirect_stdout(io.StringIO()):
            return stack_rows(
                self.patch_set, TAG, self.environment, wanted, ["-n0", "-q"], False
            )

    def test_each_prefix(self) -> None:
        before = torch_contents(self.tree)
        rows = self.rows()
        self.assertEqual([*rows], [f"{TAG} 01-fixes", f"{TAG} 02-feature"])
        for cells, tests in zip(rows.values(), ("2 passed", "1 passed")):
            self.assertEqual([cell.holds for cell in cells], [True] * 3, cells)
            self.assertEqual(cells[2].words, tests)
        # The environment stays as it is, and nothing is left in it.
        self.assertEqual(torch_contents(self.tree), before)
        left = [*self.environment.python.parents[1].glob("stack-*")]
        self.assertEqual(left, [])

    def test_one_of_them(self) -> None:
        self.assertEqual([*self.rows("02")], [f"{TAG} 02-feature"])
        with self.assertRaisesRegex(SetupError, "--stack y: there are 01-fixes, 02-"):
            self.rows("y")

    def test_a_test_that_needs_what_comes_later(self) -> None:
        test = self.patch_set / "test/inductor/test_fix.py"
        test.write_text("import torch._inductor.range_dispatch.ranges\n")
        rows = self.rows()
        self.assertEqual([*rows], [f"{TAG} 01-fixes"])
        ((_, imports, tests),) = rows.values()
        self.assertTrue(imports.holds)
        self.assertFalse(tests.holds)

    def test_what_cannot_be_imported(self) -> None:
        ours = self.patch_set / "torch_overlay" / NEW.removeprefix("torch/")
        ours.write_text("import torch.nowhere\n")
        self.apply()
        _, imports, tests = self.rows()[f"{TAG} 02-feature"]
        self.assertIn("No module named 'torch.nowhere'", imports.words)
        self.assertEqual(tests, NOT_REACHED)


if __name__ == "__main__":
    unittest.main()
