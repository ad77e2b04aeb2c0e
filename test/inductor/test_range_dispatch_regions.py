# Owner(s): ["module: inductor"]
"""The FX pass that makes one node of a dispatched op and what is fused around it."""

import operator
from unittest import mock

import hypothesis
import hypothesis.strategies as st
import pytest
import sympy
from _fusion_test_case import FusionTestCase, own, scale

import torch
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch.lowering.region_lowering import with_regions
from torch._inductor.range_dispatch.region.forming import form_regions, SizeCall
from torch._inductor.range_dispatch.region.node_kinds import kind_of
from torch._inductor.test_case import run_tests
from torch.fx.experimental.proxy_tensor import make_fx


aten = torch.ops.aten


def traced(function, dynamic=True):
    """The graph of a function of two matrices, whose sizes are symbols or not."""
    mode = "symbolic" if dynamic else "fake"
    inputs = [torch.empty(70, 32), torch.empty(70, 32)]
    return make_fx(function, tracing_mode=mode)(*inputs)


def targets(graph_module):
    """What the graph calls, in its order, without parts of tuples."""
    return [
        node.target
        for node in graph_module.graph.nodes
        if node.op == "call_function" and node.target is not operator.getitem
    ]


def regions_of(graph_module):
    """The graphs of the regions, in order."""
    found = (getattr(target, "graph_module", None) for target in targets(graph_module))
    return [module for module in found if module is not None]


class RegionsTest(FusionTestCase):
    def test_graph_without_a_dispatched_op_is_not_touched(self):
        graph_module = traced(lambda a, b: (torch.relu(a + b),))
        self.assertIs(with_regions(graph_module), graph_module)

    def test_placeholders_of_a_region_come_first(self):
        # Each op reads the other input after work of its own: as they are traced, the
        # first op stands before the placeholder that only the second one reads.
        def function(a, b):
            return (scale(scale(a, a), b),)

        (region,) = regions_of(with_regions(traced(function)))
        kinds = [node.op for node in region.graph.nodes]
        self.assertEqual(kinds.count("placeholder"), 2)
        self.assertEqual(kinds[:2], ["placeholder"] * 2)

    def test_one_node_for_all_that_is_fused(self):
        graph_module = traced(lambda a, b: (torch.relu(scale(a.sin(), b)),))
        before = [*graph_module.graph.nodes]
        formed = with_regions(graph_module)
        self.assertEqual([*graph_module.graph.nodes], before)
        formed.graph.lint()
        self.assertEqual(len(targets(formed)), 1)
        (region,) = regions_of(formed)
        self.assertEqual(
            targets(region),
            [aten.sin.default, torch.ops.fusion.scale.default, aten.relu.default],
        )
        (output,) = formed.graph.output_node().args[0]
        self.assertEqual(output.name, "relu")

    def test_known_size_has_no_region(self):
        graph_module = traced(lambda a, b: (torch.relu(scale(a, b)),), dynamic=False)
        self.assertEqual(regions_of(with_regions(graph_module)), [])

    def test_operation_that_is_read_in_between_stays(self):
        def function(a, b):
            product = a.sin() @ b.t()
            return torch.relu(scale(a, b)), product

        formed = with_regions(traced(function))
        self.assertIn(aten.mm.default, targets(formed))
        (region,) = regions_of(formed)
        self.assertNotIn(aten.sin.default, targets(region))

    def test_view_that_others_read_is_in_both(self):
        def function(a, b):
            view = scale(a, b).view(-1)
            return view.sum(), view @ view

        formed = with_regions(traced(function))
        (region,) = regions_of(formed)
        self.assertIn(aten.view.default, targets(region))
        self.assertIn(aten.view.default, targets(formed))
        formed.graph.lint()

    def test_ops_that_follow_one_another_are_one_region(self):
        def function(a, b):
            return (scale(torch.relu(scale(a, b)), b),)

        (region,) = regions_of(with_regions(traced(function)))
        found = targets(region)
        self.assertEqual(found.count(torch.ops.fusion.scale.default), 2)

    def test_product_between_makes_two(self):
        def function(a, b):
            between = torch.relu(scale(a, b)) @ b.t()
            return (scale(torch.relu(between @ b), b),)

        regions = regions_of(with_regions(traced(function)))
        self.assertEqual(len(regions), 2)


class ErrorsTest(FusionTestCase):
    def test_error_names_the_line_that_calls_the_op(self):
        def fails(x):
            raise ValueError("no such size")

        with custom_op_autotuning(
            own,
            [CustomOpConfig(fails)],
            dispatch_on={"tensor_name": "x", "dim": 0},
            split_points=[8],
            winners=[0, 0],
        ):
            compiled = torch.compile(lambda a: torch.relu(own(a)), dynamic=True)
            with self.assertRaises(Exception) as caught, torch.no_grad():
                compiled(torch.randn(70, 32))
        text = str(caught.exception)
        self.assertIn("no such size", text)
        self.assertIn("fusion.own.default", text)
        self.assertIn("torch.relu(own(a))", text)


# What a step of a random program computes, of one of the values before it and another.
STEPS = {
    "pointwise": lambda x, y: torch.sin(x),
    "both": torch.add,
    "op": lambda x, y: own(x),
    "view": lambda x, y: x.reshape(-1).reshape(x.shape),
    "reduction": lambda x, y: x + x.mean(0) + y.amax(1, keepdim=True),
    "product": lambda x, y: (x @ y.t()) @ x,
    "size": lambda x, y: x * x.shape[0],
    "parts": lambda x, y: torch.cat(x.chunk(2, -1)[::-1], -1),
    "drawn": lambda x, y: x + torch.ones_like(y),
}
PROGRAMS = st.lists(
    st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 9), st.integers(0, 9)),
    min_size=2,
    max_size=12,
)


@st.composite
def random_functions(draw):
    """A function of two matrices that calls the op amid other work."""
    program = draw(PROGRAMS)
    returned = draw(st.lists(st.integers(0, 13), min_size=1, max_size=4))

    def function(a, b):
        values = [a, b]
        for kind, first, second in [*program, ("op", 0, 1)]:
            x, y = values[-1 - first % len(values)], values[-1 - second % len(values)]
            values.append(STEPS[kind](x, y))
        return (values[-1], *(values[n % len(values)] for n in returned))

    return function


class RandomGraphsTest(FusionTestCase):
    @hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
    @hypothesis.given(function=random_functions())
    @pytest.mark.slow
    def test_graph_computes_what_it_did(self, function):
        """With regions run as they are, by the op's own implementation."""
        given = [torch.randn(6, 4), torch.randn(6, 4)]
        graph_module = traced(function)
        formed = form_regions(graph_module, lambda module, _, values: module(*values))
        formed.graph.lint()
        values = {
            size.node.expr: given[0].shape[dim]
            for node in graph_module.graph.find_nodes(op="placeholder")
            for dim, size in enumerate(node.meta["val"].shape)
        }
        sizes = mock.patch.object(
            SizeCall,
            "__call__",
            lambda call: int(sympy.sympify(call.size).subs(values)),
        )
        with sizes:
            self.assertEqual(formed(*given), graph_module(*given))
        # Nothing but views is computed twice.
        self.assertEqual(operations(formed), operations(graph_module))


def operations(graph_module):
    """How many operations there are, those of regions too, but for views."""
    count = 0
    for node in graph_module.graph.nodes:
        inner = getattr(node.target, "graph_module", None)
        if inner is not None:
            count += operations(inner)
        elif isinstance(node.target, torch._ops.OpOverload):
            count += not kind_of(node).is_free
    return count


if __name__ == "__main__":
    run_tests()
