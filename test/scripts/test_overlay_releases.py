"""A base that several releases share: the entry `also` of bases.toml."""

from __future__ import annotations

import unittest
from dataclasses import replace
from pathlib import Path

from overlay_fixtures import (
    commit_all,
    make_checkout,
    make_patch_set,
    NEW,
    OverlayTestCase,
    TAG,
    WHEEL_COMMIT,
)
from overlay_tool import commands
from overlay_tool.bases import format_bases, load_bases
from overlay_tool.checking import check
from overlay_tool.errors import Refused
from overlay_tool.patch_set import load_patch_set

OWN_COMMIT = "2" * 40
OTHER = "v9.9.1"


class ReleasesTest(OverlayTestCase):
    """The tree is of the other release, v9.9.1; the base is v9.9.0."""

    def setUp(self) -> None:
        super().setUp()
        make_patch_set(self.patch_set, commit=OWN_COMMIT)
        self.file = self.patch_set / "patches" / "bases.toml"
        self.allow(WHEEL_COMMIT)

    def allow(self, commit: str) -> None:
        """Lists the release v9.9.1 of this commit."""
        (base,) = load_bases(self.file)
        text = format_bases([replace(base, also={})])
        also = f'[base.also]\n"{OTHER}" = "{commit}"\n\n'
        self.file.write_text(text.replace("[base.blobs]", f"{also}[base.blobs]"))

    def test_it_gets_the_patches_of_the_base(self) -> None:
        self.assertIn(f"base {TAG}", self.apply().summary)
        self.assertTrue((self.tree / NEW).exists())
        self.assertEqual(self.status().exit_code, 0)
        self.revert()
        self.assert_pristine()

    def test_another_release_of_the_base_is_another_torch(self) -> None:
        """What one had is out of date in the other, and brought up to date."""
        self.apply()
        version = self.tree / "torch" / "version.py"
        version.write_text(version.read_text().replace(WHEEL_COMMIT, OWN_COMMIT))
        report = self.status()
        self.assertEqual(report.exit_code, commands.STATES["outdated"])
        self.assertIn(f"torch is now base {TAG}", report.summary)
        self.apply()
        self.assertEqual(self.status().exit_code, 0)

    def test_check_takes_either_for_the_base(self) -> None:
        for tag in (None, TAG, OTHER, OTHER.removeprefix("v")):
            report = check(self.tree, self.patch_set, tag)
            self.assertTrue(report.summary.startswith(f"fits (base {TAG})"), tag)
            self.assertEqual(report.notes, ())
        with self.assertRaisesRegex(Refused, f"Known: {TAG}, {OTHER}"):
            check(self.tree, self.patch_set, "v1")

    def test_pin_keeps_the_release(self) -> None:
        (before,) = load_bases(self.file)
        commands.pin(self.tree, self.patch_set, keep=True)
        (after,) = load_bases(self.file)
        self.assertEqual((after.commit, after.also), (OWN_COMMIT, before.also))

    def test_a_checkout_is_of_the_nearest(self) -> None:
        """Where one release is an ancestor of the other, the later one counts."""
        self.tree = self.folder / "checkout"
        first = make_checkout(self.tree)
        make_patch_set(self.patch_set, commit=first)
        (self.tree / "other.py").write_text("")
        self.allow(commit_all(self.tree, "the next release"))
        (self.tree / "mine.py").write_text("")
        commit_all(self.tree, "mine")
        self.apply()
        base = load_patch_set(self.patch_set).base(OTHER)
        assert base is not None
        receipt = (self.tree / ".torch_overlay.json").read_text()
        self.assertIn(f'"commit": "{base.commit}"', receipt)

    def test_an_unknown_tree_is_told_all_releases(self) -> None:
        self.allow("3" * 40)
        self.assert_refused(self.apply, f"{TAG} ({OWN_COMMIT}), {OTHER} ({'3' * 40})")

    def test_mistakes_are_named(self) -> None:
        for also, part in (
            (f'"{OTHER}" = "main"', "not a commit id"),
            (f'"{OTHER}" = "{OWN_COMMIT}"', "two bases have the commit"),
        ):
            text = self.file.read_text()
            line = f'"{OTHER}" = "{WHEEL_COMMIT}"'
            bad = Path(self.folder, "bases.toml")
            bad.write_text(text.replace(line, also))
            with self.subTest(also), self.assertRaisesRegex(Refused, part):
                load_bases(bad)


if __name__ == "__main__":
    unittest.main()
