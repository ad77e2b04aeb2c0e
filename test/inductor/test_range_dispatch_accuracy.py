# Owner(s): ["module: inductor"]
"""Whether candidates compute what the op computes is looked at where they are timed."""

import contextlib
import logging
import math
import os
import subprocess
import sys
import tempfile
import time
from unittest import mock

import pytest
from _fresh_test_case import FreshTestCase

import torch
from torch._dynamo.utils import counters
from torch._inductor import config, range_dispatch
from torch._inductor.exc import InductorError
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch.benchmark import timing
from torch._inductor.range_dispatch.cache import table_store
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.range_dispatch.registration import differences
from torch._inductor.range_dispatch.registration.differences import (
    difference,
    Tolerance,
)
from torch._inductor.test_case import run_tests, TestCase
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
)


LOGGER = "torch._inductor.range_dispatch"
MODE = "range_dispatch.check_accuracy"
SPLIT = 8
calls = []


def make_op(name, function, mutates=(), tags=(), fake=torch.empty_like):
    """A custom op that nobody looks into; ``calls`` has the names of what ran."""

    def implementation(x: torch.Tensor) -> torch.Tensor:
        calls.append(name)
        return function(x)

    op = torch.library.custom_op(
        f"accuracy_test::{name}", implementation, mutates_args=mutates, tags=tags
    )
    op.register_fake(lambda x: fake(x))
    return op


def slowly(x):
    time.sleep(timing.SECONDS_BEYOND_DOUBT * 1.1)
    return x * 2


double = make_op("double", lambda x: x * 2)
slow_double = make_op("slow_double", slowly)
noise = make_op("noise", torch.rand_like)
tagged_noise = make_op(
    "tagged_noise", torch.rand_like, tags=(torch.Tag.nondeterministic_seeded,)
)
increment = make_op("increment", lambda x: x.add_(1) * 2, mutates=("x",))
is_large = make_op(
    "is_large",
    lambda x: (x > 0).to(torch.int64),
    fake=lambda x: torch.empty_like(x, dtype=torch.int64),
)
root = make_op("root", torch.sqrt)


