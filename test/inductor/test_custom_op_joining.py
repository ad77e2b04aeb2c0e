# Owner(s): ["module: inductor"]
"""Dispatched ops that follow one another: one cond for all of them.

The implementations differ in value, so that a result tells which branch ran.
"""

import re
import unittest

import pytest
from _fresh_test_case import FreshTestCase
from _fusion_checking import FusionCheckingTestCase
from _fusion_test_case import (
    alone,
    alone_at,
    DISPATCHED,
    inputs,
    Ops,
    own,
    scale,
    scale_and_sum,
    scaled,
    scaled_and_summed,
    scaled_own,
    SIZES,
    SPLIT_POINTS,
)
from _generated_code import run_and_get_graph_code
from _planted_times import planted_times
from _triton_on_cpu import DEVICE, HAS_TRITON, SKIP_REASON, triton_kernels

import torch
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch import explain, live_counts, reset_counts
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.test_case import run_tests
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    subtest,
)


ROWS = {"tensor_name": "x", "dim": 0}


def directly(ops, a, b, w):
    return ops.scale(ops.scale(a, b), b)


def through_pointwise_work(ops, a, b, w):
    y = ops.scale(ops.scale(a.sin(), b).relu(), b.cos())
    return y.tanh() + w[0]


def into_a_tuple(ops, a, b, w):
    y, total = ops.scale_and_sum(ops.scale(a, b) * 2)
    return y / (total.abs() + 1)[:, None], total


def out_of_a_tuple(ops, a, b, w):
    y, total = ops.scale_and_sum(a)
    return ops.scale(y + total[:, None], y), y


def several(ops, a, b, w):
    for _ in range(4):
        a = ops.scale(a.sin(), b).relu()
    return a


def read_by_two(ops, a, b, w):
    y = ops.scale(a, b)
    z = ops.scale(y, b)
    return ops.scale(y.relu(), z) + z, y


def through_views(ops, a, b, w):
    y = ops.scale(a, b)
    heads = y.view(-1, 4, 8).transpose(1, 2).reshape(y.shape)
    return ops.scale(heads, b).view(-1), y.t()


def with_a_product_beside(ops, a, b, w):
    y = ops.scale(a, b)
    gate = (b @ w).sin()
    return ops.scale(y, gate) + gate.sum(), gate


def argument_is_written_between(ops, a, b, w):
    y = ops.scale(a, b)
    b.mul_(2)
    return ops.scale(y, b)


# With how many ops share the branches, and how many nodes are fused around them.
MODELS = [
    (directly, 2, 0),
    (through_pointwise_work, 2, 5),
    (into_a_tuple, 2, 4),
    (out_of_a_tuple, 2, 1),
    (several, 4, 8),
    (read_by_two, 3, 2),
    (through_views, 2, 1),
    (with_a_product_beside, 2, 2),
    (argument_is_written_between, 2, 0),
]


class Chained(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(inputs(2)[0].shape[1]))

    def computed_with(self, ops, a, b):
        return ops.scale(ops.scale(a.sin(), b).relu() * self.weight, b) + self.weight

    def forward(self, a, b):
        return self.computed_with(DISPATCHED, a, b)


def count_kernels(code):
    return code.count("async_compile.cpp_pybinding")


