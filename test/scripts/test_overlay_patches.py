"""Patches: series files, what does not fit, and what tries to leave the tree."""

from __future__ import annotations

import os
import unittest
from collections.abc import Sequence

from overlay_fixtures import (
    BASE_FILES,
    DEFAULT_PATCH,
    KERNEL,
    NEW,
    OVERLAY,
    PATCHED,
    TAG,
    OverlayTestCase,
    edited_lines,
    make_diff,
    make_patch_set,
    snapshot,
)

TOOL = "torch/_inductor/tool.sh"
CRLF = "torch/_inductor/crlf.py"


def new_file_diff(path: str, mode: str = "100644", content: str = "x") -> bytes:
    """A hand-made patch that creates a file, at any path and of any type."""
    return (
        f"diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n"
        f"+++ b/{path}\n@@ -0,0 +1 @@\n+{content}\n\\ No newline at end of file\n"
    ).encode()


class PatchTestCase(OverlayTestCase):
    def use(self, *patches: bytes) -> None:
        """Makes a patch set of these patches, and no overlay."""
        named = [(f"{index:04d}.patch", data) for index, data in enumerate(patches, 1)]
        make_patch_set(self.patch_set, overlay={}, patches=named)

    def content(self, path: str) -> bytes:
        return (self.tree / path).read_bytes()


class FittingTest(PatchTestCase):
    def test_patches_build_on_each_other(self) -> None:
        first = edited_lines(line_3="one")
        second = edited_lines(line_3="two")
        self.use(
            make_diff({PATCHED: BASE_FILES[PATCHED]}, {PATCHED: first}),
            make_diff({PATCHED: first}, {PATCHED: second}),
        )
        self.apply()
        self.assertEqual(self.content(PATCHED), second)
        self.revert()
        self.assert_pristine()

    def test_an_offset_is_told(self) -> None:
        head = edited_lines(line_0="one\ntwo\nthree")
        self.use(make_diff({PATCHED: head}, {PATCHED: head.replace(b"20", b"ours")}))
        report = self.apply()
        self.assertIn("0001.patch: Hunk #1 succeeded", " ".join(report.notes))
        self.assertIn(b"line ours\n", self.content(PATCHED))

    def test_a_patch_may_create_and_remove_files(self) -> None:
        self.use(
            make_diff({KERNEL: BASE_FILES[KERNEL]}, {NEW: b"# made by a patch\n"}),
        )
        self.apply()
        self.assertFalse((self.tree / KERNEL).exists())
        self.assertEqual(self.content(NEW), b"# made by a patch\n")
        self.assertEqual(self.status().exit_code, 0)
        self.revert()
        self.assert_pristine()

    def test_a_patch_may_change_the_mode_alone(self) -> None:
        self.use(
            f"diff --git a/{TOOL} b/{TOOL}\nold mode 100755\nnew mode 100644\n".encode()
        )
        self.apply()
        self.assertEqual(os.stat(self.tree / TOOL).st_mode & 0o777, 0o644)
        self.assertIn("nothing to do", self.apply().summary)
        self.revert()
        self.assert_pristine()

    def test_line_ends_are_kept(self) -> None:
        after = b"one\r\nours\r\nthree\r\n"
        self.use(make_diff({CRLF: BASE_FILES[CRLF]}, {CRLF: after}))
        self.apply()
        self.assertEqual(self.content(CRLF), after)
        self.revert()
        self.assert_pristine()

    def test_blanks_and_other_letters_in_a_path(self) -> None:
        path = "torch/_inductor/a file – файл.py"
        self.use(make_diff({}, {path: b"# ours\n"}))
        self.apply()
        self.assertEqual(self.content(path), b"# ours\n")
        self.revert()
        self.assert_pristine()

    def test_the_configuration_of_git_does_not_matter(self) -> None:
        config = self.folder / "gitconfig"
        config.write_text("[apply]\nwhitespace = error\n[core]\nautocrlf = true\n")
        os.environ["GIT_CONFIG_GLOBAL"] = str(config)
        self.addCleanup(os.environ.pop, "GIT_CONFIG_GLOBAL")
        after = edited_lines(line_20="blanks at the end   ")
        self.use(make_diff({PATCHED: BASE_FILES[PATCHED]}, {PATCHED: after}))
        self.apply()
        self.assertEqual(self.content(PATCHED), after)

    def test_the_series_file(self) -> None:
        series = self.patch_set / "patches" / TAG / "series"
        series.write_text("# a comment\n\n  0001-ir.patch  # why\n")
        self.apply()
        self.assertEqual(self.content(PATCHED), edited_lines(line_20="ours"))
        series.unlink()
        self.apply()
        self.assertEqual(self.content(PATCHED), BASE_FILES[PATCHED])
        series.write_text("")
        self.assertIn("nothing to do", self.apply().summary)
        self.revert()
        self.assert_pristine()

    def test_a_patch_that_several_bases_share(self) -> None:
        one = make_diff(
            {PATCHED: b"another\n" + BASE_FILES[PATCHED]},
            {PATCHED: b"another\n" + edited_lines(line_20="ours")},
        )
        two = make_diff(
            {PATCHED: edited_lines(line_20="ours")},
            {PATCHED: edited_lines(line_20="ours", line_30="ours")},
        )
        make_patch_set(
            self.patch_set, patches=[("common/one.patch", one), ("two.patch", two)]
        )
        # At another line than in the base that it was made for, as is to be expected.
        self.assertEqual(self.apply().notes, ())
        both = edited_lines(line_20="ours", line_30="ours")
        self.assertEqual(self.content(PATCHED), both)
        self.revert()
        self.assert_pristine()


