# Owner(s): ["module: inductor"]
"""Which sizes range-tuned custom ops are timed at, and split points that are found.

What candidates take is planted, never timed, so that the right answer is known.
"""

import itertools
import math
import random
import statistics
from unittest import mock

import pytest
from _fresh_test_case import FreshTestCase
from _planted_times import planted_times
from _tuning_clock import each_size_takes

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.kernel import custom_op
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch.benchmark import timing
from torch._inductor.range_dispatch.benchmark.timing import Timing
from torch._inductor.range_dispatch.call import memory
from torch._inductor.range_dispatch.plan.sampling import (
    sizes_of_histogram,
    spread_sizes,
)
from torch._inductor.range_dispatch.plan.split_search import (
    geometric_grid,
    SearchRules,
    SplitSearch,
)
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import fresh_cache
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    subtest,
)


def line(fixed, per_size):
    """A cost curve in milliseconds."""
    return lambda size: fixed + per_size * size


# "small" and "middle" cross at 444.4, "middle" and "large" at 16875.
CURVES = {
    "small": line(1.0, 1 / 100),
    "middle": line(5.0, 1 / 1000),
    "large": line(20.0, 1 / 9000),
}
CROSSINGS = (4 / 0.009, 15 / (1 / 1000 - 1 / 9000))


class PlantedSearch(SplitSearch):
    """A search over cost curves, measured with noise that only ever adds."""

    def __init__(self, curves, lowest, highest, noise=0.0, budget=None, step=1):
        self.asked = []
        self._random = random.Random(0)
        self._noise = noise
        self._budget = budget
        self._curves = curves

        def snap(size):
            return size // step * step

        grid = sorted({*map(snap, geometric_grid(lowest, highest))})
        super().__init__(grid, snap, self._planted, SearchRules())

    def _planted(self, size):
        if self._budget is not None and len(self.asked) >= self._budget:
            return None
        self.asked.append(size)
        return {name: self._time(curve(size)) for name, curve in self._curves.items()}

    def _time(self, milliseconds):
        rounds = sorted(
            milliseconds * (1 + abs(self._random.gauss(0, self._noise)))
            for _ in range(5)
        )
        return Timing(statistics.median(rounds), (rounds[3] - rounds[1]) / math.sqrt(5))


def option_at(found, size):
    return next(r.option for r in found if r.last is None or size <= r.last)


def largest_loss(found, curves, lowest, highest, points=500):
    """The most that any size of a dense grid takes over its best option."""
    losses = []
    for i in range(points + 1):
        size = round(lowest * (highest / lowest) ** (i / points))
        best = min(curve(size) for curve in curves.values())
        losses.append(curves[option_at(found, size)](size) / best - 1)
    return max(losses)