@instantiate_parametrized_tests
class JoinedTest(FusionCheckingTestCase):
    def assert_joined(self, records, ops, branches=3):
        self.assertEqual(len(records), ops)
        for record in records:
            self.assertEqual(record.together, records[0].together)
            self.assertEqual(record.branches, branches)
        self.assertEqual(len(records[0].together), ops)

    @parametrize(
        "model, ops, fused", [subtest(one, name=one[0].__name__) for one in MODELS]
    )
    def test_python_wrapper(self, model, ops, fused):
        with torch.no_grad():
            records = self.compile_and_check(model)
        self.assert_joined(records, ops)
        self.assertEqual(len(records[0].fused), fused, records[0])

    @parametrize(
        "model",
        [
            through_pointwise_work,
            subtest(out_of_a_tuple, decorators=[pytest.mark.slow]),
            subtest(several, decorators=[pytest.mark.slow]),
        ],
    )
    def test_cpp_wrapper(self, model):
        with config.patch(cpp_wrapper=True), torch.no_grad():
            records = self.compile_and_check(model)
        self.assert_joined(records, len(records))

    @parametrize("cpp_wrapper", [False, True])
    def test_sizes_that_depend_on_data(self, cpp_wrapper):
        def model(ops, a, b, w):
            x = a[b[:, 0].isfinite()]
            y, total = ops.scale_and_sum(ops.scale(x.sin(), x).relu())
            return y + x, total

        settings = {"capture_dynamic_output_shape_ops": True}
        with (
            torch._dynamo.config.patch(settings),
            config.patch(cpp_wrapper=cpp_wrapper),
            torch.no_grad(),
        ):
            records = self.compile_and_check(model)
        self.assert_joined(records, 2)

    @parametrize("model", [directly, through_pointwise_work, into_a_tuple, several])
    def test_one_kernel_and_one_decision(self, model):
        compiled = torch.compile(lambda *args: model(DISPATCHED, *args), dynamic=True)
        with torch.no_grad():
            _, code = run_and_get_graph_code(compiled, *inputs(70))
        self.assertEqual(count_kernels(code), 3)
        body = code.partition("def call(")[2].partition("return (")[0]
        # Whether the size is up to the first split point, and if not, to the second.
        self.assertEqual(len(re.findall("^ +if ", body, re.MULTILINE)), 2, body)

    def test_other_winners_of_each(self):
        """A branch for each pair that occurs, and the right pair at each size."""

        def expected(size):
            first, second = (size > 64) + 1.0, (size > 8) + 1.0
            return Ops(
                lambda x, y: scaled(x, y, first),
                lambda x: scaled_and_summed(x, second),
                None,
            )

        configs = [CustomOpConfig(scaled, k=float(k)) for k in (1, 2)]
        other = [CustomOpConfig(scaled_and_summed, k=float(k)) for k in (1, 2)]
        options = {"dispatch_on": ROWS, "split_points": SPLIT_POINTS}
        with (
            custom_op_autotuning(scale, configs, winners=[0, 0, 1], **options),
            custom_op_autotuning(scale_and_sum, other, winners=[0, 1, 1], **options),
            torch.no_grad(),
        ):
            records = self.compile_and_check(into_a_tuple, expected_ops=expected)
        self.assert_joined(records, 2)
        winners = [one.branch_winners for one in records]
        self.assertEqual(
            winners,
            [
                ("scaled(k=1.0)", "scaled(k=1.0)", "scaled(k=2.0)"),
                (
                    "scaled_and_summed(k=1.0)",
                    "scaled_and_summed(k=2.0)",
                    "scaled_and_summed(k=2.0)",
                ),
            ],
        )

    @parametrize("single", ["first", "second", "both"])
    def test_one_winner(self, single):
        """An op with one winner goes into the branches of the other."""
        firsts = [0, 0, 0] if single in ("first", "both") else [0, 1, 1]
        seconds = [0, 0, 0] if single in ("second", "both") else [0, 1, 1]

        def expected(size):
            index = (size > 8) + (size > 64)
            return Ops(
                lambda x, y: scaled(x, y, firsts[index] + 1.0),
                lambda x: scaled_and_summed(x, seconds[index] + 1.0),
                None,
            )

        configs = [CustomOpConfig(scaled, k=float(k)) for k in (1, 2)]
        other = [CustomOpConfig(scaled_and_summed, k=float(k)) for k in (1, 2)]
        options = {"dispatch_on": ROWS, "split_points": SPLIT_POINTS}
        with (
            custom_op_autotuning(scale, configs, winners=firsts, **options),
            custom_op_autotuning(scale_and_sum, other, winners=seconds, **options),
            torch.no_grad(),
        ):
            records = self.compile_and_check(into_a_tuple, expected_ops=expected)
        if single == "both":
            self.assertEqual([one.branches for one in records], [1, 1])
            self.assertEqual([one.together for one in records], [(), ()])
        else:
            self.assert_joined(records, 2, branches=2)

    @parametrize("cpp_wrapper", [False, True])
    def test_op_itself_wins(self, cpp_wrapper):
        """In a branch it is called, and not dispatched again."""
        configs = [CustomOpConfig(scaled_own, k=5.0)]
        with (
            custom_op_autotuning(
                own, configs, dispatch_on=ROWS, split_points=[8], winners=[0, -1]
            ),
            torch.no_grad(),
            config.patch(cpp_wrapper=cpp_wrapper),
            record_dispatches() as records,
        ):
            compiled = torch.compile(lambda a: own(own(a).sin()) + 1, dynamic=True)
            for size in SIZES:
                a = inputs(size)[0]
                k = 5 if size <= 8 else 3
                self.assertEqual(compiled(a), (a * k).sin() * k + 1)
        self.assert_joined(records, 2, branches=2)

    def test_constants_of_the_same_name(self):
        """Tracing names what implementations close over alike."""
        first, second = torch.randn(2, inputs(2)[0].shape[1]).unbind()

        def constants(*weights):
            return [
                CustomOpConfig(lambda x, y, w=w, k=k: x * w + y * k)
                for k, w in enumerate(weights)
            ]

        options = {"dispatch_on": ROWS, "winners": [0, 1], "split_points": [8]}
        other = [
            CustomOpConfig(lambda x, k=k: (x * second + k, (x * k).sum(-1)))
            for k in range(2)
        ]

        def expected(size):
            k = float(size > 8)
            w = second if k else first
            return Ops(
                lambda x, y: x * w + y * k,
                lambda x: (x * second + k, (x * k).sum(-1)),
                None,
            )

        with (
            custom_op_autotuning(scale, constants(first, second), **options),
            custom_op_autotuning(scale_and_sum, other, **options),
            torch.no_grad(),
        ):
            records = self.compile_and_check(into_a_tuple, expected_ops=expected)
        self.assert_joined(records, 2, branches=2)

    def test_aot_inductor(self):
        model = Chained().eval()
        rows = torch.export.Dim("rows", min=2, max=4096)
        with torch.no_grad():
            exported = torch.export.export(
                model, tuple(inputs(70)[:2]), dynamic_shapes=({0: rows}, {0: rows})
            )
            with record_dispatches() as records:
                path = torch._inductor.aoti_compile_and_package(exported)
            self.assert_joined(records, 2)
            run = torch._inductor.aoti_load_package(path)
            for size in SIZES:
                a, b, _ = inputs(size)
                expected = model.computed_with(alone_at(size), a, b)
                self.assertEqual(run(a, b), expected, atol=1e-4, rtol=1e-4)

    def test_training(self):
        class Reference(torch.autograd.Function):
            @staticmethod
            def forward(context, x, y, k):
                return x * k + y

            @staticmethod
            def backward(context, grad):
                return grad * 5, grad, None

        def reference(size):
            k = alone_at(size).scale(torch.ones(1), torch.zeros(1)).item()
            return Ops(lambda x, y: Reference.apply(x, y, k), None, None)

        def loss(ops, a, b, w):
            return through_pointwise_work(ops, a, b, w).sum()

        compiled = torch.compile(lambda *args: loss(DISPATCHED, *args), dynamic=True)
        with record_dispatches() as records:
            for size in SIZES:
                gradients = []
                for run in (compiled, lambda *args: loss(reference(size), *args)):
                    given = [x.requires_grad_() for x in inputs(size)]
                    run(*given).backward()
                    gradients.append([x.grad for x in given])
                self.assertEqual(*gradients, atol=1e-4, rtol=1e-4)
        self.assert_joined(records, 2)

    def test_counted_and_explained(self):
        """Each op counts by itself, and says that it shares the branches."""
        reset_counts()
        with config.patch("range_dispatch.count_calls", 1), torch.no_grad():
            compiled = torch.compile(
                lambda *args: into_a_tuple(DISPATCHED, *args), dynamic=True
            )
            for size in SIZES:
                compiled(*inputs(size))
            first, second = explain(compiled, *inputs(9))
        for one, op in ((first, "fusion.scale.default"), (second, "scale_and_sum")):
            self.assertIn(op, one.op)
            self.assertEqual((one.branch, one.number), (1, 1))
            self.assertIn("branches shared by: scale, scale_and_sum", str(one))
        for op in (scale, scale_and_sum):
            (count,) = live_counts(op)
            self.assertEqual([*count.branches.values()], [2, 3, 2])
            self.assertEqual({*count.sizes}, {(size,) for size in SIZES})

    def test_cached_graph(self):
        """What comes from a cache decides and explains as before."""
        with torch.no_grad(), config.patch(fx_graph_cache=True):
            for _ in range(2):
                torch._dynamo.reset()
                compiled = torch.compile(
                    lambda *args: into_a_tuple(DISPATCHED, *args), dynamic=True
                )
                for size in SIZES:
                    actual = compiled(*inputs(size))
                    expected = into_a_tuple(alone_at(size), *inputs(size))
                    self.assertEqual(actual, expected, atol=1e-4, rtol=1e-4)
                self.assertIn("shared by", str(explain(compiled, *inputs(9))))

    def test_several_sizes(self):
        """Ops that are dispatched on a grid of the same cells."""
        grid = [ROWS, {"tensor_name": "x", "dim": 1}]
        configs = [CustomOpConfig(scaled, k=float(k)) for k in range(1, 5)]
        with (
            custom_op_autotuning(
                scale,
                configs,
                dispatch_on=grid,
                split_points=[[8], [16]],
                winners=[0, 1, 2, 3],
            ),
            torch.no_grad(),
            record_dispatches() as records,
        ):
            compiled = torch.compile(
                lambda a, b: directly(DISPATCHED, a, b, None), dynamic=True
            )
            for rows in (7, 8, 9):
                for columns in (15, 16, 17):
                    a, b = torch.randn(2, rows, columns).unbind()
                    k = 1.0 + 2 * (rows > 8) + (columns > 16)
                    expected = directly(alone(k), a, b, None)
                    self.assertEqual(compiled(a, b), expected, atol=1e-4, rtol=1e-4)
        self.assert_joined(records, 2, branches=4)


