# Owner(s): ["module: inductor"]
"""ShapeEnv.scratch: guards that are tried and forgotten."""

import sympy

import torch
from torch._dynamo.source import ConstantSource
from torch._inductor.test_case import run_tests, TestCase
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatelessSymbolicContext,
)
from torch.utils._sympy.value_ranges import ValueRanges


def two_sizes():
    """A ShapeEnv, and the symbols of two sizes that were seen to be 3."""
    shape_env = ShapeEnv()
    fake = FakeTensorMode(shape_env=shape_env).from_tensor(
        torch.empty(3, 3),
        source=ConstantSource("x"),
        symbolic_context=StatelessSymbolicContext([DimDynamic.DYNAMIC] * 2),
    )
    return shape_env, [size.node.expr for size in fake.shape]


class ScratchTest(TestCase):
    def test_all_is_taken_back(self):
        shape_env, (one, other) = two_sizes()
        before = dict(shape_env.var_to_range)
        for _ in range(2):  # nor does anything that was cached stand
            with shape_env.scratch():
                self.assertTrue(shape_env.evaluate_expr(sympy.Eq(one, other)))
                self.assertIs(shape_env.replace(one), shape_env.replace(other))
                self.assertFalse(shape_env.evaluate_expr(one > 3))
                new = shape_env.create_unbacked_symint().node.expr
            self.assertIsNot(shape_env.replace(one), shape_env.replace(other))
            self.assertEqual(shape_env.guards, [])
            known = {s: r for s, r in shape_env.var_to_range.items() if s in before}
            self.assertEqual(known, before)
            self.assertIn(new, shape_env.var_to_range)

    def test_hints_and_ranges_of_a_while(self):
        shape_env, (one, other) = two_sizes()
        with shape_env.scratch({one: sympy.Integer(8)}, {other: ValueRanges(5, 7)}):
            self.assertEqual(shape_env.guarding_hint_or_throw(one), 8)
            self.assertTrue(shape_env.evaluate_expr(other > 4))
            self.assertEqual(shape_env.guards, [])
        self.assertEqual(shape_env.guarding_hint_or_throw(one), 3)
        self.assertFalse(shape_env.evaluate_expr(other > 4))

    def test_a_frozen_one(self):
        shape_env, (one, _) = two_sizes()
        shape_env.freeze()
        with shape_env.scratch():
            self.assertTrue(shape_env.evaluate_expr(one < 9))
            self.assertEqual(len(shape_env.guards), 1)
        self.assertTrue(shape_env.frozen)


if __name__ == "__main__":
    run_tests()
