"""Every test file can be run as a plain script, the way upstream runs its own.

One of each folder is run so. Of the others the sources show that they would be: what
they import is found in the same way, from the file's own folder.
"""

import ast
import subprocess
import sys
import unittest
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
REPRESENTATIVES = {
    "benchmarks/test_real_ops.py": "TestArguments",
    "examples/test_examples.py": "ExamplesTest.test_there_are_examples",
    "inductor/test_custom_op_range_dispatch.py": "ChooseTest",
    "range_tuning/test_diff.py": "DiffTest",
    "scripts/test_overlay_pin.py": "BasesTest",
}
"""A file of each folder, if possible one with helpers, and a class of quick tests."""

RUNNERS = ("run_tests", "main")
"""What a main block may call: torch's run_tests(), or unittest.main()."""


def files_of_tests() -> list[Path]:
    """Every file that pytest takes for a test file."""
    return sorted(TESTS.rglob("test_*.py"))


def is_main_check(node: ast.stmt) -> bool:
    """Whether the statement is `if __name__ == "__main__":`."""
    return (
        isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
    )


def called_names(node: ast.AST) -> set[str]:
    """The last part of the name of everything called below the node."""
    calls = [child.func for child in ast.walk(node) if isinstance(child, ast.Call)]
    return {ast.unparse(function).rpartition(".")[2] for function in calls}


def imported(source: str) -> set[str]:
    """The modules that a file imports, at its top or below."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


class TestEveryFileIsAScript(unittest.TestCase):
    """What a file needs for `python FILE` to run its tests."""

    def test_there_are_files_to_look_at(self) -> None:
        self.assertIn(Path(__file__).resolve(), files_of_tests())

    def test_the_main_block_runs_the_tests(self) -> None:
        for file in files_of_tests():
            with self.subTest(file=file.relative_to(TESTS)):
                body = ast.parse(file.read_text()).body
                self.assertTrue(
                    is_main_check(body[-1]),
                    'the last statement must be `if __name__ == "__main__":`',
                )
                self.assertTrue(
                    called_names(body[-1]) & set(RUNNERS),
                    "the main block must call run_tests() or unittest.main()",
                )

    def test_helpers_are_in_the_file_s_own_folder(self) -> None:
        """Pytest finds those of another folder's tests as well."""
        helpers = {file.stem for file in TESTS.glob("*/*.py")}
        for file in files_of_tests():
            source = file.read_text()
            if "sys.path.insert(" in source:
                continue
            with self.subTest(file=file.relative_to(TESTS)):
                own = {each.stem for each in file.parent.glob("*.py")}
                self.assertEqual(imported(source) & helpers - own, set())

    def test_there_is_a_representative_of_each_folder(self) -> None:
        folders = {file.parent for file in files_of_tests()}
        chosen = {(TESTS / name).parent for name in REPRESENTATIVES}
        self.assertEqual(chosen, folders)

    @pytest.mark.slow
    def test_representatives_run(self) -> None:
        for name, tests in REPRESENTATIVES.items():
            with self.subTest(file=name):
                result = subprocess.run(
                    [sys.executable, str(TESTS / name), tests],
                    cwd=TESTS.parent,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                self.assertEqual(result.returncode, 0, result.stdout)
                self.assertRegex(result.stdout, r"Ran [1-9]\d* tests? in")

    def test_no_test_is_visible_to_pytest_only(self) -> None:
        for file in files_of_tests():
            with self.subTest(file=file.relative_to(TESTS)):
                body = ast.parse(file.read_text()).body
                functions = [
                    node.name
                    for node in body
                    if isinstance(node, ast.FunctionDef)
                    and node.name.startswith("test_")
                ]
                self.assertEqual(functions, [], "tests must be methods of a TestCase")


if __name__ == "__main__":
    unittest.main()
