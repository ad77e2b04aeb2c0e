# Owner(s): ["module: inductor"]
"""``torch.cond`` in C++: the wrapper of ``torch.compile``, and AOTInductor."""

import itertools
import os
import shutil
import tempfile
from unittest import mock

import pytest

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._higher_order_ops import while_loop
from torch._inductor import config
from torch._inductor.test_case import run_tests, TestCase
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    subtest,
)


cond = torch.cond
WIDTH = 6
SIZES = (20, 2, 3, 4, 5, 8, 9, 100)


class Module(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = torch.nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.register_buffer("bias", torch.randn(WIDTH))

    def forward(self, *args):
        return self.function(self, *args)


def predicates(_, x, k):
    """And, Or, expressions of sizes and of values, a tensor; each asked for a branch."""
    n, i = x.shape[0], k.item()
    some = ((n > 4) & (n <= 8)) | (n == 3)
    asked = [some, 2 * n + 1 > 9, i > 3, (i > 3) & (n > 4), x.sum() > 0]
    asked += [(k > 3).item(), k.float().item() > 3.5]
    outputs = [
        cond(p, lambda x, j=j: x.sin() + j, lambda x, j=j: x.cos() * j, (x,))
        for j, p in enumerate(asked)
    ]
    return torch.stack(outputs)


def operands(_, x, k):
    """Sizes, expressions of them, values, and tensors whose sizes are expressions."""
    n, i, f = x.shape[0], k.item(), (k / 3).item()
    large = i > 3
    y = cond(
        n > 4,
        lambda x, n, m: x * n + m + i * f,
        lambda x, n, m: x + n * m + i * f * 2,
        (x, n, 2 * n + 1),
    )
    joined = torch.cat([x, x])
    z = cond(joined.shape[0] > 9, lambda z: z.sin(), lambda z: z.cos(), (joined,))
    w = cond(
        n > 4,
        lambda x: cond(large, lambda x: x + 1, lambda x: x + 2, (x,)),
        lambda x: x + 3,
        (x,),
    )
    return y, z, w


def items(_, x, k):
    """A value read in a branch, at several levels, before the cond and after it."""
    n = x.shape[0]

    def middle(x, k):
        return cond(n > 8, lambda x, k: x - k.item(), lambda x, k: x / k.item(), (x, k))

    y = cond(n > 4, middle, lambda x, k: x * k.item(), (x, k))
    # Before another cond, whose branches are traced with no memory of symbols.
    y = y * k.item()
    z = cond(
        n > 3, lambda x, k: x[k.item()].sin(), lambda x, k: -x[-k.item()], (x, k % 2)
    )
    return y, z


def slices(_, x, k):
    n = x.shape[0]
    y = cond(
        n > 4,
        lambda x, k: x[: k.item()].sum(0),
        lambda x, k: cond(
            n > 3,
            lambda x, k: x[k.item() :].sum(0),
            lambda x, k: x[-k.item() :].amax(0),
            (x, k),
        ),
        (x, k - 1),
    )
    return y + x[: k.item()].sum(0)


def unbacked(_, x, k):
    """Sizes that depend on data: of operands, of outputs, at several levels, and
    several of them in one branch."""
    n = x.shape[0]
    first = cond(
        n > 4,
        lambda x: x[x > 0].sin(),
        lambda x: cond(
            n > 3, lambda x: x[x < 0].cos(), lambda x: x[x.abs() > 0.5] * 2, (x,)
        ),
        (x,),
    )
    second, third = cond(
        n > 8,
        lambda x: (x[x > 0].tanh(), x[x > 1].to(torch.int64)),
        lambda x: (x[x < 0] * 3, x[x < 1].to(torch.int64)),
        (x,),
    )
    some = x[x > 0.1]
    fourth = cond(some.shape[0] > 12, lambda s: s + 1, lambda s: s - 1, (some,))
    return first + 1, second * 2, third, fourth


def nested(_, x, k):
    """Three levels that ask tensors and sizes in turn; one tensor asked repeatedly."""
    n, positive = x.shape[0], x.sum() > 0
    y = cond(
        positive,
        lambda x: cond(
            n > 4,
            lambda x: cond(x[0, 0] > 0, lambda x: x.sin(), lambda x: x.cos(), (x,)),
            lambda x: x.tanh(),
            (x,),
        ),
        lambda x: cond(
            n > 4,
            lambda x: cond(n > 8, lambda x: x * 2, lambda x: x * 3, (x,)),
            lambda x: x + 1,
            (x,),
        ),
        (x,),
    )
    return cond(
        positive,
        lambda y: cond(positive, lambda y: y + 1, lambda y: y - 1, (y,)),
        lambda y: cond(positive, lambda y: y + 2, lambda y: y - 2, (y,)),
        (y,),
    )


def outputs(_, x, k):
    """Outputs of many types, without elements, without dimensions."""

    def branch(function):
        def call(x):
            y = function(x).abs()
            return (
                y,
                (y * 3).to(torch.int64),
                y > 0.5,
                y.to(torch.float16),
                y.to(torch.bfloat16),
                torch.complex(y, -y),
                y.double(),
                y.to(torch.uint8),
                y.sum(),
                y[:0].sin(),
                y[:, :0] + 1,
                torch.arange(x.shape[0]),
                y.t().contiguous(),
            )

        return call

    return cond(x.shape[0] > 4, branch(torch.sin), branch(torch.cos), (x,))


def constants(module, x, k):
    """Weights, and a weight folded with a buffer."""
    return cond(
        x.shape[0] > 4,
        lambda x: x @ module.weight,
        lambda x: x * (module.weight * module.bias).sum(0) + torch.full((WIDTH,), 2.0),
        (x,),
    )


def loops(_, x, k):
    """Branches in a loop, a loop in branches, values and data's sizes in a loop."""
    n = x.shape[0]

    def repeat(x, function):
        def body(i, x):
            return i + 1, function(x)

        start = torch.zeros((), dtype=torch.int64)
        return while_loop(lambda i, x: i < 3, body, (start, x))[1]

    def add_some(x):
        some = cond(n > 4, lambda x: x[x > 0], lambda x: x[x < 0], (x,))
        return x + some.sum()

    def scale(x):
        j = (x.sum() * 10).to(torch.int64).item()
        return cond(n > 4, lambda x: x * j, lambda x: x - j, (x,))

    x = cond(
        n > 4, lambda x: repeat(x, torch.sin), lambda x: repeat(x, torch.cos), (x,)
    )
    return repeat(x, add_some), repeat(x / 10, scale)


def mutation(_, x, k):
    """A branch writes to an input of the graph."""

    def add(x):
        x.add_(1)
        return x.sin()

    def multiply(x):
        x.mul_(2)
        return x.cos()

    return cond(x.shape[0] > 4, add, multiply, (x,))


MODELS = [
    predicates,
    operands,
    items,
    slices,
    unbacked,
    nested,
    outputs,
    constants,
    loops,
    mutation,
]


def inputs(size, sign=1.0):
    generator = torch.Generator().manual_seed(size)
    x = torch.randn(size, WIDTH, generator=generator)
    return sign * (x + 0.1), torch.tensor(2 + size % 3)


class CppWrapperTestCase(TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.headers = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.headers, ignore_errors=True)

    def setUp(self):
        super().setUp()
        torch._dynamo.reset()
        # Precompiled headers serve every test.
        environment = {"TORCHINDUCTOR_CACHE_DIR": self.headers}
        for context in (
            mock.patch.dict(os.environ, environment),
            config.patch(fx_graph_cache=False),
            torch._dynamo.config.patch(
                capture_scalar_outputs=True, capture_dynamic_output_shape_ops=True
            ),
            torch.no_grad(),
        ):
            self.enterContext(context)
        torch.manual_seed(0)

    def compile(self, module, wrapper, strict=True):
        if wrapper == "aoti":
            rows = torch.export.Dim("rows", min=2)
            exported = torch.export.export(
                module,
                inputs(SIZES[0]),
                dynamic_shapes=(({0: rows}, None),),
                strict=strict,
            )
            path = os.path.join(
                self.enterContext(tempfile.TemporaryDirectory()), "m.pt2"
            )
            torch._inductor.aoti_compile_and_package(exported, package_path=path)
            return torch._inductor.aoti_load_package(path)
        self.enterContext(config.patch(cpp_wrapper=True))
        self.counter = CompileCounterWithBackend("inductor")
        return torch.compile(module, backend=self.counter, dynamic=True, fullgraph=True)

    def check(self, function, wrapper, due=None, **options):
        """One compile for all sizes and signs."""
        module = Module(function)
        compiled = self.compile(module, wrapper, **options)
        for size, sign in itertools.product(SIZES, (1.0, -1.0)):
            given, arguments = inputs(size, sign), inputs(size, sign)
            expected = (due or module)(*arguments)
            name = f"size {size}, sign {sign}"
            actual = compiled(*given)
            self.assertEqual(actual, expected, msg=lambda m: f"{name}: {m}")
            self.assertEqual(given, arguments, msg=lambda m: f"{name}: {m}")
        if wrapper == "jit":
            self.assertEqual(self.counter.frame_count, 1)


# A package takes twice as long as a wrapper that is compiled and run.
WRAPPERS = ["jit", subtest("aoti", name="aoti", decorators=[pytest.mark.slow])]


class CondCppWrapperTest(CppWrapperTestCase):
    @parametrize("wrapper", WRAPPERS)
    @parametrize("model", MODELS, name_fn=lambda model: model.__name__)
    def test(self, model, wrapper):
        self.check(model, wrapper)

    def test_slice_of_a_graph_that_dynamo_did_not_trace(self):
        """Without Dynamo such a slice has None for its start."""
        self.check(lambda _, x, k: x[: k.item()].sum(0), "aoti", strict=False)

    def test_tensors_made_in_branches(self):
        """Just in time: torch.export takes no cond like that."""

        def model(_, x, k):
            return cond(
                x.shape[0] > 4,
                lambda x: x + torch.tensor([1.0, 2, 3, 4, 5, 6]),
                lambda x: x * torch.tensor([2.0]),
                (x,),
            )

        self.check(model, "jit")


instantiate_parametrized_tests(CondCppWrapperTest)


if __name__ == "__main__":
    run_tests()