@torch.library.custom_op("accuracy_test::stored", mutates_args=())
def stored(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@stored.register_fake
def _(x):
    return torch.empty_like(x)


@torch.library.custom_op("accuracy_test::padded", mutates_args=())
def padded(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x * 2, torch.full_like(x, 5.0)


@padded.register_fake
def _(x):
    return torch.empty_like(x), torch.empty_like(x)


def by_adding(x):
    return x + x


def by_three(x):
    return x * 3


def right_for_few(x):
    return x * 2 if x.shape[0] <= SPLIT else x * 3


class AccuracyTestCase(FreshTestCase):
    settings = {**FreshTestCase.settings, MODE: "warn"}

    def setUp(self):
        super().setUp()
        self.enterContext(torch.no_grad())
        table_store.forget()
        self.addCleanup(table_store.forget)
        calls.clear()

    def compile(
        self,
        op,
        *implementations,
        fastest="",
        model=None,
        x=None,
        mode=None,
        sizes=(5,),
        **registration,
    ):
        """Tune by results of real calls and made-up times, the shortest for the
        ``fastest``. Returns the results for the sizes, the record, and warnings."""
        torch._dynamo.reset()
        counters.clear()
        registration.setdefault("split_points", [SPLIT])
        if registration["split_points"] is not None:
            on = {"tensor_name": "x", "dim": 0, "range_upper_bound": 32}
            registration.setdefault("dispatch_on", on)
        x = torch.ones(max(sizes), 3) if x is None else x
        settings = {} if mode is None else {MODE: mode}
        with (
            config.patch(settings),
            custom_op_autotuning(
                op, [CustomOpConfig(one) for one in implementations], **registration
            ),
            planted(fastest),
            record_dispatches() as records,
            self.warnings() as lines,
        ):
            compiled = torch.compile(model or (lambda x: op(x)), dynamic=True)
            results = [compiled(x[:size].clone()) for size in sizes]
        return results, records[0] if records else None, lines

    @contextlib.contextmanager
    def warnings(self):
        """The messages that are logged in the context."""
        logger = logging.getLogger(LOGGER)
        lines = []
        with self.assertLogs(logger, "WARNING") as logs:
            logger.warning("so that there is one")
            yield lines
        lines += [record.getMessage() for record in logs.records[1:]]

    def accused(self, *arguments, **options):
        """The names of the candidates that are said to differ."""
        _, _, lines = self.compile(*arguments, **options)
        for line in lines:
            self.assertIn("does not compute what the op computes", line)
        return [line.partition("candidate ")[2].partition(" ")[0] for line in lines]


def planted(fastest):
    """Candidates are called as ever, and then said to have taken 1 or 2 ms."""
    original = timing.time_candidates

    def time_candidates(*arguments, **options):
        return {
            one: timing.Timing(1.0 if one.name == fastest else 2.0)
            for one in original(*arguments, **options)
        }

    return mock.patch.object(timing, "time_candidates", time_candidates)


class AccuracyTest(AccuracyTestCase):
    def test_a_warning_names_everything(self):
        results, record, lines = self.compile(
            double, by_adding, by_three, fastest="by_three", sizes=(5, 20)
        )
        (line,) = lines
        for part in (
            "accuracy_test.double.default: candidate by_three competes, but it does "
            "not compute what the op computes: for x.shape[0] = 2, output 0 differs "
            "by up to ",
            ", and by up to 0.5 of the op's value (allowed: 1e-05 + 1.3e-06 of it)",
            "accuracy_tolerance=",
            "config.range_dispatch.check_accuracy = 'off'",
        ):
            self.assertIn(part, line)
        self.assertNotIn("\n", line)
        self.assertEqual([r.winner for r in record.ranges], ["by_three"] * 2)
        self.assertEqual([float(one[0, 0]) for one in results], [3.0, 3.0])

    def test_registered_again_it_is_warned_of_again(self):
        for _ in range(2):
            self.assertEqual(self.accused(double, by_three), ["by_three"])

    def test_dropped_for_the_range_alone(self):
        results, record, lines = self.compile(
            double,
            by_adding,
            right_for_few,
            fastest="right_for_few",
            mode="drop",
            sizes=(5, 20),
        )
        winners = [one.winner for one in record.ranges]
        self.assertEqual(winners[0], "right_for_few")
        self.assertIn(winners[1], ("by_adding", "fallback"))
        self.assertEqual([float(one[0, 0]) for one in results], [2.0, 2.0])
        (dropped,) = record.dropped
        self.assertRegex(dropped, r"^right_for_few for \[9, inf\]: it does not compute")
        self.assertIn("for x.shape[0] = 32, output 0 differs", dropped)
        (line,) = lines
        self.assertIn("dropped candidate right_for_few for [9, inf]", line)

    def test_off(self):
        self.assertEqual(self.accused(double, by_three, mode="off"), [])

    def test_operands_are_not_alike(self):
        """What is the other way round is found."""

        @torch.library.custom_op("accuracy_test::minus", mutates_args=())
        def minus(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x - y

        minus.register_fake(lambda x, y: torch.empty_like(x))

        def turned(x, y):
            return y - x

        found = self.accused(minus, turned, model=lambda x: minus(x, x * 2))
        self.assertEqual(found, ["turned"])

    def test_other_modes_are_refused(self):
        for mode in ("on", "", None, True):
            message = "config.range_dispatch.check_accuracy must be one of warn, drop"
            with (
                config.patch({MODE: mode}),
                self.assertRaisesRegex(InductorError, message),
            ):
                self.compile(double, by_adding)

    @pytest.mark.slow
    def test_environment_variable(self):
        name = "TORCHINDUCTOR_RANGE_DISPATCH_CHECK_ACCURACY"
        script = f"from torch._inductor import config; print(config.{MODE})"
        for value in ("drop", "off"):
            environment = {**os.environ, name: value}
            shown = subprocess.check_output(
                [sys.executable, "-c", script], env=environment, text=True
            )
            self.assertEqual(shown.strip(), value)

    def test_nothing_is_compared_where_nothing_is_timed(self):
        winners = {"winners": [0, 0], "mode": "drop"}
        results, _, lines = self.compile(double, by_three, **winners)
        self.assertEqual((float(results[0][0, 0]), lines), (3.0, []))
        self.assertEqual(calls, [])

    def test_without_a_dispatch(self):
        *_, lines = self.compile(double, by_three, split_points=None)
        self.assertIn("for x of shape [5, 3], output 0 differs", lines[0])

    @parametrize("mode", ("warn", "drop"))
    def test_found_split_points(self, mode):
        on = {"tensor_name": "x", "dim": 0, "min": 2, "max": 16}
        options = {"dispatch_on": on, "split_points": "auto", "fastest": "by_three"}
        results, _, lines = self.compile(
            double, by_adding, by_three, mode=mode, **options
        )
        self.assertEqual(len(lines), 1)
        self.assertEqual(float(results[0][0, 0]), 3.0 if mode == "warn" else 2.0)

    def test_several_sizes(self):
        on = [{"tensor_name": "x", "dim": n, "range_upper_bound": 9} for n in (0, 1)]
        options = {"dispatch_on": on, "split_points": [[4], [4]], "mode": "drop"}
        results, _, lines = self.compile(
            double, by_adding, by_three, fastest="by_three", **options
        )
        self.assertIn("for x.shape[0] = 2, x.shape[1] = 2, output 0", lines[0])
        self.assertEqual(float(results[0][0, 0]), 2.0)

    @parametrize("include_fallback", (True, False))
    def test_with_what_is_fused(self, include_fallback):
        def model(x):
            return double(x * 2).relu() + 1

        options = {"model": model, "include_fallback": include_fallback}
        implementations = (by_adding, by_three)
        found = self.accused(double, *implementations, **options)
        self.assertEqual(found, ["by_three"])
        results, _, _ = self.compile(
            double, *implementations, fastest="by_three", mode="drop", **options
        )
        self.assertEqual(float(results[0][0, 0]), 5.0)


class ReferenceTest(AccuracyTestCase):
    """What candidates are compared with."""

    def test_no_more_is_compiled(self):
        for include_fallback in (True, False):
            for mode in ("off", "warn", "drop"):
                options = {"mode": mode, "include_fallback": include_fallback}
                with config.patch(autotune_local_cache=False):
                    self.compile(double, by_adding, by_three, **options)
                found = counters["inductor"]["custom_op_candidates_compiled"]
                self.assertEqual(found, 2 + include_fallback, msg=mode)

    def test_a_slow_candidate_is_called_once(self):
        def slow(x):
            return slow_double(x)

        options = {"split_points": None, "fastest": "fallback"}
        self.compile(double, slow, mode="drop", **options)
        self.assertEqual(calls.count("slow_double"), 1)

    def test_an_op_that_does_not_compete_is_called_once(self):
        options = {"include_fallback": False, "fastest": "by_three"}
        results, _, lines = self.compile(double, by_adding, by_three, **options)
        self.assertIn("candidate by_three competes", lines[0])
        self.assertIn("for x.shape[0] = 2, ", lines[0])
        self.assertEqual((len(lines), float(results[0][0, 0])), (1, 3.0))
        # Once more to find that it repeats its results.
        self.assertEqual(calls, ["double"] * 2)
        calls.clear()
        self.assertEqual(self.accused(double, by_adding, include_fallback=False), [])
        self.assertEqual(calls, [])

    def test_what_one_size_shows_stands_for_all(self):
        options = {"include_fallback": False, "fastest": "by_three", "mode": "drop"}
        results, record, _ = self.compile(
            double, by_adding, by_three, sizes=(5, 20), **options
        )
        self.assertEqual([r.winner for r in record.ranges], ["by_adding"] * 2)
        (dropped,) = record.dropped
        self.assertIn("by_three for [0, 8], [9, inf]: it does not compute", dropped)
        self.assertEqual([float(one[0, 0]) for one in results], [2.0, 2.0])

    def test_an_op_that_fails_tells_nothing(self):
        def fails(x):
            raise RuntimeError("not here")

        failing = make_op("failing", fails)
        found = self.accused(failing, by_adding, by_three, include_fallback=False)
        self.assertEqual(found, [])

    @parametrize("include_fallback", (True, False))
    def test_random_ops_are_left_out(self, include_fallback):
        def drawn(x):
            return torch.rand_like(x)

        def constant(x):
            return torch.zeros_like(x)

        options = {"include_fallback": include_fallback}
        self.assertEqual(self.accused(tagged_noise, drawn, constant, **options), [])
        # No tag tells of this one, but it does not repeat its results.
        self.assertEqual(self.accused(noise, drawn, constant, **options), [])
        found = self.accused(double, drawn, constant, **options)
        self.assertEqual(found, ["constant"])

    def test_uninitialized_memory_is_left_out(self):
        def unwritten(x):
            return x * 2, torch.empty_like(x)

        def wrong(x):
            return x * 3, torch.empty_like(x)

        def other(x):
            return x * 2, x

        found = self.accused(padded, unwritten, wrong, other)
        self.assertEqual(found, ["wrong", "other"])

    @parametrize("include_fallback", (True, False))
    @pytest.mark.slow
    def test_mutated_arguments(self, include_fallback):
        def right(x):
            x.copy_(1 + x)
            return x + x

        def wrong_value(x):
            result = (x + 1) * 2
            x.add_(2)
            return result

        def wrong_result(x):
            return x.add_(1) * 3

        options = {"include_fallback": include_fallback}
        found = self.accused(increment, right, wrong_value, wrong_result, **options)
        self.assertEqual(found, ["wrong_value", "wrong_result"])
        *_, lines = self.compile(increment, wrong_value, right, **options)
        self.assertIn("the new value of 'x' differs by up to 1,", lines[0])
        x = torch.ones(5, 3)
        (result,), *_ = self.compile(
            increment,
            right,
            wrong_value,
            x=x,
            fastest="wrong_value",
            mode="drop",
            **options,
        )
        self.assertEqual(result, torch.full_like(result, 4.0))


class ToleranceTest(AccuracyTestCase):
    def test_tolerance_of_the_registration(self):
        def off_by_a_hundredth(x):
            return x * 2.02

        cases = [
            (None, True),
            (0.001, True),
            (0.1, False),
            ((0.1, 0.0), False),
            ([0.02, 0.001], False),
            ((0.0, 0.001), True),
            (0, True),
            (math.inf, False),
            ((0.0, math.inf), False),
        ]
        for tolerance, differs in cases:
            found = self.accused(
                double, off_by_a_hundredth, accuracy_tolerance=tolerance
            )
            self.assertEqual(bool(found), differs, msg=f"{tolerance}")

    def test_a_warning_says_what_was_allowed(self):
        *_, lines = self.compile(double, by_three, accuracy_tolerance=(0.01, 0.02))
        self.assertIn("(allowed: 0.02 + 0.01 of it)", lines[0])

    def test_bad_tolerances_are_refused(self):
        cases = {
            TypeError: (True, "0.1", {}, (0.1, None), (False, 0.1), torch.ones(2)),
            ValueError: (math.nan, -0.1, (0.1, -1), (math.nan, 0), (0.1,), (), [0] * 3),
        }
        for error, values in cases.items():
            for value in values:
                with self.assertRaisesRegex(error, "^accuracy_tolerance must be"):
                    self.compile(double, by_adding, accuracy_tolerance=value)

    @pytest.mark.slow
    def test_low_precision(self):
        def as_float(x):
            return (x.float() * 2.004).to(x.dtype)

        def by_tenths(x):
            return x * 2.2

        for dtype in (torch.bfloat16, torch.float16):
            x = torch.ones(5, 3, dtype=dtype)
            found = self.accused(double, as_float, by_tenths, x=x)
            expected = ["as_float"] if dtype == torch.float16 else []
            self.assertEqual(found, [*expected, "by_tenths"])

    def test_integers_are_compared_exactly(self):
        def as_where(x):
            return torch.where(x > 0, 1, 0)

        def one_is_wrong(x):
            return (
                (x > 0)
                .to(torch.int64)
                .clamp(max=1)
                .index_fill(0, torch.zeros(1, dtype=torch.int64), 1)
            )

        found = self.accused(is_large, as_where, one_is_wrong)
        self.assertEqual(found, ["one_is_wrong"])

    def test_nan(self):
        def by_power(x):
            return torch.where(x < 0, math.nan, x.abs() ** 0.5)

        def zero_for_nan(x):
            return x.clamp(min=0).sqrt()

        found = self.accused(root, by_power, zero_for_nan)
        self.assertEqual(found, ["zero_for_nan"])


class StoredTimesTest(AccuracyTestCase):
    def tune(self, mode, *implementations, **options):
        """What won, and how many sizes had stored times and had none."""
        _, record, _ = self.compile(
            stored, *implementations, mode=mode, fastest="by_three", **options
        )
        found = counters["inductor"]
        names = ("tuning_cache_hit", "tuning_cache_miss", "tuning_table_hit")
        return record.ranges[0].winner, [found[f"custom_op_{name}"] for name in names]

    def test_times_are_compared_before_a_candidate_may_be_dropped(self):
        for mode in ("off", "warn"):
            winner, _ = self.tune(mode, by_adding, by_three, sizes_per_range=1)
            self.assertEqual(winner, "by_three")
        one_size = {"sizes_per_range": 1}
        for _ in range(2):  # what is left of a contest is not kept
            winner, found = self.tune("drop", by_adding, by_three, **one_size)
            self.assertNotEqual(winner, "by_three")
            self.assertEqual(found, [0, 2, 0])
        for mode in ("warn", "off"):
            winner, found = self.tune(mode, by_adding, by_three, **one_size)
            self.assertEqual((winner, found), ("by_three", [2, 0, 0]))

    def test_times_of_candidates_that_agree(self):
        def tune(mode, tolerance=None):
            options = {"sizes_per_range": 1, "accuracy_tolerance": tolerance}
            return self.tune(mode, by_adding, **options)[1]

        self.assertEqual(tune("off"), [0, 2, 0])
        self.assertEqual(tune("drop"), [0, 2, 0])
        for mode in ("drop", "warn", "off"):
            self.assertEqual(tune(mode), [2, 0, 0])
        # Within another tolerance they may not agree.
        self.assertEqual(tune("drop", 1e-9), [0, 2, 0])
        self.assertEqual(tune("drop", math.inf), [2, 0, 0])

    def test_cached_graphs(self):
        """A graph that was compiled in another mode is not served."""

        def tune(mode):
            with config.patch(fx_graph_cache=True):
                options = {"mode": mode, "fastest": "by_three", "sizes_per_range": 1}
                (result,), *_ = self.compile(stored, by_adding, by_three, **options)
            return float(result[0, 0]), counters["inductor"]["fxgraph_cache_hit"]

        self.assertEqual(tune("warn"), (3.0, 0))
        self.assertEqual(tune("warn"), (3.0, 1))
        self.assertEqual(tune("drop"), (2.0, 0))

    def test_tables(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "table.json")
            for mode, served in (("warn", 0), ("drop", 2)):
                one_size = {"sizes_per_range": 1}
                winner, _ = self.tune(mode, by_adding, by_three, **one_size)
                self.assertEqual(winner == "by_three", mode == "warn")
                range_dispatch.save(path)
                with config.patch({"range_dispatch.table_path": path}):
                    winner, found = self.tune("drop", by_adding, by_three, **one_size)
                self.assertNotEqual(winner, "by_three")
                self.assertEqual(found[-1], served)


class DifferenceTest(TestCase):
    def test_large_tensors_are_compared_in_parts(self):
        with mock.patch.object(differences, "ELEMENTS_AT_ONCE", 6):
            for shape in ((7, 5), (40,), (3, 2, 8), (2, 0), ()):
                expected = torch.rand(shape) + 1
                self.assertIsNone(difference(expected.clone(), expected, None))
                if expected.numel():
                    actual = expected.clone()
                    actual.view(-1)[-1] = 5.0
                    expected.view(-1)[-1] = 4.0
                    found = difference(actual, expected, None)
                    self.assertIn("by up to 1, and by up to 0.25 of", found)

    def test_values(self):
        inf, nan = math.inf, math.nan
        tensor = torch.tensor
        for own, due in (
            (tensor([nan, inf, 1.0]), tensor([nan, inf, 1.0])),
            (tensor([True]), tensor([True])),
            (tensor([1 + 1j]), tensor([1 + 1j])),
            (tensor([2**62]), tensor([2**62])),
        ):
            self.assertIsNone(difference(own, due, None))
        for own, due, text in (
            (tensor([nan, 1.0]), tensor([0.0, 1.0]), "by up to nan"),
            (tensor([1.0, inf]), tensor([0.0, inf]), "by up to 1, and by up to inf"),
            (tensor([True]), tensor([False]), "by up to 1"),
            (tensor([1 + 1j]), tensor([1 + 3j]), "by up to 2"),
            (torch.ones(2), torch.ones(3), r"has shape \[2\], the op's has \[3\]"),
        ):
            self.assertRegex(difference(own, due, None), text)
        self.assertIsNone(difference(tensor([3]), tensor([2]), Tolerance(0.5, 0.0)))


instantiate_parametrized_tests(AccuracyTest)
instantiate_parametrized_tests(ReferenceTest)


if __name__ == "__main__":
    run_tests()
