# Owner(s): ["module: inductor"]
"""Range dispatch of custom ops: which branch runs, what is compiled, every knob."""

import functools
import math
import re
import subprocess
import sys
from unittest import mock

import hypothesis

import pytest
from _fresh_test_case import FreshTestCase
from _generated_code import count_conds, DECISION, run_and_get_graph_code
from hypothesis import strategies as st

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch._inductor import config, ir
from torch._inductor.exc import InductorError
from torch._inductor.graph import GraphLowering
from torch._inductor.kernel import custom_op as custom_op_module
from torch._inductor.kernel.custom_op import (
    _build_torch_cond_dispatch,
    _create_fallback_choice,
    autotune_custom_op,
    custom_op_autotuning,
    CustomOpConfig,
    register_custom_op_autotuning,
    unregister_custom_op_autotuning,
)
from torch._inductor.lowering import user_lowerings
from torch._inductor.range_dispatch.benchmark import modules, timing
from torch._inductor.range_dispatch.call import memory
from torch._inductor.range_dispatch.plan.choosing import choose
from torch._inductor.range_dispatch.plan.decisions import (
    decide,
    group_by_winner,
    Leaf,
    plan_decisions,
)
from torch._inductor.range_dispatch.plan.grid_search import neighbours
from torch._inductor.range_dispatch.plan.ranges import (
    cell_of,
    cells_of_grid,
    overlaps,
    ranges_from_split_points,
)
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.range_dispatch.registration.candidates import Candidate
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    subtest,
)


FALLBACK_SHIFT = 100.0


@torch.library.custom_op("range_dispatch_test::shift", mutates_args=())
def shift(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * weight + FALLBACK_SHIFT


@shift.register_fake
def _(x, weight):
    return torch.empty_like(x)


def shift_by(x, weight, k):
    """Tells by its value which ``k``, that is which branch, ran."""
    return x * weight + k


def shift_configs(count):
    return [CustomOpConfig(shift_by, k=float(i)) for i in range(count)]


def apply_shift(x, weight):
    return shift(x, weight)


def which_branch(output, x, weight):
    """The ``k`` of the branch that made ``output``."""
    return round((output - x * weight).flatten()[0].item(), 3)


def around(split_points):
    """Sizes at and next to every split point, and far from all."""
    near = {p + d for p in split_points for d in (-1, 0, 1)}
    return sorted(n for n in {*near, 2, split_points[-1] * 2} if n >= 2)


def kernels_in(code):
    return code.count("async_compile.cpp_pybinding(")


def traced_shifts(count):
    """Traced graphs of the first shifts over fakes with a symbolic dim 1."""
    mode = FakeTensorMode(shape_env=ShapeEnv())
    example = torch.empty(3, 7)
    torch._dynamo.mark_dynamic(example, 1)
    with mode:
        x = mode.from_tensor(example)
    weight = mode.from_tensor(torch.empty(1))

    def graph(k):
        return make_fx(
            lambda x, weight: (shift_by(x, weight, k),), tracing_mode="symbolic"
        )(x, weight)

    return [x, weight], [graph(float(k)) for k in range(count)]


def fake_timings(milliseconds):
    """Replaces timing: ``milliseconds(candidate name, inputs)``."""

    def time_candidates(compiled, inputs, *_):
        return {
            c.candidate: timing.Timing(milliseconds(c.candidate.name, inputs))
            for c in compiled
        }

    return mock.patch.object(timing, "time_candidates", time_candidates)


class RangeDispatchTestCase(FreshTestCase):
    # Values tell which branch ran.
    settings = {}

    def compile_once(self, function, make_inputs, sizes, dynamic=True):
        """Outputs by size, the generated code and records; asserts one compile."""
        counter = CompileCounterWithBackend("inductor")
        compiled = torch.compile(
            function, dynamic=dynamic, backend=counter, fullgraph=True
        )
        with record_dispatches() as records:
            first, code = run_and_get_graph_code(compiled, *make_inputs(sizes[0]))
        outputs = {sizes[0]: first}
        for size in sizes[1:]:
            outputs[size] = compiled(*make_inputs(size))
        self.assertEqual(counter.frame_count, 1)
        return outputs, code, records

    def run_shift(self, sizes, dynamic=True):
        """The shift that ran at each size, the code and the record."""
        given = {n: (torch.randn(3, n), torch.randn(n)) for n in sizes}
        outputs, code, records = self.compile_once(
            apply_shift, given.__getitem__, sizes, dynamic
        )
        ran = {n: which_branch(outputs[n], *given[n]) for n in sizes}
        for n, k in ran.items():
            self.assertEqual(outputs[n], shift_by(*given[n], k))
        return ran, code, records[0]

    def register(self, configs=None, **kwargs):
        """Register ``shift`` on x dim 1 for the rest of the test."""
        kwargs.setdefault("dispatch_on", {"tensor_name": "x", "dim": 1})
        context = custom_op_autotuning(shift, configs=configs, **kwargs)
        context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)


