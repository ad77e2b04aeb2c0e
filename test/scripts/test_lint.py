"""scripts/lint.py finds what upstream's linters would."""

import contextlib
import importlib.util
import io
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

PROJECT = Path(__file__).resolve().parents[2]
for folder in ("scripts", "test/scripts"):
    sys.path.insert(0, str(PROJECT / folder))

import lint  # noqa: E402
from lint_tool.checks import check  # noqa: E402
from lint_tool.exported import added_lines, place_of, read_exported  # noqa: E402
from lint_tool.findings import (  # noqa: E402
    base_lines,
    Finding,
    without_those_of_base,
)
from overlay_tool.errors import Refused  # noqa: E402
from overlay_tool.patch_set import Patch  # noqa: E402

INDUCTOR = "torch/_inductor/file.py"
TEST = "test/inductor/test_file.py"
TOOLS = ("ruff", "usort", "codespell_lib")
MAIN = 'if __name__ == "__main__":\n    run_tests()\n'
OWNERS = '# Owner(s): ["module: inductor"]\n'


def found(path: str, text: str) -> list[tuple[int, str]]:
    """The lines and the linters that complain about them."""
    return [(each.line, each.rule) for each in check(path, text.encode())]


class TestChecks(unittest.TestCase):
    """Each of upstream's own linters finds what it is for, and nothing else."""

    def test_text(self) -> None:
        for text, line in (
            ("a = 1 \n", 1),
            ("a = 1\n\tb = 2\n", 2),
            ("a = 1\r\n", 1),
            ("a = 1", 1),
            ("a = 1\n\n", 2),
        ):
            with self.subTest(text=text):
                self.assertEqual(found("test/a.cpp", text), [(line, "text_linter")])
        self.assertEqual(found("test/a.cpp", "int a = 1;\n"), [])

    def test_built_in_sets(self) -> None:
        for expression in ("{1, 2}", "{i for i in x}", "set(x)", "isinstance(x, set)"):
            with self.subTest(expression=expression):
                self.assertEqual(
                    found(INDUCTOR, f"a = {expression}\n"), [(1, "set_linter")]
                )
                self.assertEqual(found("torch/file.py", f"a = {expression}\n"), [])
        self.assertEqual(found(INDUCTOR, "a: set[int]\n"), [(1, "set_linter")])
        for expression in ("{}", "{1: 2}", "x.set(1)", "x in {1, 2}"):
            with self.subTest(expression=expression):
                self.assertEqual(found(INDUCTOR, f"a = {expression}\n"), [])

    def test_a_line_may_rule_a_linter_out(self) -> None:
        self.assertEqual(found(INDUCTOR, "a = set(x)  # noqa: set_linter\n"), [])
        self.assertEqual(
            found(INDUCTOR, "a = set(x)  # noqa: other\n"), [(1, "set_linter")]
        )

    def test_long_definitions_without_docstring(self) -> None:
        long_enough = "x" * 50
        for head, most in (("class A:", 100), ("def a():", 80)):
            for docstring, lines, complains in (
                ("pass", most, False),
                ("pass", most + 1, True),
                ('"""Short."""', most + 1, True),
                (f'"""{long_enough}"""', most + 1, False),
            ):
                with self.subTest(head=head, docstring=docstring, lines=lines):
                    text = f"{head}\n    {docstring}\n" + "    pass\n" * (lines - 2)
                    due = [(1, "docstring_linter")] if complains else []
                    self.assertEqual(found(INDUCTOR, text), due)

    def test_imports_of_other_packages(self) -> None:
        for text in ("import rich.console\n", "from pandas import x\n"):
            with self.subTest(text=text):
                self.assertEqual(found(INDUCTOR, text), [(1, "import_linter")])
        for text in ("import sympy\n", "from . import a\n", "import os.path\n"):
            with self.subTest(text=text):
                self.assertEqual(found(INDUCTOR, text), [])
        self.assertEqual(found(INDUCTOR, "def a():\n    import rich\n"), [])

    def test_context_managers_as_decorators(self) -> None:
        text = '@dynamo_timed("a")\ndef a():\n    pass\n'
        self.assertEqual(found(INDUCTOR, text), [(1, "context_decorator")])

    def test_owners_and_main_block(self) -> None:
        self.assertEqual(found(TEST, OWNERS + MAIN), [])
        self.assertEqual(found(TEST, "a = 1\n" + MAIN), [(1, "testowners")])
        self.assertEqual(found(TEST, OWNERS), [(1, "test_has_main")])
        self.assertEqual(found("test/inductor/_helper.py", "a = 1\n"), [])

    def test_devices(self) -> None:
        for text in (
            'torch.empty(1, device="cuda")',
            'x.to("cuda:1")',
            'torch.device("xpu")',
            "x.cuda()",
            'def a(device="cuda"): pass',
            'def a(*, b, device="mps"): pass',
        ):
            with self.subTest(text=text):
                self.assertEqual(
                    found("test/a.py", f"{text}\n"), [(1, "test_device_bias")]
                )
        for text in (
            "torch.empty(1, device=GPU_TYPE)",
            'torch.empty(1, device="cpu")',
            "torch.cuda.is_available()",
            'x.device.type == "cuda"',
        ):
            with self.subTest(text=text):
                self.assertEqual(found("test/a.py", f"{text}\n"), [])