class NotJoinedTest(FusionCheckingTestCase):
    """Where ops keep conds of their own, and that they say why."""

    def assert_refused(self, reason, model=into_a_tuple, **options):
        with torch.no_grad():
            first, second = self.compile_and_check(model, **options)
        self.assertEqual(len(first.together), 1)
        self.assertLess(len(second.together), 2)
        reasons = dict(first.not_fused)
        self.assertTrue(any(reason in why for why in reasons.values()), reasons)

    def register(self, op=scale_and_sum, configs=None, **options):
        if configs is None:
            configs = [CustomOpConfig(scaled_and_summed, k=float(k)) for k in (1, 2, 3)]
        options.setdefault("dispatch_on", ROWS)
        options.setdefault("split_points", SPLIT_POINTS)
        options.setdefault("winners", [0, 1, 2])
        self.enterContext(custom_op_autotuning(op, configs, **options))

    def test_other_split_points(self):
        self.register(split_points=[7, 64])

        def expected(size):
            second = 1.0 + (size > 7) + (size > 64)
            ops = alone_at(size)
            return ops._replace(scale_and_sum=alone(second).scale_and_sum)

        self.assert_refused("other split points", expected_ops=expected)

    def test_other_size(self):
        self.register(dispatch_on={"size": lambda x: x[0] * 2})

        def expected(size):
            ops = alone_at(size)
            return ops._replace(scale_and_sum=alone_at(size * 2).scale_and_sum)

        self.assert_refused("other sizes", expected_ops=expected)

    def test_without_ranges(self):
        self.register(dispatch_on=None, split_points=None, winners=[1])

        def expected(size):
            return alone_at(size)._replace(scale_and_sum=alone(2.0).scale_and_sum)

        self.assert_refused("without ranges", expected_ops=expected)

    def test_matmul_between(self):
        def model(ops, a, b, w):
            return ops.scale(ops.scale(a, b) @ w, b)

        self.assert_refused("neither pointwise, a view nor a reduction", model)

    def test_too_large(self):
        """The implementations' operations count, those of graphs that they call too."""
        for limit, ops in ((9, 2), (8, 1)):
            torch._dynamo.reset()
            with config.patch("range_dispatch.max_fused_nodes", limit):
                with torch.no_grad():
                    first, second = self.compile_and_check(into_a_tuple)
            self.assertEqual([len(first.together), len(second.together)], [ops, ops])
        self.assertIn("would have 9 operations", str(first.not_fused))

    def test_config_patches(self):
        self.register(
            configs=[
                CustomOpConfig(
                    scaled_and_summed,
                    k=float(k),
                    config_patches={"max_fusion_size": 10 + k},
                )
                for k in (1, 2, 3)
            ]
        )
        self.assert_refused("config patches of their own")

    @pytest.mark.slow
    def test_implementation_that_calls_a_dispatched_op(self):
        zeros = torch.zeros(1)
        self.register(
            configs=[
                CustomOpConfig(
                    lambda x, k=k: (scale(x, zeros) * k, (x * k).sum(-1)),
                )
                for k in (1, 2, 3)
            ]
        )

        def expected(size):
            ops = alone_at(size)
            k = alone_at(size).scale(torch.ones(1), torch.zeros(1)).item()
            return ops._replace(
                scale_and_sum=lambda x: (x * k * k, (x * k).sum(-1)),
            )

        with torch.no_grad():
            records = self.compile_and_check(into_a_tuple, expected_ops=expected)
        self.assertIn("an implementation calls fusion.scale", str(records[0].not_fused))

    def test_partitioned_op(self):
        name = "fusion::scale_and_sum"
        with config.patch(custom_should_partition_ops=[name], graph_partition=True):
            self.assert_refused("out of captured graphs")

    def test_turned_off(self):
        with config.patch("range_dispatch.fuse", False), torch.no_grad():
            records = self.compile_and_check(into_a_tuple)
        self.assertEqual([one.together for one in records], [(), ()])

    def test_op_that_writes_to_its_argument(self):
        def model(ops, a, b, w):
            return ops.scale_into(ops.scale(a, b).relu())

        with torch.no_grad():
            records = self.compile_and_check(model)
        self.assertEqual([len(one.together) for one in records], [1, 0])