@pytest.mark.smoke
@instantiate_parametrized_tests
class BranchTest(RangeDispatchTestCase):
    @parametrize("ranges", (2, 3, 5, subtest(17, decorators=[pytest.mark.slow])))
    def test_every_split_point(self, ranges):
        split_points = [8 * (i + 1) for i in range(ranges - 1)]
        self.register(
            shift_configs(ranges),
            split_points=split_points,
            winners=[*range(ranges)],
        )
        ran, code, record = self.run_shift(around(split_points))
        expected = {n: float(sum(n > p for p in split_points)) for n in ran}
        self.assertEqual(ran, expected)
        self.assertEqual(record.branches, ranges)
        self.assertEqual(kernels_in(code), ranges)
        # A comparison for each cond, and no tensor predicate.
        self.assertEqual(len(re.findall(DECISION, code)), ranges - 1)
        self.assertNotIn(".item()", code)

    def test_adjacent_and_distant_ranges_share_a_branch(self):
        # Range 0 and 1 are adjacent, 3 is apart: three ranges, one branch.
        self.register(
            shift_configs(3), split_points=[8, 16, 24, 32], winners=[1, 1, 0, 1, 2]
        )
        ran, code, record = self.run_shift(around([8, 16, 24, 32]))
        table = (1.0, 1.0, 0.0, 1.0, 2.0)
        expected = {n: table[sum(n > p for p in (8, 16, 24, 32))] for n in ran}
        self.assertEqual(ran, expected)
        self.assertEqual(record.branches, 3)
        self.assertEqual(kernels_in(code), 3)
        decision = r"^ *(?:if|\w+_selector = int).*s\d+ <="
        self.assertEqual(len(re.findall(decision, code, re.MULTILINE)), 2)

    @config.patch(cpp_wrapper=True)
    def test_cpp_wrapper(self):
        for winners in ([0, 1, 2], [0, 1, 0]):
            torch._dynamo.reset()
            self.register(shift_configs(3), split_points=[8, 16], winners=winners)
            ran, _, record = self.run_shift(around([8, 16]))
            expected = {n: float(winners[(n > 8) + (n > 16)]) for n in ran}
            self.assertEqual(ran, expected)
            self.assertEqual(record.branches, len({*winners}))

    def test_aot_inductor(self):
        class Model(torch.nn.Module):
            def forward(self, x, weight):
                return shift(x, weight)

        size = torch.export.Dim("size", min=2)
        example = (torch.randn(3, 10), torch.randn(10))
        exported = torch.export.export(
            Model(), example, dynamic_shapes=({1: size}, {0: size})
        )
        self.register(shift_configs(2), split_points=[8, 16], winners=[0, 1, 0])
        package = torch._inductor.aoti_compile_and_package(exported)
        loaded = torch._inductor.aoti_load_package(package)
        for n in around([8, 16]):
            x, weight = torch.randn(3, n), torch.randn(n)
            k = which_branch(loaded(x, weight), x, weight)
            self.assertEqual(k, float(8 < n <= 16))

    def test_one_winner_is_inlined_and_fuses(self):
        self.register(shift_configs(2), split_points=[8], winners=[1, 1])

        def model(x, weight):
            return torch.relu(shift(x, weight)) * 2

        given = {n: (torch.randn(3, n), torch.randn(n)) for n in (4, 8, 9)}
        outputs, code, (record,) = self.compile_once(model, given.get, [4, 8, 9])
        for n, (x, weight) in given.items():
            self.assertEqual(outputs[n], torch.relu(shift_by(x, weight, 1.0)) * 2)
        self.assertEqual(record.branches, 1)
        self.assertEqual(kernels_in(code), 1)
        self.assertNotIn("branch", code)

    def test_static_size_tunes_and_inlines_its_own_range(self):
        self.register(shift_configs(3), split_points=[8, 16])
        timed = []

        def by_name(name, inputs):
            timed.append(tuple(inputs[0].shape))
            return 1.0 if "k=2.0" in name else 2.0

        with fake_timings(by_name):
            ran, code, record = self.run_shift([12], dynamic=False)
        self.assertEqual(ran, {12: 2.0})
        self.assertEqual({*timed}, {(3, 12)})
        self.assertEqual([str(r.size_range) for r in record.ranges], ["[9, 16]"])
        self.assertNotIn("branch", code)

    def test_fallback_among_the_winners(self):
        self.register(shift_configs(2), split_points=[8, 16], winners=[1, -1, 0])
        ran, _, record = self.run_shift([4, 8, 9, 16, 17])
        self.assertEqual(
            ran, {4: 1.0, 8: 1.0, 9: FALLBACK_SHIFT, 16: FALLBACK_SHIFT, 17: 0.0}
        )
        self.assertEqual([r.winner for r in record.ranges][1], "fallback")

    def test_fallback_everywhere_is_the_normal_lowering(self):
        self.register(shift_configs(2), split_points=[8], winners=[-1, -1])
        ran, code, _ = self.run_shift([4, 9])
        self.assertEqual(ran, {4: FALLBACK_SHIFT, 9: FALLBACK_SHIFT})
        self.assertIn("torch.ops.range_dispatch_test.shift.default(", code)
        self.assertNotIn("branch", code)

    def test_unreachable_ranges_are_left_out(self):
        self.register(
            shift_configs(5), split_points=[1, 8, 16, 64], winners=[0, 1, 2, 3, 4]
        )
        x, weight = torch.randn(3, 10), torch.randn(1)
        torch._dynamo.mark_dynamic(x, 1, min=9, max=20)
        compiled = torch.compile(apply_shift, fullgraph=True)
        with record_dispatches() as records:
            output, code = run_and_get_graph_code(compiled, x, weight)
        self.assertEqual(which_branch(output, x, weight), 2.0)
        self.assertEqual(
            [str(r.size_range) for r in records[0].ranges], ["[9, 16]", "[17, 64]"]
        )
        self.assertEqual(kernels_in(code), 2)

    def test_negative_dim(self):
        self.register(
            shift_configs(2),
            dispatch_on={"tensor_name": "x", "dim": -1},
            split_points=[8],
            winners=[0, 1],
        )
        ran, _, _ = self.run_shift([8, 9])
        self.assertEqual(ran, {8: 0.0, 9: 1.0})

    def test_dim_out_of_range_names_everything(self):
        self.register(
            shift_configs(2),
            dispatch_on={"tensor_name": "x", "dim": 2},
            split_points=[8],
            winners=[0, 1],
        )
        with self.assertRaisesRegex(
            Exception, r"dim.*shift.* is 2, out of range for 'x' of 2 dimensions"
        ):
            self.run_shift([8])


