# Owner(s): ["module: inductor"]
"""The experiments that range dispatch through nested ``torch.cond`` stands on."""

import re

from _generated_code import count_conds, DECISION

import torch
from torch._dynamo.source import ConstantSource
from torch._dynamo.testing import CompileCounterWithBackend, normalize_gm
from torch._inductor.ir import ir_node_to_tensor
from torch._inductor.kernel.custom_op import _build_torch_cond_dispatch
from torch._inductor.lowering import user_lowerings
from torch._inductor.range_dispatch.plan.ranges import ranges_from_split_points
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import fresh_cache, run_and_get_code
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatelessSymbolicContext,
)


aten = torch.ops.aten


def sin_impl(x, weight):
    return torch.sin(x * weight)


def tanh_impl(x, weight):
    return torch.tanh(x * weight)


def relu_impl(x, weight):
    return torch.relu(x * weight)


IMPLEMENTATIONS = (sin_impl, tanh_impl, relu_impl)
MARKERS = (aten.sin.default, aten.tanh.default, aten.relu.default)
RANGES = ranges_from_split_points([512, 2048])


def nested_cond(x, weight):
    """The dispatch as a user would write it."""

    def longer(x, weight):
        return torch.cond(x.shape[1] <= 2048, tanh_impl, relu_impl, (x, weight))

    return torch.cond(x.shape[1] <= 512, sin_impl, longer, (x, weight))


def targets(graph_module, with_branches):
    """What a graph calls, in its branches too if asked."""
    modules = graph_module.modules() if with_branches else [graph_module]
    return [
        node.target
        for module in modules
        if isinstance(module, torch.fx.GraphModule)
        for node in module.graph.nodes
        if node.op == "call_function"
    ]


def readable(graph_module):
    return normalize_gm(graph_module.print_readable(print_output=False))


def decisions(graph_module):
    """What is compared with the size, and what each side does; or just the latter."""
    calls = [n for n in graph_module.graph.nodes if n.op == "call_function"]
    for node in calls:
        if node.target is torch.ops.higher_order.cond:
            predicate, *branches, _ = node.args
            inner = [getattr(graph_module, one.target) for one in branches]
            compared = str(predicate.meta["example_value"].node.expr)
            return (re.sub(r"^s\d+ ", "", compared), *map(decisions, inner))
    return (calls[-1].target.__name__,)


def fake_with_dynamic_columns(rows, columns):
    """A fake tensor whose dim 1 is made symbolic by hand, and a weight to match."""
    shape_env = ShapeEnv()
    mode = FakeTensorMode(shape_env=shape_env)
    example = torch.empty(rows, columns)
    context = StatelessSymbolicContext(
        dynamic_sizes=[DimDynamic.STATIC, DimDynamic.DYNAMIC]
    )
    size, stride, _ = shape_env.create_symbolic_sizes_strides_storage_offset(
        example, ConstantSource("x"), symbolic_context=context
    )
    with mode:
        x = torch.empty_strided(size, stride)
        weight = torch.empty(size[1])
    return x, weight


