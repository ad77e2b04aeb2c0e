# Owner(s): ["module: inductor"]
"""Frozen parameters in the branches of a dispatch: constants, folded and packed."""

import re

from _generated_code import run_and_get_graph_code

import torch
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.codecache import PyCodeCache
from torch._inductor.kernel.custom_op import (
    CustomOpConfig,
    register_custom_op_autotuning,
    unregister_custom_op_autotuning,
)
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import fresh_cache, run_and_get_code
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
)


IN, OUT = 16, 12
# The last size of each range and the first of the next; each range has a factor.
SIZES = {2: 1, 8: 1, 9: 2, 64: 2, 65: 3, 100: 3}


def linear_times(factor):
    def implementation(x, weight, bias):
        return torch.nn.functional.linear(x, weight, bias) * factor

    implementation.__name__ = f"linear_times_{factor}"
    return implementation


def quantized(x, weight, bias):
    """What weight-only quantization does, of a weight in floating point."""
    scale = weight.abs().amax(1, keepdim=True) / 127
    whole = torch.round(weight / scale).to(torch.int8)
    return torch.nn.functional.linear(x, whole.to(x.dtype) * scale, bias) * 2


def convolution_times(factor):
    def implementation(x, weight, bias):
        return torch.nn.functional.conv2d(x, weight, bias, padding=1) * factor

    implementation.__name__ = f"convolution_times_{factor}"
    return implementation


@torch.library.custom_op("freezing_test::linear", mutates_args=())
def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.linear(x, weight, bias) * 4


@linear.register_fake
def _(x, weight, bias):
    return x.new_empty(*x.shape[:-1], weight.shape[0])


