# Owner(s): ["module: inductor"]
"""What ``torch.cond`` and its neighbours need from the FX wrapper.

Each program is compiled once, for dynamic shapes, and must give what eager gives at
several sizes and in both branches, through a graph that holds what it should.
"""

import unittest
from unittest import mock

import torch
import torch.nn.functional as F
from _triton_on_cpu import DEVICE, HAS_TRITON, SKIP_REASON, triton_kernels
from torch._dynamo.testing import CompileCounterWithBackend
from torch._higher_order_ops.triton_kernel_wrap import triton_kernel_wrapper_mutation
from torch._inductor import config
from torch._inductor.codegen.wrapper_fxir import WrapperFxCodegen
from torch._inductor.test_case import run_tests, TestCase
from torch.testing import make_tensor
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
)
from torch.utils._pytree import tree_leaves, tree_map


aten = torch.ops.aten
cond = torch.ops.higher_order.cond

if HAS_TRITON:
    import triton
    import triton.language as tl

    @triton.jit
    def add_one_kernel(x, out, size, BLOCK: tl.constexpr):
        offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        mask = offsets < size
        tl.store(out + offsets, tl.load(x + offsets, mask) + 1, mask)

    def add_one(x):
        out = torch.empty_like(x)
        grid = (triton.cdiv(x.numel(), 16),)
        add_one_kernel[grid](x, out, x.numel(), BLOCK=16)
        return out


@torch.library.custom_op("fxir_control_flow::double", mutates_args=())
def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@double.register_fake
def _(x):
    return torch.empty_like(x)


@torch.library.custom_op("fxir_control_flow::increment", mutates_args={"x"})
def increment(x: torch.Tensor) -> None:
    x.add_(1)


# The first one is compiled for: no other size may lead to a guard that it fails.
SIZES = (20, 4, 9, 100)


def tensor(*shape, dtype=torch.float32, low=None, high=None):
    return make_tensor(shape, dtype=dtype, device=DEVICE, low=low, high=high)


def scalar(value):
    return torch.tensor(value, device=DEVICE)


def at_sizes(make_inputs, sizes=SIZES):
    return [make_inputs(size) for size in sizes]


def in_both_branches(make_inputs, sizes=SIZES):
    """Inputs that begin with a predicate."""
    return [
        (scalar(predicate), *make_inputs(size))
        for size in sizes
        for predicate in (True, False)
    ]


def cond_in_eager(predicate, true_fn, false_fn, operands=()):
    return (true_fn if predicate else false_fn)(*operands)


def copies(inputs):
    return tree_map(lambda x: x.clone() if torch.is_tensor(x) else x, inputs)


def kernel_calls(graph_module):
    return graph_module.graph.find_nodes(
        op="call_function", target=triton_kernel_wrapper_mutation
    )


def calls(graph_module, target):
    return graph_module.graph.find_nodes(op="call_function", target=target)


class MetadataChecker(torch.fx.Interpreter):
    """Runs a graph and compares each tensor with what its node says of it."""

    def __init__(self, graph_module):
        super().__init__(graph_module)
        self.values = {}

    def run_node(self, n):
        result = super().run_node(n)
        if "val" in n.meta:
            expected = tree_leaves(n.meta["val"])
            actual = tree_leaves(result)
            assert len(actual) == len(expected), n.format_node()
            for of_fake, of_real in zip(expected, actual):
                self.compare(n, of_fake, of_real)
        return result

    def compare(self, node, fake, real):
        if isinstance(fake, torch.SymInt):
            fake, real = (fake,), (real,)
        elif isinstance(fake, torch.Tensor):
            assert fake.dtype == real.dtype, node.format_node()
            fake, real = (*fake.shape, *fake.stride()), (*real.shape, *real.stride())
        else:
            return
        for fake_size, real_size in zip(fake, real, strict=True):
            assert self.value(fake_size, real_size) == real_size, node.format_node()

    def value(self, size, real_size):
        if isinstance(size, int):
            return size
        expr = size.node.expr
        if expr.is_symbol:
            self.values.setdefault(expr, real_size)
        return expr.xreplace(self.values)


