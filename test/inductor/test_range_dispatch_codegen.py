# Owner(s): ["module: inductor"]
"""How the branches of a dispatch are lowered, and their kernels generated and tuned."""

import re
import unittest
from unittest import mock

from _generated_code import branch_bodies, called_in, combined_kernels, combining_on_cpu
from _triton_on_cpu import DEVICE, HAS_TRITON, SKIP_REASON
from test_cond_codegen import CondCodegenTestCase, cos, sin, TritonTestCase

import torch
import torch._inductor.debug
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.test_case import run_tests


@torch.library.custom_op("range_dispatch_codegen_test::pick", mutates_args=())
def pick(x: torch.Tensor) -> torch.Tensor:
    return x.exp()


@torch.library.custom_op("range_dispatch_codegen_test::positive_twice", mutates_args=())
def positive_twice(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[x > 0], x[x > 0].unsqueeze(1).expand(-1, 3) * 2


pick.register_fake(torch.empty_like)


@positive_twice.register_fake
def _(x):
    size = torch.library.get_ctx().new_dynamic_size()
    return x.new_empty(size), x.new_empty(size, 3)


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


@torch.compiler.config.patch(force_disable_caches=True)
class DispatchCodegenTest(CondCodegenTestCase):
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
            config.patch({"range_dispatch.tuning_seconds": 60.0}),
            record_dispatches() as records,
        ):
            result = self.compiled(lambda x: (x + 1) @ w * 2, torch.randn(9, 6))
            self.check_at_sizes(result, lambda x: (x + 1) @ w * 2)
        (record,) = records
        for row in record.ranges:
            self.assertEqual({*row.milliseconds}, {"loops", "plain", "fallback"})


@unittest.skipUnless(HAS_TRITON, SKIP_REASON)
class DispatchTritonCodegenTest(TritonTestCase):
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
