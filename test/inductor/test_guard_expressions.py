# Owner(s): ["module: dynamic shapes"]
"""The expression of all guards, by which caches choose a graph."""

from torch._dynamo.source import ConstantSource
from torch._inductor.test_case import run_tests, TestCase
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv


class GuardExpressionTest(TestCase):
    def test_guards_that_are_alternatives(self):
        shape_env = ShapeEnv()
        sizes = []
        for name, hint in (("n", 128), ("m", 7)):
            source = ConstantSource(name)
            symbol = shape_env.create_symbol(
                hint, source, dynamic_dim=DimDynamic.DYNAMIC
            )
            sizes.append(shape_env.create_symintnode(symbol, hint=hint, source=source))
        n, m = sizes
        self.assertTrue((n > 64) | (n == 33))
        self.assertTrue(m < 10)
        guards = shape_env.produce_guards_expression(sizes)
        for values, holds in (
            ((128, 7), True),
            ((33, 7), True),
            ((34, 7), False),
            ((128, 11), False),
            ((33, 11), False),
        ):
            names = {"L": {}, "n": values[0], "m": values[1]}
            self.assertEqual(
                shape_env.evaluate_guards_expression(guards, [*values]), holds, names
            )


if __name__ == "__main__":
    run_tests()