class TestPatchedFiles(unittest.TestCase):
    """What is the base's own is not reported, what a patch brings is."""

    def test_lines_of_the_base(self) -> None:
        base, patched = b"a\nb\nc\nd\n", b"a\nx\ny\nc\nz\nd\n"
        self.assertEqual(base_lines(base, patched), {1: 1, 4: 3, 6: 4})
        self.assertEqual(base_lines(base, base), {1: 1, 2: 2, 3: 3, 4: 4})

    def test_findings_of_the_base_are_left_out(self) -> None:
        base, patched = {"f": b"a\nb\n"}, {"f": b"x\na\nb\n"}
        of_base = [Finding("f", 1, "F401", "in the base")]
        moved, added, caused, ours = (
            Finding("f", 2, "F401", "in the base, a line above"),
            Finding("f", 1, "F401", "on a line that the patch adds"),
            Finding("f", 3, "F401", "on a line of the base, by the patch"),
            Finding("g", 1, "F401", "in another file"),
        )
        self.assertEqual(
            without_those_of_base([moved, added, caused, ours], of_base, base, patched),
            [added, caused, ours],
        )

    def test_added_lines_stay_at_their_place_in_the_patch(self) -> None:
        patch = Patch("p", b"Subject: s\n---\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n")
        self.assertEqual(added_lines(patch), b"\n" * 6 + b"c\n")


