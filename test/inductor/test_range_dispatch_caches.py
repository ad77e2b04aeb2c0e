# Owner(s): ["module: inductor"]
"""What keeps cached graphs apart: a digest of each registration, or no cache at all."""

import dataclasses
import os
import sys
import tempfile
import textwrap
import threading
import types
from unittest import mock

import pytest
from _cache_counts import caches
from _cache_process import counted, OtherProcess
from _dispatched_models import MODEL_BY_NAME

import torch
from torch._dynamo.package import _DynamoCacheEntry, DynamoCache, SourceInfo
from torch._dynamo.precompile_context import PrecompileContext
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch.cache.graph_key import user_lowerings_key
from torch._inductor.range_dispatch.cache.identity import digest, Indescribable
from torch._inductor.range_dispatch.tuning import measuring
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import fresh_cache
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
)


THREE = MODEL_BY_NAME["three"]
OP = THREE.ops[0].op
SIZES = (4, 9, 101)

# Two texts each that make an `impl`, which must be told apart.
DIFFERENT = {
    "body": ("def impl(x): return x + 1", "def impl(x): return x + 2"),
    "default": ("def impl(x, k=1): return x + k", "def impl(x, k=True): return x + k"),
    "global": ("k = 1\ndef impl(x): return x + k", "k = 2\ndef impl(x): return x + k"),
    "helper": (
        "def f(x): return x.sin()\ndef impl(x): return f(x)",
        "def f(x): return x.cos()\ndef impl(x): return f(x)",
    ),
    "attribute of a function": (
        "def impl(x): return x + impl.k\nimpl.k = 1",
        "def impl(x): return x + impl.k\nimpl.k = 2",
    ),
    "class attribute": (
        "class A:\n k = 1\ndef impl(x): return x + A.k",
        "class A:\n k = 2\ndef impl(x): return x + A.k",
    ),
    "static method": (
        "class A:\n @staticmethod\n def f(x): return x + 1\ndef impl(x): return A.f(x)",
        "class A:\n @staticmethod\n def f(x): return x + 2\ndef impl(x): return A.f(x)",
    ),
    "inherited method": (
        "class A:\n def __call__(self, x): return x + 1\nclass B(A): pass\nimpl = B()",
        "class A:\n def __call__(self, x): return x + 2\nclass B(A): pass\nimpl = B()",
    ),
    "property": (
        "class A:\n @property\n def k(self): return 1\na = A()\ndef impl(x): return a.k",
        "class A:\n @property\n def k(self): return 2\na = A()\ndef impl(x): return a.k",
    ),
    "slots": (
        "class A:\n __slots__ = 'k'\na = A()\na.k = 1\ndef impl(x): return x + a.k",
        "class A:\n __slots__ = 'k'\na = A()\na.k = 2\ndef impl(x): return x + a.k",
    ),
    "callable dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n"
        " k: int\n def __call__(self, x): return x + self.k\nimpl = A(1)",
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n"
        " k: int\n def __call__(self, x): return x - self.k\nimpl = A(1)",
    ),
    "repeated function": (
        "f, g = lambda x: x + 1, lambda x: x + 2\nt = [f, g, f]\n"
        "def impl(x): return t[2](x)",
        "f, g = lambda x: x + 1, lambda x: x + 2\nt = [f, g, g]\n"
        "def impl(x): return t[2](x)",
    ),
    "nesting": (
        "t = [[1], 2]\ndef impl(x): return x + len(t)",
        "t = [[1, 2]]\ndef impl(x): return x + len(t)",
    ),
    "order of a dict": (
        "t = {1: 0, 2: 0}\ndef impl(x): return x + list(t)[0]",
        "t = {2: 0, 1: 0}\ndef impl(x): return x + list(t)[0]",
    ),
    "module": (
        "import helpers_a as h\ndef impl(x): return h.f(x)",
        "import helpers_b as h\ndef impl(x): return h.f(x)",
    ),
    "import in the function": (
        "def impl(x):\n from helpers_a import f\n return f(x)",
        "def impl(x):\n from helpers_b import f\n return f(x)",
    ),
    "bound builtin": (
        "get = {1: 2}.get\ndef impl(x): return x + get(1)",
        "get = {1: 3}.get\ndef impl(x): return x + get(1)",
    ),
    "state in C": (
        "import random\nr = random.Random(1)\ndef impl(x): return x + r.random()",
        "import random\nr = random.Random(2)\ndef impl(x): return x + r.random()",
    ),
    "reach of try": (
        "def impl(x):\n try:\n  y = x.sin()\n except ValueError: y = x\n return y + f(y)",
        "def impl(x):\n try:\n  y = x.sin()\n  return y + f(y)\n except ValueError: y = x",
    ),
    "wrapped by torch": (
        "import torch\ng = torch.func.vmap(lambda x: x + 1)\ndef impl(x): return g(x)",
        "import torch\ng = torch.func.vmap(lambda x: x + 2)\ndef impl(x): return g(x)",
    ),
    "tensor": (
        "import torch\nt = torch.ones(3)\ndef impl(x): return x + t",
        "import torch\nt = torch.zeros(3)\ndef impl(x): return x + t",
    ),
}
# Texts that make an `impl` that nothing can tell apart for certain, and why.
INDESCRIBABLE = {
    "eval": ("def impl(x): return eval('x + 1')", "eval"),
    "globals": ("def impl(x): return globals()['f'](x)", "globals"),
    "lock": (
        "import threading\nlock = threading.Lock()\n"
        "def impl(x):\n with lock: return x + 1",
        "pickle",
    ),
    "large tensor": (
        "import torch\nt = torch.zeros(1 << 21)\ndef impl(x): return x + t[0]",
        "8388608 bytes",
    ),
    "getattr of a module": (
        "import helpers_a as h\nn = 'f'\ndef impl(x): return getattr(h, n)(x)",
        "made at run time",
    ),
    "module not imported yet": (
        "def impl(x):\n import helpers_missing\n return x",
        "helpers_missing",
    ),
    "reduction of its own": (
        "class A:\n def __getstate__(self): return 1\na = A()\n"
        "def impl(x): return x + a.k",
        "__getstate__",
    ),
}


