# Owner(s): ["module: inductor"]
"""What is fused into the branches of a dispatched op from around it.

The implementations differ in value, so that a result tells which branch ran.
"""

import re
import unittest
from unittest import mock

import pytest
from _fresh_test_case import FreshTestCase
from _fusion_checking import FusionCheckingTestCase
from _fusion_test_case import (
    alone,
    COLUMNS,
    DISPATCHED,
    factor,
    inputs,
    Ops,
    own,
    scale,
    scaled_own,
    SIZES,
    SPLIT_POINTS,
)
from _generated_code import run_and_get_graph_code
from _planted_times import planted_times
from _triton_on_cpu import DEVICE, HAS_TRITON, SKIP_REASON, triton_kernels

import torch
import torch.nn.functional as F
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch import explain
from torch._inductor.range_dispatch.lowering import region_lowering
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.test_case import run_tests
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    subtest,
)


def bias_and_activation(ops, a, b, w):
    return torch.relu(ops.scale(a, b) * 2 + w[0])


def several_outputs(ops, a, b, w):
    y = ops.scale(a, b)
    return y.relu() @ w, y.tanh(), y


def parts_of_a_tuple(ops, a, b, w):
    y, total = ops.scale_and_sum(a)
    return y / (total.abs() + 1)[:, None]


def one_part_is_read_elsewhere(ops, a, b, w):
    y, total = ops.scale_and_sum(a)
    return total + 1, y @ w


def reduction(ops, a, b, w):
    return (ops.scale(a, b) * 2).sum(-1)


def norm(ops, a, b, w):
    return F.layer_norm(ops.scale(a, b) + b, (COLUMNS,), w[0], w[1])


def cast(ops, a, b, w):
    return ops.scale(a, b).to(torch.float64) + 1


