# Owner(s): ["module: inductor"]
"""What memory timing candidates takes: sizes are lowered until it is enough, and what
runs out of it all the same is left out where it does."""

from unittest import mock

from _fresh_test_case import FreshTestCase

import torch
from torch._inductor import config, ir
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch.benchmark import contests
from torch._inductor.range_dispatch.call import inputs, memory
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.test_case import run_tests
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
)


BUDGET = 1 << 20
COLUMNS = 16
ROW = 4 * COLUMNS
# Of at most so many rows there is memory for two square matrices.
SQUARES = 362
LOGGER = "torch._inductor.range_dispatch"


def doubled(x: torch.Tensor) -> torch.Tensor:
    return x * 2.0


def added(x: torch.Tensor) -> torch.Tensor:
    return x + x


def attended(x: torch.Tensor) -> torch.Tensor:
    """Two square matrices at a time, one by each row and column."""
    return torch.softmax(x @ x.t(), -1) @ x


def compared(x: torch.Tensor) -> torch.Tensor:
    """All pairs of rows, which are never in memory if they are summed up at once."""
    return x + (x[:, None] - x[None]).abs().sum(1)


@torch.library.custom_op("tuning_memory::hungry", mutates_args=())
def hungry(x: torch.Tensor) -> torch.Tensor:
    if len(x) > 100:
        raise torch.OutOfMemoryError(f"{len(x)} rows are too many")
    return x * 2.0


@hungry.register_fake
def _(x):
    return torch.empty_like(x)


@torch.library.custom_op("tuning_memory::linear", mutates_args=())
def linear(x: torch.Tensor) -> torch.Tensor:
    return x * 2.0


@linear.register_fake
def _(x):
    return torch.empty_like(x)


@torch.library.custom_op("tuning_memory::square", mutates_args=())
def square(x: torch.Tensor) -> torch.Tensor:
    return attended(x)


@square.register_fake
def _(x):
    return torch.empty_like(x)