def module_of(name, text):
    module = types.ModuleType(name)
    exec(textwrap.dedent(text), vars(module))
    return module


class DigestTest(TestCase):
    def setUp(self):
        super().setUp()
        helpers = {
            "helpers_a": module_of("helpers_a", "def f(x): return x.sin()"),
            "helpers_b": module_of("helpers_b", "def f(x): return x.cos()"),
        }
        # One name in both texts: what counts is what is found by it.
        for module in helpers.values():
            module.__name__ = module.f.__module__ = "helpers"
        self.enterContext(mock.patch.dict(sys.modules, helpers))

    def digest(self, text):
        return digest(module_of("written_by_a_user", text).impl)

    @parametrize("what", list(DIFFERENT))
    def test_apart(self, what):
        first, second = DIFFERENT[what]
        self.assertEqual(self.digest(first), self.digest(first))
        self.assertNotEqual(self.digest(first), self.digest(second))

    @parametrize("what", list(INDESCRIBABLE))
    def test_indescribable(self, what):
        text, reason = INDESCRIBABLE[what]
        with self.assertRaisesRegex(Indescribable, reason):
            self.digest(text)

    def test_environment(self):
        for text in (
            "import os\ndef impl(x): return x + len(os.environ)",
            "import os\ndef impl(x): return x + len(os.getenv('A', ''))",
            "from os import getenv\ndef impl(x): return x + len(getenv('A', ''))",
        ):
            before = self.digest(text)
            self.assertEqual(self.digest(text), before)
            with mock.patch.dict(os.environ, A_NEW_VARIABLE="1"):
                self.assertNotEqual(self.digest(text), before)

    def test_long_chains_and_cycles(self):
        chain = "\n".join(f"def f{n}(x): return f{n + 1}(x)" for n in range(3000))
        text = f"{chain}\ndef f3000(x): return impl(x)\ndef impl(x): return f0(x)"
        self.assertEqual(self.digest(text), self.digest(text))

    def test_running_changes_nothing(self):
        class Adds:
            k = 1

            def __call__(self, x):
                return x + self.k

        adds = Adds()
        before = digest(adds)
        adds(torch.ones(2))
        self.assertEqual(digest(adds), before)

    def test_what_is_common_can_be_described(self):
        text = """
            import enum, logging, math, functools, collections, numpy, torch
            import torch.nn.functional as F
            class Mode(enum.Enum):
                FAST = 1
            Point = collections.namedtuple("Point", "a b")
            log = logging.getLogger("user")
            layer = torch.nn.Linear(3, 3)
            table = numpy.arange(3)
            torch.nn.init.ones_(layer.weight), torch.nn.init.ones_(layer.bias)
            def scaled(x, mode, k):
                log.info("scaled")
                return F.gelu(layer(x)) * k * math.pi + table.sum() + Point(1, 2).a
            impl = functools.partial(scaled, mode=Mode.FAST, k=torch.float32)
        """
        self.assertEqual(self.digest(text), self.digest(text))


