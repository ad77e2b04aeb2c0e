# Owner(s): ["module: inductor"]
"""What a patch mends in the base's ``torch.cond``, whoever writes the cond."""

import gc
import re
import weakref
from unittest import mock

import pytest
from _generated_code import (
    asserted_names,
    branches_in_ir,
    COND_NODE,
    DECISION,
    example_arguments,
)

import torch
from torch._inductor import config, ir
from torch._inductor.codecache import PyCodeCache
from torch._inductor.compile_fx import compile_fx_inner
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import run_and_get_code
from torch.fx.experimental.proxy_tensor import make_fx

try:
    from torch._higher_order_ops.passes import inline_invoke_subgraph
except ImportError:  # up to v2.11
    inline_invoke_subgraph = None


@torch.library.custom_op("cond_branches_test::watch", mutates_args=())
def watch(x: torch.Tensor) -> torch.Tensor:
    """A copy of its input, which ``watched`` remembers weakly."""
    watched.append(weakref.ref(x))
    return x.clone()


@torch.library.custom_op("cond_branches_test::look", mutates_args=())
def look(x: torch.Tensor) -> torch.Tensor:
    """A copy of its input; notes in ``alive`` how much of what was watched is left."""
    gc.collect()
    alive.append(sum(reference() is not None for reference in watched))
    return x.clone()


for op in (watch, look):
    op.register_fake(torch.empty_like)

watched = []
alive = []


def function_names(code):
    return re.findall(r"def (\w*graph\w*)\(args\):", code)