@instantiate_parametrized_tests
class SplitSearchTest(TestCase):
    """The search by itself."""

    @parametrize("noise", (0.0, 0.02))
    def test_planted_crossovers(self, noise):
        found = PlantedSearch(CURVES, 1, 65536, noise).run()
        self.assertEqual([r.option for r in found], ["small", "middle", "large"])
        self.assertIsNone(found[-1].last)
        for one, crossing in zip(found, CROSSINGS):
            self.assertLess(abs(one.last / crossing - 1), 0.1)
        self.assertLess(largest_loss(found, CURVES, 1, 65536), 0.03)

    def test_any_crossover(self):
        for exponent in range(2, 31):
            crossing = 1.4**exponent
            curves = {"a": line(crossing / 10, 0.1), "b": line(crossing / 5, 0.0)}
            found = PlantedSearch(curves, 1, 32768).run()
            self.assertEqual([r.option for r in found], ["a", "b"], crossing)
            # Between two integers there is nothing to find.
            self.assertLess(abs(found[0].last - crossing), 1 + 0.05 * crossing)

    @parametrize("noise", (0.0, 0.02, 0.05))
    def test_equal_options_make_one_range(self, noise):
        equal = {"a": line(1.0, 0.01), "b": line(1.0, 0.01), "c": line(1.0, 0.01)}
        self.assertEqual(len(PlantedSearch(equal, 1, 65536, noise).run()), 1)

    def test_a_difference_below_the_loss_makes_no_range(self):
        curves = {"a": line(1.0, 0.0), "b": lambda n: 1.02 if n < 300 else 0.98}
        self.assertEqual(len(PlantedSearch(curves, 1, 65536).run()), 1)

    def test_an_option_that_is_best_in_the_middle_only(self):
        curves = {
            "outside": line(1.0, 0.0),
            "inside": lambda n: 0.5 if 900 <= n <= 1700 else 2.0,
        }
        search = PlantedSearch(curves, 1, 65536)
        found = search.run()
        options = [r.option for r in found]
        self.assertEqual(options, ["outside", "inside", "outside"])
        self.assertLess(abs(found[0].last / 900 - 1), 0.1)
        self.assertLess(abs(found[1].last / 1700 - 1), 0.1)

    def test_sizes_are_measured_densely(self):
        search = PlantedSearch({"a": line(1.0, 0.0)}, 1, 65536)
        search.run()
        for low, high in itertools.pairwise(sorted(search.measured)):
            self.assertTrue(high <= 1.5 * low or high == low + 1, (low, high))

    def test_a_disturbed_size_is_measured_again(self):
        disturbed = iter([9.0])
        curves = {
            "a": lambda n: next(disturbed, 1.0) if n == 256 else 1.0,
            "b": line(1.1, 0.0),
        }
        search = PlantedSearch(curves, 1, 65536)
        self.assertEqual([r.option for r in search.run()], ["a"])
        self.assertEqual(search.asked.count(256), 2)

    @parametrize("budget", (1, 2, 3, 6, 12))
    def test_budget(self, budget):
        search = PlantedSearch(CURVES, 1, 65536, budget=budget)
        found = search.run()
        self.assertEqual(len(search.asked), budget)
        self.assertGreater(len(search.refused), 0)
        self.assertEqual(option_at(found, 1), "small")
        # Small sizes come first.
        self.assertEqual(search.asked[:3], sorted(search.asked[:3]))
        if budget > 8:
            self.assertEqual(option_at(found, 65536), "large")
        self.assertEqual(PlantedSearch(CURVES, 1, 65536, budget=0).run(), [])

    @parametrize("noise", (0.0, 0.02))
    def test_splits_that_are_no_guesses(self, noise):
        found = PlantedSearch(CURVES, 1, 65536, noise).run()
        self.assertEqual([r.guess for r in found], [None] * 3)
        # All there is between has been measured.
        found = PlantedSearch(CURVES, 96, 65536, step=96).run()
        self.assertEqual([r.guess for r in found], [None] * 3)

    def test_splits_that_are_guesses(self):
        grid = geometric_grid(1, 65536)
        for budget, guesses in (
            (len(grid) - 3, [(256, 1024), (1024, None)]),
            (len(grid), [(256, 1024), (16384, 65536), None]),
            # The wider gap, on a log scale the first of two, is halved.
            (len(grid) + 1, [(256, 512), (16384, 65536), None]),
        ):
            found = PlantedSearch(CURVES, 1, 65536, budget=budget).run()
            self.assertEqual([r.guess for r in found], guesses)
            for one in found:
                if one.last is not None:
                    low, high = one.guess
                    self.assertTrue(low <= one.last < high)

    def test_no_guess_where_options_are_equal_on_both_sides(self):
        """They differ by no more than noise, so that the split may be anywhere."""

        class Noisy(PlantedSearch):
            def _time(self, milliseconds):
                return Timing(milliseconds, 0.2)

        curves = {"a": line(1.0, 0.01), "b": line(1.3, 0.009)}
        search = Noisy(curves, 1, 4096, budget=len(geometric_grid(1, 4096)))
        found = search.run()
        self.assertGreater(len(search.refused), 0)
        for one, after in itertools.pairwise(found):
            self.assertIsNone(one.guess, (one, after))

    def test_guesses_of_options_that_serve_some_sizes_only(self):
        """Where one begins to serve is known; one that ends may be slower before."""

        class Partial(PlantedSearch):
            def _planted(self, size):
                times = super()._planted(size)
                if times:
                    del times["only below 64" if size >= 64 else "only from 64"]
                return times

        curves = {
            "only below 64": line(1.0, 0.0),
            "only from 64": line(1.0, 0.0),
            "all": line(2.0, 0.0),
        }
        budget = len(geometric_grid(1, 4096))
        for slow, guess in (("only from 64", (16, 64)), ("only below 64", None)):
            own = {**curves, slow: line(9.0, 0.0)}
            found = Partial(own, 1, 4096, budget=budget).run()
            self.assertEqual([r.last for r in found], [63, None])
            self.assertEqual(found[0].guess, guess)

    def test_only_some_sizes_can_be_measured(self):
        search = PlantedSearch(CURVES, 96, 65536, step=96)
        found = search.run()
        self.assertEqual({n % 96 for n in search.measured}, {0})
        for one, crossing in zip(found, CROSSINGS):
            self.assertLess(abs(one.last - crossing), 96)

    @parametrize("bounds", ((7, 7), (1, 2), (3, 5), (400, 500)))
    def test_few_sizes(self, bounds):
        found = PlantedSearch(CURVES, *bounds).run()
        self.assertLess(largest_loss(found, CURVES, *bounds), 0.03)

    def test_an_option_that_serves_some_sizes_only(self):
        class Partial(PlantedSearch):
            def _planted(self, size):
                times = super()._planted(size)
                if size >= 64:
                    del times["only below 64"]
                return times

        curves = {"only below 64": line(1.0, 0.0), "all": line(2.0, 0.0)}
        found = Partial(curves, 1, 4096).run()
        self.assertEqual(
            [(r.last, r.option) for r in found], [(63, "only below 64"), (None, "all")]
        )


