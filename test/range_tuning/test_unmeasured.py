# Owner(s): ["module: inductor"]
"""What was not measured, or on a busy machine, is told by every command."""

import html

from _sample_tables import choice, CommandTestCase, entry
from range_tuning.report_data import read_calls
from range_tuning.report_page import page_of

from torch._inductor.range_dispatch import CandidateTime, Decided
from torch._inductor.test_case import run_tests


TIMES = {"first": 1.0, "second": 2.0}
NOISE = {"first": 0.1, "second": 0.1}


class UnmeasuredTest(CommandTestCase):
    def texts(self, entries, made):
        """What ``show``, ``export-winners`` and ``report`` say of a table."""
        path = self.table(f"{self.id()}.json", entries, [made])
        (call,) = read_calls(path)
        page = html.unescape(page_of("title", [call], [[]]))
        return self.output("show", path), self.output("export-winners", path), page

    def test_guesses(self):
        decided = [Decided(TIMES, NOISE, guess=g) for g in ((6, 20), (64, None))]
        shown, exported, page = self.texts([entry()], choice(decided=tuple(decided)))
        for text in (
            "split 8: not measured, somewhere between 6 and 20",
            "sizes above 64: not timed",
        ):
            self.assertIn(f"\n  {text}\n", shown)
            self.assertIn(f"\n# {text}\n", exported)
            self.assertIn(f"<li>{text}</li>", page)

    def test_ranges_that_were_not_timed(self):
        reason = "not timed: the op itself is taken"
        decided = Decided(TIMES, NOISE), Decided({}, {}, reason)
        made = choice(winners=(0, -1), decided=decided)
        shown, exported, page = self.texts([entry()], made)
        self.assertIn(f"\n  {reason} (1 of 2 ranges)\n", shown)
        self.assertRegex(shown, r"\[9, inf\] +fallback +-1 +not timed +not timed")
        self.assertIn(f"\n# [9, inf] fallback: {reason}\n", exported)
        self.assertIn(f"<li>{reason} (1 of 2 ranges)</li>", page)
        self.assertEqual(page.count(">not timed<"), 1)

    def test_a_busy_machine(self):
        said = "timed on a busy machine: 1 of 1 sizes"
        for disturbed in (True, False):
            times = (CandidateTime("first", "d1", 9.0, 0.0, disturbed),)
            path = self.table(
                f"{disturbed}.json", [entry(candidates=times)], [choice()]
            )
            shown = self.output("show", path)
            self.assertEqual("9.000 (busy)" in shown, disturbed)
            (call,) = read_calls(path)
            exported = self.output("export-winners", path)
            for text in (shown, exported, page_of("title", [call], [[]])):
                self.assertEqual(said in text, disturbed)


if __name__ == "__main__":
    run_tests()
