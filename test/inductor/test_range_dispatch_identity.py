# Owner(s): ["module: inductor"]
"""Digests of implementations: each case is a package with an `impl`, read in other
processes before and after a change that its digest has to show."""

import json
import os
import subprocess
import sys
import tempfile
import textwrap

from torch._inductor.test_case import run_tests, TestCase
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
)
from torch.utils._triton import has_triton_package


# The text of `impl.py`, where `CHANGED` is 1 at first, then 2; `helpers.py` and
# `more.py` follow after lines of dashes. `HIDDEN` is in what cannot be described.
CASES = {
    "helper of a helper": """
        def second(x): return x + CHANGED
        def first(x): return second(x)
        def impl(x): return first(x)
    """,
    "attribute of a module": """
        from . import helpers
        def impl(x): return helpers.f(x)
        ---
        def f(x): return x + CHANGED
    """,
    "attribute of a module's module": """
        from . import helpers
        def impl(x): return helpers.more.f(x)
        ---
        from . import more
        ---
        def f(x): return x + CHANGED
    """,
    "a module as an argument": """
        from . import helpers
        def call(module, x): return module.f(x)
        def impl(x): return call(helpers, x)
        ---
        def f(x): return x + CHANGED
    """,
    "a module in an object": """
        import types
        from . import helpers
        holder = types.SimpleNamespace(module=helpers)
        def impl(x): return holder.module.f(x)
        ---
        def f(x): return x + CHANGED
    """,
    "imported in the function": """
        import PACKAGE.helpers
        def impl(x):
            from .helpers import f
            return f(x)
        ---
        def f(x): return x + CHANGED
    """,
    "a dotted import in the function": """
        import PACKAGE.helpers
        def impl(x):
            def inner(x):
                import PACKAGE.helpers
                return PACKAGE.helpers.f(x)
            return inner(x)
        ---
        def f(x): return x + CHANGED
    """,
    "value in a dict": """
        table = {"a": {"b": [0, CHANGED]}}
        def impl(x): return x + table["a"]["b"][1]
    """,
    "constant of a nested function": """
        def impl(x):
            def outer():
                return lambda: x + CHANGED
            return outer()()
    """,
    "constant in a frozenset": """
        def impl(x): return x + (len(x) in {"a", "b", CHANGED})
    """,
    "default": "def impl(x, *, k=CHANGED): return x + k",
    "signature": """
        def one(x, k=None, /): return x
        def other(x, /, k=None): return x
        impl = [one, other][CHANGED - 1]
        impl.__qualname__ = "impl"
    """,
    "class attribute": """
        class Base: k = CHANGED
        class Derived(Base): pass
        def impl(x): return x + Derived().k
    """,
    "body of a method": """
        class A:
            def f(self, x): return x + CHANGED
        a = A()
        def impl(x): return a.f(x)
    """,
    "bound method": """
        class A:
            def __init__(self, k): self.k = k
            def f(self, x): return x + self.k
        impl = A(CHANGED).f
    """,
    "class method": """
        class A:
            @classmethod
            def f(cls, x): return x + CHANGED
        def impl(x): return A.f(x)
    """,
    "metaclass": """
        class Meta(type):
            def f(cls, x): return x + CHANGED
        class A(metaclass=Meta): pass
        def impl(x): return A.f(x)
    """,
    "lambdas in a list": """
        steps = [lambda x: x, lambda x: x + CHANGED]
        def impl(x): return steps[1](x)
    """,
    "rebound global": """
        k = 1
        def impl(x): return x + k
        k = CHANGED
    """,
    "rebound global of another module": """
        from . import helpers
        helpers.k = CHANGED
        impl = helpers.f
        ---
        k = 1
        def f(x): return x + k
    """,
    "closure": """
        def make(k):
            def impl(x): return x + k
            return impl
        impl = make(CHANGED)
    """,
    "partial": """
        import functools
        def f(x, k): return x + k
        impl = functools.partial(f, k=CHANGED)
    """,
    "function of a partial": """
        import functools
        def f(x, k): return x + k * CHANGED
        impl = functools.partial(f, k=3)
    """,
    "lru_cache": """
        import functools
        @functools.lru_cache(maxsize=None)
        def f(k): return k + CHANGED
        def impl(x): return x + f(1)
    """,
    "wraps": """
        import functools
        def decorate(f):
            @functools.wraps(f)
            def wrapper(*args): return f(*args)
            return wrapper
        @decorate
        def impl(x): return x + CHANGED
    """,
    "wraps a function of torch": """
        import functools, torch
        @functools.wraps(torch.nn.functional.silu)
        def impl(x): return x + CHANGED
    """,
    "wraps a function of torch with a closure": """
        import functools, torch
        def make(k):
            @functools.wraps(torch.nn.functional.silu)
            def wrapper(x): return k(x) + CHANGED
            return wrapper
        impl = make(torch.sin)
    """,
    "decorated by torch": """
        import torch
        @torch.no_grad()
        def impl(x): return x + CHANGED
    """,
    "cached property": """
        import functools
        class A:
            @functools.cached_property
            def k(self): return CHANGED
        a = A()
        def impl(x): return x + a.k
    """,
    "class made at run time": """
        import types
        A = types.new_class("A", exec_body=lambda space: space.update(k=CHANGED))
        def impl(x): return x + A.k
    """,
    "made dataclass": """
        import dataclasses
        A = dataclasses.make_dataclass("A", [("k", int, CHANGED)])
        def impl(x): return x + A().k
    """,
    "field of a dataclass": """
        import dataclasses
        from typing import Any, Callable, Optional
        @dataclasses.dataclass(frozen=True)
        class A:
            k: int = dataclasses.field(default=0, metadata={"factor": CHANGED})
            other: Optional[Callable[..., Any]] = None
        def impl(x): return x + dataclasses.fields(A)[0].metadata["factor"]
    """,
    "factory of a dataclass": """
        import dataclasses
        @dataclasses.dataclass
        class A:
            k: list = dataclasses.field(default_factory=lambda: [CHANGED])
        def impl(x): return x + A().k[0]
    """,
    "enum": """
        import enum
        class Mode(enum.IntEnum):
            FAST = CHANGED
        def impl(x): return x + Mode.FAST
    """,
    "named tuple": """
        import collections
        Sizes = collections.namedtuple("Sizes", "a b", defaults=[0, CHANGED])
        def impl(x): return x + Sizes().b
    """,
    "recursion": """
        def f(x, n): return x + CHANGED if n else g(x, n)
        def g(x, n): return f(x, n - 1)
        def impl(x): return f(x, 3)
    """,
    "buffer of a module": """
        import torch
        class Scale(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("factor", torch.full((2,), float(CHANGED)))
            def forward(self, x): return x * self.factor
        impl = Scale()
    """,
    "submodule": """
        import torch
        class Act(torch.nn.Module):
            def forward(self, x): return x + CHANGED
        impl = torch.nn.Sequential(torch.nn.Identity(), Act())
    """,
    "hook of a module": """
        import torch
        impl = torch.nn.Identity()
        impl.register_forward_hook(lambda module, inputs, output: output + CHANGED)
    """,
    "autograd function": """
        import torch
        class Shift(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x): return x + CHANGED
            @staticmethod
            def backward(ctx, gradient): return gradient
        def impl(x): return Shift.apply(x)
    """,
    "attribute of a tensor": """
        import torch
        t = torch.ones(2)
        t.factor = CHANGED
        def impl(x): return x * t.factor
    """,
    "tensor subclass": """
        import torch
        class Shifted(torch.Tensor):
            def shift(self): return CHANGED
        t = torch.ones(2).as_subclass(Shifted)
        def impl(x): return x * t.shift()
    """,
    "array": """
        import numpy
        table = numpy.array([1.0, CHANGED])
        def impl(x): return x * float(table[1])
    """,
    "symbolic expression": """
        import sympy
        s = sympy.Symbol("s", integer=True)
        size = sympy.floor(s / 2) + CHANGED
        def impl(x): return x * int(size.subs(s, 2))
    """,
    "regular expression": """
        import re
        pattern = re.compile("a{CHANGED}")
        def impl(x): return x + bool(pattern.match("aa"))
    """,
    "graph module": """
        import torch
        impl = torch.fx.symbolic_trace(lambda x: x + CHANGED)
    """,
    "compiled function": """
        import torch
        @torch.compile
        def impl(x): return x + CHANGED
    """,
    "wraps a compiled function": """
        import functools, torch
        @torch.compile
        def f(x): return x
        @functools.wraps(f)
        def impl(x): return f(x) + CHANGED
    """,
    "order of a dict": """
        items = [("a", 1), ("b", 2)][:: 3 - 2 * CHANGED]
        table = dict(items)
        def impl(x): return x + list(table.values())[0]
    """,
    "sets": """
        import torch
        names = {"a", "b", "c", "d", "e", torch.float32, CHANGED}
        methods = {len: 1, max: 2}
        functions = frozenset([lambda x: x + 1, lambda x: x + CHANGED])
        def impl(x): return sum(f(x) for f in functions) + len(names) + methods[len]
    """,
    "common things": """
        import collections, logging, math, operator, typing
        import torch
        T = typing.TypeVar("T")
        log = logging.getLogger(__name__)
        device = torch.device("cpu")
        defaults = collections.defaultdict(list, a=[CHANGED])
        get = operator.itemgetter("a")
        class Box(typing.Generic[T]):
            __slots__ = ("k",)
            def __init__(self, k: T): self.k = k
        box = Box(torch.Size([1, 2]))
        def impl(x: torch.Tensor) -> torch.Tensor:
            log.info("%s", math.pi)
            flat = torch.empty(box.k, device=device, dtype=torch.float32)
            flat = flat.to(memory_format=torch.contiguous_format)
            return flat.sum() + get(defaults)[0] + x
    """,
}
TRITON = """
    import torch, triton
    from triton import language as tl
    {kernels}
    def impl(x):
        y = torch.empty_like(x)
        kernel[(1,)](x, y, 8)
        return y
    ---
    import triton
    @triton.jit
    def shift(x): return x + CHANGED
"""
KERNELS = {
    "helper of a kernel": """
        from .helpers import shift
        @triton.jit
        def inner(x): return shift(x)
        @triton.jit
        def kernel(x, y, n: tl.constexpr):
            i = tl.arange(0, n)
            tl.store(y + i, inner(tl.load(x + i)))
    """,
    "global of a kernel": """
        K: tl.constexpr = tl.constexpr(CHANGED)
        @triton.jit
        def kernel(x, y, n: tl.constexpr):
            i = tl.arange(0, n)
            tl.store(y + i, tl.load(x + i) + K)
    """,
    "annotation of a kernel": """
        ONE, TWO = tl.constexpr, "int32"
        @triton.jit
        def kernel(x, y, n: [None, tl.constexpr, "i32"][CHANGED]): pass
    """,
    "heuristics": """
        @triton.heuristics({"k": lambda args: CHANGED})
        @triton.jit
        def kernel(x, y, n: tl.constexpr, k: tl.constexpr): pass
    """,
    "configs of a kernel": """
        @triton.autotune([triton.Config({"k": CHANGED})], key=["n"])
        @triton.jit
        def kernel(x, y, n: tl.constexpr, k: tl.constexpr): pass
    """,
    "Triton op": """
        @triton.jit
        def inner(x, y, n: tl.constexpr): tl.store(y, CHANGED)
        @torch.library.triton_op("PACKAGE::filled", mutates_args=())
        def filled(x: torch.Tensor) -> torch.Tensor:
            y = torch.empty_like(x)
            torch.library.wrap_triton(inner)[(1,)](x, y, 8)
            return y
        class kernel:
            def __class_getitem__(cls, grid):
                return lambda x, y, n: torch.ops.PACKAGE.filled(x)
    """,
    "wrapped kernel": """
        @triton.jit
        def inner(x, y, n: tl.constexpr): tl.store(y, CHANGED)
        kernel = torch.library.wrap_triton(inner)
    """,
}
HIDDEN = {
    "module given to getattr": """
        from . import helpers
        def find(where, name): return getattr(where, name)
        def impl(x): return find(helpers, "f" + "g")(x)
        ---
        def fg(x): return x + CHANGED
    """,
    "dictionary of a module": """
        from . import helpers
        def impl(x): return helpers.__dict__["f" + "g"](x)
        ---
        def fg(x): return x + CHANGED
    """,
    "eval by another name": """
        from builtins import eval as compute
        def impl(x): return x + compute("k")
        k = CHANGED
    """,
    "getattr by another name": """
        from . import helpers
        find = getattr
        def impl(x): return find(helpers, "f" + "g")(x)
        ---
        def fg(x): return x + CHANGED
    """,
    "import_module": """
        from importlib import import_module as load
        def impl(x): return load("PACKAGE.helpers").f(x)
        ---
        def f(x): return x + CHANGED
    """,
    "sys.modules": """
        import sys
        def impl(x): return sys.modules[__name__].f(x)
        def f(x): return x + CHANGED
    """,
    "submodule that is not imported yet": """
        def impl(x):
            from . import helpers
            return helpers.f(x)
        ---
        def f(x): return x + CHANGED
    """,
    "compiled class": """
        import ctypes
        k = ctypes.c_int(CHANGED)
        pointer = ctypes.pointer(k)
        def impl(x): return x + pointer.contents.value
    """,
}

