"""patches/stack.toml: everything has a place, each test one with what it tests."""

from __future__ import annotations

import ast
import re
import sys
import unittest
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from overlay_tool.exporting import exported_tests  # noqa: E402
from overlay_tool.exporting import read_message  # noqa: E402
from overlay_tool.patch_set import load_patch_set  # noqa: E402
from overlay_tool.stack import load_stack, share_out  # noqa: E402


def imported_modules(content: bytes) -> Iterator[str]:
    """What may be modules in the imports of a file, wherever in it they are."""
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)


def places_of(module: str) -> list[str]:
    """Where in the tree a module may be: one of torch, or a helper beside tests."""
    path = f"{module.replace('.', '/')}.py"
    return [path, f"test/inductor/{path}"]


class StackTest(unittest.TestCase):
    def setUp(self) -> None:
        self.patch_set = load_patch_set(ROOT)
        self.stack = load_stack(ROOT)
        self.tests = exported_tests(self.patch_set)
        self.files = {**self.patch_set.overlay, **self.tests}

    def test_everything_has_a_place(self) -> None:
        for base in self.patch_set.bases:
            shares = share_out(self.stack, self.patch_set.series(base), self.files)
            for request, of_request in zip(self.stack, shares, strict=True):
                for share in of_request:
                    with self.subTest(base.tag, request=request.name):
                        self.assertTrue(share.patches or share.files, share.step)

    def test_every_patch_is_in_a_series(self) -> None:
        listed = {
            self.patch_set.place(base, patch.name)
            for base in self.patch_set.bases
            for patch in self.patch_set.series(base)
        }
        found = (ROOT / "patches").rglob("*.patch")
        self.assertEqual({x.relative_to(ROOT).as_posix() for x in found}, listed)

    def test_what_is_common_serves_several_bases(self) -> None:
        """A patch of one base stands in its folder; none stands there twice."""
        users = Counter(
            self.patch_set.place(base, patch.name)
            for base in self.patch_set.bases
            for patch in self.patch_set.series(base)
        )
        for place, count in users.items():
            with self.subTest(place):
                self.assertEqual(place.startswith("patches/common/"), count > 1)

    def test_the_page_of_the_pull_request_names_every_patch(self) -> None:
        page = (ROOT / "docs" / "pull_request.md").read_text()
        linked = re.findall(r"\((\.\./patches/[^)]*\.patch)\)", page)
        for link in linked:
            self.assertTrue((ROOT / "docs" / link).is_file(), link)
        found = (ROOT / "patches").rglob("*.patch")
        names = [Path(link).name for link in linked]
        self.assertEqual(sorted(names), sorted({place.name for place in found}))

    def test_imports_come_with_what_imports_them(self) -> None:
        """No module or test needs one of a later pull request, even in a function."""
        there: dict[str, bytes] = {}
        for request, shares in zip(
            self.stack, share_out(self.stack, (), self.files), strict=True
        ):
            for share in shares:
                there.update((path, self.files[path].content) for path in share.files)
                earlier = share.step.earlier.items()
                there.update((path, file.content) for path, file in earlier)
            for path, content in there.items():
                if path.endswith(".py"):
                    missing = [
                        place
                        for name in imported_modules(content)
                        for place in places_of(name)
                        if place in self.files and place not in there
                    ]
                    with self.subTest(path, request=request.name):
                        self.assertEqual(missing, [])

    def test_the_plan_of_a_patch_comes_with_it(self) -> None:
        """Each patch has a test plan, of tests that its pull request brings.

        Names after -k are parts of names, as unittest knows no "or" in them.
        """
        for base in self.patch_set.bases:
            series = self.patch_set.series(base)
            there: set[str] = set()
            for of_request in share_out(self.stack, series, self.files):
                there.update(path for share in of_request for path in share.files)
                for patch in (p for share in of_request for p in share.patches):
                    plan = read_message(patch).body.partition("\nTest Plan: ")[2]
                    calls = re.findall(r"python (test/\S+)((?: -k \S+)*)$", plan, re.M)
                    with self.subTest(patch.name):
                        self.assertEqual(len(calls), len(plan.splitlines()), plan)
                        for test, options in calls:
                            self.assertIn(test, there)
                            content = self.files[test].content.decode()
                            for name in options.split(" -k ")[1:]:
                                self.assertIn(name, content)


if __name__ == "__main__":
    unittest.main()