class TunedTest(FreshTestCase):
    @parametrize("split_points", [[8], "auto"])
    def test_each_by_itself(self, split_points):
        """Winners of both are timed, with what is fused around each."""
        read_besides = []

        def milliseconds(candidate, operands):
            shapes = [x.shape for x in operands if isinstance(x, torch.Tensor)]
            (size,) = (shape[0] for shape in shapes if len(shape) == 2)
            read_besides.append(sum(len(shape) == 1 for shape in shapes))
            return 1.0 if candidate.params["k"] == (5 if size <= 8 else 3) else 10.0

        configs = [CustomOpConfig(scaled_own, k=float(k)) for k in (3, 5)]
        dispatch_on = ROWS
        if split_points == "auto":
            dispatch_on = {**ROWS, "min": 1, "max": 64, "precision": 0.01}
        with (
            custom_op_autotuning(
                own,
                configs,
                dispatch_on=dispatch_on,
                split_points=split_points,
                include_fallback=False,
            ),
            planted_times(milliseconds),
            record_dispatches() as records,
            torch.no_grad(),
        ):
            compiled = torch.compile(lambda a, u, v: own(own(a) * u) + v, dynamic=True)
            for size in (70, 7, 8, 9):
                a, _, (u, v, *_) = inputs(size)
                k = 5 if size <= 8 else 3
                self.assertEqual(compiled(a, u, v), a * k * u * k + v)
        self.assertEqual([len(one.together) for one in records], [2, 2])
        self.assertEqual([one.branches for one in records], [2, 2])
        for record in records:
            (first, second) = record.ranges
            self.assertTrue(first.milliseconds and second.milliseconds)
        # The first op reads one vector, the second that one too and its own.
        self.assertEqual({*read_besides}, {1, 2})