if has_triton_package():
    for name, kernels in KERNELS.items():
        kernels = textwrap.dedent(kernels).strip()
        CASES[name] = textwrap.dedent(TRITON).replace("{kernels}", kernels)


def write_packages(folder, value):
    for number, text in enumerate([*CASES.values(), *HIDDEN.values()]):
        package = os.path.join(folder, f"case_{number}")
        os.makedirs(package)
        files = textwrap.dedent(text).split("---\n")
        for name, text in zip(
            ("impl", "helpers", "more", "__init__"), [*files, *[""] * 3]
        ):
            text = text.replace("CHANGED", str(value)).replace(
                "PACKAGE", f"case_{number}"
            )
            with open(os.path.join(package, f"{name}.py"), "w") as file:
                file.write(text)


READ = """
import importlib, json, sys
from torch._inductor.range_dispatch.cache.identity import digest, Indescribable

found = []
for number in range(int(sys.argv[2])):
    sys.path.insert(0, sys.argv[1])
    impl = importlib.import_module(f"case_{number}.impl").impl
    try:
        found.append(digest(impl))
        assert digest(impl) == found[-1]
    except Indescribable as reason:
        found.append(f"indescribable: {reason}")
print(json.dumps(found))
"""


def read(folder, seed):
    """What a new process finds for each case."""
    count = len(CASES) + len(HIDDEN)
    done = subprocess.run(
        [sys.executable, "-c", READ, folder, str(count)],
        env=os.environ | {"PYTHONHASHSEED": str(seed)},
        check=True,
        stdout=subprocess.PIPE,
    )
    return dict(zip([*CASES, *HIDDEN], json.loads(done.stdout.splitlines()[-1])))


class IdentityTest(TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with tempfile.TemporaryDirectory() as folder:
            before, after = (os.path.join(folder, one) for one in ("before", "after"))
            write_packages(before, 1)
            write_packages(after, 2)
            cls.before, cls.again = read(before, 1), read(before, 2)
            cls.after = read(after, 1)

    @parametrize("what", list(CASES))
    def test_a_change_shows(self, what):
        self.assertRegex(self.before[what], "^[0-9a-f]{64}$")
        self.assertNotEqual(self.before[what], self.after[what])

    @parametrize("what", list(CASES))
    def test_every_process_finds_the_same(self, what):
        self.assertEqual(self.before[what], self.again[what])

    @parametrize("what", list(HIDDEN))
    def test_hidden(self, what):
        self.assertRegex(self.before[what], "indescribable")


instantiate_parametrized_tests(IdentityTest)


if __name__ == "__main__":
    run_tests()
