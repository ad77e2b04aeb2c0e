"""docs/pull_request.md: what goes into it, and that it is current."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import pull_request  # noqa: E402
from overlay_tool.mail import Message  # noqa: E402


class PullRequestPageTest(unittest.TestCase):
    def test_it_is_current(self) -> None:
        self.assertEqual(pull_request.main(["--check"]), 0)

    def test_every_commit_and_plan_is_in_it(self) -> None:
        text = pull_request.page()
        self.assertIn("1. [inductor] Tune a custom op by range", text)
        self.assertIn("[inductor] Write nested conds as nested ifs", text)
        self.assertIn("python test/inductor/test_cond_branches.py -k nested", text)
        self.assertNotIn("{{", text)

    def test_an_old_page_is_found_out_and_renewed(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        page = folder / "pull_request.md"
        page.write_text(pull_request.page() + "\n")
        self.enterContext(
            mock.patch.multiple(pull_request, PAGE=page, PROJECT=pull_request.PROJECT)
        )
        with contextlib.redirect_stdout(io.StringIO()) as output:
            self.assertEqual(pull_request.main(["--check"]), 1)
        self.assertIn("is not current", output.getvalue())

    def test_a_commit_without_test_plan(self) -> None:
        with self.assertRaisesRegex(SystemExit, "'a title' has no Test Plan"):
            pull_request.test_plan([Message("", "", "a title", "A body.")])

    def test_plans_of_two_lines_and_of_two_commits(self) -> None:
        plan = "Test Plan: python a.py\n    -k b"
        messages = [Message("", "", "a title", plan)] * 2
        shown = pull_request.test_plan(messages)
        self.assertEqual(shown, "```\npython a.py -k b\n```")


if __name__ == "__main__":
    unittest.main()