class SamplingTest(TestCase):
    """The sizes that stand for a range."""

    def test_spread(self):
        self.assertEqual(spread_sizes(1, 100, 1), [100])
        self.assertEqual(spread_sizes(1, 100, 2), [1, 100])
        self.assertEqual(spread_sizes(1, 100, 3), [1, 10, 100])
        self.assertEqual(spread_sizes(7, 8, 5), [7, 8])
        self.assertEqual(spread_sizes(9, 9, 3), [9])

    def test_histogram(self):
        seen = {4: 10.0, 5: 0.0, 6: 1.0, 7: 1.0, 90: 12.0, 1000: 99.0}
        self.assertEqual(sizes_of_histogram(seen, 1, 4, 3), {4: 10.0})
        self.assertEqual(sizes_of_histogram(seen, 5, 7, 3), {6: 1.0, 7: 1.0})
        self.assertEqual(sizes_of_histogram(seen, 1, 99, 2), {4: 12.0, 90: 12.0})
        self.assertEqual(sizes_of_histogram(seen, 100, None, 3), {1000: 99.0})
        self.assertEqual(sizes_of_histogram(seen, 8, 80, 3), {})


@torch.library.custom_op("split_search_test::add", mutates_args=())
def add(x: torch.Tensor) -> torch.Tensor:
    return x - 1


@add.register_fake
def _(x):
    return torch.empty_like(x)


def plus(x, k):
    """Tells by its value which ``k`` ran."""
    return x + k


def model(x):
    return add(x)


def planted(curves):
    """Replaces timing: by ``k``, or "fallback", milliseconds of a size."""

    def of_candidate(candidate, inputs):
        name = candidate.name
        curve = curves[name if name == "fallback" else candidate.params["k"]]
        milliseconds = curve(inputs[0].shape[0])
        # Small enough for every budget.
        return None if milliseconds is None else milliseconds / 1e3

    return planted_times(of_candidate)


K_CURVES = {
    1: line(1.0, 1 / 100),
    2: line(5.0, 1 / 1000),
    "fallback": line(20.0, 1 / 9000),
}