@unittest.skipUnless(HAS_TRITON, SKIP_REASON)
class FxWrapperTestCase(TestCase):
    def setUp(self):
        super().setUp()
        torch.manual_seed(0)

    def check(self, function, calls, dynamic=True, fx_wrapper=True, **patches):
        """Compiles once and compares each call with eager.

        Returns the graph, and the names of the kernels that each call launched.
        """
        # Only their own tests are about them.
        patches = {"alignment_asserts": False, **patches}
        graph_modules = []

        def compile_graph(codegen, graph_module):
            graph_modules.append(graph_module)
            return graph_module.forward

        counter = CompileCounterWithBackend("inductor")
        kernels = []
        with (
            triton_kernels() as recorder,
            config.patch(fx_wrapper=fx_wrapper, **patches),
            mock.patch.object(WrapperFxCodegen, "compile_graph", compile_graph),
            torch.no_grad(),
        ):
            compiled = torch.compile(
                function, backend=counter, dynamic=dynamic, fullgraph=True
            )
            for inputs in calls:
                inputs_in_eager = copies(inputs)
                with mock.patch.object(torch, "cond", cond_in_eager):
                    torch.manual_seed(1)
                    expected = function(*inputs_in_eager)
                recorder.clear()
                torch.manual_seed(1)
                self.assertEqual(compiled(*inputs), expected)
                self.assertEqual(inputs, inputs_in_eager)
                kernels.append([launch.kernel for launch in recorder.launches])
            self.assertEqual(counter.frame_count, 1)
            if not fx_wrapper:
                return None, kernels
            (graph_module,) = graph_modules
            for module in graph_module.modules():
                if isinstance(module, torch.fx.GraphModule):
                    module.graph.lint()
        return graph_module, kernels

    def branches(self, graph_module):
        """The graphs of the one cond's branches."""
        (node,) = calls(graph_module, cond)
        return [getattr(graph_module, branch.target) for branch in node.args[1:3]]


def defined_by_a_branch_for_the_other(predicate, x, y):
    return torch.cond(predicate, lambda x, y: x.sin(), lambda x, y: y.sin(), (x, y))


def defined_by_the_parent_for_a_branch(predicate, x, y):
    return torch.cond(
        predicate, lambda x, y: x.sin(), lambda x, y: y.cos(), (x.sin(), y)
    )


def defined_by_a_branch_for_the_parent(predicate, x, y):
    return torch.cond(
        predicate, lambda x, y: x.sin(), lambda x, y: y.cos(), (x, y)
    ).sin()


@instantiate_parametrized_tests
class SharedKernelTest(FxWrapperTestCase):
    @parametrize(
        "function",
        (
            defined_by_a_branch_for_the_other,
            defined_by_the_parent_for_a_branch,
            defined_by_a_branch_for_the_parent,
        ),
        name_fn=lambda function: function.__name__,
    )
    def test_kernel(self, function):
        graph, kernels = self.check(
            function, in_both_branches(lambda n: (tensor(n), tensor(n)))
        )
        modules = [graph, *self.branches(graph)]
        nodes = [node for module in modules for node in kernel_calls(module)]
        shared = {node.kwargs["kernel_idx"] for node in nodes}
        self.assertEqual(len(shared), len(nodes) - 1)
        self.assertEqual(len({name for names in kernels for name in names}), len(shared))

    def test_user_kernel_in_both_branches(self):
        def function(predicate, x):
            return torch.cond(
                predicate, lambda x: add_one(x), lambda x: add_one(x) * 2, (x,)
            )

        graph, kernels = self.check(function, in_both_branches(lambda n: (tensor(n),)))
        for branch in self.branches(graph):
            self.assertTrue(kernel_calls(branch))
        for names in kernels:
            self.assertEqual(names[0], "add_one_kernel")


FALLBACKS = {
    "topk": (lambda x: x.topk(2)[0], aten.topk.default),
    "nonzero": (lambda x: (x > 0).nonzero() + 1, aten.nonzero.default),
    "custom_op": (lambda x: double(x.sin()), double._opoverload),
}


