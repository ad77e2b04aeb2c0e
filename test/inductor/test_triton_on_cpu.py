# Owner(s): ["module: inductor"]
"""What Inductor emits as Triton runs, and gives what eager gives, without a GPU."""

import contextlib
import inspect
import os
import re
import unittest
from operator import attrgetter

from _triton_libdevice import libdevice_function
from _triton_on_cpu import (
    DEVICE,
    HAS_TRITON,
    Launch,
    LaunchRecorder,
    SKIP_REASON,
    triton_kernels,
)

import torch
import torch.nn.functional as F
from torch._inductor import config
from torch._inductor.codegen import common, triton as triton_codegen
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import run_and_get_code
from torch.library import _scoped_library, triton_op, wrap_triton
from torch.testing import make_tensor
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
)


if HAS_TRITON:
    import triton
    import triton.language as tl
    from _triton_interpreter import interpretable
    from triton.language.extra import libdevice
    from triton.runtime import interpreter

    from torch._inductor.runtime import triton_helpers, triton_heuristics

    SCALE = tl.constexpr(3)

    @triton.jit
    def scaled_sum_kernel(x, y, out, size, BLOCK: tl.constexpr):
        offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        mask = offsets < size
        total = tl.load(x + offsets, mask) + tl.load(y + offsets, mask)
        tl.store(out + offsets, libdevice.tanh(total) * SCALE, mask)

    @triton.jit
    def matmul_kernel(a, b, out, K, BLOCK: tl.constexpr):
        rows = tl.arange(0, BLOCK)
        total = tl.zeros((BLOCK, BLOCK), tl.float32)
        for start in range(0, K, BLOCK):
            inner = start + rows
            left = tl.load(a + rows[:, None] * K + inner[None, :])
            right = tl.load(b + inner[:, None] * BLOCK + rows[None, :])
            total += tl.dot(left, right)
        tl.store(out + rows[:, None] * BLOCK + rows[None, :], total)

    @triton.jit
    def fused_multiply_add_kernel(x, out, BLOCK: tl.constexpr):
        offsets = tl.arange(0, BLOCK)
        values = tl.load(x + offsets)
        result = tl.inline_asm_elementwise(
            "fma.rn.f32 $0, $1, $2, $3;",
            "=f, f, f, f",
            [values, values, values],
            dtype=tl.float32,
            is_pure=True,
            pack=1,
        )
        tl.store(out + offsets, result)

    @triton.jit
    def halvings_kernel(x, out, size):
        """How often a number must be halved to be no more than one."""
        position = tl.program_id(0)
        if position >= size:
            return
        value = tl.load(x + position)
        steps = 0
        while value > 1:
            value = value / 2
            steps += 1
        tl.store(out + position, steps)

    @triton.jit
    def extremes_kernel(x, out, BLOCK: tl.constexpr):
        values = tl.load(x + tl.arange(0, BLOCK))
        tl.atomic_max(out, tl.max(values, 0))
        tl.atomic_min(out + 1, tl.min(values, 0))
        tl.store(out + 2 + tl.arange(0, BLOCK), tl.sort(values, descending=True))


FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def tensor(*shape, dtype=torch.float32, low=None, high=None):
    return make_tensor(shape, dtype=dtype, device=DEVICE, low=low, high=high)


def indices(*shape, below):
    return torch.randint(below, shape, device=DEVICE)


def with_nans(x):
    x[1, 3] = x[1, 5] = x[2, 0] = float("nan")
    return x


@unittest.skipUnless(HAS_TRITON, SKIP_REASON)
class TritonTestCase(TestCase):
    def setUp(self):
        super().setUp()
        torch.manual_seed(0)

    def check(self, function, *args, dynamic=False, **patches):
        """A compiled function computes in Triton kernels what eager computes."""
        with triton_kernels() as recorder, config.patch(patches):
            expected = function(*(arg.clone() for arg in args))
            recorder.clear()
            compiled = torch.compile(function, fullgraph=True, dynamic=dynamic)
            actual = compiled(*(arg.clone() for arg in args))
        self.assertEqual(actual, expected)
        self.assertTrue(recorder.launches)
        return recorder


