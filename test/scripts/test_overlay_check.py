"""`overlay.py check`: what would fit a tree, of whatever torch, is told."""

from __future__ import annotations

import json
import unittest
from pathlib import Path
from typing import Any

from overlay_fixtures import (
    BASE_FILES,
    KERNEL,
    LINES,
    NEW,
    OVERLAY,
    PATCHED,
    OverlayTestCase,
    commit_all,
    edited_lines,
    git,
    make_checkout,
    make_diff,
    make_patch_set,
    make_wheel,
    run_tool,
    snapshot,
    write_files,
)
from overlay_tool.checking import CONFLICTS, check
from overlay_tool.errors import Refused

SECOND = make_diff(
    {PATCHED: edited_lines(line_20="ours")},
    {PATCHED: edited_lines(line_20="ours, again")},
)
OTHER = "torch/_inductor/crlf.py"


class CheckTest(OverlayTestCase):
    def check(self, **options: Any) -> Any:
        """Checks the tree, which stays as it is."""
        before = snapshot(self.tree)
        report = check(self.tree, self.patch_set, **options)
        self.assertEqual(snapshot(self.tree), before)
        return report

    def fit(self) -> tuple[str, Any]:
        """How the first patch fits, and all that is said of it."""
        report = self.check()
        patch = report.details["patches"][0]
        conflict = patch["fit"] == "conflict"
        self.assertEqual(report.exit_code, CONFLICTS if conflict else 0)
        return patch["fit"], patch

    def write(self, content: bytes, path: str = PATCHED) -> None:
        (self.tree / path).write_bytes(content)

    def test_pristine(self) -> None:
        report = self.check()
        self.assertEqual(report.exit_code, 0)
        self.assertEqual(report.summary, "fits (base v9.9.0): 4 applies")
        self.assertEqual(set(report.details["files"].values()), {"applies"})
        self.assertEqual(self.fit()[0], "applies")

    def test_applied(self) -> None:
        pristine = self.check()
        self.apply()
        report = self.check()
        self.assertEqual(report.details, pristine.details)
        self.assertIn("the overlay is applied", report.notes[0])

    def test_offset(self) -> None:
        self.write(b"".join([b"new\n"] * 3) + BASE_FILES[PATCHED])
        kind, patch = self.fit()
        self.assertEqual((kind, patch["offsets"]), ("fits with offset", [3]))
        self.assertIn("fits with offset  0001-ir.patch (+3)", self.check().lines)

    def test_conflict_shows_the_hunk(self) -> None:
        self.write(edited_lines(line_20="somebody's"))
        kind, patch = self.fit()
        self.assertEqual(kind, "conflict")
        (hunk,) = patch["hunks"]
        self.assertEqual(hunk["path"], PATCHED)
        self.assertFalse(hunk["already_upstream"])
        self.assertIn("\n-line 20\n+ours\n", hunk["text"])
        self.assertIn("    +ours", self.check().lines)

    def test_upstream(self) -> None:
        self.write(edited_lines(line_20="ours"))
        self.write(OVERLAY[KERNEL], KERNEL)
        self.assertEqual(self.fit()[0], "already upstream")
        files = self.check().details["files"]
        self.assertEqual(files[KERNEL], "already upstream")
        self.assertEqual(files[NEW], "applies")

    def test_upstream_elsewhere_in_the_file(self) -> None:
        self.write(b"new\n" * 5 + edited_lines(line_20="ours"))
        self.assertEqual(self.fit()[0], "already upstream")

    def test_both_upstream_though_the_second_rewrites_the_first(self) -> None:
        patches = [("1", self.first_patch()), ("2", SECOND)]
        make_patch_set(self.patch_set, patches=patches)
        for line, expected in (
            ("line 20", ["applies", "applies"]),
            ("ours", ["already upstream", "applies"]),
            ("ours, again", ["already upstream", "already upstream"]),
        ):
            with self.subTest(line):
                self.write(edited_lines(line_20=line))
                patches_found = self.check().details["patches"]
                self.assertEqual([each["fit"] for each in patches_found], expected)

    def first_patch(self) -> bytes:
        return (self.patch_set / "patches" / "v9.9.0" / "0001-ir.patch").read_bytes()

    def test_upstream_in_part(self) -> None:
        after = edited_lines(line_5="ours", line_20="ours", line_35="ours")
        patch = make_diff({PATCHED: BASE_FILES[PATCHED]}, {PATCHED: after})
        make_patch_set(self.patch_set, patches=[("1", patch)])
        self.write(edited_lines(line_20="ours", line_35="somebody's"))
        kind, patch = self.fit()
        self.assertEqual(kind, "conflict")
        self.assertEqual([h["already_upstream"] for h in patch["hunks"]], [True, False])
        self.assertIn(f"    {PATCHED} (the tree has it)", self.check().lines)

    def test_a_patch_after_a_conflict(self) -> None:
        """It changes what the hunk that fits has written, and so fits, too."""
        after = edited_lines(line_5="ours", line_20="ours")
        first = make_diff({PATCHED: BASE_FILES[PATCHED]}, {PATCHED: after})
        second = edited_lines(line_5="ours", line_20="ours, again")
        second = make_diff({PATCHED: after}, {PATCHED: second})
        make_patch_set(self.patch_set, patches=[("1", first), ("2", second)])
        self.write(edited_lines(line_5="somebody's"))
        found = [each["fit"] for each in self.check().details["patches"]]
        self.assertEqual(found, ["conflict", "applies"])

    def test_missing_file(self) -> None:
        after = {PATCHED: edited_lines(line_20="ours"), OTHER: b"one\r\ntwo\r\n"}
        patch = make_diff({path: BASE_FILES[path] for path in after}, after)
        make_patch_set(self.patch_set, patches=[("1", patch)])
        (self.tree / PATCHED).unlink()
        kind, patch = self.fit()
        self.assertEqual((kind, patch["missing"]), ("conflict", [PATCHED]))
        self.assertEqual(patch["hunks"], [])
        self.assertIn(f"    {PATCHED} is missing", self.check().lines)

    def test_new_file_of_a_patch(self) -> None:
        path = "torch/_inductor/new.py"
        patch = make_diff({}, {path: b"new\n"})
        make_patch_set(self.patch_set, patches=[("1", patch)])
        self.assertEqual(self.fit()[0], "applies")
        self.write(b"new\n", path)
        self.assertEqual(self.fit()[0], "already upstream")
        self.write(b"another\n", path)
        self.assertEqual(self.fit()[0], "conflict")

    def test_overlay_conflicts(self) -> None:
        self.write(b"# somebody's\n", KERNEL)
        (self.tree / NEW).parent.mkdir()
        self.write(b"# somebody's\n", NEW)
        report = self.check()
        self.assertEqual(report.exit_code, CONFLICTS)
        for path in (KERNEL, NEW):
            self.assertEqual(report.details["files"][path], "conflict")
        self.assertIn("    v9.9.0 has no such file, the tree has", report.lines)

    def test_overlay_conflict_in_a_checkout_shows_the_change(self) -> None:
        self.tree = self.folder / "checkout"
        commit = make_checkout(self.tree)
        make_patch_set(self.patch_set, commit)
        self.write(b"# the base's custom_op\n# changed since\n", KERNEL)
        commit_all(self.tree, "a change")
        report = self.check()
        self.assertIn("    +# changed since", report.lines)
        self.assertEqual(git(self.tree, "status", "--porcelain"), "")

    def test_unknown_base(self) -> None:
        make_wheel(self.tree, "2" * 40)
        report = self.check()
        self.assertEqual((report.exit_code, report.details["base"]), (0, None))
        self.assertEqual(report.summary, "fits (as v9.9.0): 4 applies")
        self.assertIn("2" * 40 + " is no known base (v9.9.0)", report.notes[0])

    def test_unknown_commit(self) -> None:
        for name in ("version.py",):
            (self.tree / "torch" / name).unlink()
        report = self.check()
        self.assertIn("an unknown commit is no known base", report.notes[0])
        self.assertIsNone(report.details["commit"])

    def test_of_several_bases_that_which_fits_best(self) -> None:
        self.add_base("v8.0.0")
        make_wheel(self.tree, "2" * 40)
        self.assertEqual(self.check().details["patches_of"], "v9.9.0")
        report = self.check(tag="v8.0.0")
        self.assertEqual(report.details["patches_of"], "v8.0.0")
        self.assertEqual(report.exit_code, CONFLICTS)

    def add_base(self, tag: str) -> None:
        """Another base, first in the list, whose patch does not fit the tree."""
        from overlay_tool.bases import Base, load_bases, save_bases

        file = self.patch_set / "patches" / "bases.toml"
        (known,) = load_bases(file)
        save_bases(file, [Base(tag, "3" * 40, known.blobs), known])
        series = self.patch_set / "patches" / tag
        series.mkdir()
        patch = make_diff({PATCHED: b"".join(LINES_OF_OTHER)}, {PATCHED: b""})
        write_files(series, {"series": b"1\n", "1": patch})

    def test_refused(self) -> None:
        with self.assertRaisesRegex(Refused, "--base v1: not a known base.*v9.9.0"):
            self.check(tag="v1")
        with self.assertRaisesRegex(Refused, "not a PyTorch tree"):
            check(self.folder, self.patch_set)
        with self.assertRaisesRegex(Refused, "is not a folder"):
            check(Path("/does/not/exist"), self.patch_set)

    def test_links_are_not_followed(self) -> None:
        (self.tree / PATCHED).unlink()
        (self.tree / PATCHED).symlink_to(self.folder / "elsewhere")
        with self.assertRaisesRegex(Refused, "symbolic link"):
            self.check()

    def test_command_line(self) -> None:
        self.write(edited_lines(line_20="somebody's"))
        result = run_tool(
            "check", "--tree", self.tree, "--patch-set", self.patch_set, "--json"
        )
        self.assertEqual((result.returncode, result.stderr), (CONFLICTS, ""))
        document = json.loads(result.stdout)
        self.assertEqual(document["patches"][0]["fit"], "conflict")
        self.assertEqual(document["exit_code"], CONFLICTS)


LINES_OF_OTHER = [line.replace("line", "other").encode() for line in LINES]


if __name__ == "__main__":
    unittest.main()
