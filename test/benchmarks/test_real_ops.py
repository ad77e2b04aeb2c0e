# Owner(s): ["module: inductor"]
"""The operators of benchmarks/real_ops.py compute what they claim; nothing is timed."""

import contextlib
import io
import sys
from pathlib import Path

import torch
from torch.testing._internal.common_utils import run_tests, TestCase

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import operators  # noqa: E402
import real_ops  # noqa: E402
from crossover import Branch, DISPATCH, OperatorResult, SizeResult  # noqa: E402
from crossover_report import goals_of  # noqa: E402
from operators import attention, fir_filter, rank_transform  # noqa: E402
from operators.specification import geometric, sweep_sizes  # noqa: E402
from torch._inductor.range_dispatch.plan.ranges import SizeRange  # noqa: E402

SIZES = (1, 2, 3, 5, 17, 48, 65, 100, 129)


class TestOperators(TestCase):
    """Every implementation of every operator, at sizes of all kinds."""

    def test_implementations_agree_with_the_op(self) -> None:
        for name in operators.NAMES:
            operator = operators.load(name)
            for size in SIZES:
                inputs = operator.make_inputs(size)
                expected = operator.op(*inputs)
                for implementation in operator.implementations:
                    with self.subTest(f"{implementation.__name__} {size}"):
                        output = implementation(*inputs)
                        difference = operator.first_difference(output, expected)
                        self.assertIsNone(difference)
                        self.assertEqual(output.stride(), expected.stride())

    def test_fake_implementations_tell_the_truth(self) -> None:
        for name in operators.NAMES:
            operator = operators.load(name)
            with self.subTest(name):
                torch.library.opcheck(
                    operator.op,
                    operator.make_inputs(5),
                    test_utils=("test_schema", "test_faketensor"),
                )

    def test_what_is_compiled_with(self) -> None:
        for name in operators.NAMES:
            operator = operators.load(name)
            with self.subTest(name):
                self.assertEqual(operator.name, name)
                self.assertIn(operator.eager, operator.implementations)
                # Only the dispatched size and its likes change with the size.
                first = operator.make_first_inputs()
                other = operator.make_inputs(operator.first_size + 1)
                for one, another in zip(first, other):
                    changed = {
                        dim
                        for dim, (a, b) in enumerate(zip(one.shape, another.shape))
                        if a != b
                    }
                    marked: set[int] = getattr(one, "_dynamo_dynamic_indices", set())
                    self.assertEqual(marked, changed)

    def test_the_sweep_covers_the_ranges(self) -> None:
        for name in operators.NAMES:
            operator = operators.load(name)
            with self.subTest(name):
                sizes, points = [*operator.sizes], [*operator.split_points]
                self.assertGreaterEqual(len(sizes), 10)
                self.assertEqual(sizes, sorted({*sizes}))
                self.assertEqual(points, sorted({*points}))
                # Sizes 0 and 1 would be graphs of their own.
                self.assertGreaterEqual(sizes[0], 2)
                # Each is in a range that ends, the larger ones not at the end, where
                # it is tuned; small sizes have a range each.
                self.assertLess(sizes[-1], points[-1])
                self.assertFalse({n for n in sizes if n > 64} & {*points})


class TestFirFilter(TestCase):
    def test_against_convolution_in_double_precision(self) -> None:
        signal, taps = fir_filter.make_inputs(33)
        padded = torch.nn.functional.pad(signal.double(), (32, 0))
        expected = torch.nn.functional.conv1d(
            padded[:, None], taps.double().flip(0)[None, None]
        )[:, 0]
        for implementation in fir_filter.OPERATOR.implementations:
            output = implementation(signal, taps).double()
            torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)

    def test_most_taps_of_overlap_save(self) -> None:
        inputs = fir_filter.make_inputs(fir_filter.OVERLAP)
        output = fir_filter.overlap_save(*inputs)
        torch.testing.assert_close(
            output, fir_filter.banded_matmul(*inputs), rtol=1e-3, atol=1e-4
        )
        with self.assertRaisesRegex(ValueError, "513 taps, at most 512"):
            fir_filter.overlap_save(*fir_filter.make_inputs(fir_filter.OVERLAP + 1))


