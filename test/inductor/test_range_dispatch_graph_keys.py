# Owner(s): ["module: inductor"]
"""What a graph's cache key holds of registered ops: of those that it comes to, all that
its code depends on; of others nothing."""

import contextlib
import functools

from _cache_counts import cache_counts, caches
from _fresh_test_case import FreshTestCase

import torch
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.test_case import run_tests


SPLIT = 8
LARGE = torch.zeros(1 << 21)
HIT, MISS, BYPASS = "hit", "miss", "bypass"


def define(name, function, mutates=()):
    """An op of (x), made anew each time."""
    op = torch.library.custom_op(f"graph_keys::{name}", mutates_args=mutates)(function)
    op.register_fake(torch.empty_like)
    return op


def plus(shift):
    def implementation(x):
        return x + shift

    return implementation


def plus_large(x):
    return x + LARGE[0] + 5.0


def own(x: torch.Tensor) -> torch.Tensor:
    return x + 100.0


def written(x: torch.Tensor) -> torch.Tensor:
    x.add_(100.0)
    return x.clone()


def registered(op, *implementations, **options):
    options = {"winners": [0, 1]} | options
    return custom_op_autotuning(
        op,
        configs=[CustomOpConfig(one) for one in implementations],
        dispatch_on={"tensor_name": "x", "dim": 0},
        split_points=[SPLIT],
        **options,
    )


