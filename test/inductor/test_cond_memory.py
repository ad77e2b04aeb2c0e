# Owner(s): ["module: inductor"]
"""What plans, checks and splits a graph's memory, with ``torch.cond`` in the graph."""

import re
from unittest import mock

from _captured_partitions import captured_partitions, function_bodies

import torch
from torch._functorch import config as functorch_config
from torch._inductor import config, lowering
from torch._inductor.codegen.wrapper_fxir import WrapperFxCodegen
from torch._inductor.runtime import debug_utils
from torch._inductor.scheduler import Scheduler
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import run_and_get_code
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    subtest,
)


NAMESPACE = "cond_memory_test"


def define_op(name, implementation, fake, tags=(), namespace=NAMESPACE):
    op = torch.library.custom_op(f"{namespace}::{name}", mutates_args=(), tags=tags)
    defined = op(implementation)
    defined.register_fake(fake)
    return defined._opoverload


def halves(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x / 2, x / 2


def positive(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[x > 0], x[x > 0].sin()


def positive_fake(x):
    size = torch.library.get_ctx().new_dynamic_size()
    return x.new_empty(size), x.new_empty(size)


halves_op = define_op("halves", halves, lambda x: (x.clone(), x.clone()))
positive_op = define_op("positive", positive, positive_fake)


def products(x):
    return ((x @ x).relu() @ x).sin() @ x


def two_outputs(x):
    values, indices = torch.sort(x @ x)
    return (values @ x) @ indices.float()


def branch_on_size(x):
    y = x @ x
    z = torch.cond(
        x.shape[0] > 4, lambda a: (a @ a).sin() @ a, lambda a: (a @ a).cos(), (y,)
    )
    return z @ x


def branch_of_products(x):
    branches = (lambda a: (a @ a) @ a, lambda a: a @ a)
    return torch.cond(x.shape[0] > 4, *branches, (x @ x,)) @ x


def branch_on_value(x):
    y = x @ x
    first, second = torch.cond(
        x.sum() > 40,
        lambda a: ((a @ a).sin() @ a, a.sin()),
        lambda a: ((a @ a).cos(), a.cos()),
        (y,),
    )
    return first @ x @ second


def branch_in_branch(x):
    def outer(a):
        return torch.cond(
            a.sum() > 0, lambda b: (b @ b) @ b, lambda b: (b @ b).cos(), (a @ a,)
        )

    return torch.cond(x.shape[0] > 4, outer, lambda a: (a @ a).sin(), (x @ x,)) @ x


def unknown_size(x):
    return torch.masked_select(x @ x, x > 0).sin()


def unknown_size_of_a_cond(x):
    (selected,) = torch.cond(
        x.shape[0] > 4,
        lambda a: (torch.masked_select(a, a > 0).sin(),),
        lambda a: (torch.masked_select(a, a > 1),),
        (x @ x,),
    )
    return selected.cumsum(0) * 2


TRACKED = {
    "allow_buffer_reuse": False,
    "inplace_buffers": False,
    "test_configs.track_memory_lifecycle": "assert",
}


class CondMemoryTestCase(TestCase):
    def setUp(self):
        super().setUp()
        torch._dynamo.reset()
        # Kernels that earlier tests compiled may serve; every graph is lowered anew.
        self.enterContext(config.patch(fx_graph_cache=False))
        self.enterContext(functorch_config.patch(enable_autograd_cache=False))
        self.enterContext(torch.no_grad())

    def check(self, model, compiled=None, sizes=(3, 8)):
        compiled = compiled or torch.compile(model, dynamic=True, fullgraph=True)
        for size in sizes:
            x = torch.ones(size, size)
            self.assertEqual(compiled(x), model(x))

    def source(self, model, size=6, **options):
        compiled = torch.compile(model, fullgraph=True, **options)
        _, (code,) = run_and_get_code(compiled, torch.ones(size, size))
        return code

    def check_partitions(self, model, expected, **options):
        with captured_partitions() as capture:
            code = self.source(model, **options)
        self.assertEqual(capture.argument_types - {int}, {torch.Tensor})
        bodies = function_bodies(code)
        partitions = [b for name, b in bodies.items() if name.startswith("partition_")]
        self.assertEqual(len(partitions), expected)
        return partitions, bodies["call"]


class CondMemoryTest(CondMemoryTestCase):
    @parametrize(
        "model",
        [
            subtest(model, name=model.__name__)
            for model in (
                products,
                two_outputs,
                branch_on_size,
                branch_on_value,
                branch_in_branch,
                unknown_size,
                unknown_size_of_a_cond,
            )
        ],
    )
    @config.patch(TRACKED)
    def test_memory_is_tracked(self, model):
        self.check(model)
        self.assertEqual(debug_utils.local.by_graph, {})

    @config.patch(TRACKED)
    def test_tracking_sees_a_leak_in_a_branch(self):
        code = self.source(branch_on_size, dynamic=True)
        (check,) = re.findall(r"check_memory_step\(allocated=\['(true.*_buf1)'\]", code)
        self.assertIn(f"name='{check}', graph='true_graph_0'", code)
        debug_utils.check_memory_step([], [], graph="true_graph_0")
        with self.assertRaisesRegex(RuntimeError, "missing: .*buf1"):
            debug_utils.check_memory_step([check], [], graph="true_graph_0")

    @config.patch(TRACKED)
    @config.patch(cpp_wrapper=True)
    def test_tracking_leaves_a_cpp_wrapper_alone(self):
        self.check(products)

    @config.patch(TRACKED)
    @config.patch(fx_wrapper=True)
    def test_tracking_leaves_an_fx_wrapper_alone(self):
        def compile_graph(codegen, graph_module):
            return graph_module

        with mock.patch.object(WrapperFxCodegen, "compile_graph", compile_graph):
            self.check(branch_of_products)

    def test_elements_stay_with_the_cond(self):
        def model(x):
            a, b = torch.cond(
                x.shape[0] > 4,
                lambda x: (x.sin(), x.cos()),
                lambda x: (x.cos(), x.sin()),
                (x + 1,),
            )
            return a * b

        self.check_partitions(model, 2, dynamic=True)

    def test_elements_stay_with_an_op_that_partitions(self):
        def model(x):
            first, second = halves_op(x + 1)
            return first * second

        with config.patch(custom_should_partition_ops=[f"{NAMESPACE}::halves"]):
            self.check_partitions(model, 2)

    def test_unbacked_size_takes_no_tuple_along(self):
        def model(x):
            first, second = positive_op(x + 1)
            return first * 2 + second

        with config.patch(custom_should_partition_ops=[f"{NAMESPACE}::positive"]):
            self.check_partitions(model, 2)

    @parametrize("partition", (False, True))
    def test_cond_is_left_out_of_what_is_captured(self, partition):
        reasons = []
        init = Scheduler.__init__

        def record(scheduler, nodes):
            reasons.append(
                torch._inductor.virtualized.V.graph.disable_cudagraphs_reason
            )
            init(scheduler, nodes)

        with (
            config.patch(graph_partition=partition),
            mock.patch.object(lowering, "is_triton", lambda x: True),
            mock.patch.object(Scheduler, "__init__", record),
        ):
            self.check(branch_on_size)
        if partition:
            self.assertEqual(reasons[0], None)
        else:
            self.assertIn("torch.cond", reasons[0])

    @config.patch(memory_planning=True)
    def test_unbacked_allocation_in_a_branch_is_planned(self):
        def model(x):
            (selected,) = torch.cond(
                x.shape[0] > 4,
                lambda a: ((a[a > 0].unsqueeze(1) @ torch.ones(1, 3)).sum(1),),
                lambda a: (a[a > 1],),
                (x @ x,),
            )
            return selected * 2

        code = self.source(model, dynamic=True)
        body = function_bodies(code)["true_graph_0"]
        self.assertRegex(body, r"pool\d+ = empty_strided_cpu\(\(.*u\d+")
        self.check(model)


instantiate_parametrized_tests(CondMemoryTest)


if __name__ == "__main__":
    run_tests()