class NotFittingTest(PatchTestCase):
    def assert_does_not_apply(self, *parts: str) -> None:
        outside = sorted(path for path in self.folder.iterdir())
        self.assert_refused(self.apply, *parts)
        self.assert_pristine()
        self.assertEqual(sorted(self.folder.iterdir()), outside)

    def test_the_second_of_two_patches(self) -> None:
        other = edited_lines(line_20="something else")
        bad = make_diff({PATCHED: other}, {PATCHED: edited_lines(line_20="x")})
        self.use(DEFAULT_PATCH, bad)
        self.assert_does_not_apply("0002.patch does not fit", PATCHED)

    def test_no_fuzz(self) -> None:
        """One differing line of context, which patch(1) would let pass."""
        patch = DEFAULT_PATCH.replace(b" line 17\n", b" line 17 x\n")
        self.assertNotEqual(patch, DEFAULT_PATCH)
        self.use(patch)
        self.assert_does_not_apply("0001.patch does not fit")

    def test_not_a_patch(self) -> None:
        self.use(b"some words\n")
        self.assert_does_not_apply("0001.patch")

    def test_a_patch_of_an_unpinned_file(self) -> None:
        named = [("0001.patch", DEFAULT_PATCH)]
        make_patch_set(self.patch_set, patches=named, pinned=[KERNEL])
        self.assert_does_not_apply(PATCHED, "was not pinned")

    def test_a_file_that_is_overlaid_and_patched(self) -> None:
        overlay = {**OVERLAY, PATCHED: b"# ours\n"}
        make_patch_set(self.patch_set, overlay=overlay)
        self.assert_does_not_apply("both overlays", PATCHED, "0001-ir.patch")

    def test_a_rename(self) -> None:
        self.use(
            f"diff --git a/{KERNEL} b/{NEW}\nsimilarity index 100%\n"
            f"rename from {KERNEL}\nrename to {NEW}\n".encode()
        )
        self.assert_does_not_apply("0001.patch", "--no-renames")

    def test_a_bad_series(self) -> None:
        series = self.patch_set / "patches" / TAG / "series"
        for text, part in (
            ("0009.patch\n", "0009.patch is missing"),
            ("0001-ir.patch\n0001-ir.patch\n", "listed twice"),
            ("../bases.toml\n", "'../bases.toml' is not a file name"),
            ("common/../x\n", "'common/../x' is not a file name"),
            ("common/x.patch\n", "common/x.patch is missing"),
            ("/etc/passwd\n", "'/etc/passwd' is not a file name"),
        ):
            with self.subTest(text=text):
                series.write_text(text)
                self.assert_does_not_apply(part)


class EscapeTest(PatchTestCase):
    """A malicious patch set never writes outside of torch/ in the tree."""

    def assert_nothing_written(self, paths: Sequence[str]) -> None:
        for path in paths:
            with self.subTest(path=path):
                self.use(new_file_diff(path))
                everything = snapshot(self.folder)
                self.assert_refused(self.apply, "0001.patch")
                self.assertEqual(snapshot(self.folder), everything)

    def test_paths_that_leave_the_tree(self) -> None:
        self.assert_nothing_written(
            [
                "../escaped.py",
                "torch/../../escaped.py",
                "torch/../escaped.py",
                f"{self.folder}/escaped.py",
                "torch/./x.py",
                "torch//x.py",
            ]
        )

    def test_paths_that_are_not_ours(self) -> None:
        self.assert_nothing_written(
            [
                "setup.py",
                "numpy/core.py",
                ".git/hooks/post-checkout",
                "torch/.git/config",
                "torch/.GIT/config",
                ".torch_overlay.json",
                ".torch_overlay/journal.json",
                "torchx/x.py",
            ]
        )

    def test_a_link_made_by_a_patch(self) -> None:
        target = self.folder / "outside"
        target.mkdir()
        link = "torch/_inductor/link"
        self.use(new_file_diff(link, "120000", str(target)))
        self.assert_refused(self.apply, "0001.patch makes torch/_inductor/link")
        self.use(
            new_file_diff(link, "120000", str(target)), new_file_diff(f"{link}/x.py")
        )
        self.assert_refused(self.apply, "link")
        self.assertEqual(list(target.iterdir()), [])

    def test_a_folder_of_the_tree_that_is_a_link(self) -> None:
        outside = self.folder / "outside"
        outside.mkdir()
        (self.tree / NEW).parent.symlink_to(outside)
        self.assert_refused(self.apply, "symbolic link")
        self.assertEqual(list(outside.iterdir()), [])

    def test_links_in_the_overlay(self) -> None:
        place = self.patch_set / "torch_overlay" / "_inductor" / "link.py"
        for target in ("/etc/passwd", "kernel", "nowhere"):
            place.symlink_to(target)
            self.assert_refused(self.apply, str(place), "symbolic link")
            place.unlink()

    def test_a_patch_that_is_a_link(self) -> None:
        place = self.patch_set / "patches" / TAG / "0001-ir.patch"
        moved = self.folder / "elsewhere.patch"
        place.rename(moved)
        place.symlink_to(moved)
        self.assert_refused(self.apply, str(place), "symbolic link")

    def test_what_the_overlay_leaves_out(self) -> None:
        overlay = self.patch_set / "torch_overlay" / "_inductor"
        cache = overlay / "kernel" / "__pycache__"
        cache.mkdir()
        (cache / "custom_op.cpython-311.pyc").write_bytes(b"")
        (overlay / "old.pyc").write_bytes(b"")
        self.assertIn("applied 4 files", self.apply().summary)


if __name__ == "__main__":
    unittest.main()
