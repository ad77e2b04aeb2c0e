# Owner(s): ["module: inductor"]
"""Range dispatch of custom ops through Inductor's FX wrapper: the graphs with their
nested conds, what runs inside a branch, and what is done with such a graph later."""

import contextlib
import copy
import functools
import itertools
import pickle
import re
import unittest
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

import pytest
from _generated_code import COND_LINE, HAS_SWITCH
from _triton_on_cpu import DEVICE, HAS_TRITON, SKIP_REASON, triton_kernels

import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend
from torch._higher_order_ops.triton_kernel_wrap import (
    kernel_side_table,
    triton_kernel_wrapper_mutation,
)
from torch._inductor import config
from torch._inductor.codegen import common
from torch._inductor.codegen.wrapper import (
    DynamicScalarLine,
    ExternKernelAllocLine,
    ExternKernelOutLine,
    IndexPutFallbackLine,
    KernelCallLine,
    MultiOutputLine,
    ReinterpretLine,
    ReuseLine,
    ScatterFallbackLine,
    SymbolicCallArgLine,
    UnbackedSymbolDefsLine,
)
from torch._inductor.codegen.wrapper_fxir import FxConverter, WrapperFxCodegen
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.lowering import user_lowerings
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.virtualized import V
from torch._subclasses import FakeTensor
from torch.fx.passes.fake_tensor_prop import FakeTensorProp
from torch.fx.passes.shape_prop import ShapeProp
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
)


SPLIT_POINTS = (8, 100)
SIZES = (7, 8, 9, 99, 100, 101)
FIRST_SIZE = 20
DISPATCH_LOGGER = "torch._inductor.range_dispatch"
CONVERTER_LOGGER = "torch._inductor.codegen.wrapper_fxir"

cond = torch.ops.higher_order.cond
_numbers = itertools.count()
_library = torch.library.Library("fxir_range_dispatch", "FRAGMENT")


def own_implementation_ran(*args):
    raise AssertionError("the op itself ran")


def make_op(
    schema="(Tensor x) -> Tensor",
    fake=torch.empty_like,
    own=own_implementation_ran,
    name=None,
):
    """A new op; ``own`` is what computes it where no implementation is chosen."""
    name = f"fxir_range_dispatch::{name or f'op{next(_numbers)}'}"
    torch.library.define(name, schema, lib=_library)
    torch.library.impl(name, "CompositeExplicitAutograd", own, lib=_library)
    torch.library.register_fake(name, fake, lib=_library)
    return getattr(torch.ops.fxir_range_dispatch, name.partition("::")[2]).default


def tensor(*shape, **kwargs):
    return torch.randn(*shape, device=DEVICE, **kwargs)


def rows(size):
    return (tensor(size, 5),)


def sin(x):
    return x.sin()


def tanh(x):
    return x.tanh()


def relu(x):
    return x.relu()


UNARY = (sin, tanh, relu)


def clone(tree):
    return torch.utils._pytree.tree_map_only(torch.Tensor, torch.clone, tree)


def range_index(size, split_points=SPLIT_POINTS):
    return sum(size > point for point in split_points)


def graph_modules(gm):
    return [m for m in gm.modules() if isinstance(m, torch.fx.GraphModule)]


def find_nodes(gm, target):
    """The calls of ``target`` in the graph module and in all that are nested in it."""
    return [
        node
        for module in graph_modules(gm)
        for node in module.graph.find_nodes(op="call_function", target=target)
    ]


def arguments_of(gm, *tensors):
    """The arguments of a graph module: the tensors, and the sizes of theirs that the
    graph takes."""
    placeholders = gm.graph.find_nodes(op="placeholder")
    values = [node.meta["val"] for node in placeholders]
    fakes = [value for value in values if isinstance(value, torch.Tensor)]
    sizes = {
        str(symbol): size
        for fake, given in zip(fakes, tensors, strict=True)
        for symbol, size in zip(fake.shape, given.shape)
    }
    given = iter(tensors)
    return [
        next(given) if isinstance(v, torch.Tensor) else sizes[str(v)] for v in values
    ]


@dataclass
class Conversion:
    """One run of the FX converter."""

    graph: torch.fx.GraphModule
    is_branch: bool
    lines: list[type]
    kernel_sources: dict[str, str]


@contextlib.contextmanager
def record_conversions():
    conversions = []
    generate = FxConverter.generate

    def generate_and_record(converter):
        graph = generate(converter)
        definitions = converter.kernel_definitions
        conversions.append(
            Conversion(
                graph,
                converter.is_subgraph,
                [type(line) for line in converter.lines],
                {name: line.kernel_body for name, line in definitions.items()},
            )
        )
        return graph

    with mock.patch.object(FxConverter, "generate", generate_and_record):
        yield conversions


@dataclass
class Result:
    """What one compile left, and the kernels that were launched at each size."""

    conversions: list[Conversion]
    launches: dict[int, list[str]]

    @property
    def graph(self):
        """The graph module of the whole graph, the first if there are more."""
        return next(c.graph for c in self.conversions if not c.is_branch)

    @property
    def lines_in_branches(self):
        return {line for c in self.conversions if c.is_branch for line in c.lines}

    @property
    def kernel_sources(self):
        return {k: v for c in self.conversions for k, v in c.kernel_sources.items()}