@torch.compiler.config.patch(force_disable_caches=True)
class CondBranchesTest(TestCase):
    def compiled_code(self, model, *inputs):
        torch._dynamo.reset()
        compiled = torch.compile(model, dynamic=True, fullgraph=True)
        _, (code,) = run_and_get_code(compiled, *inputs)
        return compiled, code

    def test_item_of_an_operand_in_both_branches(self):
        def model(x, n):
            return torch.cond(
                x.sum() > 0,
                lambda x, n: x * n.item(),
                lambda x, n: x - n.item(),
                (x, n),
            )

        compiled = torch.compile(model, dynamic=True, fullgraph=True)
        for sign in (1.0, -1.0):
            x, n = torch.full((4, 5), sign), torch.tensor(3)
            self.assertEqual(compiled(x, n), model(x, n))

    @config.patch(cpp_wrapper=True)
    def test_predicate_that_is_a_union(self):
        def model(x):
            outside = (x.shape[0] <= 4) | (x.shape[0] > 8)
            return torch.cond(outside, lambda x: x + 1.0, lambda x: x - 1.0, (x,))

        compiled = torch.compile(model, dynamic=True, fullgraph=True)
        for size in (4, 5, 8, 9):
            x = torch.randn(size, 30)
            self.assertEqual(compiled(x), x - 1.0 if 4 < size <= 8 else x + 1.0)

    def test_operands_are_freed_in_either_branch(self):
        """Graph inputs and buffers, with predicates from sizes and from tensors."""

        def model(x):
            y = torch.cond(
                x.shape[0] <= 4,
                lambda x: watch(x) + 1.0,
                lambda x: watch(x) - 1.0,
                (x,),
            )
            y = torch.cond(
                y[0, 0] > 0,
                lambda y: watch(y) + 1.0,
                lambda y: watch(y) - 1.0,
                (torch.sin(y),),
            )
            return look(y) * 2.0

        with torch.no_grad():
            _, code = self.compiled_code(model, torch.randn(3, 30))
            module = PyCodeCache.load(code)
            for size in (4, 5):
                for value in (3.0, -3.0):
                    watched.clear(), alive.clear()
                    x = torch.full((size, 30), value)
                    expected = model(x)
                    watched.clear(), alive.clear()
                    del x
                    arguments = example_arguments(
                        module, {3: size, 30: 30}, [torch.full((size, 30), value)]
                    )
                    (output,) = module.call(arguments)
                    self.assertEqual(output, expected)
                    self.assertEqual((len(watched), alive), (2, [0]))

    def test_nested_conds_are_nested_ifs(self):
        def model(x):
            return torch.cond(
                x.shape[0] <= 4,
                lambda x: torch.cond(
                    x.shape[0] <= 2, lambda x: x + 1.0, lambda x: x + 2.0, (x,)
                ),
                lambda x: torch.cond(
                    x.shape[0] <= 8,
                    lambda x: x + 3.0,
                    lambda x: torch.cond(
                        x.shape[0] <= 16, lambda x: x + 4.0, lambda x: x + 5.0, (x,)
                    ),
                    (x,),
                ),
                (x,),
            )

        for cpp_wrapper in (False, True):
            with config.patch(cpp_wrapper=cpp_wrapper):
                compiled, code = self.compiled_code(model, torch.randn(3, 30))
            if cpp_wrapper:
                self.assertEqual(code.count("aoti_torch_assign_tensors_out("), 5)
                self.assertEqual(code.count("// subgraph:"), 5)
            else:
                names = function_names(code)
                self.assertEqual(len(names), 5)
                # Each branch is called once, from the one function for all.
                _, body = code.split("def call(self, args):")
                for name in names:
                    self.assertEqual(len(re.findall(rf"\b{name}\(", code)), 2)
                    self.assertEqual(len(re.findall(rf"\b{name}\(", body)), 1)
                self.assertEqual(len(re.findall(rf"{DECISION} <=", body)), 4)
                self.assertEqual(body.count("_args = ["), 1)
            for size in (2, 3, 4, 5, 8, 9, 16, 17):
                x = torch.randn(size, 30)
                self.assertEqual(compiled(x), model(x))

    @pytest.mark.slow
    def test_nested_conds_that_need_a_function(self):
        """The inner cond decides by something else, swaps operands, or adds work."""

        def pair(*size):
            return torch.randn(size), torch.randn(size)

        def by_another_size(x, y):
            return torch.cond(
                y.shape[1] <= 30, lambda x, y: x - 1.0, lambda x, y: x - 2.0, (x, y)
            )

        def by_a_value(x, y):
            return torch.cond(
                y.sum() > 0, lambda x, y: x - 1.0, lambda x, y: x - 2.0, (x, y)
            )

        def swapped(x, y):
            return torch.cond(
                x.shape[0] <= 8, lambda y, x: y - x, lambda y, x: y - 2.0 * x, (y, x)
            )

        def more_work(x, y):
            return torch.sin(
                torch.cond(
                    x.shape[0] <= 8, lambda x, y: x - 1.0, lambda x, y: x * y, (x, y)
                )
            )

        for inner in (by_another_size, by_a_value, swapped, more_work):

            def model(x, y):
                return torch.cond(x.shape[0] <= 4, lambda x, y: x + y, inner, (x, y))

            compiled, _ = self.compiled_code(model, *pair(3, 30))
            for size in (4, 5, 8, 9):
                for width in (30, 31):
                    for shift in (-4, 4):
                        x, y = (one + shift for one in pair(size, width))
                        self.assertEqual(compiled(x, y), model(x, y))

    def test_several_outputs_of_nested_conds(self):
        """As they are, so flattened, and in another order, which needs a function."""
        for order in ((0, 1), (1, 0)):

            def inner(x):
                outputs = torch.cond(
                    x.shape[0] <= 8,
                    lambda x: (x + 2.0, x.sum(0)),
                    lambda x: (x + 3.0, x.prod(0)),
                    (x,),
                )
                return [outputs[i] for i in order]

            def first(x):
                outputs = (x + 1.0, x.mean(0))
                return [outputs[i] for i in order]

            def model(x):
                return torch.cond(x.shape[0] <= 4, first, inner, (x,))

            compiled, code = self.compiled_code(model, torch.randn(3, 30))
            self.assertEqual(len(function_names(code)), 3 if order == (0, 1) else 4)
            for size in (4, 5, 8, 9):
                x = torch.randn(size, 30)
                self.assertEqual(compiled(x), model(x))

    def test_layouts_are_asserted_once(self):
        def model(x, y):
            return torch.cond(
                x.shape[0] <= 4, lambda x, y: x + y, lambda x, y: x - y, (x, y)
            )

        _, code = self.compiled_code(model, torch.randn(3, 30), torch.randn(30))
        names = asserted_names(code)
        self.assertEqual(len(names), 2)
        self.assertEqual(len({*names}), 2)

    def test_layouts_that_differ_are_asserted(self):
        """A branch compiled for another layout than the operand's must not run."""
        create = COND_NODE.create.__func__

        def create_with_other_layout(cls, *args, **kwargs):
            outputs = create(cls, *args, **kwargs)
            (node,) = outputs[0].inputs
            for value in branches_in_ir(node)[0].graph.graph_inputs.values():
                if isinstance(value, ir.TensorBox):
                    layout = value.get_layout()
                    layout.stride = [*reversed(layout.stride)]
            return outputs

        def model(x):
            return torch.cond(x.shape[0] <= 4, torch.sin, torch.cos, (x,))

        with mock.patch.object(
            COND_NODE, "create", classmethod(create_with_other_layout)
        ):
            compiled, _ = self.compiled_code(model, torch.randn(5, 30))
        self.assertEqual(compiled(torch.ones(5, 30)), torch.ones(5, 30).cos())
        with self.assertRaisesRegex(AssertionError, "expected size"):
            compiled(torch.ones(4, 30))

    def check_operand_that_is_written_later(self, control_flow):
        def model(x):
            temporary = x + 1
            (before,) = control_flow(x, temporary)
            (of_a_view,) = control_flow(x, temporary[1:].permute(1, 0))
            temporary.copy_(x * 2)
            return before, of_a_view, temporary

        x = torch.randn(4, 5)
        # What Dynamo would hand over has no such copy_; lowerings may write in place.
        graph = make_fx(model, tracing_mode="fake")(x)
        compiled = compile_fx_inner(graph, [x])
        self.assertEqual(compiled([x]), model(x))

    def test_operand_of_cond_that_is_written_later(self):
        self.check_operand_that_is_written_later(
            lambda x, operand: torch.ops.higher_order.cond(
                x.sum() > 0, lambda o: (o.sin(),), lambda o: (o.cos(),), (operand,)
            )
        )

    def test_operand_of_invoke_subgraph_that_is_written_later(self):
        def control_flow(x, operand):
            region = make_fx(lambda o: (o.sin() + o.sum(),))(operand)
            return torch.ops.higher_order.invoke_subgraph(region, "region", operand)

        self.check_operand_that_is_written_later(control_flow)

    def test_predicate_that_is_written_later(self):
        def model(x):
            positive = x.sum() > 0
            (y,) = torch.ops.higher_order.cond(
                positive, lambda x: (x.sin(),), lambda x: (x.cos(),), (x,)
            )
            positive.copy_(x.sum() <= 0)
            return y, positive

        x = torch.randn(4, 5)
        compiled = compile_fx_inner(make_fx(model, tracing_mode="fake")(x), [x])
        self.assertEqual(compiled([x]), model(x))

    def test_temporary_that_kernels_read_and_write_as_views(self):
        def model(x):
            temporary = x + 1
            first = temporary.permute(1, 0) @ x
            temporary[:, 1:].copy_(x[:, 1:])
            second = temporary.permute(1, 0) @ x
            temporary.copy_(x * 2)
            temporary[:, 2:].copy_(x[:, 2:])
            return first, second, temporary

        x = torch.randn(4, 5)
        compiled = compile_fx_inner(make_fx(model, tracing_mode="fake")(x), [x])
        self.assertEqual(compiled([x]), model(x))

    def test_nested_subgraphs_are_visited_once(self):
        if not hasattr(inline_invoke_subgraph, "inline_single_use_recursive"):
            self.skipTest("this torch inlines none by itself")
        depth = 12
        nested = torch.fx.GraphModule({}, torch.fx.Graph())
        for _ in range(depth):
            graph = torch.fx.Graph()
            graph.create_node("get_attr", "inner")
            nested = torch.fx.GraphModule({"inner": nested}, graph)
        with mock.patch.object(
            inline_invoke_subgraph,
            "inline_single_use_recursive",
            wraps=inline_invoke_subgraph.inline_single_use_recursive,
        ) as visit:
            inline_invoke_subgraph.inline_single_use_invoke_subgraph(nested)
        self.assertEqual(visit.call_count, depth + 1)


if __name__ == "__main__":
    run_tests()
