# Owner(s): ["module: inductor"]
"""Every call shape an operator can have: the compiled call returns and does what the
chosen implementation, called eagerly with the same arguments, returns and does."""

import contextlib
import itertools

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch.records import record_dispatches
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import fresh_cache


SPLIT = 8
_numbers = itertools.count()
_library = torch.library.Library("call_shapes", "FRAGMENT")


def make_op(schema, implementation, fake):
    """A new op ``call_shapes::op<n>`` with this schema, e.g. ``(Tensor x) -> Tensor``."""
    name = f"call_shapes::op{next(_numbers)}"
    torch.library.define(name, schema, lib=_library)
    torch.library.impl(name, "CompositeExplicitAutograd", implementation, lib=_library)
    torch.library.register_fake(name, fake, lib=_library)
    return getattr(torch.ops.call_shapes, name.partition("::")[2]).default


def clone(tree):
    return torch.utils._pytree.tree_map_only(torch.Tensor, torch.clone, tree)


class CallShapesTestCase(TestCase):
    def setUp(self):
        super().setUp()
        torch._dynamo.reset()
        counters.clear()
        stack = contextlib.ExitStack()
        stack.enter_context(fresh_cache())
        # A graph from a cache would not be lowered; a float argument would not be
        # the plain scalar that most ops get.
        stack.enter_context(config.patch(force_disable_caches=True))
        stack.enter_context(torch._dynamo.config.patch(specialize_float=True))
        self.addCleanup(stack.close)

    def check(
        self,
        op,
        implementations,
        calls,
        *,
        on=("x", 0),
        split_points=(SPLIT,),
        winners=None,
        model=None,
        reference=None,
        params=None,
        graphs=1,
        dynamic=True,
        branches=None,
        expected=None,
        **compile_options,
    ):
        """Compile ``model(op, *args)`` and compare with the implementation that the
        dispatched size calls for.

        ``calls`` is a list of (size, args, kwargs); ``expected`` maps a winner's index
        to the function whose eager value is due.
        """
        model = model or (lambda op, *args, **kwargs: op(*args, **kwargs))
        winners = [*range(len(split_points) + 1)] if winners is None else winners
        params = params or [{} for _ in implementations]
        configs = [CustomOpConfig(f, **p) for f, p in zip(implementations, params)]
        counter = CompileCounterWithBackend("inductor")
        compiled = torch.compile(
            lambda *args, **kwargs: model(op, *args, **kwargs),
            backend=counter,
            dynamic=dynamic,
            fullgraph=True,
            **compile_options,
        )
        with (
            custom_op_autotuning(
                op,
                configs=configs,
                dispatch_on={"tensor_name": on[0], "dim": on[1]},
                split_points=[*split_points],
                winners=winners,
            ),
            record_dispatches() as records,
        ):
            for size, args, kwargs in calls:
                winner = winners[sum(size > p for p in split_points)]
                chosen = (
                    expected[winner]
                    if expected
                    else (
                        lambda *a, _w=winner, **k: implementations[_w](
                            *a, **{**k, **params[_w]}
                        )
                    )
                )
                eager_args, eager_kwargs = clone((args, kwargs))
                due = model(chosen, *eager_args, **eager_kwargs)
                torch.manual_seed(0)
                got = compiled(*args, **kwargs)
                self.assertEqual(got, due, msg=lambda m: f"size {size}: {m}")
                self.assertEqual(
                    torch.utils._pytree.tree_structure(got),
                    torch.utils._pytree.tree_structure(due),
                )
                # What the call does to its arguments counts, too.
                self.assertEqual((args, kwargs), (eager_args, eager_kwargs))
        if graphs is not None:
            self.assertEqual(counter.frame_count, graphs)
        if branches is not None:
            self.assertEqual([r.branches for r in records], branches)
        return records