def lock_it(x, lock=threading.Lock()):
    return x.sin()


@dataclasses.dataclass
class Adds:
    k: torch.Tensor

    def __call__(self, x):
        return x + self.k.sum()


def registered(*implementations, **options):
    """One range for each implementation, or as ``options`` say."""
    options = {"winners": [*range(len(implementations))]} | options
    if len(implementations) > 1:
        options["dispatch_on"] = {"tensor_name": "x", "dim": 0}
        options["split_points"] = [8, 100][: len(implementations) - 1]
    return custom_op_autotuning(
        OP, configs=[CustomOpConfig(one) for one in implementations], **options
    )


def apply(x):
    return OP(x) * 2


def run(function=apply):
    """One result for each size, compiled anew."""
    torch._dynamo.reset()
    compiled = torch.compile(function, dynamic=True, fullgraph=True)
    return [compiled(torch.ones(size, 5))[0, 0].item() / 2 for size in SIZES]


def run_tuned(model, report, timed=True):
    """``timed`` says whether anything may be timed."""
    allowed = (
        measuring.measure_all
        if timed
        else mock.Mock(side_effect=AssertionError("timed"))
    )
    with caches(autograd=True), mock.patch.object(measuring, "measure_all", allowed):
        configs = [CustomOpConfig(one) for one in model.ops[0].implementations]
        with custom_op_autotuning(
            OP,
            configs=configs,
            dispatch_on={"tensor_name": "x", "dim": 0, "range_upper_bound": 128},
            split_points=[8, 100],
        ):
            report["ran"] = run()


def run_packaged(model, report, winners, save=False):
    PrecompileContext.clear()
    packaged = torch._dynamo.config.patch(caching_precompile=True)
    with caches(autograd=True), packaged:
        with registered(*model.ops[0].implementations, winners=winners):
            torch._dynamo.reset()
            compiled = torch.compile(apply, dynamic=True, fullgraph=True)
            inputs = [torch.ones(size, 5) for size in SIZES]
            report["ran"] = [compiled(x)[0, 0].item() / 2 for x in inputs]
            if save:
                PrecompileContext.save_to_dynamo_cache()


SIN, TANH, RELU = (one(torch.ones(1)).item() for one in THREE.ops[0].implementations)


