# Owner(s): ["module: inductor"]
"""Every call shape an operator can have: the compiled call returns and does what the
chosen implementation, called eagerly with the same arguments, returns and does."""

import concurrent.futures
import itertools
from unittest import mock

import hypothesis

import pytest
from _fresh_test_case import FreshTestCase
from hypothesis import strategies as st

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.exc import InductorError
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch.benchmark import contests, timing
from torch._inductor.range_dispatch.call.schemas import (
    arrange_arguments,
    bind_to_schema,
)
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.test_case import run_tests, TestCase


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


class CallShapesTestCase(FreshTestCase):
    def setUp(self):
        super().setUp()
        # A graph from a cache would not be lowered; a float argument would not be
        # the plain scalar that most ops get.
        self.enterContext(config.patch(force_disable_caches=True))
        self.enterContext(torch._dynamo.config.patch(specialize_float=True))

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

    def test_input_gen_fns_of_lists_and_keyword_only_arguments(self):
        op = make_op(
            "(float a, Tensor[] xs, *, Tensor x) -> Tensor",
            lambda a, xs, *, x: x + sum(xs) * a,
            lambda a, xs, *, x: torch.empty_like(x),
        )
        made = []

        def generate(like):
            made.append(tuple(like.shape))
            return torch.full_like(like, 3.0)

        with (
            custom_op_autotuning(
                op,
                configs=[CustomOpConfig(lambda a, xs, *, x: x + sum(xs) * a)],
                dispatch_on={"tensor_name": "x", "dim": 0, "range_upper_bound": 20},
                split_points=[8],
                input_gen_fns={"xs": generate, "x": generate},
                sizes_per_range=1,
            ),
            mock.patch.object(
                timing, "time_candidates", wraps=timing.time_candidates
            ) as timed,
        ):
            compiled = torch.compile(lambda xs, x: op(2.0, xs, x=x), dynamic=True)
            x, xs = torch.randn(4, 50), [torch.randn(50), torch.randn(4, 1)]
            self.assertEqual(compiled(xs, x), x + sum(xs) * 2.0)
        for call, size in zip(timed.call_args_list, (8, 20), strict=True):
            tensors = [t for t in call.args[1] if isinstance(t, torch.Tensor)]
            self.assertTrue(all((t == 3.0).all() for t in tensors))
            self.assertEqual(
                {tuple(t.shape) for t in tensors}, {(50,), (size, 1), (size, 50)}
            )
        self.assertEqual(len(made), 6)

    def test_no_inputs_to_time_with_leaves_the_op(self):
        op = make_op(
            "(Tensor x) -> Tensor", lambda x: x + 9.0, lambda x: torch.empty_like(x)
        )
        with (
            custom_op_autotuning(
                op,
                configs=[CustomOpConfig(lambda x: x + 1.0)],
                dispatch_on={"tensor_name": "x", "dim": 0},
                split_points=[8],
            ),
            mock.patch.object(
                contests, "make_inputs", side_effect=RuntimeError("out of memory")
            ),
            self.assertLogs("torch._inductor.range_dispatch", "WARNING") as logs,
        ):
            x = torch.randn(4, 50)
            compiled = torch.compile(lambda x: op(x), dynamic=True)
            self.assertEqual(compiled(x), x + 9.0)
        self.assertIn("out of memory", logs.output[0])

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

    def test_lists_of_optional_tensors_and_of_scalars(self):
        op = make_op(
            "(Tensor x, Tensor?[] ys, Tensor[] none, int[]? dims=None) -> Tensor[]",
            lambda x, ys, none, dims=None: [x + 1.0],
            lambda x, ys, none, dims=None: [torch.empty_like(x)],
        )

        def impl(x, ys, none, dims=None, *, k):
            assert not none
            for y in ys:
                x = x if y is None else x + y
            return [x * k + sum(dims)]

        self.check(
            op,
            [impl, impl],
            [
                (n, (x, [None, torch.randn(5)], []), {"dims": [1, 2]})
                for n, x in self.rows()
            ],
            params=[{"k": 2.0}, {"k": 3.0}],
            model=lambda op, *args, **kwargs: [*op(*args, **kwargs)],
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

    @pytest.mark.slow
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

    @pytest.mark.slow
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

    def test_sizes_found_equal_are_timed_alike(self):
        def impl(x, w, twice):
            return x * w + (torch.cat([x, x]) + twice).sum()

        op = make_op(
            "(Tensor x, Tensor w, Tensor twice) -> Tensor",
            impl,
            lambda x, w, twice: torch.empty_like(x),
        )
        # Whichever of the equal symbols replaces the others.
        for name in ("x", "w", "twice"):
            torch._dynamo.reset()
            shapes = []
            with (
                custom_op_autotuning(
                    op,
                    configs=[CustomOpConfig(impl)],
                    dispatch_on={
                        "tensor_name": name,
                        "dim": 0,
                        "range_upper_bound": 64,
                    },
                    split_points=[8],
                    sizes_per_range=1,
                    input_gen_fns={
                        name: lambda like: shapes.append(like.shape[0]) or like
                    },
                ),
                record_dispatches() as records,
            ):
                compiled = torch.compile(lambda *args: op(*args), fullgraph=True)
                for n in (5, 9):
                    args = (
                        torch.randn(n, 50),
                        torch.randn(n, 1),
                        torch.randn(2 * n, 50),
                    )
                    for arg in args:
                        torch._dynamo.mark_dynamic(arg, 0)
                    due = impl(*args)
                    self.assertEqual(compiled(*args), due, atol=1e-3, rtol=1e-4)
            # Both candidates ran in both ranges: the other inputs followed.
            timed = [len(r.milliseconds) for r in records[0].ranges]
            self.assertEqual(timed, [2, 2])
            self.assertEqual(shapes, [8, 64])

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


class OutputsTest(CallShapesTestCase):
    sizes = (4, 8, 9, 17)

    def check_rows(self, op, implementations, **kwargs):
        calls = [(n, (torch.randn(n, 50),), {}) for n in self.sizes]
        return self.check(op, implementations, calls, **kwargs)

    def test_tuple_of_dtypes_and_shapes(self):
        op = make_op(
            "(Tensor x) -> (Tensor, Tensor, Tensor)",
            lambda x: (x.clone(), x.sum(), x.argmax(1)),
            lambda x: (
                torch.empty_like(x),
                x.new_empty(()),
                x.new_empty(x.shape[0], dtype=torch.int64),
            ),
        )
        self.check_rows(
            op,
            [
                lambda x, k=k: (x * 2 + k, x.sum() + k, (x * k).argmax(1))
                for k in (1.0, -1.0)
            ],
        )

    def test_list(self):
        op = make_op(
            "(Tensor x) -> Tensor[]",
            lambda x: [x.clone(), x[:, :2].double()],
            lambda x: [torch.empty_like(x), x.new_empty(x.shape[0], 2).double()],
        )
        self.check_rows(
            op,
            [lambda x, k=k: [x + k, (x[:, :2] - k).double()] for k in (1.0, 2.0)],
            model=lambda op, x: [*op(x)],
        )

    def test_zero_dim_and_computed_sizes(self):
        op = make_op(
            "(Tensor x) -> Tensor", lambda x: x.sum(), lambda x: x.new_empty(())
        )
        self.check_rows(op, [lambda x, k=k: x.sum() * k for k in (1.0, 2.0)])
        torch._dynamo.reset()
        op = make_op(
            "(Tensor x) -> Tensor",
            lambda x: torch.cat([x, x[1:]]),
            lambda x: x.new_empty(2 * x.shape[0] - 1, x.shape[1]),
        )
        self.check_rows(
            op, [lambda x, k=k: torch.cat([x, x[1:]]) + k for k in (1.0, 2.0)]
        )

    def test_strides_are_those_of_the_fake(self):
        op = make_op(
            "(Tensor x) -> Tensor", lambda x: x.clone(), lambda x: torch.empty_like(x)
        )
        seen = []

        def model(op, x):
            out = op(x)
            seen.append(out.stride())
            return out

        self.check_rows(
            op,
            [
                lambda x: (x.t() + 1.0).contiguous().t(),
                lambda x: x + 2.0,
            ],
        )
        calls = [(n, torch.randn(n, 50)) for n in self.sizes]
        with custom_op_autotuning(
            op,
            configs=[CustomOpConfig(lambda x: (x.t() + 1.0).contiguous().t())] * 2,
            dispatch_on={"tensor_name": "x", "dim": 0},
            split_points=[8],
            winners=[0, -1],
        ):
            compiled = torch.compile(lambda x: op(x), dynamic=True)
            for _, x in calls:
                self.assertEqual(compiled(x).stride(), x.stride())

    def test_returns_input_view_and_the_same_twice(self):
        op = make_op(
            "(Tensor x) -> (Tensor, Tensor)",
            lambda x: (x.clone(), x.clone()),
            lambda x: (torch.empty_like(x), torch.empty_like(x)),
        )

        def twice(x):
            y = x * 3
            return y, y

        implementations = [
            lambda x: (x, x * 2),
            lambda x: (x.view_as(x), x),
            twice,
        ]
        calls = [(n, (torch.randn(n, 50),), {}) for n in (4, 8, 9, 16, 17)]
        self.check(
            op,
            implementations,
            calls,
            split_points=(8, 16),
            # Written to afterwards: copies must be copies.
            model=lambda op, x: [t.add_(1.0) for t in clone(op(x))],
        )

    def test_none(self):
        op = make_op(
            "(Tensor(a!) x) -> ()", lambda x: [x.zero_()].clear(), lambda x: None
        )

        def add(x, k):
            x.add_(k)

        self.check_rows(
            op,
            [add, add],
            params=[{"k": 1.0}, {"k": 2.0}],
            model=lambda op, x: (op(x), x * 2)[1],
        )

    def test_mutation_with_result(self):
        op = make_op(
            "(Tensor x, Tensor(a!) state) -> Tensor",
            lambda x, state: x + state.add_(x.sum()),
            lambda x, state: torch.empty_like(x),
        )

        def impl(x, state, k):
            before = state.clone()
            state.mul_(k).add_(1.0)
            return x + before * k

        def model(op, x, state):
            first = op(x, state)
            second = op(first, state)
            return second, state + 1.0

        self.check(
            op,
            [impl, impl],
            [(n, (torch.randn(n, 50), torch.randn(50)), {}) for n in self.sizes],
            params=[{"k": 3.0}, {"k": 5.0}],
            model=model,
        )

    def test_mutated_dispatch_tensor_with_fallback(self):
        def double(x):
            x.mul_(2.0)

        op = make_op("(Tensor(a!) x) -> ()", double, lambda x: None)

        def triple(x):
            x.mul_(3.0)

        for winners in ([0, -1], [-1, -1], [0, 0]):
            torch._dynamo.reset()
            self.check_rows(
                op,
                [triple],
                winners=winners,
                expected={0: triple, -1: double},
                model=lambda op, x: (op(x), x + 1)[1],
            )

    def test_tuning_a_mutating_op_leaves_the_callers_tensors(self):
        op = make_op(
            "(Tensor(a!) x) -> ()", lambda x: [x.add_(1.0)].clear(), lambda x: None
        )

        def add_ten(x):
            x.add_(10.0)

        with (
            custom_op_autotuning(
                op,
                configs=[CustomOpConfig(add_ten)],
                dispatch_on={"tensor_name": "x", "dim": 0},
                split_points=[8],
            ),
            config.patch("test_configs.force_no_impl_grouping", True),
        ):
            compiled = torch.compile(lambda x: (op(x), x.clone())[1], dynamic=True)
            for n in (4, 9):
                x = torch.zeros(n, 50)
                seen = compiled(x)
                self.assertIn(x[0, 0].item(), (1.0, 10.0))
                self.assertEqual(x, torch.full_like(x, x[0, 0].item()))
                self.assertEqual(seen, x)

    def test_data_dependent_size(self):
        def fake(x):
            size = torch.library.get_ctx().new_dynamic_size()
            return x.new_empty(size, dtype=torch.int64)

        op = make_op("(Tensor x) -> Tensor", lambda x: x.nonzero().squeeze(1), fake)
        implementations = [
            lambda x, k=k: torch.nonzero(x > k).squeeze(1) for k in (0.0, 0.5)
        ]
        for winners in ([0, 1], [1, 1]):
            torch._dynamo.reset()
            self.check(
                op,
                implementations,
                [(n, (torch.randn(n),), {}) for n in (4, 8, 9, 30)],
                model=lambda op, x: op(x) * 2,
                winners=winners,
            )

    def test_unused_result(self):
        op = make_op(
            "(Tensor x) -> (Tensor, Tensor)",
            lambda x: (x.clone(), x + 1),
            lambda x: (torch.empty_like(x), torch.empty_like(x)),
        )
        self.check_rows(
            op,
            [lambda x, k=k: (x + k, x * k) for k in (1.0, 2.0)],
            model=lambda op, x: op(x)[1],
        )

    def op_that_scales_its_argument(self):
        """An op that writes its argument and returns a result, and an implementation."""
        op = make_op(
            "(Tensor(a!) x, Tensor y) -> Tensor",
            lambda x, y: x.add_(y).clone(),
            lambda x, y: torch.empty_like(x),
        )

        def impl(x, y, k):
            x.mul_(k)
            return x + y

        return op, impl

    def test_mutation_of_a_view(self):
        op, impl = self.op_that_scales_its_argument()
        self.check(
            op,
            [impl, impl],
            [(n - 1, (torch.randn(n, 50),), {}) for n in (5, 9, 10)],
            params=[{"k": 2.0}, {"k": 3.0}],
            model=lambda op, x: op(x[1:], x[:-1].clone()) + x[1:],
        )

    def test_mutated_temporary_between_calls_that_read_it(self):
        op, impl = self.op_that_scales_its_argument()

        def model(op, x):
            temporary = x + 1
            first = op(temporary, x)
            second = op(temporary[:, 1:], first[:, 1:])
            read = op(x.clone(), temporary)
            op(temporary, read)
            return first, second, read, temporary * 2

        self.check(
            op,
            [impl, impl],
            [(n, (torch.randn(n, 50),), {}) for n in (4, 8, 9, 20)],
            params=[{"k": 2.0}, {"k": 3.0}],
            model=model,
        )


class ImplementationsTest(CallShapesTestCase):
    def setUp(self):
        super().setUp()
        self.op = make_op(
            "(Tensor x) -> Tensor", lambda x: x + 100.0, lambda x: torch.empty_like(x)
        )

    def check_impls(self, *implementations, sizes=(4, 8, 9, 17), **kwargs):
        calls = [(n, (torch.randn(n, 50),), {}) for n in sizes]
        return self.check(self.op, [*implementations], calls, **kwargs)

    def test_kinds_of_callables(self):
        class Callable:
            def __call__(self, x):
                return x + 1.0

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = torch.nn.Linear(50, 50)
                self.register_buffer("shift", torch.randn(50))

            def forward(self, x):
                return self.linear(x) + self.shift

        net = Net().requires_grad_(False)
        self.check_impls(Callable(), net)
        torch._dynamo.reset()
        self.check_impls(torch.sin, torch.ops.aten.cos.default)
        torch._dynamo.reset()
        self.check_impls(
            torch.compile(torch.tan),
            torch.compile(net),
            expected={0: torch.tan, 1: net},
        )

    def test_closures_and_constants(self):
        tensor, number = torch.randn(50), 3.5

        def closes_over(x):
            return x * tensor + number

        def constants(x):
            return x + torch.tensor([1.0, 2.0]).sum() + torch.arange(50)

        self.check_impls(closes_over, constants)

    def test_in_place_on_temporaries(self):
        def index_put(x):
            out = torch.zeros_like(x)
            out[1:3] = x[1:3] * 2
            return out.relu_().add_(1.0)

        def scatter(x):
            index = torch.zeros(1, 50, dtype=torch.int64)
            return x.clone().scatter_(0, index, 7.0).mul_(2.0)

        self.check_impls(index_put, scatter)

    def test_item_and_nonzero(self):
        def item(x):
            return x * x.abs().sum().item()

        def nonzero(x):
            return x + (x > 0).nonzero().shape[0]

        self.check_impls(item, nonzero)

    def test_item_of_an_operand(self):
        op = make_op(
            "(Tensor x, Tensor n) -> Tensor",
            lambda x, n: x * n,
            lambda x, n: torch.empty_like(x),
        )
        self.check(
            op,
            [lambda x, n, k=k: x * n.item() + k for k in (1.0, 2.0)],
            [(m, (torch.randn(m, 50), torch.tensor(m + 3)), {}) for m in (4, 8, 9)],
        )

    def test_random_numbers(self):
        with custom_op_autotuning(
            self.op,
            configs=[
                CustomOpConfig(lambda x: x + torch.rand_like(x)),
                CustomOpConfig(lambda x: x + 5.0),
            ],
            dispatch_on={"tensor_name": "x", "dim": 0},
            split_points=[8],
            winners=[0, 1],
        ):
            compiled = torch.compile(lambda x: self.op(x), dynamic=True)
            drawn = compiled(torch.zeros(4, 50))
            self.assertTrue(((drawn >= 0) & (drawn < 1)).all())
            self.assertGreater(drawn.unique().numel(), 100)
            self.assertEqual(compiled(torch.zeros(9, 50)), torch.full((9, 50), 5.0))

    def test_library_kernels(self):
        def fake_conv(x, w):
            return x.new_empty(x.shape[0], w.shape[0], x.shape[2] - w.shape[2] + 1)

        conv1d = torch.nn.functional.conv1d
        self.check(
            make_op("(Tensor x, Tensor w) -> Tensor", conv1d, fake_conv),
            [lambda x, w, k=k: conv1d(x, w) * k for k in (1.0, 2.0)],
            [(n, (torch.randn(2, 3, n), torch.randn(4, 3, 3)), {}) for n in (5, 8, 9)],
            on=("x", 2),
        )
        torch._dynamo.reset()
        attention = torch.nn.functional.scaled_dot_product_attention

        def by_hand(query, key, value):
            scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
            return torch.softmax(scores, -1) @ value + 1.0

        self.check(
            make_op(
                "(Tensor query, Tensor key, Tensor value) -> Tensor",
                attention,
                lambda query, key, value: torch.empty_like(query),
            ),
            [by_hand, lambda query, key, value: attention(query, key, value)],
            [(n, (*torch.randn(3, 2, 3, n, 16),), {}) for n in (4, 8, 9, 33)],
            on=("key", 2),
        )

    def test_indices_are_timed_with_valid_values(self):
        op = make_op(
            "(Tensor x, Tensor table) -> Tensor",
            lambda x, table: table[x],
            lambda x, table: table.new_empty(x.shape[0], table.shape[1]),
        )
        with (
            custom_op_autotuning(
                op,
                configs=[
                    CustomOpConfig(lambda x, table: table.index_select(0, x)),
                    CustomOpConfig(torch.nn.functional.embedding),
                ],
                dispatch_on={"tensor_name": "x", "dim": 0},
                split_points=[8],
            ),
            record_dispatches() as records,
        ):
            compiled = torch.compile(lambda x, table: op(x, table), dynamic=True)
            for n in (4, 9):
                x, table = torch.randint(0, 11, (n,)), torch.randn(11, 6)
                self.assertEqual(compiled(x, table), table[x])
        for row in records[0].ranges:
            self.assertEqual(len(row.milliseconds), 3)

    def test_cond_and_no_grad(self):
        def cond(x):
            return torch.cond(x.sum() > 0, lambda x: x + 1.0, lambda x: x - 1.0, (x,))

        def no_grad(x):
            with torch.no_grad():
                return x * 2.0

        self.check_impls(cond, no_grad)

    def test_side_effects_happen_at_trace_time_once(self):
        traced = []

        def effect(x):
            traced.append(type(x))
            return x + 1.0

        self.check_impls(
            effect,
            lambda x: x + 2.0,
            expected={0: lambda x: x + 1.0, 1: lambda x: x + 2.0},
        )
        self.assertEqual(len(traced), 1)

    def test_recursion_and_another_dispatched_op(self):
        op = self.op
        inner = make_op(
            "(Tensor x) -> Tensor", lambda x: x - 5.0, lambda x: torch.empty_like(x)
        )

        def recursive(x):
            return op(x * 2.0)  # the op's own implementation

        def nested(x):
            return inner(x) * 2.0

        with (
            custom_op_autotuning(
                inner,
                configs=[CustomOpConfig(lambda x, k=k: x + k) for k in (10.0, 20.0)],
                dispatch_on={"tensor_name": "x", "dim": 0},
                split_points=[16],
                winners=[0, 1],
            ),
        ):
            self.check_impls(
                recursive,
                nested,
                expected={
                    0: lambda x: x * 2.0 + 100.0,
                    1: lambda x: (x + (20.0 if x.shape[0] > 16 else 10.0)) * 2.0,
                },
                sizes=(4, 8, 9, 16, 17),
            )

    @config.patch("range_dispatch.tune_fused", False)
    def test_inner_op_is_tuned_once(self):
        inner = make_op(
            "(Tensor x) -> Tensor", lambda x: x - 5.0, lambda x: torch.empty_like(x)
        )
        on = {"tensor_name": "x", "dim": 0}
        implementations = [lambda x: inner(x) * 2.0, lambda x: inner(x) * 2.0 + 1.0]
        with (
            custom_op_autotuning(
                inner,
                configs=[CustomOpConfig(lambda x: x + 7.0)],
                dispatch_on=on,
                split_points=[16],
            ),
            custom_op_autotuning(
                self.op,
                configs=[CustomOpConfig(f) for f in implementations],
                dispatch_on=on,
                split_points=[8],
            ),
        ):
            compiled = torch.compile(lambda x: self.op(x), dynamic=True, fullgraph=True)
            compiled(torch.randn(4, 50))
        # Three candidates of the op, two of the inner one.
        self.assertEqual(counters["inductor"]["custom_op_candidates_compiled"], 5)

    def check_is_dropped(self, implementation, reason):
        """It alone, for its range; the op itself takes its place if it may."""
        with self.assertRaisesRegex(InductorError, "cannot be used for range"):
            self.check_impls(implementation, lambda x: x + 2.0)
        with (
            config.patch("range_dispatch.on_unusable_winner", "fallback"),
            self.assertLogs("torch._inductor.range_dispatch", "WARNING") as logs,
        ):
            self.check_impls(
                implementation,
                lambda x: x + 2.0,
                expected={0: lambda x: x + 100.0, 1: lambda x: x + 2.0},
            )
        self.assertIn(reason, logs.output[0])

    def test_mutating_the_input_is_dropped(self):
        def mutates(x):
            return x.add_(1.0)

        self.check_is_dropped(mutates, "mutates its input 'x'")

    def test_guards_on_data_are_dropped(self):
        def decides_by_data(x):
            return x + (1.0 if (x > 100).any() else 3.0)

        self.check_is_dropped(decides_by_data, "dropped candidate decides_by_data")

    def test_range_decides_a_branch(self):
        def asserts(x):
            assert x.shape[0] <= 8
            return x + 1.0

        def branches(x):
            if x.shape[0] <= 16:
                return x + 2.0
            return x + 3.0

        self.check_impls(
            asserts, branches, branches, sizes=(4, 8, 9, 16, 17), split_points=(8, 16)
        )

    def test_range_decides_on_a_derived_size(self):
        def small(x):
            assert x.shape[0] <= 8
            return x + 1.0

        def large(x):
            return x + (2.0 if x.shape[0] > 8 else 7.0)

        self.check(
            self.op,
            [small, large],
            [(2 * n, (torch.randn(n, 50),), {}) for n in (3, 4, 5, 20)],
            model=lambda op, x: op(torch.cat([x, x])),
        )

    def test_range_decides_no_more_than_it_may(self):
        """A size that a range leaves open must not be decided by it: the graph is for
        the sizes that the winner is for, and others have another graph."""

        def looks(x):
            return x + (1.0 if x.shape[0] <= 60 else 2.0)

        eighths = lambda op, x: op(x[: x.shape[0] // 8])  # noqa: E731
        left = lambda op, x: op(torch.ones(200, 5)[x.shape[0] :])  # noqa: E731
        # Sizes of 20, 2, 23 and 16, then of 40, 180, 10 and 70.
        for model, size_of, graphs in (
            (eighths, lambda n: n // 8, 1),
            (left, lambda n: 200 - n, 2),
        ):
            torch._dynamo.reset()
            self.check(
                self.op,
                [looks, lambda x: x + 3.0],
                [(size_of(n), (torch.randn(n, 5),), {}) for n in (160, 20, 190, 130)],
                split_points=(100,),
                model=model,
                graphs=graphs,
            )

    def test_same_graph_in_all_ranges_is_compiled_once(self):
        def looks(x):
            assert x.shape[0] >= 0
            if x.shape[0] > 1 << 40:
                return x
            return x + 1.0

        with custom_op_autotuning(
            self.op,
            configs=[CustomOpConfig(looks)],
            dispatch_on={"tensor_name": "x", "dim": 0},
            split_points=[8, 16, 32],
        ):
            torch.compile(lambda x: self.op(x), dynamic=True)(torch.randn(4, 50))
        # The implementation, perhaps again for the open range, and the op itself.
        self.assertLessEqual(counters["inductor"]["custom_op_candidates_compiled"], 3)


class DtypesTest(CallShapesTestCase):
    """Inputs of every dtype are made for the benchmark and dispatched on."""

    CLONED_BY_INDUCTOR = (
        torch.bool,
        torch.uint8,
        torch.uint16,
        torch.uint32,
        torch.uint64,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.complex32,
        torch.complex64,
        torch.complex128,
        torch.float8_e4m3fn,
        torch.float8_e4m3fnuz,
        torch.float8_e5m2,
        torch.float8_e5m2fnuz,
    )
    # The base generates no CPU code for these: only the op itself is left.
    NOT_COMPILED = (torch.float8_e8m0fnu, torch.float4_e2m1fn_x2)

    @pytest.mark.slow
    def test_every_dtype_is_benchmarked(self):
        op = make_op(
            "(Tensor x) -> Tensor",
            lambda x: x.clone(),
            lambda x: torch.empty_like(x),
        )
        for dtype in (*self.CLONED_BY_INDUCTOR, *self.NOT_COMPILED):
            with self.subTest(dtype=dtype):
                torch._dynamo.reset()
                with (
                    custom_op_autotuning(
                        op,
                        configs=[CustomOpConfig(lambda x: x[:].contiguous().clone())],
                        dispatch_on={
                            "tensor_name": "x",
                            "dim": 0,
                            "range_upper_bound": 64,
                        },
                        split_points=[8],
                    ),
                    record_dispatches() as records,
                ):
                    compiled = torch.compile(lambda x: op(x), dynamic=True)
                    for n in (8, 9):
                        bits = torch.randint(0, 2, (n, 50 * dtype.itemsize))
                        x = bits.to(torch.uint8).view(dtype)
                        got = compiled(x)
                        self.assertEqual(got.dtype, dtype)
                        self.assertEqual(got.view(torch.uint8), bits.to(torch.uint8))
                timed = 2 if dtype in self.CLONED_BY_INDUCTOR else 1
                for row in records[0].ranges:
                    self.assertEqual(len(row.milliseconds), timed)


class TogetherTest(CallShapesTestCase):
    def setUp(self):
        super().setUp()
        self.op = make_op(
            "(Tensor x, float a=1.0) -> Tensor",
            lambda x, a=1.0: x * a,
            lambda x, a=1.0: torch.empty_like(x),
        )
        self.impls = [lambda x, a=1.0, k=k: x * a + k for k in (1.0, 2.0)]
        self.calls = [(n, (torch.randn(n, 50),), {}) for n in (4, 8, 9, 20)]

    def test_twice_with_other_scalars_and_dtypes(self):
        self.check(
            self.op,
            self.impls,
            self.calls,
            model=lambda op, x: (op(x), op(op(x)), op(x, 3.0), op(x.double())),
        )

    @config.patch("range_dispatch.tune_fused", False)
    def test_alike_calls_are_tuned_once(self):
        with custom_op_autotuning(
            self.op,
            configs=[CustomOpConfig(f) for f in self.impls],
            dispatch_on={"tensor_name": "x", "dim": 0},
            split_points=[8],
        ):
            torch.compile(lambda x: self.op(self.op(self.op(x) + 1)), dynamic=True)(
                torch.randn(4, 50)
            )
        self.assertEqual(counters["inductor"]["custom_op_candidates_compiled"], 3)

    def test_around_and_inside_a_users_cond(self):
        def model(op, x):
            x = op(x)
            x = torch.cond(
                x.sum() > 0, lambda x: op(x) + 1.0, lambda x: op(x) - 1.0, (x,)
            )
            return op(x)

        self.check(self.op, self.impls, self.calls, model=model)

    def test_checkpoint_autocast_inference_mode(self):
        def checkpointed(op, x):
            return torch.utils.checkpoint.checkpoint(
                lambda x: op(x).sin(), x, use_reentrant=False
            )

        def autocast(op, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return op(x) @ torch.ones(50, 3)

        self.check(self.op, self.impls, self.calls, model=checkpointed)
        torch._dynamo.reset()
        self.check(self.op, self.impls, self.calls, model=autocast)
        torch._dynamo.reset()
        with torch.inference_mode():
            self.check(self.op, self.impls, self.calls)

    def test_training(self):
        op = torch.library.custom_op(
            f"call_shapes::trained{next(_numbers)}",
            lambda x, w: x * w,
            mutates_args=(),
            schema="(Tensor x, Tensor w) -> Tensor",
        )
        op.register_fake(lambda x, w: torch.empty_like(x))

        def setup(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        def backward(ctx, grad):
            x, w = ctx.saved_tensors
            return grad * w, (grad * x).sum(0)

        op.register_autograd(backward, setup_context=setup)
        with custom_op_autotuning(
            op,
            configs=[CustomOpConfig(lambda x, w, k=k: x * w + k) for k in (1.0, 2.0)],
            dispatch_on={"tensor_name": "x", "dim": 0},
            split_points=[8],
            winners=[0, 1],
        ):
            counter = CompileCounterWithBackend("inductor")
            compiled = torch.compile(
                lambda x, w: op(x.sin(), w).cos(),
                dynamic=True,
                fullgraph=True,
                backend=counter,
            )
            for n in (4, 8, 9, 20):
                x = torch.randn(n, 50, requires_grad=True)
                w = torch.randn(50, requires_grad=True)
                due = (x.sin() * w + (1.0 if n <= 8 else 2.0)).cos()
                grads = torch.autograd.grad(due.sum(), (x, w))
                got = compiled(x, w)
                self.assertEqual(got, due)
                self.assertEqual(torch.autograd.grad(got.sum(), (x, w)), grads)
            self.assertEqual(counter.frame_count, 1)

    def test_vmap(self):
        op = torch.library.custom_op(
            f"call_shapes::mapped{next(_numbers)}",
            lambda x: x.clone(),
            mutates_args=(),
            schema="(Tensor x) -> Tensor",
        )
        op.register_fake(lambda x: torch.empty_like(x))
        op.register_vmap(lambda info, in_dims, x: (op(x), in_dims[0]))
        self.check(
            op,
            [lambda x, k=k: x + k for k in (1.0, 2.0)],
            [(n, (torch.randn(n, 50),), {}) for n in (4, 8, 9)],
            model=lambda op, x: torch.vmap(lambda row: op(row))(x),
        )

    def test_concurrent_compiles(self):
        def work(seed):
            generator = torch.Generator().manual_seed(seed)
            compiled = torch.compile(
                lambda x: self.op(x).sin() * seed, dynamic=True, fullgraph=True
            )
            right = []
            for n in (4, 9):
                x = torch.randn(n, 50, generator=generator)
                due = (x + (1.0 if n <= 8 else 2.0)).sin() * seed
                right.append(torch.allclose(compiled(x), due, atol=1e-5))
            return all(right)

        with (
            custom_op_autotuning(
                self.op,
                configs=[CustomOpConfig(f) for f in self.impls],
                dispatch_on={"tensor_name": "x", "dim": 0},
                split_points=[8],
                winners=[0, 1],
            ),
            concurrent.futures.ThreadPoolExecutor(3) as pool,
        ):
            self.assertEqual([*pool.map(work, (1, 2, 3))], [True] * 3)


class SignaturePropertyTest(TestCase):
    """Random signatures, called through ``invoke`` as the engine calls candidates."""

    DEFAULTS = {"float": 0.25, "int": 3, "bool": True, "Tensor?": None}

    @hypothesis.settings(deadline=None, max_examples=150)
    @hypothesis.given(data=st.data())
    def test_arranged_as_the_op_is_called(self, data):
        kinds = data.draw(
            st.lists(
                st.sampled_from(("Tensor", *self.DEFAULTS)), min_size=1, max_size=6
            )
        )
        keyword_only_from = data.draw(st.integers(1, len(kinds)))
        names = [f"a{i}" for i in range(len(kinds))]
        parts, values = [], {}
        defaulted = False
        for i, (name, kind) in enumerate(zip(names, kinds)):
            if i == keyword_only_from:
                parts.append("*")
                defaulted = False
            may = kind in self.DEFAULTS
            defaulted = may and (defaulted or data.draw(st.booleans()))
            text = f"{kind} {name}"
            if defaulted:
                text += f"={self.DEFAULTS[kind]}"
            elif any(
                "=" in p for p in parts[parts.index("*") if "*" in parts else 0 :]
            ):
                # No argument without a default may follow one with.
                hypothesis.reject()
            parts.append(text)
            if not (defaulted and data.draw(st.booleans())):
                values[name] = object()
        schema = f"({', '.join(parts)}) -> Tensor"
        op = make_op(schema, lambda *args, **kwargs: None, lambda *args, **kwargs: None)
        full = {
            name: values.get(name, self.DEFAULTS.get(kind))
            for name, kind in zip(names, kinds)
        }
        by_keyword = data.draw(st.integers(0, keyword_only_from))
        positional = []
        for name in names[:by_keyword]:
            if name not in values:
                break
            positional.append(values[name])
        keywords = {
            name: value
            for name, value in values.items()
            if name not in names[: len(positional)]
        }
        bound = bind_to_schema(op, positional, keywords)
        self.assertEqual([*bound], names)
        self.assertTrue(all(bound[n] is full[n] or bound[n] == full[n] for n in names))

        received = {}
        namespace = {"received": received}
        arguments = [p.split(" ")[-1].partition("=")[0] for p in parts]
        exec(f"def impl({', '.join(arguments)}): received.update(locals())", namespace)
        args, kwargs = arrange_arguments(namespace["impl"], op, bound, {})
        namespace["impl"](*args, **kwargs)
        self.assertEqual([*received], [a for a in arguments if a != "*"])
        self.assertTrue(all(received[n] is bound[n] for n in names))

    @hypothesis.settings(
        deadline=None,
        max_examples=8,
        suppress_health_check=[*hypothesis.HealthCheck],
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(data=st.data())
    def test_compiled_as_eager(self, data):
        """Random schemas, shapes and winners, compiled for real."""
        kinds = data.draw(
            st.lists(
                st.sampled_from(("Tensor", "Tensor?", "Tensor[]", "float", "int")),
                min_size=1,
                max_size=4,
            )
        )
        at = data.draw(st.integers(0, len(kinds)))
        keyword_only = data.draw(st.booleans())
        names = [f"a{i}" for i in range(len(kinds))]
        parts = [f"{kind} {name}" for kind, name in zip(kinds, names)]
        parts.insert(at, "Tensor x")
        if keyword_only:
            parts.insert(-1, "*")
        order = [p.split(" ")[1] for p in parts if p != "*"]
        present = data.draw(
            st.lists(st.booleans(), min_size=len(kinds), max_size=len(kinds))
        )
        point = data.draw(st.integers(2, 12))
        winners = data.draw(st.permutations([0, 1, -1]))[:2]

        def value(x, named):
            result = x.clone()
            for weight, (name, one) in enumerate(sorted(named.items()), 2):
                terms = one if isinstance(one, (list, tuple)) else [one]
                for term in terms:
                    if term is not None:
                        result = result + weight * term
            return result

        def implementation(*args, k=0.0, **kwargs):
            named = {**dict(zip(order, args)), **kwargs}
            return value(named.pop("x"), named) + k

        def fake(*args, **kwargs):
            return torch.empty_like({**dict(zip(order, args)), **kwargs}["x"])

        op = make_op(f"({', '.join(parts)}) -> Tensor", implementation, fake)

        def argument(kind, is_present):
            if kind == "Tensor[]":
                return [torch.randn(50), torch.randn(1)]
            if kind == "Tensor" or (kind == "Tensor?" and is_present):
                return torch.randn(50)
            return {"Tensor?": None, "float": 1.5, "int": 7}[kind]

        extra = {
            name: argument(kind, there)
            for name, kind, there in zip(names, kinds, present)
        }
        shift = {0: 100.0, 1: 200.0, -1: 0.0}
        torch._dynamo.reset()
        with (
            torch._dynamo.config.patch(specialize_float=True),
            custom_op_autotuning(
                op,
                configs=[CustomOpConfig(implementation, k=shift[i]) for i in (0, 1)],
                dispatch_on={"tensor_name": "x", "dim": 0},
                split_points=[point],
                winners=winners,
            ),
        ):
            compiled = torch.compile(
                lambda **kwargs: op(**kwargs), dynamic=True, fullgraph=True
            )
            for size in (point - 1, point, point + 1):
                if size < 2:
                    continue
                x = torch.randn(size, 50)
                due = implementation(x=x, **extra) + shift[winners[size > point]]
                self.assertEqual(compiled(x=x, **extra), due)


if __name__ == "__main__":
    run_tests()
