# Owner(s): ["module: inductor"]
"""The numbers and words of reports."""

import os
import tempfile

from _reported_calls import (
    AXIS,
    choice,
    crossing,
    entry,
    HERE,
    only_call,
    split_at_ten,
    THREE,
    TWO,
)
from range_tuning.report_data import (
    percent,
    read_calls,
    reports_of,
    summary,
    tree_text,
    winner_grid,
)

from torch._inductor.range_dispatch import (
    CandidateTime,
    Entry,
    predicate_text,
    TableError,
    TuningTable,
)
from torch._inductor.range_dispatch.cache.tables import merge_into_file
from torch._inductor.range_dispatch.plan.decisions import decide
from torch._inductor.range_dispatch.plan.ranges import cell_of
from torch._inductor.test_case import run_tests, TestCase


class ReportDataTest(TestCase):
    def test_losses(self):
        call = only_call(crossing(), choice([[50]], [0, 1], ["short", "long"]))
        self.assertEqual(call.names, ("short", "long", "flaky"))
        self.assertEqual([p.sizes for p in call.points], [(1,), (10,), (100,), (1000,)])
        self.assertEqual(call.dispatch_loss, 0.0)
        # short loses 0, 0, 100 and 300 %, long 200, 50, 0 and 0 %.
        self.assertEqual(call.names[call.best_single], "long")
        self.assertEqual(call.single_loss, 0.625)
        self.assertEqual(call.points[2].loss_of(0), 1.0)
        self.assertIsNone(call.points[3].loss_of(2))
        self.assertEqual(call.points[3].failed, (2,))
        self.assertEqual(
            summary(call).replace("\N{NO-BREAK SPACE}", " "),
            "2 ranges, 2 branches; dispatch loses 0.0 % on the average over the best "
            "at each size, the best single candidate, long, 62 %",
        )

    def test_losses_of_a_worse_choice(self):
        call = only_call(crossing(), choice([[5]], [0, 1], ["short", "long"]))
        self.assertEqual(call.dispatch_loss, 0.5 / 4)
        self.assertEqual([p.dispatched for p in call.points], [0, 1, 1, 1])

    def test_percent(self):
        found = [percent(loss) for loss in (None, 0, 0.0041, 0.0996, 0.314, 12)]
        expected = ["–", "0.0 %", "0.4 %", "10 %", "31 %", "1200 %"]
        self.assertEqual(
            found, [e.replace(" ", "\N{NO-BREAK SPACE}") for e in expected]
        )

    def test_tree_decides_as_the_cells(self):
        winners = ["a", "b", "a", None, "c"]
        split_points = [1, 5, 9, 20]
        call = only_call([], choice([split_points], [0, 1, 0, None, 2], winners))
        self.assertEqual(call.names, ("a", "b", "c"))
        self.assertEqual(
            {decide(call.tree, (size,)) for size in (0, 2, 6, 9, 30)}, {0, 1, 2}
        )
        cells = [row.cell for row in call.rows]
        for size in (0, 1, 2, 5, 6, 9, 21, 1000):
            winner = call.branches[decide(call.tree, (size,))].winner
            self.assertEqual(call.names[winner], winners[cell_of(cells, (size,))])
        self.assertIn("x.shape[1] <= ", tree_text(call, call.tree))

    def test_text_of_a_box(self):
        for box, text in (
            (((None, 4), (5, 9)), "x.shape[0] <= 4 and 5 <= y.shape[0] <= 9"),
            (((7, 7), (None, None)), "x.shape[0] == 7"),
            (((None, None), (3, None)), "y.shape[0] >= 3"),
        ):
            self.assertEqual(predicate_text([box], TWO), text)

    def test_grids_of_winners(self):
        names = ["a", "b", "b", None, "a", "b"]
        numbers = [0, 1, 1, None, 0, 1]
        two = only_call([], choice([[8], [4, 64]], numbers, names, TWO))
        self.assertEqual(winner_grid(two), [[0, 1, 1], [None, 0, 1]])
        three = only_call([], choice([[8], [], [4, 64]], numbers, names, THREE))
        self.assertEqual(winner_grid(three, 0), [[0, 1, 1]])
        self.assertEqual(winner_grid(three, 1), [[None, 0, 1]])

    def test_calls_stay_apart(self):
        there = {**HERE, "device": "two"}
        calls = reports_of(
            TuningTable.of(
                [
                    *crossing(),
                    *crossing(op="other.op.default"),
                    *crossing(environment=there),
                    entry([], {"short": 1.0}, axes=()),
                ],
                [split_at_ten(), split_at_ten(environment=there)],
            )
        )
        found = [(c.op, c.axes, len(c.points), len(c.rows)) for c in calls]
        self.assertEqual(
            found,
            [
                ("other.op.default", AXIS, 4, 0),
                ("some.op.default", (), 1, 0),
                ("some.op.default", AXIS, 4, 2),
                ("some.op.default", AXIS, 4, 2),
            ],
        )
        self.assertEqual(calls[2].environment["device"], "one")
        self.assertEqual(calls[3].environment["device"], "two")

    def test_operands_that_differ_otherwise_are_one_point_of_a_curve(self):
        call = only_call(
            [entry([8], {"a": 1.0}), entry([8], {"a": 4.0}, other=1), *crossing()]
        )
        (point,) = call.curve(call.names.index("a"))
        self.assertEqual((point.size, point.low, point.high), (8, 0.9, 4.4))
        self.assertAlmostEqual(point.middle, 2.0)

    def test_sources_that_differ_are_different_candidates(self):
        old, new = CandidateTime("a", "1" * 64, 1.0, 0), CandidateTime("a", "2", 2.0, 0)
        entries = [
            Entry("op", "schema", HERE, "call", AXIS, "[[], []]", (8,), (old,)),
            Entry("op", "schema", HERE, "call", AXIS, "[[], [1]]", (9,), (new,)),
        ]
        call = only_call(entries)
        self.assertEqual(call.names, ("a @11111111", "a @2"))
        self.assertIsNone(call.best_single)

    def test_contradictions_are_errors(self):
        for entries, choices, message in (
            ([entry([1, 2], {"a": 1.0})], [], r"sizes are \(1, 2\) for axes"),
            ([], [choice([], [0], ["a"])], "split_points has 0"),
            ([], [choice([[9, 3]], [0, 0, 0], ["a"] * 3)], "do not ascend"),
        ):
            path = os.path.join(
                self.enterContext(tempfile.TemporaryDirectory()), "a.json"
            )
            merge_into_file(path, TuningTable.of(entries, choices))
            with self.assertRaisesRegex(TableError, message):
                read_calls(path)


if __name__ == "__main__":
    run_tests()
