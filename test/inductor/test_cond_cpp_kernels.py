# Owner(s): ["module: inductor"]
"""How many sources the C++ kernels of branches are compiled as."""

import os
from pathlib import Path

import torch
from torch._inductor import config
from torch._inductor.async_compile import AsyncCompile
from torch._inductor.cpp_kernel_batch import CppKernelBatch
from torch._inductor.exc import CppCompileError
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import fresh_cache


BRANCHES = 6
FIRST, LAST = 8, 8 + BRANCHES

KERNEL = """
#include <torch/csrc/inductor/cpp_prefix.h>
{directives}
static inline float helper(float x) {{ return x * {factor}f; }}
extern "C"  void  kernel(const float* in_ptr0, float* out_ptr0, const int64_t ks0)
{{
    for (int64_t x0 = 0; x0 < ks0; x0 += 1) {{
        out_ptr0[x0] = helper(in_ptr0[x0]);
    }}
}}
"""
ARGTYPES = ["const float*", "float*", "const int64_t"]


def model(x, branch=0):
    """Adds how far the number of rows is beyond FIRST, in a branch of its own."""

    def this(x):
        return torch.sin(x) + branch

    if branch == BRANCHES - 1:
        return this(x)
    return torch.cond(
        x.shape[0] <= FIRST + branch, this, lambda x: model(x, branch + 1), (x,)
    )


def expected(x):
    return torch.sin(x) + min(max(x.shape[0] - FIRST, 0), BRANCHES - 1)


def compiled_sources():
    """How many kernels there are in each source that was compiled to a library."""
    files = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).rglob("*.main.cpp")
    texts = [file.read_text() for file in files if file.with_suffix(".so").exists()]
    return sorted(text.count("PyMODINIT_FUNC") for text in texts)


class CondCppKernelsTest(TestCase):
    def setUp(self):
        super().setUp()
        torch._dynamo.reset()
        self.enterContext(fresh_cache())

    def check_every_branch(self, function):
        for rows in (2, *range(FIRST, LAST + 1), 40):
            x = torch.randn(rows, 6)
            self.assertEqual(function(x), expected(x))

    @config.patch(compile_threads=1)
    def test_one_source_for_one_thread(self):
        self.check_every_branch(torch.compile(model, dynamic=True, fullgraph=True))
        self.assertEqual(compiled_sources(), [BRANCHES])

    @config.patch(compile_threads=4)
    def test_a_source_for_each_thread(self):
        self.check_every_branch(torch.compile(model, dynamic=True, fullgraph=True))
        self.assertEqual(compiled_sources(), [1, 1, 2, 2])

    @config.patch(compile_threads=1)
    def test_kernels_outside_of_branches_are_compiled_alone(self):
        function = torch.compile(
            lambda x: torch.cos(model(x).sum(0)), dynamic=True, fullgraph=True
        )
        x = torch.randn(LAST, 6)
        self.assertEqual(function(x), torch.cos(expected(x).sum(0)))
        self.assertEqual(compiled_sources(), [1, BRANCHES])


class CppKernelBatchTest(TestCase):
    def setUp(self):
        super().setUp()
        self.enterContext(fresh_cache())

    def compiled(self, *sources, threads=1):
        batch = CppKernelBatch()
        with config.patch(compile_threads=threads):
            scope = {
                f"kernel_of_{number}": batch.add(ARGTYPES, source)
                for number, source in enumerate(sources)
            }
            batch.compile(scope, threads, AsyncCompile.submit)
        return scope

    def test_helpers_and_kernels_of_the_same_name_stay_apart(self):
        sources = [KERNEL.format(factor=f"{n}.0", directives="") for n in (2, 3, 5)]
        x = torch.randn(7)
        for factor, kernel in zip(
            (2, 3, 5), self.compiled(*sources).values(), strict=True
        ):
            result = torch.zeros(7)
            kernel(x, result, 7)
            self.assertEqual(result, x * factor)
        self.assertEqual(compiled_sources(), [3])

    def test_a_source_with_conditional_directives_is_compiled_alone(self):
        define = "#ifdef FACTOR\n#error not alone\n#endif\n#define FACTOR 7.0"
        alone = KERNEL.format(factor="7.0", directives=define)
        sources = [KERNEL.format(factor=f"{n}.0", directives="") for n in (2, 3)]
        kernels = self.compiled(alone, *sources, alone)
        x, result = torch.randn(7), torch.zeros(7)
        kernels["kernel_of_0"](x, result, 7)
        self.assertEqual(result, x * 7)
        self.assertEqual(compiled_sources(), [1, 2])

    def test_an_error_of_the_compiler_is_raised(self):
        broken = KERNEL.format(factor="unknown", directives="")
        with self.assertRaisesRegex(CppCompileError, "unknownf"):
            self.compiled(KERNEL.format(factor="2.0", directives=""), broken)

    def test_wrong_arguments_are_refused_by_each(self):
        sources = [KERNEL.format(factor=f"{n}.0", directives="") for n in (2, 3)]
        for kernel in self.compiled(*sources).values():
            with self.assertRaisesRegex(RuntimeError, "requires 3 args"):
                kernel(torch.randn(7))

    def test_nothing_to_compile(self):
        self.assertEqual(self.compiled(), {})


if __name__ == "__main__":
    run_tests()