class RegisteredTestCase(FreshTestCase):
    def run_model(
        self, sizes, curves=K_CURVES, function=model, inputs=torch.zeros, **kw
    ):
        """Compile once for all sizes; the k that ran at each, and the record."""
        kw.setdefault("configs", [CustomOpConfig(plus, k=1), CustomOpConfig(plus, k=2)])
        kw["dispatch_on"] = {"tensor_name": "x", "dim": 0, **kw.get("dispatch_on", {})}
        torch._dynamo.reset()
        counters.clear()
        counter = CompileCounterWithBackend("inductor")
        ran = {}
        with (
            planted(curves),
            custom_op_autotuning(add, **kw),
            record_dispatches() as records,
        ):
            compiled = torch.compile(function, dynamic=True, backend=counter)
            for size in sizes:
                ran[size] = compiled(inputs(size)).max().item()
        self.assertEqual(counter.frame_count, 1)
        return ran, records[0]


def around(split_points):
    return sorted({2, 65536, *split_points, *(point + 1 for point in split_points)})


@instantiate_parametrized_tests
class FoundSplitPointsTest(RegisteredTestCase):
    def found(self, **kw):
        """The split points, and which k ran on either side of each."""
        _, record = self.run_model([64], **kw)
        splits = [row.size_range.end for row in record.ranges[:-1]]
        # The same again, from what is stored.
        ran, again = self.run_model([64, *around(splits)], **kw)
        self.assertEqual(again.ranges, record.ranges)
        self.assertEqual(counters["inductor"]["sizes_timed"], 0)
        self.assertEqual(counters["inductor"]["custom_op_candidates_compiled"], 0)
        return splits, ran, record

    @parametrize("cpp_wrapper", (False, subtest(True, decorators=[pytest.mark.slow])))
    def test_planted_crossovers(self, cpp_wrapper):
        with config.patch(cpp_wrapper=cpp_wrapper):
            splits, ran, record = self.found(split_points="auto")
        for split, crossing in zip(splits, CROSSINGS, strict=True):
            self.assertLess(abs(split / crossing - 1), 0.1)
        first, second = splits
        self.assertEqual(
            ran,
            {
                n: 1.0 if n <= first else 2.0 if n <= second else -1.0
                for n in (2, 64, first, first + 1, second, second + 1, 65536)
            },
        )
        self.assertEqual(record.branches, 3)
        self.assertEqual(record.ranges[0].size_range.start, 0)
        self.assertIsNone(record.ranges[-1].size_range.end)
        for row in record.ranges:
            for size in row.timed_sizes:
                self.assertIn(size, row.size_range)

    def test_without_stored_times(self):
        with config.patch(autotune_local_cache=False):
            for _ in range(2):
                ran, record = self.run_model([64, 65536], split_points="auto")
                self.assertEqual(record.branches, 3)
                self.assertEqual(ran, {64: 1.0, 65536: -1.0})
                self.assertGreater(counters["inductor"]["sizes_timed"], 9)

    def test_bounds(self):
        bounds = {"min": 100, "max": 2000}
        splits, ran, record = self.found(split_points="auto", dispatch_on=bounds)
        self.assertEqual(len(splits), 1)
        sizes = [size for row in record.ranges for size in row.timed_sizes]
        self.assertEqual((min(sizes), max(sizes)), (100, 2000))
        self.assertEqual(ran[2], 1.0)
        self.assertEqual(ran[65536], 2.0)

    def test_bounds_of_the_graph(self):
        def checked(x):
            torch._check(x.shape[0] <= 1000)
            return add(x)

        _, record = self.run_model([8], function=checked, split_points="auto")
        sizes = [size for row in record.ranges for size in row.timed_sizes]
        self.assertEqual((min(sizes), max(sizes)), (2, 1000))

    def test_equal_candidates_make_no_branch(self):
        curves = dict.fromkeys((1, 2, "fallback"), line(1.0, 0.01))
        splits, ran, record = self.found(curves=curves, split_points="auto")
        self.assertEqual((splits, record.branches), ([], 1))

    def test_without_the_fallback(self):
        splits, _, record = self.found(split_points="auto", include_fallback=False)
        self.assertEqual(len(splits), 1)
        self.assertEqual(record.branches, 2)

    def test_the_fallback_has_a_head_start(self):
        curves = {1: line(0.0, 1.0), 2: line(10.0, 1.0), "fallback": line(50.0, 1.0)}
        splits, ran, _ = self.found(
            curves=curves, split_points="auto", min_speedup_threshold=1.5
        )
        # 1.5 n = n + 50
        self.assertEqual(len(splits), 1)
        self.assertLess(abs(splits[0] - 100), 10)
        self.assertEqual((ran[2], ran[65536]), (1.0, -1.0))

    # What is planted goes by the size of the op's own argument.
    @config.patch("range_dispatch.tune_fused", False)
    @pytest.mark.slow
    def test_a_derived_size(self):
        def tripled(x):
            return add(torch.cat([x, x, x]))

        _, record = self.run_model([64], function=tripled, split_points="auto")
        sizes = [size for row in record.ranges for size in row.timed_sizes]
        self.assertEqual({size % 3 for size in sizes}, {0})
        splits = [row.size_range.end for row in record.ranges[:-1]]
        for split, crossing in zip(splits, CROSSINGS, strict=True):
            self.assertLess(abs(split / crossing - 1), 0.1)
        first = splits[0] // 3
        ran, _ = self.run_model(
            [64, first, first + 1], function=tripled, split_points="auto"
        )
        self.assertEqual(ran, {64: 1.0, first: 1.0, first + 1: 2.0})

    @pytest.mark.slow
    def test_a_static_size_is_tuned_for_itself(self):
        with (
            planted(K_CURVES),
            custom_op_autotuning(
                add,
                configs=[CustomOpConfig(plus, k=1), CustomOpConfig(plus, k=2)],
                dispatch_on={"tensor_name": "x", "dim": 0},
                split_points="auto",
            ),
        ):
            for size, k in ((8, 1.0), (1000, 2.0), (30000, -1.0)):
                compiled = torch.compile(model, dynamic=False)
                self.assertEqual(compiled(torch.zeros(size)).max().item(), k)
        self.assertEqual(counters["inductor"]["sizes_timed"], 3)

    def test_inputs_that_do_not_fit_in_memory(self):
        with mock.patch.object(memory, "TUNING_BYTES", 8 * 4096):
            _, record = self.run_model([8], split_points="auto")
        timed = [size for row in record.ranges for size in row.timed_sizes]
        self.assertEqual(max(timed), 4096)

    def test_an_implementation_that_looks_at_the_size(self):
        def only_small(x, k):
            if x.shape[0] > 600:
                raise NotImplementedError
            return x + k

        curves = {3: line(0.5, 0.0), 2: line(1.0, 0.0), "fallback": line(9.0, 0.0)}
        configs = [CustomOpConfig(only_small, k=3), CustomOpConfig(plus, k=2)]
        splits, ran, _ = self.found(curves=curves, configs=configs, split_points="auto")
        # As far as the interval of the coarse grid in which all sizes are below.
        (split,) = splits
        self.assertTrue(100 <= split <= 600, split)
        self.assertEqual((ran[split], ran[split + 1]), (3.0, 2.0))

    def test_a_generator_is_asked_for_each_interval(self):
        asked = []

        def generate(tensors):
            asked.append(tensors["x"].shape[0])
            return [CustomOpConfig(plus, k=1 if asked[-1] < 100 else 2)]

        splits, ran, _ = self.found(
            configs=None, config_generator=generate, split_points="auto"
        )
        self.assertGreater(len({*asked}), 4)
        self.assertEqual(ran[2], 1.0)
        self.assertEqual(ran[splits[-1]], 2.0)
        self.assertEqual(ran[65536], -1.0)

    def test_all_sizes_that_a_range_was_measured_at_are_reported(self):
        _, record = self.run_model([8], split_points="auto")
        for row in record.ranges:
            for measured in row.sizes:
                (size,) = measured.sizes
                self.assertEqual(
                    measured.milliseconds,
                    {
                        "plus(k=1)": K_CURVES[1](size) / 1e3,
                        "plus(k=2)": K_CURVES[2](size) / 1e3,
                        "fallback": K_CURVES["fallback"](size) / 1e3,
                    },
                )

    def test_nothing_is_decided_by_timing_in_deterministic_mode(self):
        with config.patch(deterministic=True):
            ran, record = self.run_model([8, 65536], split_points="auto")
        self.assertEqual({*ran.values()}, {-1.0})
        self.assertEqual(counters["inductor"]["sizes_timed"], 0)

    def test_a_candidate_that_fails_at_some_sizes(self):
        curves = {**K_CURVES, 2: lambda n: None if n > 5000 else 5.0 + n / 1000}
        splits, ran, _ = self.found(curves=curves, split_points="auto")
        self.assertEqual(len(splits), 2)
        self.assertTrue(4750 <= splits[1] <= 5250, splits)
        self.assertEqual((ran[splits[1]], ran[splits[1] + 1]), (2.0, -1.0))


