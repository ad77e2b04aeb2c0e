"""Hunks that fit, but in another class than the one that they are made for."""

from __future__ import annotations

import unittest

from overlay_fixtures import make_diff, make_patch_set, OverlayTestCase, PATCHED
from overlay_tool.checking import check, CONFLICTS
from overlay_tool.errors import Refused
from overlay_tool.filesystem import File
from overlay_tool.patching import Patch
from overlay_tool.patching import apply_series

BODY = "    one = 1\n\n    two = 2\n\n    @classmethod\n    def make(cls): ...\n\n\n"
MADE = "\n    def ours(self): ...\n\n    @classmethod"


def classes(*names: str, ours: str | None = None, above: int = 0) -> bytes:
    """Classes of the same body; that named ``ours`` has our method, too."""
    text = "# above\n" * above
    for name in names:
        body = BODY
        if name == ours:
            body = BODY.replace("\n    @classmethod", MADE, 1)
        text += f"class {name}:\n{body}"
    return text.encode()


class PlacingTest(OverlayTestCase):
    """The patch is made for the class Switch, above which its base has nothing."""

    def setUp(self) -> None:
        super().setUp()
        before, after = classes("Switch"), classes("Switch", ours="Switch")
        content = make_diff({PATCHED: before}, {PATCHED: after})
        self.patch = Patch("common/1.patch", content)

    def apply_to(self, content: bytes) -> bytes:
        made = apply_series([self.patch], {PATCHED: File(content)})
        file = made.files[PATCHED]
        assert file is not None
        return file.content

    def test_at_other_lines_of_its_class(self) -> None:
        made = self.apply_to(classes("Switch", "Loop", above=9))
        self.assertEqual(made, classes("Switch", "Loop", ours="Switch", above=9))

    def test_in_a_class_that_is_nearer(self) -> None:
        with self.assertRaisesRegex(Refused, "made for Switch fits in Loop"):
            self.apply_to(classes("Loop", "Switch", above=1))

    def test_check_calls_it_a_conflict(self) -> None:
        make_patch_set(self.patch_set, patches=[(self.patch.name, self.patch.content)])
        (self.tree / PATCHED).write_bytes(classes("Loop", "Switch", above=1))
        report = check(self.tree, self.patch_set)
        self.assertEqual(report.exit_code, CONFLICTS)
        self.assertIn("made for Switch fits in Loop", "\n".join(report.lines))

    def test_the_heading_of_a_change_between_classes_says_nothing(self) -> None:
        before = classes("Switch") + b"last = 1\n"
        content = make_diff({PATCHED: before}, {PATCHED: before + b"more = 2\n"})
        self.patch = Patch("common/1.patch", content)
        made = self.apply_to(classes("Switch", "Loop") + b"last = 1\n")
        self.assertTrue(made.endswith(b"last = 1\nmore = 2\n"))


if __name__ == "__main__":
    unittest.main()