class ArgumentsTest(CallShapesTestCase):
    def rows(self, *sizes):
        return [(n, torch.randn(n, 5)) for n in sizes or (4, 8, 9, 20)]

    def test_second_tensor(self):
        op = make_op(
            "(Tensor scale, Tensor x) -> Tensor",
            lambda scale, x: x * scale.sum(),
            lambda scale, x: torch.empty_like(x),
        )
        self.check(
            op,
            [lambda scale, x, k=k: x * scale.sum() + k for k in (1.0, 2.0)],
            [(n, (torch.randn(3), x), {}) for n, x in self.rows()],
        )

    def test_keyword_only_tensor(self):
        op = make_op(
            "(Tensor y, *, Tensor x) -> Tensor",
            lambda y, *, x: x + y,
            lambda y, *, x: torch.empty_like(x),
        )
        self.check(
            op,
            [lambda y, *, x, k=k: x + y + k for k in (1.0, 2.0)],
            [(n, (torch.randn(5),), {"x": x}) for n, x in self.rows()],
        )

    def test_keywords_out_of_order(self):
        op = make_op(
            "(Tensor x, Tensor y, float a) -> Tensor",
            lambda x, y, a: x - y * a,
            lambda x, y, a: torch.empty_like(x),
        )
        self.check(
            op,
            [lambda x, y, a, k=k: x - y * a + k for k in (1.0, 2.0)],
            [(n, (), {"a": 3.0, "y": torch.randn(5), "x": x}) for n, x in self.rows()],
        )

    def test_optional_tensor_absent_and_present(self):
        op = make_op(
            "(Tensor? bias, Tensor x, Tensor? scale=None) -> Tensor",
            lambda bias, x, scale=None: x.clone(),
            lambda bias, x, scale=None: torch.empty_like(x),
        )

        def impl(bias, x, scale=None, *, k):
            x = x if bias is None else x + bias
            return (x if scale is None else x * scale) + k

        for bias, scale in itertools.product((None, torch.randn(5)), repeat=2):
            torch._dynamo.reset()
            self.check(
                op,
                [impl, impl],
                [(n, (bias, x), {"scale": scale}) for n, x in self.rows()],
                params=[{"k": 1.0}, {"k": 2.0}],
            )

    def test_optional_dispatch_tensor_absent(self):
        op = make_op(
            "(Tensor y, Tensor? x=None) -> Tensor",
            lambda y, x=None: y + 7,
            lambda y, x=None: torch.empty_like(y),
        )
        y = torch.randn(6)
        self.check(
            op,
            [lambda y, x=None: y + 1, lambda y, x=None: y + 2],
            [(1, (y,), {})],
            expected={0: lambda y: y + 7},
        )

    def test_tensor_list(self):
        op = make_op(
            "(Tensor[] xs, Tensor x) -> Tensor",
            lambda xs, x: x + sum(xs),
            lambda xs, x: torch.empty_like(x),
        )
        self.check(
            op,
            [lambda xs, x, k=k: x + sum(xs) + k for k in (1.0, 2.0)],
            [(n, ([torch.randn(5), torch.randn(n, 5)], x), {}) for n, x in self.rows()],
        )

    def test_scalars_everywhere(self):
        op = make_op(
            "(int a, Tensor x, float b, Tensor y, bool c, str d, ScalarType e, "
            "Device f, int[] g, SymInt h, *, float i=2.0, int? j=None) -> Tensor",
            lambda a, x, b, y, c, d, e, f, g, h, *, i=2.0, j=None: x.to(e),
            lambda a, x, b, y, c, d, e, f, g, h, *, i=2.0, j=None: torch.empty_like(
                x, dtype=e
            ),
        )

        def impl(a, x, b, y, c, d, e, f, g, h, *, i=3.0, j=4, k):
            assert (c, d, f.type, j) == (True, "mode", "cpu", None)
            assert list(g) == [1, 2]
            return (a * x + b * y + h + i + k + g[1]).to(e)

        self.check(
            op,
            [impl, impl],
            [
                (
                    n,
                    (3, x, 0.5, torch.randn(5), True, "mode", torch.float64),
                    {"f": torch.device("cpu"), "g": [1, 2], "h": 11},
                )
                for n, x in self.rows()
            ],
            params=[{"k": 1.0}, {"k": 2.0}],
            # The op's default of i and j holds, not the implementation's.
            expected={
                w: lambda *a, _k=k, **kw: impl(*a, **{"i": 2.0, "j": None, **kw}, k=_k)
                for w, k in ((0, 1.0), (1, 2.0))
            },
        )

    def test_symint_of_the_size(self):
        op = make_op(
            "(Tensor x, SymInt n) -> Tensor",
            lambda x, n: x + n,
            lambda x, n: torch.empty_like(x),
        )
        self.check(
            op,
            [lambda x, n, k=k: x * n + k for k in (1.0, 2.0)],
            [(n, (x,), {}) for n, x in self.rows()],
            model=lambda op, x: op(x, x.shape[0] * 2 + 1),
        )

    def test_same_tensor_twice(self):
        op = make_op(
            "(Tensor x, Tensor y) -> Tensor",
            lambda x, y: x + y,
            lambda x, y: torch.empty_like(x),
        )
        self.check(
            op,
            [lambda x, y, k=k: x * 2 + y + k for k in (1.0, 2.0)],
            [(n, (x,), {}) for n, x in self.rows()],
            model=lambda op, x: op(x, x),
        )

    def test_params_override_and_extend(self):
        op = make_op(
            "(Tensor x, int steps=1) -> Tensor",
            lambda x, steps=1: x + steps,
            lambda x, steps=1: torch.empty_like(x),
        )

        def impl(x, steps, table, *, mode="a"):
            return x * steps + sum(table["k"]) + len(mode)

        params = [
            {"steps": 5, "table": {"k": [1, 2]}, "mode": "bcd"},
            {"steps": 6, "table": {"k": [4]}},
        ]
        self.check(
            op,
            [impl, impl],
            [(n, (x, 3), {}) for n, x in self.rows()],
            params=params,
            expected={
                i: lambda x, steps, _p=p: impl(x, **_p) for i, p in enumerate(params)
            },
        )