UNARY = {
    "any": """
        sin cos tan sinh cosh tanh exp expm1 exp2 erf erfc floor ceil trunc round frac
        sign signbit isnan isinf isfinite neg abs sigmoid relu atan asinh logical_not
    """,
    "positive": """
        lgamma rsqrt sqrt log log2 log10 log1p reciprocal special.bessel_j0
        special.bessel_j1 special.bessel_y0 special.bessel_y1 special.i0 special.i0e
        special.i1 special.i1e special.ndtr special.ndtri special.entr
        special.log_ndtr special.erfcx
    """,
    "unit": "asin acos atanh erfinv",
    "above one": "acosh",
}
DOMAINS = {
    "any": (-5, 5),
    "positive": (0.1, 0.9),
    "unit": (-0.9, 0.9),
    "above one": (1.1, 9),
}
BINARY = [
    "atan2",
    "fmod",
    "remainder",
    "hypot",
    "copysign",
    "nextafter",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "floor_divide",
    "true_divide",
    "logaddexp",
    "heaviside",
]


@instantiate_parametrized_tests
class PointwiseTest(TritonTestCase):
    @parametrize(
        "name,domain",
        [(name, domain) for domain, names in UNARY.items() for name in names.split()],
    )
    def test_unary(self, name, domain):
        function = attrgetter(name)(torch)
        low, high = DOMAINS[domain]
        x = tensor(7, 40, low=low, high=high)
        # The addition keeps a kernel where the function itself is left to eager.
        self.check(lambda x: (function(x), x + 1), x)

    def test_float64(self):
        def function(x):
            smooth = x.exp(), x.log(), x.sqrt(), x.rsqrt(), x.sigmoid(), x.tanh()
            return *smooth, x.sin(), x.cos(), x.erf(), x.lgamma(), x.floor(), x.abs()

        self.check(function, tensor(100, dtype=torch.float64, low=0.1, high=9))

    def test_all_that_inductor_calls_of_libdevice_is_known(self):
        sources = (inspect.getsource(module) for module in (common, triton_codegen))
        names = {
            name
            for source in sources
            for name in re.findall(r"libdevice\.(\w+)", source)
        }
        self.assertGreater(len(names), 40)
        known_to_triton = vars(tl.extra.cuda.libdevice)
        for name in names.intersection(known_to_triton):
            definition = inspect.getsource(known_to_triton[name])
            for symbol in re.findall(r'"(__nv_\w+)"', definition):
                libdevice_function(symbol)

    @parametrize("name", BINARY)
    def test_binary(self, name):
        self.check(getattr(torch, name), tensor(7, 40), tensor(7, 40))

    def test_pow_and_xlogy(self):
        def function(x, y):
            return x**y, x**2, x**0.5, torch.xlogy(y, x), 2.0**y

        self.check(function, tensor(100, low=0.1, high=3), tensor(100, low=-2, high=2))

    def test_ldexp_and_frexp(self):
        def function(x, exponent):
            return torch.ldexp(x, exponent), torch.frexp(x)

        x = tensor(100)
        x[:3] = torch.tensor([0.0, float("inf"), float("nan")])
        self.check(function, x, indices(100, below=5))

    def test_round_half_to_even(self):
        x = torch.tensor([0.5, 1.5, 2.5, -0.5, 2.4], device=DEVICE)
        self.check(lambda x: (torch.round(x), torch.round(x * 10, decimals=1)), x)

    def test_activations(self):
        def function(x):
            gelus = F.gelu(x), F.gelu(x, approximate="tanh")
            return *gelus, F.silu(x), F.softplus(x), F.mish(x), x.clamp(-1, 1)

        self.check(function, tensor(100))

    @parametrize("dtype", FLOATS)
    def test_float(self, dtype):
        def function(x, y):
            return x * y, x.abs(), -x, x < y, torch.where(x > y, x, y)

        self.check(function, tensor(300, dtype=dtype), tensor(300, dtype=dtype))

    @parametrize("dtype", FLOATS + INTEGERS + (torch.bool,))
    def test_casts(self, dtype):
        def function(x, y):
            return x.to(dtype), y.to(torch.float32), (x > 3).to(dtype)

        self.check(function, tensor(1000, low=0, high=9), tensor(1000, dtype=dtype))

    @parametrize("dtype", (torch.float8_e4m3fn, torch.float8_e5m2))
    def test_float8(self, dtype):
        self.check(lambda x: x.to(dtype).to(torch.float32) + 1, tensor(300))

    def test_bfloat16_rounds_to_nearest_even(self):
        halfway = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8], device=DEVICE)
        extremes = torch.tensor([3.4e38, float("inf"), float("nan")], device=DEVICE)
        x = torch.cat([halfway, extremes])
        self.check(lambda x: x.to(torch.bfloat16), x)

    @parametrize("dtype", INTEGERS)
    def test_integer(self, dtype):
        def function(x, y):
            arithmetic = (x * y - x) // y, x % y, x**2, x / y
            return *arithmetic, x & y, x | y, x ^ y, ~x, x << (y % 4), x >> 1

        x = tensor(300, dtype=dtype, low=0, high=100)
        self.check(function, x, tensor(300, dtype=dtype, low=1, high=9))

    def test_integer_division_of_negatives(self):
        def function(x, y):
            truncated = torch.div(x, y, rounding_mode="trunc")
            return x // y, x % y, truncated, torch.fmod(x, y)

        divisors = torch.tensor([3, -3, 7, -7], device=DEVICE).repeat(50)
        self.check(function, indices(200, below=180) - 90, divisors)

    def test_bool(self):
        def function(x, y):
            return x & y, x | y, x ^ y, ~x, torch.logical_not(x), torch.where(x, 1, y)

        x, y = tensor(2, 100, dtype=torch.bool)
        self.check(function, x, y)

    def test_nan_propagates(self):
        def function(x, y):
            extremes = torch.maximum(x, y), torch.minimum(x, y)
            return *extremes, torch.fmax(x, y), torch.fmin(x, y), x.clamp(-1, 1)

        nan = float("nan")
        x = torch.tensor([1, nan, 2, nan], device=DEVICE)
        self.check(function, x, torch.tensor([nan, 1, 3, nan], device=DEVICE))

    def test_scalars(self):
        self.check(lambda x, y: x * y + 1, tensor(), tensor())


