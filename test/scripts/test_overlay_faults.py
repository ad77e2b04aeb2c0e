"""Faults between any two writes: kills, a full disk, a folder we may not write.

A run is done in a forked child, in which every function of ``os`` that changes
something is counted; at one count the child is killed, or gets an error. That is
repeated for every count until the run gets through.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from overlay_fixtures import (
    KERNEL,
    NEW,
    OVERLAY,
    OverlayTestCase,
    Snapshot,
    make_patch_set,
    replaced,
    snapshot,
    torch_contents,
    write_files,
)
from overlay_tool import commands
from overlay_tool.errors import OverlayError
from overlay_tool.refreshing import refresh

WRITERS = (
    "fchmod",
    "fsync",
    "ftruncate",
    "link",
    "mkdir",
    "open",
    "pwrite",
    "replace",
    "rmdir",
    "unlink",
    "write",
)
# Killed before an fsync is the same as killed before what comes after it.
CHANGES = tuple(name for name in WRITERS if name not in ("fsync", "fchmod"))
# What a full disk does not let happen.
NEED_SPACE = ("link", "mkdir", "open", "pwrite", "write")

Fault = Callable[[int, str, Sequence[Any]], None]


def inject(tree: Path, fault: Fault) -> dict[str, Any]:
    """Counterparts of the WRITERS that call ``fault`` first, with their count.

    Only what happens in ``tree`` counts.
    """
    count = 0
    cut = False

    def place_of(arguments: Sequence[Any], options: Mapping[str, Any]) -> str:
        place, folder = arguments[0], options.get("dir_fd")
        if isinstance(place, int):
            return os.readlink(f"/proc/self/fd/{place}")
        if folder is not None:
            return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), place)
        return str(place)

    def wrap(name: str) -> Any:
        original = getattr(os, name)

        def wrapper(*arguments: Any, **options: Any) -> Any:
            nonlocal count, cut
            place = place_of(arguments, options)
            changes = name != "open" or arguments[1] & os.O_CREAT
            if changes and place.startswith(str(tree)):
                count += 1
                cut = name == "write" and not cut and len(arguments[1]) > 1
                if cut:  # A write may stop in the middle.
                    half = len(arguments[1]) // 2
                    arguments = (arguments[0], arguments[1][:half])
                fault(count, name, arguments)
            return original(*arguments, **options)

        return wrapper

    return {name: wrap(name) for name in WRITERS}


def modules(tree: Path) -> dict[str, bytes]:
    """The files below ``torch/`` but for what Python cached."""
    contents = torch_contents(tree)
    return {path: contents[path] for path in contents if "__pycache__" not in path}


def contents(folder: Path) -> dict[Path, bytes]:
    """All files below it."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


class FaultTestCase(OverlayTestCase):
    def setUp(self) -> None:
        super().setUp()
        # Small, as each step is one run. What a patch makes is written alike.
        ours = {path: OVERLAY[path] for path in (KERNEL, NEW)}
        make_patch_set(self.patch_set, overlay=ours, patches=[])
        self.old_set = self.folder / "old set"
        tool = "torch/_inductor/tool.sh"
        make_patch_set(
            self.old_set,
            overlay={NEW: b"# older\n", tool: b"# ours for a while\n"},
            patches=[],
        )
        self.enterContext(replaced(tempfile, tempdir=str(self.folder)))
        # Nobody pulls the plug here, and waiting for the disk takes most of the time.
        self.enterContext(replaced(os, fsync=lambda descriptor: None))

    def prepare(self) -> None:
        """Brings back the tree that ``make_template`` made."""
        shutil.rmtree(self.tree)
        shutil.copytree(self.template, self.tree, symlinks=True)

    def make_template(self, name: str) -> None:
        """Brings the tree where the command ``name`` has the most to do."""
        if name == "update":
            commands.apply(self.tree, self.old_set, self.fail)
        elif name == "revert":
            self.apply()
            cache = (self.tree / NEW).parent / "__pycache__"
            cache.mkdir()
            (cache / "ranges.cpython-311.pyc").write_bytes(b"")
        self.template = self.folder / "template"
        shutil.rmtree(self.template, ignore_errors=True)
        shutil.copytree(self.tree, self.template, symlinks=True)

    def steps(self, name: str, kinds: Sequence[str]) -> list[int]:
        """The counts at which the command ``name`` does something of ``kinds``."""
        done: list[str] = []
        self.prepare()
        with replaced(
            os, **inject(self.tree, lambda count, kind, _: done.append(kind))
        ):
            self.command(name)()
        found = [count for count, kind in enumerate(done, 1) if kind in kinds]
        self.assertGreater(len(found), 10)
        return found

    def command(self, name: str) -> Callable[[], commands.Report]:
        return self.revert if name == "revert" else self.apply

    def in_child(
        self, fault: Fault, run: Callable[[], object], tree: Path | None = None
    ) -> int:
        """Runs it in a child; the result is a wait status."""
        child = os.fork()
        if child == 0:
            try:
                with replaced(os, **inject(tree or self.tree, fault)):
                    run()
                os._exit(0)
            except BaseException:  # noqa: BLE001
                os._exit(1)
        return os.waitpid(child, 0)[1]