class CachesTest(TestCase):
    def setUp(self):
        super().setUp()
        self.enterContext(fresh_cache())

    def other_process(self):
        other = OtherProcess(
            __spec__.name if __spec__ else "test_range_dispatch_caches"
        )
        self.addCleanup(other.end)
        return other

    def run_counted(self, *implementations, **options):
        report = {}
        with caches(), registered(*implementations, **options), counted(report):
            ran = run()
        counts = [
            report.get(f"fxgraph_cache_{what}", 0) for what in ("hit", "miss", "bypass")
        ]
        return ran, counts

    def test_bypass_where_there_is_no_key(self):
        for _ in range(2):
            ran, counts = self.run_counted(lock_it, torch.tanh)
            self.assertEqual(ran, [SIN, TANH, TANH])
            self.assertEqual(counts, [0, 0, 1])

    def test_values_too_large_for_a_key(self):
        """Tensors of one registration may have the place in memory of another's."""
        for value in (1.0, 2.0):
            adds = Adds(torch.full((1 << 21,), value / (1 << 21)))
            ran, counts = self.run_counted(adds)
            self.assertEqual(ran, [1 + value] * 3)
            self.assertEqual(counts, [0, 0, 1])

    def test_order_of_configs_that_repeat(self):
        first, second = torch.sin, torch.tanh
        ran, _ = self.run_counted(first, second, first)
        self.assertEqual(ran, [SIN, TANH, SIN])
        ran, counts = self.run_counted(first, second, second)
        self.assertEqual(ran, [SIN, TANH, TANH])
        self.assertEqual(counts, [0, 1, 0])

    def test_order_of_registrations(self):
        """Another op and the order do not matter to what a graph is; the key is one."""
        other = MODEL_BY_NAME["two"].ops[0]
        counts = []
        for outer in (True, False):
            report = {}
            contexts = [other.register(), registered(torch.sin, torch.tanh)]
            with contexts[not outer], contexts[outer], caches(), counted(report):
                run()
            counts.append(report.get("fxgraph_cache_hit", 0))
        self.assertEqual(counts, [0, 1])

    def test_registered_between_forward_and_backward(self):
        """The cached backward would have the second registration, its key the first."""

        def registered(implementation):
            configs = [CustomOpConfig(implementation)]
            op = torch.ops.aten.cos.default
            return custom_op_autotuning(op, configs=configs, winners=[0])

        def gradient(forward, backward):
            torch._dynamo.reset()
            x = torch.ones(9, 5, requires_grad=True)
            with caches(autograd=True):
                with registered(forward):
                    output = torch.compile(torch.sin, dynamic=False)(x)
                with registered(backward):
                    output.sum().backward()
            return x.grad[0, 0].item()

        self.assertEqual(gradient(torch.relu, torch.tanh), TANH)
        self.assertEqual(gradient(torch.relu, torch.relu), RELU)
        self.assertEqual(gradient(torch.relu, torch.relu), RELU)

    def test_standalone_artifact_without_a_key(self):
        captured = []

        def capture(graph, inputs):
            captured.append((graph, inputs))
            return graph

        torch.compile(apply, backend=capture)(torch.ones(4, 5))
        with caches(autograd=True), registered(lock_it, torch.tanh):
            artifact = torch._inductor.standalone_compile(
                *captured[0], dynamic_shapes="from_graph"
            )
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "artifact")
            artifact.save(path=path)
            loaded = torch._inductor.CompiledArtifact.load(path=path)
        (output,) = loaded(torch.ones(4, 5))
        self.assertEqual(output[0, 0].item() / 2, SIN)

    @pytest.mark.slow
    def test_tuned_winners_in_a_fresh_process(self):
        report = self.other_process().run("run_tuned", THREE)
        self.assertGreater(report["custom_op_candidates_timed"], 0)
        again = self.other_process().run("run_tuned", THREE, timed=False)
        self.assertEqual(again["ran"], report["ran"])
        self.assertEqual(again["autograd_cache_hit"], 1)
        self.assertEqual(again["lowered"], 0)

    @pytest.mark.slow
    def test_package_of_another_registration(self):
        """Dynamo's cache of precompiled functions is not keyed by what is registered."""
        report = {}
        with counted(report):
            run_packaged(THREE, report, winners=[0, 1, 2], save=True)
        self.assertEqual(report["ran"], [SIN, TANH, RELU])
        self.assertTrue(os.listdir(DynamoCache.path_prefix()))
        other = self.other_process()
        report = other.run("run_packaged", THREE, winners=[2, 1, 0])
        self.assertEqual(report["ran"], [RELU, TANH, SIN])
        self.assertGreater(report["lowered"], 0)
        report = other.run("run_packaged", THREE, winners=[0, 1, 2])
        self.assertEqual(report["ran"], [SIN, TANH, RELU])
        self.assertEqual(report["lowered"], 0)

    def test_package_tells_which_registrations_differ(self):
        with THREE.registered():
            package = _DynamoCacheEntry(
                [], SourceInfo(set()), "cpu", user_lowerings=user_lowerings_key()
            )
            package.check_versions()
        three = "other user lowerings of Inductor: range_backends.one_of_three.default"
        with self.assertRaisesRegex(RuntimeError, f"{three}$"):
            package.check_versions()
        with MODEL_BY_NAME["two"].registered(), THREE.registered():
            two = three.replace("three", "two")
            with self.assertRaisesRegex(RuntimeError, f"{two}$"):
                package.check_versions()


instantiate_parametrized_tests(DigestTest)


if __name__ == "__main__":
    run_tests()