@instantiate_parametrized_tests
class AlignmentAssertionTest(FxWrapperTestCase):
    """They were written as strings, which FX conversion does not take."""

    @parametrize("name", tuple(FALLBACKS))
    def test_fallback(self, name):
        function, target = FALLBACKS[name]
        graph, _ = self.check(
            function, at_sizes(lambda n: (tensor(n, 5),)), alignment_asserts=True
        )
        self.assertEqual(len(calls(graph, target)), 1)

    @parametrize("name", tuple(FALLBACKS))
    def test_fallback_in_a_branch(self, name):
        fallback, target = FALLBACKS[name]

        def function(predicate, x):
            return torch.cond(predicate, fallback, lambda x: fallback(-x), (x,))

        graph, _ = self.check(
            function,
            in_both_branches(lambda n: (tensor(n, 5),)),
            alignment_asserts=True,
        )
        for branch in self.branches(graph):
            self.assertEqual(len(calls(branch, target)), 1)


class NumberOneTest(FxWrapperTestCase):
    """triton.jit takes an integer that is 1 for a constant, without methods."""

    def test_item(self):
        def function(x, number):
            return x * number.item()

        inputs = [(tensor(n), scalar(k)) for n in SIZES for k in (3, 1)]
        graph, kernels = self.check(function, inputs)
        self.assertEqual(len(kernel_calls(graph)), 1)
        self.assertTrue(all(kernels))

    def test_first_item(self):
        inputs = [(tensor(20), scalar(k)) for k in (1, 3, 0)]
        self.check(lambda x, number: x * number.item(), inputs)

    def test_bool_item(self):
        inputs = [(tensor(n), scalar(k)) for n in SIZES for k in (True, False)]
        self.check(lambda x, flag: x + flag.item(), inputs)

    def test_item_in_a_branch(self):
        def function(predicate, x, number):
            return torch.cond(
                predicate,
                lambda x, number: x * number.item(),
                lambda x, number: x - number.item(),
                (x, number),
            )

        inputs = in_both_branches(lambda n: (tensor(n), scalar(1)))
        self.check(function, inputs + in_both_branches(lambda n: (tensor(n), scalar(3))))

    def test_unbacked_size(self):
        def marked(size):
            x = tensor(size, 5)
            torch._dynamo.decorators.mark_unbacked(x, 0)
            return (x,)

        sizes = (20, 1, 4)
        self.check(lambda x: x.sin() * x.shape[0], at_sizes(marked, sizes))

    def test_size_of_a_result(self):
        def function(x):
            positive = x[x > 0]
            return positive * positive.shape[0]

        inputs = [torch.tensor(x, device=DEVICE) for x in ([1.0, 2, -3, 4], [-1.0, 5])]
        self.check(function, [(x,) for x in inputs])


@instantiate_parametrized_tests
class SizeOperandTest(FxWrapperTestCase):
    def test_same_symbol_twice(self):
        """It was the name of two placeholders."""

        def function(predicate, x, y):
            n, m = x.shape[0], y.shape[0]
            return torch.cond(
                predicate, lambda x, y: x * n + y * m, lambda x, y: x * m - y, (x, y)
            )

        graph, _ = self.check(
            function, in_both_branches(lambda n: (tensor(n), tensor(n)))
        )
        for branch in self.branches(graph):
            names = [node.name for node in branch.graph.find_nodes(op="placeholder")]
            self.assertEqual(len({*names}), len(names))

    @parametrize("used_as", ("number", "size"))
    def test_multiple_of_a_symbol(self, used_as):
        def function(predicate, x):
            n = x.shape[0] * 3
            if used_as == "number":
                return torch.cond(predicate, lambda x: x + n, lambda x: x * n, (x,))
            return torch.cond(
                predicate, lambda x: x.new_ones(n), lambda x: x.new_zeros(n), (x,)
            )

        self.check(function, in_both_branches(lambda n: (tensor(n),)))

    def test_product_of_symbols(self):
        def function(predicate, x, y):
            n = x.shape[0] * y.shape[0] // 2
            return torch.cond(predicate, lambda x: x + n, lambda x: x * n, (x,))

        self.check(function, in_both_branches(lambda n: (tensor(n), tensor(n + 3))))


def reshaped(predicate, x, y):
    operand = x.sin().reshape(-1)
    return torch.cond(predicate, lambda z: z.sin(), lambda z: z * z.shape[0], (operand,))