@instantiate_parametrized_tests
class IndexingTest(TritonTestCase):
    def test_two_dimensional_tiles(self):
        self.check(lambda x, y: x.t() + y, tensor(64, 32), tensor(32, 64))

    def test_three_dimensional_grid(self):
        def function(x, y):
            return x.permute(2, 1, 0) + y

        patches = {"triton.max_tiles": 3, "triton.prefer_nd_tiling": True}
        x, y = tensor(40, 36, 34), tensor(34, 36, 40)
        recorder = self.check(function, x, y, **patches)
        self.assertTrue(all(size > 1 for size in recorder.launches[0].grid))

    def test_block_pointers(self):
        patches = {"triton.use_block_ptr": True}
        self.check(lambda x, y: x * 2 + y[1:], tensor(7, 32), tensor(8, 32), **patches)

    def test_gather_and_embedding(self):
        def function(x, rows, columns):
            return x[rows] + 1, x.gather(1, columns), F.embedding(rows, x) * 2

        x = tensor(33, 40)
        self.check(function, x, indices(7, below=33), indices(33, 5, below=40))

    def test_cat_and_pad(self):
        def function(x, y):
            return torch.cat([x, y]) * 2, F.pad(x, (1, 2), value=3.0) + 1

        self.check(function, tensor(9, 40), tensor(3, 40))

    def test_images(self):
        def function(x):
            larger = F.interpolate(x, scale_factor=2, mode="bilinear")
            return larger, F.max_pool2d(x, 2) + 1, F.avg_pool2d(x, 2) + 1

        self.check(function, tensor(1, 2, 8, 8))

    @parametrize("right", (False, True))
    def test_bucketize(self, right):
        boundaries = torch.linspace(-2, 2, 9, device=DEVICE)
        x = tensor(100, low=-3, high=3)
        self.check(lambda x, b: torch.bucketize(x, b, right=right), x, boundaries)

    def test_searchsorted_with_a_sorter(self):
        def function(sequence, x):
            order = torch.arange(8, -1, -1, device=x.device).expand(4, 9).contiguous()
            return torch.searchsorted(sequence.flip(-1), x, sorter=order)

        sequence = torch.linspace(-2, 2, 9, device=DEVICE).repeat(4, 1)
        self.check(function, sequence, tensor(4, 5))

    @parametrize("dtype", (torch.float32, torch.float16, torch.bfloat16, torch.int64))
    def test_index_put_accumulates(self, dtype):
        def function(x, index, values):
            return x.index_put((index,), values, accumulate=True)

        # Few and small whole numbers: any order of their sum gives the same.
        values = tensor(40, dtype=dtype, low=0, high=4).round()
        self.check(function, tensor(10, dtype=dtype), indices(40, below=10), values)

    def test_scatter_and_index_add(self):
        def function(x, index, source):
            scattered = x.scatter_add(0, index, source)
            return scattered, x.index_add(0, index, source)

        self.check(function, tensor(10), indices(100, below=10), tensor(100))

    def test_mutation(self):
        def function(x):
            x.add_(1)
            return x * 2

        x = tensor(300)
        expected = (x + 1) * 2
        with triton_kernels() as recorder:
            actual = torch.compile(function)(x)
        self.assertEqual((actual, x * 2), (expected, expected))
        self.assertTrue(recorder.launches)

    @unittest.skipIf(DEVICE != "cpu", "an assertion ends the use of a GPU")
    def test_bounds_are_asserted(self):
        with triton_kernels():
            compiled = torch.compile(lambda x, index: x[index] + 1)
            compiled(tensor(9), torch.tensor([8, -9]))
            for index in (9, -10):
                with self.assertRaisesRegex(AssertionError, "index out of bounds"):
                    compiled(tensor(9), torch.tensor([1, index]))

    def test_empty(self):
        def function(x, y):
            return x * 2, x.sum(0), y + 1

        self.check(function, tensor(0, 4), tensor(4))


