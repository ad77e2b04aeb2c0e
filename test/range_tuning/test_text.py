# Owner(s): ["module: inductor"]
"""Lines and tables on terminals and in pipes, and the command as a program."""

import contextlib
import io
import os
import subprocess
import sys
import types
from unittest import mock

import pytest
from _sample_tables import choice, CommandTestCase, entry, Terminal
from range_tuning import __main__ as command
from range_tuning.text import write

from torch._inductor.range_dispatch import milliseconds_text, TextTable
from torch._inductor.test_case import run_tests


class TextTest(CommandTestCase):
    def test_times(self):
        for given, text in (
            ((None,), "failed"),
            ((1234.5,), "1234"),
            ((0.0123456,), "0.01235"),
            ((0.0123456, 0.0002), "0.01235 ±0.00020"),
            ((30.0, 12.0), "30.00 ±12.00"),
            ((0.00099999999,), "0.001000"),
            ((99.9999, 0.01), "100.0 ±0.0"),
        ):
            self.assertEqual(milliseconds_text(*given), text)

    def test_a_range_is_no_markup_on_a_terminal(self):
        terminal = Terminal()
        table = TextTable(("[bold]", "ms"), [("[0, 512]", "1.0")])
        write(["[red] line", table], terminal)
        for text in ("[red] line", "[bold]", "[0, 512]"):
            self.assertIn(text, terminal.text())

    def test_plain_columns_for_pipes(self):
        plain = io.StringIO()
        table = TextTable(("size", "ms"), [("a", "1.0"), ("long", "10.0")])
        with mock.patch.dict(sys.modules, {"rich": None, "rich.console": None}):
            write(["line", table], plain)
        self.assertExpectedInline(
            plain.getvalue(),
            """\
line
  size    ms
  a      1.0
  long  10.0
""",
        )

    def test_a_terminal_without_rich(self):
        path = self.table("a.json")
        with mock.patch.dict(sys.modules, {"rich": None}):
            found = self.run_command("show", path, out=Terminal())
        self.assertEqual(found[0], 1)
        self.assertRegex(found[2], "^error: .*rich.*: pip install rich\n$")


class ProgramTest(CommandTestCase):
    def test_an_encoding_without_all_characters(self):
        path = self.table("a.json", [entry()])
        encoded = io.BytesIO()
        with io.TextIOWrapper(encoded, "ascii", write_through=True) as out:
            with contextlib.redirect_stdout(out):
                self.assertEqual(command.main(["show", path]), 0)
            self.assertIn(b"1.000 \\xb10.100", encoded.getvalue())

    @pytest.mark.slow  # a process
    def test_it_is_a_program_whose_reader_may_leave(self):
        path = self.table("a.json", [entry(size) for size in range(1000)], [choice()])
        read, write_end = os.pipe()
        os.close(read)
        with os.fdopen(write_end, "w") as closed:
            done = subprocess.run(
                [sys.executable, "-m", "range_tuning", "show", path],
                stdout=closed,
                stderr=subprocess.PIPE,
                text=True,
            )
        self.assertEqual((done.returncode, done.stderr), (1, ""))


class OtherCommandsTest(CommandTestCase):
    def test_report(self):
        def write_report(path, out, counts):
            self.assertEqual(counts, [])
            return [f"{out}/{path}.svg", f"{out}/index.html"]

        module = types.ModuleType("range_tuning.report")
        module.write_report = write_report
        with mock.patch.dict(sys.modules, {"range_tuning.report": module}):
            out = self.output("report", "a.json", "--out", "pages")
        self.assertEqual(out, "pages/a.json.svg\npages/index.html\n")

    def test_suggest(self):
        with mock.patch.object(command, "suggest_file", lambda path: f"of {path}"):
            self.assertEqual(self.output("suggest", "counts.json"), "of counts.json\n")

    def test_errors_are_one_line_that_names_the_file(self):
        for error, message in (
            (ValueError("no counts\nat all"), "counts.json: no counts at all"),
            (ValueError("counts.json is empty"), "counts.json is empty"),
        ):
            with mock.patch.object(command, "suggest_file", side_effect=error):
                found = self.run_command("suggest", "counts.json")
            self.assertEqual(found, (1, "", f"error: {message}\n"))

    @pytest.mark.slow
    def test_the_old_command_says_where_it_went(self):
        done = subprocess.run(
            [sys.executable, "-m", "torch._inductor.range_dispatch", "show", "a.json"],
            capture_output=True,
            text=True,
        )
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertRegex(done.stderr, r"^.* is now python -m range_tuning, .*\n$")


if __name__ == "__main__":
    run_tests()