def concatenated(predicate, x, y):
    operand = torch.cat([x, y])
    return torch.cond(predicate, lambda z: z.sin(), lambda z: z * z.shape[0], (operand,))


def product_of_two_sizes(predicate, x, y):
    n = x.shape[0] * y.shape[0]
    return torch.cond(predicate, lambda x: x + n, lambda x: x * n, (x,))


def size_of_the_output(predicate, x, y):
    n = x.shape[0] * y.shape[0]
    return torch.cond(
        predicate, lambda x: x.new_ones(n) + 1, lambda x: x.new_zeros(n) - 1, (x,)
    )


@instantiate_parametrized_tests
class CompoundSizeTest(FxWrapperTestCase):
    """A branch must know the symbols that its inputs' sizes are made of."""

    @parametrize("fx_wrapper", (False, True))
    @parametrize(
        "function",
        (reshaped, concatenated, product_of_two_sizes, size_of_the_output),
        name_fn=lambda function: function.__name__,
    )
    def test_operand(self, function, fx_wrapper):
        inputs = in_both_branches(lambda n: (tensor(n, 3), tensor(n + 3, 3)))
        self.check(function, inputs, fx_wrapper=fx_wrapper)


class ConstantPredicateTest(FxWrapperTestCase):
    def test_size_is_specialized_later(self):
        def function(x):
            y = torch.cond(
                x.shape[0] == 20, lambda x: x.sin(), lambda x: x.cos(), (x,)
            )
            return y + torch.ones(20, device=DEVICE)

        graph, _ = self.check(function, at_sizes(lambda n: (tensor(n),), (20, 20)))
        self.assertEqual(len(calls(graph, cond)), 1)


class NoResultTest(FxWrapperTestCase):
    """The node of an op that returns nothing was looked up."""

    def test_mutation(self):
        def function(x):
            y = x.clone()
            increment(y)
            return y * 2

        graph, _ = self.check(function, at_sizes(lambda n: (tensor(n),)))
        self.assertEqual(len(calls(graph, increment._opoverload)), 1)

    def test_mutation_of_an_input(self):
        def function(x):
            increment(x)
            return x * 2

        self.check(function, at_sizes(lambda n: (tensor(n),)))

    def test_mutation_in_a_branch(self):
        def incremented(x):
            y = x.clone()
            increment(y)
            return y * 2

        def function(predicate, x):
            return torch.cond(predicate, incremented, lambda x: x.sin(), (x,))

        graph, _ = self.check(function, in_both_branches(lambda n: (tensor(n),)))
        branch, _ = self.branches(graph)
        self.assertEqual(len(calls(branch, increment._opoverload)), 1)


WEIGHT = torch.arange(60).reshape(5, 12).sub(30).div(10).tolist()


class ConstantTest(FxWrapperTestCase):
    """The metadata of what is computed from a constant needs a fake one."""

    def test_literal(self):
        def function(x):
            return x @ torch.tensor(WEIGHT, device=DEVICE)

        self.check(function, at_sizes(lambda n: (tensor(n, 5),)))

    def test_literal_in_a_branch(self):
        def function(predicate, x):
            return torch.cond(
                predicate,
                lambda x: x @ torch.tensor(WEIGHT, device=DEVICE),
                lambda x: x @ torch.ones(5, 12, device=DEVICE),
                (x,),
            )

        self.check(function, in_both_branches(lambda n: (tensor(n, 5),)))


class MetadataTest(FxWrapperTestCase):
    """Of a cond it is what the IR says, not what running both branches says."""

    def check_metadata(self, function, calls):
        graph, _ = self.check(function, calls)
        for inputs in calls:
            inputs = [x for x in inputs]
            sizes = self.symbol_inputs(graph, inputs)
            MetadataChecker(graph).run(*sizes)
        return graph

    def test_half_of_a_symbol(self):
        def function(predicate, x):
            return torch.cond(
                predicate, lambda x: x[::2].sin(), lambda x: x[::2].cos(), (x,)
            )

        graph, _ = self.check(function, in_both_branches(lambda n: (tensor(n, 3),)))


if __name__ == "__main__":
    run_tests()
