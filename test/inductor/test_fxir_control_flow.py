# Owner(s): ["module: inductor"]
"""What ``torch.cond`` and its neighbours need from the FX wrapper.

Each program is compiled once, for dynamic shapes, and must give what eager gives at
several sizes and in both branches, through a graph that holds what it should.
"""

import pickle
import unittest
from unittest import mock

from _generated_code import CONVERT_COND
from _triton_on_cpu import DEVICE, HAS_TRITON, Launch, SKIP_REASON, triton_kernels

import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounterWithBackend
from torch._higher_order_ops.triton_kernel_wrap import triton_kernel_wrapper_mutation
from torch._inductor import config
from torch._inductor.codegen.wrapper_fxir import FxConverter, WrapperFxCodegen
from torch._inductor.test_case import run_tests, TestCase
from torch._subclasses import FakeTensor
from torch.testing import make_tensor
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
)
from torch.utils._pytree import tree_map


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

    @triton.autotune([triton.Config({"BLOCK": 16})], key=[])
    @triton.jit
    def scaled_kernel(x, out, BLOCK: tl.constexpr, size, scale):
        offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        mask = offsets < size
        tl.store(out + offsets, tl.load(x + offsets, mask) * scale, mask)

    def scaled(x):
        out = torch.empty_like(x)

        def grid(meta):
            return (triton.cdiv(x.numel(), meta["BLOCK"]),)

        scaled_kernel[grid](x, out, size=x.numel(), scale=x.shape[0])
        return out

    @triton.jit
    def scaled_and_shifted_kernel(x, shift, out, size, scale, BLOCK: tl.constexpr):
        offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        mask = offsets < size
        value = tl.load(x + offsets, mask) * scale
        if shift is not None:
            value += tl.load(shift + offsets, mask)
        tl.store(out + offsets, value, mask)

    def scaled_without_shift(x):
        out = torch.empty_like(x)
        grid = (triton.cdiv(x.numel(), 16),)
        scaled_and_shifted_kernel[grid](x, None, out, x.numel(), 3.5, BLOCK=16)
        return out

    def add_one(x):
        out = torch.empty_like(x)
        grid = (triton.cdiv(x.numel(), 16),)
        add_one_kernel[grid](x, out, x.numel(), BLOCK=16)
        return out


@torch.library.custom_op("fxir_control_flow::double", mutates_args=())
def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


# What each call of the fake implementation was given.
fake_runs = []


@double.register_fake
def _(x):
    fake_runs.append(x)
    return torch.empty_like(x)


@torch.library.custom_op("fxir_control_flow::increment", mutates_args={"x"})
def increment(x: torch.Tensor) -> None:
    x.add_(1)


# The first one is compiled for: no other size may lead to a guard that it fails.
SIZES = (20, 4, 9, 33)


def tensor(*shape):
    return make_tensor(shape, dtype=torch.float32, device=DEVICE)


def scalar(value):
    return torch.tensor(value, device=DEVICE)


def summands(total):
    """Two numbers: an item of their sum is not known when a graph is compiled."""
    return torch.tensor([total - 5, 5], device=DEVICE)


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


def nodes_calling(graph_module, target):
    return graph_module.graph.find_nodes(op="call_function", target=target)


def kernel_calls(graph_module):
    return nodes_calling(graph_module, triton_kernel_wrapper_mutation)


