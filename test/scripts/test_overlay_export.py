"""`overlay.py export`: the patch set as commits that a maintainer can take."""

from __future__ import annotations

import email
import os
import stat
import unittest
from pathlib import Path
from typing import Any

from overlay_fixtures import (
    BASE_FILES,
    KERNEL,
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
    run_tool,
    snapshot,
    torch_contents,
    write_files,
)
from overlay_tool.errors import Refused
from overlay_tool.exporting import export

SECOND = make_diff(
    {PATCHED: edited_lines(line_20="ours")},
    {PATCHED: edited_lines(line_20="ours, again")},
)
MAIL = (
    "From: Ann Author <ann@example.org>\n"
    "Date: Sat, 21 Nov 2026 00:00:00 +0000\n"
    "Subject: [PATCH] [inductor] {title}\n\n"
    "What was wrong, and\nwhat is better now.\n\n"
    "Test Plan: python test/inductor/test_x.py\n\n"
    "Origin: vendor\nForwarded: no\nWhy: because of\n two things\n"
    "Remove-When: upstream does this\n---\n"
)
TEST = "test/inductor/test_range_dispatch.py"
STACK = """
[[pull_request]]
name = "fixes"
summary = "# What is mended"
steps = [
    {patches = ["0001"]},
    {files = ["test/inductor/_*"], message = "[inductor] The helper\\n\\nProse."},
]

[[pull_request]]
name = "the-feature"
summary = "# What is new"
steps = [
    {files = ["torch/*/range_dispatch/*"], message = "[inductor] The engine"},
    {patches = ["*"]},
    {files = ["torch/*"], message = "[inductor] The custom_op"},
    {files = ["test/*"], message = "[inductor] The tests"},
]
"""
TITLES = ("First", "The helper", "The engine", "Second", "The custom_op", "The tests")


def mailed(title: str, diff: bytes) -> bytes:
    start = diff.index(b"diff --git")
    return MAIL.format(title=title).encode() + diff[start:]