class TestRankTransform(TestCase):
    def test_equal_values_are_ranked_by_place(self) -> None:
        values = torch.tensor([[2.0, 1.0, 2.0, 1.0, 0.0], [3.0] * 5])
        expected = torch.tensor([[3, 1, 4, 2, 0], [0, 1, 2, 3, 4]])
        for implementation in rank_transform.OPERATOR.implementations:
            self.assertEqual(implementation(values), expected)


class TestAttention(TestCase):
    def test_against_the_definition_in_double_precision(self) -> None:
        (packed,) = attention.make_inputs(19)
        query, key, value = packed.double().unbind(0)
        scores = query @ key.mT / attention.HEAD_SIZE**0.5
        expected = torch.softmax(scores, -1) @ value
        for implementation in attention.OPERATOR.implementations:
            output = implementation(packed).double()
            torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)


class TestReport(TestCase):
    def result(self, dispatch: float) -> OperatorResult:
        """Two implementations, each twice as slow as the other at one size."""
        times = {8: (10.0, 20.0), 512: (40.0, 20.0)}
        return OperatorResult(
            operators.load("rank_transform"),
            [Branch(SizeRange(0, None), "sorting", True, [512], {})],
            [
                SizeResult(
                    size,
                    "sorting",
                    {
                        "counting": [one] * 3,
                        "sorting": [other] * 3,
                        DISPATCH: [min(one, other) * dispatch] * 3,
                    },
                )
                for size, (one, other) in times.items()
            ],
        )

    def test_best_and_means(self) -> None:
        result = self.result(1.01)
        self.assertEqual([one.best for one in result.sizes], ["counting", "sorting"])
        self.assertAlmostEqual(result.mean_ratio("counting"), 2**0.5)
        self.assertAlmostEqual(result.mean_ratio(DISPATCH), 1.01)
        self.assertEqual(result.branches[0].label, "sorting (eager)")

    def test_goals(self) -> None:
        for dispatch, expected in (
            (1.01, [True, True]),
            (1.2, [False, True]),
            (1.5, [False, False]),
        ):
            goals = goals_of(self.result(dispatch))
            self.assertEqual([goal.met for goal in goals], expected)

    def test_sizes(self) -> None:
        self.assertEqual(geometric(4, 16, by_octave=1), [4, 8, 16])
        self.assertEqual(geometric(4, 16, by_octave=2), [4, 6, 8, 11, 16])
        self.assertEqual(geometric(4, 8, by_octave=8), [4, 5, 6, 7, 8])
        self.assertEqual(sweep_sizes(4, 16), [5, 7, 9, 13])


class TestArguments(TestCase):
    def test_wrong_ones_are_named(self) -> None:
        for arguments in (
            ["--operators", "nothing"],
            ["--repeats", "0"],
            ["--repeats", "many"],
            ["--milliseconds", "0"],
            ["--threads", "0"],
            ["--threads", "100000"],
            ["--json", "figures.txt"],
            ["--plot", "no/such/folder/plot.png"],
        ):
            errors = io.StringIO()
            with self.subTest(arguments), contextlib.redirect_stderr(errors):
                with self.assertRaises(SystemExit) as end:
                    real_ops.parse_arguments(arguments)
                self.assertEqual(end.exception.code, 2)
                self.assertIn(f"argument {arguments[0]}: ", errors.getvalue())

    def test_operators_run_once_in_their_own_order(self) -> None:
        names = ["attention", "fir_filter", "attention"]
        options = real_ops.parse_arguments(["--operators", *names])
        self.assertEqual(options.operators, ["fir_filter", "attention"])


if __name__ == "__main__":
    run_tests()
