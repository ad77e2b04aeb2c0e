# Owner(s): ["module: inductor"]
"""A registered op is dispatched, or it is said that it is not."""

import contextlib
import itertools
import tempfile

import pytest
from _fresh_test_case import FreshTestCase

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._higher_order_ops.effects import _EffectType
from torch._inductor.kernel.custom_op import (
    custom_op_autotuning,
    CustomOpConfig,
    register_custom_op_autotuning,
    unregister_custom_op_autotuning,
)
from torch._inductor.test_case import run_tests


SPLIT = 8
OWN = 1.0
_numbers = itertools.count()
_WARNS = "torch._inductor.range_dispatch.cond.op_itself"


def make_op(schema="(Tensor x) -> Tensor", implementation=lambda x: x + OWN, fake=None):
    @torch.library.custom_op(
        f"never_silent::op{next(_numbers)}", mutates_args=(), schema=schema
    )
    def op(*args):
        return implementation(*args)

    op.register_fake(fake or (lambda x, *args: torch.empty_like(x)))
    return op


class NeverSilentTestCase(FreshTestCase):
    settings = {"force_disable_caches": True}

    def dispatch(self, op, winners=(0, 1), implementations=None, **kwargs):
        implementations = implementations or [lambda x: x * 2, lambda x: x * 3]
        return custom_op_autotuning(
            op,
            configs=[CustomOpConfig(one) for one in implementations],
            dispatch_on={"tensor_name": "x", "dim": 0},
            split_points=[SPLIT],
            winners=winners,
            **kwargs,
        )

    def compile(self, model, **options):
        self.counter = CompileCounterWithBackend("inductor")
        options.setdefault("backend", self.counter)
        options.setdefault("dynamic", True)
        return torch.compile(model, fullgraph=True, **options)


class EffectTest(NeverSilentTestCase):
    def check_op_itself_runs(self, op):
        compiled = self.compile(lambda x: op(x) * 10)
        for size in (5, 8, 9):
            x = torch.arange(float(size))
            self.assertEqual(compiled(x), (x + OWN) * 10)

    def test_registered_before(self):
        op = make_op()
        op.register_effect(_EffectType.ORDERED)
        with self.assertLogs(_WARNS, "WARNING") as logs:
            with self.dispatch(op):
                self.check_op_itself_runs(op)
        self.assertEqual(len(logs.records), 1)
        message = logs.records[0].getMessage()
        self.assertNotIn("\n", message)
        self.assertIn(str(op._opoverload), message)
        self.assertIn("never autotuned", message)

    def test_registered_afterwards(self):
        op = make_op()
        with self.dispatch(op), self.assertLogs(_WARNS, "WARNING") as logs:
            op.register_effect(_EffectType.ORDERED)
            self.check_op_itself_runs(op)
        self.assertEqual(len(logs.records), 1)
        self.assertIn(str(op._opoverload), logs.output[0])

    def test_none(self):
        op = make_op()
        op.register_effect(None)
        with self.assertNoLogs(_WARNS, "WARNING"), self.dispatch(op):
            compiled = self.compile(lambda x: op(x))
            for size in (8, 9):
                x = torch.arange(float(size))
                self.assertEqual(compiled(x), x * (2 + (size > SPLIT)))


class LiteModeTest(NeverSilentTestCase):
    def test_dispatched(self):
        op = make_op()
        compiled = torch.compile(
            lambda x: op(x + 1).sin(), mode="lite", dynamic=True, fullgraph=True
        )
        with self.dispatch(op):
            for size in (5, 8, 9, 20):
                x = torch.arange(float(size))
                due = ((x + 1) * (2 + (size > SPLIT))).sin()
                self.assertEqual(compiled(x), due, msg=f"size {size}")

    def test_without_dispatch_on(self):
        op = make_op()
        register_custom_op_autotuning(
            op, configs=[CustomOpConfig(lambda x: x * 2)], winners=[0]
        )
        self.addCleanup(unregister_custom_op_autotuning, op)
        x = torch.arange(5.0)
        compiled = torch.compile(lambda x: op(x), mode="lite", fullgraph=True)
        self.assertEqual(compiled(x), x * 2)

    def test_fallback_among_winners(self):
        op = make_op()
        compiled = torch.compile(lambda x: op(x), mode="lite", dynamic=True)
        with self.dispatch(op, winners=[-1, 1]):
            for size in (8, 9):
                x = torch.arange(float(size))
                self.assertEqual(compiled(x), x + OWN if size <= SPLIT else x * 3)