class SearchBudgetTest(RegisteredTestCase):
    def seconds_taken(self, budget, per_size):
        """What measuring takes on a clock of our own, and the sizes measured."""
        rounds = []
        measured = []

        def of_candidate(candidate, inputs):
            size = inputs[0].shape[0]
            if size not in measured:
                measured.append(size)
            milliseconds = 0.01 + per_size * size
            shortest = 15.0  # however fast a candidate is
            taking = (timing.MIN_ROUNDS + 1) * milliseconds
            rounds.append(max(shortest, taking) / 1e3)
            return milliseconds

        with (
            fresh_cache(),
            planted_times(of_candidate),
            mock.patch.object(timing.time, "perf_counter", lambda: sum(rounds)),
            custom_op_autotuning(
                add,
                configs=[CustomOpConfig(plus, k=1)],
                dispatch_on={"tensor_name": "x", "dim": 0},
                split_points="auto",
                tuning_seconds=budget,
            ),
        ):
            torch._dynamo.reset()
            torch.compile(model, dynamic=True)(torch.zeros(8))
        return sum(rounds), measured

    @pytest.mark.slow
    def test_search_stays_inside_its_budget(self):
        for per_size in (1e-6, 1e-3, 0.1):
            for budget in (0.2, 1.0, 5.0):
                seconds, measured = self.seconds_taken(budget, per_size)
                self.assertLessEqual(seconds, budget)
                self.assertGreaterEqual(len(measured), 3)

    def test_a_search_that_runs_out_of_time_says_so(self):
        with self.assertLogs("torch._inductor.range_dispatch", "WARNING") as logs:
            _, measured = self.seconds_taken(0.2, 0.1)
        (line,) = logs.output
        self.assertIn(f"{len(measured)} of 10 sizes were timed, then 0.2 s", line)
        self.assertIn(f"splits above {max(measured)} are not measured", line)
        self.assertEqual(measured[:4], sorted(measured[:4]))

    def searched(self, seconds, function, curves):
        """Ranges that are found if timing at 4, 16, 64, 256, 1024 takes 0.1 s each."""
        with fresh_cache(), each_size_takes(0.1):
            _, record = self.run_model(
                [8],
                curves,
                configs=[CustomOpConfig(function, k=1), CustomOpConfig(plus, k=2)],
                dispatch_on={"min": 4, "max": 1024},
                split_points="auto",
                tuning_seconds=seconds,
            )
        return [(r.size_range.end, r.winner, r.guess) for r in record.ranges]

    def test_a_split_where_the_graph_of_a_candidate_changes_is_no_guess(self):
        def two_graphs(x, k):
            return x + k if x.shape[0] < 64 else (x + k).neg().neg()

        first, second = "two_graphs(k=1)", "plus(k=2)"
        slow = {"fallback": line(99.0, 1.0), 2: line(9.0, 0.0), 1: line(1.0, 0.0)}
        found = self.searched(0.55, two_graphs, slow)
        self.assertEqual(found, [(63, first, None), (None, first, None)])
        crossing = {**slow, 2: lambda n: 9.0 if n <= 200 else 0.5}
        (graph, split, last) = self.searched(0.55, two_graphs, crossing)
        self.assertEqual(graph, (63, first, None))
        self.assertEqual(split[1:], (first, (64, 256)))
        self.assertEqual(last, (None, second, None))

    def test_a_range_that_no_time_was_left_for(self):
        """What has won before has another graph there, and was not timed."""

        def two_graphs(x, k):
            return x + k if x.shape[0] < 64 else (x + k).neg().neg()

        first = "two_graphs(k=1)"
        curves = {"fallback": line(99.0, 1.0), 2: line(9.0, 0.0), 1: line(1.0, 0.0)}
        found = self.searched(0.25, two_graphs, curves)
        self.assertEqual(found, [(63, first, (16, None)), (None, "fallback", None)])

    def test_all_gaps_are_filled_where_there_is_time(self):
        seconds, measured = self.seconds_taken(100.0, 1e-6)
        self.assertLess(seconds, 5.0)
        self.assertEqual(max(measured), 65536)


