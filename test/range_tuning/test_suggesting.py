# Owner(s): ["module: inductor"]
"""Split points and weights that are suggested for sizes that were counted."""

import itertools
import os
import tempfile

from _inductor_helpers import add, CONFIGS
from range_tuning import suggest
from range_tuning.suggesting import split_points_for, suggest_file

import torch
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning
from torch._inductor.range_dispatch import LiveCount, reset_counts, save_counts
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import fresh_cache


def count_of_sizes(sizes, op="some.op.default", axes=("x.shape[1]",), every=1):
    return LiveCount(
        op,
        "some_op_autotuned",
        "x: float32[s0]",
        axes,
        every,
        {"a": sum(sizes.values())},
        {size if isinstance(size, tuple) else (size,): n for size, n in sizes.items()},
    )


class SuggestTest(TestCase):
    def test_between_clusters(self):
        two = dict.fromkeys((90, 100, 110, 3000, 4000, 5000), 10)
        self.assertEqual(split_points_for(two, 4), (512,))
        three = {**two, 4: 50, 5: 60}
        self.assertEqual(split_points_for(three, 4), (16, 512))
        self.assertEqual(len(split_points_for(three, 2)), 1)
        self.assertEqual(split_points_for(three, 1), ())

    def test_weight_of_sizes_decides(self):
        # A size that hardly occurs gets no range of its own.
        self.assertEqual(split_points_for({100: 10_000, 60_000: 1}, 4), ())
        self.assertEqual(split_points_for({100: 10_000, 60_000: 9_000}, 4), (2048,))

    def test_one_size(self):
        for size in (0, 1, 512):
            self.assertEqual(split_points_for({size: 10**6}, 4), ())
        self.assertEqual(split_points_for({512: 1, 600: 1}, 4), ())

    def test_neighbouring_sizes_lie_apart(self):
        for low, high in ((1, 2), (2, 5), (5, 9), (7, 16), (100, 201)):
            points = split_points_for({low: 1, high: 1}, 4)
            for point in points:
                self.assertLessEqual(low, point)
                self.assertLess(point, high)
        self.assertEqual(split_points_for({5: 1, 17: 1}, 4), (8,))

    def test_even_use_is_split_evenly(self):
        even = {round(2 ** (i / 50)): 1 for i in range(800)}
        points = split_points_for(even, 4)
        self.assertEqual(len(points), 3)
        edges = [0, *points, 10**6]
        weights = [
            sum(n for size, n in even.items() if low < size <= high)
            for low, high in itertools.pairwise(edges)
        ]
        self.assertGreater(min(weights) * 2, max(weights))

    def test_many_sizes_are_quick(self):
        many = {size: 1 + size % 7 for size in range(1, 20_000)}
        self.assertLessEqual(len(split_points_for(many, 8)), 7)

    def test_weights_of_many_sizes(self):
        many = dict.fromkeys(range(1, 1000), 2)
        (found,) = suggest(counts=[count_of_sizes(many)])
        self.assertLessEqual(len(found.size_weights), 32)
        self.assertEqual(sum(found.size_weights.values()), sum(many.values()))
        self.assertLessEqual({*found.size_weights}, {*many})

    def test_text(self):
        counts = [
            count_of_sizes({100: 3, 4000: 1}, every=10),
            count_of_sizes({100: 5}),
            count_of_sizes({7: 2}, op="other.op.default"),
        ]
        self.assertExpectedInline(
            str(suggest(counts=counts)),
            """\
other.op.default, called 2 times, x.shape[1] from 7 to 7:
    # x.shape[1]: about one size, which needs no split point
    size_weights={7: 2},
some.op.default, called 45 times, x.shape[1] from 100 to 4000:
    split_points=[512],
    size_weights={100: 35, 4000: 10},""",
        )
        (found,) = suggest("some.op.default", counts=counts)
        self.assertEqual((found.calls, found.split_points), (45, ((512,),)))

    def test_several_axes(self):
        axes = ("x.shape[0]", "x.shape[1]", "x.shape[2]")
        sizes = {(4, 100, 9): 5, (4, 4000, 9): 5, (300, 100, 9): 5}
        (found,) = suggest(counts=[count_of_sizes(sizes, axes=axes)])
        self.assertEqual(found.split_points, ((32,), (512,), ()))
        self.assertEqual(found.size_weights, {(4, 100): 5, (4, 4000): 5, (300, 100): 5})
        self.assertIn("split_points=[[32], [512]],", str(found))
        self.assertIn("# x.shape[2]: about one size", str(found))

    def test_nothing_and_wrong_arguments(self):
        found = suggest(counts=[])
        self.assertEqual(found, [])
        self.assertIn("range_dispatch.count_calls = 1", str(found))
        for wrong in (0, -1, True, 2.0, "4"):
            with self.assertRaisesRegex(ValueError, "max_ranges must be"):
                suggest(max_ranges=wrong, counts=[])


class SuggestFromCallsTest(TestCase):
    def test_can_be_registered(self):
        self.addCleanup(reset_counts)
        torch._dynamo.reset()
        on = {"tensor_name": "x", "dim": 0}
        with (
            custom_op_autotuning(
                add, configs=CONFIGS, dispatch_on=on, split_points=[8], winners=[0, 1]
            ),
            config.patch({"range_dispatch.count_calls": 1}),
            fresh_cache(),
        ):
            f = torch.compile(lambda x: add(x), dynamic=True)
            for size in (10, 11, 12, 900, 1000, 1000):
                f(torch.zeros(size))
        (found,) = suggest(add)
        self.assertEqual(found.split_points, ((128,),))
        self.assertEqual(found.size_weights, {10: 1, 11: 1, 12: 1, 900: 1, 1000: 2})
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "counts.json")
            save_counts(path)
            self.assertIn(str(found), suggest_file(path))
        (points,) = found.split_points
        with custom_op_autotuning(
            add,
            configs=CONFIGS,
            dispatch_on=on,
            split_points=[*points],
            size_weights=found.size_weights,
        ):
            pass


if __name__ == "__main__":
    run_tests()
