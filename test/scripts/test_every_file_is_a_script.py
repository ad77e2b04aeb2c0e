"""Every test file can be run as a plain script, the way upstream runs its own.

This looks at the sources only; `scripts/test --as-scripts` really runs each file.
"""

import ast
import unittest
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
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