class KillTest(FaultTestCase):
    def remove_lock(self) -> None:
        """Of a process that was killed; whoever is next does that."""
        (self.tree / ".torch_overlay" / "lock").unlink(missing_ok=True)

    def kill_everywhere(self, name: str) -> None:
        self.make_template(name)
        before = modules(self.tree)
        for step in self.steps(name, CHANGES):
            self.prepare()

            def fault(count: int, _: str, __: object, at: int = step) -> None:
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)

            status = self.in_child(fault, self.command(name))
            self.assertTrue(os.WIFSIGNALED(status), (name, step))
            with self.subTest(command=name, step=step):
                self.check_recovery(name, step, before)

    def check_recovery(self, name: str, step: int, before: dict[str, bytes]) -> None:
        at_kill = snapshot(self.tree)
        state = self.status()
        self.assertEqual(snapshot(self.tree), at_kill)
        journal = (self.tree / ".torch_overlay" / "journal.json").exists()
        self.assertEqual(state.exit_code == 13, journal)
        if not journal:
            # Nothing was touched yet, or everything was done.
            now = modules(self.tree)
            self.assertIn(now, (before, self.goal(name)))
        if step % 2:
            self.apply()
            self.assertEqual(self.status().exit_code, 0)
            self.assertEqual(modules(self.tree), self.goal("apply"))
        self.revert()
        self.assert_pristine()

    def goal(self, name: str) -> dict[str, bytes]:
        goals: dict[str, dict[str, bytes]] = self.__dict__.setdefault("goals", {})
        if name not in goals:
            tree, self.tree = self.tree, self.folder / "goal"
            shutil.copytree(self.template, self.tree, symlinks=True)
            self.revert()
            if name != "revert":
                self.apply()
            goals[name] = modules(self.tree)
            shutil.rmtree(self.tree)
            self.tree = tree
        return goals[name]

    def test_apply(self) -> None:
        self.kill_everywhere("apply")

    def test_update(self) -> None:
        self.kill_everywhere("update")

    def test_revert(self) -> None:
        self.kill_everywhere("revert")

    def test_refresh(self) -> None:
        """The tree keeps the edits, and the next refresh brings all of them back."""
        self.apply()
        edits = {KERNEL: b"# edited\n", NEW: b"# edited, too\n"}
        write_files(self.tree, edits)
        edited = modules(self.tree)
        template = self.folder.with_name(self.folder.name + " template")
        shutil.copytree(self.folder, template, symlinks=True)
        self.addCleanup(shutil.rmtree, template)

        def run() -> Any:
            return refresh(self.tree, self.patch_set, self.fail)

        def prepare() -> None:
            for place in (self.tree, self.patch_set):
                shutil.rmtree(place)
                shutil.copytree(template / place.relative_to(self.folder), place)

        done: list[str] = []
        with replaced(
            os, **inject(self.folder, lambda count, kind, _: done.append(kind))
        ):
            run()
        goal = contents(self.patch_set)
        steps = [count for count, kind in enumerate(done, 1) if kind in CHANGES]
        self.assertGreater(len(steps), 20)
        interrupted = 0
        for step in steps:
            prepare()

            def fault(count: int, _: str, __: object, at: int = step) -> None:
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)

            self.assertTrue(os.WIFSIGNALED(self.in_child(fault, run, self.folder)))
            with self.subTest(step=step):
                self.assertEqual(modules(self.tree), edited)
                if (self.patch_set / ".torch_overlay" / "journal.json").exists():
                    interrupted += 1
                    self.assertEqual(self.status().exit_code, 13)
                    self.assert_refused(self.apply, "run refresh again first")
                    self.assertRaises(OverlayError, self.revert)
                run()
                self.assertEqual(self.status().exit_code, 0)
                self.assertEqual(modules(self.tree), edited)
                self.assertEqual(contents(self.patch_set), goal)
                self.revert()
                self.assert_pristine()
        self.assertGreater(interrupted, 3)

    def test_refresh_of_what_somebody_changed_after_the_kill(self) -> None:
        self.apply()
        write_files(self.tree, {KERNEL: b"# edited\n"})
        ours = "torch_overlay/" + KERNEL.removeprefix("torch/")

        def fault(count: int, name: str, arguments: Sequence[Any]) -> None:
            if name == "replace" and str(arguments[1]).endswith(ours):
                os.kill(os.getpid(), signal.SIGKILL)

        def run() -> Any:
            return refresh(self.tree, self.patch_set, self.fail)

        self.assertTrue(os.WIFSIGNALED(self.in_child(fault, run, self.folder)))
        self.remove_lock()
        file = self.patch_set / ours
        content = file.read_bytes()
        file.write_bytes(b"# by somebody else\n")
        self.assert_refused(run, "was edited after a change of it was cut off")
        self.assertEqual(file.read_bytes(), b"# by somebody else\n")
        file.write_bytes(content)
        self.assertEqual(run().notes, ("a change that was cut off was undone first",))
        self.assertEqual(file.read_bytes(), b"# edited\n")

    def test_the_recovery_too(self) -> None:
        """Killed half-way, and then again at every step of undoing that."""
        self.make_template("update")
        self.prepare()
        replaces = 0

        def kill_late(count: int, name: str, arguments: Sequence[Any]) -> None:
            nonlocal replaces
            # Stop after the journal, with some of the tree replaced.
            if name == "replace":
                replaces += 1
            if replaces == 6:
                os.kill(os.getpid(), signal.SIGKILL)

        self.assertNotEqual(self.in_child(kill_late, self.apply), 0)
        self.assertEqual(self.status().exit_code, 13)
        shutil.rmtree(self.template)
        shutil.copytree(self.tree, self.template, symlinks=True)
        for step in self.steps("revert", CHANGES):
            self.prepare()

            def fault(count: int, _: str, __: object, at: int = step) -> None:
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)

            self.assertNotEqual(self.in_child(fault, self.revert), 0)
            with self.subTest(step=step):
                self.revert()
                self.assert_pristine()

    def test_an_edit_after_the_kill_is_kept(self) -> None:
        def fault(count: int, name: str, arguments: Sequence[Any]) -> None:
            # Between the last replacement and the commit.
            if name == "unlink" and str(arguments[0]).endswith("journal.json"):
                os.kill(os.getpid(), signal.SIGKILL)

        self.assertNotEqual(self.in_child(fault, self.apply), 0)
        self.remove_lock()
        (self.tree / KERNEL).write_text("edited\n")
        for command in (self.apply, self.revert):
            self.assert_refused(command, str(self.tree / KERNEL), "was edited after")
        (self.tree / KERNEL).write_bytes(OVERLAY[KERNEL])
        self.revert()
        self.assert_pristine()

    def test_kill_from_outside(self) -> None:
        """A signal that can be caught makes the tool itself undo."""
        script = (
            "import os, signal, sys; sys.argv[0] = 'overlay.py'\n"
            f"sys.path[:0] = [{str(Path(commands.__file__).parents[1])!r}]\n"
            "import overlay\n"
            "original = os.replace\n"
            "def replace(source, target):\n"
            "    original(source, target)\n"
            f"    if str(target).endswith({KERNEL!r}):\n"
            "        os.kill(os.getpid(), signal.SIGTERM)\n"
            "os.replace = replace\n"
            "sys.exit(overlay.main())\n"
        )
        options = ["--tree", str(self.tree), "--patch-set", str(self.patch_set)]
        result = subprocess.run(
            [sys.executable, "-B", "-c", script, "apply", *options],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(result.returncode, 128 + signal.SIGTERM, result.stderr)
        self.assertIn("stopped by SIGTERM", result.stderr)
        self.assert_pristine()


class ErrorTest(FaultTestCase):
    def run_with(self, fault: Fault, run: Callable[[], object]) -> str | None:
        """The message of the error that comes out, None if none does."""
        try:
            with replaced(os, **inject(self.tree, fault)):
                run()
        except OSError as error:
            self.assertIsNotNone(error.filename)
            return str(error)
        except OverlayError as error:
            return str(error)
        return None

    def fail_everywhere(
        self, name: str, code: int, names: Sequence[str], lasting: bool
    ) -> None:
        """One error, or one that stays, at each step in turn."""
        self.make_template(name)
        before = snapshot(self.tree)
        for step in self.steps(name, names):
            self.prepare()

            def fault(
                count: int, kind: str, arguments: Sequence[Any], at: int = step
            ) -> None:
                path = arguments[0]
                where = str(path) if isinstance(path, (str, Path)) else None
                hit = count >= at if lasting else count == at
                if hit and kind in names:
                    raise OSError(code, os.strerror(code), where)

            message = self.run_with(fault, self.command(name)) or ""
            with self.subTest(command=name, step=step, message=message):
                self.check(name, message, before, lasting)

    def check(self, name: str, message: str, before: Snapshot, lasting: bool) -> None:
        if not message:
            self.assertEqual(self.status().exit_code, 10 if name == "revert" else 0)
        elif "in place, but cleaning up failed" not in message:
            self.assertEqual(self.visible(snapshot(self.tree)), self.visible(before))
            if lasting:
                self.assertEqual(snapshot(self.tree), before)
        self.revert()
        self.assert_pristine()

    @staticmethod
    def visible(files: Snapshot) -> Snapshot:
        """All but the state folder and what Python cached."""
        return {
            path: entry
            for path, entry in files.items()
            if not path.startswith(".torch_overlay/") and "__pycache__" not in path
            if path != ".torch_overlay"
        }

    def test_disk_full_while_applying(self) -> None:
        self.fail_everywhere("apply", errno.ENOSPC, NEED_SPACE, lasting=True)

    def test_disk_full_while_updating(self) -> None:
        self.fail_everywhere("update", errno.ENOSPC, NEED_SPACE, lasting=True)

    def test_disk_full_while_reverting(self) -> None:
        self.fail_everywhere("revert", errno.ENOSPC, NEED_SPACE, lasting=True)

    def test_one_error_while_updating(self) -> None:
        self.fail_everywhere("update", errno.EIO, WRITERS, lasting=False)

    def test_a_read_only_tree(self) -> None:
        def fault(count: int, name: str, arguments: Sequence[Any]) -> None:
            if isinstance(arguments[0], (str, Path)):
                path = str(arguments[0])
                if path.startswith(str(self.tree)):
                    raise OSError(errno.EROFS, "Read-only file system", path)

        message = self.run_with(fault, self.apply)
        assert message is not None
        self.assertIn(".torch_overlay", message)
        self.assert_pristine()
        # What is applied already can still be asked for, and found.
        self.apply()
        self.assertIsNone(self.run_with(fault, self.apply))

    def test_a_folder_that_stays_closed(self) -> None:
        """Some files are in place before the error comes."""
        closed = str((self.tree / NEW).parent)

        def fault(count: int, name: str, arguments: Sequence[Any]) -> None:
            if name == "replace" and str(arguments[1]).startswith(closed):
                raise OSError(errno.EACCES, "Permission denied", str(arguments[1]))

        message = self.run_with(fault, self.apply)
        assert message is not None
        self.assertIn(str(self.tree / NEW), message)
        self.assert_pristine()

    def test_undoing_that_fails_is_told_and_done_later(self) -> None:
        def fault(count: int, name: str, arguments: Sequence[Any]) -> None:
            undoes = "backup" in str(arguments[0])
            if name == "replace" and (undoes or str(arguments[1]).endswith(NEW)):
                raise OSError(errno.EIO, "Input/output error", str(arguments[1]))

        make_patch_set(self.patch_set)
        message = self.run_with(fault, self.apply)
        assert message is not None
        self.assertIn("undoing that failed too", message)
        self.assertEqual(self.status().exit_code, 13)
        self.assertIn("cut off was undone", " ".join(self.revert().notes))
        self.assert_pristine()


if __name__ == "__main__":
    unittest.main()