@torch.library.custom_op("freezing_test::convolution", mutates_args=())
def convolution(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    return torch.nn.functional.conv2d(x, weight, bias, padding=1) * 4


@convolution.register_fake
def _(x, weight, bias):
    return x.new_empty(x.shape[0], weight.shape[0], *x.shape[2:])


class Layer(torch.nn.Module):
    def __init__(self, module, op=linear):
        super().__init__()
        self.weight, self.bias = module.weight, module.bias
        self.op = op

    def forward(self, x):
        return self.op(x, self.weight, self.bias)


def frozen_params():
    """The tensors that the last generated module holds, each once."""
    attributes = vars(PyCodeCache.modules[-1])
    tensors = {
        id(value): value
        for name, value in attributes.items()
        if "_frozen_param" in name and isinstance(value, torch.Tensor)
    }
    return list(tensors.values())


@instantiate_parametrized_tests
class FreezingTest(TestCase):
    def setUp(self):
        super().setUp()
        torch._dynamo.reset()
        counters.clear()
        torch.manual_seed(0)
        self.enterContext(fresh_cache())
        self.enterContext(torch.no_grad())
        self.enterContext(config.patch(freezing=True))

    def register(self, implementations, op=linear, **arguments):
        arguments = {"winners": range(len(implementations))} | arguments
        register_custom_op_autotuning(
            op,
            configs=[CustomOpConfig(one) for one in implementations],
            dispatch_on={"tensor_name": "x", "dim": 0},
            split_points=[8, 64][: len(implementations) - 1],
            **arguments,
        )
        self.addCleanup(unregister_custom_op_autotuning, op)

    def compiled(self, model, *shape, rows=9):
        """The compiled model and the code of its graph."""
        x = torch.randn(rows, *shape)
        torch._dynamo.mark_dynamic(x, 0)
        function = torch.compile(model, fullgraph=True)
        _, code = run_and_get_graph_code(function, x)
        return function, code

    def check_branches(self, function, expected, *shape, graphs=1):
        """What runs at each size is the branch of that size's range."""
        for rows, factor in SIZES.items():
            x = torch.randn(rows, *shape)
            self.assertEqual(
                function(x), expected(x) * factor, rtol=1e-3, atol=1e-3, msg=str(rows)
            )
        self.assertEqual(counters["stats"]["unique_graphs"], graphs)

    def test_a_linear_is_packed_once_for_all_branches(self):
        self.register([linear_times(n) for n in (1, 2, 3)])
        module = torch.nn.Linear(IN, OUT).eval()
        function, code = self.compiled(Layer(module).eval(), IN)
        self.assertEqual(code.count("torch.ops.mkldnn._linear_pointwise.default("), 3)
        self.assertNotIn("addmm", code)
        packed = [one for one in frozen_params() if one.is_mkldnn]
        self.assertEqual(len(packed), 1)
        self.check_branches(function, module, IN)

    def test_the_weight_is_no_operand_of_the_branches(self):
        self.register([linear_times(n) for n in (1, 2, 3)])
        _, code = self.compiled(Layer(torch.nn.Linear(IN, OUT)).eval(), IN)
        (operands,) = set(re.findall(r"_args = \[(.*)\]", code))
        self.assertEqual(len(operands.split(", ")), 2, "x and its number of rows")

    def test_a_convolution_is_packed(self):
        self.register([convolution_times(n) for n in (1, 2, 3)], convolution)
        module = torch.nn.Conv2d(4, 6, 3, padding=1).eval()
        function, code = self.compiled(Layer(module, convolution).eval(), 4, 10, 10)
        self.assertEqual(code.count("mkldnn._convolution_pointwise.default("), 3)
        # A convolution that is compiled alone is guarded on 16 rows, too.
        self.check_branches(function, module, 4, 10, 10, graphs=2)

    def test_what_is_computed_of_a_weight_is_a_constant(self):
        self.register([linear_times(1), quantized, linear_times(3)])
        module = torch.nn.Linear(IN, OUT).eval()
        function, code = self.compiled(Layer(module).eval(), IN)
        self.assertNotIn("nearbyint", code)
        self.assertNotIn("abs", code)
        for rows, factor in SIZES.items():
            x = torch.randn(rows, IN)
            self.assertEqual(function(x), module(x) * factor, rtol=0.1, atol=0.1)

    def test_weights_that_others_read_too(self):
        class Tied(Layer):
            def forward(self, x):
                first = super().forward(x)
                return first + self.op(x * 2, self.weight, self.bias) + self.bias

        self.register([linear_times(n) for n in (1, 2, 3)])
        module = torch.nn.Linear(IN, OUT).eval()
        function, _ = self.compiled(Tied(module).eval(), IN)
        for rows, factor in SIZES.items():
            x = torch.randn(rows, IN)
            due = (module(x) + module(2 * x)) * factor + module.bias
            self.assertEqual(function(x), due, rtol=1e-3, atol=1e-3)

    def test_layers_with_weights_of_their_own(self):
        self.register([linear_times(n) for n in (1, 2, 3)])
        modules = [torch.nn.Linear(IN, IN).eval() for _ in range(3)]
        model = torch.nn.Sequential(*map(Layer, modules)).eval()
        function, code = self.compiled(model, IN)
        self.assertEqual(code.count("torch.ops.mkldnn._linear_pointwise.default("), 9)
        for rows, factor in SIZES.items():
            x = due = torch.randn(rows, IN)
            for module in modules:
                due = module(due) * factor
            self.assertEqual(function(x), due, rtol=1e-3, atol=1e-3)

    def test_the_fallback_gets_the_weight_as_it_is(self):
        self.register([linear_times(1), linear_times(2)], winners=[0, -1])
        module = torch.nn.Linear(IN, OUT).eval()
        function, code = self.compiled(Layer(module).eval(), IN)
        self.assertIn("torch.ops.freezing_test.linear.default(", code)
        for rows in (8, 9):
            x = torch.randn(rows, IN)
            due = module(x) * (1 if rows == 8 else 4)
            self.assertEqual(function(x), due, rtol=1e-3, atol=1e-3)

    def test_one_winner_at_a_known_size(self):
        self.register([linear_times(n) for n in (1, 2, 3)])
        module = torch.nn.Linear(IN, OUT).eval()
        x = torch.randn(9, IN)
        function = torch.compile(Layer(module).eval(), fullgraph=True, dynamic=False)
        result, code = run_and_get_graph_code(function, x)
        self.assertEqual(result, module(x) * 2, rtol=1e-3, atol=1e-3)
        self.assertRegex(code, r"mkldnn\._linear_pointwise|mkl\._mkl_linear")
        self.assertNotIn("addmm(", code)

    def test_candidates_are_timed_as_they_will_run(self):
        self.register([linear_times(1), quantized], winners=None, tuning_seconds=60)
        model = Layer(torch.nn.Linear(IN, OUT)).eval()
        x = torch.randn(9, IN)
        torch._dynamo.mark_dynamic(x, 0)
        _, codes = run_and_get_code(torch.compile(model, fullgraph=True), x)
        *timed, _ = codes
        self.assertGreaterEqual(len(timed), 2)
        for code in timed:
            if "freezing_test.linear" not in code:
                self.assertIn("mkldnn._linear_pointwise", code)
                self.assertNotIn("nearbyint", code)

    def test_another_models_weights_are_not_taken_from_the_cache(self):
        self.register([linear_times(n) for n in (1, 2, 3)])
        for _ in range(2):
            torch._dynamo.reset()
            counters.clear()
            module = torch.nn.Linear(IN, OUT).eval()
            with config.patch(fx_graph_cache=True):
                function, _ = self.compiled(Layer(module).eval(), IN)
            self.assertEqual(counters["inductor"]["fxgraph_cache_bypass"], 1)
            self.assertEqual(counters["inductor"]["fxgraph_cache_hit"], 0)
            self.check_branches(function, module, IN)

    @parametrize("cpp_wrapper", [False, True])
    def test_discarded_parameters(self, cpp_wrapper):
        self.register([linear_times(n) for n in (1, 2, 3)])
        module = torch.nn.Linear(IN, OUT).eval()
        due = {rows: torch.randn(rows, IN) for rows in SIZES}
        due = {rows: (x, module(x) * SIZES[rows]) for rows, x in due.items()}
        patches = {"freezing_discard_parameters": True, "cpp_wrapper": cpp_wrapper}
        with config.patch(patches):
            function, _ = self.compiled(Layer(module).eval(), IN)
            for x, result in due.values():
                self.assertEqual(function(x), result, rtol=1e-3, atol=1e-3)

    def test_aot_inductor(self):
        self.register([linear_times(n) for n in (1, 2, 3)])
        module = torch.nn.Linear(IN, OUT).eval()
        exported = torch.export.export(
            Layer(module).eval(),
            (torch.randn(9, IN),),
            dynamic_shapes=({0: torch.export.Dim("rows", min=2, max=4096)},),
        )
        path = torch._inductor.aoti_compile_and_package(exported)
        run = torch._inductor.aoti_load_package(path)
        for rows, factor in SIZES.items():
            x = torch.randn(rows, IN)
            self.assertEqual(run(x), module(x) * factor, rtol=1e-3, atol=1e-3)


if __name__ == "__main__":
    run_tests()
