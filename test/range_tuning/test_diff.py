# Owner(s): ["module: inductor"]
"""What ``diff`` finds."""

import dataclasses
import os
import re

from _sample_tables import (
    choice,
    CommandTestCase,
    decided_by,
    entry,
    grid_choice,
    HERE,
    NAMES,
)

from torch._inductor.range_dispatch import CandidateTime
from torch._inductor.test_case import run_tests


class DiffTest(CommandTestCase):
    def diff(self, first, second, status=1):
        """Of tables of (entries, choices); the tables are called A and B."""
        paths = [
            self.table(f"{self.id()}{status}{len(os.listdir(self.folder))}.json", *one)
            for one in (first, second)
        ]
        out = self.output("diff", *paths, status=status)
        return out.replace(paths[0], "A").replace(paths[1], "B")

    def test_tables_that_say_the_same(self):
        for one in (([], []), ([entry()], [choice(), grid_choice()])):
            self.assertEqual(self.diff(one, one, status=0), "")

    def test_within_noise(self):
        noisy = entry(times=(1.15, 2.0))
        self.assertEqual(self.diff(([entry()], []), ([noisy], []), status=0), "")

    def test_times(self):
        first = [entry(8), entry(64, (1.0, 5.0))]
        second = [entry(8, (1.5, 2.0)), entry(64, (1.0, None))]
        out = self.diff((first, []), (second, []))
        lines = [line.split() for line in out.splitlines()]
        time = ["1.000", "±0.100", "1.500", "±0.100", "1.500"]
        self.assertIn(["8", "float32[8,", "4]", "first", *time], lines)
        failed = ["5.000", "±0.100", "failed"]
        self.assertIn(["64", "float32[64,", "4]", "second", *failed], lines)
        self.assertEqual(out.count("float32["), 3)  # with the call

    def test_what_only_one_has(self):
        other = {"call": "x: float64[s0, 4] (4, 1)"}
        first = [entry(8), entry(64)], [choice()]
        second = [entry(8), entry(16, **other)], [choice(), choice(**other)]
        out = self.diff(first, second)
        self.assertIn("only in B:\n  some::op.default\n    x: float64[s0, 4]", out)
        self.assertIn("winners first, second, split at [8]; 1 sizes measured", out)
        self.assertIn("sizes that were measured in A only: 64", out)
        self.assertNotIn("B only", out)
        self.assertNotIn("only in A", out)

    def test_winners(self):
        """Shown for the ranges that both have a part in."""
        moved = choice(((10,),), (0, 1))
        out = self.diff(([], [choice()]), ([], [moved]))
        self.assertExpectedInline(
            re.sub(" +", " ", out),
            """\
some::op.default
 x: float32[s0, 4] (4, 1)
 x.shape[0] is split differently:
 split points
 A [8]
 B [10]
 the winners differ:
 x.shape[0] A B
 [9, 10] second first
""",
        )

    def test_times_that_decided(self):
        """Of an older table they are means of what was measured."""
        kept = choice(decided=decided_by(((0.5, 2.0), 0.1), ((4.0, 3.0), 0.0)))
        other = choice(winners=(0, 0))
        sizes = [entry(16, (2.0, 1.0), 0.0), entry(64, (8.0, 1.0), 0.0)]
        out = self.diff((sizes, [kept]), (sizes, [other]))
        self.assertExpectedInline(
            re.sub(" +", " ", out),
            """\
some::op.default
 x: float32[s0, 4] (4, 1)
 the winners differ:
 x.shape[0] A B decided by in A decided by in B
 [9, inf] second first 3.00 ms against 4.00 ms (first) 4.00 ms against 1.00 ms (second)
 B: the table does not keep what decided: the times of ranges are geometric means of \
what was taken at the sizes in them
""",
        )

    def test_winners_of_a_grid(self):
        before = grid_choice()
        winners = (0, -1, 1, 1, 1, 0)
        names = tuple(NAMES[winner] for winner in winners)
        after = dataclasses.replace(before, winners=winners, names=names)
        out = self.diff(([], [before]), ([], [after]))
        self.assertRegex(out, r"\[0, 8\] +\[33, inf\] +cannot occur +second")
        self.assertEqual(out.count("inf]"), 1)

    def test_configs_in_another_order(self):
        """The same winner, by another number."""
        other = choice(winners=(1, 1), names=("first", "second"))
        out = self.diff(([], [choice()]), ([], [other]))
        self.assertRegex(out, r"\[0, 8\] +first \(0\) +first \(1\)")
        self.assertNotIn("[9, inf]", out)

    def test_another_environment(self):
        elsewhere = {"environment": {**HERE, "torch": "3"}}
        second = [entry(**elsewhere)], [choice(**elsewhere)]
        out = self.diff(([entry()], [choice()]), second)
        self.assertIn("the environments differ:", out)
        self.assertRegex(out, r"(?m)^ +torch +2 +3$")
        self.assertNotIn("threads", out)
        self.assertNotIn("only in", out)

    def test_the_same_environment_and_then_the_same_device_come_first(self):
        def measured(times, **environment):
            return entry(times=times, environment={**HERE, **environment})

        first = [measured((1.0, 1.0)), measured((2.0, 2.0), torch="3")]
        second = [
            measured((3.0, 3.0), device="another"),
            measured((2.0, 2.0), torch="4"),
            measured((1.0, 1.0)),
        ]
        out = self.diff((first, []), (second, []))
        self.assertRegex(out, r"(?m)^ +torch +3 +4$")
        self.assertNotIn("times that differ", out)
        self.assertIn("only in B:", out)
        self.assertEqual(out.count("another"), 1)

    def test_an_edited_source(self):
        """A new candidate, and another source under the same name."""
        candidates = entry(digests=("abc", "new")).candidates
        third = CandidateTime("third", "ghi", 0.5, 0.0)
        other = entry(candidates=(*candidates, third))
        out = self.diff(([entry()], []), ([other], []))
        self.assertIn("other sources, params or patches: second", out)
        self.assertRegex(out, r"third +0.5000")
        self.assertNotRegex(out, r"float32\[8, 4\] +(first|second)")

    def test_trouble(self):
        good = self.table("good.json")
        missing = os.path.join(self.folder, "missing.json")
        for paths in ((missing, good), (good, missing)):
            status, out, err = self.run_command("diff", *paths)
            self.assertEqual((status, out), (2, ""))
            self.assertRegex(err, r"^error: .*missing.json'\n$")


if __name__ == "__main__":
    run_tests()