@instantiate_parametrized_tests
class SizesPerRangeTest(RegisteredTestCase):
    def timed_sizes(self, **kw):
        _, record = self.run_model([64], **kw)
        return [row.timed_sizes for row in record.ranges]

    def test_sizes(self):
        splits = [32, 512]
        bound = {"range_upper_bound": 4096}
        for count, expected in (
            (1, [[32], [512], [4096]]),
            (2, [[2, 32], [33, 512], [4096]]),
            (3, [[2, 8, 32], [33, 130, 512], [4096]]),
            (4, [[2, 5, 13, 32], [33, 82, 205, 512], [4096]]),
        ):
            found = self.timed_sizes(
                split_points=splits, sizes_per_range=count, dispatch_on=bound
            )
            self.assertEqual(found, expected)
        self.assertEqual(
            self.timed_sizes(split_points=splits, dispatch_on=bound),
            [[2, 8, 32], [33, 130, 512], [4096]],
        )

    def test_all_sizes_count_alike(self):
        # 2 is faster at the last size alone, by more in milliseconds than it loses
        # before.
        curves = {
            1: lambda n: 1.0 + n / 10,
            2: lambda n: 3.0 + n / 15,
            "fallback": line(99.0, 1.0),
        }
        for count, k in ((1, 2.0), (3, 1.0)):
            ran, record = self.run_model(
                [100], curves, split_points=[100], sizes_per_range=count
            )
            self.assertEqual(ran, {100: k})
        (first, _) = record.ranges
        self.assertEqual([round(s.weight, 2) for s in first.sizes], [0.25, 0.5, 0.25])
        self.assertLess(
            first.milliseconds["plus(k=1)"], first.milliseconds["plus(k=2)"]
        )

    def test_weights(self):
        curves = {1: line(1.0, 0.1), 2: line(6.0, 0.0), "fallback": line(99.0, 1.0)}
        for weights, k in (
            ({10: 99, 90: 1}, 1.0),
            ({10: 1, 90: 9}, 2.0),
            ({1000: 5}, 1.0),  # none in the range: as without weights
        ):
            ran, record = self.run_model(
                [64], curves, split_points=[100], size_weights=weights
            )
            self.assertEqual(ran, {64: k}, weights)
        self.assertEqual(record.ranges[1].timed_sizes, [1000])

    def test_weights_beyond_the_upper_bound_of_the_open_range(self):
        def checked(x):
            torch._check(x.shape[0] <= 5000)
            return add(x)

        _, record = self.run_model(
            [64],
            function=checked,
            split_points=[100],
            dispatch_on={"range_upper_bound": 200},
            size_weights={150: 1, 4000: 1, 9000: 1},
        )
        self.assertEqual(record.ranges[1].timed_sizes, [150, 4000])

    def test_the_time_of_all_calls_counts(self):
        # 90 is as frequent as 10, and saves more than 10 loses.
        curves = {
            1: lambda n: 1.0 if n < 50 else 20.0,
            2: lambda n: 4.0 if n < 50 else 15.0,
            "fallback": line(99.0, 1.0),
        }
        ran, _ = self.run_model(
            [64], curves, split_points=[100], size_weights={10: 1, 90: 1}
        )
        self.assertEqual(ran, {64: 2.0})

    def test_a_candidate_that_fails_at_one_of_the_sizes(self):
        curves = {
            1: lambda n: None if n == 2 else 0.1,
            2: line(1.0, 0.0),
            "fallback": line(2.0, 0.0),
        }
        ran, _ = self.run_model([64], curves, split_points=[100])
        self.assertEqual(ran, {64: 2.0})

    def test_memory_bounds_all_sizes(self):
        with mock.patch.object(memory, "TUNING_BYTES", 8 * 64):
            found = self.timed_sizes(split_points=[1000])
        self.assertEqual(found[0], [2, 11, 64])


