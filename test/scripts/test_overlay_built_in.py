"""A torch that came with the overlay: from our wheel, from a commit, from a build."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any

from overlay_fixtures import (
    BASE_FILES,
    KERNEL,
    NEW,
    OVERLAY,
    PATCHED,
    WHEEL_COMMIT,
    OverlayTestCase,
    commit_all,
    edited_lines,
    git,
    make_checkout,
    make_diff,
    make_patch_set,
    make_wheel,
    never_waits,
    run_tool,
    snapshot,
    write_files,
)
from overlay_tool import checking, commands, refreshing, wheels
from overlay_tool.bases import load_bases, save_bases
from overlay_tool.patch_set import load_patch_set
from test_overlay_make_wheel import FILES, write_wheel

NEWER = {**OVERLAY, NEW: b"# newer\n"}


def install(wheel: Path, target: Path) -> None:
    """As users do; ``--upgrade`` leaves the metadata of another version there."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index"]
    command += ["--no-deps", "--upgrade", "--target", str(target), str(wheel)]
    subprocess.run(command, check=True)


class BuiltInTest(OverlayTestCase):
    def digest(self) -> str:
        patch_set = load_patch_set(self.patch_set)
        return patch_set.digest(patch_set.bases[0])

    def assert_state(self, state: str, code: int, *parts: str) -> Any:
        """Status says so, and changes nothing."""
        before = snapshot(self.tree)
        report = self.status()
        self.assertEqual(report.details["state"], state, report.summary)
        self.assertEqual(report.exit_code, code)
        for part in (state, *parts):
            self.assertIn(part, report.summary)
        self.assertEqual(snapshot(self.tree), before)
        return report

    def assert_in_one_line(self, command: Any, *parts: str) -> None:
        """The command is refused so, and changes nothing."""
        with self.assertRaisesRegex(Exception, r"\A[^\n]*\Z"):
            command()
        self.assert_refused(command, *parts)

    def revert_by_command(self) -> Any:
        """As the command line does, which knows the patch set."""
        return commands.revert(self.tree, never_waits, self.patch_set)

    def refresh(self) -> Any:
        return refreshing.refresh(self.tree, self.patch_set, never_waits)


