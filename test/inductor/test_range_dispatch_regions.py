# Owner(s): ["module: inductor"]
"""The FX pass that makes one node of a dispatched op and what is fused around it."""

import operator

from _fusion_test_case import FusionTestCase, scale

import torch
from torch._inductor.range_dispatch.lowering.region_lowering import with_regions
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


if __name__ == "__main__":
    run_tests()
