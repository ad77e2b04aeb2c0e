"""apply, update and revert on small trees: what changes, and what must not."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import unittest
from pathlib import Path

from overlay_fixtures import (
    BASE_FILES,
    DEFAULT_PATCH,
    KERNEL,
    NEW,
    NEW_DEEP,
    OVERLAY,
    PATCHED,
    REPOSITORY,
    TAG,
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
    replaced,
    snapshot,
    torch_contents,
)
from overlay_tool.refreshing import refresh

APPLIED = {
    **{path: content for path, content in BASE_FILES.items()},
    **OVERLAY,
    PATCHED: edited_lines(line_20="ours"),
}


class ApplyTest(OverlayTestCase):
    def test_apply_and_revert(self) -> None:
        report = self.apply()
        self.assertIn("applied 4 files (base v9.9.0", report.summary)
        contents = torch_contents(self.tree)
        contents.pop("torch/version.py")
        self.assertEqual(contents, APPLIED)
        report = self.revert()
        self.assertIn("reverted 4 files", report.summary)
        self.assert_pristine()

    def test_apply_twice_changes_nothing(self) -> None:
        self.apply()
        before = snapshot(self.tree)
        self.assertIn("already applied, nothing to do", self.apply().summary)
        self.assertEqual(snapshot(self.tree), before)

    def test_revert_of_a_pristine_tree_changes_nothing(self) -> None:
        self.assertIn("nothing to do", self.revert().summary)
        self.assert_pristine()

    def test_update_touches_just_what_changed(self) -> None:
        self.apply()
        before = {path: os.stat(self.tree / path) for path in (KERNEL, PATCHED, NEW)}
        changed = {**OVERLAY, NEW: b"# other ranges\n"}
        make_patch_set(self.patch_set, overlay=changed)
        report = self.apply()
        self.assertIn("updated 1 of 4 files", report.summary)
        self.assertEqual((self.tree / NEW).read_bytes(), b"# other ranges\n")
        for path in (KERNEL, PATCHED):
            after = os.stat(self.tree / path)
            self.assertEqual(after.st_ino, before[path].st_ino)
            self.assertEqual(after.st_mtime_ns, before[path].st_mtime_ns)
        self.revert()
        self.assert_pristine()

    def test_update_of_a_patch_starts_from_the_original(self) -> None:
        self.apply()
        patch = make_diff(
            {PATCHED: BASE_FILES[PATCHED]}, {PATCHED: edited_lines(line_5="new")}
        )
        make_patch_set(self.patch_set, patches=[("0002.patch", patch)])
        self.apply()
        self.assertEqual((self.tree / PATCHED).read_bytes(), edited_lines(line_5="new"))
        self.revert()
        self.assert_pristine()

    def test_update_takes_back_what_is_not_ours_any_more(self) -> None:
        self.apply()
        make_patch_set(self.patch_set, overlay={NEW: OVERLAY[NEW]}, patches=[])
        report = self.apply()
        self.assertIn("took 3 back", report.summary)
        contents = torch_contents(self.tree)
        contents.pop("torch/version.py")
        self.assertEqual(contents, {**BASE_FILES, NEW: OVERLAY[NEW]})
        self.assertFalse((self.tree / NEW_DEEP).parent.exists())
        self.assertEqual(self.status().exit_code, 0)
        self.revert()
        self.assert_pristine()

    def test_a_new_patch_header_renews_the_receipt_only(self) -> None:
        self.apply()
        files = torch_contents(self.tree)
        header = b"Forwarded: no\n" + DEFAULT_PATCH
        make_patch_set(self.patch_set, patches=[("0001-ir.patch", header)])
        self.assertEqual(self.status().exit_code, 11)
        self.assertIn("the receipt only", self.apply().summary)
        self.assertEqual(torch_contents(self.tree), files)
        self.assertEqual(self.status().exit_code, 0)

    def test_hard_links_to_a_package_cache_are_left_alone(self) -> None:
        cache = self.folder / "cached.py"
        os.link(self.tree / KERNEL, cache)
        self.apply()
        self.assertEqual(cache.read_bytes(), BASE_FILES[KERNEL])
        self.revert()
        self.assertTrue(os.path.samefile(cache, self.tree / KERNEL))
        self.assert_pristine()

    def test_works_where_there_are_no_hard_links(self) -> None:
        def link(*arguments: object, **options: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        with replaced(os, link=link):
            self.apply()
            self.revert()
        self.assert_pristine()

    def test_modes_are_kept_and_restored(self) -> None:
        (self.tree / KERNEL).chmod(0o440)
        tool = "torch/_inductor/tool.sh"
        overlay = {**OVERLAY, tool: b"#!/bin/sh\necho ours\n"}
        make_patch_set(self.patch_set, overlay=overlay)
        before = snapshot(self.tree)
        self.apply()
        self.assertEqual(os.stat(self.tree / KERNEL).st_mode & 0o777, 0o440)
        self.assertEqual(os.stat(self.tree / tool).st_mode & 0o777, 0o755)
        self.assertEqual(os.stat(self.tree / NEW).st_mode & 0o777, 0o644)
        self.revert()
        self.assertEqual(snapshot(self.tree), before)

    def test_revert_leaves_no_package_behind(self) -> None:
        self.apply()
        cache = (self.tree / NEW).parent / "__pycache__"
        cache.mkdir()
        for name in ("ranges.cpython-311.pyc", "ranges.cpython-312.opt-1.pyc"):
            (cache / name).write_bytes(b"")
        self.revert()
        self.assert_pristine()

    def test_revert_keeps_what_others_put_beside_our_files(self) -> None:
        self.apply()
        theirs = (self.tree / NEW).parent / "theirs.py"
        theirs.write_text("# theirs\n")
        self.revert()
        self.assertEqual(theirs.read_text(), "# theirs\n")
        self.assertFalse((self.tree / NEW).exists())

    def test_an_original_put_back_by_hand_is_no_edit(self) -> None:
        self.apply()
        (self.tree / KERNEL).write_bytes(BASE_FILES[KERNEL])
        (self.tree / NEW).unlink()
        self.assertEqual(self.status().exit_code, 11)
        self.assertIn("updated 2 of 4", self.apply().summary)
        self.assertEqual((self.tree / KERNEL).read_bytes(), OVERLAY[KERNEL])
        (self.tree / KERNEL).write_bytes(BASE_FILES[KERNEL])
        self.revert()
        self.assertEqual((self.tree / KERNEL).read_bytes(), BASE_FILES[KERNEL])


class RefusalTest(OverlayTestCase):
    def test_an_edited_file_is_refused_by_both(self) -> None:
        self.apply()
        (self.tree / PATCHED).write_text("edited\n")
        make_patch_set(self.patch_set, overlay={**OVERLAY, NEW: b"# newer\n"})
        for command in (self.apply, self.revert):
            self.assert_refused(command, str(self.tree / PATCHED), "edited since")
        (self.tree / PATCHED).unlink()
        for command in (self.apply, self.revert):
            self.assert_refused(command, f"{self.tree / PATCHED} (deleted)")
        # The way out that the message tells.
        shutil.copy(
            self.tree / ".torch_overlay/originals" / PATCHED, self.tree / PATCHED
        )
        self.revert()
        self.assertEqual((self.tree / PATCHED).read_bytes(), BASE_FILES[PATCHED])

    def test_an_edit_equal_to_what_is_wanted_is_fine(self) -> None:
        self.apply()
        (self.tree / NEW).write_bytes(b"# newer\n")
        make_patch_set(self.patch_set, overlay={**OVERLAY, NEW: b"# newer\n"})
        self.apply()
        self.assertEqual(self.status().exit_code, 0)
        self.revert()
        self.assert_pristine()

    def test_an_unknown_base(self) -> None:
        make_patch_set(self.patch_set, commit="2" * 40)
        self.assert_refused(self.apply, WHEEL_COMMIT, "not a known base", "2" * 40)

    def test_a_repository_whose_history_does_not_tell(self) -> None:
        """Made from a wheel, shallow, or a mirror: torch/version.py tells."""
        (self.tree / "setup.py").write_text("# setup\n")
        git(self.tree, "init", "-q")
        commit_all(self.tree, "import")
        self.pristine = snapshot(self.tree)
        self.apply()
        self.assertEqual(self.status().exit_code, 0)
        commit_all(self.tree, "more")
        self.assertEqual(self.status().exit_code, 0)
        self.revert()
        self.assert_pristine()
        (self.tree / "torch/version.py").unlink()
        self.assert_refused(self.apply, "not a known base")

    def test_a_wrong_blob(self) -> None:
        (self.tree / KERNEL).write_text("not the base's\n")
        self.assert_refused(self.apply, str(self.tree / KERNEL), "accepted:")

    def test_a_missing_file(self) -> None:
        (self.tree / PATCHED).unlink()
        self.assert_refused(self.apply, f"{self.tree / PATCHED} is missing")

    def test_a_file_that_must_not_be_there(self) -> None:
        (self.tree / NEW).parent.mkdir()
        (self.tree / NEW).write_text("somebody else's\n")
        self.assert_refused(self.apply, f"{self.tree / NEW} exists")

    def test_a_folder_in_the_place_of_a_file(self) -> None:
        (self.tree / NEW).mkdir(parents=True)
        self.assert_refused(self.apply, str(self.tree / NEW))

    def test_no_tree(self) -> None:
        shutil.rmtree(self.tree / "torch" / "_inductor")
        self.assert_refused(self.apply, "not a PyTorch tree")

    def test_no_version(self) -> None:
        (self.tree / "torch/version.py").unlink()
        self.assert_refused(self.apply, "neither a git checkout nor an installed")

    def test_an_empty_patch_set(self) -> None:
        make_patch_set(self.patch_set, overlay={}, patches=[])
        self.assert_refused(self.apply, "neither overlay files nor patches")

    def test_a_lost_receipt_is_not_forgotten(self) -> None:
        self.apply()
        (self.tree / ".torch_overlay.json").unlink()
        for command in (self.apply, self.revert, self.status):
            self.assert_refused(command, "missing although", code=3)

    def test_a_damaged_receipt(self) -> None:
        self.apply()
        (self.tree / ".torch_overlay.json").write_text("{")
        for command in (self.apply, self.revert, self.status):
            self.assert_refused(command, "is damaged", code=3)

    def test_a_damaged_original(self) -> None:
        self.apply()
        (self.tree / ".torch_overlay/originals" / KERNEL).write_text("?")
        self.assert_refused(self.revert, "missing or damaged", code=3)


class UpgradeTest(OverlayTestCase):
    """Torch itself is replaced under an applied overlay, as pip does it."""

    def setUp(self) -> None:
        super().setUp()
        self.apply()
        # pip removes the files it knows, changed or not, and leaves ours.
        for path in BASE_FILES:
            (self.tree / path).unlink()
        make_wheel(self.tree, commit="2" * 40)
        (self.tree / PATCHED).write_text("another release\n")

    def test_revert_removes_our_files_and_keeps_the_new_torch(self) -> None:
        report = self.revert()
        self.assertIn(f"{PATCHED} is not ours any more", " ".join(report.notes))
        self.assertEqual((self.tree / PATCHED).read_text(), "another release\n")
        self.assertEqual(sorted(snapshot(self.tree)), sorted(self.pristine))

    def test_apply_moves_over_to_the_new_base(self) -> None:
        make_patch_set(self.patch_set, commit="2" * 40, patches=[])
        self.assertEqual(self.status().exit_code, 11)
        self.apply()
        self.assertEqual(self.status().exit_code, 0)
        self.assertEqual((self.tree / PATCHED).read_text(), "another release\n")
        self.revert()
        self.assertEqual(sorted(snapshot(self.tree)), sorted(self.pristine))


class CheckoutTest(OverlayTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.tree = self.folder / "checkout"
        self.commit = make_checkout(self.tree)
        make_patch_set(self.patch_set, commit=self.commit)
        self.pristine = snapshot(self.tree)

    def test_revert_leaves_git_status_clean(self) -> None:
        self.apply()
        self.assertIn(KERNEL, git(self.tree, "status", "--porcelain"))
        self.revert()
        self.assertEqual(git(self.tree, "status", "--porcelain"), "")
        self.assert_pristine()

    def test_commits_of_the_user_on_top(self) -> None:
        (self.tree / "mine.py").write_text("# mine\n")
        commit_all(self.tree, "mine")
        self.assertIn(f"base {TAG}", self.apply().summary)
        self.revert()
        # Once a commit changes a file that we replace, its blob decides.
        (self.tree / KERNEL).write_text("# mine\n")
        commit_all(self.tree, "mine too")
        self.assert_refused(self.apply, str(self.tree / KERNEL))

    def test_a_checkout_of_something_else(self) -> None:
        make_patch_set(self.patch_set, commit="2" * 40)
        self.assert_refused(self.apply, self.commit, "not a known base")

    def test_the_nearest_base_is_the_base(self) -> None:
        from overlay_tool.bases import Base
        from overlay_tool.trees import find_base, identify

        (self.tree / "next.py").write_text("# next\n")
        second = commit_all(self.tree, "next release")
        (self.tree / "mine.py").write_text("# mine\n")
        commit_all(self.tree, "mine")
        bases = [Base("first", self.commit, {}), Base("second", second, {})]
        for order in (bases, bases[::-1]):
            found = find_base(identify(self.tree), order)
            assert found is not None
            self.assertEqual(found.tag, "second")

    def test_a_linked_worktree(self) -> None:
        linked = self.folder / "linked"
        git(self.tree, "worktree", "add", "-q", str(linked))
        self.tree = linked
        self.apply()
        self.revert()
        self.assertEqual(git(linked, "status", "--porcelain"), "")

    def test_variables_of_a_git_hook_do_not_matter(self) -> None:
        other = self.folder / "other"
        other.mkdir()
        git(other, "init", "-q")
        os.environ["GIT_DIR"] = str(other / ".git")
        self.addCleanup(os.environ.pop, "GIT_DIR")
        self.apply()
        self.assertEqual(
            (self.tree / PATCHED).read_bytes(), edited_lines(line_20="ours")
        )
        self.revert()
        self.assert_pristine()


class PlaceTest(OverlayTestCase):
    def test_blanks_and_other_letters_in_the_path(self) -> None:
        place = self.folder / "a tree – дерево 'x' \"y\" $HOME"
        self.tree.rename(place)
        self.tree = place
        self.apply()
        self.revert()
        self.assert_pristine()

    def test_a_tree_on_another_file_system(self) -> None:
        """Than the patch set and the folder for temporary files."""
        memory = Path("/dev/shm")
        here = os.stat(self.folder).st_dev
        if not os.access(memory, os.W_OK) or os.stat(memory).st_dev == here:
            self.skipTest("there is no other file system")
        folder = tempfile.TemporaryDirectory(dir=memory)
        self.addCleanup(folder.cleanup)
        tree, self.tree = self.tree, Path(folder.name).resolve() / "tree"
        shutil.move(tree, self.tree)
        self.apply()
        self.assertEqual(self.status().exit_code, 0)
        (self.tree / NEW).write_bytes(b"# edited\n")
        refresh(self.tree, self.patch_set, never_waits)
        self.revert()
        contents = torch_contents(self.tree)
        self.apply()
        self.assertEqual((self.tree / NEW).read_bytes(), b"# edited\n")
        self.revert()
        self.assertEqual(torch_contents(self.tree), contents)
        self.assert_pristine()

    def test_torch_on_another_file_system_than_its_tree(self) -> None:
        """No file can be moved there: an error, and nothing is changed."""
        move = os.replace

        def replace(source: Path, target: Path) -> None:
            if Path(target).is_relative_to(self.tree / "torch"):
                raise OSError(errno.EXDEV, "Invalid cross-device link", str(target))
            move(source, target)

        with replaced(os, replace=replace):
            with self.assertRaisesRegex(OSError, "cross-device link"):
                self.apply()
        self.assert_pristine()

    def test_a_tree_through_a_link(self) -> None:
        link = self.folder / "link"
        link.symlink_to(self.tree)
        real, self.tree = self.tree, link
        self.apply()
        self.assertTrue((real / ".torch_overlay.json").is_file())
        self.revert()
        self.assertEqual(snapshot(real), self.pristine)
        self.assertTrue(link.is_symlink())

    def test_a_tree_inside_of_another_repository(self) -> None:
        git(self.folder, "init", "-q")
        git(self.folder, "config", "core.autocrlf", "true")
        self.apply()
        self.revert()
        self.assert_pristine()

    def test_nothing_is_written_through_a_link_in_the_tree(self) -> None:
        outside = self.folder / "outside"
        outside.mkdir()
        kernel = (self.tree / KERNEL).parent
        kernel.rename(outside / "kernel")
        kernel.symlink_to(outside / "kernel")
        before = snapshot(outside)
        self.assert_refused(self.apply, str(kernel), "symbolic link")
        self.assertEqual(snapshot(outside), before)

    def test_a_link_in_the_place_of_a_file(self) -> None:
        outside = self.folder / "outside.py"
        (self.tree / KERNEL).rename(outside)
        (self.tree / KERNEL).symlink_to(outside)
        self.assert_refused(self.apply, str(self.tree / KERNEL), "symbolic link")
        self.assertEqual(outside.read_bytes(), BASE_FILES[KERNEL])

    def test_a_link_in_the_place_of_our_state(self) -> None:
        outside = self.folder / "outside"
        outside.mkdir()
        (self.tree / ".torch_overlay").symlink_to(outside)
        for command in (self.apply, self.revert, self.status):
            self.assert_refused(command, ".torch_overlay was not made by this tool")
        self.assertEqual(list(outside.iterdir()), [])

    def test_a_receipt_that_points_outside(self) -> None:
        self.apply()
        receipt = self.tree / ".torch_overlay.json"
        outside = self.folder / "outside.py"
        outside.write_bytes(OVERLAY[NEW])
        for path in ("torch/../../outside.py", str(outside), "../outside.py"):
            text = receipt.read_text().replace(NEW, path)
            receipt.write_text(text)
            self.assert_refused(self.revert, "not inside torch/")
            receipt.write_text(text.replace(path, NEW))
        self.assertTrue(outside.exists())


class RepositoryTest(unittest.TestCase):
    """The patch set of this repository, without any torch."""

    def test_it_can_be_read(self) -> None:
        from overlay_tool.patch_set import load_patch_set

        patch_set = load_patch_set(REPOSITORY)
        tags = [base.tag for base in patch_set.bases]
        self.assertIn("v2.13.0", tags)
        for base in patch_set.bases:
            self.assertIn("torch/_inductor/config.py", patch_set.paths(base))

    def test_bases_are_written_the_one_way(self) -> None:
        from overlay_tool.bases import format_bases, load_bases

        file = Path(REPOSITORY, "patches", "bases.toml")
        self.assertEqual(format_bases(load_bases(file)), file.read_text("utf-8"))


if __name__ == "__main__":
    unittest.main()