def views(ops, a, b, w):
    y = ops.scale(a, b)
    heads = y.view(-1, 4, COLUMNS // 4).transpose(1, 2)
    return heads.exp() + 1, y.t(), heads


def size_of_the_result(ops, a, b, w):
    y = ops.scale(a, b)
    return y.relu() * y.shape[0], torch.arange(y.shape[0]) + y[:, 0]


def size_of_a_view(ops, a, b, w):
    y = ops.scale(a, b).relu()
    return y.sum(-1), torch.ones(y.view(-1).shape[0])


def producers(ops, a, b, w):
    return ops.scale(torch.sigmoid(a) + 1, b.cos() * w[0])


def reduced_producer(ops, a, b, w):
    return ops.scale(a * torch.rsqrt((a * a).mean(-1, keepdim=True) + 1), b)


def part_of_a_tuple_that_stays(ops, a, b, w):
    variance, mean = torch.var_mean(a, -1, keepdim=True)
    product = mean @ w[:1]
    return ops.scale(a * variance, product).relu(), variance, product


def residual(ops, a, b, w):
    total = a + b
    return ops.scale(total, b) * w[0], total


def gate_that_is_read_twice(ops, a, b, w):
    gate = torch.sigmoid(b)
    return ops.scale(a * gate, b) * gate


def norms_on_both_sides(ops, a, b, w):
    normed = F.layer_norm(a, (COLUMNS,), w[0], w[1])
    return F.layer_norm(ops.scale(normed, b) + a, (COLUMNS,))


def lookup(ops, a, b, w):
    return ops.scale(a[torch.arange(a.shape[0]) // 2], b) + 1


def work_beside(ops, a, b, w):
    y = ops.scale(a, b)
    return y * (w * 2).sum(0) + a.sin()


def work_beside_that_is_read(ops, a, b, w):
    y = ops.scale(a, b)
    gate = (b @ w).sigmoid()
    return y * gate, gate


def input_is_written_later(ops, a, b, w):
    y = ops.scale(a, b)
    b.mul_(2)
    return y + b


def expanded(ops, a, b, w):
    return ops.scale(a, w.mean(0).expand(a.shape)) + 1


def chunks(ops, a, b, w):
    gate, up = ops.scale(a, b).chunk(2, -1)
    return F.silu(gate) * up


def chunks_of_an_argument(ops, a, b, w):
    gate, up = (a * 2).chunk(2, -1)
    return ops.scale(torch.sigmoid(gate) * up, b[:, : COLUMNS // 2])


def one_part_of_a_split_is_read_elsewhere(ops, a, b, w):
    q, k, v = ops.scale(a, b).relu().split([8, 8, 16], -1)
    return q.sin() + k.cos(), v @ w[:16]


def rotary(ops, a, b, w):
    q = ops.scale(a, b)
    first, second = q.view(-1, COLUMNS // 2, 2).unbind(-1)
    return q * w[0] + torch.cat([-second, first], -1) * w[1]


def concatenation(ops, a, b, w):
    return torch.cat([ops.scale(a, b).relu(), b.sin(), b @ w], -1) + 1


def flipped_and_repeated(ops, a, b, w):
    return ops.scale(a, b).flip(-1).repeat(1, 2)


def written_slices(ops, a, b, w):
    y = ops.scale(a, b)
    y[:, :4] = b[:, 4:8]
    y[:, 5] = 0
    y[0] *= 2
    return y, F.glu(y)


def embedding(ops, a, b, w):
    return ops.scale(a, F.embedding(a.argmax(-1), w))


def small_constants(ops, a, b, w):
    weights = torch.tensor([2.0, 3.0]).repeat(COLUMNS // 2)
    return ops.scale(a * torch.tensor(5.0), b) * weights


def rows_by_mask(ops, a, b, w):
    """All of them, which nothing but the data tells."""
    x = a[b[:, 0].isfinite()]
    return torch.relu(ops.scale(x.sin(), x) * w[0]) + x, x


def number_from_data(ops, a, b, w):
    number = b.isfinite().all().long().item() + 1
    return torch.relu(ops.scale(a.sin() * number, b) * number)


class ScaledByWeights(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(COLUMNS))
        self.bias = torch.nn.Buffer(torch.randn(1, COLUMNS))

    def computed_with(self, ops, a, b):
        return torch.relu(ops.scale(a.sin() * self.weight, b) + self.bias)

    def forward(self, a, b):
        return self.computed_with(DISPATCHED, a, b)


class ScaledByScalar(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(7.25))

    def forward(self, a, b):
        return scale(a, b) * self.factor


# With the nodes that every branch computes.
MODELS = [
    (bias_and_activation, 3),
    (several_outputs, 2),
    (parts_of_a_tuple, 3),
    (one_part_is_read_elsewhere, 1),
    (reduction, 2),
    (norm, None),
    (cast, 2),
    (views, 2),
    (size_of_the_result, 3),
    (size_of_a_view, 2),
    (producers, 4),
    (reduced_producer, 5),
    (part_of_a_tuple_that_stays, 2),
    (residual, 2),
    (gate_that_is_read_twice, 3),
    (norms_on_both_sides, None),
    (lookup, None),
    (work_beside, 5),
    (work_beside_that_is_read, 1),
    (input_is_written_later, 1),
    (expanded, 2),
    (chunks, None),
    (chunks_of_an_argument, 3),
    (one_part_of_a_split_is_read_elsewhere, 4),
    (rotary, 5),
    (concatenation, 4),
    (flipped_and_repeated, 2),
    (written_slices, None),
    (embedding, 2),
    (small_constants, None),
]


@instantiate_parametrized_tests
class FusedIntoBranchesTest(FusionCheckingTestCase):
    @parametrize("model, fused", [subtest(one, name=one[0].__name__) for one in MODELS])
    def test_python_wrapper(self, model, fused):
        lowered = mock.patch.object(
            region_lowering, "lower_group", wraps=region_lowering.lower_group
        )
        with lowered as lower, torch.no_grad():
            (record,) = self.compile_and_check(model)
        # A branch must not return one of its operands.
        for call in lower.call_args_list:
            region = call.args[0].fused.region
            self.assertFalse({*region.inputs} & {*region.outputs})
        self.assertEqual(record.branches, 3)
        self.assertTrue(record.fused)
        if fused is not None:
            self.assertEqual(len(record.fused), fused, record)

    @parametrize(
        "model", [producers, views, parts_of_a_tuple, work_beside_that_is_read]
    )
    def test_cpp_wrapper(self, model):
        with config.patch(cpp_wrapper=True), torch.no_grad():
            (record,) = self.compile_and_check(model)
        self.assertTrue(record.fused)

    @parametrize("cpp_wrapper", [False, True])
    @parametrize("model", [rows_by_mask, number_from_data])
    def test_sizes_that_depend_on_data(self, model, cpp_wrapper):
        settings = dict.fromkeys(
            ("capture_dynamic_output_shape_ops", "capture_scalar_outputs"), True
        )
        with (
            torch._dynamo.config.patch(settings),
            config.patch(cpp_wrapper=cpp_wrapper),
            torch.no_grad(),
        ):
            (record,) = self.compile_and_check(model)
        self.assertEqual(record.branches, 3)
        self.assertEqual(len(record.fused), 4, record)

    @parametrize("model", [producers, views, several_outputs, work_beside_that_is_read])
    def test_turned_off(self, model):
        with config.patch("range_dispatch.fuse", False), torch.no_grad():
            (record,) = self.compile_and_check(model)
        self.assertEqual(record.fused, ())

    def test_aot_inductor(self):
        model = ScaledByWeights().eval()
        rows = torch.export.Dim("rows", min=2, max=4096)
        with torch.no_grad():
            exported = torch.export.export(
                model, tuple(inputs(70)[:2]), dynamic_shapes=({0: rows}, {0: rows})
            )
            with record_dispatches() as records:
                path = torch._inductor.aoti_compile_and_package(exported)
            self.assertEqual(len(records[0].fused), 4)
            run = torch._inductor.aoti_load_package(path)
            for size in SIZES:
                a, b, _ = inputs(size)
                expected = model.computed_with(alone(factor(size)), a, b)
                self.assertEqual(run(a, b), expected, atol=1e-4, rtol=1e-4)

    def test_freezing(self):
        """Constants come where they are read, which may be after the op."""
        model = ScaledByWeights().eval()
        with torch.no_grad(), config.patch(freezing=True):
            compiled = torch.compile(model, dynamic=True)
            for size in SIZES:
                a, b, _ = inputs(size)
                expected = model.computed_with(alone(factor(size)), a, b)
                self.assertEqual(compiled(a, b), expected, atol=1e-4, rtol=1e-4)

    def test_size_that_is_known_is_inlined(self):
        """With one winner the graph is the same as without fusion."""
        codes = []
        for fuse in (True, False):
            torch._dynamo.reset()
            compiled = torch.compile(lambda *args: producers(DISPATCHED, *args))
            with config.patch("range_dispatch.fuse", fuse), torch.no_grad():
                given = inputs(9)
                actual, code = run_and_get_graph_code(compiled, *given)
            self.assertEqual(actual, producers(alone(2.0), *given))
            codes.append(code.count("async_compile.cpp_pybinding"))
        self.assertEqual(codes, [1, 1])

    def test_kernels_of_a_branch_hold_all(self):
        def model(ops, a, b, w):
            return torch.relu(ops.scale(a.sin(), b) * 2 + w[0])

        compiled = torch.compile(lambda *args: model(DISPATCHED, *args), dynamic=True)
        with torch.no_grad():
            _, code = run_and_get_graph_code(compiled, *inputs(70))
        kernels = code.split("async_compile.cpp_pybinding")[1:]
        self.assertEqual(len(kernels), 3)
        for kernel in kernels:
            self.assertIn(".sin()", kernel.partition("''')")[0])

    @parametrize("level", [0, 1])
    def test_provenance(self, level):
        """Kernels of branches are named after what is fused, and map to its nodes."""

        def model(ops, a, b, w):
            y = torch.relu(ops.scale(a.sin() * w[1], b) * 2 + w[0])
            return torch.relu(y @ w).sum(-1)

        configs = [
            CustomOpConfig(lambda x, y, k=k: torch.relu(x * k + y)) for k in (1, 2, 3)
        ]
        options = {"dispatch_on": {"tensor_name": "x", "dim": 0}, "winners": [0, 1, 2]}
        mappings = []
        dump = torch._inductor.debug.dump_inductor_provenance_info

        def recorded():
            mappings.append(dump())
            return mappings[-1]

        compiled = torch.compile(lambda *args: model(DISPATCHED, *args), dynamic=True)
        with (
            custom_op_autotuning(scale, configs, split_points=SPLIT_POINTS, **options),
            config.patch({"trace.provenance_tracking_level": level}),
            mock.patch.object(
                torch._inductor.debug, "dump_inductor_provenance_info", recorded
            ),
            record_dispatches() as records,
            torch.no_grad(),
        ):
            _, code = run_and_get_graph_code(compiled, *inputs(70))
        kernels = re.findall(r"^(cpp_fused_\w+) = async_compile", code, re.MULTILINE)
        last, *of_branches = kernels
        self.assertEqual(len(of_branches), 3)
        for kernel in of_branches:
            for name in ("add", "mul", "relu", "sin", "scale"):
                self.assertIn(f"_{name}_", kernel)
        if level:
            mapping = mappings[0]["postToCppCode"]

            def computed_by(node):
                return [kernel.partition(":")[0] for kernel in mapping[node]]

            self.assertIn("relu", records[0].fused)
            for node in records[0].fused:
                self.assertEqual(computed_by(node), of_branches)
            # The implementations have nodes of that name.
            self.assertEqual(computed_by("relu_1"), [last])

    def test_extra_operands_are_freed(self):
        """What only the branches read is let go when they have read it."""

        def model(ops, a, b, w):
            y = torch.relu(ops.scale(a, b) * (b @ w))
            return (y @ w) @ w

        compiled = torch.compile(lambda *args: model(DISPATCHED, *args), dynamic=True)
        with torch.no_grad():
            actual, code = run_and_get_graph_code(compiled, *inputs(70))
        self.assertEqual(actual, model(alone(3.0), *inputs(70)), atol=1e-2, rtol=1e-3)
        main = code.partition("def call(self, args):")[2]
        operand = re.search(r"mm\(arg\d+_1, arg\d+_1, out=(buf\d+)\)", main)[1]
        products = main.partition("if ")[2]
        self.assertIn(f"= {operand}; del {operand}  # reuse", products)
        for body in re.findall(
            r"^def .*_branch_\d\(args\):\n(.*?)\n\n", code, re.MULTILINE | re.DOTALL
        ):
            for argument in re.findall(r"\w+_arg[0-2]_1", body.partition("args")[0]):
                self.assertIn(f"del {argument}\n", body)

    def test_surroundings_that_differ_in_a_constant(self):
        """Small ones are written into the kernels: branches are not shared."""

        class Scaled(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.factors = torch.nn.ParameterList(
                    torch.nn.Parameter(torch.tensor(k)) for k in (2.0, 3.0)
                )

            def computed_with(self, ops, a, b):
                return [ops.scale(a, b @ b.t() @ a) * k for k in self.factors]

            def forward(self, a, b):
                return self.computed_with(DISPATCHED, a, b)

        model = Scaled().eval()
        with torch.no_grad(), config.patch(freezing=True):
            compiled = torch.compile(model, dynamic=True)
            for size in SIZES:
                a, b, _ = inputs(size)
                expected = model.computed_with(alone(factor(size)), a, b)
                self.assertEqual(compiled(a, b), expected, atol=1e-3, rtol=1e-3)
            compiled = torch.compile(ScaledByScalar().eval(), dynamic=True)
            _, code = run_and_get_graph_code(compiled, *inputs(70)[:2])
        self.assertGreaterEqual(code.count("static_cast<float>(7.25)"), 3)
        self.assertNotIn("_frozen_param", code)

    def test_equal_surroundings_share_branches(self):
        def model(ops, a, b, w):
            for _ in range(3):
                a = (ops.scale(a.sin(), b) @ w).relu()
            return a

        compiled = torch.compile(lambda *args: model(DISPATCHED, *args), dynamic=True)
        with torch.no_grad(), record_dispatches() as records:
            actual, code = run_and_get_graph_code(compiled, *inputs(70))
        self.assertEqual(actual, model(alone(3.0), *inputs(70)), atol=1e-2, rtol=1e-3)
        self.assertEqual([len(one.fused) for one in records], [1, 2, 2])
        kernels = code.count("async_compile.cpp_pybinding")
        self.assertEqual(
            kernels, 3 + 3 + 1, "one set each for the first and the others"
        )

    def test_training(self):
        """The backward graph has what the forward graph hands on."""

        def model(ops, a, b, w):
            return torch.sigmoid(ops.scale(a.sin(), b) * w[0]).sum()

        class Reference(torch.autograd.Function):
            @staticmethod
            def forward(context, x, y, k):
                return x * k + y

            @staticmethod
            def backward(context, grad):
                return grad * 5, grad, None

        def eager(k):
            return Ops(lambda x, y: Reference.apply(x, y, k), None, None)

        compiled = torch.compile(lambda *args: model(DISPATCHED, *args), dynamic=True)
        for size in SIZES:
            gradients = []
            for run in (compiled, lambda *args: model(eager(factor(size)), *args)):
                given = [x.requires_grad_() for x in inputs(size)]
                run(*given).backward()
                gradients.append([x.grad for x in given])
            self.assertEqual(*gradients, atol=1e-4, rtol=1e-4)


class NotFusedTest(FusionCheckingTestCase):
    """Where a region ends, and that it says why."""

    def refusals(self, model):
        (record, *_) = self.compile_and_check(model)
        return dict(record.not_fused)

    def assert_refused(self, model, reason):
        with torch.no_grad():
            reasons = self.refusals(model)
        self.assertTrue(any(reason in why for why in reasons.values()), reasons)

    def test_matmul(self):
        def model(ops, a, b, w):
            return ops.scale(a, b).relu() @ w

        self.assert_refused(model, "neither pointwise, a view nor a reduction")

    def test_random_numbers(self):
        def model(ops, a, b, w):
            y = ops.scale(a, b).relu()
            return y, torch.bernoulli(y.sigmoid()) * 0

        self.assert_refused(model, "it is random")

    def test_producer_that_was_read_before(self):
        def model(ops, a, b, w):
            shared = a.sin()
            product = shared @ w
            return ops.scale(shared, product).relu(), product

        self.assert_refused(model, "others read it before the op is done")

    def test_op_that_writes_to_its_argument(self):
        def model(ops, a, b, w):
            return ops.scale_into(a).relu(), a * 2

        with torch.no_grad():
            (record,) = self.compile_and_check(model)
        self.assertEqual(record.fused, ())

    def test_limit(self):
        def model(ops, a, b, w):
            y = ops.scale(a, b)
            for _ in range(5):
                y = y.sin()
            return y

        with config.patch("range_dispatch.max_fused_nodes", 3), torch.no_grad():
            (record,) = self.compile_and_check(model)
        self.assertEqual(len(record.fused), 3)
        self.assertIn("max_fused_nodes", record.not_fused[0][1])
        with config.patch("range_dispatch.max_fused_nodes", 0), torch.no_grad():
            torch._dynamo.reset()
            (record,) = self.compile_and_check(model)
        self.assertEqual(record.fused, ())

    def test_limit_that_is_no_number(self):
        with (
            config.patch("range_dispatch.max_fused_nodes", -1),
            self.assertRaisesRegex(Exception, "max_fused_nodes must be how many"),
        ):
            self.compile_and_check(bias_and_activation)

    def test_explained(self):
        compiled = torch.compile(
            lambda *args: several_outputs(DISPATCHED, *args), dynamic=True
        )
        with torch.no_grad():
            text = str(explain(compiled, *inputs(9)))
        self.assertIn("fused into each branch: relu, tanh", text)
        self.assertIn("not fused: mm, as it is neither", text)


class TunedWithWhatIsFusedTest(FreshTestCase):
    @parametrize("tune_fused", [True, False])
    def test_timed_inputs(self, tune_fused):
        """What the branches read besides is an input of what is timed."""
        given = []

        def milliseconds(candidate, operands):
            given.append([tuple(x.shape) for x in operands if hasattr(x, "shape")])
            is_fast = ("k" in candidate.params) == (operands[0].shape[0] > 8)
            return 1.0 if is_fast else 2.0

        configs = [
            CustomOpConfig(scaled_own, k=3.0),
            CustomOpConfig(lambda x: x + x + x),
        ]
        dispatch_on = {"tensor_name": "x", "dim": 0}
        with (
            custom_op_autotuning(
                own, configs, dispatch_on=dispatch_on, split_points=[8]
            ),
            config.patch("range_dispatch.tune_fused", tune_fused),
            planted_times(milliseconds),
            record_dispatches() as records,
            torch.no_grad(),
        ):
            compiled = torch.compile(lambda a, w: own(a) * w, dynamic=True)
            a, _, w = inputs(70)
            self.assertEqual(compiled(a, w[0]), a * 3 * w[0])
        self.assertEqual(records[0].branches, 2)
        self.assertEqual(len(records[0].fused), 1)
        self.assertTrue(given)
        for shapes in given:
            self.assertEqual(len(shapes), 1 + tune_fused)


instantiate_parametrized_tests(TunedWithWhatIsFusedTest)


@unittest.skipUnless(HAS_TRITON, SKIP_REASON)
@instantiate_parametrized_tests
class TritonKernelsTest(FusionCheckingTestCase):
    @parametrize(
        "model",
        [
            bias_and_activation,
            parts_of_a_tuple,
            producers,
            residual,
            gate_that_is_read_twice,
            norms_on_both_sides,
            reduction,
            work_beside,
        ],
    )
    @parametrize("fx_wrapper", [False, subtest(True, decorators=[pytest.mark.slow])])
    def test_as_many_launches_as_one_implementation(self, model, fx_wrapper):
        settings = config.patch(fx_wrapper=fx_wrapper)
        with triton_kernels() as launched, settings, torch.no_grad():
            plain = torch.compile(lambda *args: model(alone(1.0), *args), dynamic=True)
            plain(*inputs(70, DEVICE))
            (record,) = self.compile_and_check(model, DEVICE)
            self.assertEqual(record.branches, 3)
            compiled = torch.compile(
                lambda *args: model(DISPATCHED, *args), dynamic=True
            )
            compiled(*inputs(70, DEVICE))
            for size in SIZES:
                given = inputs(size, DEVICE)
                expected = launched.kernels_run_by(lambda: plain(*given))
                actual = launched.kernels_run_by(lambda: compiled(*given))
                self.assertEqual(len(actual), len(expected), (actual, expected))

    def test_source_has_the_epilogue(self):
        with triton_kernels(), torch.no_grad():
            compiled = torch.compile(
                lambda a, b: torch.tanh(scale(a.sin(), b)), dynamic=True
            )
            a, b, _ = inputs(70, DEVICE)
            _, code = run_and_get_graph_code(compiled, a, b)
        sources = code.split("@triton.jit")[1:]
        self.assertEqual(len(sources), 3)
        for source in sources:
            self.assertIn("sin", source)
            self.assertIn("tanh", source)


if __name__ == "__main__":
    run_tests()
