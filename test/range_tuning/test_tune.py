# Owner(s): ["module: inductor"]
"""What ``tune`` runs, writes and says."""

import os
import re
from unittest import mock

from _sample_tables import Terminal
from _scripts_to_tune import TuneTestCase

from torch._inductor.range_dispatch import read_table, TuningTable
from torch._inductor.range_dispatch.benchmark import progress
from torch._inductor.range_dispatch.cache import table_store
from torch._inductor.range_dispatch.cache.tables import merge_into_file
from torch._inductor.test_case import run_tests


class TuneTest(TuneTestCase):
    def test_table_and_summary(self):
        status, out, err = self.tune("call")
        self.assertEqual(status, 0)
        self.assertNotIn("error", err)  # torch may warn that it uses no cache
        self.assertEqual(len(read_table(self.default).entries), 4)
        self.assertEqual(len(read_table(self.default).choices), 1)
        self.assertRegex(out, r"(?m)^command_test_script.called_.*_autotuned\)$")
        self.assertRegex(out, r"(?m)^  \[0, 8\] +(once|fallback) +[\d.]+ ")
        self.assertRegex(out, r"(?m)^  \[9, inf\] +(once|fallback) +[\d.]+ ")
        (note,) = re.findall("note: .*", out)
        self.assertRegex(note, r"idle_\w+.default is .*the script must call it")
        self.assertTrue(out.endswith(f"\n{self.default}: 4 sizes measured\n"))
        shown = self.output("show", self.default)
        for size in (2, 4, 8, 64):
            time = r"[\d.]+ ±[\d.]+(?: \(busy\))?"
            row = rf"(?m)^  {size} +float32\[{size}\] +{time} +{time}$"
            self.assertRegex(shown, row)
        self.assertRegex(shown, r"(?m)^  x.shape\[0\] +operands +once ms +fallback ms$")

    def test_a_given_table_and_a_terminal(self):
        """Where what came out is told once, at the end."""
        out = os.path.join(self.folder, "tables", "a.json")
        terminal, stderr = Terminal(), Terminal()
        with (
            mock.patch.dict(os.environ, {"CI": ""}),
            mock.patch.object(progress, "SECONDS_BEFORE_SHOWN", 0.0),
        ):
            status, _, _ = self.tune("call", "--out", out, out=terminal, err=stderr)
        self.assertEqual(status, 0)
        self.assertIn("tuning command_test_script::called", stderr.text())
        self.assertNotIn("winner", stderr.text())
        self.assertIn("winner", terminal.text())
        self.assertEqual(len(read_table(out).entries), 4)
        self.assertFalse(os.path.exists(self.default))
        self.assertIn("─", terminal.text())

    def test_nothing_tuned(self):
        status, out, _ = self.tune("nothing")
        self.assertEqual(status, 1)
        self.assertEqual(out.count("note: "), 2)
        self.assertIn("0 sizes measured", out)
        self.assertEqual(sorted(os.listdir(self.folder)), ["beside.py", "train.py"])

    def test_a_script_that_registers_nothing(self):
        script = os.path.join(self.folder, "plain.py")
        with open(script, "w") as file:
            file.write("print('ran')\n")
        status, out, err = self.run_command("tune", script)
        self.assertEqual((status, out), (1, "ran\n"))
        self.assertRegex(
            err, r"error: .*plain.py registers no op by register_custom_op_autotuning"
        )
        self.assertNotIn("plain.tuning.json", " ".join(os.listdir(self.folder)))

    def test_a_table_without_anything_that_was_there_stays(self):
        merge_into_file(self.default, TuningTable.of([]))
        self.assertEqual(self.tune("nothing")[0], 1)
        self.assertEqual(read_table(self.default), TuningTable.of([]))

    def test_a_script_that_fails_keeps_what_was_measured(self):
        for how, message in (
            ("fail", "failed: RuntimeError"),
            ("exit", "ended with 3"),
            ("interrupt", "was interrupted"),
        ):
            table_store.forget()
            status, _, err = self.tune(how, "--out", self.default + how)
            self.assertEqual(status, 1)
            last = err.splitlines()[-1]
            self.assertTrue(last.startswith(f"error: {self.script} {message}"), last)
            self.assertEqual(len(read_table(self.default + how).entries), 4)

    def test_nothing_is_run_if_the_table_cannot_be_written(self):
        out = os.path.join(self.script, "a.json")  # in what is no folder
        status, text, err = self.tune("fail", "--out", out)
        self.assertEqual((status, text), (1, ""))
        self.assertRegex(err, r"^error: .*train.py'\n$")

    def test_nothing_is_run_if_the_table_is_none(self):
        with open(self.default, "w") as file:
            file.write("{")
        status, out, err = self.tune("fail")
        self.assertEqual((status, out), (1, ""))
        self.assertRegex(err, rf"^error: {self.default} is not a tuning table: .*\n$")

    def test_a_script_that_is_missing(self):
        missing = os.path.join(self.folder, "missing.py")
        status, _, err = self.run_command("tune", missing)
        self.assertEqual(status, 1)
        self.assertRegex(err, r"^error: .*missing.py'\n$")
        self.assertEqual({*os.listdir(self.folder)}, {"train.py", "beside.py"})


if __name__ == "__main__":
    run_tests()