@unittest.skipUnless(HAS_TRITON, SKIP_REASON)
class FxWrapperTestCase(TestCase):
    def setUp(self):
        super().setUp()
        torch.manual_seed(0)

    def check(self, function, input_sets, fx_wrapper=True, **patches):
        """Compiles once and compares what each set of inputs gives with eager.

        Returns the graph, and what each call launched.
        """
        # Without this every fallback kernel would be a test of them.
        patches = {"alignment_asserts": False, **patches}
        graph_modules = []

        def compile_graph(codegen, graph_module):
            graph_modules.append(graph_module)
            return graph_module.forward

        counter = CompileCounterWithBackend("inductor")
        launches = []
        with (
            triton_kernels() as recorder,
            config.patch(fx_wrapper=fx_wrapper, **patches),
            mock.patch.object(WrapperFxCodegen, "compile_graph", compile_graph),
            torch.no_grad(),
        ):
            compiled = torch.compile(
                function, backend=counter, dynamic=True, fullgraph=True
            )
            for inputs in input_sets:
                inputs_in_eager = copies(inputs)
                with mock.patch.object(torch, "cond", cond_in_eager):
                    torch.manual_seed(1)
                    expected = function(*inputs_in_eager)
                recorder.clear()
                torch.manual_seed(1)
                self.assertEqual(compiled(*inputs), expected)
                self.assertEqual(inputs, inputs_in_eager)
                launches.append([*recorder.launches])
            self.assertEqual(counter.frame_count, 1)
            if not fx_wrapper:
                return None, launches
            (graph_module,) = graph_modules
            for module in graph_module.modules():
                if isinstance(module, torch.fx.GraphModule):
                    module.graph.lint()
        return graph_module, launches

    def branches(self, graph_module):
        """The graphs of the one cond's branches."""
        (node,) = nodes_calling(graph_module, cond)
        return [getattr(graph_module, branch.target) for branch in node.args[1:3]]


def defined_by_a_branch_for_the_other(predicate, x, y):
    return torch.cond(predicate, lambda x, y: x.sin(), lambda x, y: y.sin(), (x, y))


def defined_by_the_parent_for_a_branch(predicate, x, y):
    return torch.cond(
        predicate, lambda x, y: x.sin(), lambda x, y: y.cos(), (x.sin(), y)
    )


def defined_by_a_branch_for_the_parent(predicate, x, y):
    z = torch.cond(predicate, lambda x, y: x.sin(), lambda x, y: y.cos(), (x, y))
    # Returned, lest the parent's kernel work in place.
    return z, z.sin()


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
        graph, launches = self.check(
            function, in_both_branches(lambda n: (tensor(n), tensor(n)))
        )
        modules = [graph, *self.branches(graph)]
        nodes = [node for module in modules for node in kernel_calls(module)]
        shared = {node.kwargs["kernel_idx"] for node in nodes}
        self.assertEqual(len(shared), len(nodes) - 1)
        launched = {launch.kernel for call in launches for launch in call}
        self.assertEqual(len(launched), len(shared))

    def test_user_kernel_in_both_branches(self):
        def function(predicate, x):
            return torch.cond(
                predicate, lambda x: add_one(x), lambda x: add_one(x) * 2, (x,)
            )

        graph, launches = self.check(function, in_both_branches(lambda n: (tensor(n),)))
        for branch in self.branches(graph):
            self.assertTrue(kernel_calls(branch))
        for call in launches:
            self.assertEqual(call[0].kernel, "add_one_kernel")


