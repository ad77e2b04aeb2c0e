"""pin, and the file that it writes."""

from __future__ import annotations

import tomllib
import unittest
from pathlib import Path

from hypothesis import given, settings, strategies
from overlay_fixtures import (
    BASE_FILES,
    KERNEL,
    NEW,
    PATCHED,
    TAG,
    WHEEL_COMMIT,
    OverlayTestCase,
    commit_all,
    make_checkout,
    make_patch_set,
)
from overlay_tool import commands
from overlay_tool.bases import Base, format_bases, load_bases
from overlay_tool.filesystem import blob_id
from overlay_tool.errors import Refused


class PinTest(OverlayTestCase):
    def setUp(self) -> None:
        super().setUp()
        make_patch_set(self.patch_set, pinned=[])
        self.file = self.patch_set / "patches" / "bases.toml"

    def pin(self, keep: bool = False) -> commands.Report:
        return commands.pin(self.tree, self.patch_set, keep)

    def blobs(self) -> dict[str, list[str]]:
        (base,) = tomllib.loads(self.file.read_text())["base"]
        blobs: dict[str, list[str]] = base["blobs"]
        return blobs

    def test_pins_what_is_replaced_or_patched(self) -> None:
        self.assertIn("pinned 2 files of base v9.9.0", self.pin().summary)
        expected = {path: [blob_id(BASE_FILES[path])] for path in (PATCHED, KERNEL)}
        self.assertEqual(self.blobs(), expected)
        self.assert_pristine()
        text = self.file.read_text()
        self.assertIn("already pinned", self.pin().summary)
        self.assertEqual(self.file.read_text(), text)
        self.apply()
        self.assertEqual(self.status().exit_code, 0)

    def test_keeps_the_other_bases(self) -> None:
        other = Base("v1.0.0", "3" * 40, {NEW: ("4" * 40,)})
        self.file.write_text(format_bases([other, Base(TAG, WHEEL_COMMIT, {})]))
        self.pin()
        bases = load_bases(self.file)
        self.assertEqual([base.tag for base in bases], ["v1.0.0", TAG])
        self.assertEqual(bases[0], other)

    def test_keep_adds(self) -> None:
        make_patch_set(self.patch_set)
        (self.tree / KERNEL).write_text("# as the wheel has it\n")
        self.pin(keep=True)
        self.assertEqual(len(self.blobs()[KERNEL]), 2)
        self.apply()
        self.revert()
        self.pin()
        self.assertEqual(len(self.blobs()[KERNEL]), 1)

    def test_refuses_an_applied_tree(self) -> None:
        make_patch_set(self.patch_set)
        self.apply()
        self.assert_refused(self.pin, "revert it first")

    def test_refuses_an_unknown_tree(self) -> None:
        make_patch_set(self.patch_set, commit="2" * 40)
        self.assert_refused(self.pin, "not a known base")

    def test_refuses_a_changed_checkout(self) -> None:
        self.tree = self.folder / "checkout"
        commit = make_checkout(self.tree)
        make_patch_set(self.patch_set, commit=commit, pinned=[])
        self.pin()
        self.assertEqual(sorted(self.blobs()), [PATCHED, KERNEL])
        (self.tree / KERNEL).write_text("# changed\n")
        self.assert_refused(self.pin, KERNEL, "git sees a change")
        commit_all(self.tree, "mine")
        self.assert_refused(self.pin, "commits on top")


class BasesTest(unittest.TestCase):
    @settings(max_examples=50, deadline=None, database=None)
    @given(
        strategies.dictionaries(
            strategies.text(
                strategies.characters(
                    exclude_characters="/\0", exclude_categories=["Cs"]
                ),
                min_size=1,
            ).filter(lambda name: name.lower() not in (".", "..", ".git")),
            strategies.sets(strategies.binary(), min_size=1, max_size=3),
            max_size=3,
        )
    )
    def test_what_is_written_is_read(self, names: dict[str, set[bytes]]) -> None:
        blobs = {
            f"torch/{name}": tuple(sorted(map(blob_id, contents)))
            for name, contents in names.items()
        }
        base = Base("v1 \"'\\ é", "5" * 40, blobs)
        text = format_bases([base])
        (entry,) = tomllib.loads(text)["base"]
        self.assertEqual(entry["tag"], base.tag)
        read = {path: tuple(ids) for path, ids in entry.get("blobs", {}).items()}
        self.assertEqual(read, blobs)

    def test_mistakes_are_named(self) -> None:
        commit = "6" * 40
        good = f'[[base]]\ntag = "v1"\ncommit = "{commit}"\n'
        for text, part in (
            ("[[base]\n", "cannot be read"),
            ("other = 1\n", "only [[base]]"),
            (f'[[base]]\ncommit = "{commit}"\n', "'tag'"),
            (f'[[base]]\ntag = "../x"\ncommit = "{commit}"\n', "is not a tag"),
            ('[[base]]\ntag = "v1"\ncommit = "main"\n', "not a commit id"),
            (good + good, "two bases have the tag"),
            (good + "blob = 1\n", "argument 'blob'"),
            (good + '[base.blobs]\n"torch/x" = "7"\n', "not a list of blob ids"),
            (good + '[base.blobs]\n"torch/../x" = []\n', "not inside torch/"),
        ):
            with self.subTest(text=text), self.assertRaises(Refused) as caught:
                self.load(text)
            self.assertIn(part, str(caught.exception))

    def load(self, text: str) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "bases.toml")
            with self.assertRaises(Refused):
                load_bases(file)
            file.write_text(text)
            load_bases(file)


if __name__ == "__main__":
    unittest.main()