# Sizes that are not a power of two leave part of the last block masked.
PERSISTENT = parametrize("persistent", (True, False))


@instantiate_parametrized_tests
class ReductionTest(TritonTestCase):
    def check_reduction(self, function, *args, persistent):
        patches = {"triton.persistent_reductions": persistent}
        recorder = self.check(function, *args, **patches)
        kind = "triton_per" if persistent else "triton_red"
        self.assertTrue(any(kind in launch.kernel for launch in recorder.launches))

    @PERSISTENT
    @parametrize("dim", (0, 1, (0, 1)))
    def test_sums(self, persistent, dim):
        def function(x):
            return x.sum(dim), x.mean(dim), (x > 0).sum(dim)

        self.check_reduction(function, tensor(19, 30), persistent=persistent)

    @PERSISTENT
    def test_extremes(self, persistent):
        def function(x):
            return x.amax(-1), x.amin(-1), x.max(-1), x.min(-1)

        self.check_reduction(function, tensor(5, 300), persistent=persistent)

    @PERSISTENT
    def test_arg_extremes(self, persistent):
        def function(x):
            return x.argmax(-1), x.argmin(-1)

        few_values = tensor(5, 100, low=0, high=3).round()
        self.check_reduction(function, few_values, persistent=persistent)

    @PERSISTENT
    def test_nan_wins_and_the_first_one_is_named(self, persistent):
        def function(x):
            return x.argmax(-1), x.argmin(-1), x.amax(-1), x.min(-1)

        self.check_reduction(function, with_nans(tensor(5, 20)), persistent=persistent)

    @PERSISTENT
    def test_any_all_and_prod(self, persistent):
        def function(x):
            return (x > 2).any(-1), (x > -9).all(-1), x.prod(-1)

        x = tensor(5, 20, low=-2, high=2.1)
        self.check_reduction(function, x, persistent=persistent)

    @PERSISTENT
    @parametrize("dim", (0, 1))
    def test_variance(self, persistent, dim):
        def function(x):
            return torch.var_mean(x, dim)

        self.check_reduction(function, tensor(50, 40), persistent=persistent)

    @PERSISTENT
    def test_softmax(self, persistent):
        def function(x):
            return x.softmax(-1), x.log_softmax(-1), x.logsumexp(-1)

        self.check_reduction(function, tensor(5, 300), persistent=persistent)

    @PERSISTENT
    @parametrize("dtype", (torch.float32, torch.bfloat16))
    def test_norms(self, persistent, dtype):
        def function(x):
            return F.layer_norm(x, (300,)), F.rms_norm(x, (300,)), x.norm(dim=-1)

        self.check_reduction(
            function, tensor(5, 300, dtype=dtype), persistent=persistent
        )

    @parametrize("dtype", INTEGERS)
    def test_integers(self, dtype):
        def function(x):
            return x.sum(-1), x.amax(-1), x.argmin(-1)

        self.check(function, tensor(5, 100, dtype=dtype))

    @parametrize("name", ("sum", "amax", "var"))
    def test_split(self, name):
        """A large tensor is reduced by two kernels, one after the other."""
        recorder = self.check(getattr(torch, name), tensor(50000))
        self.assertEqual(len(recorder.launches), 2)

    def test_split_outer(self):
        self.check(lambda x: x.sum(0), tensor(8000, 4))

    def test_cross_entropy(self):
        self.check(F.cross_entropy, tensor(16, 40), indices(16, below=40))


