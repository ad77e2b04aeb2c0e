# Owner(s): ["module: inductor"]
"""What ``show`` prints of a table."""

import os

from _sample_tables import (
    choice,
    CommandTestCase,
    decided_by,
    entry,
    grid_choice,
    HERE,
    Terminal,
)

from torch._inductor.test_case import run_tests


class ShowTest(CommandTestCase):
    def test_choice_and_times(self):
        entries = [entry(64, (3.0, None)), entry(8)]
        decided = [([0.5, 2.0], 0.1), ([4.0, 3.0], 0.0)]
        path = self.table("a.json", entries, [choice(decided=decided_by(*decided))])
        self.assertExpectedInline(
            self.output("show", path),
            """\
some::op.default
  x: float32[s0, 4] (4, 1)
  dispatched on x.shape[0]
  device: one, threads: 2 of 2, torch: 2

  x.shape[0]  winner  number        first ms     second ms
  [0, 8]      first        0  0.5000 ±0.1000  2.000 ±0.100
  [9, inf]    second       1           4.000         3.000

  x.shape[0]  operands            first ms     second ms
  8           float32[8, 4]   1.000 ±0.100  2.000 ±0.100
  64          float32[64, 4]  3.000 ±0.100        failed
""",
        )

    def test_an_older_table_keeps_no_times_that_decided(self):
        """They are the geometric means of the sizes in a range."""
        entries = [entry(2, (1.0, 2.0)), entry(8, (4.0, 2.0)), entry(64, (3.0, None))]
        out = self.output("show", self.table("a.json", entries, [choice()]))
        self.assertIn(
            """
  x.shape[0]  winner  number      first ms     second ms
  [0, 8]      first        0  2.000 ±0.103  2.000 ±0.071
  [9, inf]    second       1  3.000 ±0.100
  the table does not keep what decided: the times of ranges are geometric means of \
what was taken at the sizes in them
""",
            out,
        )

    def test_a_grid(self):
        out = self.output("show", self.table("a.json", [], [grid_choice()]))
        self.assertIn("dispatched on x.shape[-1], x.shape[0]*x.shape[1]", out)
        lines = [line.split() for line in out.splitlines()]
        self.assertIn(["[0,", "8]", "[17,", "32]", "fallback", "-1"], lines)
        self.assertIn(["[0,", "8]", "[33,", "inf]", "cannot", "occur"], lines)
        self.assertIn(["[9,", "inf]", "[33,", "inf]", "first", "0"], lines)

    def test_plain_autotuning(self):
        plain = {"axes": (), "call": "x: float32[8, 4] (4, 1)"}
        path = self.table(
            "a.json", [entry(sizes=(), **plain)], [choice((), (1,), **plain)]
        )
        out = self.output("show", path)
        self.assertIn("no dispatch", out)
        self.assertRegex(out, r"(?m)^  all +second +1 +1.000 ±0.100 +2.000 ±0.100$")
        self.assertRegex(out, r"(?m)^  float32\[8, 4\] +1.000 ±0.100 +2.000 ±0.100$")

    def test_calls_of_one_op(self):
        """Of other operands, and measured in another environment."""
        other = {"call": "x: float64[s0, 4] (4, 1)"}
        elsewhere = {"environment": {**HERE, "torch": "3"}}
        path = self.table(
            "a.json",
            [entry(), entry(16, **other), entry(**elsewhere)],
            [choice(), choice(winners=(1, 0), **other)],
        )
        out = self.output("show", path)
        self.assertEqual(out.count("some::op.default\n"), 3)
        self.assertEqual(out.count("nothing is known of what was chosen"), 1)

    def test_candidates_of_an_edited_source(self):
        edited = entry(16, digests=("abc", "other"))
        out = self.output("show", self.table("a.json", [entry(), edited], [choice()]))
        self.assertEqual(out.count("operands"), 2)

    def test_on_a_terminal(self):
        terminal = Terminal()
        self.output("show", self.table("a.json", [entry()], [choice()]), out=terminal)
        self.assertIn("─", terminal.text())
        self.assertRegex(terminal.text(), r"\[9, inf\] +second +1")

    def test_an_empty_table(self):
        out = self.output("show", self.table("a.json"))
        self.assertEqual(out, "the table is empty\n")

    def test_errors(self):
        path = os.path.join(self.folder, "a.json")
        status, _, err = self.run_command("show", path)
        self.assertEqual(status, 1)
        self.assertIn("No such file", err)
        with open(path, "w") as file:
            file.write("{")
        status, _, err = self.run_command("show", path)
        self.assertEqual(status, 1)
        self.assertIn("is not a tuning table", err)


if __name__ == "__main__":
    run_tests()
