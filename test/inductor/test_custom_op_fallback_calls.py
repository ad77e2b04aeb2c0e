# Owner(s): ["module: inductor"]
"""How the op itself is called where it won: as the base calls the kernel of an op that
it chose among implementations."""

import ast
import contextlib
import itertools
from unittest import mock

from _fresh_test_case import FreshTestCase

import torch
from torch._dynamo.utils import counters
from torch._inductor import config, ir
from torch._inductor.kernel.custom_op import (
    _create_fallback_choice,
    custom_op_autotuning,
    CustomOpConfig,
)
from torch._inductor.lowering import user_lowerings
from torch._inductor.range_dispatch.benchmark import timing
from torch._inductor.range_dispatch.benchmark.timing import Timing
from torch._inductor.test_case import run_tests
from torch._inductor.utils import run_and_get_code
from torch._inductor.virtualized import V
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    subtest,
)


SPLIT = 8
SCALED = "(Tensor x, Tensor w, float scale=1.0, float bias=0.0) -> Tensor"
KEYWORDS = (
    "(Tensor x, *, float scale, bool flag=True, ScalarType? dtype=None, "
    "Device? device=None) -> Tensor"
)
PLAIN_VALUES = (
    "(Tensor x, int[] dims, float[]? factors=None, str mode='a', Scalar k=1, "
    "bool flag=False, MemoryFormat? memory_format=None) -> Tensor"
)
_numbers = itertools.count()
_library = torch.library.Library("fallback_calls", "FRAGMENT")


def make_op(schema, function=lambda x, *args, **kwargs: x + 1, fake=None, tags=()):
    """A new op ``fallback_calls::op<n>``."""
    name = f"op{next(_numbers)}"
    _library.define(f"{name}{schema}", tags=tags)
    _library.impl(name, function, "CompositeExplicitAutograd")
    fake = fake or (lambda x, *args, **kwargs: torch.empty_like(x))
    torch.library.register_fake(f"fallback_calls::{name}", fake, lib=_library)
    return getattr(torch.ops.fallback_calls, name).default


@contextlib.contextmanager
def chosen_by_the_base(op):
    """Let the op be lowered as the base does where its kernel is the fastest choice."""
    names = [argument.name for argument in op._schema.arguments]

    def lowering(*args, **kwargs):
        given = dict(zip(names, args)) | kwargs
        tensors = [one for one in given.values() if isinstance(one, ir.IRNode)]
        others = {k: v for k, v in given.items() if not isinstance(v, ir.IRNode)}
        layout = ir.FallbackKernel.tensor_to_layout(V.graph.current_node.meta["val"])
        choices = []
        _create_fallback_choice(op).maybe_append_choice(
            choices, input_nodes=tensors, layout=layout, **others
        )
        (choice,) = choices
        return choice.output_node()

    user_lowerings[op] = lowering
    try:
        yield
    finally:
        del user_lowerings[op]


def registered(op, winners, **options):
    """Dispatch on the size of ``x``, with winners that are given."""
    dispatch = {"dispatch_on": {"tensor_name": "x", "dim": 0}, "split_points": [SPLIT]}
    return custom_op_autotuning(
        op,
        configs=[CustomOpConfig(lambda x, *args, **kwargs: x * 7)],
        winners=winners,
        **(dispatch if winners is None or len(winners) > 1 else {}),
        **options,
    )