@instantiate_parametrized_tests
class ScanAndSortTest(TritonTestCase):
    @parametrize("name", ("cumsum", "cumprod", "logcumsumexp"))
    @parametrize("dim", (0, 1))
    def test_scan(self, name, dim):
        x = tensor(20, 30, low=0.5, high=1.5)
        self.check(lambda x: getattr(torch, name)(x, dim), x)

    def test_scan_with_indices(self):
        self.check(lambda x: (x.cummax(-1), x.cummin(-1)), tensor(5, 60))

    def test_scan_in_a_loop(self):
        x = tensor(3, 700, low=0, high=1)
        patches = {"triton.persistent_reductions": False}
        self.check(lambda x: x.cumsum(-1), x, **patches)

    def test_scan_split_over_programs(self):
        x = tensor(20000, low=0, high=9).round()
        self.check(lambda x: x.cumsum(0), x)

    @parametrize("descending", (False, True))
    def test_sort(self, descending):
        def function(x):
            return x.sort(dim=-1, descending=descending, stable=True)

        self.check(function, indices(3, 20, below=5))


class RandomTest(TritonTestCase):
    def test_rand_and_randn_are_of_their_distributions(self):
        def function(x):
            return torch.rand_like(x), torch.randn_like(x), torch.randint_like(x, 7)

        x = tensor(4000)
        with triton_kernels() as recorder:
            compiled = torch.compile(function, fullgraph=True)
            torch.manual_seed(1)
            first = compiled(x)
            second = compiled(x)
            torch.manual_seed(1)
            again = compiled(x)
        self.assertTrue(recorder.launches)
        self.assertEqual(again, first)
        self.assertNotEqual(second, first)
        uniform, normal, integers = first
        self.assertTrue(((uniform >= 0) & (uniform < 1)).all())
        self.assertEqual(uniform.mean().item(), 0.5, atol=0.03, rtol=0)
        self.assertEqual(normal.std().item(), 1, atol=0.05, rtol=0)
        self.assertEqual(integers.unique().tolist(), list(range(7)))

    def test_fallback_gives_what_eager_gives(self):
        def function(x):
            return torch.rand_like(x) + x

        x = tensor(300)
        torch.manual_seed(1)
        expected = function(x)
        torch.manual_seed(1)
        with triton_kernels() as recorder, config.patch(fallback_random=True):
            actual = torch.compile(function)(x)
        self.assertEqual(actual, expected)
        self.assertTrue(recorder.launches)

    def test_dropout(self):
        with triton_kernels() as recorder:
            x = torch.ones(4000, device=DEVICE)
            y = torch.compile(F.dropout)(x, 0.25)
        self.assertTrue(recorder.launches)
        self.assertEqual(y[y != 0], torch.full_like(y[y != 0], 1 / 0.75))
        self.assertEqual((y == 0).float().mean().item(), 0.25, atol=0.04, rtol=0)


def three_way(x):
    """The kind of dispatch that range-tuned operators emit."""

    def longer(x):
        return torch.cond(x.size(0) <= 100, torch.tanh, torch.relu, (x,))

    return torch.cond(x.size(0) <= 8, torch.sin, longer, (x,))


def three_way_in_eager(x):
    size = x.size(0)
    return x.sin() if size <= 8 else x.tanh() if size <= 100 else x.relu()


FX_WRAPPER = {"fx_wrapper": True}
WRAPPERS = parametrize(
    "patches", ({}, FX_WRAPPER), name_fn=lambda p: "fx" if p else "py"
)