class CondDispatchFoundationsTest(TestCase):
    def test_hand_written_nested_cond_stays_symbolic(self):
        """torch.compile keeps a symbolic predicate and all branches in one graph."""
        graphs = []

        counter = CompileCounterWithBackend("inductor")

        def backend(graph_module, example_inputs):
            graphs.append(graph_module)
            return counter(graph_module, example_inputs)

        compiled = torch.compile(nested_cond, dynamic=True, backend=backend)
        sizes = (256, 1024, 4096)
        inputs = [(torch.randn(4, n), torch.randn(n)) for n in sizes]
        with fresh_cache():
            first, (code,) = run_and_get_code(compiled, *inputs[0])
            outputs = [first, *(compiled(*args) for args in inputs[1:])]
        for output, args, impl in zip(outputs, inputs, IMPLEMENTATIONS):
            self.assertEqual(output, impl(*args))
        self.assertEqual(counter.frame_count, 1)
        self.assertEqual(len(graphs), 1)
        self.assertEqual(
            decisions(graphs[0]),
            ("<= 512", ("sin",), ("<= 2048", ("tanh",), ("relu",))),
        )
        self.assertRegex(code, rf"{DECISION} <= 512")
        self.assertRegex(code, rf"{DECISION} <= 2048")
        self.assertEqual(code.count("async_compile.cpp_pybinding("), 3)
        self.assertEqual(
            {*re.findall(r"def (\w*graph_0)\(args\):", code)},
            {
                "true_graph_0",
                "false_graph_0_true_graph_0",
                "false_graph_0_false_graph_0",
            },
        )

    def test_make_fx_with_concrete_sizes_folds_the_cond(self):
        """Concrete sizes decide the predicate while tracing: one implementation."""
        with FakeTensorMode(shape_env=ShapeEnv(), static_shapes=True):
            x, weight = torch.empty(4, 1024), torch.empty(1024)
        traced = make_fx(nested_cond, tracing_mode="symbolic")(x, weight)
        found = targets(traced, with_branches=True)
        self.assertNotIn(torch.ops.higher_order.cond, found)
        self.assertEqual([t for t in found if t in MARKERS], [aten.tanh.default])
        self.assertExpectedInline(
            traced.code.strip(),
            """\
def forward(self, x_1, weight_1):
    mul = torch.ops.aten.mul.Tensor(x_1, weight_1);  x_1 = weight_1 = None
    tanh = torch.ops.aten.tanh.default(mul);  mul = None
    return tanh""",
        )

    def test_make_fx_with_symbolic_size_keeps_the_cond(self):
        """A size made symbolic by hand keeps the cond; its branches hold the rest."""
        x, weight = fake_with_dynamic_columns(4, 1024)
        self.assertIsInstance(x, FakeTensor)
        self.assertIsInstance(x.shape[0], int)
        self.assertIsInstance(x.shape[1], torch.SymInt)
        traced = make_fx(nested_cond, tracing_mode="symbolic")(x, weight)
        top = targets(traced, with_branches=False)
        self.assertIn(torch.ops.higher_order.cond, top)
        # The implementations are in the branch graphs, not in the top graph.
        self.assertFalse([t for t in top if t in MARKERS])
        everywhere = targets(traced, with_branches=True)
        self.assertEqual(everywhere.count(torch.ops.higher_order.cond), 2)
        self.assertEqual({t for t in everywhere if t in MARKERS}, {*MARKERS})
        self.assertExpectedInline(
            traced.code.strip(),
            """\
def forward(self, x_1, weight_1):
    sym_size_int = torch.ops.aten.sym_size.int(x_1, 1)
    le = sym_size_int <= 512
    true_graph_0 = self.true_graph_0
    false_graph_0 = self.false_graph_0
    cond = torch.ops.higher_order.cond(le, true_graph_0, false_graph_0, (x_1, weight_1, sym_size_int, sym_size_int));  le = true_graph_0 = false_graph_0 = x_1 = weight_1 = sym_size_int = None
    getitem = cond[0];  cond = None
    return getitem""",
        )

    def dispatch_inside_a_lowering(self, dynamic):
        """Sizes and dispatch graphs that a lowering under this compile sees."""
        seen = {}

        with torch.library._scoped_library("cond_foundations", "FRAGMENT") as lib:
            lib.define("probe(Tensor x, Tensor weight) -> Tensor")
            lib.impl("probe", sin_impl, "CompositeExplicitAutograd")
            lib.impl("probe", lambda x, weight: torch.empty_like(x), "Meta")
            probe = torch.ops.cond_foundations.probe.default

            def lowering(x, weight):
                with V.fake_mode:
                    fakes = [ir_node_to_tensor(x), ir_node_to_tensor(weight)]
                    seen["sizes"] = fakes[0].shape
                    seen["own"] = self.build_dispatch(fakes)
                by_hand = fake_with_dynamic_columns(4, 1024)
                seen["by_hand"] = self.build_dispatch(by_hand)
                return None  # the op's normal lowering

            user_lowerings[probe] = lowering
            try:
                with fresh_cache():
                    compiled = torch.compile(
                        lambda x, w: probe(x, w), dynamic=dynamic, fullgraph=True
                    )
                    compiled(torch.randn(4, 1024), torch.randn(1024))
            finally:
                del user_lowerings[probe]
        return seen

    def build_dispatch(self, fakes):
        graphs = [
            make_fx(lambda *a, impl=impl: (impl(*a),), tracing_mode="symbolic")(*fakes)
            for impl in IMPLEMENTATIONS
        ]
        return _build_torch_cond_dispatch("probe", graphs, RANGES, fakes, 0, 1)

    def assert_all_branches(self, graph_module):
        self.assertEqual(count_conds(graph_module), 2)
        found = targets(graph_module, with_branches=True)
        self.assertEqual([t for t in found if t in MARKERS], [*MARKERS])

    def test_dispatch_in_a_static_compile_yields_one_branch(self):
        seen = self.dispatch_inside_a_lowering(dynamic=False)
        self.assertTrue(all(type(size) is int for size in seen["sizes"]))
        self.assertEqual(count_conds(seen["own"]), 0)
        found = targets(seen["own"], with_branches=True)
        self.assertEqual([t for t in found if t in MARKERS], [aten.tanh.default])
        # Whether a size is symbolic is its own matter, not the compile's.
        self.assert_all_branches(seen["by_hand"])

    def test_dispatch_in_a_dynamic_compile_keeps_every_branch(self):
        seen = self.dispatch_inside_a_lowering(dynamic=True)
        self.assertIsInstance(seen["sizes"][1], torch.SymInt)
        self.assert_all_branches(seen["own"])
        self.assert_all_branches(seen["by_hand"])

    def test_direct_dispatch_graph(self):
        """The dispatch that is built from traced implementations, outside a compile."""
        graph = self.build_dispatch(fake_with_dynamic_columns(4, 1024))
        self.assert_all_branches(graph)
        self.assertExpectedInline(
            readable(graph),
            """\
class RangeDispatch(torch.nn.Module):
    def forward(self, operand_0: "f32[4, s44]", operand_1: "f32[s44]"):
        sym_size_int: "Sym(s44)" = torch.ops.aten.sym_size.int(operand_0, 1)
        le: "Sym(s44 <= 512)" = sym_size_int <= 512;  sym_size_int = None
        probe_branch_0 = self.probe_branch_0
        probe_outside = self.probe_outside
        cond = torch.ops.higher_order.cond(le, probe_branch_0, probe_outside, (operand_0, operand_1));  le = probe_branch_0 = probe_outside = operand_0 = operand_1 = None
        getitem: "f32[4, s44]" = cond[0];  cond = None
        return (getitem,)

    class probe_branch_0(torch.nn.Module):
        def forward(self, arg0_1: "f32[4, s44]", arg1_1: "f32[s44]"):
            mul: "f32[4, s44]" = torch.ops.aten.mul.Tensor(arg0_1, arg1_1);  arg0_1 = arg1_1 = None
            sin: "f32[4, s44]" = torch.ops.aten.sin.default(mul);  mul = None
            return (sin,)

    class probe_outside(torch.nn.Module):
        def forward(self, operand_0: "f32[4, s44]", operand_1: "f32[s44]"):
            sym_size_int: "Sym(s44)" = torch.ops.aten.sym_size.int(operand_0, 1)
            le: "Sym(s44 <= 2048)" = sym_size_int <= 2048;  sym_size_int = None
            probe_branch_1 = self.probe_branch_1
            probe_branch_2 = self.probe_branch_2
            cond = torch.ops.higher_order.cond(le, probe_branch_1, probe_branch_2, (operand_0, operand_1));  le = probe_branch_1 = probe_branch_2 = operand_0 = operand_1 = None
            getitem: "f32[4, s44]" = cond[0];  cond = None
            return (getitem,)

        class probe_branch_1(torch.nn.Module):
            def forward(self, arg0_1: "f32[4, s44]", arg1_1: "f32[s44]"):
                mul: "f32[4, s44]" = torch.ops.aten.mul.Tensor(arg0_1, arg1_1);  arg0_1 = arg1_1 = None
                tanh: "f32[4, s44]" = torch.ops.aten.tanh.default(mul);  mul = None
                return (tanh,)

        class probe_branch_2(torch.nn.Module):
            def forward(self, arg0_1: "f32[4, s44]", arg1_1: "f32[s44]"):
                mul: "f32[4, s44]" = torch.ops.aten.mul.Tensor(arg0_1, arg1_1);  arg0_1 = arg1_1 = None
                relu: "f32[4, s44]" = torch.ops.aten.relu.default(mul);  mul = None
                return (relu,)
""",
        )
        for size, impl in ((512, 0), (513, 1), (2048, 1), (2049, 2)):
            x, weight = torch.randn(4, size), torch.randn(size)
            (output,) = graph(x, weight)
            self.assertEqual(output, IMPLEMENTATIONS[impl](x, weight))


if __name__ == "__main__":
    run_tests()
