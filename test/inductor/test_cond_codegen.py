# Owner(s): ["module: inductor"]
"""How kernels inside the branches of a cond are generated and tuned."""

import os
import re
import tempfile
import unittest
from unittest import mock

from _backend_rows import Compiled
from _backend_rows_codegen import (
    branch_bodies,
    called_in,
    combined_kernels,
    combining_on_cpu,
    kernel_sources,
)
from _generated_code import in_order_of_code
from _triton_on_cpu import DEVICE, HAS_TRITON, SKIP_REASON, triton_kernels

import torch
import torch._inductor.debug
from torch._inductor import config, ir
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import run_and_get_code


@torch.library.custom_op("cond_codegen_test::pick", mutates_args=())
def pick(x: torch.Tensor) -> torch.Tensor:
    return x.exp()


@torch.library.custom_op("cond_codegen_test::positive_twice", mutates_args=())
def positive_twice(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[x > 0], x[x > 0].unsqueeze(1).expand(-1, 3) * 2


pick.register_fake(torch.empty_like)


@positive_twice.register_fake
def _(x):
    size = torch.library.get_ctx().new_dynamic_size()
    return x.new_empty(size), x.new_empty(size, 3)


def sin(x):
    return x.sin()


def cos(x):
    return x.cos()


def with_row_sums(x):
    return x + x.view(x.shape[0], -1, 3).sum(-1).sum(1, keepdim=True)


def positive_sin(x):
    positive = x[x > 0]
    return positive.sin(), positive.unsqueeze(1).expand(-1, 3) * 3


def positive_cos(x):
    positive = x[x > 0]
    return positive.cos(), positive.unsqueeze(1).expand(-1, 3) * 4


def dispatched(op, *configs, winners=(0, 1)):
    return custom_op_autotuning(
        op,
        configs=[*configs],
        dispatch_on={"tensor_name": "x", "dim": 0},
        split_points=[8],
        winners=winners and list(winners),
    )


def cond_of_size(true_fn, false_fn):
    def model(x):
        return torch.cond(x.shape[0] <= 8, true_fn, false_fn, (x,))

    return model


class CondCodegenTestCase(TestCase):
    def compiled(self, model, *inputs):
        torch._dynamo.reset()
        function = torch.compile(model, dynamic=True, fullgraph=True)
        _, (code,) = run_and_get_code(function, *inputs)
        return Compiled([code], [], function)

    def check_at_sizes(self, result, model, width=6):
        for size in (3, 8, 9):
            x = torch.randn(size, width, device=DEVICE)
            self.assertEqual(result.function(x), model(x))


@torch.compiler.config.patch(force_disable_caches=True)
class CondCodegenTest(CondCodegenTestCase):
    def test_trace_has_the_ir_of_all_branches(self):
        model = cond_of_size(sin, cond_of_size(cos, torch.tanh))
        with (
            tempfile.TemporaryDirectory() as folder,
            config.patch({"trace.enabled": True, "trace.debug_dir": folder}),
        ):
            self.compiled(lambda x: model(x + 1) * 2, torch.randn(9, 6))
            texts = {}
            for path, _, names in os.walk(folder):
                for name in names:
                    with open(os.path.join(path, name)) as file:
                        texts[name] = file.read()
        for name in ("ir_pre_fusion.txt", "ir_post_fusion.txt"):
            self.assertTrue(texts[name].startswith("op0"))
            for op in ("ops.add", "ops.mul", "ops.sin", "ops.cos", "ops.tanh"):
                self.assertEqual(texts[name].count(f"= {op}("), 1, f"{name}: {op}")
            headings = re.findall("^# subgraph: (.*)$", texts[name], re.MULTILINE)
            self.assertGreaterEqual(len(headings), 3)
            self.assertEqual(len(headings), len({*headings}))

    def test_config_patches_reach_cpp_kernels(self):
        def patches(operation):
            targets = [getattr(node, "target", None) for node in operation.origins]
            if torch.ops.aten.sin.default in targets:
                return {"cpp.threads": 3, "cpp.min_chunk_size": 1}
            return {}

        with mock.patch.object(ir.Operation, "get_config_patches", patches):
            result = self.compiled(cond_of_size(sin, cos), torch.randn(9, 6))
        sources = kernel_sources(result).values()
        self.assertEqual(len(sources), 2)
        for source in sources:
            self.assertEqual("num_threads(3)" in source, ".sin()" in source)
        self.check_at_sizes(result, cond_of_size(sin, cos))

    def test_branch_is_lowered_with_its_config(self):
        def patch_true_branch(graph):
            branch = getattr(graph.owning_module, "true_graph_0", None)
            if branch is not None:
                patches = {"unroll_reductions_threshold": 1}
                branch.meta["inductor_config_patches"] = patches

        model = cond_of_size(with_row_sums, lambda x: with_row_sums(x) + 1)
        with config.patch(post_grad_custom_post_pass=patch_true_branch):
            result = self.compiled(model, torch.randn(9, 6))
        self.check_unrolled(result, in_order_of_code(False, True))
        self.check_at_sizes(result, model)

    def check_unrolled(self, result, expected):
        """Whether the sums of three are written out, by kernel."""
        sources = kernel_sources(result).values()
        loops = ["<static_cast<int64_t>(3L)" not in source for source in sources]
        self.assertEqual(loops, expected)

    def test_dispatched_branch_is_compiled_as_it_was_timed(self):
        patches = {"unroll_reductions_threshold": 1}
        patched = CustomOpConfig(with_row_sums, config_patches=patches)
        for winners, expected in (
            ((0, 1), in_order_of_code(False, True)),
            ((0, 0), [False]),
        ):
            with dispatched(
                pick, patched, CustomOpConfig(with_row_sums), winners=winners
            ):
                result = self.compiled(pick, torch.randn(9, 6))
                self.check_unrolled(result, expected)
                self.check_at_sizes(result, with_row_sums)

    @config.patch({"trace.provenance_tracking_level": 1})
    def test_provenance_tells_calls_of_one_kernel_apart(self):
        def twice(x):
            return torch.cond(
                x.shape[0] <= 8,
                lambda x: torch.cond(x.shape[0] <= 4, sin, cos, (x,)),
                sin,
                (x,),
            )

        result = self.compiled(twice, torch.randn(9, 6))
        self.assertEqual(len(kernel_sources(result)), 2)
        handles = re.findall(r"debug handles\] (\S+)", result.source)
        kernels = [handle.rpartition(":")[0] for handle in handles]
        self.assertEqual((len(kernels), len({*kernels}), len({*handles})), (3, 2, 3))

    def test_provenance_leaves_out_what_was_only_timed(self):
        mappings = []
        dump = torch._inductor.debug.dump_inductor_provenance_info

        def recorded():
            mappings.append(dump())
            return mappings[-1]

        with (
            dispatched(pick, CustomOpConfig(sin), CustomOpConfig(cos), winners=None),
            config.patch(
                {
                    "trace.provenance_tracking_level": 1,
                    "range_dispatch.tuning_seconds": 0.1,
                }
            ),
            mock.patch.object(
                torch._inductor.debug, "dump_inductor_provenance_info", recorded
            ),
        ):
            result = self.compiled(lambda x: pick(x + 1) * 2, torch.randn(9, 6))
        handles = re.findall(r"debug handles\] (\S+)", result.source)
        self.assertEqual(sorted(mappings[0]["cppCodeToPost"]), sorted(handles))

    def test_tuned_aten_op(self):
        def loops(self, mat2):
            return (self.unsqueeze(2) * mat2).sum(1)

        def plain(self, mat2):
            return torch.mm(self, mat2)

        w = torch.randn(6, 5)
        with (
            custom_op_autotuning(
                torch.ops.aten.mm.default,
                configs=[CustomOpConfig(loops), CustomOpConfig(plain)],
                dispatch_on={"tensor_name": "self", "dim": 0},
                split_points=[8],
            ),
            config.patch({"range_dispatch.tuning_seconds": 0.1}),
            record_dispatches() as records,
        ):
            result = self.compiled(lambda x: (x + 1) @ w * 2, torch.randn(9, 6))
            self.check_at_sizes(result, lambda x: (x + 1) @ w * 2)
        (record,) = records
        for row in record.ranges:
            self.assertEqual({*row.milliseconds}, {"loops", "plain", "fallback"})


@unittest.skipUnless(HAS_TRITON, SKIP_REASON)
class CondTritonCodegenTest(CondCodegenTestCase):
    def setUp(self):
        super().setUp()
        self.recorder = self.enterContext(triton_kernels())

    def launched(self):
        return {launch.kernel for launch in self.recorder.launches}

    @config.patch(benchmark_kernel=True)
    def test_benchmark_of_a_kernel_is_a_module(self):
        result = self.compiled(sin, torch.randn(9, 6, device=DEVICE))
        (source,) = kernel_sources(result).values()
        self.assertIn("def get_args():", source)

    @config.patch(combo_kernels=True, combo_kernel_peak_memory_pct_threshold=None)
    def test_combo_kernels_inside_of_branches(self):
        def model(x):
            return torch.cond(
                x.shape[0] <= 8,
                lambda x: (x.sin(), x[0] * 2),
                lambda x: (x.cos(), x[0] * 3),
                (x,),
            )

        with combining_on_cpu():
            result = self.compiled(model, torch.randn(9, 6, device=DEVICE))
        self.assertEqual(len(combined_kernels(result)), 2)
        self.check_at_sizes(result, model)
        self.assertEqual(combined_kernels(result), self.launched())

    @config.patch(combo_kernels=True, combo_kernel_peak_memory_pct_threshold=None)
    def test_combo_kernels_of_data_dependent_sizes(self):
        def due(x):
            first, second = (positive_sin if x.shape[0] <= 8 else positive_cos)(x)
            return first * 2, second + 1

        def model(x):
            first, second = positive_twice(x)
            return first * 2, second + 1

        configs = [CustomOpConfig(positive_sin), CustomOpConfig(positive_cos)]
        with dispatched(positive_twice, *configs), combining_on_cpu():
            result = self.compiled(model, torch.randn(9, 6, device=DEVICE))
            self.check_at_sizes(result, due)
        combined = combined_kernels(result)
        for body in branch_bodies(result).values():
            self.assertTrue(combined & {*called_in(body, result)})
        self.assertEqual(combined - self.launched(), set())


if __name__ == "__main__":
    run_tests()