@instantiate_parametrized_tests
class GraphTest(TritonTestCase):
    @WRAPPERS
    def test_dynamic_sizes(self, patches):
        def function(x, y):
            return (x * 2 + y).softmax(-1).sum(0) * x.size(0)

        with triton_kernels() as recorder, config.patch(patches):
            compiled = torch.compile(function, fullgraph=True, dynamic=True)
            for rows, columns in ((3, 30), (5, 70), (9, 31)):
                x, y = tensor(rows, columns), tensor(rows, columns)
                recorder.clear()
                self.assertEqual(compiled(x, y), function(x, y))
                self.assertTrue(recorder.launches)

    @WRAPPERS
    def test_nested_cond_in_one_graph(self, patches):
        # The FX wrapper stops at the assertions of alignment in a branch.
        patches = {**patches, "alignment_asserts": not patches}
        with triton_kernels() as recorder, config.patch(patches):
            counter = torch._dynamo.testing.CompileCounterWithBackend("inductor")
            compiled = torch.compile(
                three_way, backend=counter, fullgraph=True, dynamic=True
            )
            kernels = set()
            for size in (3, 8, 9, 100, 101, 900):
                x = tensor(size)
                recorder.clear()
                self.assertEqual(compiled(x), three_way_in_eager(x))
                self.assertEqual(len(recorder.launches), 1)
                kernels.add(recorder.launches[0].kernel)
        self.assertEqual(counter.frame_count, 1)
        self.assertEqual(len(kernels), 3)

    @WRAPPERS
    def test_matmul_stays_a_call(self, patches):
        self.check(lambda x, y: (x @ y).relu(), tensor(9, 30), tensor(30, 8), **patches)

    def test_gradients(self):
        def gradients(function):
            x = tensor(5, 40).requires_grad_()
            torch.manual_seed(0)
            function(x).backward()
            return x.grad

        def loss(x):
            return (F.layer_norm(x, (40,)).tanh() ** 2).sum()

        torch.manual_seed(0)
        x = tensor(5, 40)
        expected = x.clone().requires_grad_()
        loss(expected).backward()
        with triton_kernels() as recorder:
            actual = x.clone().requires_grad_()
            result = torch.compile(loss)(actual)
            backward = recorder.kernels_run_by(result.backward)
        self.assertEqual(actual.grad, expected.grad)
        self.assertTrue(backward)

    @unittest.skipIf(DEVICE != "cpu", "there is no C++ kernel to be mistaken for it")
    def test_no_kernel_is_cpp(self):
        with triton_kernels():
            compiled = torch.compile(lambda x: x.sin().sum(-1))
            _, (code,) = run_and_get_code(compiled, tensor(5, 40))
        self.assertIn("@triton.jit", code)
        self.assertNotIn("cpp_fused", code)