class ExportTest(OverlayTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.tree = self.folder / "checkout"
        self.commit = make_checkout(self.tree)
        self.out = self.folder / "mails"
        first = make_diff(
            {PATCHED: BASE_FILES[PATCHED]}, {PATCHED: edited_lines(line_20="ours")}
        )
        self.patches = [
            ("0001.patch", mailed("First", first)),
            ("0002.patch", mailed("Second", SECOND)),
        ]
        self.write_patch_set()

    def write_patch_set(self, **changes: Any) -> None:
        make_patch_set(
            self.patch_set, self.commit, **{"patches": self.patches, **changes}
        )
        files = {TEST: b"# a test\n", "test/inductor/_helper.py": b"# help\n"}
        write_files(self.patch_set, {**files, "patches/stack.toml": STACK.encode()})

    def export(self, **options: Any) -> Any:
        """Exports; the checkout's files, index and branch stay as they are."""
        before = snapshot(self.tree)
        status = git(self.tree, "status", "--porcelain")
        report = export(self.tree, self.out, self.patch_set, **options)
        self.assertEqual(snapshot(self.tree), before)
        self.assertEqual(git(self.tree, "status", "--porcelain"), status)
        self.assertEqual(git(self.tree, "rev-parse", "HEAD").strip(), self.commit)
        return report

    def mails(self) -> list[Path]:
        return sorted(self.out.glob("*/*.patch"))

    def titles(self, revisions: str) -> list[str]:
        log = git(self.tree, "log", "--reverse", "--format=%s", revisions)
        return log.splitlines()

    def assert_refused_export(self, pattern: str, **options: Any) -> None:
        """Nothing is written."""
        with self.assertRaisesRegex(Refused, pattern):
            self.export(**options)
        self.assertFalse(self.out.exists())

    def test_am_makes_what_apply_makes(self) -> None:
        self.export()
        clone = self.folder / "clone"
        git(self.folder, "clone", "-q", str(self.tree), str(clone))
        git(clone, "am", "-q", "--keep-non-patch", *map(str, self.mails()))
        self.apply()
        ours = torch_contents(self.tree)
        self.assertEqual(torch_contents(clone), ours)
        self.assertEqual(ours[PATCHED], edited_lines(line_20="ours, again"))
        self.assertEqual((clone / TEST).read_bytes(), b"# a test\n")
        titles = git(clone, "log", "--reverse", "--format=%s").splitlines()
        self.assertEqual(titles, ["base", *self.expected_titles()])

    def expected_titles(self) -> list[str]:
        return [f"[inductor] {title}" for title in TITLES]

    def test_each_pull_request_has_a_folder(self) -> None:
        report = self.export()
        folders = ["01-fixes", "02-the-feature"]
        self.assertEqual(report.details["pull_requests"], folders)
        self.assertEqual(sorted(place.name for place in self.out.iterdir()), folders)
        summaries = [(self.out / name / "summary.md").read_text() for name in folders]
        self.assertEqual(summaries, ["# What is mended\n", "# What is new\n"])
        counts = [len([*(self.out / name).glob("*.patch")]) for name in folders]
        self.assertEqual(counts, [2, 4])
        # The first stands by itself.
        clone = self.folder / "clone"
        git(self.folder, "clone", "-q", str(self.tree), str(clone))
        first = sorted(self.out.glob("01-*/*.patch"))
        git(clone, "am", "-q", "--keep-non-patch", *map(str, first))
        self.assertEqual((clone / PATCHED).read_bytes(), edited_lines(line_20="ours"))
        self.assertFalse((clone / TEST).exists())

    def test_branch(self) -> None:
        report = self.export(branch="range-dispatch")
        found = self.titles("HEAD..range-dispatch")
        self.assertEqual(found, self.expected_titles())
        self.assertEqual(
            git(self.tree, "rev-list", "--reverse", "HEAD..range-dispatch").split(),
            report.details["commits"],
        )
        self.assertEqual(len(self.mails()), 6)
        self.assertEqual(git(self.tree, "branch", "--show-current").strip(), "master")

    def test_each_commit_has_its_files(self) -> None:
        self.export(branch="ours")
        listing = git(
            self.tree, "log", "--reverse", "--format=", "--name-only", "HEAD..ours"
        )
        engine = [path for path in sorted(OVERLAY) if path != KERNEL]
        helper = "test/inductor/_helper.py"
        expected = [PATCHED, helper, *engine, PATCHED, KERNEL, TEST]
        self.assertEqual(listing.split(), expected)

    def test_messages(self) -> None:
        self.export()
        mail = email.message_from_bytes(self.mails()[0].read_bytes())
        self.assertEqual(mail["From"], "Ann Author <ann@example.org>")
        self.assertEqual(mail["Date"], "Sat, 21 Nov 2026 00:00:00 +0000")
        self.assertEqual(mail["Subject"], "[PATCH 1/2] [inductor] First")
        text = mail.get_payload()
        assert isinstance(text, str)
        message, _, rest = text.partition("\n---\n")
        self.assertEqual(
            message,
            "What was wrong, and\nwhat is better now.\n\n"
            "Test Plan: python test/inductor/test_x.py",
        )
        self.assertTrue(rest.endswith(" line 23\n"), rest[-100:])  # no signature

    def test_same_input_same_bytes(self) -> None:
        self.export()
        first = snapshot(self.out)
        contents = [mail.read_bytes() for mail in self.mails()]
        git(self.tree, "config", "diff.noprefix", "true")
        git(self.tree, "config", "diff.context", "9")
        git(self.tree, "config", "format.signature", "mine")
        git(self.tree, "config", "format.subjectPrefix", "MINE")
        self.export(branch="ours")
        self.assertEqual([mail.read_bytes() for mail in self.mails()], contents)
        self.assertEqual(list(snapshot(self.out)), list(first))

    def test_without_a_branch_the_repository_gets_nothing(self) -> None:
        def objects() -> list[str]:
            return sorted(
                os.path.join(folder, name)
                for folder, _, names in os.walk(self.tree / ".git" / "objects")
                for name in names
            )

        before = objects()
        self.export()
        self.assertEqual(objects(), before)

    def test_author(self) -> None:
        self.export(author="Bea Other <bea@example.org>")
        for mail in self.mails():
            self.assertIn(b"\nFrom: Bea Other <bea@example.org>\n", mail.read_bytes())

    def test_edits_in_the_checkout_do_not_matter(self) -> None:
        self.export()
        contents = [mail.read_bytes() for mail in self.mails()]
        (self.tree / PATCHED).write_text("edited\n")
        (self.tree / KERNEL).write_text("edited\n")
        git(self.tree, "add", KERNEL)
        self.export()
        self.assertEqual([mail.read_bytes() for mail in self.mails()], contents)

    def test_on_top_of_other_commits(self) -> None:
        """With what moved, and without what is there already."""
        content = b"# moved\n" * 3 + edited_lines(line_20="ours")
        write_files(self.tree, {PATCHED: content, NEW: OVERLAY[NEW]})
        self.commit = commit_all(self.tree, "newer")
        report = self.export(branch="ours")
        self.assertEqual(report.details["left_out"], ["0001.patch"])
        self.assertIn("0001.patch is upstream already: left out", report.notes)
        titles = self.expected_titles()
        del titles[0]
        self.assertEqual(self.titles("HEAD..ours"), titles)
        patched = git(self.tree, "show", f"ours:{PATCHED}")
        self.assertIn("ours, again\n", patched)
        self.assertTrue(patched.startswith("# moved\n"))

    def test_a_file_as_it_was_earlier(self) -> None:
        """One pull request brings a file as it stands until a later one's."""
        early = STACK.replace("Prose.\"}", f'Prose.", earlier = ["{NEW}"]}}')
        kept = f"patches/stack/fixes/{NEW}"
        stack = "patches/stack.toml"
        write_files(self.patch_set, {kept: b"# early\n", stack: early.encode()})
        self.export(branch="ours")
        self.assertEqual(git(self.tree, "show", f"ours~4:{NEW}"), "# early\n")
        self.assertEqual(git(self.tree, "show", f"ours:{NEW}"), OVERLAY[NEW].decode())

    def test_earlier_files_that_cannot_be(self) -> None:
        of_patches = STACK.replace("}", f', earlier = ["{NEW}"]}}', 1)
        no_such = STACK.replace("Prose.\"}", f'Prose.", earlier = ["{NEW}"]}}')
        late = STACK.replace("tests\"}", f'tests", earlier = ["{NEW}"]}}')
        kept = f"patches/stack/the-feature/{NEW}"
        write_files(self.patch_set, {kept: b"# early\n"})
        for text, pattern in (
            (of_patches, "fixes: earlier belongs to a step of files"),
            (no_such, f"there is no .*/fixes/{NEW}"),
            (late, f"no later step brings {NEW}"),
        ):
            with self.subTest(pattern):
                (self.patch_set / "patches" / "stack.toml").write_text(text)
                self.assert_refused_export(pattern)

    def test_modes(self) -> None:
        script = self.patch_set / "torch_overlay" / NEW.removeprefix("torch/")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        self.export(branch="ours")
        mode = git(self.tree, "ls-tree", "ours", NEW).split()[0]
        self.assertEqual(mode, "100755")

    def test_conflict(self) -> None:
        write_files(self.tree, {PATCHED: edited_lines(line_20="somebody's")})
        self.commit = commit_all(self.tree, "another change")
        self.assert_refused_export(r"(?s)not a tree that all fits.*0001\.patch.*\+ours")

    def test_refused(self) -> None:
        git(self.tree, "branch", "there")
        self.assert_refused_export("reference already exists", branch="there")
        self.assert_refused_export("git update-ref: .*a..b", branch="a..b")
        self.assert_refused_export("--author 'Bea'", author="Bea")
        (self.patch_set / "patches" / "stack.toml").unlink()
        self.assert_refused_export("stack.toml is missing")
        self.write_patch_set(patches=[("1", SECOND[SECOND.index(b"diff ") :])])
        (self.tree / PATCHED).write_bytes(edited_lines(line_20="ours"))
        self.commit = commit_all(self.tree, "for the second")
        self.assert_refused_export("patch 1: its mail has no From")

    def test_refused_stacks(self) -> None:
        step = 'steps = [{files = ["torch/*"], message = "x"}]'
        one = '[[pull_request]]\nname = "a"\nsummary = "x"\n'
        for text, pattern in (
            ("pull_request = 1 2", "cannot be read"),
            ("[other]", "stack.toml: 'pull_request'"),
            (one.replace('"a"', '"A b"'), "'A b' is no name of a folder"),
            ('[[pull_request]]\nname = "a"', "'summary'"),
            (one + "files = []", "argument 'files'"),
            (one + one, "two pull requests are named a"),
            (one + "steps = [{}]", "a: a step has patches, or files and"),
            (one + 'steps = [{files = "x"}]', "a: patterns are lists"),
            (one + 'steps = [{files = ["x"]}]', "a: a step has patches, or files and"),
            (one + step, "no pull request brings 0001"),
            (STACK.replace('["torch/*"]', '["torch/x"]'), "brings torch/_inductor/k"),
            (STACK.replace('["0001"]', '["0002"]'), "0002.patch would come before"),
        ):
            with self.subTest(pattern):
                (self.patch_set / "patches" / "stack.toml").write_text(text)
                self.assert_refused_export(pattern)

    def test_out_with_other_files(self) -> None:
        self.out.mkdir()
        (self.out / "mine.txt").write_text("mine\n")
        with self.assertRaisesRegex(Refused, "holds other files, such as mine.txt"):
            self.export(branch="ours")
        self.assertEqual(git(self.tree, "branch", "--list", "ours"), "")
        (self.out / "mine.txt").unlink()
        self.export()
        self.patches.pop()
        self.write_patch_set()
        with self.assertRaisesRegex(Refused, "other files, such as 02-.*/0002-.*patch"):
            self.export()

    def test_an_installed_torch(self) -> None:
        self.tree = self.folder / "site-packages"
        with self.assertRaisesRegex(Refused, "is no git checkout"):
            export(self.tree, self.out, self.patch_set)

    def test_command_line(self) -> None:
        result = run_tool(
            *("export", "--tree", self.tree, "--out", self.out),
            *("--patch-set", self.patch_set, "--branch", "ours"),
        )
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("wrote 6 mails of 2 pull requests to", result.stdout)
        self.assertEqual(self.titles("HEAD..ours"), self.expected_titles())


if __name__ == "__main__":
    unittest.main()
