"""`overlay.py refresh`: what was edited in the tree comes back into the patch set."""

from __future__ import annotations

import unittest
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings, strategies as st
from overlay_fixtures import (
    BASE_FILES,
    KERNEL,
    LINES,
    NEW,
    NEW_DEEP,
    OVERLAY,
    PATCHED,
    OverlayTestCase,
    edited_lines,
    make_diff,
    make_patch_set,
    make_wheel,
    never_waits,
    run_tool,
    snapshot,
    torch_contents,
)
from overlay_tool import commands
from overlay_tool.bases import Base, load_bases, save_bases
from overlay_tool.checking import check
from overlay_tool.errors import Refused
from overlay_tool.git import find_edits
from overlay_tool.refreshing import assign, make_edits, rebuild, refresh

OTHER = "torch/_inductor/crlf.py"
FIRST = {"line_5": "first", "line_20": "first"}
SECOND = {"line_30": "second"}


def diff_of(before: Mapping[str, str], after: Mapping[str, str]) -> bytes:
    """From some changed lines to others."""
    contents = (edited_lines(**before), edited_lines(**after))
    return make_diff({PATCHED: contents[0]}, {PATCHED: contents[1]})


class RefreshTest(OverlayTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.set_patches(
            ("1.patch", diff_of({}, FIRST)),
            ("2.patch", diff_of(FIRST, FIRST | SECOND)),
        )

    def set_patches(self, *patches: tuple[str, bytes], **more: Any) -> None:
        make_patch_set(self.patch_set, patches=patches, **more)
        self.apply()

    def edit(self, path: str = PATCHED, content: bytes = b"", **lines: str) -> None:
        content = content or edited_lines(**FIRST | SECOND | lines)
        (self.tree / path).write_bytes(content)

    def refresh(self, **options: Any) -> Any:
        """Refreshes, reverts and applies: the edit is there again, and current."""
        edited = torch_contents(self.tree)
        report = refresh(self.tree, self.patch_set, never_waits, **options)
        self.assertEqual(torch_contents(self.tree), edited)
        self.assertEqual(self.status().exit_code, 0)
        self.assertEqual(self.refresh_again().details["outcome"], "nothing to do")
        self.revert()
        self.assert_pristine()
        self.assertEqual(self.apply().notes, ())  # no hunk is at another line
        self.assertEqual(torch_contents(self.tree), edited)
        return report

    def refresh_again(self) -> Any:
        before = snapshot(self.patch_set)
        report = refresh(self.tree, self.patch_set, never_waits)
        self.assertEqual(snapshot(self.patch_set), before)
        return report

    def patch(self, number: int) -> str:
        file = self.patch_set / "patches" / "v9.9.0" / f"{number}.patch"
        return file.read_text()

    def assert_refused_refresh(self, pattern: str, **options: Any) -> None:
        before = snapshot(self.folder)
        with self.assertRaisesRegex(Refused, pattern):
            refresh(self.tree, self.patch_set, never_waits, **options)
        after = snapshot(self.folder)
        for place in (before, after):  # the lock's file may come
            place.pop("site-packages/.torch_overlay/lock", None)
        self.assertEqual(after, before)

    def test_file_of_ours(self) -> None:
        self.edit(NEW, b"# edited\n")
        patches = self.patch(1), self.patch(2)
        report = self.refresh()
        self.assertEqual((self.patch(1), self.patch(2)), patches)
        ours = "torch_overlay/" + NEW.removeprefix("torch/")
        self.assertEqual(report.details["files"], [ours])
        self.assertEqual((self.patch_set / ours).read_bytes(), b"# edited\n")

    def test_new_file_in_a_folder_of_ours(self) -> None:
        place = self.tree / NEW_DEEP
        place.with_name("more.py").write_text("# more\n")
        place.with_name("__pycache__").mkdir()
        report = self.refresh()
        deep = "torch_overlay/_inductor/range_dispatch/deep/more.py"
        self.assertEqual(report.details["files"], [deep])

    def test_lines_of_a_patch(self) -> None:
        second = self.patch(2)
        self.edit(line_20="edited")
        report = self.refresh()
        self.assertEqual(report.details["files"], ["patches/v9.9.0/1.patch"])
        self.assertEqual(report.lines, (f"{PATCHED}:21: into 1.patch",))
        self.assertIn("\n-line 20\n+edited\n", self.patch(1))
        self.assertIn("\n+first\n", self.patch(1))
        self.assertTrue(self.patch(1).startswith("From: Test <test@example.org>\n"))
        self.assertTrue(self.patch(1).endswith("-- \n2.39\n"))
        self.assertEqual(self.patch(2), second)

    def test_a_patch_that_several_bases_share(self) -> None:
        # Made for a base that has a line more above.
        shared = make_diff(
            {PATCHED: b"another\n" + edited_lines(**FIRST)},
            {PATCHED: b"another\n" + edited_lines(**FIRST | SECOND)},
        )
        self.set_patches(
            ("common/1.patch", diff_of({}, FIRST)), ("common/2.patch", shared)
        )
        self.edit(line_20="edited")
        report = self.refresh()
        self.assertEqual(report.details["files"], ["patches/common/1.patch"])
        self.assertEqual(report.lines, (f"{PATCHED}:21: into common/1.patch",))
        second = self.patch_set / "patches" / "common" / "2.patch"
        self.assertEqual(second.read_bytes(), shared)

    def add_bases(self, **series: str) -> None:
        """Bases of the same files, with these series."""
        file = self.patch_set / "patches" / "bases.toml"
        for tag, text in series.items():
            folder = self.patch_set / "patches" / tag
            folder.mkdir()
            (folder / "series").write_text(text)
            save_bases(file, [*load_bases(file), Base(tag, tag[1] * 40, {})])

    def make_tree(self, place: Path, tag: str, **lines: str) -> Path:
        make_wheel(place, tag[1] * 40)
        (place / PATCHED).write_bytes(edited_lines(**lines))
        return place

    def test_the_bases_that_a_changed_patch_no_longer_fits_are_named(self) -> None:
        one, both = "common/1.patch\n", "common/1.patch\ncommon/2.patch\n"
        self.set_patches(("common/1.patch", diff_of({}, FIRST)))
        second = diff_of(FIRST, FIRST | {"line_24": "second"})
        (self.patch_set / "patches" / "common" / "2.patch").write_bytes(second)
        self.add_bases(v3=one, v4=one, v5=both, v6=one, v7="")
        environment = "lib/python3.11/site-packages"
        fits = self.make_tree(self.patch_set / ".venv-v3" / environment, "v3")
        theirs = self.make_tree(self.folder / "theirs", "v4", line_24="theirs")
        later = self.make_tree(self.folder / "later", "v5")
        (self.patch_set / ".venv" / environment).mkdir(parents=True)  # no torch there
        trees = {"v3": fits, "v4": theirs, "v5": later}
        for tree in trees.values():
            found = check(tree, self.patch_set).details["patches"]
            self.assertNotIn("conflict", [patch["fit"] for patch in found])
        before = {tag: snapshot(tree) for tag, tree in trees.items()}
        self.edit(content=edited_lines(**FIRST, line_24="edited"))
        report = self.refresh(other_trees=[theirs, later])
        self.assertEqual(
            report.lines[1:],
            (
                "v3 has common/1.patch too: every patch fits",
                "v4 has common/1.patch too: conflicts in common/1.patch (see check "
                f"--tree {theirs})",
                "v5 has common/1.patch too: conflicts in common/2.patch (see check "
                f"--tree {later})",
                "v6 has common/1.patch too: not checked, as no tree of it is at hand "
                "(--other-tree names one)",
            ),
        )
        found = {"v3": [], "v4": ["common/1.patch"], "v5": ["common/2.patch"]}
        self.assertEqual(report.details["conflicts"], found | {"v6": None})
        self.assertEqual({tag: snapshot(tree) for tag, tree in trees.items()}, before)

    def test_another_base_is_judged_without_the_overlay_that_is_on_it(self) -> None:
        self.set_patches(("common/1.patch", diff_of({}, FIRST)))
        self.add_bases(v3="common/1.patch\n")
        file = self.patch_set / "patches" / "bases.toml"
        own, other = load_bases(file)
        save_bases(file, [own, replace(other, blobs=own.blobs)])
        tree = self.make_tree(self.folder / "other", "v3")
        commands.apply(tree, self.patch_set, never_waits)
        (self.tree / PATCHED).write_bytes(edited_lines(**FIRST, line_22="edited"))
        report = self.refresh(other_trees=[tree])
        self.assertEqual(report.details["conflicts"], {"v3": []})

    def test_a_release_that_shares_its_base_is_another(self) -> None:
        self.set_patches(("common/1.patch", diff_of({}, FIRST)))
        file = self.patch_set / "patches" / "bases.toml"
        (own,) = load_bases(file)
        save_bases(file, [replace(own, also={"v9.8.0": "8" * 40})])
        self.apply()
        self.edit(content=edited_lines(**FIRST | {"line_20": "edited"}))
        self.assertEqual(self.refresh().details["conflicts"], {"v9.8.0": None})

    def test_another_tree_must_be_of_a_known_base(self) -> None:
        self.edit(line_20="edited")
        tree = self.make_tree(self.folder / "unknown", "v3")
        self.assert_refused_refresh("not a known base", other_trees=[tree])

    def test_later_patches_keep_their_changes_and_move(self) -> None:
        self.edit(line_5="edited\nand longer\nby two")
        self.refresh()
        self.assertIn("+and longer\n", self.patch(1))
        self.assertRegex(self.patch(2), r"\n@@ -32,3 \+32,3 @@")
        self.assertIn("\n-line 30\n+second\n", self.patch(2))
        self.assertNotIn("longer", self.patch(2))

    def test_several_edits(self) -> None:
        self.edit(line_5="edited 5", line_30="edited 30")
        report = self.refresh()
        self.assertEqual(len(report.details["files"]), 2)
        self.assertIn("+edited 5\n", self.patch(1))
        self.assertNotIn("edited", self.patch(2).replace("+edited 30\n", ""))

    def test_beside_the_lines_of_a_patch(self) -> None:
        self.edit(line_30="second\nput in")
        self.refresh()
        self.assertIn("+second\n+put in\n", self.patch(2))
        self.assertNotIn("put in", self.patch(1))

    def test_nearest(self) -> None:
        self.edit(line_27="edited")
        report = self.refresh()
        self.assertEqual(
            report.lines,
            (f"{PATCHED}:28: into 2.patch, whose lines are nearest (2 away)",),
        )
        self.assertNotIn("edited", self.patch(1))

    def test_named_patch(self) -> None:
        self.edit(line_27="edited")
        self.refresh(patch="1.patch")
        self.assertIn("+edited\n", self.patch(1))
        self.assertNotIn("edited", self.patch(2))

    def test_named_patch_that_did_not_touch_the_file(self) -> None:
        other = make_diff({OTHER: BASE_FILES[OTHER]}, {OTHER: b"one\r\n2\r\nthree\r\n"})
        self.set_patches(("1.patch", diff_of({}, FIRST)), ("3.patch", other))
        (self.tree / PATCHED).write_bytes(edited_lines(**FIRST, line_35="edited"))
        self.refresh(patch="3.patch")
        self.assertIn("+edited\n", self.patch(3))
        self.assertIn("+2\n", self.patch(3))

    def test_patch_that_rewrites_an_earlier_one(self) -> None:
        again = FIRST | {"line_20": "again"}
        self.set_patches(
            ("1.patch", diff_of({}, FIRST)), ("2.patch", diff_of(FIRST, again))
        )
        first = self.patch(1)
        (self.tree / PATCHED).write_bytes(edited_lines(**again | {"line_20": "edited"}))
        self.refresh()
        self.assertEqual(self.patch(1), first)
        self.assertIn("\n-first\n+edited\n", self.patch(2))

    def test_lines_that_a_patch_took_out(self) -> None:
        lines = [line for number, line in enumerate(LINES) if number not in (10, 11)]
        without = "".join(lines).encode()
        first = make_diff({PATCHED: BASE_FILES[PATCHED]}, {PATCHED: without})
        last = without.replace(b"line 35", b"last")
        second = make_diff({PATCHED: without}, {PATCHED: last})
        self.set_patches(("1.patch", first), ("2.patch", second))
        edited = last.replace(b"line 12\n", b"put in\nline 12\n")
        (self.tree / PATCHED).write_bytes(edited)
        self.refresh()
        self.assertIn("-line 11\n+put in\n", self.patch(1))

    def test_end_without_a_newline_and_carriage_returns(self) -> None:
        other = make_diff({OTHER: BASE_FILES[OTHER]}, {OTHER: b"one\r\n2\r\nthree\r\n"})
        self.set_patches(("1.patch", other))
        self.edit(OTHER, b"one\r\n2\r\nthree\r\nfour")
        self.refresh()
        self.assertIn("+four\n\\ No newline at end of file\n", self.patch(1))

    def test_file_that_a_patch_adds(self) -> None:
        path = "torch/_inductor/added.py"
        self.set_patches(("1.patch", make_diff({}, {path: b"a\nb\n"})))
        self.edit(path, b"a\nedited\n")
        self.refresh()
        self.assertIn("new file mode", self.patch(1))
        self.assertIn("+edited\n", self.patch(1))

    def test_refused(self) -> None:
        self.assert_refused_refresh("--patch 7: not in the series", patch="7")
        self.edit(line_20="edited")
        make_patch_set(self.patch_set, overlay={**OVERLAY, NEW: b"# newer\n"})
        self.assert_refused_refresh("is another by now")

    def test_not_applied(self) -> None:
        self.revert()
        with self.assertRaisesRegex(Refused, "not applied"):
            refresh(self.tree, self.patch_set, never_waits)

    def test_deleted_or_put_back(self) -> None:
        (self.tree / NEW).unlink()
        (self.tree / KERNEL).write_bytes(BASE_FILES[KERNEL])
        self.assert_refused_refresh(f"(?s)no edit to bring back.*{KERNEL}.*{NEW}")

    def test_edit_that_takes_a_patch_back(self) -> None:
        self.edit(line_30="line 30")
        self.assert_refused_refresh("takes all of 2.patch back")

    def test_edit_that_the_named_patch_cannot_have(self) -> None:
        self.edit(line_30="edited")
        self.assert_refused_refresh("name another with --patch", patch="1.patch")

    def test_command_line(self) -> None:
        self.set_patches(("common/1.patch", diff_of({}, FIRST)))
        self.add_bases(v3="common/1.patch\n")
        tree = self.make_tree(self.folder / "other", "v3")
        self.edit(content=edited_lines(**FIRST | {"line_20": "edited"}))
        options = ("--tree", self.tree, "--patch-set", self.patch_set)
        result = run_tool("refresh", *options, "--other-tree", tree)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("refreshed 1 file of", result.stdout)
        self.assertIn("into common/1.patch", result.stdout)
        self.assertIn("v3 has common/1.patch too: every patch fits", result.stdout)


LINE = st.sampled_from([b"a\n", b"b\n", b"c\n", b"d\n"])
FILE = st.lists(LINE, max_size=12).map(b"".join)


class LineEditsTest(unittest.TestCase):
    @given(FILE, FILE)
    @settings(deadline=None, max_examples=60)
    def test_edits_make_the_file(self, before: bytes, after: bytes) -> None:
        self.assertEqual(make_edits(before, find_edits(before, after)), after)

    @given(st.lists(FILE, min_size=2, max_size=4), FILE)
    @settings(deadline=None, max_examples=60)
    def test_rebuilt_steps_end_with_the_edited_file(
        self, steps: list[bytes], after: bytes
    ) -> None:
        edits = assign(find_edits(steps[-1], after), steps)
        rebuilt = rebuild(edits, steps)
        if rebuilt is not None:
            self.assertEqual(rebuilt[0], steps[0])
            self.assertEqual(rebuilt[-1], make_edits(steps[-1], self.owned(edits)))

    def owned(self, edits: Any) -> Any:
        return [edit for edit in edits if edit.owner >= 0] or edits


if __name__ == "__main__":
    unittest.main()