@instantiate_parametrized_tests
class UserKernelTest(TritonTestCase):
    def scaled_sum(self, x, y):
        out = torch.empty_like(x)
        grid = (triton.cdiv(x.numel(), 16),)
        scaled_sum_kernel[grid](x, y, out, x.numel(), BLOCK=16)
        return out

    def check_scaled_sum(self, function, recorder):
        x, y = tensor(40), tensor(40)
        self.assertEqual(function(x, y), torch.tanh(x + y) * 3)
        self.assertIn(Launch("scaled_sum_kernel", (3, 1, 1)), recorder.launches)

    def test_launched_directly(self):
        with triton_kernels() as recorder:
            self.check_scaled_sum(self.scaled_sum, recorder)

    def test_in_a_compiled_function(self):
        with triton_kernels() as recorder:
            compiled = torch.compile(self.scaled_sum, fullgraph=True)
            self.check_scaled_sum(compiled, recorder)

    def test_in_a_compiled_function_fx(self):
        # Values only: the FX wrapper takes a kernel's constexpr for the first size of
        # its grid.
        recorder = self.check(self.scaled_sum, tensor(40), tensor(40), **FX_WRAPPER)
        self.assertEqual(recorder.launches[0].kernel, "scaled_sum_kernel")

    def test_triton_op(self):
        with _scoped_library("triton_on_cpu", "FRAGMENT"), triton_kernels() as recorder:

            @triton_op("triton_on_cpu::scaled_sum", mutates_args={})
            def scaled_sum(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
                out = torch.empty_like(x)
                wrap_triton(scaled_sum_kernel)[(3,)](x, y, out, x.numel(), BLOCK=16)
                return out

            compiled = torch.compile(lambda x, y: scaled_sum(x, y) + 0, fullgraph=True)
            self.check_scaled_sum(scaled_sum, recorder)
            recorder.clear()
            self.check_scaled_sum(compiled, recorder)

    @parametrize("dtype", (torch.float32, torch.bfloat16))
    def test_dot(self, dtype):
        # Whole numbers: no rounding, also where a GPU uses its 19-bit floats.
        a = tensor(16, 64, dtype=dtype, low=-4, high=4).round()
        b = tensor(64, 16, dtype=dtype, low=-4, high=4).round()
        out = torch.empty(16, 16, device=DEVICE)
        with triton_kernels():
            matmul_kernel[(1,)](a, b, out, 64, BLOCK=16)
        self.assertEqual(out, a.float() @ b.float())

    def test_inline_assembly(self):
        x, out = tensor(32), tensor(32)
        with triton_kernels():
            fused_multiply_add_kernel[(1,)](x, out, BLOCK=32)
        self.assertEqual(out, x * x + x)

    def test_control_flow(self):
        x = torch.tensor([0.5, 1, 2, 3, 1000], device=DEVICE)
        out = torch.full((7,), -1, dtype=torch.int32, device=DEVICE)
        with triton_kernels():
            halvings_kernel[(7,)](x, out, 5)
        self.assertEqual(out.tolist(), [0, 0, 1, 2, 10, -1, -1])

    def test_atomics_and_sort(self):
        x = tensor(32, dtype=torch.int32)
        out = torch.zeros(34, dtype=torch.int32, device=DEVICE)
        with triton_kernels():
            extremes_kernel[(1,)](x, out, BLOCK=32)
        self.assertEqual(out[:2], torch.stack([x.max().clamp(0), x.min().clamp(max=0)]))
        self.assertEqual(out[2:], x.sort(descending=True).values)


class CompilerTest(TritonTestCase):
    @unittest.skipIf(DEVICE != "cpu", "a GPU has no use for the backend")
    def test_kernels_are_compiled_to_binaries(self):
        with triton_kernels():
            x, out = tensor(16), tensor(16)
            kernel = scaled_sum_kernel[(1,)](x, x, out, 16, BLOCK=16)
        self.assertIn(".target sm_90", kernel.asm["ptx"])
        self.assertTrue(kernel.asm["cubin"].startswith(b"\x7fELF"))

    def test_inductor_kernels_are_compiled_to_binaries(self):
        stages = []

        def listener(*, src, metadata, metadata_group, times, cache_hit):
            stages.extend(name for name, _ in times.lowering_stages)

        with (
            triton_kernels() as recorder,
            unittest.mock.patch.object(triton.knobs.compilation, "listener", listener),
        ):
            torch.compile(torch.sin)(tensor(100))
        self.assertTrue(recorder.launches)
        self.assertLessEqual({"ttir", "ttgir", "llir", "ptx", "cubin"}, {*stages})

    def test_an_error_of_the_compiler_is_raised(self):
        with triton_kernels(), self.assertRaisesRegex(Exception, "BLOCK"):
            scaled_sum_kernel[(1,)](tensor(16), tensor(16), tensor(16), 16)


@instantiate_parametrized_tests
class RecorderTest(TritonTestCase):
    def test_names_and_grids(self):
        with triton_kernels() as recorder:
            compiled = torch.compile(lambda x: (x + 1).sum(-1))
            x = tensor(5, 40)
            (kernel,) = recorder.kernels_run_by(lambda: compiled(x))
            self.assertIn("sum", kernel)
            self.assertEqual(len(recorder.launches), 1)
            self.assertIsInstance(recorder.launches[0], Launch)
            self.assertEqual(recorder.kernels_run_by(lambda: compiled(x)), [kernel])
            recorder.clear()
        self.assertEqual(recorder, LaunchRecorder())

    @parametrize("at_compile_time", (False, True))
    def test_tuning_is_recorded_apart(self, at_compile_time):
        patches = {"triton.autotune_at_compile_time": at_compile_time}
        with triton_kernels() as recorder, config.patch({**FX_WRAPPER, **patches}):
            x = tensor(2000)
            self.assertEqual(torch.compile(torch.sin)(x), x.sin())
        self.assertEqual(len(recorder.launches), 1)
        self.assertEqual(bool(recorder.tuning_launches), at_compile_time)

    @parametrize("at_compile_time", (False, True))
    def test_max_autotune_is_recorded_apart(self, at_compile_time):
        patches = {
            "triton.autotune_at_compile_time": at_compile_time,
            "max_autotune_pointwise": True,
        }
        with triton_kernels() as recorder, config.patch(patches):
            x = tensor(2000)
            self.assertEqual(torch.compile(torch.sin)(x), x.sin())
        self.assertEqual(len(recorder.launches), 1)

    def test_nothing_is_recorded_outside(self):
        x = tensor(40)
        with triton_kernels() as recorder:
            compiled = torch.compile(torch.sin)
            compiled(x)
        recorder.clear()
        self.assertEqual(torch.compile(torch.sin)(x), x.sin())
        self.assertEqual(recorder.launches, [])


def identities(owner):
    return {name: id(value) for name, value in vars(owner).items()}


def state():
    """All that the context touches."""
    owners = [
        tl,
        tl.core,
        tl.math,
        tl.standard,
        tl.tensor,
        tl.extra.libdevice,
        tl.extra.cuda.libdevice,
        interpreter,
        triton.runtime.jit.JITFunction,
        triton_helpers,
        triton_heuristics.CachingAutotuner,
    ]
    return {
        "environment": dict(os.environ),
        "backends": identities_of_backends(),
        # On a GPU, Inductor itself chooses the driver when it first needs one.
        "driver": triton.runtime.driver._active if DEVICE == "cpu" else None,
        "rewritten_kernels": interpretable.cache_info().currsize,
        "has_triton": torch.utils._triton.has_triton(),
        "config": config.get_config_copy(),
        "patched": {repr(owner): identities(owner) for owner in owners},
    }


def identities_of_backends():
    return {name: id(backend) for name, backend in triton.backends.backends.items()}


class StateTest(TritonTestCase):
    @contextlib.contextmanager
    def assert_state_is_kept(self):
        before = state()
        yield
        self.assertEqual(state(), before)

    def test_is_restored(self):
        with self.assert_state_is_kept(), triton_kernels():
            known = inspect.signature(torch.utils._triton.has_triton).parameters
            options = {"include_cpu": True} if "include_cpu" in known else {}
            self.assertTrue(torch.utils._triton.has_triton(**options))
            torch.compile(lambda x: x.tanh().argmax(-1))(tensor(5, 40))
            with config.patch(FX_WRAPPER):
                torch.compile(torch.sin)(tensor(40))

    def test_is_restored_after_an_error(self):
        for error in (ValueError, KeyboardInterrupt):
            with (
                self.assert_state_is_kept(),
                self.assertRaises(error),
                triton_kernels(),
            ):
                torch.compile(torch.sin)(tensor(40))
                raise error

    @unittest.skipIf(DEVICE != "cpu", "an assertion ends the use of a GPU")
    def test_is_restored_after_an_error_in_a_kernel(self):
        with self.assert_state_is_kept(), triton_kernels():
            compiled = torch.compile(lambda x, index: x[index] + 1)
            with self.assertRaises(AssertionError):
                compiled(tensor(9), torch.tensor([9]))

    def test_cannot_be_nested(self):
        with triton_kernels() as recorder:
            with self.assertRaisesRegex(RuntimeError, "cannot be nested"):
                with triton_kernels():
                    pass
            torch.compile(torch.sin)(tensor(40))
            self.assertTrue(recorder.launches)

    def test_cpp_kernels_before_between_and_after(self):
        def function(x):
            return x.sin() + 1

        def cpp_kernel_works():
            x = torch.randn(40)
            actual, (code,) = run_and_get_code(torch.compile(function), x)
            self.assertEqual(actual, function(x))
            self.assertIn("cpp_fused", code)

        cpp_kernel_works()
        for _ in range(2):
            self.check(function, tensor(40))
            cpp_kernel_works()


if __name__ == "__main__":
    run_tests()
