"""docs/backends.md is what scripts/backends.py makes of the tests' results."""

import contextlib
import io
import re
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

PROJECT = Path(__file__).resolve().parents[2]
for folder in ("scripts", "test/inductor"):
    sys.path.insert(0, str(PROJECT / folder))

import backends  # noqa: E402
from _backend_matrix import ROWS  # noqa: E402
from _backend_rows import Vehicle  # noqa: E402
from _dispatched_models import MODELS  # noqa: E402


def results(outcomes: dict[str, str]) -> str:
    """A JUnit file with these tests in it."""
    inside = {backends.PASSED: "", backends.SKIPPED: "<skipped/>"}
    cases = [
        f'<testcase classname="test.inductor.{backends.TESTS.stem}.SomeTest" '
        f'name="{name}">{inside.get(outcome, "<failure/>")}</testcase>'
        for name, outcome in outcomes.items()
    ]
    return f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>"


def outcomes_without_a_gpu() -> dict[str, str]:
    return {
        row.test_name(model.name): (
            backends.SKIPPED if row.vehicle is Vehicle.GPU else backends.PASSED
        )
        for row in ROWS
        for model in MODELS
    }


class TestBackendsPage(unittest.TestCase):
    def setUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.page = folder / "backends.md"
        self.file = folder / "results.xml"
        self.page.write_text("as before")
        self.enterContext(mock.patch.object(backends, "PAGE", self.page))
        self.enterContext(mock.patch.object(backends, "PROJECT", folder))

    def write(self, outcomes: dict[str, str]) -> tuple[int, str]:
        self.file.write_text(results(outcomes))
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(errors):
            status = backends.main(["--results", str(self.file)])
        return status, errors.getvalue()

    def test_the_page_is_of_these_rows_and_models(self) -> None:
        committed = (PROJECT / "docs" / "backends.md").read_text()
        torch = re.search(r"with torch (\S+);", committed)
        assert torch is not None
        made = backends.page(outcomes_without_a_gpu(), torch[1])
        self.assertEqual(committed, made, "call scripts/backends.py")

    def test_marks_follow_the_results(self) -> None:
        outcomes = outcomes_without_a_gpu()
        skipped = ROWS[0].test_name(MODELS[1].name)
        outcomes[skipped] = backends.SKIPPED
        status, _ = self.write(outcomes)
        self.assertEqual(status, 0)
        row = next(
            line
            for line in self.page.read_text().splitlines()
            if line.startswith(f"| `{ROWS[0].name}` |")
        )
        marks = [cell.strip() for cell in row.split("|")[3 : 3 + len(MODELS)]]
        self.assertEqual(marks, ["✓", "○", *["✓"] * (len(MODELS) - 2)])

    def test_a_failed_test_leaves_the_page_alone(self) -> None:
        outcomes = outcomes_without_a_gpu()
        name = ROWS[-1].test_name(MODELS[-1].name)
        outcomes[name] = backends.FAILED
        status, output = self.write(outcomes)
        self.assertEqual(status, 1)
        self.assertIn(f"{name}: failed", output)
        self.assertEqual(self.page.read_text(), "as before")

    def test_a_missing_test_leaves_the_page_alone(self) -> None:
        outcomes = outcomes_without_a_gpu()
        name, _ = outcomes.popitem()
        status, output = self.write(outcomes)
        self.assertEqual(status, 1)
        self.assertIn(f"{name}: not among the results", output)
        self.assertEqual(self.page.read_text(), "as before")

    def test_a_file_that_is_not_there(self) -> None:
        errors = io.StringIO()
        with self.assertRaises(SystemExit), contextlib.redirect_stderr(errors):
            backends.main(["--results", str(self.file)])
        self.assertIn("--results: there is no file", errors.getvalue())


if __name__ == "__main__":
    unittest.main()