class OurWheelTest(BuiltInTest):
    """Installed by pip once, and copied for each test."""

    installed: Path
    pristine_wheel: Path
    version: str

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        root = Path(folder.name)
        cls.pristine_wheel = root / "torch-9.9.0+cpu-py3-none-any.whl"
        write_wheel(cls.pristine_wheel, FILES)
        make_patch_set(root / "patch set")
        report = wheels.make_wheel(
            cls.pristine_wheel, root, root / "patch set"
        )
        cls.version = str(report.details["version"])
        cls.installed = root / "installed"
        install(Path(str(report.details["wheel"])), cls.installed)

    def setUp(self) -> None:
        super().setUp()
        shutil.rmtree(self.tree)
        shutil.copytree(self.installed, self.tree)

    def test_applied(self) -> None:
        report = self.assert_state(
            *("applied", 0, "4 files, base v9.9.0", self.digest()[:12]),
            f"from the wheel {self.version}",
        )
        self.assertEqual(report.details["applied_patch_set"], self.digest())
        self.assertEqual(report.details["applied_base"], "v9.9.0")
        self.assertEqual(set(report.details["files"]), {*OVERLAY, PATCHED})
        self.assertEqual(report.notes, ())
        applied = self.apply()
        self.assertRegex(applied.summary, "already applied, nothing to do.*wheel")
        self.assertEqual(applied.details["patch_set"], self.digest())

    def test_command_line(self) -> None:
        where = ("--tree", self.tree, "--patch-set", self.patch_set)
        before = snapshot(self.tree)
        status = run_tool("status", *where)
        self.assertEqual((status.returncode, status.stderr), (0, ""))
        self.assertRegex(status.stdout, r"\Aapplied: .* from the wheel .*\n\Z")
        revert = run_tool("revert", *where)
        self.assertEqual((revert.returncode, revert.stdout), (1, ""))
        self.assertIn("pip install --force-reinstall", revert.stderr)
        self.assertEqual(revert.stderr.count("\n"), 1)
        self.assertEqual(snapshot(self.tree), before)

    def test_outdated(self) -> None:
        make_patch_set(self.patch_set, overlay=NEWER)
        report = self.assert_state("outdated", 11, self.digest()[:12], self.version)
        self.assertEqual(report.details["applied_patch_set"], self.version[-12:])
        make = "`python scripts/overlay.py wheel --from torch-9.9.0*.whl --out dist`"
        self.assert_in_one_line(self.apply, self.version, make)

    def test_edited_and_deleted(self) -> None:
        for path in (KERNEL, PATCHED):
            before = (self.tree / path).read_bytes()
            for content in (b"edited\n", BASE_FILES[path], None):
                with self.subTest(path=path, content=content):
                    if content is None:
                        (self.tree / path).unlink()
                    else:
                        (self.tree / path).write_bytes(content)
                    report = self.assert_state("edited", 12, "1 file", "wheel")
                    kind = "deleted" if content is None else "edited"
                    self.assertEqual(report.lines, (f"{kind}: {self.tree / path}",))
                    self.assert_in_one_line(self.apply, "overlay.py wheel")
            (self.tree / path).write_bytes(before)
        self.assert_state("applied", 0)

    def test_edited_goes_before_outdated_as_after_apply(self) -> None:
        make_patch_set(self.patch_set, overlay=NEWER)
        (self.tree / KERNEL).write_bytes(b"edited\n")
        self.assert_state("edited", 12)

    def test_a_file_that_a_newer_patch_set_brings_is_no_edit(self) -> None:
        overlay = {**OVERLAY, "torch/_inductor/more.py": b"more\n"}
        make_patch_set(self.patch_set, overlay=overlay)
        report = self.assert_state("outdated", 11)
        self.assertNotIn("torch/_inductor/more.py", report.details["files"])

    def test_a_base_that_is_not_known_any_more(self) -> None:
        make_patch_set(self.patch_set, commit="2" * 40)
        self.assert_state("outdated", 11, self.version, "not a known base")
        self.assert_in_one_line(self.apply, "overlay.py wheel")

    def test_the_others_say_what_to_do(self) -> None:
        pristine = "`pip install --force-reinstall --no-deps torch==9.9.0`"
        self.assert_in_one_line(self.revert, self.version, pristine)
        self.assert_in_one_line(self.revert_by_command, self.version, pristine)
        self.assert_in_one_line(self.refresh, self.version, pristine, "overlay.py wh")
        pins = snapshot(self.patch_set)
        self.assert_in_one_line(
            lambda: commands.pin(self.tree, self.patch_set, False), pristine
        )
        self.assertEqual(snapshot(self.patch_set), pins)

    def test_check(self) -> None:
        report = checking.check(self.tree, self.patch_set)
        self.assertIn(f"from the wheel {self.version}", report.notes[0])
        self.assertEqual(report.exit_code, 0)

    def test_installed_over_what_apply_was_used_on(self) -> None:
        shutil.rmtree(self.tree)
        make_wheel(self.tree)
        self.apply()
        shutil.copytree(self.installed, self.tree, dirs_exist_ok=True)
        report = self.assert_state("applied", 0, "from the wheel")
        self.assertIn("delete both", report.notes[0])
        self.assertIn(str(self.tree / ".torch_overlay.json"), report.notes[0])
        self.assert_in_one_line(self.revert, "from the wheel")

    def test_a_change_that_was_cut_off_before_is_not_undone(self) -> None:
        write_files(self.tree, {".torch_overlay/journal.json": b"{}"})
        self.assert_state("applied", 0, "from the wheel")

    def test_the_wheel_without_it_in_its_place(self) -> None:
        install(self.pristine_wheel, self.tree)
        # The metadata of both is there now; torch is the one without.
        self.assertEqual(len(list(self.tree.glob("torch-*.dist-info"))), 2)
        self.assert_state("not applied", 10, "base v9.9.0")
        self.assertIn("applied 4 files", self.apply().summary)
        self.assert_state("applied", 0)
        self.assertIn("reverted", self.revert().summary)

    def test_the_record_is_that_of_the_version(self) -> None:
        """Whichever of the two that are there after ``--upgrade`` comes first."""
        make_patch_set(self.patch_set, overlay=NEWER)
        report = wheels.make_wheel(
            self.pristine_wheel, self.folder, self.patch_set
        )
        newer = Path(str(report.details["wheel"]))
        install(newer, self.tree)
        self.assertEqual(len(list(self.tree.glob("torch-*.dist-info"))), 2)
        self.assert_state("applied", 0, newer.name.split("-")[1])
        for folder in self.installed.glob("torch*"):
            shutil.copytree(folder, self.tree / folder.name, dirs_exist_ok=True)
        self.assert_state("outdated", 11, self.version)

    def test_a_release_that_shares_the_base_of_another(self) -> None:
        make_patch_set(self.patch_set, commit="2" * 40)
        file = self.patch_set / "patches" / "bases.toml"
        (base,) = load_bases(file)
        save_bases(file, [replace(base, also={"v9.9.1": WHEEL_COMMIT})])
        report = wheels.make_wheel(
            self.pristine_wheel, self.folder, self.patch_set
        )
        shutil.rmtree(self.tree)
        install(Path(str(report.details["wheel"])), self.tree)
        status = self.assert_state("applied", 0)
        digest = status.details["applied_patch_set"]
        self.assertEqual(digest, report.details["patch_set"])
        self.assertEqual(self.apply().details["patch_set"], digest)

    def test_metadata_that_is_gone(self) -> None:
        """As where somebody copied torch/ only."""
        for folder in self.tree.glob("torch-*.dist-info"):
            shutil.rmtree(folder)
        self.assert_state("applied", 0, self.digest()[:12], "torch's own files")
        (self.tree / PATCHED).write_bytes(b"edited\n")
        self.assert_state("outdated", 11, "without a receipt")