class GraphKeysTest(FreshTestCase):
    settings = {}

    def run_twice(self, function, *contexts, gradient=False, autograd=False):
        """What a function returns for 4 and 9 rows, compiled under each context, and
        what the cache says each time."""
        ran, said = [], []
        kind = "autograd_cache" if autograd else "fxgraph_cache"
        for context in contexts:
            torch._dynamo.reset()
            report = {}
            with context() as model, caches(autograd=autograd), cache_counts(report):
                compiled = torch.compile(model or function, dynamic=True)
                results = []
                for rows in (4, 9):
                    x = torch.zeros(rows, 3, requires_grad=gradient)
                    result = compiled(x)
                    if gradient:
                        (result,) = torch.autograd.grad(result.sum(), x)
                    results.append(result[0, 0].item())
                ran.append(results)
            said.append([k for k in (HIT, MISS, BYPASS) if report.get(f"{kind}_{k}")])
        return ran, said

    def test_graphs_without_an_op_pay_nothing(self):
        op = define("apart", own)
        elsewhere = functools.partial(registered, op, plus_large, plus(1.0))
        ran, said = self.run_twice(lambda x: x.sin() * 2, elsewhere, elsewhere)
        self.assertEqual(said, [[MISS], [HIT]])
        ran, said = self.run_twice(lambda x: op(x), elsewhere, elsewhere)
        self.assertEqual(ran, [[5.0, 1.0]] * 2)
        self.assertEqual(said, [[BYPASS]] * 2)

    def test_in_a_subgraph(self):
        op = define("branch", own)

        @torch.compiler.nested_compile_region
        def branch(x):
            return op(x) * 2

        def function(x):
            return branch(x) + 0

        ran, said = self.run_twice(
            function,
            lambda: registered(op, plus(1.0), plus(2.0)),
            lambda: registered(op, plus(1.0), plus(2.0), winners=[1, 0]),
            lambda: registered(op, plus(1.0), plus(2.0)),
        )
        self.assertEqual(ran, [[2.0, 4.0], [4.0, 2.0], [2.0, 4.0]])
        self.assertEqual(said, [[MISS], [MISS], [HIT]])

    def test_writes_in_place(self):
        """In the graph it is an argument of auto_functionalized_v2."""

        def add(number):
            def implementation(x):
                x.add_(number)
                return x.clone()

            return implementation

        op = define("in_place", written, mutates=("x",))

        def function(x):
            x = x + 0
            return op(x) + x

        ran, said = self.run_twice(
            function,
            lambda: registered(op, add(1.0), add(2.0)),
            lambda: registered(op, add(1.0), add(2.0), winners=[1, 0]),
            lambda: registered(op, add(1.0), add(2.0)),
        )
        self.assertEqual(ran, [[2.0, 4.0], [4.0, 2.0], [2.0, 4.0]])
        self.assertEqual(said, [[MISS], [MISS], [HIT]])

    def test_called_by_an_implementation(self):
        inner, outer = define("inner", own), define("outer", own)

        def by_object(x):
            return inner(x) + 10.0

        def by_name(x):
            return torch.ops.graph_keys.inner(x) + 20.0

        def by_string(x):
            return getattr(torch.ops.graph_keys, "inner")(x) + 30.0  # noqa: B009

        for calls, added in ((by_object, 10.0), (by_name, 20.0), (by_string, 30.0)):

            @contextlib.contextmanager
            def both(winners, calls=calls):
                with (
                    registered(outer, calls, plus(0.5)),
                    registered(inner, plus(1.0), plus(2.0), winners=winners),
                ):
                    yield

            ran, said = self.run_twice(
                lambda x: outer(x),
                functools.partial(both, [0, 0]),
                functools.partial(both, [1, 1]),
                functools.partial(both, [0, 0]),
            )
            due = [[added + n, 0.5] for n in (1.0, 2.0, 1.0)]
            self.assertEqual(ran, due)
            self.assertEqual(said, [[MISS], [MISS], [HIT]])

    def test_called_by_a_derivative(self):
        slope, op = define("slope", own), define("sloped", own)

        def backward(ctx, gradient):
            return torch.ops.graph_keys.slope(gradient)

        op.register_autograd(backward)
        ran, said = self.run_twice(
            lambda x: op(x),
            lambda: registered(slope, plus(1.0), plus(2.0)),
            lambda: registered(slope, plus(3.0), plus(4.0)),
            lambda: registered(slope, plus(1.0), plus(2.0)),
            gradient=True,
            autograd=True,
        )
        self.assertEqual(ran, [[2.0, 3.0], [4.0, 5.0], [2.0, 3.0]])
        self.assertEqual(said, [[MISS], [MISS], [HIT]])

    def test_derivative(self):
        op = define("derived", own)

        @contextlib.contextmanager
        def with_slope(slope):
            op.register_autograd(lambda ctx, gradient: gradient * slope)
            with registered(op, plus(1.0), plus(2.0)):
                yield

        contexts = [functools.partial(with_slope, slope) for slope in (2.0, 3.0, 2.0)]
        ran, said = self.run_twice(
            lambda x: op(x), *contexts, gradient=True, autograd=True
        )
        self.assertEqual(ran, [[2.0, 2.0], [3.0, 3.0], [2.0, 2.0]])
        self.assertEqual(said, [[MISS], [MISS], [HIT]])

    def test_schema(self):
        """An op that writes to its argument now, under the same name."""

        def adds(x):
            return x.add_(1.0).clone()

        @contextlib.contextmanager
        def with_op(function, mutates, *implementations):
            op = define("changed", function, mutates)
            with registered(op, *implementations):
                yield lambda x: (op(x), x.clone())[1]

        same = [adds, adds]
        ran, said = self.run_twice(
            None,
            functools.partial(with_op, own, (), plus(1.0), plus(1.0)),
            functools.partial(with_op, written, ("x",), *same),
        )
        self.assertEqual(ran, [[0.0, 0.0], [1.0, 1.0]])
        self.assertEqual(said, [[MISS], [MISS]])

    def test_uuid_stands_for_the_code(self):
        op = define("vouched", own)

        def with_uuid(uuid, shift):
            return lambda: registered(op, plus_large, plus(shift), uuid=uuid)

        ran, said = self.run_twice(
            lambda x: op(x),
            with_uuid("a", 1.0),
            with_uuid("a", 2.0),
            with_uuid("b", 2.0),
        )
        self.assertEqual(ran, [[5.0, 1.0], [5.0, 1.0], [5.0, 2.0]])
        self.assertEqual(said, [[MISS], [HIT], [MISS]])
        for wrong in ("", 1):
            with self.assertRaisesRegex(TypeError, "uuid"):
                registered(op, plus(1.0), plus(2.0), uuid=wrong).__enter__()

    def test_passes_of_users_may_bring_in_any_op(self):
        op = define("brought_in", own)

        class Pass(torch._inductor.custom_graph_pass.CustomGraphPass):
            def __call__(self, graph):
                for node in graph.find_nodes(
                    op="call_function", target=torch.ops.aten.sin.default
                ):
                    node.target = torch.ops.graph_keys.brought_in.default

            def uuid(self):
                return "brings in"

        with config.patch(post_grad_custom_post_pass=Pass()):
            ran, said = self.run_twice(
                lambda x: x.sin(),
                lambda: registered(op, plus(1.0), plus(2.0)),
                lambda: registered(op, plus(3.0), plus(4.0)),
            )
        self.assertEqual(ran, [[1.0, 2.0], [3.0, 4.0]])
        self.assertEqual(said, [[MISS], [MISS]])


if __name__ == "__main__":
    run_tests()