@unittest.skipUnless(
    all(importlib.util.find_spec(name) for name in TOOLS), "needs the lint extra"
)
class TestLint(unittest.TestCase):
    """The command, over a base of one file with one patch and a file of ours."""

    BASE = "import os\n\n\nx = [os]\n"

    def setUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.root, self.tree = folder / "project", folder / "tree"
        self.write(self.tree / "torch/version.py", f"git_version = '{'a' * 40}'\n")
        self.write(self.tree / INDUCTOR, self.BASE)
        blob = subprocess.run(
            ["git", "hash-object", self.tree / INDUCTOR],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        self.write(
            self.root / "patches/bases.toml",
            f'[[base]]\ntag = "v1"\ncommit = "{"a" * 40}"\n\n'
            f'[base.blobs]\n"{INDUCTOR}" = ["{blob}"]\n',
        )
        self.write(self.root / "patches/v1/series", "0001.patch\n")
        self.own = self.root / "torch_overlay/_inductor/own.py"
        self.test = self.root / TEST
        self.patch("x = [1, os]")
        self.write(self.own, "a = 1\n")
        runner = "from torch._inductor.test_case import run_tests\n"
        self.write(self.test, f"{OWNERS}{runner}\n\n{MAIN}")

    def write(self, file: Path, text: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def patch(self, *lines: str) -> None:
        """Makes the patch write those lines in place of the last one."""
        self.write(
            self.root / "patches/v1/0001.patch",
            f"diff --git a/{INDUCTOR} b/{INDUCTOR}\n"
            f"--- a/{INDUCTOR}\n+++ b/{INDUCTOR}\n"
            f"@@ -3,2 +3,{len(lines) + 1} @@\n \n-x = [os]\n"
            + "".join(f"+{line}\n" for line in lines),
        )

    def lint(self, *arguments: str, expect: int) -> list[str]:
        """What is printed about findings."""
        output = io.StringIO()
        with (
            mock.patch.object(lint, "ROOT", self.root),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
        ):
            status = lint.main(["--tree", str(self.tree), *arguments])
        self.assertEqual(status, expect, output.getvalue())
        return [
            f"{place} {rule}"
            for place, rule, *_ in map(str.split, output.getvalue().splitlines()[:-1])
        ]

    def test_nothing_to_find(self) -> None:
        self.assertEqual(self.lint(expect=0), [])

    def test_each_tool_looks_at_files_of_ours(self) -> None:
        due = []
        for rule, text in (
            ("F401", "import os\n"),
            ("S101", "assert True\n"),
            ("codespell", "# teh\n"),
            ("format", "from os import path, getpid\n\na = path, getpid\n"),
            ("format", "a = 'x'\n"),
            ("set_linter", "a = set()\n"),
        ):
            name = f"own_{len(due)}.py"
            self.write(self.own.with_name(name), text)
            due.append(f"torch_overlay/_inductor/{name}:1: {rule}")
        self.assertEqual(self.lint(expect=1), due)

    def test_each_tool_looks_at_what_a_patch_writes(self) -> None:
        self.patch("assert True", "x = {1, 2}", "x = [1,2]", "x = 1  # teh")
        due = ["4: S101", "5: set_linter", "6: format", "7: codespell"]
        # The base's import is used no more.
        due = [f"{INDUCTOR}:{each}" for each in ("1: F401", *due)]
        self.assertEqual(
            self.lint(expect=1), ["patches/v1/0001.patch:10: codespell", *due]
        )

    def test_a_tree_that_has_the_patches_is_as_good(self) -> None:
        kept = self.tree / ".torch_overlay/originals" / INDUCTOR
        self.write(kept, self.BASE)
        self.write(self.tree / INDUCTOR, self.BASE.replace("[os]", "[1, os]"))
        read = read_exported(self.root, self.tree)
        self.assertEqual(read.base[INDUCTOR].decode(), self.BASE)
        self.assertEqual(read.patched[INDUCTOR], (self.tree / INDUCTOR).read_bytes())
        kept.unlink()
        self.lint(expect=2)

    def test_fix_formats_files_of_ours(self) -> None:
        self.write(
            self.own, "import torch\nimport re\n\na = torch, re.compile('x', re.M)\n"
        )
        self.lint("--fix", expect=0)
        self.assertEqual(
            self.own.read_text(),
            'import re\n\nimport torch\n\na = torch, re.compile("x", re.MULTILINE)\n',
        )

    def test_no_other_file_is_exported(self) -> None:
        self.write(self.root / "test/inductor/test_file.py.bak", "")
        with self.assertRaisesRegex(Refused, "would be exported.*test_file.py.bak"):
            read_exported(self.root, self.tree)

    def test_places_of_files_of_ours(self) -> None:
        self.assertEqual(
            place_of(self.root, "torch/_inductor/own.py"), self.own.resolve()
        )
        self.assertEqual(place_of(self.root, TEST), self.test)


if __name__ == "__main__":
    unittest.main()