class PackageTest(NeverSilentTestCase):
    def package(self, model):
        class Model(torch.nn.Module):
            def forward(self, x):
                return model(x)

        exported = torch.export.export(
            Model(),
            (torch.ones(9),),
            dynamic_shapes={"x": {0: torch.export.Dim("n", min=2)}},
        )
        with tempfile.NamedTemporaryFile(suffix=".pt2") as file:
            path = torch._inductor.aoti_compile_and_package(
                exported, package_path=file.name
            )
            loaded = torch._inductor.aoti_load_package(path)
            return [loaded(torch.ones(size)) for size in (8, 9)]

    def check_warned(self, op, winners, due, model=None):
        with self.dispatch(op, winners), self.assertLogs(_WARNS, "WARNING") as logs:
            results = self.package(model or (lambda x: op(x)))
        for result, value in zip(results, due):
            self.assertEqual(result, torch.full_like(result, value))
        self.assertEqual(len(logs.records), 1)
        message = logs.records[0].getMessage()
        self.assertNotIn("\n", message)
        self.assertIn(str(op._opoverload), message)

    def test_fallback_in_a_branch(self):
        self.check_warned(make_op(), (0, -1), (2, 2))

    @pytest.mark.slow
    def test_fallback_in_a_branch_with_work_around_it(self):
        op = make_op()
        self.check_warned(op, (-1, 0), (5, 5), lambda x: op(x) * 2 + 1)

    @pytest.mark.slow
    def test_fallback_only_and_twice(self):
        op = make_op()
        self.check_warned(op, (-1, -1), (4, 4), lambda x: op(x) + op(x * 1))

    @pytest.mark.slow
    def test_no_fallback(self):
        op = make_op()
        with self.dispatch(op), self.assertNoLogs(_WARNS, "WARNING"):
            results = self.package(lambda x: op(x))
        self.assertEqual([float(one[0]) for one in results], [2, 3])

    def test_compiled_for_this_process(self):
        op = make_op()
        with self.dispatch(op, (0, -1)), self.assertNoLogs(_WARNS, "WARNING"):
            self.compile(lambda x: op(x))(torch.ones(9))


class FloatArgumentTest(NeverSilentTestCase):
    """The base makes a graph for each value of a custom op's float argument, and one
    before the first, as it tries the float as an input. A dispatch makes no more."""

    def count_graphs(self, model, calls, dispatched):
        """How many graphs the calls make, which are compared with what is due."""
        op = make_op("(Tensor x, float scale) -> Tensor", lambda x, scale: x * scale)
        implementations = [lambda x, scale, k=k: x * scale + k for k in (1, 2)]
        torch._dynamo.reset()
        compiled = self.compile(lambda *args: model(op, *args))
        with contextlib.ExitStack() as stack:
            if dispatched:
                stack.enter_context(self.dispatch(op, implementations=implementations))
            for x, *rest in calls:
                chosen = implementations[len(x) > SPLIT] if dispatched else op
                due = model(chosen, x, *rest)
                self.assertEqual(compiled(x, *rest), due, msg=f"{len(x)}, {rest}")
        return self.counter.frame_count

    def check(self, model, calls, graphs):
        for dispatched in (False, True):
            made = self.count_graphs(model, calls, dispatched)
            self.assertEqual(made, graphs, msg=f"dispatched: {dispatched}")

    def test_one_value(self):
        calls = [(torch.ones(size), 0.5) for size in (8, 9, 20)]
        self.check(lambda op, x, scale: op(x, scale), calls, graphs=2)

    @pytest.mark.slow
    def test_a_graph_for_each_value(self):
        given = ((8, 0.5), (9, 1.5), (20, 2.5), (5, 2.5), (9, 0.25), (9, 1.0))
        calls = [(torch.ones(size), scale) for size, scale in given]
        self.check(lambda op, x, scale: op(x, scale), calls, graphs=6)

    @pytest.mark.slow
    def test_computed_of_a_size(self):
        calls = [(torch.ones(4, columns),) for columns in (8, 9, 20)]
        self.check(lambda op, x: op(x, x.shape[1] ** -0.5), calls, graphs=3)

    def test_computed_of_the_dispatched_size(self):
        calls = [(torch.ones(size),) for size in (8, 9, 20)]
        self.check(lambda op, x: op(x, 1.0 / x.shape[0]), calls, graphs=3)


if __name__ == "__main__":
    run_tests()