class SizesTest(CallShapesTestCase):
    def op(self):
        return make_op(
            "(Tensor x) -> Tensor", lambda x: x.clone(), lambda x: torch.empty_like(x)
        )

    impls = [lambda x, k=k: torch.sin(x) * 2 + k for k in (1.0, 2.0, 3.0)]

    def run_model(self, model, sizes, dispatched, on=("x", 0), make=None, **kwargs):
        make = make or (lambda n: torch.randn(n, 50))
        return self.check(
            self.op(),
            self.impls,
            [(dispatched(n), (make(n),), {}) for n in sizes],
            on=on,
            split_points=(8, 16),
            model=model,
            **kwargs,
        )

    def test_slice(self):
        self.run_model(lambda op, x: op(x[1:]), (5, 9, 10, 17, 18), lambda n: n - 1)

    def test_cat_with_constant(self):
        self.run_model(
            lambda op, x: op(torch.cat([x, x[:1]])), (5, 7, 8, 15, 16), lambda n: n + 1
        )

    def test_cat_with_itself(self):
        self.run_model(
            lambda op, x: op(torch.cat([x, x])), (3, 4, 5, 8, 9), lambda n: 2 * n
        )

    def test_flattened(self):
        self.run_model(
            lambda op, x: op(x.reshape(-1)),
            (4, 5, 6, 8, 9),
            lambda n: 2 * n,
            make=lambda n: torch.randn(n, 2),
        )

    def test_product_of_two_symbols(self):
        self.run_model(
            lambda op, x: op(x.reshape(-1)),
            (3, 4, 5, 7),
            lambda n: (n - 1) * n,
            make=lambda n: torch.randn(n - 1, n),
        )

    def test_halved(self):
        self.run_model(
            lambda op, x: op(x[: x.shape[0] // 2]),
            (6, 16, 18, 33, 34),
            lambda n: n // 2,
        )

    def test_strided_inputs(self):
        makes = {
            "transposed": lambda n: torch.randn(5, n).t(),
            "expanded": lambda n: torch.randn(n, 1).expand(n, 5),
            "offset": lambda n: torch.randn(n + 3, 7)[2 : 2 + n, 1:6],
            "every second": lambda n: torch.randn(2 * n, 5)[::2],
        }
        for name, make in makes.items():
            with self.subTest(name):
                torch._dynamo.reset()
                self.run_model(
                    lambda op, x: op(x), (6, 8, 9, 16, 17), lambda n: n, make=make
                )

    def test_channels_last(self):
        self.run_model(
            lambda op, x: op(x),
            (6, 8, 9, 17),
            lambda n: n,
            on=("x", 3),
            make=lambda n: torch.randn(2, 3, 4, n).to(
                memory_format=torch.channels_last
            ),
        )

    def test_dispatched_dim_static_others_dynamic(self):
        calls = [(9, (torch.randn(n, 9),), {}) for n in (3, 5, 30)]
        for _, (x,), _ in calls:
            torch._dynamo.mark_dynamic(x, 0)
        self.check(
            self.op(),
            self.impls,
            calls,
            on=("x", 1),
            split_points=(8, 16),
            dynamic=None,
        )

    def test_all_static(self):
        self.run_model(
            lambda op, x: op(x), (7, 9, 17), lambda n: n, dynamic=False, graphs=3
        )

    def test_automatic_dynamic(self):
        self.run_model(
            lambda op, x: op(x), (7, 8, 9, 16, 17), lambda n: n, dynamic=None, graphs=2
        )

    def test_zero_one_and_large(self):
        for sizes, graphs in (((1, 9, 0, 20, 8), 3), ((8, 1, 0, 30), 3), ((0, 9), 2)):
            with self.subTest(sizes):
                torch._dynamo.reset()
                self.run_model(lambda op, x: op(x), sizes, lambda n: n, graphs=graphs)
        torch._dynamo.reset()
        self.run_model(lambda op, x: op(x), (4, 1 << 18), lambda n: n)

    def test_elementwise_with_a_symbol_of_its_own(self):
        op = make_op(
            "(Tensor x, Tensor w) -> Tensor",
            lambda x, w: x * w,
            lambda x, w: torch.empty_like(x),
        )
        impls = [lambda x, w, k=k: x * w + k for k in (1.0, 2.0)]
        calls = [(n, (torch.randn(n, 50), torch.randn(n, 1)), {}) for n in (5, 8, 9)]
        with self.subTest("duck sizing"):
            self.check(op, impls, calls, branches=[2])
        with self.subTest("automatic dynamic"):
            torch._dynamo.reset()
            self.check(op, impls, calls, dynamic=None, graphs=2)
        with self.subTest("marked"):
            torch._dynamo.reset()
            for _, args, _ in calls:
                for arg in args:
                    torch._dynamo.mark_dynamic(arg, 0)
            self.check(op, impls, calls, dynamic=None, branches=[2])

    def test_matmul_and_cat(self):
        op = make_op(
            "(Tensor x, Tensor w) -> Tensor",
            lambda x, w: x @ w,
            lambda x, w: x.new_empty(x.shape[0], w.shape[1]),
        )
        self.check(
            op,
            [lambda x, w, k=k: x @ w + k for k in (1.0, 2.0)],
            [(n, (torch.randn(3, n), torch.randn(n, 4)), {}) for n in (5, 8, 9)],
            on=("x", 1),
        )
        torch._dynamo.reset()
        op = make_op(
            "(Tensor x, Tensor y) -> Tensor",
            lambda x, y: torch.cat([x, y]),
            lambda x, y: x.new_empty(x.shape[0] + y.shape[0], x.shape[1]),
        )
        self.check(
            op,
            [lambda x, y, k=k: torch.cat([x, y]) + k for k in (1.0, 2.0)],
            [(n, (torch.randn(n, 50), torch.randn(n + 2, 50)), {}) for n in (5, 8, 9)],
        )

    def test_square_and_equal_sizes(self):
        op = make_op(
            "(Tensor x, Tensor other) -> Tensor",
            lambda x, other: x.clone(),
            lambda x, other: torch.empty_like(x),
        )
        impls = [lambda x, other, k=k: x + other.sum() + k for k in (1.0, 2.0)]
        self.check(
            op,
            impls,
            [
                (n, (torch.randn(n, 8), torch.randn(m)), {})
                for n, m in ((8, 8), (9, 8), (7, 30), (30, 3))
            ],
            graphs=None,
        )

    def test_unbacked_dispatch_size(self):
        def masked(op, x):
            return op(x[x[:, 0] > 0])

        def make(n):
            x = torch.randn(40, 3)
            x[:, 0] = -1
            x[:n, 0] = 1
            return x

        self.run_model(masked, (0, 1, 5, 8, 9, 16, 17, 40), lambda n: n, make=make)

    def test_unbacked_size_elsewhere(self):
        op = make_op(
            "(Tensor x, Tensor other) -> Tensor",
            lambda x, other: x.clone(),
            lambda x, other: torch.empty_like(x),
        )
        self.check(
            op,
            [lambda x, other, k=k: x + other.sum() + k for k in (1.0, 2.0)],
            [(n, (torch.randn(n, 5), torch.randn(12)), {}) for n in (4, 8, 9)],
            model=lambda op, x, y: op(x, y[y > 0]),
        )

    def test_item_slice(self):
        def sliced(op, x, n):
            size = n.item()
            torch._check(size >= 0)
            torch._check(size <= x.shape[0])
            return op(x[:size])

        self.check(
            self.op(),
            self.impls,
            [(n, (torch.randn(40, 3), torch.tensor(n)), {}) for n in (2, 8, 9, 17)],
            split_points=(8, 16),
            model=sliced,
        )


if __name__ == "__main__":
    run_tests()
