# Owner(s): ["module: inductor"]
"""What a compiled dispatch does for given arguments: explained, counted, split anew.

Implementations add numbers of their own, so that a value tells which one ran.
"""

import contextlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
from unittest import mock

import pytest
from _planted_times import planted_times
from _tuning_clock import each_size_takes

import torch
from torch._dynamo.utils import counters
from torch._functorch import config as functorch_config
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch import (
    explain,
    live_counts,
    read_table,
    reset_counts,
    save,
    save_counts,
)
from torch._inductor.range_dispatch.benchmark import budget
from torch._inductor.range_dispatch.cache import table_store
from torch._inductor.range_dispatch.lowering import observing
from torch._inductor.range_dispatch.record import live_counting
from torch._inductor.range_dispatch.record.explaining import predicate_text
from torch._inductor.range_dispatch.record.live_counting import (
    CountsError,
    LiveCount,
    read_counts,
)
from torch._inductor.range_dispatch.record.record_text import describe_record
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import fresh_cache, run_and_get_code
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
)


@torch.library.custom_op("explain_test::add", mutates_args=())
def add(x: torch.Tensor) -> torch.Tensor:
    return x - 1.0


@add.register_fake
def _(x):
    return torch.empty_like(x)


@torch.library.custom_op("explain_test::scale", mutates_args=())
def scale(x: torch.Tensor) -> torch.Tensor:
    return x * -1.0


@scale.register_fake
def _(x):
    return torch.empty_like(x)


@torch.library.custom_op("explain_test::with_gradient", mutates_args=())
def with_gradient(x: torch.Tensor) -> torch.Tensor:
    return x * 1.0


@with_gradient.register_fake
def _(x):
    return torch.empty_like(x)


with_gradient.register_autograd(lambda ctx, gradient: add(gradient))


# Ops of which no kernel has to be compiled.
@torch.library.custom_op("explain_test::shifted", mutates_args=())
def shifted(x: torch.Tensor, k: float) -> torch.Tensor:
    return x + k


@torch.library.custom_op("explain_test::scaled", mutates_args=())
def scaled(x: torch.Tensor, k: float) -> torch.Tensor:
    return x * k


shifted.register_fake(lambda x, k: torch.empty_like(x))
scaled.register_fake(lambda x, k: torch.empty_like(x))


def plus(x, k):
    return shifted(x, float(k))


def times(x, k):
    return scaled(x, float(k))


# Winner 0 adds 0 and so on; -1, the op itself, takes 1 away.
CONFIGS = [CustomOpConfig(plus, k=k) for k in range(4)]
COLUMNS = {"tensor_name": "x", "dim": 1}
ROWS = {"tensor_name": "x", "dim": 0}


def registered(winners, split_points=(8, 64), dispatch_on=COLUMNS, op=add):
    return custom_op_autotuning(
        op,
        configs=CONFIGS,
        dispatch_on=dispatch_on,
        split_points=[*split_points],
        winners=winners,
    )


def compiled(function=add):
    return torch.compile(lambda *args: function(*args), dynamic=True)


def planted(milliseconds, noise=0.0):
    """Replaces timing: by ``k``, or "fallback", what a candidate takes at a size."""

    def of_candidate(candidate, inputs):
        return milliseconds(candidate.params.get("k", "fallback"), inputs[0].shape[1])

    return planted_times(of_candidate, noise)


class DispatchTestCase(TestCase):
    def setUp(self):
        super().setUp()
        torch._dynamo.reset()
        counters.clear()
        stack = contextlib.ExitStack()
        stack.enter_context(mock.patch.dict(live_counting._counters, clear=True))
        stack.enter_context(fresh_cache())
        self.addCleanup(stack.close)

    def check(self, function, *args):
        """The only call of a compiled function, which ran what is explained."""
        (item,) = explain(function, *args)
        ran = function(*args).max().item()
        self.assertEqual(ran, item.number, str(item))
        name = "fallback" if item.number < 0 else f"plus(k={item.number})"
        self.assertEqual(item.winner, name)
        return item