class OwnFilesTest(BuiltInTest):
    """No apply left a receipt, and no wheel of ours says it."""

    def lay(self) -> None:
        write_files(self.tree, {**OVERLAY, PATCHED: edited_lines(line_20="ours")})

    def assert_built_in(self) -> None:
        report = self.assert_state(
            "applied", 0, "base v9.9.0", self.digest()[:12], "torch's own files"
        )
        self.assertEqual(report.details["applied_patch_set"], self.digest())
        self.assertIn("already applied, nothing to do", self.apply().summary)
        for command in (self.revert_by_command, self.refresh):
            self.assert_in_one_line(command, "no receipt", "with git")

    def check_out(self) -> None:
        """Takes the wheel's place by a checkout."""
        shutil.rmtree(self.tree)
        make_patch_set(self.patch_set, make_checkout(self.tree))

    def test_built_from_a_checkout_that_it_was_applied_to(self) -> None:
        self.lay()
        self.assert_built_in()

    def test_built_from_an_exported_branch(self) -> None:
        """Its commit is no known base."""
        self.lay()
        version = f"git_version = '{'3' * 40}'\n"
        write_files(self.tree, {"torch/version.py": version.encode()})
        self.assert_built_in()
        (self.tree / KERNEL).write_bytes(b"edited\n")
        self.assert_refused(self.status, "3" * 40, "not a known base")

    def test_committed_with_the_receipt(self) -> None:
        self.check_out()
        self.apply()
        commit_all(self.tree, "with the overlay")
        report = self.assert_state("applied", 0, "4 files, base v9.9.0")
        self.assertEqual(report.details["origin"], "by apply")
        clone = self.folder / "clone"
        git(self.folder, "clone", "-q", str(self.tree), str(clone))
        self.tree = clone
        self.assert_state("applied", 0)
        self.assertIn("reverted", self.revert().summary)
        self.assertEqual((clone / KERNEL).read_bytes(), BASE_FILES[KERNEL])

    def test_committed_without_the_receipt(self) -> None:
        self.check_out()
        self.lay()
        self.assert_built_in()
        commit_all(self.tree, "with the overlay")
        self.assert_built_in()

    def test_a_patch_set_of_several_patches(self) -> None:
        after = edited_lines(line_20="ours, again", line_30="more")
        second = make_diff({PATCHED: edited_lines(line_20="ours")}, {PATCHED: after})
        first = (self.patch_set / "patches/v9.9.0/0001-ir.patch").read_bytes()
        make_patch_set(self.patch_set, patches=[("1", first), ("2", second)])
        self.lay()
        write_files(self.tree, {PATCHED: after})
        self.assert_built_in()

    def test_another_patch_set_or_edits(self) -> None:
        self.check_out()
        self.lay()
        commit_all(self.tree, "with the overlay")
        edits = {KERNEL: b"edited\n", PATCHED: edited_lines(line_20="o", line_3="x")}
        for path, content in edits.items():
            with self.subTest(path):
                before = (self.tree / path).read_bytes()
                (self.tree / path).write_bytes(content)
                report = self.assert_state("outdated", 11, "without a receipt", "git")
                self.assertIn(f"there: {NEW}", report.lines)
                (self.tree / path).write_bytes(before)
        make_patch_set(
            self.patch_set, git(self.tree, "rev-parse", "HEAD~").strip(), overlay=NEWER
        )
        self.assert_state("outdated", 11, "without a receipt")
        self.assert_refused(self.apply, "not those of base v9.9.0")

    def test_an_edit_beside_the_patched_lines_shows(self) -> None:
        """Patches fit in reverse, but what they leave is not the base's."""
        self.lay()
        content = edited_lines(line_20="ours", line_3="edited")
        (self.tree / PATCHED).write_bytes(content)
        self.assert_state("outdated", 11)

    def test_pin(self) -> None:
        self.lay()
        self.assert_in_one_line(
            lambda: commands.pin(self.tree, self.patch_set, False), "not pristine"
        )


if __name__ == "__main__":
    unittest.main()
