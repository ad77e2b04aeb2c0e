"""scripts/overlay.py as its users run it: exit status, output, waiting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import unittest
from pathlib import Path

from overlay_fixtures import (
    KERNEL,
    NEW,
    OVERLAY,
    SCRIPT,
    OverlayTestCase,
    git,
    make_checkout,
    make_patch_set,
    never_waits,
    run_tool,
    snapshot,
)
from overlay_tool.transaction import locked
from overlay_tool.filesystem import State


class CommandLineTest(OverlayTestCase):
    def tool(self, command: str, *more: str, code: int = 0) -> str:
        """Runs a command on the tree; returns what it prints on both streams."""
        result = run_tool(
            command, "--tree", self.tree, "--patch-set", self.patch_set, *more
        )
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(bool(result.stderr), code in (1, 2, 3), result.stderr)
        return result.stdout + result.stderr

    def test_from_apply_to_revert(self) -> None:
        self.assertEqual(self.tool("status", code=10), "not applied: base v9.9.0\n")
        self.assertIn("applied 4 files (base v9.9.0, patch set ", self.tool("apply"))
        self.assertIn("applied: 4 files, base v9.9.0", self.tool("status"))
        self.assertIn("already applied, nothing to do", self.tool("apply"))
        make_patch_set(self.patch_set, overlay={**OVERLAY, NEW: b"# newer\n"})
        self.assertIn("outdated: base v9.9.0", self.tool("status", code=11))
        (self.tree / KERNEL).write_text("edited\n")
        text = self.tool("status", code=12)
        self.assertIn(f"edited: {self.tree / KERNEL}\n", text)
        text = self.tool("apply", code=1)
        self.assertTrue(text.startswith("overlay: error: edited since"), text)
        self.assertIn(str(self.tree / KERNEL), text)
        (self.tree / KERNEL).write_bytes(OVERLAY[KERNEL])
        self.assertIn("reverted 4 files", self.tool("revert"))
        self.assertIn("nothing to do", self.tool("revert"))
        self.assert_pristine()

    def test_from_another_folder_with_relative_paths(self) -> None:
        self.tree.rename(self.folder / "дерево 1")
        options = ["--tree", "дерево 1", "--patch-set", "patch set"]
        for command in ("apply", "revert"):
            result = run_tool(command, *options, cwd=self.folder)
            self.assertEqual(result.returncode, 0, result.stderr)
        self.tree = self.folder / "дерево 1"
        self.assert_pristine()

    def test_a_path_that_cannot_be_shown(self) -> None:
        odd = os.fsdecode(os.fsencode(self.folder) + b"/odd \xff")
        self.tree.rename(odd)
        for command in ("apply", "status", "revert"):
            result = run_tool(command, "--tree", odd, "--patch-set", self.patch_set)
            self.assertEqual(result.returncode, 0, result.stderr)
        Path(odd, KERNEL).write_text("edited\n")
        result = run_tool("apply", "--tree", odd, "--patch-set", self.patch_set)
        self.assertEqual(result.returncode, 1)
        self.assertIn(KERNEL, result.stderr)

    def test_json(self) -> None:
        status = json.loads(self.tool("status", "--json", code=10))
        self.assertEqual(status["state"], "not applied")
        self.assertEqual(status["base"], "v9.9.0")
        applied = json.loads(self.tool("apply", "--json"))
        self.assertEqual(applied["outcome"], "applied")
        self.assertEqual(len(applied["written"]), 4)
        (self.tree / KERNEL).write_text("edited\n")
        (self.tree / NEW).unlink()
        status = json.loads(self.tool("status", "--json", code=12))
        self.assertEqual(status["exit_code"], 12)
        self.assertEqual(status["files"][KERNEL], "edited")
        self.assertEqual(status["files"][NEW], "restored")
        self.assertEqual(status["patch_set"], applied["patch_set"])
        result = run_tool("revert", "--tree", self.tree, "--json")
        self.assertEqual(json.loads(result.stdout)["exit_code"], 1)
        self.assertIn(KERNEL, json.loads(result.stdout)["error"])

    def test_quiet(self) -> None:
        self.assertEqual(self.tool("apply", "--quiet"), "")
        self.assertEqual(self.tool("status", "--quiet"), "")
        self.assertEqual(self.tool("revert", "--quiet"), "")
        self.assertEqual(self.tool("status", "--quiet", code=10), "")
        (self.tree / KERNEL).write_text("edited\n")
        self.assertIn(KERNEL, self.tool("apply", "--quiet", code=1))

    def test_a_reader_that_goes_away(self) -> None:
        """As in `overlay.py apply ... | head -0`: done, and nothing to complain of."""
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, "-B", str(SCRIPT), "apply"]
        options = ["--tree", str(self.tree), "--patch-set", str(self.patch_set)]
        result = subprocess.run(
            [*command, *options],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        os.close(writing)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(self.status().exit_code, 0)

    def test_wrong_usage(self) -> None:
        for arguments in ([], ["apply"], ["other", "--tree", "x"]):
            self.assertEqual(run_tool(*arguments).returncode, 2)

    def test_no_such_folder(self) -> None:
        result = run_tool("apply", "--tree", self.folder / "nowhere")
        self.assertEqual(result.returncode, 1)
        self.assertIn("nowhere is not a folder", result.stderr)

    def test_help_tells_the_exit_status_once(self) -> None:
        words = run_tool("--help").stdout
        for part in ("10  status: not applied", ".torch_overlay.json"):
            self.assertIn(part, words)
        result = run_tool("apply", "--help")
        self.assertEqual(result.returncode, 0)
        self.assertIn("--tree", result.stdout)
        self.assertIn("exit status: see overlay.py --help", result.stdout)
        self.assertNotIn("10  status: not applied", result.stdout)

    def test_no_git(self) -> None:
        environment = {**os.environ, "PATH": str(self.folder)}
        options = ["--tree", str(self.tree), "--patch-set", str(self.patch_set)]
        result = run_tool("apply", *options, env=environment)
        self.assertEqual(result.returncode, 3)
        self.assertIn("git was not found", result.stderr)
        self.assert_pristine()
        # A wheel without patches, and revert, need none.
        make_patch_set(self.patch_set, patches=[])
        for command in ("apply", "revert"):
            result = run_tool(command, *options, env=environment)
            self.assertEqual(result.returncode, 0, result.stderr)
        self.assert_pristine()

    def test_a_checkout(self) -> None:
        self.tree = self.folder / "checkout"
        make_patch_set(self.patch_set, commit=make_checkout(self.tree))
        self.tool("apply")
        self.tool("revert")
        self.assertEqual(git(self.tree, "status", "--porcelain"), "")

    def test_pin(self) -> None:
        make_patch_set(self.patch_set, pinned=[])
        self.assertIn("was not pinned", self.tool("apply", code=1))
        self.assertIn("pinned 2 files", self.tool("pin"))
        self.tool("apply")
        self.assertIn("revert it first", self.tool("pin", "--keep", code=1))


class LockTest(OverlayTestCase):
    def start(self, command: str) -> subprocess.Popen[str]:
        options = ["--tree", str(self.tree), "--patch-set", str(self.patch_set)]
        return subprocess.Popen(
            [sys.executable, "-B", str(SCRIPT), command, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def test_the_second_waits_and_says_for_whom(self) -> None:
        with locked(State(self.tree), "a test", never_waits):
            before = snapshot(self.tree)
            second = self.start("apply")
            assert second.stderr is not None
            line = second.stderr.readline()
            self.assertIn(f"waiting for process {os.getpid()}", line)
            self.assertIn("(a test, since ", line)
            self.assertEqual(self.status().exit_code, 14)
            time.sleep(0.1)
            self.assertIsNone(second.poll())
            self.assertEqual(snapshot(self.tree), before)
        output, errors = second.communicate()
        self.assertEqual(second.returncode, 0, errors)
        self.assertIn("applied 4 files", output)
        self.assertFalse((self.tree / ".torch_overlay" / "lock").exists())

    def test_many_at_once(self) -> None:
        for command, first in (("apply", "applied 4"), ("revert", "reverted 4")):
            processes = [self.start(command) for _ in range(4)]
            outputs = [process.communicate() for process in processes]
            codes = [process.returncode for process in processes]
            self.assertEqual(codes, [0] * 4, outputs)
            done = [output for output, _ in outputs if output.startswith(first)]
            self.assertEqual(len(done), 1, outputs)
        self.assert_pristine()

    def test_a_lock_without_a_holder_is_nobody(self) -> None:
        place = self.tree / ".torch_overlay"
        place.mkdir()
        Path(place, "lock").write_text('{"pid": 1}')
        self.assertEqual(self.status().exit_code, 10)
        self.apply()
        self.revert()
        self.assert_pristine()


if __name__ == "__main__":
    unittest.main()