@instantiate_parametrized_tests
class ExplainTest(DispatchTestCase):
    def test_branch_of_each_size(self):
        with registered([2, -1, 1]):
            f = compiled()
            cells = {}
            for size in (2, 8, 9, 64, 65, 5000):
                item = self.check(f, torch.zeros(3, size))
                self.assertEqual(item.op, str(add._opoverload))
                self.assertEqual(item.axes, (("x.shape[1]", size),))
                self.assertEqual(item.reason, "given by winners=")
                self.assertFalse(item.is_backward or item.is_conditional)
                cells[size] = str(item.cell)
            self.assertEqual(
                [*cells.values()],
                ["[0, 8]"] * 2 + ["[9, 64]"] * 2 + ["[65, inf]"] * 2,
            )
            item = explain(f, torch.zeros(3, 9))[0]
            self.assertEqual(
                item.predicates,
                (("x.shape[1] <= 8", False), ("x.shape[1] <= 64", True)),
            )
            self.assertExpectedInline(
                str(explain(f, torch.zeros(3, 65))),
                """\
explain_test.add.default, called with x: float32[s0, s1] (s1, 1)
  x.shape[1] is 65
  x.shape[1] <= 8: no
  x.shape[1] <= 64: no
  -> plus(k=1) (winner 1) for [65, inf]
     given by winners=""",
            )

    def test_one_winner_of_ranges_that_lie_apart(self):
        with registered([1, 0, 1]):
            f = compiled()
            for size in (8, 9, 64, 65):
                item = self.check(f, torch.zeros(3, size))
                text = "x.shape[1] <= 8 or x.shape[1] >= 65"
                self.assertEqual(item.predicates, ((text, not 9 <= size <= 64),))

    def test_two_sizes(self):
        with registered(
            [0, 1, 2, 3, -1, 0], [[8, 64], [4]], dispatch_on=[COLUMNS, ROWS]
        ):
            f = compiled()
            for columns in (2, 8, 9, 64, 65):
                for rows in (3, 4, 5):
                    if rows == columns:
                        continue
                    item = self.check(f, torch.zeros(rows, columns))
                    self.assertEqual(
                        item.axes, (("x.shape[1]", columns), ("x.shape[0]", rows))
                    )
                    self.assertIn((columns, rows), item.cell)
                    self.assertTrue(item.predicates)

    def test_expression(self):
        area = {"size": lambda x: x[0] * x[1] // 2}
        with registered([3, 2], [64], dispatch_on=area):
            f = compiled()
            for rows, columns in ((2, 64), (3, 42), (3, 43), (5, 26), (10, 13)):
                item = self.check(f, torch.zeros(rows, columns))
                ((_, size),) = item.axes
                self.assertEqual(size, rows * columns // 2)
                self.assertEqual(item.number, 3 if size <= 64 else 2)

    def test_several_ops_in_a_graph(self):
        def model(x, y):
            return add(x), scale(y), add(y)

        scales = [CustomOpConfig(times, k=k) for k in (2, 3)]
        with (
            registered([0, 1, 2]),
            custom_op_autotuning(
                scale,
                configs=scales,
                dispatch_on=ROWS,
                split_points=[4],
                winners=[1, 0],
            ),
        ):
            f = compiled(model)
            for rows, columns, size in ((4, 8, 64), (5, 65, 9)):
                x, y = torch.zeros(rows, columns), torch.ones(rows, size)
                items = explain(f, x, y)
                self.assertEqual(
                    [(one.op, one.axes[0][1]) for one in items],
                    [
                        ("explain_test.add.default", columns),
                        ("explain_test.scale.default", rows),
                        ("explain_test.add.default", size),
                    ],
                )
                first, second, third = (one.max().item() for one in f(x, y))
                self.assertEqual(items[0].number, first)
                self.assertEqual({1: 3, 0: 2}[items[1].number], second)
                self.assertEqual(items[2].number, third - 1)

    def test_static_size_and_sizes_that_are_bounded(self):
        with registered([2, -1, 1]):
            for size in (8, 9, 64, 65):
                torch._dynamo.reset()
                f = torch.compile(lambda x: add(x), dynamic=False)
                item = self.check(f, torch.zeros(3, size))
                self.assertEqual(item.axes, (("x.shape[1]", size),))
                self.assertEqual(item.predicates, ())
                self.assertIn((size,), item.cell)
            torch._dynamo.reset()
            x = torch.zeros(3, 50)
            torch._dynamo.mark_dynamic(x, 1, min=9, max=64)
            item = self.check(torch.compile(lambda x: add(x)), x)
            self.assertEqual((item.predicates, item.winner), ((), "fallback"))
            self.assertIn("-> fallback (winner the op itself) for [9, 64]", str(item))

    @parametrize("bundled", (False, True))
    def test_graph_from_a_cache(self, bundled):
        with (
            registered([2, -1, 1]),
            config.patch(fx_graph_cache=True),
            functorch_config.patch(
                enable_autograd_cache=bundled, bundled_autograd_cache=bundled
            ),
        ):
            before = explain(compiled(), torch.zeros(3, 9))
            torch._dynamo.reset()
            counters.clear()
            f = compiled()
            self.assertEqual(explain(f, torch.zeros(3, 9)), before)
            if bundled:
                self.assertEqual(counters["aot_autograd"]["autograd_cache_hit"], 1)
            else:
                self.assertEqual(counters["inductor"]["fxgraph_cache_hit"], 1)
            self.assertEqual(str(before), str(explain(f, torch.zeros(3, 9))))
            for size in (8, 64, 65):
                self.check(f, torch.zeros(3, size))

    def test_backward(self):
        def step(x, gradient):
            with_gradient(x).backward(gradient)

        with registered([0, 1, 2], op=with_gradient), registered([2, 1, 0]):
            f = compiled(with_gradient)
            both = torch.compile(step, dynamic=True)
            for size, forward, backward in ((8, 0, 2), (9, 1, 1), (65, 2, 0)):
                x = torch.zeros(3, size, requires_grad=True)
                (item,) = explain(f, x)
                self.assertEqual((item.number, item.is_backward), (forward, False))
                items = explain(both, x, torch.zeros(3, size))
                self.assertEqual(
                    [(one.number, one.is_backward) for one in items],
                    [(forward, False), (backward, True)],
                )
                self.assertIn("add.default (backward)", str(items[1]))

    def test_unknown_size_and_what_counting_tells_of_it(self):
        def masked(x):
            return add(x[:, x[0] == 0])

        def columns(count):
            x = torch.zeros(3, 100)
            x[:, count:] = -9.0
            return x

        for every in (0, 3):
            torch._dynamo.reset()
            with (
                registered([2, -1, 1]),
                config.patch("range_dispatch.count_calls", every),
                torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True),
            ):
                f = compiled(masked)
                for count in (8, 9, 65):
                    if every:
                        self.check(f, columns(count))
                        continue
                    (item,) = explain(f, columns(count))
                    self.assertEqual(item.axes, (("x.shape[1]", None),))
                    self.assertEqual((item.winner, item.predicates), (None, ()))
                    self.assertIn("x.shape[1] is known only inside", str(item))

    def test_inside_a_cond(self):
        def model(x):
            return torch.cond(x.shape[0] > 4, add, lambda x: shifted(x, 9.0), (x,))

        with registered([2, -1, 1]):
            f = compiled(model)
            (item,) = explain(f, torch.zeros(5, 9))
            self.assertEqual(f(torch.zeros(5, 9)).max(), item.number)
            self.assertTrue(item.is_conditional)
            self.assertIn("it runs only if the branch does", str(item))

    @pytest.mark.slow
    @config.patch(cpp_wrapper=True)
    def test_cpp_wrapper(self):
        with registered([2, -1, 1]):
            f = compiled()
            for size in (8, 9, 65):
                self.check(f, torch.zeros(3, size))

    def test_no_dispatch(self):
        for function in (
            torch.compile(lambda x: x + 1),
            torch.compile(torch.compiler.disable(lambda x: add(x))),
        ):
            found = explain(function, torch.zeros(3))
            self.assertEqual(found, [])
            self.assertIn("no dispatched op ran", str(found))

    def test_what_is_compiled(self):
        class Model(torch.nn.Module):
            def forward(self, x, offset=0.0):
                return add(x) + offset

        in_place = Model()
        with registered([2, -1, 1]):
            in_place.compile(dynamic=True)
            for f in (in_place, torch.compile(Model(), dynamic=True)):
                self.check(f, torch.zeros(3, 9))
                self.assertEqual(len(explain(f, x=torch.zeros(3, 9), offset=1.0)), 1)
            method = torch.compile(Model().forward, dynamic=True)
            self.check(method, torch.zeros(3, 9))
        for wrong in (Model(), add, lambda x: x, torch.compiler.disable(Model()), 3):
            with self.assertRaisesRegex(TypeError, "fn must be what torch.compile"):
                explain(wrong, torch.zeros(3))

    def test_function_that_raises(self):
        @torch.compile(dynamic=True)
        def function(x):
            return add(x)

        with registered([2, -1, 1]):
            with self.assertRaises(TypeError):
                explain(function)
            self.check(function, torch.zeros(3, 9))

    def test_other_threads(self):
        with registered([2, -1, 1]):
            other = compiled(lambda x: add(x) + 1)
            other(torch.zeros(3, 9))
            f = compiled()
            f(torch.zeros(3, 9))

            @torch.compile
            def model(x):
                x = x + 1
                thread = threading.Thread(target=other, args=(x,))
                thread.start()
                thread.join()
                return add(x)

            self.assertEqual(len(explain(model, torch.zeros(3, 9))), 1)


class ReasonTest(DispatchTestCase):
    def reasons(self, milliseconds, noise=0.0, sizes=(8, 9), **options):
        options.setdefault("split_points", [8])
        options.setdefault("dispatch_on", COLUMNS)
        torch._dynamo.reset()
        with (
            fresh_cache(),
            planted(milliseconds, noise),
            custom_op_autotuning(add, configs=CONFIGS[:2], **options),
        ):
            f = compiled()
            return [explain(f, torch.zeros(3, size))[0].reason for size in sizes]

    def test_fastest(self):
        self.assertEqual(
            self.reasons(
                lambda k, size: {0: 1.0, 1: 0.01 * size, "fallback": 2.0}[k],
                dispatch_on={**COLUMNS, "range_upper_bound": 1000},
                sizes_per_range=3,
            ),
            [
                "fastest of 3 at sizes 2, 4, 8: 0.04 ms against 1 ms (plus(k=0)), "
                "2 ms (fallback)",
                "fastest of 3 at size 1000: 1 ms against 2 ms (fallback), "
                "10 ms (plus(k=1))",
            ],
        )

    def test_noise(self):
        def milliseconds(k, size):
            near = 1.0 if size <= 8 else 1.3
            return {0: near, 1: 1.1, "fallback": 9.0}[k]

        (first, second) = self.reasons(milliseconds, noise=0.1, sizes_per_range=1)
        self.assertIn("fastest of 3 at size 8", first)
        self.assertEqual(
            second,
            "within the noise (0.2 ms) of plus(k=1), the fastest, and kept so that "
            "noise adds no branch at size 65536: 1.3 ms against 1.1 ms (plus(k=1)), "
            "9 ms (fallback)",
        )

    def test_threshold(self):
        def milliseconds(k, size):
            return {0: 1.0, 1: 1.5, "fallback": 1.8}[k]

        found = self.reasons(milliseconds, min_speedup_threshold=2.0)
        self.assertIn("the op itself stays: plus(k=0), the fastest, is not", found[0])
        self.assertIn("min_speedup_threshold=2 times as fast", found[0])

    def test_what_is_not_timed(self):
        def milliseconds(k, size):
            raise AssertionError

        with config.patch("test_configs.force_custom_op_decomposition", False):
            (reason,) = self.reasons(milliseconds, sizes=(8,))
        self.assertIn("forced by config.test_configs", reason)
        with config.patch(deterministic=True):
            (reason,) = self.reasons(milliseconds, sizes=(8,))
        self.assertIn("deterministic", reason)

    def test_ranges_of_two_sizes(self):
        powers = [2**n for n in range(1, 8)]
        with (
            planted(
                lambda k, size: {0: 1.0, 1: min(size / 20, 45), "fallback": 9.0}[k]
            ),
            each_size_takes(1.0),
            custom_op_autotuning(
                add,
                configs=CONFIGS[:2],
                dispatch_on=[COLUMNS, ROWS],
                split_points=[powers, powers],
                sizes_per_range=1,
                tuning_seconds=50.0,
            ),
        ):
            f = compiled()
            reasons = {}
            for columns in powers:
                for rows in powers:
                    (item,) = explain(f, torch.zeros(rows + 1, columns))
                    self.assertEqual(item.number, 1 if columns <= 16 else 0)
                    reasons[rows, columns] = item.reason
        timed = [one for one in reasons.values() if one.startswith("fastest of 3 at")]
        near = "not timed: the winner of the nearest ranges that were"
        self.assertGreater(len(timed), 0)
        self.assertGreater([*reasons.values()].count(near), 0)

    def test_found_split_points(self):
        (reason,) = self.reasons(
            lambda k, size: {0: 1.0, 1: 5.0, "fallback": 9.0}[k],
            sizes=(30,),
            split_points="auto",
            dispatch_on={**COLUMNS, "max": 64},
        )
        self.assertRegex(
            reason, r"fastest of 3 at \d+ sizes from 2 to 64: 1 ms against"
        )


class TunedTestCase(DispatchTestCase):
    def tuned(self, milliseconds, noise=0.0, sizes=(8,), **options):
        """What is explained, the choice in a table and the record of a tuning."""
        table_store.forget()
        self.addCleanup(table_store.forget)
        options = {
            "split_points": [64],
            "dispatch_on": {**COLUMNS, "range_upper_bound": 1000},
            "sizes_per_range": 2,
            **options,
        }
        torch._dynamo.reset()
        with (
            tempfile.TemporaryDirectory() as folder,
            fresh_cache(),
            planted(milliseconds, noise),
            record_dispatches() as records,
            custom_op_autotuning(add, configs=CONFIGS[:2], **options),
        ):
            f = compiled()
            items = [explain(f, torch.zeros(3, size))[0] for size in sizes]
            path = os.path.join(folder, "table.json")
            save(path)
            (choice,) = read_table(path).choices.values()
        return items, choice, records[0]


class OneNumberTest(TunedTestCase):
    """What decides is what is shown: explained, recorded, logged and kept in tables."""

    def test_geometric_mean(self):
        """At 2 and 64 k=0 takes 0.01 and 0.64 ms, and k=1 0.1 ms, which is less if
        added up, but more to a geometric mean: 0.08 ms."""
        (item,), choice, record = self.tuned(
            lambda k, size: {0: size / 100, 1: 0.1, "fallback": 9.0}[k]
            if k != 0 or size > 2
            else 0.01,
            noise=0.001,
        )
        first = record.ranges[0]
        self.assertEqual(first.winner, "plus(k=0)")
        self.assertAlmostEqual(first.milliseconds["plus(k=0)"], 0.08)
        # Both are off by a part of their times: 10 % and 0.16 %, each to the half.
        due = 0.08 * math.hypot(0.05, 0.001 / 0.64 / 2)
        self.assertAlmostEqual(first.noise["plus(k=0)"], due)
        self.assertIn("0.08 ms against 0.1 ms (plus(k=1))", item.reason)
        self.assertEqual(choice.decided[0].milliseconds, first.milliseconds)
        self.assertEqual(choice.decided[0].noise, first.noise)
        self.assertRegex(str(describe_record(record)), r"\[0, 64\].* 0\.08000 ±")

    def test_total_of_all_calls(self):
        """By ``size_weights`` k=1 is the faster one, by means that are shown."""
        (item,), choice, record = self.tuned(
            lambda k, size: {0: size / 100, 1: 0.25, "fallback": 9.0}[k],
            size_weights={1: 0, 2: 3, 64: 1},
            dispatch_on=COLUMNS,
        )
        first = record.ranges[0]
        self.assertAlmostEqual(first.milliseconds["plus(k=0)"], (3 * 0.02 + 0.64) / 4)
        self.assertEqual(first.winner, "plus(k=0)")
        self.assertIn("0.175 ms against 0.25 ms", item.reason)
        self.assertEqual(choice.decided[0].milliseconds, first.milliseconds)

    def test_a_range_of_no_call_is_decided_as_without_weights(self):
        (_,), _, record = self.tuned(
            lambda k, size: {0: size / 100, 1: 0.25, "fallback": 9.0}[k],
            size_weights={1000: 1},
        )
        self.assertAlmostEqual(
            record.ranges[0].milliseconds["plus(k=0)"], math.sqrt(0.02 * 0.64)
        )

    def test_nearest_size(self):
        items, _, _ = self.tuned(
            lambda k, size: {0: size / 100, 1: 0.25, "fallback": 9.0}[k],
            noise=0.002,
            sizes=(4, 60, 66, 500),
        )
        self.assertEqual(
            [item.nearest for item in items],
            [
                "nearest size timed: 2: 0.0200 ms ±0.0020 against "
                "0.250 ms ±0.002 (plus(k=1)), 9.00 ms ±0.00 (fallback)",
                "nearest size timed: 64: 0.640 ms ±0.002 against "
                "0.250 ms ±0.002 (plus(k=1)), 9.00 ms ±0.00 (fallback)",
                # The one winner's of another range, which is nearer than its own.
                "nearest size timed: 64, in [0, 64]: 0.250 ms ±0.002 against "
                "0.640 ms ±0.002 (plus(k=0)), 9.00 ms ±0.00 (fallback)",
                "nearest size timed: 1000: 0.250 ms ±0.002 against "
                "9.00 ms ±0.00 (fallback), 10.0 ms ±0.0 (plus(k=0))",
            ],
        )
        lines = str(items[0]).splitlines()
        self.assertEqual(lines[-1].strip(), items[0].nearest)
        self.assertEqual(lines[-2].strip(), items[0].reason)

    def test_nearest_sizes_of_two_axes(self):
        (item,), _, _ = self.tuned(
            lambda k, size: {0: size / 100, 1: 0.25, "fallback": 9.0}[k],
            dispatch_on=[COLUMNS, {**ROWS, "range_upper_bound": 32}],
            split_points=[[64], [4]],
            sizes_per_range=1,
            sizes=(60,),
        )
        self.assertEqual(str(item.cell), "[0, 64] x [0, 4]")
        self.assertRegex(
            item.nearest,
            r"^nearest size timed: \(64, 4\): 0\.250 ms against 0\.640 ",
        )

    def test_nothing_timed_is_near(self):
        with registered([0, 1, 2]):
            (item,) = explain(compiled(), torch.zeros(3, 9))
        self.assertIsNone(item.nearest)
        self.assertNotIn("nearest", str(item))


class UnmeasuredTest(TunedTestCase):
    """What a search or a grid had no time for is shown to be a guess."""

    def searched(self, seconds, fastest=lambda size: int(size > 10), **options):
        """Timing a size of 2, 6, 20 and 64 takes a tenth of a second each."""
        with each_size_takes(0.1):
            return self.tuned(
                lambda k, size: 0.001 if k == fastest(size) else 0.002,
                split_points="auto",
                dispatch_on={**COLUMNS, "max": 64},
                sizes_per_range=3,
                tuning_seconds=seconds,
                sizes=(4, 40),
                **options,
            )

    def check_shown(self, text, items, choice, record):
        self.assertEqual([item.unmeasured for item in items], [(text,)] * len(items))
        for item in items:
            self.assertIn(f"\n     {text}", str(item))
        self.assertEqual(choice.guesses, [text])
        self.assertIn(f"\n  {text}\n", describe_record(record))

    def test_a_split_that_was_not_bracketed(self):
        found = self.searched(seconds=0.45)
        (split, end) = (row.size_range.end for row in found[2].ranges)
        self.assertTrue(6 <= split < 20 and end is None, split)
        text = f"split {split}: not measured, somewhere between 6 and 20"
        self.check_shown(text, *found)

    def test_a_split_that_was(self):
        items, choice, record = self.searched(seconds=60.0)
        self.assertEqual([row.size_range.end for row in record.ranges], [10, None])
        self.assertEqual([row.guess for row in record.ranges], [None, None])
        self.assertEqual((choice.guesses, choice.untimed), ([], []))
        for text in (*map(str, items), describe_record(record)):
            self.assertNotIn("not measured", text)
            self.assertNotIn("not timed", text)

    def test_sizes_beyond_the_largest_that_was_timed(self):
        found = self.searched(seconds=0.35, fastest=lambda size: 0)
        self.check_shown("sizes above 20: not timed", *found)

    def test_a_search_that_had_no_time_at_all(self):
        with mock.patch.object(budget.Budget, "allows", lambda *_: False):
            items, choice, record = self.tuned(
                None, split_points="auto", dispatch_on=COLUMNS, sizes_per_range=3
            )
        reason = "not timed: the op itself is taken"
        self.assertEqual(items[0].reason, reason)
        self.assertEqual([row.untimed for row in record.ranges], [reason])
        self.assertEqual(choice.untimed, [f"{reason} (1 of 1 ranges)"])

    def test_a_graph_from_a_cache_and_a_stored_search(self):
        def run():
            torch._dynamo.reset()
            counters.clear()
            return explain(compiled(), torch.zeros(3, 40))

        with (
            config.patch(fx_graph_cache=True),
            each_size_takes(0.1),
            planted(lambda k, size: 0.001 if k == int(size > 10) else 0.002),
            custom_op_autotuning(
                add,
                configs=CONFIGS[:2],
                dispatch_on={**COLUMNS, "max": 64},
                split_points="auto",
                tuning_seconds=0.45,
            ),
        ):
            before = run()
            self.assertEqual(run(), before)
            self.assertEqual(counters["inductor"]["fxgraph_cache_hit"], 1)
            with config.patch(fx_graph_cache=False):
                self.assertEqual(run(), before)
                self.assertEqual(counters["inductor"]["fxgraph_cache_hit"], 0)
        (item,) = before
        self.assertRegex(item.unmeasured[0], r"^split \d+: not measured, somewhere ")
        self.assertRegex(item.nearest, r"^nearest size timed: 64: 0\.00100 ms against ")

    def test_cells_that_were_not_timed(self):
        first = iter([True] * 4)
        powers = [2**n for n in range(1, 6)]
        reason = "not timed: the winner of the nearest ranges that were"
        with mock.patch.object(budget.Budget, "allows", lambda *_: next(first, False)):
            items, choice, record = self.tuned(
                lambda k, size: 0.001 if k == int(size > 10) else 0.002,
                dispatch_on=[COLUMNS, ROWS],
                split_points=[powers, powers],
                sizes_per_range=1,
            )
        untimed = [row for row in record.ranges if not row.sizes]
        self.assertEqual(len(untimed), len(record.ranges) - 4)
        self.assertEqual({row.untimed for row in untimed}, {reason})
        total = 36  # with those that cannot occur
        text = f"{reason} ({len(untimed)} of {total} ranges)"
        self.assertEqual(choice.untimed, [text])
        self.assertEqual(
            [one.untimed for one in choice.decided if one and one.untimed],
            [reason] * len(untimed),
        )
        self.assertRegex(
            describe_record(record),
            re.escape(str(untimed[0].cell.ranges[0]))
            + r" +\[.*\] +plus\(k=\d\) .*not timed +not timed +not timed",
        )


class PredicateTextTest(TestCase):
    def test_texts(self):
        for boxes, text in (
            ((((None, 8),),), "x <= 8"),
            ((((9, None),),), "x >= 9"),
            ((((9, 64),),), "9 <= x <= 64"),
            ((((9, 9),),), "x == 9"),
            ((((None, 8),), ((65, None),)), "x <= 8 or x >= 65"),
            ((((None, 8), (5, None)),), "x <= 8 and y >= 5"),
            (
                (((None, 8), (5, None)), ((None, None), (None, 4))),
                "(x <= 8 and y >= 5) or y <= 4",
            ),
        ):
            names = ["x", "y"][: len(boxes[0])]
            self.assertEqual(predicate_text(boxes, names), text)


@instantiate_parametrized_tests
class CountTest(DispatchTestCase):
    SIZES = (2, 8, 8, 9, 9, 9, 64, 65, 70, 65)

    def compile(self, every, function=add, sizes=SIZES):
        """The code of a function compiled to count, which is called with the sizes."""
        torch._dynamo.reset()
        f = compiled(function)
        with config.patch("range_dispatch.count_calls", every):
            _, codes = run_and_get_code(f, torch.zeros(3, sizes[0]))
        for size in sizes[1:]:
            f(torch.zeros(3, size))
        return re.sub("AOT ID: .*", "", "\n".join(codes))

    def test_as_many_as_were_called(self):
        with registered([2, -1, 1]):
            self.compile(1)
        (count,) = live_counts(add)
        self.assertEqual(
            count.branches, {"plus(k=2)": 3, "fallback": 4, "plus(k=1)": 3}
        )
        self.assertEqual(
            count.sizes, {(2,): 1, (8,): 2, (9,): 3, (64,): 1, (65,): 2, (70,): 1}
        )
        self.assertEqual((count.recorded, count.other_sizes, count.every), (10, 0, 1))
        self.assertEqual(count.axes, ("x.shape[1]",))
        self.assertEqual(live_counts(scale), [])
        self.assertEqual(live_counts(str(add._opoverload)), [count])
        reset_counts()
        self.assertEqual(live_counts(), [])

    def test_off_leaves_the_code_as_it_is(self):
        with registered([2, -1, 1]), config.patch(fx_graph_cache=False):
            off = self.compile(0)
            with mock.patch.object(
                observing, "counted_dispatch", lambda *_: contextlib.nullcontext()
            ):
                self.assertEqual(self.compile(1), off)
            self.assertEqual(live_counts(), [])
            lines = self.compile(1).splitlines()
        added = [line for line in lines if "range_dispatch" in line]
        self.assertEqual(len(added), 3)
        rest = [line for line in lines if line not in added]
        self.assertEqual(rest, off.splitlines())

    def test_sampling(self):
        with registered([2, -1, 1]):
            # In step with the sampling, which must meet both all the same.
            self.compile(5, sizes=(8, 9, 9, 9, 9) * 100)
        (count,) = live_counts()
        self.assertEqual((count.recorded, count.every), (100, 5))
        self.assertGreater(count.branches["plus(k=2)"], 10)
        self.assertLess(count.branches["plus(k=2)"], 30)
        self.assertIn("one in 5 recorded", str(count))

    def test_two_sizes_and_two_calls(self):
        def model(x):
            return add(x), add(shifted(x, 1.0))

        with registered(
            [0, 1, 2, 3], [[8], [4]], dispatch_on=[COLUMNS, {"size": lambda x: x[0]}]
        ):
            self.compile(1, model, (7, 8, 9))
        # Equal dispatches count together.
        (count,) = live_counts()
        self.assertEqual(count.sizes, {(7, 3): 2, (8, 3): 2, (9, 3): 2})
        self.assertEqual(count.branches["plus(k=0)"], 4)
        self.assertEqual(count.branches["plus(k=2)"], 2)

    def test_explained(self):
        with registered([2, -1, 1]), config.patch("range_dispatch.count_calls", 1):
            f = compiled()
            for size in (9, 9, 65):
                f(torch.zeros(3, size))
            item = self.check(f, torch.zeros(3, 9))
        self.assertEqual(item.counts[0].branches["fallback"], 3)
        self.assertIn("counted so far: plus(k=2) 0 (0%), fallback 3 (75%)", str(item))

    @parametrize("bundled", (False, True))
    def test_graph_from_a_cache(self, bundled):
        with (
            registered([2, -1, 1]),
            config.patch(fx_graph_cache=True),
            functorch_config.patch(enable_autograd_cache=bundled),
        ):
            code = self.compile(0)
            # Counting is in the key: the graph without it does not serve.
            self.assertNotEqual(self.compile(1), code)
            reset_counts()
            counters.clear()
            with mock.patch.dict(live_counting._counters, clear=True):
                self.compile(1, sizes=(8, 9, 9))
                (count,) = live_counts()
            self.assertEqual(count.branches["fallback"], 2)
            self.assertEqual(count.recorded, 3)
            hits = (
                counters["aot_autograd"]["autograd_cache_hit"]
                + counters["inductor"]["fxgraph_cache_hit"]
            )
            self.assertGreater(hits, 0)

    def test_inside_a_cond(self):
        def model(x):
            # Decided by the same symbol, so that one is written in the other's place.
            return torch.cond(x.shape[1] > 4, add, lambda x: shifted(x, 9.0), (x,))

        with registered([2, -1, 1]):
            self.compile(1, model, (2, 3, 8, 9, 65))
        (count,) = live_counts()
        self.assertEqual(count.sizes, {(8,): 1, (9,): 1, (65,): 1})

    def test_graph_partitions(self):
        @torch.library.custom_op("explain_test::apart", mutates_args=())
        def apart(x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        apart.register_fake(torch.empty_like)

        def model(x):
            return add(apart(shifted(x, 1.0)))

        with (
            registered([0, 1, 2, 3], [[8], [4]], dispatch_on=[COLUMNS, ROWS]),
            config.patch(
                graph_partition=True,
                custom_should_partition_ops=["explain_test::apart"],
            ),
        ):
            self.compile(1, model, (8, 9))
        (count,) = live_counts()
        self.assertEqual(count.sizes, {(8, 3): 1, (9, 3): 1})

    @parametrize("wrapper", ("fx_wrapper", "cpp_wrapper"))
    def test_wrappers_that_do_not_count(self, wrapper):
        from torch._inductor.range_dispatch.lowering import count_emitting

        count_emitting._warn_uncounted.cache_clear()
        with (
            registered([2, -1, 1]),
            config.patch({wrapper: True}),
            self.assertLogs(count_emitting.log, "WARNING") as logs,
        ):
            torch._dynamo.reset()
            f = compiled()
            with config.patch("range_dispatch.count_calls", 1):
                f(torch.zeros(3, 8))
        self.assertEqual(len(logs.output), 1)
        self.assertIn("counts in the Python wrapper only", logs.output[0])
        self.assertEqual(live_counts(), [])

    @parametrize("every", (-1, 0.5, True, "1"))
    def test_wrong_setting(self, every):
        with registered([2, -1, 1]), self.assertRaisesRegex(Exception, "count_calls"):
            self.compile(every)

    def test_threads(self):
        with registered([2, -1, 1]):
            self.compile(1, sizes=(8,))
        (count,) = live_counting._counters.values()
        threads = [
            threading.Thread(target=lambda: [count(9) for _ in range(5000)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(live_counts()[0].branches["fallback"], 20000)

    def test_too_many_sizes(self):
        with registered([2, -1, 1]), mock.patch.object(live_counting, "MAX_SIZES", 3):
            self.compile(1)
        (count,) = live_counts()
        self.assertEqual(count.sizes, {(2,): 1, (8,): 2, (9,): 3})
        self.assertEqual(count.other_sizes, 4)
        self.assertEqual(
            count.branches, {"plus(k=2)": 3, "fallback": 4, "plus(k=1)": 3}
        )

    @pytest.mark.slow
    def test_fresh_process_with_the_cache(self):
        script = (
            "import test_custom_op_explain as t, torch\n"
            "from torch._dynamo.utils import counters\n"
            "with t.registered([2, -1, 1]):\n"
            "    f = t.compiled()\n"
            "    for n in (8, 9, 9): f(torch.zeros(3, n))\n"
            "    (item,) = t.explain(f, torch.zeros(3, 65))\n"
            "hits = counters['aot_autograd']['autograd_cache_hit']\n"
            "print(hits, item.number, t.live_counts()[0].branches)\n"
        )
        environment = {**os.environ, "TORCHINDUCTOR_RANGE_DISPATCH_COUNT": "1"}
        for hits in (0, 1):
            done = subprocess.run(
                [sys.executable, "-c", script],
                cwd=os.path.dirname(os.path.abspath(__file__)),
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            self.assertEqual(
                done.stdout.strip(),
                f"{hits} 1 {{'plus(k=2)': 1, 'fallback': 2, 'plus(k=1)': 1}}",
            )


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


class SavedCountsTest(TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "counts é.json")
        self.counts = [
            count_of_sizes({8: 3, 100: 1}),
            count_of_sizes({(8, 2): 3}, axes=("x.shape[0]", "x.shape[1]"), every=7),
        ]

    def save(self):
        with mock.patch.object(live_counting, "live_counts", lambda: self.counts):
            return save_counts(self.path)

    def test_round_trip(self):
        self.assertEqual(self.save(), 2)
        self.assertEqual(read_counts(self.path), self.counts)
        self.counts = []
        self.assertEqual(self.save(), 0)
        self.assertEqual(read_counts(self.path), [])

    def test_failed_write_leaves_what_is_there(self):
        self.save()
        expected = self.counts
        self.counts = []
        with mock.patch("os.replace", side_effect=OSError("no space left")):
            with self.assertRaisesRegex(OSError, "no space left"):
                self.save()
        self.assertEqual(read_counts(self.path), expected)
        self.assertEqual(
            os.listdir(os.path.dirname(self.path)), [os.path.basename(self.path)]
        )

    def test_damage(self):
        self.save()
        with open(self.path, encoding="utf-8") as file:
            good = json.load(file)
        row = good["counts"][0]
        for content, message in (
            ("{", "has no counts"),
            ("[]", "its format is not"),
            ({**good, "version": 2}, "of version 2, this is 1"),
            ({**good, "counts": {}}, "'counts' must be a list"),
            ({**good, "counts": [3]}, r"counts\[0\]"),
            ({**good, "counts": [{**row, "sizes": [[[8, 9], 1]]}]}, "for 1 axes"),
            ({**good, "counts": [{**row, "sizes": [[[-8], 1]]}]}, "sizes has -8"),
            ({**good, "counts": [{**row, "sizes": [[[8], 0.5]]}]}, "sizes has 0.5"),
            ({**good, "counts": [{**row, "every": 0}]}, "every is 0"),
            ({**good, "counts": [{**row, "branches": []}]}, "branches is"),
            ({**good, "counts": [{**row, "axes": "x"}]}, "axes is 'x'"),
            ({**good, "counts": [{**row, "op": 3}]}, "op is"),
        ):
            with open(self.path, "w", encoding="utf-8") as file:
                file.write(content if isinstance(content, str) else json.dumps(content))
            with self.assertRaisesRegex(CountsError, message) as caught:
                read_counts(self.path)
            self.assertIn(self.path, str(caught.exception))
            self.assertIsInstance(caught.exception, ValueError)
        with self.assertRaises(FileNotFoundError):
            read_counts(f"{self.path}.missing")


if __name__ == "__main__":
    run_tests()
