# Owner(s): ["module: inductor"]
"""How kernels inside the branches of a cond are generated and tuned."""

import os
import re
import tempfile
import unittest
from unittest import mock

from _generated_code import (
    combined_kernels,
    combining_on_cpu,
    Generated,
    kernel_sources,
    run_and_get_graph_code,
)
from _triton_on_cpu import DEVICE, HAS_TRITON, SKIP_REASON, triton_kernels

import torch
from torch._inductor import config, ir
from torch._inductor.test_case import run_tests, TestCase


def sin(x):
    return x.sin()


def cos(x):
    return x.cos()


def cond_of_size(true_fn, false_fn):
    def model(x):
        return torch.cond(x.shape[0] <= 8, true_fn, false_fn, (x,))

    return model


class CondCodegenTestCase(TestCase):
    def compiled(self, model, *inputs):
        torch._dynamo.reset()
        function = torch.compile(model, dynamic=True, fullgraph=True)
        _, code = run_and_get_graph_code(function, *inputs)
        return Generated([code], function)

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


class TritonTestCase(CondCodegenTestCase):
    def setUp(self):
        super().setUp()
        self.recorder = self.enterContext(triton_kernels())

    def launched(self):
        return {launch.kernel for launch in self.recorder.launches}


@unittest.skipUnless(HAS_TRITON, SKIP_REASON)
class CondTritonCodegenTest(TritonTestCase):
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


if __name__ == "__main__":
    run_tests()
