# Owner(s): ["module: inductor"]
"""What checks and splits a graph's memory, with a dispatch in the graph."""

import functools
import traceback
from unittest import mock

from test_cond_memory import CondMemoryTestCase, define_op

import torch
from torch._inductor import config
from torch._inductor.graph import GraphLowering
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.test_case import run_tests
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    subtest,
)


NAMESPACE = "range_dispatch_memory_test"
UNSAFE = torch.Tag.cudagraph_unsafe
define = functools.partial(define_op, namespace=NAMESPACE)


def sin(x: torch.Tensor) -> torch.Tensor:
    return x.sin()


def narrowed(x: torch.Tensor) -> torch.Tensor:
    return torch.empty(x.shape[0], x.shape[1] + 1)[:, 1:].copy_(x)


plain_op = define("plain", sin, torch.empty_like)
unsafe_op = define("unsafe", sin, torch.empty_like, tags=(UNSAFE,))
dispatched_op = define("dispatched", sin, torch.empty_like)
dispatched_unsafe_op = define(
    "dispatched_unsafe", sin, torch.empty_like, tags=(UNSAFE,)
)
# Its fake promises a stride that it does not have.
lying_op = define("lying", narrowed, torch.empty_like)


def named(*ops):
    return [subtest(op, name=op.name().split("::")[1]) for op in ops]


class DispatchMemoryTest(CondMemoryTestCase):
    def around(self, op):
        def model(x):
            return op((x + 1) @ x) @ x

        return model

    @parametrize("op", named(dispatched_op, dispatched_unsafe_op))
    def test_rule_on_an_op_with_one_winner(self, op):
        registered = custom_op_autotuning(
            op, configs=[CustomOpConfig(torch.tanh)], winners=[0]
        )
        rule = [f"{NAMESPACE}::dispatched"]
        with registered, config.patch(custom_should_partition_ops=rule):
            partitions, call = self.check_partitions(self.around(op), 2)
        self.assertIn("_fused_dispatched", call)
        self.assertNotIn("_fused_dispatched", "".join(partitions))

    @parametrize("op", named(plain_op, unsafe_op))
    def test_rule_on_an_op_inside_of_a_candidate(self, op):
        def candidate(x):
            return op(x.tanh()) * 2

        registered = custom_op_autotuning(
            dispatched_op, configs=[CustomOpConfig(candidate)], winners=[0]
        )
        rule = [f"{NAMESPACE}::plain"]
        with registered, config.patch(custom_should_partition_ops=rule):
            partitions, call = self.check_partitions(self.around(dispatched_op), 2)
        called = f"{op.name().split('::')[1]}.default("
        self.assertIn(called, call)
        self.assertNotIn(called, "".join(partitions))
        self.assertNotIn("_fused_", call)

    def test_unsafe_op_inside_of_a_candidate_without_partitions(self):
        registered = custom_op_autotuning(
            dispatched_op, configs=[CustomOpConfig(unsafe_op)], winners=[0]
        )
        reasons = []
        codegen = GraphLowering.codegen

        def record(graph):
            reasons.append(graph.disable_cudagraphs_reason)
            return codegen(graph)

        with (
            registered,
            config.patch(graph_partition=False),
            mock.patch.object(GraphLowering, "codegen", record),
        ):
            self.source(self.around(dispatched_op))
        self.assertIn("unsafe.default in an implementation of", reasons[0])

    def dispatch(self, *implementations):
        return custom_op_autotuning(
            dispatched_op,
            configs=[CustomOpConfig(function) for function in implementations],
            dispatch_on={"tensor_name": "x", "dim": 0},
            split_points=[4],
            winners=[0, 1],
        )

    @config.patch(nan_asserts=True)
    def test_nan_of_a_branch_raises_in_that_branch_only(self):
        def infinite(x):
            return x.sin() / (x - x)

        with self.dispatch(torch.tanh, infinite):
            compiled = torch.compile(lambda x: dispatched_op(x + 1), dynamic=True)
            x = torch.ones(3, 3)
            self.assertEqual(compiled(x), (x + 1).tanh())
            try:
                compiled(torch.ones(8, 3))
                self.fail("nothing was raised")
            except AssertionError as error:
                frames = traceback.extract_tb(error.__traceback__)
        self.assertRegex(frames[-1].name, "_branch_1$")

    @config.patch(size_asserts=True)
    def test_lie_of_an_op_in_a_branch_is_caught(self):
        with self.dispatch(torch.tanh, lying_op):
            compiled = torch.compile(lambda x: dispatched_op(x + 1), dynamic=True)
            x = torch.ones(3, 3)
            self.assertEqual(compiled(x), (x + 1).tanh())
            with self.assertRaisesRegex(AssertionError, "lying.*|expected size"):
                compiled(torch.ones(8, 3))


instantiate_parametrized_tests(DispatchMemoryTest)


if __name__ == "__main__":
    run_tests()
