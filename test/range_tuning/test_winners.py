# Owner(s): ["module: inductor"]
"""Arguments that ``export-winners`` prints, and that they can be registered."""

import contextlib
import os
from unittest import mock

from _inductor_helpers import compiled_values, planted

from _sample_tables import choice, CommandTestCase, decided_by, entry, grid_choice

from torch._dynamo.utils import counters
from torch._inductor.range_dispatch import save
from torch._inductor.range_dispatch.benchmark import timing
from torch._inductor.range_dispatch.cache import table_store
from torch._inductor.test_case import run_tests


def arguments_of(text):
    """The keyword arguments that were printed, as Python reads them."""
    return eval(f"dict(\n{text}\n)")


class ExportWinnersTest(CommandTestCase):
    def exported(self, shape, **options):
        """The printed arguments of a choice that was made by timing."""
        with planted(60):
            compiled_values([shape], **options)
        path = os.path.join(self.folder, "a.json")
        save(path)
        return self.output("export-winners", path)

    def registered(self, text, shapes, **options):
        arguments = arguments_of(text)
        counters.clear()
        with mock.patch.object(timing, "time_candidates", side_effect=AssertionError):
            ran = compiled_values(shapes, **options, **arguments)
        self.assertEqual(counters["inductor"]["sizes_timed"], 0)
        return ran

    def test_one_axis(self):
        on = {"tensor_name": "x", "dim": 0}
        text = self.exported((5, 2), dispatch_on=on, split_points=[1, 30, 100])
        self.assertIn('# dispatch_on={"tensor_name": "x", "dim": 0}\n', text)
        self.assertIn("# winners: 0 plus(k=1), 1 plus(k=2)\n", text)
        self.assertRegex(text, r"# cannot occur, .* -1 .*: \[0, 1\]\n")
        self.assertEqual(
            arguments_of(text),
            {"split_points": [1, 30, 100], "winners": [-1, 0, 1, 1]},
        )
        shapes = [(30, 2), (31, 2), (101, 2)]
        ran = self.registered(text, shapes, dispatch_on=on)
        self.assertEqual(ran, [1.0, 2.0, 2.0])

    def test_two_axes(self):
        on = [{"tensor_name": "x", "dim": 0}, {"tensor_name": "x", "dim": -1}]
        text = self.exported((5, 3), dispatch_on=on, split_points=[[4], [15, 40]])
        self.assertEqual(
            arguments_of(text),
            {"split_points": [[4], [15, 40]], "winners": [0, 1, 1, 1, 1, 1]},
        )
        self.assertIn(
            '# dispatch_on=[{"tensor_name": "x", "dim": 0}, '
            '{"tensor_name": "x", "dim": -1}]\n',
            text,
        )
        shapes = [(4, 15), (4, 16), (5, 15)]
        self.assertEqual(self.registered(text, shapes, dispatch_on=on), [1.0, 2.0, 2.0])

    def test_an_expression(self):
        on = {"size": lambda x: x[0] * x[1]}
        text = self.exported((5, 3), dispatch_on=on, split_points=[60])
        self.assertIn("a function for x.shape[0]*x.shape[1]", text)
        ran = self.registered(text, [(6, 10), (61, 2)], dispatch_on=on)
        self.assertEqual(ran, [1.0, 2.0])

    def test_found_split_points(self):
        on = {"tensor_name": "x", "dim": 0}
        text = self.exported((5, 2), dispatch_on=on, split_points="auto")
        arguments = arguments_of(text)
        (split,) = arguments["split_points"]
        self.assertTrue(28 <= split <= 32, split)
        shapes = [(split, 2), (split + 1, 2)]
        self.assertEqual(self.registered(text, shapes, dispatch_on=on), [1.0, 2.0])

    def test_one_winner(self):
        """Found to be the fastest of all sizes, and in plain autotuning."""
        on = {"tensor_name": "x", "dim": 0, "max": 16}
        for options in ({"dispatch_on": on, "split_points": "auto"}, {}):
            table_store.forget()
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(self.folder, "a.json"))
            text = self.exported((5, 2), **options)
            self.assertIn("no dispatch_on\n", text)
            self.assertEqual(arguments_of(text), {"winners": [0]})
            self.assertEqual(self.registered(text, [(5, 2), (80, 2)]), [1.0, 1.0])

    def test_times_that_decided(self):
        decided = decided_by(((0.5, 2.0), 0.1), ((4.0, 3.0), 0.0))
        path = self.table("a.json", [entry(8)], [choice(decided=decided)])
        text = self.output("export-winners", path)
        for line in (
            "[0, 8] first: 0.500 ms ±0.100 against 2.00 ms ±0.10 (second)",
            "[9, inf] second: 3.00 ms against 4.00 ms (first)",
        ):
            self.assertIn(f"\n# {line}\n", text)
        path = self.table("b.json", [entry(8)], [choice()])
        text = self.output("export-winners", path)
        self.assertIn("[0, 8] first: 1.00 ms ±0.10 against 2.00 ms ±0.10", text)
        self.assertIn("\n# the table does not keep what decided: ", text)

    def test_several_choices(self):
        other = {"op": "other::op.default"}
        path = self.table("a.json", [], [choice(), choice(**other), grid_choice()])
        text = self.output("export-winners", path)
        blocks = text.split("\n\n")
        self.assertEqual(len(blocks), 3)
        winners = sorted(arguments_of(one)["winners"] for one in blocks)
        self.assertEqual(winners, [[0, -1, -1, 1, 1, 0], [0, 1], [0, 1]])
        for name in ("other::op", "other.op", "other::op.default"):
            (one,) = self.output("export-winners", path, "--op", name).split("\n\n")
            self.assertIn("# other::op.default\n", one)

    def test_nothing_to_export(self):
        path = self.table("a.json", [entry()])
        status, out, err = self.run_command("export-winners", path)
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(err, f"error: {path} has no choices\n")
        path = self.table("b.json", [], [choice()])
        status, _, err = self.run_command("export-winners", path, "--op", "other::op")
        self.assertEqual(status, 1)
        self.assertEqual(
            err, f"error: {path} has no choice of other::op; it has some::op.default\n"
        )


if __name__ == "__main__":
    run_tests()