instantiate_parametrized_tests(TunedTest)


@unittest.skipUnless(HAS_TRITON, SKIP_REASON)
@instantiate_parametrized_tests
class TritonKernelsTest(FusionCheckingTestCase):
    @parametrize(
        "model", [directly, through_pointwise_work, into_a_tuple, out_of_a_tuple]
    )
    @parametrize("fx_wrapper", [False, subtest(True, decorators=[pytest.mark.slow])])
    def test_as_many_launches_as_one_implementation(self, model, fx_wrapper):
        settings = config.patch(fx_wrapper=fx_wrapper)
        with triton_kernels() as launched, settings, torch.no_grad():
            plain = torch.compile(lambda *args: model(alone(1.0), *args), dynamic=True)
            plain(*inputs(70, DEVICE))
            records = self.compile_and_check(model, DEVICE)
            self.assertEqual([len(one.together) for one in records], [2, 2])
            compiled = torch.compile(
                lambda *args: model(DISPATCHED, *args), dynamic=True
            )
            compiled(*inputs(70, DEVICE))
            for size in SIZES:
                given = inputs(size, DEVICE)
                expected = launched.kernels_run_by(lambda: plain(*given))
                actual = launched.kernels_run_by(lambda: compiled(*given))
                self.assertEqual(len(actual), len(expected), (actual, expected))


if __name__ == "__main__":
    run_tests()