def calls_in(code, op):
    """The calls of the op in Python code, as they are written there."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return [one for one in calls if ast.unparse(one.func) == f"torch.ops.{op}"]


def by_name(call, op):
    """The arguments of a call by name, as text."""
    names = [one.name for one in op._schema.arguments if not one.kwarg_only]
    given = [*zip(names, call.args), *((one.arg, one.value) for one in call.keywords)]
    return {name: ast.unparse(value) for name, value in given}


def rows(count=20):
    return torch.randn(count, 4)


def make_mutation():
    """An op that scales its argument in place, and a model that calls it."""
    op = make_op(
        "(Tensor(a!) x, float scale) -> ()",
        lambda x, scale: (x.mul_(scale), None)[1],
        lambda x, scale: None,
    )

    def model(x):
        y = x + 1
        op(y, 2.0)
        return y + 1

    return op, model


class FallbackCallsTestCase(FreshTestCase):
    def code_of(self, model, *args):
        """The wrapper of a graph that is compiled once, for all sizes."""
        torch._dynamo.reset()
        counters.clear()
        expected = model(*args)
        compiled = torch.compile(model, dynamic=True, fullgraph=True)
        actual, codes = run_and_get_code(compiled, *args)
        self.assertEqual(actual, expected)
        self.assertEqual(counters["stats"]["unique_graphs"], 1)
        return codes[-1]

    def lines_of(self, model, *args):
        """The wrapper without the number of the graph."""
        lines = self.code_of(model, *args).splitlines()
        return [line for line in lines if not line.startswith("# AOT ID")]

    def call_of(self, op, model, *args):
        """The only call of the op in the wrapper."""
        (call,) = calls_in(self.code_of(model, *args), op)
        return call


class WinsEverywhereTest(FallbackCallsTestCase):
    @parametrize("winners", [[-1], [-1, -1]])
    @parametrize(
        "schema, args, kwargs",
        [
            subtest((SCALED, (2.0,), {}), name="by_position"),
            subtest((SCALED, (), {"scale": 2.0}), name="by_keyword"),
            subtest((SCALED, (), {}), name="left_out"),
            subtest((SCALED, (), {"bias": 2.0}), name="last_only"),
            subtest((SCALED, (2.0, 3.0), {}), name="all"),
        ],
    )
    def test_scalars(self, schema, args, kwargs, winners):
        op = make_op(schema)
        inputs = rows(), torch.randn(3)

        def model(x, w):
            return op(x, w, *args, **kwargs)

        with chosen_by_the_base(op):
            expected = self.call_of(op, model, *inputs)
        with registered(op, winners):
            call = self.call_of(op, model, *inputs)
        self.assertEqual(ast.unparse(call), ast.unparse(expected))
        self.assertEqual([one.arg for one in call.keywords], ["scale", "bias"])

    @parametrize(
        "schema, args, kwargs",
        [
            subtest((KEYWORDS, (), {"scale": 2.0}), name="defaults"),
            subtest(
                (
                    KEYWORDS,
                    (),
                    {
                        "scale": 2.0,
                        "flag": False,
                        "dtype": torch.float64,
                        "device": torch.device("cpu"),
                    },
                ),
                name="keyword_only",
            ),
            subtest((PLAIN_VALUES, ([1, 2],), {}), name="list"),
            subtest(
                (
                    PLAIN_VALUES,
                    ([1], [0.5], "b", 2.5, True, torch.contiguous_format),
                    {},
                ),
                name="values",
            ),
        ],
    )
    def test_kinds_of_values(self, schema, args, kwargs):
        op = make_op(schema)

        def model(x):
            return op(x, *args, **kwargs)

        with chosen_by_the_base(op):
            expected = self.call_of(op, model, rows())
        with registered(op, [-1, -1]):
            call = self.call_of(op, model, rows())
        self.assertEqual(ast.unparse(call), ast.unparse(expected))

    def test_no_layout_that_is_asked_for(self):
        # Inductor adds no defaults then.
        op = make_op(SCALED, tags=[torch.Tag.flexible_layout])
        inputs = rows(), torch.randn(3)

        def model(x, w):
            return op(w=w, x=x, scale=2.0)

        with chosen_by_the_base(op):
            expected = self.call_of(op, model, *inputs)
        with registered(op, [-1, -1]):
            call = self.call_of(op, model, *inputs)
        self.assertEqual(ast.unparse(call), ast.unparse(expected))
        self.assertEqual([one.arg for one in call.keywords], ["scale"])

    def check_names(self, op, model, *args, by_position=1):
        """The unregistered op gets the same; what follows the tensors has a name."""
        plain = self.call_of(op, model, *args)
        with registered(op, [-1, -1]):
            call = self.call_of(op, model, *args)
        self.assertEqual(by_name(call, op), by_name(plain, op))
        self.assertEqual(len(call.args), by_position)

    # What the base cannot register.

    def test_sizes(self):
        op = make_op("(Tensor x, SymInt n, SymInt[] sizes, SymInt? m=None) -> Tensor")
        self.check_names(
            op, lambda x: op(x, x.shape[0], [2 * x.shape[0], 3], x.shape[0] + 1), rows()
        )

    def test_tensors_among_scalars(self):
        op = make_op("(Tensor x, float scale, Tensor w, Tensor? v=None) -> Tensor")
        self.check_names(op, lambda x, w: op(x, 2.0, w), rows(), torch.randn(3))
        self.check_names(op, lambda x, w: op(x, 2.0, w, w), rows(), torch.randn(3))

    def test_optional_tensors_and_lists_of_them(self):
        op = make_op("(Tensor x, Tensor? v, Tensor? w, Tensor[] ys, int k=3) -> Tensor")
        self.check_names(op, lambda x, w: op(x, None, w, [w, x]), rows(), rows(3))
        self.check_names(
            op, lambda x, w: op(x, w, None, [w]), rows(), rows(3), by_position=2
        )

    def test_several_results(self):
        op = make_op(
            "(Tensor x, float scale) -> (Tensor, Tensor)",
            lambda x, scale: (x * scale, x + scale),
            lambda x, scale: (torch.empty_like(x), torch.empty_like(x)),
        )
        self.check_names(op, lambda x: op(x, 2.0), rows())

    def test_mutation(self):
        op, model = make_mutation()
        self.check_names(op, model, rows())

    def test_mutation_with_result(self):
        op = make_op(
            "(Tensor(a!) x, float scale=2.0, int k=1) -> Tensor",
            lambda x, scale=2.0, k=1: x.mul_(scale) + k,
        )

        def model(x):
            y = x + 1
            return y + op(y, scale=3.0), y

        self.check_names(op, model, rows())

    def test_names_that_inductor_has_for_itself(self):
        op = make_op("(Tensor x, int[] kernel, int fx_node, int cls) -> Tensor")

        def model(x):
            return op(x, [3], 4, 5)

        plain = self.call_of(op, model, rows())
        with registered(op, [-1, -1]):
            self.assertEqual(
                ast.unparse(self.call_of(op, model, rows())), ast.unparse(plain)
            )

    def test_op_that_inductor_has_code_for(self):
        # Which may know its arguments by other names: cumsum's first is not self.
        op = torch.ops.aten.cumsum.default

        def model(x):
            return torch.ops.aten.cumsum(x, 1)

        plain = self.lines_of(model, rows())
        with custom_op_autotuning(
            op,
            configs=[CustomOpConfig(lambda self, dim, *, dtype=None: self * 7)],
            dispatch_on={"tensor_name": "self", "dim": 0},
            split_points=[SPLIT],
            winners=[-1, -1],
        ):
            self.assertEqual(self.lines_of(model, rows()), plain)

    def test_with_what_is_fused_around_it(self):
        op = make_op(SCALED)

        def model(x, w):
            return op(x * 2, w + 1, scale=2.0) + 1

        inputs = rows(), torch.randn(3)
        plain = self.call_of(op, model, *inputs)
        with registered(op, [-1, -1]):
            call = self.call_of(op, model, *inputs)
        self.assertEqual(by_name(call, op).keys(), by_name(plain, op).keys())
        self.assertEqual(by_name(call, op)["scale"], "2.0")
        self.assertEqual(len(call.args), 2)

    @parametrize("what", ["scalars", "tensor_behind"])
    def test_cpp_wrapper(self, what):
        if what == "scalars":
            op = make_op(SCALED)
        else:
            op = make_op("(Tensor x, float scale, Tensor w, int[] k=[1]) -> Tensor")

        def model(x, w):
            return op(x, w, scale=2.0) if what == "scalars" else op(x, 2.0, w)

        inputs = rows(), torch.randn(3)
        with config.patch(cpp_wrapper=True):
            plain = self.lines_of(model, *inputs)
            self.assertIn(op.name(), "".join(plain))
            with registered(op, [-1, -1]):
                self.assertEqual(self.lines_of(model, *inputs), plain)


class BranchTest(FallbackCallsTestCase):
    def check_branch(self, op, model, *args):
        plain = by_name(self.call_of(op, model, *args), op)
        with registered(op, [0, -1]):
            call = self.call_of(op, model, *args)
        self.assertEqual(len(by_name(call, op)), len(plain))
        self.assertEqual([*by_name(call, op)], [*plain])
        named = {one.arg: ast.unparse(one.value) for one in call.keywords}
        self.assertEqual(named, {name: plain[name] for name in named})
        return call

    def test_scalars(self):
        op = make_op(SCALED)
        inputs = rows(), torch.randn(3)
        call = self.check_branch(op, lambda x, w: op(x, w, 2.0), *inputs)
        self.assertEqual([one.arg for one in call.keywords], ["scale", "bias"])

    def test_mutation(self):
        op, model = make_mutation()
        with custom_op_autotuning(
            op,
            configs=[CustomOpConfig(lambda x, scale: (x.mul_(7), None)[1])],
            dispatch_on={"tensor_name": "x", "dim": 0},
            split_points=[SPLIT],
            winners=[0, -1],
        ):
            call = self.call_of(op, model, rows())
        self.assertEqual([one.arg for one in call.keywords], ["scale"])

    def test_timed(self):
        op = make_op(SCALED)
        inputs = rows(), torch.randn(3)

        def model(x, w):
            return op(x, w, scale=2.0)

        def time_candidates(compiled, *_):
            return {
                one.candidate: Timing(1.0 + (not one.candidate.is_fallback), 0.001)
                for one in compiled
            }

        with chosen_by_the_base(op):
            expected = self.call_of(op, model, *inputs)
        mock_timer = mock.patch.object(timing, "time_candidates", time_candidates)
        with registered(op, None), mock_timer:
            call = self.call_of(op, model, *inputs)
        self.assertEqual(ast.unparse(call), ast.unparse(expected))


instantiate_parametrized_tests(WinsEverywhereTest)


if __name__ == "__main__":
    run_tests()