@unittest.skipUnless(HAS_TRITON, SKIP_REASON)
class FxRangeDispatchTestCase(TestCase):
    def setUp(self):
        super().setUp()
        torch.manual_seed(0)
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.recorder = stack.enter_context(triton_kernels())
        stack.enter_context(config.patch(fx_wrapper=True))

    def register(
        self,
        op,
        implementations,
        *,
        split_points=SPLIT_POINTS,
        winners=None,
        on=("x", 0),
    ):
        """Registers the op for the rest of the test."""
        context = custom_op_autotuning(
            op,
            configs=[CustomOpConfig(f) for f in implementations],
            dispatch_on={"tensor_name": on[0], "dim": on[1]},
            split_points=[*split_points],
            winners=winners or [*range(len(split_points) + 1)],
        )
        context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)

    def assert_sound(self, gm, conds):
        """The graph has so many conds, and with all its branches it is valid."""
        for module in graph_modules(gm):
            module.graph.lint()
        self.assertEqual(len(find_nodes(gm, cond)), conds)

    def check(
        self,
        implementations,
        make_inputs=rows,
        *,
        op=None,
        own=None,
        model=lambda op, *args: op(*args),
        split_points=SPLIT_POINTS,
        winners=None,
        on=("x", 0),
        size_of=lambda size: size,
        sizes=SIZES,
        first_size=FIRST_SIZE,
        conds=None,
        **patches,
    ):
        """Compiles ``model(op, *make_inputs(size))`` once, and compares it at each size
        with the model of the implementation that the size calls for.

        ``size_of`` gives the dispatched size. ``own`` is expected for a winner of -1.
        """
        op = make_op() if op is None else op
        winners = winners or [*range(len(split_points) + 1)]
        conds = len({*winners}) - 1 if conds is None else conds
        self.register(
            op, implementations, split_points=split_points, winners=winners, on=on
        )

        def expected_at(size):
            winner = winners[range_index(size_of(size), split_points)]
            return own if winner == -1 else implementations[winner]

        return self.check_model(
            lambda *args: model(op, *args),
            lambda size: lambda *args: model(expected_at(size), *args),
            make_inputs,
            sizes=sizes,
            first_size=first_size,
            conds=conds,
            **patches,
        )

    def check_model(
        self,
        model,
        reference_at,
        make_inputs,
        *,
        sizes=SIZES,
        first_size=FIRST_SIZE,
        conds,
        **patches,
    ):
        torch._dynamo.reset()
        counter = CompileCounterWithBackend("inductor")
        compiled = torch.compile(model, backend=counter, dynamic=True, fullgraph=True)
        launches = {}
        with (
            torch.no_grad(),
            config.patch(patches),
            record_conversions() as conversions,
            # A dropped candidate is a warning.
            self.assertNoLogs(DISPATCH_LOGGER, "WARNING"),
        ):
            for size in (first_size, *sizes):
                args = make_inputs(size)
                eager_args = clone(args)
                due = reference_at(size)(*eager_args)
                outputs = []
                launches[size] = self.recorder.kernels_run_by(
                    lambda: outputs.append(compiled(*args))
                )
                self.assertEqual(
                    (outputs, args),
                    ([due], eager_args),
                    rtol=1e-4,
                    atol=1e-4,
                    msg=lambda m: f"size {size}: {m}",
                )
        self.assertEqual(counter.frame_count, 1)
        self.assertEqual(sum(not c.is_branch for c in conversions), 1)
        result = Result(conversions, launches)
        self.assert_sound(result.graph, conds)
        return result


def readable_graphs(name, graph_module):
    """The code of a graph, then of its branches, as (for True, for False).

    The same for all releases, which differ in the order of arguments, of branches and
    of kernels.
    """
    conds = graph_module.graph.find_nodes(op="call_function", target=cond)
    named = {str(one) for node in conds for one in node.args[1:3]}
    python = graph_module.graph.python_code("self", verbose=True).src
    for line in python.splitlines():
        if match := re.match(r"def forward\(self, (.*)\):", line):
            arguments = sorted(re.split(r", (?=\w+ *:)", match[1]))
            yield f"{name}({', '.join(arguments)}):"
        elif line.strip() and line.split()[0] not in {"#", *named}:
            yield re.sub(r";  .* = None$", "", line)
    for node in conds:
        for one in node.args[1:3]:
            yield from readable_graphs(one.target, getattr(graph_module, one.target))


@pytest.mark.smoke
class ThreeKernelsTest(FxRangeDispatchTestCase):
    """The issue's experiment: a sine, a hyperbolic tangent and a maximum with zero."""

    def test_each_size_launches_its_own_kernel(self):
        result = self.check(UNARY)
        kernel_of = {}
        for size, kernels in result.launches.items():
            (kernel,) = kernels
            kernel_of.setdefault(range_index(size), set()).add(kernel)
        self.assertEqual([len(kernel_of[i]) for i in range(3)], [1, 1, 1])
        kernels = [kernel_of[i].pop() for i in range(3)]
        self.assertEqual(len({*kernels}), 3)
        computes = ("tl_math.sin(", "libdevice.tanh(", ".maximum(")
        for kernel, computed in zip(kernels, computes):
            source = result.kernel_sources[kernel]
            self.assertEqual([c for c in computes if c in source], [computed])

    def test_graph(self):
        kernel_side_table.reset_table()
        result = self.check(UNARY, op=make_op(name="unary"))
        lines = [line for one in result.conversions for line in one.lines]
        self.assertEqual(lines.count(COND_LINE), 2)
        graph = result.graph
        # The names of nested graphs are long, as they are made of their parents' names.
        prefix = "fxir_range_dispatch__unary_autotuned_0_"
        code = "\n".join(readable_graphs("graph", graph)).replace(prefix, "")
        kernels = re.findall(r"\bkernel_idx = (\d+)", code)
        self.assertEqual(sorted(kernels), ["0", "1", "2"])
        code = re.sub(r"_idx = \d+", "_idx = N", code)
        code = re.sub(r"\barg\d_1\b", "x", code)
        self.assertExpectedInline(
            code.replace(f"device = '{DEVICE}'", "device = DEVICE"),
            """\
graph(x: "f32[s33, s50]", s33: "Sym(s33)", s50: "Sym(s50)"):
    le: "Sym(s33 <= 8)" = s33 <= 8
    cond = torch.ops.higher_order.cond(le, branch_0, outside, (x, s33, s50))
    buf1: "f32[s33, s50]" = cond[0]
    return buf1
branch_0(branch_0_arg0_1: "f32[s33, s50]", s33: "Sym(s33)", s50: "Sym(s50)"):
    branch_0_buf0: "f32[s33, s50]" = torch.empty_strided([s33, s50], [s50, 1], dtype = torch.float32, device = DEVICE)
    mul: "Sym(s33*s50)" = s33 * s50
    mul_1: "Sym(-s33)" = -1 * s33
    mul_2: "Sym(-s33*s50)" = mul_1 * s50
    floordiv: "Sym(((-s33*s50)//128))" = mul_2 // 128
    mul_3: "Sym(-(((-s33*s50)//128)))" = -1 * floordiv
    triton_kernel_wrapper_mutation = torch.ops.higher_order.triton_kernel_wrapper_mutation(kernel_idx = N, constant_args_idx = N, grid = [(mul_3, 1, 1)], tma_descriptor_metadata = {}, kwargs = {'in_ptr0': branch_0_arg0_1, 'out_ptr0': branch_0_buf0, 'xnumel': mul, 'XBLOCK': 128})
    return [branch_0_buf0]
outside(outside_operand_0: "f32[s33, s50]", s33: "Sym(s33)", s50: "Sym(s50)"):
    le: "Sym(s33 <= 100)" = s33 <= 100
    cond = torch.ops.higher_order.cond(le, outside_branch_1, outside_branch_2, (outside_operand_0, s33, s50))
    outside_buf1: "f32[s33, s50]" = cond[0]
    return [outside_buf1]
outside_branch_1(outside_branch_1_arg0_1: "f32[s33, s50]", s33: "Sym(s33)", s50: "Sym(s50)"):
    outside_branch_1_buf0: "f32[s33, s50]" = torch.empty_strided([s33, s50], [s50, 1], dtype = torch.float32, device = DEVICE)
    mul: "Sym(s33*s50)" = s33 * s50
    mul_1: "Sym(-s33)" = -1 * s33
    mul_2: "Sym(-s33*s50)" = mul_1 * s50
    floordiv: "Sym(((-s33*s50)//128))" = mul_2 // 128
    mul_3: "Sym(-(((-s33*s50)//128)))" = -1 * floordiv
    triton_kernel_wrapper_mutation = torch.ops.higher_order.triton_kernel_wrapper_mutation(kernel_idx = N, constant_args_idx = N, grid = [(mul_3, 1, 1)], tma_descriptor_metadata = {}, kwargs = {'in_ptr0': outside_branch_1_arg0_1, 'out_ptr0': outside_branch_1_buf0, 'xnumel': mul, 'XBLOCK': 128})
    return [outside_branch_1_buf0]
outside_branch_2(outside_branch_2_arg0_1: "f32[s33, s50]", s33: "Sym(s33)", s50: "Sym(s50)"):
    outside_branch_2_buf0: "f32[s33, s50]" = torch.empty_strided([s33, s50], [s50, 1], dtype = torch.float32, device = DEVICE)
    mul: "Sym(s33*s50)" = s33 * s50
    mul_1: "Sym(-s33)" = -1 * s33
    mul_2: "Sym(-s33*s50)" = mul_1 * s50
    floordiv: "Sym(((-s33*s50)//128))" = mul_2 // 128
    mul_3: "Sym(-(((-s33*s50)//128)))" = -1 * floordiv
    triton_kernel_wrapper_mutation = torch.ops.higher_order.triton_kernel_wrapper_mutation(kernel_idx = N, constant_args_idx = N, grid = [(mul_3, 1, 1)], tma_descriptor_metadata = {}, kwargs = {'in_ptr0': outside_branch_2_arg0_1, 'out_ptr0': outside_branch_2_buf0, 'xnumel': mul, 'XBLOCK': 128})
    return [outside_branch_2_buf0]""",
        )