@pytest.mark.smoke
class NamedTensorTest(RangeDispatchTestCase):
    def test_reads_the_named_tensor(self):
        @torch.library.custom_op("range_dispatch_test::named", mutates_args=())
        def named(scale: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return x * scale.sum()

        @named.register_fake
        def _(scale, x):
            return torch.empty_like(x)

        def plus(scale, x, k):
            return x * scale.sum() + k

        configs = [CustomOpConfig(plus, k=float(k)) for k in range(2)]
        with custom_op_autotuning(
            named,
            configs=configs,
            dispatch_on={"tensor_name": "x", "dim": 1},
            split_points=[8],
            winners=[0, 1],
        ):
            # scale has fewer dimensions than x, and sizes on the other side.
            given = {n: (torch.randn(30 - n), torch.randn(3, n)) for n in (4, 8, 9, 20)}
            outputs, _, _ = self.compile_once(
                lambda scale, x: named(scale, x), given.get, [*given]
            )
        for n, args in given.items():
            self.assertEqual(outputs[n], plus(*args, k=float(n > 8)))

    def test_two_ops_keep_their_own_branches(self):
        @torch.library.custom_op("range_dispatch_test::scale", mutates_args=())
        def scale(x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @scale.register_fake
        def _(x):
            return torch.empty_like(x)

        def times(x, k):
            return x * k

        self.register(shift_configs(2), split_points=[8], winners=[0, 1])
        with custom_op_autotuning(
            scale,
            configs=[CustomOpConfig(times, k=k) for k in (3.0, 5.0)],
            dispatch_on={"tensor_name": "x", "dim": 1},
            split_points=[16],
            winners=[0, 1],
        ):

            def model(x, weight):
                return scale(shift(x, weight)) + shift(x, weight)

            given = {n: (torch.randn(3, n), torch.randn(n)) for n in (8, 9, 16, 17)}
            outputs, code, records = self.compile_once(model, given.get, [*given])
        for n, (x, weight) in given.items():
            shifted = shift_by(x, weight, float(n > 8))
            self.assertEqual(outputs[n], shifted * (5.0 if n > 16 else 3.0) + shifted)
        self.assertEqual([r.branches for r in records], [2, 2, 2])


class IdentityTest(RangeDispatchTestCase):
    """Winners are told apart by what they are, not by what they are called."""

    def check(self, configs, expected):
        self.register(configs, split_points=[8], winners=[0, 1])
        ran, _, record = self.run_shift([8, 9])
        self.assertEqual(ran, dict(zip((8, 9), expected)))
        self.assertEqual(record.branches, 2)
        self.assertEqual(len({r.winner for r in record.ranges}), 2)

    def test_lambdas(self):
        self.check(
            [
                CustomOpConfig(lambda x, weight: x * weight + 1.0),
                CustomOpConfig(lambda x, weight: x * weight + 2.0),
            ],
            (1.0, 2.0),
        )

    def test_same_name(self):
        def make(k):
            def impl_fn(x, weight):
                return x * weight + k

            return impl_fn

        self.check([CustomOpConfig(make(3.0)), CustomOpConfig(make(4.0))], (3.0, 4.0))

    def test_bound_methods_and_partials(self):
        class Shift:
            def __init__(self, k):
                self.k = k

            def run(self, x, weight):
                return x * weight + self.k

        self.check(
            [
                CustomOpConfig(Shift(5.0).run),
                CustomOpConfig(functools.partial(shift_by, k=6.0)),
            ],
            (5.0, 6.0),
        )

    def test_params_that_compare_equal(self):
        def typed(x, weight, k):
            return x * weight + (7.0 if k is True else 8.0)

        self.check(
            [CustomOpConfig(typed, k=True), CustomOpConfig(typed, k=1)], (7.0, 8.0)
        )

    def test_unhashable_params(self):
        def listed(x, weight, ks):
            return x * weight + sum(ks)

        self.check(
            [CustomOpConfig(listed, ks=[1.0, 2.0]), CustomOpConfig(listed, ks=[4.0])],
            (3.0, 4.0),
        )

    def test_equal_configs_are_one_candidate(self):
        self.register(
            [CustomOpConfig(shift_by, k=1.0), CustomOpConfig(shift_by, k=1.0)],
            split_points=[8],
            winners=[0, 1],
        )
        ran, _, record = self.run_shift([8, 9])
        self.assertEqual(ran, {8: 1.0, 9: 1.0})
        self.assertEqual(record.branches, 1)


@pytest.mark.smoke
class ConfigPatchesTest(RangeDispatchTestCase):
    def test_patches_reach_their_branch_only(self):
        patched = CustomOpConfig(
            shift_by, k=1.0, config_patches={"coordinate_descent_tuning": True}
        )
        also = CustomOpConfig(shift_by, k=1.0, config_patches={"max_fusion_size": 7})
        self.register(
            [shift_configs(1)[0], patched, also],
            split_points=[8, 16],
            winners=[0, 1, 2],
        )
        seen = {}

        def spy(nodes):
            for node in nodes:
                patches = node.node.get_config_patches()
                seen.setdefault(V.graph.name, []).append(patches)
            return nodes

        def model(x, weight):
            return torch.sort(shift(x, weight)).values

        given = {n: (torch.randn(3, n), torch.randn(n)) for n in (8, 9, 17)}
        with config.patch(_pre_fusion_custom_pass=spy):
            outputs, _, (record,) = self.compile_once(model, given.get, [*given])
        # Configs that differ in patches only are different candidates.
        self.assertEqual(record.branches, 3)
        by_branch = {
            name.rpartition("_branch_")[2]: patches
            for name, patches in seen.items()
            if name and "_branch_" in name
        }
        self.assertEqual(
            by_branch,
            {"0": [{}], "1": [patched.config_patches], "2": [also.config_patches]},
        )
        others = [
            p for name, ps in seen.items() for p in ps if "_branch_" not in str(name)
        ]
        self.assertTrue(others)
        self.assertFalse(any(others))

    def test_patches_of_an_inlined_winner(self):
        patches = {"coordinate_descent_tuning": True}
        self.register(
            [CustomOpConfig(shift_by, k=1.0, config_patches=patches)],
            split_points=[8],
            winners=[0, 0],
        )
        with mock.patch.object(ir.Operation, "set_config_patches") as spy:
            self.run_shift([8, 9])
        self.assertEqual([call.args for call in spy.call_args_list], [(patches,)])


class TuningTest(RangeDispatchTestCase):
    def test_one_compile_a_candidate(self):
        self.register(shift_configs(3), split_points=[8 * i for i in range(1, 16)])
        compiled = []
        codegen = GraphLowering.codegen

        def spy(graph):
            compiled.append(graph.name)
            return codegen(graph)

        with (
            fake_timings(lambda name, inputs: 1.0 if "k=1.0" in name else 2.0),
            mock.patch.object(GraphLowering, "codegen", spy),
        ):
            ran, code, record = self.run_shift([8, 100])
        self.assertEqual(ran, {8: 1.0, 100: 1.0})
        self.assertEqual(len(record.ranges), 16)
        self.assertEqual(compiled.count("benchmark_candidate"), 4)
        self.assertEqual(len(compiled), 5)
        self.assertEqual(counters["inductor"]["custom_op_candidates_compiled"], 4)

    def test_winners_need_no_benchmark(self):
        self.register(shift_configs(2), split_points=[8], winners=[0, 1])
        self.run_shift([8, 9])
        self.assertEqual(counters["inductor"]["custom_op_candidates_compiled"], 0)
        self.assertEqual(counters["inductor"]["custom_op_candidates_timed"], 0)

    def test_every_range_at_its_own_sizes(self):
        self.register(
            shift_configs(2),
            dispatch_on={"tensor_name": "x", "dim": 1, "range_upper_bound": 300},
            split_points=[8, 16],
        )
        shapes = []

        def by_size(name, inputs):
            x, weight, *_ = inputs
            shapes.append((tuple(x.shape), tuple(weight.shape)))
            return 1.0 if ("k=1.0" in name) == (8 < x.shape[1] <= 16) else 2.0

        with fake_timings(by_size):
            ran, _, record = self.run_shift([8, 9, 16, 17])
        # The weight shares the symbol, so it follows.
        timed = (2, 4, 8, 9, 12, 16, 300)
        self.assertEqual({*shapes}, {((3, n), (n,)) for n in timed})
        self.assertEqual(ran[9], 1.0)
        self.assertEqual(ran[16], 1.0)
        self.assertNotEqual(ran[8], 1.0)
        self.assertEqual(ran[8], ran[17])
        self.assertEqual(
            [r.timed_sizes for r in record.ranges], [[2, 4, 8], [9, 12, 16], [300]]
        )

    def test_unbounded_size_is_an_alias(self):
        self.register(
            shift_configs(1),
            dispatch_on={"tensor_name": "x", "dim": 1, "unbounded_size": 77},
            split_points=[8],
        )
        with fake_timings(lambda name, inputs: 1.0):
            _, _, record = self.run_shift([8])
        self.assertEqual([r.timed_sizes[-1] for r in record.ranges], [8, 77])

    def test_open_range_is_bounded_in_memory(self):
        self.register(shift_configs(1), split_points=[8])
        with (
            fake_timings(lambda name, inputs: 1.0),
            mock.patch.object(memory, "TUNING_BYTES", 40000),
        ):
            _, _, record = self.run_shift([8])
        # Three rows of x and the weight, a result and a temporary of the op itself like
        # x: 40 bytes for each column.
        self.assertEqual(record.ranges[-1].timed_sizes, [1000])

    @pytest.mark.slow
    def test_real_benchmark_picks_what_is_much_cheaper(self):
        def heavy_per_element(x, weight):
            for _ in range(60):
                x = torch.sin(x)
            return x * weight + 1.0

        def heavy_at_any_size(x, weight):
            fixed = torch.arange(400000, dtype=torch.float64)
            for _ in range(10):
                fixed = torch.sin(fixed)
            return x * weight + 2.0 + 0.0 * fixed.sum().to(x.dtype)

        self.register(
            [CustomOpConfig(heavy_per_element), CustomOpConfig(heavy_at_any_size)],
            dispatch_on={"tensor_name": "x", "dim": 1, "range_upper_bound": 1 << 20},
            split_points=[64],
        )
        with config.patch("test_configs.force_custom_op_decomposition", True):
            _, _, records = self.compile_once(
                apply_shift, lambda n: (torch.randn(3, n), torch.randn(n)), [16, 80]
            )
        small, large = records[0].ranges
        self.assertEqual(small.winner, "heavy_per_element")
        self.assertEqual(large.winner, "heavy_at_any_size")
        self.assertEqual({*small.milliseconds}, {small.winner, large.winner})
        self.assertGreater(min(small.milliseconds.values()), 0)

    def test_tuning_leaves_random_state_and_inputs_alone(self):
        def noisy(x, weight):
            return x * weight + torch.rand_like(x)

        self.register([CustomOpConfig(noisy)], split_points=[8])
        x, weight = torch.randn(3, 16), torch.randn(16)
        before = (x.clone(), weight.clone(), torch.get_rng_state())
        seen = []
        time_candidates = timing.time_candidates

        def spy(*args):
            timings = time_candidates(*args)
            seen.append(torch.equal(torch.get_rng_state(), before[2]))
            return timings

        with mock.patch.object(timing, "time_candidates", spy):
            torch.compile(apply_shift, dynamic=True)(x, weight)
        self.assertEqual(seen, [True] * 4)
        self.assertTrue(torch.equal(x, before[0]))
        self.assertTrue(torch.equal(weight, before[1]))

    def test_a_candidate_that_adds_guards_is_dropped_alone(self):
        def guarded(x, weight):
            if x.shape[1] % 2 == 0:
                return x * weight + 1.0
            return x * weight + 2.0

        self.register(
            [CustomOpConfig(guarded), CustomOpConfig(shift_by, k=3.0)], split_points=[8]
        )
        with (
            self.assertLogs("torch._inductor.range_dispatch", "WARNING") as logs,
            fake_timings(lambda name, inputs: 2.0 if name == "fallback" else 1.0),
        ):
            ran, _, _ = self.run_shift([8, 9])
        self.assertEqual(ran, {8: 3.0, 9: 3.0})
        self.assertEqual(counters["inductor"]["custom_op_decomp_guard_skips"], 2)
        (line,) = logs.output
        for part in ("shift", "guarded", "[0, 8]", "[9, inf]", "x.shape[1] % 2"):
            self.assertIn(part, line)

    def test_candidates_that_break_their_promise_are_dropped_alone(self):
        def raises(x, weight):
            raise RuntimeError("not today")

        def wrong_dtype(x, weight):
            return (x * weight).double()

        def wrong_shape(x, weight):
            return (x * weight).sum(0)

        broken = (raises, wrong_dtype, wrong_shape)
        self.register(
            [CustomOpConfig(f) for f in broken] + [CustomOpConfig(shift_by, k=3.0)],
            split_points=[8],
        )
        with (
            self.assertLogs("torch._inductor.range_dispatch", "WARNING") as logs,
            fake_timings(lambda name, inputs: 2.0 if name == "fallback" else 1.0),
        ):
            ran, _, _ = self.run_shift([8, 9])
        self.assertEqual(ran, {8: 3.0, 9: 3.0})
        self.assertEqual(len(logs.output), 3)
        for line, function, reason in zip(
            logs.output, broken, ("not today", "torch.float64", "shape")
        ):
            self.assertIn(function.__name__, line)
            self.assertIn(reason, line)

    def test_a_candidate_that_cannot_be_run_loses_that_range(self):
        compile_candidates = modules.compile_candidates

        def with_fragile(*args):
            return [
                fragile(one) if "k=1.0" in one.candidate.name else one
                for one in compile_candidates(*args)
            ]

        def fragile(compiled):
            def call(args):
                if args[0].shape[1] == 8:
                    raise RuntimeError("too short for me")
                return compiled.call(args)

            return modules.CompiledCandidate(compiled.traced, call)

        self.register(shift_configs(2), split_points=[8])
        with (
            mock.patch.object(modules, "compile_candidates", with_fragile),
            self.assertLogs("torch._inductor.range_dispatch", "WARNING") as logs,
        ):
            _, _, record = self.run_shift([8])
        self.assertEqual(
            [{*r.milliseconds} for r in record.ranges],
            [
                {"shift_by(k=0.0)", "fallback"},
                {"shift_by(k=0.0)", "shift_by(k=1.0)", "fallback"},
            ],
        )
        (line,) = logs.output
        for part in ("shift", "k=1.0", "[0, 8]", "too short for me"):
            self.assertIn(part, line)

    def test_nothing_left_uses_the_op_itself(self):
        def raises(x, weight):
            raise RuntimeError("never")

        self.register([CustomOpConfig(raises)], split_points=[8], winners=[0, 0])
        with config.patch("range_dispatch.on_unusable_winner", "fallback"):
            ran, _, _ = self.run_shift([8, 9])
        self.assertEqual(ran, {8: FALLBACK_SHIFT, 9: FALLBACK_SHIFT})


class ChooseTest(TestCase):
    """The choice from timings; candidates are told apart by identity."""

    A, B = (Candidate(i, name, print) for i, name in enumerate("ab"))
    FALLBACK = Candidate(-1, "fallback", print)

    def choose(self, *ranges, threshold=1.0):
        """Each range is {candidate: (milliseconds, noise)}."""
        timings = [{c: timing.Timing(*t) for c, t in r.items()} for r in ranges]
        places = [(number,) for number in range(len(timings))]
        return choose(timings, threshold, neighbours(places))

    def test_fastest(self):
        a, b = self.A, self.B
        one = {a: (2.0, 0.0), b: (1.0, 0.0)}
        other = {a: (1.0, 0.0), b: (2.0, 0.0)}
        self.assertEqual(self.choose(one, other, {}), [b, a, None])

    def test_ties_go_to_the_neighbour(self):
        a, b = self.A, self.B
        clear_a = {a: (1.0, 0.0), b: (9.0, 0.0)}
        near_b = {a: (1.1, 0.1), b: (1.0, 0.1)}
        clear_b = {a: (9.0, 0.0), b: (1.0, 0.0)}
        self.assertEqual(self.choose(clear_a, near_b, clear_a), [a, a, a])
        self.assertEqual(self.choose(near_b, clear_a), [a, a])
        # No branch less if it went to the other side.
        self.assertEqual(self.choose(clear_a, near_b, clear_b), [a, b, b])
        not_near = {a: (1.3, 0.1), b: (1.0, 0.1)}
        self.assertEqual(self.choose(clear_a, not_near, clear_a), [a, b, a])

    def test_threshold_holds_on_top(self):
        a, b, fallback = self.A, self.B, self.FALLBACK
        clear_a = {a: (1.0, 0.0), b: (9.0, 0.0), fallback: (9.0, 0.0)}
        # a is as fast as b within the noise, but only b beats the fallback by 1.5.
        near = {a: (1.1, 0.1), b: (1.0, 0.1), fallback: (1.6, 0.0)}
        self.assertEqual(self.choose(clear_a, near, threshold=1.0), [a, a])
        self.assertEqual(self.choose(clear_a, near, threshold=1.5), [a, b])
        self.assertEqual(self.choose(clear_a, near, threshold=2.0), [a, fallback])


class KnobTest(RangeDispatchTestCase):
    def slower_fallback(self, ratio):
        return fake_timings(lambda name, inputs: ratio if name == "fallback" else 1.0)

    def test_force_decomposition(self):
        self.register(shift_configs(1), split_points=[8])
        with (
            fake_timings(lambda name, inputs: 0.1 if name == "fallback" else 1.0),
            config.patch("test_configs.force_custom_op_decomposition", True),
        ):
            ran, _, _ = self.run_shift([8, 9])
        self.assertEqual(ran, {8: 0.0, 9: 0.0})

    def test_force_fallback(self):
        self.register(shift_configs(1), split_points=[8])
        with config.patch("test_configs.force_custom_op_decomposition", False):
            ran, _, _ = self.run_shift([8, 9])
        self.assertEqual(ran, {8: FALLBACK_SHIFT, 9: FALLBACK_SHIFT})
        self.assertEqual(counters["inductor"]["custom_op_candidates_compiled"], 0)

    def test_force_no_impl_grouping(self):
        self.register(shift_configs(1), split_points=[8, 16], winners=[0, 0, 0])
        with config.patch("test_configs.force_no_impl_grouping", True):
            ran, code, record = self.run_shift([8, 9, 17])
        self.assertEqual(ran, {8: 0.0, 9: 0.0, 17: 0.0})
        self.assertEqual(record.branches, 3)
        self.assertEqual(len(re.findall(DECISION, code)), 2)

    def test_include_fallback(self):
        """Left out, the op itself never runs, even where it would be taken."""
        for patches in (
            {},
            {"deterministic": True},
            {"test_configs.force_custom_op_decomposition": False},
        ):
            torch._dynamo.reset()
            self.register(shift_configs(2), split_points=[8], include_fallback=False)
            timed = fake_timings(lambda name, inputs: name == "shift_by(k=1.0)")
            with timed, config.patch(patches):
                ran, _, record = self.run_shift([8, 9])
            self.assertEqual(ran, {8: 0.0, 9: 0.0})
            for row in record.ranges:
                self.assertNotIn("fallback", row.milliseconds)

    def test_include_fallback_if_nothing_else_is_left(self):
        def broken(x, weight):
            raise RuntimeError("no such thing")

        configs = [CustomOpConfig(broken)]
        for arguments in ({"split_points": [8]}, {"dispatch_on": None}):
            torch._dynamo.reset()
            self.register(configs, include_fallback=False, **arguments)
            with self.assertRaisesRegex(
                InductorError, "no candidate left for range.*include_fallback=False"
            ):
                self.run_shift([8])

    def test_include_fallback_of_autotune_custom_op(self):
        def lowering(x, weight):
            result, choice = autotune_custom_op(
                "shift",
                [shift_by],
                [x, weight],
                [{"k": 3.0}],
                shift._opoverload,
                include_fallback=False,
            )
            chosen.append(choice.name)
            return result

        chosen = []
        with (
            mock.patch.dict(user_lowerings, {shift._opoverload: lowering}),
            config.patch(deterministic=True),
        ):
            x, weight = torch.randn(3, 8), torch.randn(8)
            output = torch.compile(apply_shift)(x, weight)
        self.assertEqual(which_branch(output, x, weight), 3.0)
        self.assertEqual(chosen, ["shift_by(k=3.0)"])

    def test_min_speedup_threshold(self):
        for threshold, expected in ((1.4, 0.0), (1.6, FALLBACK_SHIFT)):
            torch._dynamo.reset()
            self.register(
                shift_configs(1), split_points=[8], min_speedup_threshold=threshold
            )
            with self.slower_fallback(1.5):
                ran, _, _ = self.run_shift([8, 9])
            self.assertEqual(ran, {8: expected, 9: expected})

    def test_deterministic_mode_times_nothing(self):
        self.register(shift_configs(1), split_points=[8])
        with config.patch(deterministic=True):
            ran, _, _ = self.run_shift([8, 9])
        self.assertEqual(ran, {8: FALLBACK_SHIFT, 9: FALLBACK_SHIFT})
        self.assertEqual(counters["inductor"]["custom_op_candidates_timed"], 0)

    def test_benchmark_with_cudagraphs_is_passed_on(self):
        self.register(
            shift_configs(1),
            split_points=[8],
            benchmark_with_cudagraphs=True,
            sizes_per_range=1,
        )
        seen = []

        def spy(compiled, inputs, use_cudagraphs, *_):
            seen.append(use_cudagraphs)
            return {c.candidate: timing.Timing(1.0) for c in compiled}

        with mock.patch.object(timing, "time_candidates", spy):
            self.run_shift([8])
        self.assertEqual(seen, [True, True])

    def test_config_generator_sees_each_range(self):
        asked = []

        def generate(tensors):
            asked.append({name: tuple(t.shape) for name, t in tensors.items()})
            if tensors["x"].shape[1] > 8:  # plain sizes: asking adds no guard
                return shift_configs(2)
            return [CustomOpConfig(shift_by, k=5.0)]

        self.register(
            config_generator=generate,
            dispatch_on={"tensor_name": "x", "dim": 1, "range_upper_bound": 32},
            split_points=[8],
            winners=[0, 1],
        )
        ran, _, _ = self.run_shift([6, 8, 9])
        self.assertEqual(ran, {6: 5.0, 8: 5.0, 9: 1.0})
        self.assertEqual(
            asked, [{"x": (3, 8), "weight": (8,)}, {"x": (3, 32), "weight": (32,)}]
        )

    def test_input_gen_fns_make_what_is_timed(self):
        self.register(
            shift_configs(1),
            split_points=[8],
            input_gen_fns={"weight": lambda like: torch.full_like(like, 7.0)},
            sizes_per_range=1,
        )
        seen = []

        def spy(name, inputs):
            x, weight, *_ = inputs
            seen.append((tuple(weight.shape), weight.unique().tolist()))
            return 1.0

        with fake_timings(spy):
            self.run_shift([8])
        self.assertEqual({s[0] for s in seen}, {(8,), (65536,)})
        self.assertTrue(all(s[1] == [7.0] for s in seen))

    def test_integers_that_are_timed_as_zeros_and_ones_are_named(self):
        op = torch.library.custom_op(
            "range_dispatch_test::gathered",
            lambda table, index: table[index],
            mutates_args=(),
            schema="(Tensor table, Tensor index) -> Tensor",
        )
        op.register_fake(
            lambda table, index: table.new_empty(index.shape[0], table.shape[1])
        )
        inputs = torch.randn(5, 6), torch.tensor([4, 0, 4])

        def compile(**options):
            torch._dynamo.reset()
            by_rows = CustomOpConfig(lambda table, index: table.index_select(0, index))
            with (
                custom_op_autotuning(
                    op,
                    configs=[by_rows],
                    dispatch_on={"tensor_name": "index", "dim": 0},
                    split_points=[8],
                    **options,
                ),
                fake_timings(lambda name, inputs: 1.0),
            ):
                torch.compile(lambda *inputs: op(*inputs), dynamic=True)(*inputs)

        logger = "torch._inductor.range_dispatch"
        with self.assertNoLogs(logger, "WARNING"):
            compile(input_gen_fns={"index": lambda like: torch.full_like(like, 4)})
        with self.assertLogs(logger, "WARNING") as logs:
            compile()
        (line,) = logs.output
        self.assertIn("zeros and ones for index;", line)
        self.assertIn("input_gen_fns={'index': ...}", line)

    def test_input_gen_fn_of_another_shape_is_named(self):
        self.register(
            shift_configs(1),
            split_points=[8],
            input_gen_fns={"weight": lambda like: torch.ones(3)},
            sizes_per_range=1,
        )
        with self.assertRaisesRegex(
            Exception, r"input_gen_fns\['weight'\].*\(8,\).*got \(3,\)"
        ):
            self.run_shift([8])

    def test_fallback_choice_is_reused(self):
        op = shift._opoverload
        self.assertIs(_create_fallback_choice(op), _create_fallback_choice(op))
        other = torch.ops.aten.mm.default
        self.assertIsNot(_create_fallback_choice(op), _create_fallback_choice(other))


class PlainAutotuningTest(RangeDispatchTestCase):
    """Without ranges the same engine tunes one range that holds every size."""

    def test_best_config_is_inlined(self):
        self.register(shift_configs(3), dispatch_on=None)
        with fake_timings(lambda name, inputs: 1.0 if "k=2.0" in name else 2.0):
            ran, code, record = self.run_shift([4, 9])
        self.assertEqual(ran, {4: 2.0, 9: 2.0})
        self.assertEqual(record.branches, 1)
        self.assertEqual(kernels_in(code), 1)

    def test_static_and_winner(self):
        self.register(shift_configs(3), dispatch_on=None, winners=[1])
        ran, _, _ = self.run_shift([4], dynamic=False)
        self.assertEqual(ran, {4: 1.0})

    def test_config_without_implementation_is_the_op_with_params(self):
        @torch.library.custom_op("range_dispatch_test::power", mutates_args=())
        def power(x: torch.Tensor, exponent: int = 1) -> torch.Tensor:
            return x**exponent

        @power.register_fake
        def _(x, exponent=1):
            return torch.empty_like(x)

        configs = [CustomOpConfig(exponent=2), CustomOpConfig(exponent=3)]
        x = torch.randn(5)
        for winner, exponent in ((0, 2), (1, 3), (-1, 1)):
            torch._dynamo.reset()
            with custom_op_autotuning(power, configs=configs, winners=[winner]):
                output = torch.compile(lambda x: power(x))(x)
            self.assertEqual(output, x**exponent)

    def test_aten_overload(self):
        mm = torch.ops.aten.mm.default

        def by_sum(a, b):
            return (a[:, :, None] * b[None]).sum(1) + 1.0

        with custom_op_autotuning(
            mm,
            configs=[CustomOpConfig(by_sum)],
            dispatch_on={"tensor_name": "self", "dim": 0},
            split_points=[8],
            winners=[0, -1],
        ):
            given = {n: (torch.randn(n, 4), torch.randn(4, 3)) for n in (8, 9)}
            # relu is not realized when the lowering of mm gets it
            outputs, _, _ = self.compile_once(
                lambda a, b: torch.relu(a) @ b, given.get, [8, 9]
            )
        self.assertEqual(outputs[8], torch.relu(given[8][0]) @ given[8][1] + 1.0)
        self.assertEqual(outputs[9], torch.relu(given[9][0]) @ given[9][1])

    def test_autotune_custom_op(self):
        seen = {}

        def lowering(x, weight):
            result, seen["choice"] = autotune_custom_op(
                "direct",
                decompositions=[shift_by, shift_by],
                inputs=[x, weight],
                non_tensor_args=[{"k": 1.0}, {"k": 2.0}],
                op_overload=shift._opoverload,
            )
            return result

        op = shift._opoverload
        self.addCleanup(user_lowerings.pop, op)
        user_lowerings[op] = lowering
        with fake_timings(lambda name, inputs: 1.0 if "k=2.0" in name else 2.0):
            x, weight = torch.randn(3, 4), torch.randn(4)
            output = torch.compile(apply_shift)(x, weight)
        self.assertEqual(which_branch(output, x, weight), 2.0)
        self.assertIs(seen["choice"].decomposition, shift_by)
        self.assertEqual(seen["choice"].decomposition_kwargs, {"k": 2.0})


class CacheTest(RangeDispatchTestCase):
    """The FX graph cache must not serve another registration's dispatch."""

    def run_with(self, hits, misses, **kwargs):
        torch._dynamo.reset()
        counters.clear()
        with custom_op_autotuning(
            shift, dispatch_on={"tensor_name": "x", "dim": 1}, **kwargs
        ):
            given = {n: (torch.randn(3, n), torch.randn(n)) for n in (4, 8, 9, 16, 17)}
            compiled = torch.compile(apply_shift, dynamic=True)
            ran = [which_branch(compiled(*a), *a) for a in given.values()]
        found = counters["inductor"]
        self.assertEqual(
            (found["fxgraph_cache_hit"], found["fxgraph_cache_miss"]), (hits, misses)
        )
        return ran

    @config.patch(fx_graph_cache=True, fx_graph_remote_cache=False)
    @torch._functorch.config.patch(enable_autograd_cache=False)
    def test_cache_follows_the_registration(self):
        plain = dict(configs=shift_configs(2), split_points=[8], winners=[0, 1])
        self.assertEqual(self.run_with(0, 1, **plain), [0, 0, 1, 1, 1])
        self.assertEqual(self.run_with(1, 0, **plain), [0, 0, 1, 1, 1])
        other_winners = {**plain, "winners": [1, 0]}
        self.assertEqual(self.run_with(0, 1, **other_winners), [1, 1, 0, 0, 0])
        other_split = {**plain, "split_points": [16]}
        self.assertEqual(self.run_with(0, 1, **other_split), [0, 0, 0, 0, 1])

        def make(k):
            def implementation(x, weight):
                return x * weight + k

            return [CustomOpConfig(implementation), *shift_configs(1)]

        for k in (5.0, 6.0):
            ran = self.run_with(0, 1, **{**plain, "configs": make(k)})
            self.assertEqual(ran, [k, k, 0, 0, 0])
        self.assertEqual(self.run_with(1, 0, **plain), [0, 0, 1, 1, 1])

    SCRIPT = """
import sys, torch
from torch._dynamo.utils import counters
from torch._inductor.kernel.custom_op import *

@torch.library.custom_op("range_dispatch_test::cached", mutates_args=())
def cached(x: torch.Tensor) -> torch.Tensor:
    return x.clone()

@cached.register_fake
def _(x):
    return torch.empty_like(x)

table, offset = torch.arange(30.0), [1, {"a": 2.0}]

def plus(x):
    return x + offset[1]["a"] + table.sum() * 0

class Times:
    k = 3.0
    def __call__(self, x):
        return x * self.k if 3.0 in {3.0, 4.0} else x

register_custom_op_autotuning(
    cached,
    configs=[CustomOpConfig(plus), CustomOpConfig(Times())],
    dispatch_on={"tensor_name": "x", "dim": 0},
    split_points=[8],
    winners=[int(winner) for winner in sys.argv[1:]],
)
compiled = torch.compile(lambda x: cached(x), dynamic=True)
print(*(compiled(torch.full((n, 5), 7.0))[0, 0].item() for n in (4, 9)))
print(counters["aot_autograd"]["autograd_cache_hit"])
"""

    @pytest.mark.slow
    def test_caches_of_other_processes(self):
        """A fresh process with the same registration hits, with another it does not."""

        def run(*winners):
            output = subprocess.check_output(
                [sys.executable, "-c", self.SCRIPT, *map(str, winners)], text=True
            )
            return output.split()

        self.assertEqual(run(0, 1), ["9.0", "21.0", "0"])
        self.assertEqual(run(0, 1), ["9.0", "21.0", "1"])
        self.assertEqual(run(1, 0), ["21.0", "9.0", "0"])


RANGE_LIMIT = 60
split_point_lists = st.lists(
    st.integers(1, RANGE_LIMIT), min_size=1, max_size=16, unique=True
).map(sorted)


def depth(tree):
    if isinstance(tree, Leaf):
        return 0
    return 1 + max(depth(tree.inside), depth(tree.outside))


class RangesPropertyTest(TestCase):
    @hypothesis.settings(deadline=None, max_examples=300)
    @hypothesis.given(data=st.data(), split_points=split_point_lists)
    def test_tree_decides_as_the_table_does(self, data, split_points):
        ranges = ranges_from_split_points(split_points)
        winners = data.draw(
            st.lists(st.integers(0, 6), min_size=len(ranges), max_size=len(ranges))
        )
        merge = data.draw(st.booleans())
        cells = cells_of_grid([ranges])
        branches = group_by_winner(cells, winners, merge)
        if merge:
            self.assertEqual([b.winner for b in branches], [*dict.fromkeys(winners)])
        tree = plan_decisions(branches)
        self.assertLessEqual(depth(tree), math.ceil(math.log2(len(branches))))
        for size in range(RANGE_LIMIT + 3):
            expected = winners[cell_of(cells, (size,))]
            self.assertEqual(branches[decide(tree, (size,))].winner, expected)

    @hypothesis.settings(deadline=None)
    @hypothesis.given(
        split_points=split_point_lists,
        bounds=st.tuples(st.integers(0, RANGE_LIMIT), st.integers(0, RANGE_LIMIT)),
    )
    def test_a_range_overlaps_bounds_that_some_size_of_it_is_in(
        self, split_points, bounds
    ):
        lower, upper = min(bounds), max(bounds)
        ranges = ranges_from_split_points(split_points)
        cells = cells_of_grid([ranges])
        hit = {cell_of(cells, (size,)) for size in range(lower, upper + 1)}
        found = [i for i, r in enumerate(ranges) if overlaps(r, (lower, upper))]
        self.assertEqual(found, sorted(hit))

    @hypothesis.settings(
        deadline=None,
        max_examples=60,
        suppress_health_check=[hypothesis.HealthCheck.differing_executors],
    )
    @hypothesis.given(data=st.data(), split_points=split_point_lists)
    def test_cond_graph_runs_the_winner(self, data, split_points):
        """The built graph itself, run eagerly at and around every split point."""
        fakes, shifts = self.traced()
        ranges = ranges_from_split_points(split_points)
        winners = data.draw(
            st.lists(
                st.integers(0, len(shifts) - 1),
                min_size=len(ranges),
                max_size=len(ranges),
            )
        )
        graph = _build_torch_cond_dispatch(
            "probe", [shifts[w] for w in winners], ranges, fakes, 0, 1
        )
        # The size is dynamic, so it is 2 at least.
        reached = [
            w
            for r, w in zip(ranges, winners, strict=True)
            if r.end is None or r.end >= 2
        ]
        self.assertEqual(count_conds(graph), len({*reached}) - 1)
        weight = torch.ones(1)
        for size in around(split_points):
            x = torch.zeros(3, size)
            (output,) = graph(x, weight)
            expected = winners[cell_of(cells_of_grid([ranges]), (size,))]
            self.assertEqual(which_branch(output, x, weight), expected)

    @staticmethod
    @functools.cache
    def traced():
        return traced_shifts(6)


GOOD_REGISTRATION = dict(
    configs=[CustomOpConfig(shift_by, k=1.0)],
    dispatch_on={"tensor_name": "x", "dim": 1},
    split_points=[8],
)

# Changes to a good registration, and what the error has to say.
WRONG_REGISTRATIONS = [
    (dict(configs=None), "Must specify either 'configs' or"),
    (dict(configs=[]), "At least one config"),
    (dict(configs="abc"), "configs must be a list or tuple"),
    (dict(configs=[shift_by]), r"CustomOpConfig object.*configs\[0\]"),
    (dict(config_generator=print), "Cannot specify both"),
    (dict(configs=None, config_generator=3), "config_generator.*callable"),
    (dict(configs=[CustomOpConfig(shift_by, kk=1)]), "'kk'.*did you mean 'k'"),
    (dict(configs=[CustomOpConfig(shift_by, x=1)]), "'x' is a tensor"),
    (dict(dispatch_on=None), "Both dispatch_on and split_points"),
    (dict(split_points=None), "Both dispatch_on and split_points"),
    (dict(dispatch_on=("x", 1)), "dispatch_on must be a dict"),
    (dict(dispatch_on={"dim": 1}), "must contain 'tensor_name' and 'dim'"),
    (
        dict(dispatch_on={"tensor_name": "x", "dim": 1, "dims": 2}),
        "unknown key 'dims'.*did you mean 'dim'",
    ),
    (
        dict(dispatch_on={"tensor_name": "weihgt", "dim": 0}),
        "'weihgt'.*did you mean 'weight'",
    ),
    (dict(dispatch_on={"tensor_name": 1, "dim": 0}), "must be a string"),
    (dict(dispatch_on={"tensor_name": "x", "dim": True}), "'dim'.*integer"),
    (dict(dispatch_on={"tensor_name": "x", "dim": 1.0}), "'dim'.*integer"),
    (dict(split_points=[]), "split_points must be a non-empty"),
    (dict(split_points=8), "split_points must be a non-empty"),
    (dict(split_points=[8, 4]), "split_points must be sorted"),
    (dict(split_points=[8, 8]), "split_points.*without repeats"),
    (dict(split_points=[0]), "split_points must be at least 1, got 0"),
    (dict(split_points=[-4]), "split_points must be at least 1, got -4"),
    (dict(split_points=[True]), "split_points must be integers, got True"),
    (dict(split_points=[8.0]), "split_points must be integers, got 8.0"),
    (dict(split_points=["8"]), "split_points must be integers, got '8'"),
    (
        dict(dispatch_on={"tensor_name": "x", "dim": 1, "range_upper_bound": 4}),
        "range_upper_bound.*not be below.*8, got 4",
    ),
    (
        dict(dispatch_on={"tensor_name": "x", "dim": 1, "unbounded_size": "9"}),
        "unbounded_size.*positive integer, got '9'",
    ),
    (dict(winners=[0]), "winners must have one entry for each of the 2"),
    (dict(winners=[0, 1]), "winners must be -1 .* got 1"),
    (dict(winners=[0, -2]), "winners must be -1 .* got -2"),
    (dict(winners=[0, True]), "winners must be integers"),
    (dict(winners=[0, -1], include_fallback=False), "winners has -1.*rules out"),
    (dict(include_fallback=None), "include_fallback must be a bool, got None"),
    (dict(winners="01"), "winners must be a list"),
    (dict(input_gen_fns={"y": print}), "'y' in input_gen_fns"),
    (dict(input_gen_fns={"x": 3}), r"input_gen_fns\['x'\] must be callable"),
    (dict(min_speedup_threshold=0), "min_speedup_threshold.*got 0"),
    (dict(min_speedup_threshold=-1.0), "min_speedup_threshold.*got -1.0"),
    (dict(min_speedup_threshold="2"), "min_speedup_threshold.*got '2'"),
    (dict(name=3), "name must be a string, got 3"),
]


class RegistrationTest(TestCase):
    def test_errors_name_the_argument(self):
        before = {**user_lowerings}
        for changes, message in WRONG_REGISTRATIONS:
            with (
                self.subTest(changes=changes),
                self.assertRaisesRegex((TypeError, ValueError), message),
            ):
                register_custom_op_autotuning(shift, **{**GOOD_REGISTRATION, **changes})
        self.assertEqual(user_lowerings, before)

    def test_not_an_op(self):
        with self.assertRaisesRegex(TypeError, "custom_op must be a CustomOpDef or"):
            register_custom_op_autotuning(shift_by, **GOOD_REGISTRATION)

    def test_ops_that_cannot_be_autotuned(self):
        for schema, message in (
            ("(Tensor x) -> int", "returns int; an op that is autotuned returns only"),
            ("(Tensor(a) x) -> Tensor(a)", "returns an alias of an argument"),
            ("(int n) -> Tensor", "has no tensor argument"),
        ):
            with (
                self.subTest(schema),
                torch.library._scoped_library("range_dispatch_bad", "FRAGMENT") as lib,
            ):
                lib.define(f"bad{schema}")
                op = torch.ops.range_dispatch_bad.bad.default
                with self.assertRaisesRegex(ValueError, f"custom_op.*bad.*{message}"):
                    register_custom_op_autotuning(
                        op, configs=[CustomOpConfig(shift_by)]
                    )

    def test_config_errors(self):
        with self.assertRaisesRegex(TypeError, "decomposition must be callable"):
            CustomOpConfig(3)
        with self.assertRaisesRegex(TypeError, "config_patches must be a dict"):
            CustomOpConfig(shift_by, config_patches=["max_autotune"])

    def test_register_again_and_unregister(self):
        op = shift._opoverload
        register_custom_op_autotuning(shift, **GOOD_REGISTRATION)
        first = user_lowerings[op]
        with self.assertLogs("torch._inductor.kernel.custom_op", "INFO") as logs:
            register_custom_op_autotuning(op, **GOOD_REGISTRATION)
        self.assertIn("replacing", logs.output[0])
        second = user_lowerings[op]
        self.assertIsNot(first, second)
        with custom_op_autotuning(shift, **GOOD_REGISTRATION):
            self.assertIsNot(user_lowerings[op], second)
        self.assertIs(user_lowerings[op], second)
        unregister_custom_op_autotuning(shift)
        self.assertNotIn(op, user_lowerings)
        with self.assertRaisesRegex(KeyError, "not registered"):
            unregister_custom_op_autotuning(shift)

    def test_public_names(self):
        for name in custom_op_module.__all__:
            self.assertTrue(hasattr(custom_op_module, name))
        for name in ("_range_based_lowering_fn", "DEFAULT_RANGE_UPPER_BOUND"):
            self.assertTrue(hasattr(custom_op_module, name))


if __name__ == "__main__":
    run_tests()