class InterfaceTest(TestCase):
    def test_names_that_released_torch_has_can_be_imported(self):
        # From v2.15.0 on; annotations alone would be no reason to import them here.
        for name in ("DispatchOnConfig", "DEFAULT_RANGE_UPPER_BOUND", "CustomOpConfig"):
            self.assertTrue(hasattr(custom_op, name), name)


class WrongArgumentsTest(TestCase):
    def test_errors_name_the_argument(self):
        on = {"tensor_name": "x", "dim": 0}
        for kw, message in (
            ({"split_points": "automatic"}, r"split_points must be .* or 'auto'"),
            (
                {"split_points": [8], "dispatch_on": {**on, "min": 2}},
                r"\['min'\] is for",
            ),
            (
                {"split_points": [8], "dispatch_on": {**on, "max_loss": 0.1}},
                r"'max_loss'",
            ),
            ({"split_points": "auto", "dispatch_on": {**on, "min": 0}}, r"\['min'\]"),
            ({"split_points": "auto", "dispatch_on": {**on, "max": "9"}}, r"\['max'\]"),
            (
                {"split_points": "auto", "dispatch_on": {**on, "min": 9, "max": 8}},
                r"'min'.* got 9 and 8",
            ),
            (
                {
                    "split_points": "auto",
                    "dispatch_on": {**on, "max": 9, "range_upper_bound": 9},
                },
                "takes one of",
            ),
            (
                {"split_points": "auto", "dispatch_on": {**on, "precision": 0}},
                r"\['precision'\] must be a number between 0 and 1",
            ),
            ({"split_points": "auto", "winners": [0]}, "winners are for given"),
            ({"split_points": "auto", "size_weights": {1: 1}}, "size_weights weigh"),
            ({"split_points": [8], "sizes_per_range": 0}, "sizes_per_range must"),
            ({"split_points": [8], "sizes_per_range": True}, "sizes_per_range must"),
            ({"split_points": [8], "size_weights": {}}, "a weight above 0"),
            ({"split_points": [8], "size_weights": {"8": 1}}, "sizes as keys"),
            ({"split_points": [8], "size_weights": {8: -1}}, r"size_weights\[8\]"),
            (
                {"split_points": [8], "size_weights": {8: math.nan}},
                r"size_weights\[8\]",
            ),
            ({"split_points": [8], "tuning_seconds": 0}, "tuning_seconds must"),
            ({"dispatch_on": None, "size_weights": {8: 1}}, "need dispatch_on"),
        ):
            kw = {"dispatch_on": on, **kw}
            with self.assertRaisesRegex((TypeError, ValueError), message):
                with custom_op_autotuning(
                    add, configs=[CustomOpConfig(plus, k=1)], **kw
                ):
                    pass


if __name__ == "__main__":
    run_tests()