# More elements than the eight that Inductor writes into a kernel as literals.
MATRIX = torch.randn(5, 5, device=DEVICE)
VECTOR = torch.randn(5, device=DEVICE)


def make_matmul_op(own=own_implementation_ran):
    return make_op(
        "(Tensor x, Tensor w) -> Tensor",
        lambda x, w: x.new_empty(x.shape[0], w.shape[1]),
        own,
    )


def matmul_inputs(size):
    return tensor(size, 5), tensor(5, 7)


def mm(x, w):
    return torch.mm(x, w)


def addmm(x, w):
    return torch.addmm(w[0], x, w)


def bmm(x, w):
    return torch.bmm(x[None], w[None]).squeeze(0)


@instantiate_parametrized_tests
@pytest.mark.smoke
class ExternKernelsTest(FxRangeDispatchTestCase):
    def assert_only_extern(self, result):
        self.assertEqual({*itertools.chain(*result.launches.values())}, set())
        self.assertFalse(find_nodes(result.graph, triton_kernel_wrapper_mutation))
        self.assertNotIn(KernelCallLine, result.lines_in_branches)

    def test_matmuls(self):
        result = self.check([mm, addmm, bmm], matmul_inputs, op=make_matmul_op())
        self.assert_only_extern(result)
        self.assertIn(ExternKernelOutLine, result.lines_in_branches)

    def test_fallback(self):
        def own(x, w):
            return torch.mm(x, w) * 3

        op = make_matmul_op(own)
        result = self.check(
            [mm, addmm], matmul_inputs, op=op, own=own, winners=[0, 1, -1]
        )
        self.assert_only_extern(result)
        self.assertEqual(len(find_nodes(result.graph, op)), 1)
        self.assertIn(ExternKernelAllocLine, result.lines_in_branches)

    @parametrize("winners", [[-1, -1, -1], [0, 0, -1]])
    def test_arguments_of_a_fallback(self, winners):
        """By keyword what follows the tensors, in a branch as without any."""

        def own(x, scale, bias=0.5, dims=(1,)):
            return torch.mm(x, x.new_ones(x.shape[1], 3)) * scale + bias

        def fake(x, scale, bias=0.5, dims=(1,)):
            return x.new_empty(x.shape[0], 3)

        schema = "(Tensor x, float scale, float bias=0.5, int[] dims=[1]) -> Tensor"
        op = make_op(schema, fake, own)
        result = self.check(
            [lambda x, *_, **__: torch.mm(x, x.new_ones(x.shape[1], 3))],
            op=op,
            own=own,
            model=lambda op, x: op(x, 2.0, dims=[3]),
            winners=winners,
        )
        (node,) = find_nodes(result.graph, op)
        self.assertEqual(len(node.args), 1)
        self.assertEqual(dict(node.kwargs), {"scale": 2.0, "bias": 0.5, "dims": [3]})

    def test_beside_triton_kernels(self):
        def outer(x, w):
            return x[:, :1] * w[0]

        def between_kernels(x, w):
            return torch.mm(x.tanh(), w) + 1

        # The last range launches a kernel before the matmul and one after it.
        result = self.check(
            [mm, outer, between_kernels],
            matmul_inputs,
            op=make_matmul_op(),
        )
        counts = {n: len(kernels) for n, kernels in result.launches.items()}
        self.assertEqual(counts, {n: range_index(n) for n in counts})

    def test_prologue_and_epilogue(self):
        def model(op, x, w):
            return op(x.exp(), w.cos()) * 2 + 1

        result = self.check(
            [mm, addmm, lambda x, w: torch.mm(x, w).sin()],
            matmul_inputs,
            op=make_matmul_op(),
            model=model,
        )
        before_and_after = result.launches[SIZES[0]]
        self.assertEqual(len(before_and_after), 3)
        self.assertEqual(result.launches[9], before_and_after)
        self.assertEqual(len({*result.launches[101]} - {*before_and_after}), 1)


class SharedKernelsTest(FxRangeDispatchTestCase):
    def test_prologue_and_epilogue(self):
        def model(op, x):
            return op(x.exp()) * 2 + x.sum(0)

        result = self.check(UNARY, model=model)
        common_to_all = set.intersection(*map(set, result.launches.values()))
        self.assertTrue(common_to_all)
        for size, kernels in result.launches.items():
            self.assertEqual(len({*kernels} - common_to_all), 1, msg=f"size {size}")

    def test_with_the_parent_graph(self):
        def model(op, x):
            return op(x), x.sin()

        result = self.check([sin, tanh, relu], model=model)
        (kernel,) = {*result.launches[8]}
        self.assertEqual(result.launches[8], [kernel, kernel])
        for size in (9, 101):
            first, second = result.launches[size]
            self.assertEqual([first, second].count(kernel), 1)

    def test_between_branches(self):
        # An extern kernel keeps what stands before it from fusing with what follows.
        def first(x, w):
            return torch.mm(x.sin(), w)

        def second(x, w):
            return torch.mm(x.sin(), w).tanh()

        def third(x, w):
            return torch.addmm(w[0], x.sin(), w)

        result = self.check([first, second, third], matmul_inputs, op=make_matmul_op())
        (shared,) = result.launches[8]
        self.assertEqual(result.launches[101], [shared])
        self.assertEqual(result.launches[9][0], shared)
        self.assertEqual(len(result.launches[9]), 2)
        self.assertEqual(len(result.kernel_sources), 2)


