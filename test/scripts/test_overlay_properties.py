"""Whatever happens to a tree, in whatever order: nothing is lost, nothing half done.

Random patch sets, edits, commands and kills against a model that knows what the user
wrote and what is applied.
"""

from __future__ import annotations

import os
import signal
import tempfile
import unittest
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from overlay_fixtures import (
    BASE_FILES,
    KERNEL,
    NEW,
    NEW_DEEP,
    PATCHED,
    edited_lines,
    make_diff,
    make_patch_set,
    make_wheel,
    never_waits,
    replaced,
)
from overlay_tool import commands
from overlay_tool.errors import OverlayError
from overlay_tool.plan import load_receipt
from overlay_tool.filesystem import State
from test_overlay_faults import inject, modules

CRLF = "torch/_inductor/crlf.py"
ADDED = "torch/_inductor/added by a patch.py"
ODD = "torch/_inductor/range_dispatch/имя с пробелом.py"
# What the user may edit: files of the base, of ours, and one of nobody.
EDITABLE = (KERNEL, NEW, PATCHED, CRLF, ADDED, "torch/_inductor/mine.py")

CONTENTS = st.sampled_from([b"", b"one\n", b"two\r\nlines\r\n", b"no end", b"\0\xff"])
# Never what anybody else wrote: that would be no edit.
EDITS = CONTENTS.map(lambda content: b"the user's\n" + content)
OVERLAYS = st.dictionaries(
    st.sampled_from([KERNEL, NEW, NEW_DEEP, ODD]), CONTENTS, min_size=1
)
LINE_CHANGES = st.dictionaries(
    st.sampled_from(["line_3", "line_20", "line_21", "line_38"]),
    st.sampled_from(["ours", "ours\ntwice", ""]),
)
# At which of its changes of the tree a command is killed.
KILLS = st.integers(min_value=1, max_value=160)

Modules = dict[str, bytes]


class Trees(RuleBasedStateMachine):
    """``ours`` is what the patch set makes, ``edits`` what the user wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        root = Path(os.path.realpath(self.folder.name))
        self.tree, self.patch_set = root / "a tree", root / "a patch set"
        make_wheel(self.tree)
        self.edits: Modules = {}
        # Waiting for the disk takes most of the time.
        self.without_sync = replaced(os, fsync=lambda descriptor: None)
        self.without_sync.__enter__()

    def teardown(self) -> None:
        self.without_sync.__exit__(None, None, None)
        self.folder.cleanup()

    @initialize(overlay=OVERLAYS, lines=LINE_CHANGES, adds=st.booleans())
    def start(self, overlay: Modules, lines: dict[str, str], adds: bool) -> None:
        self.another_patch_set(overlay, lines, adds)

    @rule(overlay=OVERLAYS, lines=LINE_CHANGES, adds=st.booleans())
    def another_patch_set(
        self, overlay: Modules, lines: dict[str, str], adds: bool
    ) -> None:
        before = {PATCHED: BASE_FILES[PATCHED]}
        after = {PATCHED: edited_lines(**lines)}
        if adds:
            after[ADDED] = b"added\n"
        patch = make_diff(before, after)
        patches = [("1.patch", patch)] if before != after else []
        make_patch_set(self.patch_set, overlay=overlay, patches=patches)
        changed = {p: after[p] for p in after if after[p] != before.get(p)}
        self.ours: Modules = {**overlay, **changed}

    @rule(path=st.sampled_from(EDITABLE), content=EDITS)
    def edit(self, path: str, content: bytes) -> None:
        place = self.tree / path
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)
        self.edits[path] = content

    @rule()
    def take_edits_back(self) -> None:
        """Puts back what the tool or the base had there: then it may go on."""
        receipt = self.receipt()
        for path in self.edits:
            place = self.tree / path
            original = self.tree / ".torch_overlay" / "originals" / path
            if path in receipt and original.exists():
                place.write_bytes(original.read_bytes())
            elif path in receipt:
                place.unlink(missing_ok=True)
            elif path in BASE_FILES:
                place.write_bytes(BASE_FILES[path])
            else:
                place.unlink(missing_ok=True)
        self.edits.clear()

    @rule()
    def apply(self) -> None:
        before = modules(self.tree)
        report = self.run(self.do_apply)
        if report is None:
            self.check_refused(before)
            return
        now = modules(self.tree)
        for path, content in self.ours.items():
            assert now[path] == content, path
        assert self.status() == 0

    @rule()
    def revert(self) -> None:
        before = modules(self.tree)
        report = self.run(self.do_revert)
        if report is None:
            self.check_refused(before)
        else:
            self.check_reverted()

    @rule(kill=KILLS, reverts=st.booleans())
    def killed_command(self, kill: int, reverts: bool) -> None:
        command = self.do_revert if reverts else self.do_apply
        before_kill = modules(self.tree)

        def fault(count: int, name: str, arguments: Sequence[Any]) -> None:
            if count == kill:
                os.kill(os.getpid(), signal.SIGKILL)

        child = os.fork()
        if child == 0:
            try:
                with replaced(os, **inject(self.tree, fault)):
                    command()
            except OverlayError:
                pass
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        # What it says is true, and asking changes nothing.
        before = modules(self.tree)
        interrupted = (self.tree / ".torch_overlay" / "journal.json").exists()
        try:
            assert (self.status() == 13) == interrupted
        except OverlayError:
            assert not interrupted
        assert modules(self.tree) == before
        if interrupted:
            self.finish_what_was_killed(before_kill)

    @invariant()
    def no_edit_is_lost(self) -> None:
        for path, content in self.edits.items():
            assert (self.tree / path).read_bytes() == content, path

    def finish_what_was_killed(self, before: Modules) -> None:
        """The next command undoes a change that was cut off, even if it is refused."""
        if self.run(self.do_revert) is None:
            self.check_refused(before)
        else:
            self.check_reverted()
        folder = self.tree / ".torch_overlay"
        assert not (folder / "journal.json").exists()
        assert not [*folder.glob("staged/*"), *folder.glob("backup/*")]

    def check_reverted(self) -> None:
        version = "torch/version.py"
        expected = {**BASE_FILES, version: (self.tree / version).read_bytes()}
        assert modules(self.tree) == {**expected, **self.edits}
        assert not (self.tree / ".torch_overlay.json").exists()

    def check_refused(self, before: Modules) -> None:
        assert self.edits, "only an edit is a reason"
        assert modules(self.tree) == before

    def run(self, command: Callable[[], Any]) -> Any:
        """None if it was refused."""
        try:
            return command()
        except OverlayError:
            return None

    def do_apply(self) -> commands.Report:
        return commands.apply(self.tree, self.patch_set, never_waits)

    def do_revert(self) -> commands.Report:
        return commands.revert(self.tree, never_waits)

    def status(self) -> int:
        return commands.status(self.tree, self.patch_set).exit_code

    def receipt(self) -> set[str]:
        """The files that are applied."""
        receipt = load_receipt(State(self.tree))
        return set(receipt.files) if receipt is not None else set()


TestTrees = Trees.TestCase
TestTrees.settings = settings(
    max_examples=100,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


if __name__ == "__main__":
    unittest.main()