FALLBACKS = {
    "topk": (lambda x: x.topk(2)[0], aten.topk.default),
    # Dynamo refuses a cond with outputs whose sizes depend on data.
    "nonzero": (lambda x: (x > 0).nonzero().sum(0), aten.nonzero.default),
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
        self.assertEqual(len(nodes_calling(graph, target)), 1)

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
            self.assertEqual(len(nodes_calling(branch, target)), 1)


class MatrixProductTest(FxWrapperTestCase):
    """Fake tensors run each node of the graph, and must ask for no size as a number."""

    def test_batched(self):
        graph, _ = self.check(
            torch.bmm, at_sizes(lambda n: (tensor(3, n, 5), tensor(3, 5, n)))
        )
        (node,) = nodes_calling(graph, aten.bmm.out)
        self.assertIsInstance(node.meta["val"].shape[1], torch.SymInt)


class NumberOneTest(FxWrapperTestCase):
    """triton.jit takes an integer that is 1 for a constant, without methods."""

    def test_item(self):
        def function(x, number):
            return x * number.item()

        inputs = [(tensor(n), scalar(k)) for n in SIZES for k in (3, 1)]
        graph, launches = self.check(function, inputs)
        self.assertEqual(len(kernel_calls(graph)), 1)
        self.assertTrue(all(launches))

    def test_item_that_is_computed(self):
        def function(x, numbers):
            return x * numbers.sum().item()

        inputs = [(tensor(n), summands(k)) for n in SIZES for k in (3, 1, 0)]
        self.check(function, inputs)

    def test_first_item(self):
        inputs = [(tensor(20), scalar(k)) for k in (1, 3, 0)]
        self.check(lambda x, number: x * number.item(), inputs)

    def test_bool_item(self):
        inputs = [(tensor(n), scalar(k)) for n in SIZES for k in (True, False)]
        self.check(lambda x, flag: x + flag.item(), inputs)

    def test_item_in_a_branch(self):
        def function(predicate, x, numbers):
            return torch.cond(
                predicate,
                lambda x, y: x * y.sum().item(),
                lambda x, y: -x,
                (x, numbers),
            )

        def inputs(number):
            return in_both_branches(lambda n: (tensor(n), summands(number)))

        self.check(function, inputs(1) + inputs(3))

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
    @parametrize("by", ("size", "tensor"))
    def test_same_symbol_twice(self, by):
        """It was the name of two placeholders."""

        def function(predicate, x):
            n = x.shape[0]
            return torch.cond(
                predicate if by == "tensor" else n <= 8,
                lambda x: x.sin() + n,
                lambda x: torch.cond(
                    n <= 50, lambda x: x.tanh() * n, lambda x: x.relu(), (x,)
                ),
                (x,),
            )

        graph, _ = self.check(function, in_both_branches(lambda n: (tensor(n),)))
        _, branch = self.branches(graph)
        for graph_module in (branch, *self.branches(branch)):
            nodes = graph_module.graph.find_nodes(op="placeholder")
            self.assertEqual(len({node.target for node in nodes}), len(nodes))

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


# Dynamo passes the symbols of a tensor's sizes to a branch by itself: the first two
# hold without any help from Inductor.
def reshaped(predicate, x, y):
    operand = x.exp().reshape(-1)
    return torch.cond(
        predicate, lambda z: z.sin(), lambda z: z * z.shape[0], (operand,)
    )


def concatenated(predicate, x, y):
    operand = torch.cat([x, y])
    return torch.cond(
        predicate, lambda z: z.sin(), lambda z: z * z.shape[0], (operand,)
    )


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
            y = torch.cond(x.shape[0] == 20, lambda x: x.sin(), lambda x: x.cos(), (x,))
            return y + torch.ones(20, device=DEVICE)

        graph, _ = self.check(function, at_sizes(lambda n: (tensor(n),), (20, 20)))
        self.assertEqual(len(nodes_calling(graph, cond)), 1)


class NoResultTest(FxWrapperTestCase):
    """The node of an op that returns nothing was looked up."""

    def test_mutation(self):
        def function(x):
            y = x.clone()
            increment(y)
            return y * 2

        graph, _ = self.check(function, at_sizes(lambda n: (tensor(n),)))
        self.assertEqual(len(nodes_calling(graph, increment._opoverload)), 1)

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
        self.assertEqual(len(nodes_calling(branch, increment._opoverload)), 1)


class ConstantTest(FxWrapperTestCase):
    """The metadata of what is computed from a constant needs a fake one."""

    def test_in_a_kernel(self):
        def function(x):
            return x + torch.tensor([k * 0.5 for k in range(12)], device=DEVICE)

        graph, _ = self.check(function, at_sizes(lambda n: (tensor(n, 12),)))
        self.check_constants(graph)

    def test_in_an_extern_kernel(self):
        def function(x):
            weight = torch.tensor([[k * 0.5] * 3 for k in range(5)], device=DEVICE)
            return x @ weight

        graph, _ = self.check(function, at_sizes(lambda n: (tensor(n, 5),)))
        self.check_constants(graph)

    def test_in_a_branch(self):
        def function(predicate, x):
            return torch.cond(
                predicate,
                lambda x: x @ torch.tensor([k * 0.5 for k in range(12)], device=DEVICE),
                lambda x: (
                    x @ torch.tensor([k * 0.25 for k in range(12)], device=DEVICE)
                ),
                (x,),
            )

        graph, _ = self.check(function, in_both_branches(lambda n: (tensor(n, 12),)))
        for branch in self.branches(graph):
            self.check_constants(branch)

    def check_constants(self, graph_module):
        nodes = [
            node
            for node in graph_module.graph.find_nodes(op="get_attr")
            if torch.is_tensor(getattr(graph_module, node.target))
        ]
        self.assertTrue(nodes)
        for node in nodes:
            self.assertIsInstance(node.meta["val"], FakeTensor)
            self.assertEqual(
                node.meta["val"].shape, getattr(graph_module, node.target).shape
            )


def nested_conds(predicate, x):
    return torch.cond(
        predicate,
        lambda x: torch.cond(
            x.shape[0] > 8,
            lambda x: torch.cond(x.shape[0] > 16, double, torch.sin, (x,)),
            torch.cos,
            (x,),
        ),
        torch.tan,
        (x,),
    )


def expressions(sizes):
    return [
        size.node.expr if isinstance(size, torch.SymInt) else size for size in sizes
    ]


class MetadataTest(FxWrapperTestCase):
    """Of a cond it is what the IR says, not what running both branches says."""

    def check_metadata(self, function, input_sets):
        outputs = []
        generate = getattr(FxConverter, CONVERT_COND)

        def noted(converter, line):
            outputs.append(line.node.outputs)
            return generate(converter, line)

        with mock.patch.object(FxConverter, CONVERT_COND, noted):
            graph, _ = self.check(function, input_sets)
        (node,) = nodes_calling(graph, cond)
        (outputs_in_ir,) = outputs
        for fake, output in zip(node.meta["val"], outputs_in_ir, strict=True):
            self.assertEqual(expressions(fake.shape), [*output.get_size()])
            self.assertEqual(expressions(fake.stride()), [*output.get_stride()])
            self.assertEqual(fake.dtype, output.get_dtype())

    def test_strides_that_cannot_be_merged(self):
        """Both branches have outputs of half the size, rounded up."""

        def halved(x):
            return F.avg_pool1d(x, 2, ceil_mode=True)

        def function(predicate, x):
            return torch.cond(predicate, halved, lambda x: halved(-x) * 2, (x,))

        self.check_metadata(
            function, in_both_branches(lambda n: (tensor(2, n, 2 * n + 1),))
        )

    def test_sizes_that_differ(self):
        def function(predicate, x):
            y = torch.cond(
                predicate, lambda x: x[:2].sin(), lambda x: x[:3].cos(), (x,)
            )
            return y * 2

        self.check_metadata(function, in_both_branches(lambda n: (tensor(n),)))

    def test_several_outputs(self):
        def function(predicate, x):
            return torch.cond(
                predicate,
                lambda x: (x.sin(), x.sum(0), x[:, :2] > 0),
                lambda x: (x.cos(), x.amax(0), x[:, :2] < 0),
                (x,),
            )

        self.check_metadata(function, in_both_branches(lambda n: (tensor(n, 6),)))

    def test_branches_are_not_run_again(self):
        """Each level of conds ran all that is below it."""
        runs = []
        generate = FxConverter.generate

        def counted(converter):
            before = len(fake_runs)
            graph_module = generate(converter)
            runs.append(len(fake_runs) - before)
            return graph_module

        with mock.patch.object(FxConverter, "generate", counted):
            self.check(nested_conds, in_both_branches(lambda n: (tensor(n),)))
        self.assertEqual(sum(runs), 1)


class ScalarArgumentTest(FxWrapperTestCase):
    """A float is a CPU tensor without dimensions, and a number to a kernel."""

    def test_float(self):
        inputs = at_sizes(lambda n: (tensor(n), n * 1.5))
        graph, _ = self.check(lambda x, scale: x.sin() * scale, inputs)
        self.assertEqual(len(nodes_calling(graph, aten.item.default)), 1)

    def test_tensor_in_a_branch(self):
        def function(predicate, x, scale):
            return torch.cond(
                predicate, lambda x, y: x.sin() * y, lambda x, y: x - y, (x, scale)
            )

        inputs = in_both_branches(lambda n: (tensor(n), torch.tensor(n * 1.5)))
        self.check(function, inputs)


class BernoulliTest(FxWrapperTestCase):
    def test_in_place(self):
        def function(x):
            y = x.clone()
            y.bernoulli_(0.5)
            return y + x

        graph, _ = self.check(
            function, at_sizes(lambda n: (tensor(n),)), fallback_random=True
        )
        self.assertEqual(len(nodes_calling(graph, aten.bernoulli_.float)), 1)


class NanAssertionTest(FxWrapperTestCase):
    def test_kernels_and_extern_kernels(self):
        def function(x):
            return (x.sin() @ x.t()).cos()

        inputs = at_sizes(lambda n: (tensor(n, 5),))
        graph, _ = self.check(function, inputs, nan_asserts=True)
        self.assertEqual(len(kernel_calls(graph)), 2)

    def test_in_a_branch(self):
        def function(predicate, x):
            return torch.cond(predicate, torch.sin, torch.cos, (x,))

        inputs = in_both_branches(lambda n: (tensor(n, 5),))
        self.check(function, inputs, nan_asserts=True)


class KernelGridTest(FxWrapperTestCase):
    """A constant of the kernel was taken for the next argument of the grid."""

    def test_user_kernel(self):
        _, launches = self.check(add_one, at_sizes(lambda n: (tensor(n),)))
        for size, (launch,) in zip(SIZES, launches, strict=True):
            self.assertEqual(launch, Launch("add_one_kernel", (-(-size // 16), 1, 1)))

    def test_autotuned_parameter_in_the_middle(self):
        _, launches = self.check(scaled, at_sizes(lambda n: (tensor(n),)))
        for size, call in zip(SIZES, launches, strict=True):
            self.assertEqual(call[-1], Launch("scaled_kernel", (-(-size // 16), 1, 1)))

    def test_literal_arguments(self):
        """None and a float were refused."""
        self.check(scaled_without_shift, at_sizes(lambda n: (tensor(n),)))

    def test_one_element(self):
        """The number of elements is a constant, and an argument of the grid."""

        def function(x):
            return x.sum().sin(), x + 1

        self.check(function, at_sizes(lambda n: (tensor(n),)))


class DynamicIndexTest(FxWrapperTestCase):
    """The formulas of offsets and sizes were written as strings."""

    def check_index(self, function):
        inputs = [(tensor(n, 5), summands(k)) for n in SIZES for k in (2, 0, 1, -1, -2)]
        with torch._dynamo.config.patch(capture_scalar_outputs=True):
            graph, _ = self.check(function, inputs)
        self.assertTrue(kernel_calls(graph))

    def test_select(self):
        self.check_index(lambda x, k: x[k.sum().item()] + 1)

    def test_select_in_the_last_dimension(self):
        self.check_index(lambda x, k: x.select(1, k.sum().item()) + 1)

    def test_slice_from(self):
        self.check_index(lambda x, k: x[k.sum().item() :] + 1)

    def test_slice_to(self):
        self.check_index(lambda x, k: x[: k.sum().item()] + 1)

    def test_slice_with_step(self):
        self.check_index(lambda x, k: x[k.sum().item() :: 2] + 1)

    def test_select_in_a_branch(self):
        def function(predicate, x, k):
            return torch.cond(
                predicate,
                lambda x, k: x[k.sum().item()] + 1,
                lambda x, k: x.sum(0),
                (x, k),
            )

        inputs = in_both_branches(lambda n: (tensor(n, 5), summands(n % 3 - 1)))
        with torch._dynamo.config.patch(capture_scalar_outputs=True):
            self.check(function, inputs)


class SymbolicTraceTest(TestCase):
    def test_graph_with_a_cond_is_pickled(self):
        """A pickled graph is read back by tracing its code."""
        graph_modules = []

        def backend(graph_module, example_inputs):
            graph_modules.append(graph_module)
            return graph_module.forward

        def function(predicate, x):
            return torch.cond(predicate, torch.sin, torch.cos, (x,))

        x = torch.randn(20)
        torch._dynamo.reset()
        torch.compile(function, backend=backend, fullgraph=True)(torch.tensor(True), x)
        (graph_module,) = graph_modules
        loaded = pickle.loads(pickle.dumps(graph_module))
        self.assertEqual(len(nodes_calling(loaded, cond)), 1)
        self.assertEqual(loaded(torch.tensor(True), x), (x.sin(),))
        self.assertEqual(loaded(torch.tensor(False), x), (x.cos(),))


def convolution(x):
    # Sizes in a batch of one: a convolution guards on a batch of sixteen.
    weight = torch.full((4, 3, 5), 0.1, device=DEVICE)
    return F.conv1d(x.t().reshape(20, 3, -1)[:1], weight, padding=2).relu()


def attention(x):
    x = x.reshape(1, -1, 3, 20).transpose(1, 2)
    return F.scaled_dot_product_attention(x, x * 2, x + 1)


def pieces(x):
    return [piece + 1 for piece in x.split([10, 20, 30], dim=1)]


def foreach(x):
    return torch._foreach_add([x, x[:, :7].sin()], 1.0)


def spectrum(x):
    return torch.view_as_real(torch.fft.fft(x)) * 2


def embedding(x):
    weight = torch.arange(24.0, device=DEVICE).reshape(8, 3)
    return F.embedding((x * 8).abs().long() % 8, weight).sin()


def normalized(x):
    return F.layer_norm(x, (60,)).relu()


def dropped(x):
    return F.dropout(x.sin(), 0.5)


def scattered(x):
    index = torch.arange(60, device=DEVICE).flip(0).expand(x.shape)
    return torch.zeros_like(x).scatter(1, index, x) + x


def reduced_without_self(x):
    index = torch.arange(60, device=DEVICE).expand(x.shape) // 2
    return x.cos().scatter_reduce(1, index, x, "mean", include_self=False) + x


def sorted_along_the_first(x):
    values, indices = x.sort(0)
    return values * 2, indices + 1


def matrix_product(x):
    return (x.sin() @ x.t()).softmax(-1)


PROGRAMS = (
    attention,
    convolution,
    dropped,
    embedding,
    foreach,
    matrix_product,
    normalized,
    pieces,
    scattered,
    reduced_without_self,
    sorted_along_the_first,
    spectrum,
)


@instantiate_parametrized_tests
class OrdinaryProgramTest(FxWrapperTestCase):
    @parametrize("program", PROGRAMS, name_fn=lambda program: program.__name__)
    def test_equals_eager(self, program):
        graph, _ = self.check(
            program,
            at_sizes(lambda n: (tensor(n, 60),)),
            alignment_asserts=True,
            fallback_random=True,
        )
        self.assertTrue(kernel_calls(graph))


if __name__ == "__main__":
    run_tests()