@dataclass(frozen=True)
class SizeCase:
    """What is dispatched on: ``prepare(*make_inputs(n))``, of ``size_of(n)`` rows."""

    prepare: Callable[..., torch.Tensor]
    sizes: tuple[int, ...]
    size_of: Callable[[int], int] = lambda n: n
    make_inputs: Callable[[int], tuple[torch.Tensor, ...]] = rows


def same(x):
    return x


SIZE_CASES = {
    "vector": SizeCase(same, SIZES, make_inputs=lambda n: (tensor(n),)),
    "view": SizeCase(
        lambda x: x.reshape(-1, 5),
        (3, 4, 5, 49, 50, 51),
        lambda n: 2 * n,
        lambda n: (tensor(2, n, 5),),
    ),
    "view_of_two_sizes": SizeCase(
        lambda x: x.reshape(-1, 5),
        (2, 3, 9, 10),
        lambda n: n * (n + 1),
        lambda n: (tensor(n, n + 1, 5),),
    ),
    "cat": SizeCase(
        lambda x, y: torch.cat([x, y]),
        (2, 3, 48, 49),
        lambda n: 2 * n + 3,
        lambda n: (tensor(n, 5), tensor(n + 3, 5)),
    ),
    "cat_with_itself": SizeCase(
        lambda x: torch.cat([x, x, x]), (2, 3, 33, 34), lambda n: 3 * n
    ),
    "cat_with_a_constant_size": SizeCase(
        lambda x, y: torch.cat([x, y.sin()]),
        (2, 91, 92, 93),
        lambda n: n + 8,
        lambda n: (tensor(n, 5), tensor(8, 5)),
    ),
    "slice": SizeCase(lambda x: x[1:], (8, 9, 10, 100, 101, 102), lambda n: n - 1),
    "half": SizeCase(
        lambda x: x[: x.shape[0] // 2], (15, 17, 18, 201, 202), lambda n: n // 2
    ),
    "every_other_row": SizeCase(
        lambda x: x[::2], (15, 16, 17, 199, 200, 201), lambda n: (n + 1) // 2
    ),
    "pad": SizeCase(
        lambda x: F.pad(x, (0, 0, 1, 2)), (4, 5, 6, 96, 97, 98), lambda n: n + 3
    ),
    "transposed": SizeCase(
        lambda x: x.t(), SIZES, make_inputs=lambda n: (tensor(5, n),)
    ),
    "strided": SizeCase(
        lambda x: x[:, ::2], SIZES, make_inputs=lambda n: (tensor(n, 6),)
    ),
    "expanded": SizeCase(
        lambda x: x.expand(-1, 4), SIZES, make_inputs=lambda n: (tensor(n, 1),)
    ),
    "expanded_rows": SizeCase(
        lambda x, y: y.expand(x.shape[0], 5),
        SIZES,
        make_inputs=lambda n: (tensor(n), tensor(5)),
    ),
    "square": SizeCase(same, SIZES, make_inputs=lambda n: (tensor(n, n),)),
}


@instantiate_parametrized_tests
class DispatchedSizeTest(FxRangeDispatchTestCase):
    @parametrize("name", sorted(SIZE_CASES))
    def test_size(self, name):
        case = SIZE_CASES[name]
        self.check(
            UNARY,
            case.make_inputs,
            model=lambda op, *args: op(case.prepare(*args)),
            size_of=case.size_of,
            sizes=case.sizes,
        )

    def test_layout_of_the_input(self):
        for make_input in (
            lambda n: tensor(5, n).t(),
            lambda n: tensor(n, 10)[:, ::2],
            lambda n: tensor(n, 1).expand(n, 5),
        ):
            self.check(UNARY, lambda n: (make_input(n),))

    def test_second_input_repeats_the_size(self):
        op = make_op("(Tensor x, Tensor y) -> Tensor", lambda x, y: torch.empty_like(x))
        implementations = [
            lambda x, y: x + y.sum(1, keepdim=True),
            lambda x, y: x - y.amax(0)[:, None],
            lambda x, y: torch.mm(y, x),
        ]
        self.check(
            implementations,
            lambda n: (tensor(n, 5), tensor(n, n)),
            op=op,
            split_points=(4, 12),
            first_size=7,
            sizes=(3, 4, 5, 11, 12, 13),
        )

    def test_second_input_is_dispatched_on(self):
        op = make_op("(Tensor y, Tensor x) -> Tensor", lambda y, x: torch.empty_like(x))
        implementations = [
            lambda y, x: x + y.sum(),
            lambda y, x: x * y.sum(),
            lambda y, x: x.tanh(),
        ]
        self.check(
            implementations, lambda n: (tensor(3), tensor(2, n)), op=op, on=("x", -1)
        )

    def test_size_is_an_argument_of_the_op(self):
        op = make_op("(Tensor x, SymInt k) -> Tensor", lambda x, k: torch.empty_like(x))
        self.check(
            [lambda x, k: x * k, lambda x, k: x + k, lambda x, k: x - 2 * k],
            op=op,
            model=lambda op, x: op(x, x.shape[0] * 2 + 1),
        )

    def test_size_is_used_in_a_branch(self):
        def arange(x):
            return x + torch.arange(x.shape[0], device=x.device)[:, None]

        def full(x):
            return x.new_full((x.shape[0], x.shape[1]), 2.0) * x

        self.check([lambda x: x * x.shape[0], arange, full])


class ConstantsTest(FxRangeDispatchTestCase):
    def test_literals(self):
        def small(x):
            return x * torch.tensor([2.0, 1.0, 3.0, 4.0, 9.0], device=x.device)

        def scalar(x):
            return x - torch.tensor(3.5, device=x.device)

        def large(x):
            return torch.mm(x, torch.tensor(MATRIX.tolist(), device=x.device))

        result = self.check([small, scalar, large])
        self.assertEqual(len(find_nodes(result.graph, torch.ops.aten.mm.out)), 1)

    def test_closed_over(self):
        def matmul(x):
            return torch.mm(x, MATRIX)

        def add(x):
            return x + VECTOR

        def transposed(x):
            return torch.mm(x, MATRIX.t())

        result = self.check([matmul, add, transposed])
        counts = [len(result.launches[size]) for size in (8, 9, 101)]
        self.assertEqual(counts, [0, 1, 0])

    def test_closed_over_and_in_the_parent(self):
        self.check(
            [lambda x: torch.mm(x, MATRIX), lambda x: x + VECTOR, relu],
            model=lambda op, x: torch.mm(op(x), MATRIX) + VECTOR,
        )

    def test_closed_over_parameter(self):
        parameter = torch.nn.Parameter(tensor(5))
        self.check(
            [
                lambda x: x + parameter,
                lambda x: x * parameter,
                lambda x: torch.mm(x, torch.diag(parameter)),
            ]
        )

    def test_parameters_and_buffers_of_the_model(self):
        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.parameter = torch.nn.Parameter(tensor(5))
                self.register_buffer("buffer", tensor(5))

            def forward(self, op, x):
                return op(x * self.buffer) + self.parameter

        self.check(UNARY, model=Model())

    def test_parameters_as_arguments(self):
        linear = torch.nn.Linear(5, 7, device=DEVICE)
        op = make_op(
            "(Tensor x, Tensor w, Tensor b) -> Tensor",
            lambda x, w, b: x.new_empty(x.shape[0], w.shape[0]),
        )
        self.check(
            [
                lambda x, w, b: F.linear(x, w, b),
                lambda x, w, b: F.linear(x, w, b).tanh(),
                lambda x, w, b: torch.mm(x, w.t()),
            ],
            op=op,
            model=lambda op, x: op(x, linear.weight, linear.bias),
        )


def nonzero_of(condition):
    return lambda x: condition(x).nonzero()


NONZERO = tuple(
    nonzero_of(condition)
    for condition in (lambda x: x > 0, lambda x: x < 0, lambda x: x > 1)
)


def nonzero_fake(x):
    count = torch.library.get_ctx().new_dynamic_size()
    return x.new_empty(count, 2, dtype=torch.int64)


def make_indexed_op():
    return make_op("(Tensor x, Tensor k) -> Tensor", lambda x, k: torch.empty_like(x))


@instantiate_parametrized_tests
class WrapperLinesTest(FxRangeDispatchTestCase):
    """Whatever Inductor writes for what a branch computes is converted there."""

    def test_unbacked_symbol_defs(self):
        result = self.check(NONZERO, op=make_op(fake=nonzero_fake))
        self.assertIn(UnbackedSymbolDefsLine, result.lines_in_branches)

    def test_unbacked_symbol_defs_before_kernels(self):
        result = self.check(
            [lambda x, f=f: f(x) * 2 + 1 for f in NONZERO],
            op=make_op(fake=nonzero_fake),
            model=lambda op, x: op(x) * 3 + 5,
        )
        lines = result.lines_in_branches
        self.assertLessEqual({UnbackedSymbolDefsLine, KernelCallLine}, lines)
        self.assertEqual({len(k) for k in result.launches.values()}, {3})

    @parametrize("value", (3, 1, True, 3.5))
    @parametrize("device", sorted({"cpu", DEVICE}))
    def test_dynamic_scalar(self, value, device):
        result = self.check(
            [
                lambda x, k: x * k.item(),
                lambda x, k: x + k.item(),
                lambda x, k: x * 2 + k.item(),
            ],
            lambda n: (tensor(n, 5), torch.tensor(value, device=device)),
            op=make_indexed_op(),
        )
        self.assertIn(DynamicScalarLine, result.lines_in_branches)

    def test_scatter_fallback(self):
        result = self.check(
            [
                lambda x, k: torch.zeros_like(x).scatter_reduce(1, k, x, "prod"),
                lambda x, k: x.scatter_reduce(1, k, x, "amax"),
                lambda x, k: x.scatter_reduce(1, k, x, "mean", include_self=False),
            ],
            lambda n: (tensor(n, 5), torch.randint(5, (n, 5), device=DEVICE)),
            op=make_indexed_op(),
        )
        self.assertIn(ScatterFallbackLine, result.lines_in_branches)

    def test_scatter_kernels(self):
        def permutations(n):
            return torch.randperm(5, device=DEVICE).expand(n, 5).contiguous()

        self.check(
            [
                lambda x, k: torch.zeros_like(x).scatter_add(1, k, x),
                lambda x, k: x.scatter_add(1, k, x),
                lambda x, k: x.scatter(1, k, 7.0) + x,
            ],
            lambda n: (tensor(n, 5), permutations(n)),
            op=make_indexed_op(),
        )

    @parametrize("deterministic", (False, True))
    def test_index_put(self, deterministic):
        def index_put(scale):
            def implementation(x, k):
                return torch.ops.aten.index_put(x, (None, k), x * scale, True)

            return implementation

        before = torch.are_deterministic_algorithms_enabled()
        self.addCleanup(torch.use_deterministic_algorithms, before)
        torch.use_deterministic_algorithms(deterministic)
        result = self.check(
            [index_put(1.0), index_put(2.0), index_put(3.0)],
            lambda n: (tensor(n, 5), torch.randint(5, (5,), device=DEVICE)),
            op=make_indexed_op(),
        )
        if deterministic:
            self.assertIn(IndexPutFallbackLine, result.lines_in_branches)

    def test_multi_output(self):
        result = self.check(
            [
                lambda x: x.topk(2)[0],
                lambda x: x.topk(2, largest=False)[0],
                lambda x: x.sort(-1)[0][:, 1:3] + 1,
            ],
            op=make_op(fake=lambda x: x.new_empty(x.shape[0], 2)),
        )
        self.assertIn(MultiOutputLine, result.lines_in_branches)

    def test_several_outputs(self):
        op = make_op(
            "(Tensor x) -> (Tensor, Tensor)",
            lambda x: (
                x.new_empty(x.shape[0], 2),
                x.new_empty(x.shape[0], 2, dtype=torch.int64),
            ),
        )

        def neither(x):
            indices = torch.arange(2, device=x.device).expand(x.shape[0], 2)
            return x[:, :2] + 1, indices.contiguous()

        result = self.check(
            [
                lambda x: tuple(x.topk(2)),
                lambda x: tuple(x.topk(2, largest=False)),
                neither,
            ],
            op=op,
        )
        self.assertIn(MultiOutputLine, result.lines_in_branches)

    def test_mutated_operand(self):
        def model(op, x):
            op(x)
            return x + 1

        def mutating(f):
            def implementation(x):
                f(x)

            return implementation

        self.check(
            [mutating(f) for f in (torch.sin_, lambda x: x.add_(1), torch.relu_)],
            op=make_op("(Tensor(a!) x) -> ()", lambda x: None),
            model=model,
        )

    def test_mutated_operand_and_output(self):
        def first(x):
            x.sin_()
            return x.sum(0)

        def second(x):
            x.add_(1)
            return x.amax(0)

        def third(x):
            x[0] = 7.0
            return x.amin(0)

        self.check(
            [first, second, third],
            op=make_op("(Tensor(a!) x) -> Tensor", lambda x: x.new_empty(x.shape[1])),
            model=lambda op, x: (op(x), x + 1),
        )

    def test_mutated_temporary(self):
        def first(x):
            y = x.clone()
            y[:, 0] = 1
            return y

        def second(x):
            y = x.sin()
            y.add_(1)
            y[:, 1:3] *= 2
            return y

        def third(x):
            y = torch.zeros_like(x)
            y.copy_(x)
            y[0] += 1
            return y

        self.check([first, second, third])

    def test_op_without_outputs_in_a_branch(self):
        def fill_in_place(x):
            x.fill_(3.0)

        fill = make_op("(Tensor(a!) x) -> ()", lambda x: None, fill_in_place)

        def filled(x):
            y = x.clone()
            fill(y)
            return y + 1

        result = self.check([sin, filled, relu])
        self.assertEqual(len(find_nodes(result.graph, fill)), 1)

    def test_reinterpret(self):
        def transposed(x):
            return torch.mm(x.t().sin(), x).t().contiguous()

        def plain(x):
            return torch.mm(x.t(), x.cos())

        def reshaped(x):
            return torch.mm((x * 2).reshape(-1, x.shape[1]).t(), x)

        self.check(
            [transposed, plain, reshaped],
            op=make_op(fake=lambda x: x.new_empty(x.shape[1], x.shape[1])),
        )

    def test_reinterpret_line(self):
        # The parts of a concatenation are views of its memory.
        def cat_of_matmuls(x):
            return torch.cat([torch.mm(x, MATRIX), torch.mm(x, MATRIX.t())], 1)

        def cat_of_kernels(x):
            return torch.cat([x.sin(), torch.mm(x, MATRIX)], 1)

        def strided(x):
            y = torch.mm(x, MATRIX)
            return torch.cat([y, y.as_strided((x.shape[0], 5), (5, 1))], 1) * 2

        result = self.check(
            [cat_of_matmuls, cat_of_kernels, strided],
            op=make_op(fake=lambda x: x.new_empty(x.shape[0], 2 * x.shape[1])),
        )
        self.assertIn(ReinterpretLine, result.lines_in_branches)

    def test_reuse(self):
        # The first temporary is free when the third is needed.
        def chain(x):
            y = torch.mm(torch.mm(x.sin(), MATRIX).cos(), MATRIX)
            return torch.mm(y.tanh(), MATRIX)

        result = self.check([chain, tanh, relu])
        self.assertIn(ReuseLine, result.lines_in_branches)

    def test_symbolic_call_args_and_grids(self):
        # Each kernel gets the number of elements, and a grid that grows with it.
        result = self.check(
            [
                lambda x: x.sum(0),
                lambda x: x.softmax(0).amax(0),
                lambda x: x.var(0, correction=0),
            ],
            lambda n: (tensor(n, 3),),
            op=make_op(fake=lambda x: x.new_empty(x.shape[1])),
        )
        self.assertIn(SymbolicCallArgLine, result.lines_in_branches)
        result = self.check(UNARY, lambda n: (tensor(n, 40),))
        self.assertIn(SymbolicCallArgLine, result.lines_in_branches)
        calls = find_nodes(result.graph, triton_kernel_wrapper_mutation)
        for call in calls:
            (grid,) = call.kwargs["grid"]
            self.assertIsInstance(grid[0], torch.fx.Node)

    def test_random_numbers(self):
        self.check(
            [
                lambda x: torch.bernoulli(torch.ones_like(x)),
                lambda x: torch.rand_like(x) * 0 + 5,
                lambda x: torch.bernoulli(torch.zeros_like(x)),
            ]
        )


class SeveralDispatchesTest(FxRangeDispatchTestCase):
    def test_two_ops_in_a_chain(self):
        first, second = make_op(), make_op()
        others, points = (relu, sin, tanh), (5, 64)
        self.register(first, UNARY)
        self.register(second, others, split_points=points)
        self.check_model(
            lambda x: second(first(x)),
            lambda n: (
                lambda x: others[range_index(n, points)](UNARY[range_index(n)](x))
            ),
            rows,
            sizes=(5, 6, 8, 9, 64, 65, 100, 101),
            conds=4,
        )

    @config.patch("range_dispatch.fuse", False)
    def test_one_op_twice(self):
        # The second call has the same sizes: what is outside the first range is one
        # graph, called twice.
        result = self.check(UNARY, model=lambda op, x: op(op(x) + 1), conds=3)
        for size in (8, 9, 101):
            first, _, second = result.launches[size]
            self.assertEqual(first, second)

    def test_seventeen_ranges(self):
        split_points = [4 * (i + 1) for i in range(16)]
        implementations = [lambda x, i=i: x * i + 1 for i in range(17)]
        result = self.check(
            implementations,
            split_points=split_points,
            first_size=7,
            sizes=[p + d for p in split_points for d in (0, 1)],
        )
        self.assertEqual(len({*itertools.chain(*result.launches.values())}), 17)

    def test_distant_ranges_with_one_winner(self):
        result = self.check(
            [sin, tanh],
            split_points=(4, 8, 16, 32),
            winners=[0, 1, 0, 1, 0],
            first_size=7,
            sizes=(3, 4, 5, 8, 9, 16, 17, 32, 33),
        )
        self.assertEqual(len({*itertools.chain(*result.launches.values())}), 2)
        (node,) = find_nodes(result.graph, cond)
        self.assertRegex(str(node.args[0].target), "and|or")


class UserCondTest(FxRangeDispatchTestCase):
    @staticmethod
    def by_size(x):
        return torch.cond(x.shape[0] > 4, lambda x: x.sin(), lambda x: x.cos(), (x,))

    @staticmethod
    def by_value(x):
        return torch.cond(
            x[0, 0] > 0, lambda x: x.sin() + 1, lambda x: x.cos() + 1, (x,)
        )

    def test_inside_implementations(self):
        self.check([self.by_size, self.by_value, relu], conds=4, sizes=(4, 5, *SIZES))

    def test_beside_the_op(self):
        def model(op, x):
            return self.by_value(op(self.by_size(x)))

        self.check(UNARY, model=model, conds=4, sizes=(4, 5, *SIZES))

    def test_op_inside_a_branch(self):
        def model(op, x):
            return torch.cond(x[0, 0] > 0, op, lambda x: x * 3, (x,))

        self.check(UNARY, model=model, conds=3)


def lower_at_one_size(x):
    """Guards, and leaves the rest to the normal lowering."""
    V.graph.sizevars.guard_int(x.get_size()[0])


class ConstantPredicateTest(FxRangeDispatchTestCase):
    """A lowering may guard on a size, after Dynamo."""

    sizes = (8, 20, 101)

    def predicates_at(self, size, model, reference):
        """Those of the graph's conds, when the model is compiled at the size."""
        torch._dynamo.reset()
        x, signal = tensor(size, 1, 3), tensor(1, 1, 30)
        torch._dynamo.maybe_mark_dynamic(x, 0)
        compiled = torch.compile(model, fullgraph=True)
        with torch.no_grad(), record_conversions() as conversions:
            actual = compiled(x, signal)
        self.assertEqual(actual, reference(x, signal), rtol=1e-4, atol=1e-4)
        graph = Result(conversions, {}).graph
        conds = find_nodes(graph, cond)
        self.assert_sound(graph, len(conds))
        return [node.args[0] for node in conds]

    def specializing_op(self):
        op = make_op(own=torch.clone)
        self.enterContext(mock.patch.dict(user_lowerings, {op: lower_at_one_size}))
        return op

    def test_size_is_specialized_in_a_branch(self):
        def convolve(x, signal):
            return F.conv1d(signal, specialize(x))

        def add(x, signal):
            return signal[:, :, 2:] + x[:, 0, 0][:, None]

        def multiply(x, signal):
            return signal[:, :, 2:] * x[:, 0, 0][:, None]

        implementations = (convolve, add, multiply)
        op = make_op(
            "(Tensor x, Tensor signal) -> Tensor",
            lambda x, signal: signal.new_empty(1, x.shape[0], signal.shape[2] - 2),
        )
        self.register(op, implementations)
        specialize = self.specializing_op()
        for size in self.sizes:
            predicates = self.predicates_at(
                size, op, implementations[range_index(size)]
            )
            self.assertEqual(len(predicates), 2)
            # That of the outer cond was lowered before; where the branch for False
            # is lowered first, that of the inner one was, too.
            if not HAS_SWITCH:
                self.assertIs(predicates[1], size <= 100)

    def test_size_is_specialized_before_another_cond(self):
        op = make_op()
        self.register(op, UNARY)

        def model(f, x, signal):
            y = F.conv1d(signal, f(x))
            return torch.cond(x.shape[0] > 15, torch.sin, torch.cos, (y,))

        for size in self.sizes:
            predicates = self.predicates_at(
                size,
                functools.partial(model, op),
                functools.partial(model, UNARY[range_index(size)]),
            )
            self.assertEqual(len(predicates), 3)

    def test_size_is_specialized_before_the_op(self):
        op = make_op()
        self.register(op, UNARY)
        for size in self.sizes:
            ones = torch.ones(size, 1, 3, device=DEVICE)
            predicates = self.predicates_at(
                size,
                lambda x, signal: op(x) + ones,
                lambda x, signal: UNARY[range_index(size)](x) + ones,
            )
            self.assertEqual(predicates, [])


@instantiate_parametrized_tests
class TuningTest(FxRangeDispatchTestCase):
    @parametrize("at_compile_time", (False, True))
    @config.patch("range_dispatch.fuse", False)
    def test_kernels(self, at_compile_time):
        with self.assertLogs(CONVERTER_LOGGER, "INFO") as logs:
            result = self.check(
                UNARY,
                lambda n: (tensor(n, 40),),
                model=lambda op, x: op(x * 2) + 1,
                **{"triton.autotune_at_compile_time": at_compile_time},
            )
        self.assertEqual({len(k) for k in result.launches.values()}, {3})
        self.assertEqual(bool(self.recorder.tuning_launches), at_compile_time)
        log = "\n".join(logs.output)
        done = "Autotuning Triton kernel" if at_compile_time else "Skipping autotuning"
        self.assertEqual(log.count(done), 5)

    @parametrize("at_compile_time", (False, True))
    def test_reductions(self, at_compile_time):
        self.check(
            [
                lambda x: x.sum(-1),
                lambda x: x.softmax(-1).amax(-1),
                lambda x: x.var(-1),
            ],
            lambda n: (tensor(n, 40),),
            op=make_op(fake=lambda x: x.new_empty(x.shape[0])),
            **{"triton.autotune_at_compile_time": at_compile_time},
        )

    def test_is_skipped_for_sizes_without_a_hint(self):
        with self.assertLogs(CONVERTER_LOGGER, "INFO") as logs:
            self.check(
                [lambda x, f=f: f(x) * 2 + 1 for f in NONZERO],
                op=make_op(fake=nonzero_fake),
                model=lambda op, x: op(x) * 3 + 5,
                **{"triton.autotune_at_compile_time": True},
            )
        # Until v2.11 the words are others.
        words = r"unbacked symints\. Skipping (compile-time )?autotuning"
        skipped = [line for line in logs.output if re.search(words, line)]
        # That of each branch, and the epilogue.
        self.assertEqual(len({*skipped}), 2)
        self.assertTrue(self.recorder.tuning_launches)


class GraphModuleTest(FxRangeDispatchTestCase):
    def dispatch_graph(self):
        return self.check(UNARY, model=lambda op, x: op(x * 2) + 1).graph

    def assert_dispatches(self, run, gm):
        """``run`` computes what the model of ``dispatch_graph``, that is ``gm``, does."""
        for size in SIZES:
            x = tensor(size, 5)
            due = UNARY[range_index(size)](x * 2) + 1
            self.assertEqual(run(*arguments_of(gm, x)), due)

    def test_runs(self):
        gm = self.dispatch_graph()
        self.assert_dispatches(gm, gm)
        self.assert_dispatches(torch.fx.Interpreter(gm).run, gm)

    def test_deepcopy(self):
        gm = self.dispatch_graph()
        copied = copy.deepcopy(gm)
        self.assert_sound(copied, 2)
        originals = {id(module) for module in graph_modules(gm)}
        self.assertFalse(originals & {id(module) for module in graph_modules(copied)})
        self.assert_dispatches(copied, gm)

    def test_pickle(self):
        implementations = (mm, addmm, bmm)
        gm = self.check(implementations, matmul_inputs, op=make_matmul_op()).graph
        loaded = pickle.loads(pickle.dumps(gm))
        self.assert_sound(loaded, 2)
        for size in SIZES:
            x, w = matmul_inputs(size)
            due = implementations[range_index(size)](x, w)
            self.assertEqual(loaded(*arguments_of(gm, x, w)), due)

    def test_printing(self):
        gm = self.dispatch_graph()
        code = gm.print_readable(print_output=False)
        self.assertEqual(code.count("torch.ops.higher_order.cond("), 2)
        self.assertEqual(code.count("torch.ops.higher_order.triton_kernel_wrapper"), 3)
        self.assertIn("torch.ops.higher_order.cond(", gm.code)
        self.assertIn("torch.ops.higher_order.cond", str(gm.graph))

    def test_recompile(self):
        gm = self.dispatch_graph()
        for module in graph_modules(gm):
            module.recompile()
        self.assert_sound(gm, 2)
        self.assert_dispatches(gm, gm)

    def test_transformer(self):
        gm = self.dispatch_graph()
        transformed = torch.fx.Transformer(gm).transform()
        self.assert_sound(transformed, 2)
        self.assert_dispatches(transformed, gm)

    def test_symbolic_trace(self):
        gm = self.dispatch_graph()
        traced = torch.fx.symbolic_trace(gm)
        self.assert_sound(traced, 2)
        self.assert_dispatches(traced, gm)

    def test_metadata(self):
        gm = self.dispatch_graph()
        for module in graph_modules(gm):
            for node in module.graph.find_nodes(op="placeholder"):
                self.assertIn("val", node.meta)
        for node in find_nodes(gm, cond):
            (value,) = node.meta["val"]
            self.assertIsInstance(value, FakeTensor)

    def test_fake_tensor_prop(self):
        gm = self.dispatch_graph()
        values = [n.meta["val"] for n in gm.graph.find_nodes(op="placeholder")]
        (before,) = gm.graph.output_node().args[0].meta["val"].shape[:1]
        mode = next(v for v in values if isinstance(v, FakeTensor)).fake_mode
        after = FakeTensorProp(gm, mode).propagate_dont_convert_inputs(*values)
        self.assertEqual(str(after.shape[0]), str(before))

    def test_shape_prop(self):
        gm = self.dispatch_graph()
        x = tensor(101, 5)
        ShapeProp(gm).propagate(*arguments_of(gm, x))
        (result,) = gm.graph.output_node().args
        self.assertEqual(result.meta["tensor_meta"].shape, x.shape)


class CustomBackendTest(FxRangeDispatchTestCase):
    def use_backend(self, wrapper):
        common.init_backend_registration()
        original = common.device_codegens[DEVICE]
        patched = mock.patch.dict(common.device_codegens)
        patched.start()
        self.addCleanup(patched.stop)
        for table in (
            common.custom_backend_passes,
            common.custom_backend_codegen_configs,
        ):
            saved = mock.patch.dict(table)
            saved.start()
            self.addCleanup(saved.stop)
        common.register_backend_for_device(
            DEVICE,
            original.scheduling,
            original.wrapper_codegen,
            original.cpp_wrapper_codegen,
            wrapper,
        )

    def test_compiles_the_graph_further(self):
        received = []
        counter = CompileCounter()

        class Backend(WrapperFxCodegen):
            def compile_graph(self, gm):
                received.append(gm)

                # Dynamo leaves the frames of a graph module alone here.
                def run(*args):
                    return gm(*args)

                return torch.compile(run, backend=counter, dynamic=True, fullgraph=True)

        self.use_backend(Backend)
        result = self.check([mm, addmm, bmm], matmul_inputs, op=make_matmul_op())
        (gm,) = received
        self.assertIs(gm, result.graph)
        self.assertEqual(counter.frame_count, 1)

    @config.patch("range_dispatch.fuse", False)
    def test_compiles_a_graph_of_kernels_further(self):
        class Backend(WrapperFxCodegen):
            def compile_graph(self, gm):
                return torch.compile(gm, backend="eager", dynamic=True)

        self.use_backend(Backend)
        result = self.check(UNARY, model=lambda op, x: op(x * 2) + 1)
        self.assertEqual({len(k) for k in result.launches.values()}, {3})

    def test_rewrites_the_branches(self):
        class Backend(WrapperFxCodegen):
            def compile_graph(self, gm):
                for node in find_nodes(gm, torch.ops.aten.mm.out):
                    x, w = node.args
                    node.args = (w, x)
                for module in graph_modules(gm):
                    module.recompile()
                return copy.deepcopy(gm).forward

        self.use_backend(Backend)
        op = make_op("(Tensor x, Tensor w) -> Tensor", lambda x, w: torch.empty_like(x))
        self.register(op, [mm, lambda x, w: x * w, lambda x, w: x + w])
        self.check_model(
            op,
            lambda n: (lambda x, w: torch.mm(w, x), torch.mul, torch.add)[
                range_index(n)
            ],
            lambda n: (tensor(n, n), tensor(n, n)),
            conds=2,
        )


class Dispatching(torch.nn.Module):
    def __init__(self, op):
        super().__init__()
        self.op = op
        self.weight = torch.nn.Parameter(tensor(5, 5))

    def forward(self, x, unused, *, bias):
        return torch.mm(self.op(x), self.weight) + bias


@pytest.mark.smoke
class ExportTest(FxRangeDispatchTestCase):
    def test_aot_compile(self):
        op = make_op()
        self.register(op, UNARY)
        model = Dispatching(op).requires_grad_(False)
        rows_dim = torch.export.Dim("rows", min=2)
        inputs = (tensor(FIRST_SIZE, 5), tensor(3))
        bias = {"bias": tensor(5)}
        exported = torch.export.export(
            model,
            inputs,
            bias,
            dynamic_shapes={"x": {0: rows_dim}, "unused": None, "bias": None},
        )
        module = exported.module()
        compiled = torch._inductor.aot_compile(
            module, inputs, bias, options={"fx_wrapper": True}
        )
        self.assertEqual(
            len(compiled.graph.find_nodes(op="placeholder")),
            len(exported.graph_signature.user_inputs),
        )
        self.assert_sound(compiled, 2)
        kernel_of = {}
        for size in SIZES:
            x = tensor(size, 5)
            chosen = UNARY[range_index(size)]
            due = torch.mm(chosen(x), model.weight) + bias["bias"]
            (kernel,) = self.recorder.kernels_run_by(
                lambda: self.assertEqual(compiled(x, inputs[1], bias["bias"]), due)
            )
            kernel_of.setdefault(range_index(size), set()).add(kernel)
        self.assertEqual(len(set.union(*kernel_of.values())), 3)
        self.assertEqual([len(kernels) for kernels in kernel_of.values()], [1, 1, 1])


class TrainingTest(FxRangeDispatchTestCase):
    def test_forward_and_backward(self):
        """The backward pass dispatches, too, with split points of its own."""
        op, backward_op = make_op(), make_op()
        backwards, points = (lambda g: g * 2, lambda g: g * 5), (12,)
        torch.library.register_autograd(
            op, lambda ctx, grad: backward_op(grad), lib=_library
        )
        self.register(op, UNARY)
        self.register(backward_op, backwards, split_points=points)
        counter = CompileCounterWithBackend("inductor")
        compiled = torch.compile(
            lambda x, w: op(x * w).cos(), backend=counter, dynamic=True, fullgraph=True
        )
        with (
            record_conversions() as conversions,
            self.assertNoLogs(DISPATCH_LOGGER, "WARNING"),
        ):
            for size in (FIRST_SIZE, *SIZES, 12, 13):
                x, w = (
                    tensor(size, 5, requires_grad=True),
                    tensor(5, requires_grad=True),
                )
                output = compiled(x, w)
                grads = torch.autograd.grad(output.sum(), (x, w))
                with torch.no_grad():
                    dispatched = UNARY[range_index(size)](x * w)
                    grad = backwards[range_index(size, points)](-dispatched.sin())
                    self.assertEqual(output, dispatched.cos())
                    self.assertEqual(
                        grads, (grad * w, (grad * x).sum(0)), rtol=1e-4, atol=1e-4
                    )
        self.assertEqual(counter.frame_count, 1)
        forward, backward = [c.graph for c in conversions if not c.is_branch]
        self.assert_sound(forward, 2)
        self.assert_sound(backward, 1)


if __name__ == "__main__":
    run_tests()