@instantiate_parametrized_tests
class TuningMemoryTest(FreshTestCase):
    settings = {
        "fx_graph_cache": False,
        "autotune_local_cache": False,
        "range_dispatch.tuning_seconds": 20.0,
    }

    def ranges(self, configs, op=linear, split_points=(8,), budget=BUDGET, **on):
        """The ranges that tuning of a call with few rows records."""
        points = split_points if isinstance(split_points, str) else [*split_points]
        with (
            mock.patch.object(memory, "TUNING_BYTES", budget),
            custom_op_autotuning(
                op,
                configs=[*map(CustomOpConfig, configs)],
                dispatch_on={"tensor_name": "x", "dim": 0, **on},
                split_points=points,
            ),
            record_dispatches() as records,
            torch.no_grad(),
        ):
            torch.compile(lambda x: op(x), dynamic=True)(torch.ones(4, COLUMNS))
        return records[-1].ranges

    def test_outputs_are_counted(self):
        *_, last = self.ranges([doubled, added])
        self.assertEqual(last.timed_sizes, [BUDGET // (2 * ROW)])

    def test_results_to_compare_with_are_counted(self):
        with config.patch({"range_dispatch.check_accuracy": "warn"}):
            *_, last = self.ranges([doubled])
        self.assertEqual(last.timed_sizes, [BUDGET // (3 * ROW)])

    @parametrize("op,configs", [(linear, [attended]), (square, [doubled])])
    def test_temporaries_are_counted(self, op, configs):
        *_, last = self.ranges([*configs, added], op)
        self.assertTrue(SQUARES // 2 < last.timed_sizes[0] <= SQUARES, last.timed_sizes)
        self.assertEqual(len(last.milliseconds), 3)

    @parametrize("op,configs", [(linear, [attended]), (square, [doubled])])
    def test_temporaries_bound_sizes_among_which_splits_are_found(self, op, configs):
        with config.patch({"range_dispatch.tuning_seconds": 3.0}):
            found = self.ranges([*configs, added], op, "auto")
        timed = [size for one in found for size in one.timed_sizes]
        self.assertTrue(64 < max(timed) <= SQUARES, timed)

    def test_sizes_lie_within_what_fits(self):
        _, (one, *_), _ = (
            each.timed_sizes for each in self.ranges([attended], split_points=[7, 9000])
        )
        self.assertEqual(one, 8)

    def test_what_is_fused_takes_no_memory(self):
        *_, last = self.ranges([compared, added], range_upper_bound=1000)
        self.assertEqual(last.timed_sizes, [1000])

    def test_what_fits_nowhere_in_a_range_is_left_out(self):
        with self.assertLogs(LOGGER, "WARNING") as logs:
            first, last = self.ranges([attended, added], split_points=[2000])
        self.assertLessEqual(max(first.timed_sizes), SQUARES)
        self.assertEqual({*last.milliseconds}, {"added", "fallback"})
        self.assertEqual(last.timed_sizes, [BUDGET // (2 * ROW)])
        (line,) = logs.output
        for part in (
            "linear",
            "attended for [2001, inf]",
            "of memory at 2001",
            "1 MiB",
        ):
            self.assertIn(part, line)

    def test_a_candidate_that_runs_out_of_memory(self):
        def starved(x):
            return hungry(x)

        with self.assertLogs(LOGGER, "WARNING") as logs:
            first, second, last = self.ranges(
                [starved, added], split_points=[50, 200], range_upper_bound=300
            )
        self.assertEqual({*first.milliseconds}, {"starved", "added", "fallback"})
        for one in (second, last):
            self.assertEqual({*one.milliseconds}, {"added", "fallback"})
        self.assertEqual((second.timed_sizes[0], second.timed_sizes[-1]), (51, 200))
        (line,) = logs.output
        for part in ("linear", "starved", "ran out of memory", "[51, 200] at 200"):
            self.assertIn(part, line)

    @parametrize(
        "error",
        [
            torch.OutOfMemoryError("none left"),
            MemoryError(),
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."),
        ],
        name_fn=lambda error: type(error).__name__,
    )
    def test_inputs_that_cannot_be_allocated(self, error):
        made = inputs.make_inputs

        def make_inputs(call, values, *args, **kwargs):
            if max(values.values()) > 100:
                raise error
            return made(call, values, *args, **kwargs)

        with (
            mock.patch.object(contests, "make_inputs", make_inputs),
            self.assertLogs(LOGGER, "WARNING") as logs,
        ):
            first, last = self.ranges(
                [doubled, added], split_points=[200], range_upper_bound=300
            )
        self.assertLess(max(first.timed_sizes), 100)
        self.assertEqual({*first.milliseconds}, {"doubled", "added", "fallback"})
        self.assertEqual((last.winner, last.milliseconds), (first.winner, {}))
        for line, sizes in zip(logs.output, ("[0, 200] at 200", "at 300"), strict=True):
            self.assertIn("no memory for inputs", line)
            self.assertIn(sizes, line)

    def test_what_ran_out_of_memory_is_tried_again(self):
        allowed = 100

        def starved(x):
            return picky(x)

        @torch.library.custom_op("tuning_memory::picky", mutates_args=())
        def picky(x: torch.Tensor) -> torch.Tensor:
            if len(x) > allowed:
                raise torch.OutOfMemoryError
            return x * 2.0

        picky.register_fake(torch.empty_like)
        with (
            config.patch(autotune_local_cache=True),
            self.assertLogs(LOGGER, "WARNING"),
        ):
            *_, last = self.ranges([starved, added], range_upper_bound=300)
            self.assertNotIn("starved", last.milliseconds)
            allowed = 1000
            torch._dynamo.reset()
            *_, last = self.ranges([starved, added], range_upper_bound=300)
            self.assertIn("starved", last.milliseconds)


@instantiate_parametrized_tests
class MakingInputsTest(FreshTestCase):
    @parametrize("dtype", [torch.int8, torch.bool, torch.float8_e5m2, torch.bfloat16])
    def test_no_second_tensor_is_made(self, dtype):
        length = 1 << 25
        layout = ir.FixedLayout(torch.device("cpu"), dtype, [length], [1])
        node = ir.InputBuffer(name="x", layout=layout)
        with torch.autograd.profiler.profile(
            profile_memory=True, use_kineto=False
        ) as profile:
            made = inputs.random_tensor(node, {})
        self.assertEqual((made.dtype, made.nbytes), (dtype, length * dtype.itemsize))
        self.assertGreater(made.view(torch.uint8).count_nonzero(), length // 4)
        events = profile.kineto_results.events()
        changes = [one.nbytes() for one in events if one.name() == "[memory]"]
        alive = [sum(changes[: end + 1]) for end in range(len(changes))]
        self.assertLess(max(alive), made.nbytes * 1.5)


if __name__ == "__main__":
    run_tests()
