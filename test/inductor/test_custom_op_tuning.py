# Owner(s): ["module: inductor"]
"""What tuning and dispatch of range-tuned custom ops cost: counted, never timed."""

import dataclasses
import gc
import glob
import itertools
import json
import logging
import os
import re
import subprocess
import sys
import threading
import weakref
from unittest import mock

import pytest
from _fresh_test_case import FreshTestCase
from _generated_code import (
    asserted_names,
    CANDIDATE,
    DECISION,
    example_arguments,
    run_and_get_graph_code,
)
from _planted_times import planted_times

import torch
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.codecache import PyCodeCache
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch.benchmark import modules, progress, timing
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.range_dispatch.registration.candidates import Candidate
from torch._inductor.range_dispatch.trace.tracing import TracedCandidate
from torch._inductor.runtime.cache_dir_utils import cache_dir
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import run_and_get_code, run_and_get_cpp_code
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    subtest,
)
from torch.utils._ordered_set import OrderedSet


@torch.library.custom_op("tuning_test::linear", mutates_args=())
def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.addmm(bias, x, weight, beta=-1)


@linear.register_fake
def _(x, weight, bias):
    return x.new_empty(x.shape[0], weight.shape[1])


dispatcher_was_on = []


@torch.library.custom_op("tuning_test::told", mutates_args=())
def told(x: torch.Tensor) -> torch.Tensor:
    key = torch._C.DispatchKey.PythonDispatcher
    dispatcher_was_on.append(torch._C._dispatch_tls_is_dispatch_key_included(key))
    return x.clone()


@torch.library.custom_op("tuning_test::tells_dispatcher", mutates_args=())
def tells_dispatcher(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


for op in (told, tells_dispatcher):
    op.register_fake(torch.empty_like)


def with_beta(x, weight, bias, beta):
    """Tells by its value which ``beta`` ran; one extern kernel, quick to compile."""
    return torch.ops.aten.addmm.default(bias, x, weight, beta=beta)


def betas(count):
    return [CustomOpConfig(with_beta, beta=i) for i in range(count)]


def model(x, weight, bias):
    return linear(x, weight, bias)


def linear_inputs(rows, depth=7, dtype=torch.float32):
    return (
        torch.randn(rows, depth, dtype=dtype),
        torch.randn(depth, 5, dtype=dtype),
        torch.ones(5, dtype=dtype),
    )


def branch_of(output, x, weight, bias):
    """The ``beta`` of the branch that made ``output``."""
    return round((output - x @ weight).mean().item())


class TuningTestCase(FreshTestCase):
    # Enough for every size, however busy the machine; tiny candidates need no more.
    settings = {**FreshTestCase.settings, "range_dispatch.tuning_seconds": 60.0}

    def setUp(self):
        super().setUp()
        self.enterContext(torch.no_grad())

    def compile(self, rows=3, function=model, inputs=None, op=linear, **registration):
        """Compile anew and call once; the compiled function and its code."""
        torch._dynamo.reset()
        counters.clear()
        registration.setdefault("dispatch_on", {"tensor_name": "x", "dim": 0})
        registration.setdefault("sizes_per_range", 1)
        with custom_op_autotuning(op, **registration):
            compiled = torch.compile(function, dynamic=True)
            inputs = linear_inputs(rows) if inputs is None else inputs
            _, code = run_and_get_graph_code(compiled, *inputs)
        return compiled, code

    def counted(self):
        """(candidates compiled, candidates timed, cache hits, cache misses)."""
        found = counters["inductor"]
        return (
            found["custom_op_candidates_compiled"],
            found["custom_op_candidates_timed"],
            found["custom_op_tuning_cache_hit"],
            found["custom_op_tuning_cache_miss"],
        )


class DispatchCostTest(TuningTestCase):
    @parametrize(
        "count, cpp_wrapper",
        [(n, False) for n in (2, 3, 16, 17)]
        + [(2, True), (3, True), subtest((64, False), decorators=[pytest.mark.slow])],
    )
    def test_wrapper_lines_per_branch(self, count, cpp_wrapper):
        splits = [4 * (i + 1) for i in range(count - 1)]
        with config.patch(cpp_wrapper=cpp_wrapper):
            compiled, code = self.compile(
                configs=betas(count), split_points=splits, winners=range(count)
            )
        sizes = {2, 3, splits[-1] * 2}
        for point in (splits[0], splits[len(splits) // 2], splits[-1]):
            sizes |= {point, point + 1}
        for rows in sizes:
            inputs = linear_inputs(rows)
            branch = sum(rows > point for point in splits)
            self.assertEqual(branch_of(compiled(*inputs), *inputs), branch)
        if cpp_wrapper:
            # Each branch makes handles for its operands, and no level does.
            self.assertEqual(code.count("aoti_torch_assign_tensors_out("), 3 * count)
            decision = r"\bif \((?:static_cast<int64_t>\()?s\d+ <="
            self.assertEqual(len(re.findall(decision, code)), count - 1)
            return
        branches = re.findall(r"def (\w*_branch_\d+)\(args\):", code)
        self.assertEqual(len(branches), count)
        self.assertNotIn("_inside(args)", code)
        self.assertNotIn("_outside(args)", code)
        _, body = code.split("def call(self, args):")
        body, _ = body.split("return (")
        lines = [line for line in body.splitlines() if line.strip()]
        dispatch = [
            line
            for line in lines
            if re.search(rf"{DECISION}|else:|subgraph|_branch_", line)
        ]
        # A decision is an "if" and an "else", a branch a comment and a call.
        self.assertEqual(len(dispatch), 2 * (count - 1) + 2 * count)
        self.assertLessEqual(len(lines) - len(dispatch), 14)
        depth = max(len(line) - len(line.lstrip()) for line in dispatch) // 4 - 2
        self.assertEqual(depth, (count - 1).bit_length())

    def test_branches_assert_nothing_again(self):
        _, code = self.compile(configs=betas(2), split_points=[8], winners=[0, 1])
        functions, body = code.split("def call(self, args):")
        self.assertEqual(asserted_names(functions.split("async_compile =")[1]), [])
        self.assertEqual(len(asserted_names(body)), 3)

    @pytest.mark.slow
    def test_256_branches(self):
        """Neither a recursion limit nor a pass that is exponential in depth."""
        count = 256
        splits = [4 * (i + 1) for i in range(count - 1)]
        compiled, _ = self.compile(
            configs=betas(count), split_points=splits, winners=range(count)
        )
        for rows in (2, 4, 5, 508, 509, 512, 513, 1020, 1021, 3000):
            inputs = linear_inputs(rows)
            branch = sum(rows > point for point in splits)
            self.assertEqual(branch_of(compiled(*inputs), *inputs), branch)

    @pytest.mark.slow
    def test_tensor_memory_and_lifetimes_are_those_of_one_implementation(self):
        """Allocations counted, inputs and buffers watched, in every branch."""
        watched, alive = [], []

        @torch.library.custom_op("tuning_test::watch", mutates_args=())
        def watch(x: torch.Tensor) -> torch.Tensor:
            watched.append(weakref.ref(x))
            return x.clone()

        @torch.library.custom_op("tuning_test::look", mutates_args=())
        def look(x: torch.Tensor) -> torch.Tensor:
            gc.collect()
            alive.append(sum(reference() is not None for reference in watched))
            return x.clone()

        for op in (watch, look):
            op.register_fake(torch.empty_like)

        def implementation(x, weight, bias, beta):
            return with_beta(watch(x), weight, watch(bias), beta)

        def around(x, weight, bias):
            return look(linear(torch.sin(x), weight, bias)) + 1.0

        def observe(winners):
            _, code = self.compile(
                function=around,
                configs=[CustomOpConfig(implementation, beta=b) for b in (0, 1, 2)],
                split_points=[8, 16],
                winners=winners,
            )
            module = PyCodeCache.load(code)
            allocations = []
            allocate = module.empty_strided_cpu
            module.empty_strided_cpu = lambda *args: (
                allocations.append(args) or allocate(*args)
            )
            seen = []
            for rows in (8, 9, 17):
                watched.clear(), alive.clear(), allocations.clear()
                sizes = {3: rows, 5: 5, 7: 7}
                module.call(example_arguments(module, sizes, linear_inputs(rows)))
                seen.append((len(watched), alive[:], allocations[:]))
            return seen

        plain = observe([1, 1, 1])
        self.assertEqual([alive for _, alive, _ in plain], [[0]] * 3)
        self.assertEqual(observe([0, 1, 2]), plain)


instantiate_parametrized_tests(DispatchCostTest)


class SharingTest(TuningTestCase):
    def test_calls_that_are_alike_share_everything(self):
        """op(op(x)): tuned once, and each branch is generated once."""

        @torch.library.custom_op("tuning_test::scale", mutates_args=())
        def scale(x: torch.Tensor) -> torch.Tensor:
            return x * 1.0

        scale.register_fake(torch.empty_like)

        def times(x, k):
            return torch.softmax(x, -1) * k

        def five(x):
            return scale(scale(scale(scale(scale(x)))))

        def milliseconds(candidate, inputs):
            fastest = f"k={inputs[0].shape[0] // 8}"
            return 1.0 if fastest in candidate.name else 2.0

        with planted_times(milliseconds):
            compiled, code = self.compile(
                op=scale,
                function=five,
                inputs=[torch.randn(3, 30)],
                configs=[CustomOpConfig(times, k=k) for k in (1, 2, 3)],
                dispatch_on={"tensor_name": "x", "dim": 0, "range_upper_bound": 24},
                split_points=[8, 16],
            )
        self.assertEqual(counters["inductor"]["sizes_timed"], 3)
        self.assertEqual(counters["inductor"]["custom_op_candidates_compiled"], 4)
        self.assertEqual(len(re.findall(r"def \w*_branch_\d\(args\):", code)), 3)
        kernels = re.findall(r"cpp_pybinding\(.*?r'''(.*?)'''", code, re.DOTALL)
        self.assertEqual(len(kernels), len({*kernels}))
        for rows in (8, 9, 16, 17):
            x = expected = torch.randn(rows, 30)
            for _ in range(5):
                expected = times(expected, 1 + (rows > 8) + (rows > 16))
            self.assertEqual(compiled(x), expected)

    @config.patch(cpp_wrapper=True)
    @pytest.mark.slow
    def test_alike_calls_in_the_cpp_wrapper(self):
        """There branches are written where they are used."""
        compiled, _ = self.compile(
            function=lambda x, weight, bias: (
                linear(x, weight, bias) + linear(x, weight, bias)
            ),
            configs=betas(3),
            split_points=[8, 16],
            winners=[0, 1, 2],
        )
        for rows in (8, 9, 16, 17):
            x, weight, bias = linear_inputs(rows)
            expected = 2 * with_beta(x, weight, bias, (rows > 8) + (rows > 16))
            self.assertEqual(compiled(x, weight, bias), expected)


class CompileTest(TuningTestCase):
    @parametrize("ranges", (2, 8, 64))
    def test_one_module_a_candidate(self, ranges):
        splits = [4 * (i + 1) for i in range(ranges - 1)]
        self.compile(configs=betas(3), split_points=splits)
        self.assertEqual(self.counted(), (4, 4 * ranges, 0, ranges))

    def test_code_of_what_is_timed_is_seen_before_the_graphs(self):
        configs = [CustomOpConfig(with_beta, beta=beta) for beta in (70, 71)]
        registration = {
            "dispatch_on": {"tensor_name": "x", "dim": 0},
            "split_points": [4],
        }
        inputs = linear_inputs(3)

        def compiled():
            torch._dynamo.reset()
            return torch.compile(lambda *args: linear(*args) * 2, dynamic=True)

        with (
            custom_op_autotuning(linear, configs=configs, **registration),
            config.patch("range_dispatch.tune_fused", False),
            self.assertLogs("torch._inductor.codecache.__output_code", "DEBUG") as logs,
        ):
            _, codes = run_and_get_code(compiled(), *inputs)
        *timed, code = codes
        self.assertEqual(len(timed), self.counted()[0])
        for beta, one in zip((70, 71), timed):
            self.assertIn(f"beta={beta}", one)
        self.assertTrue(all(CANDIDATE in one for one in timed))
        self.assertNotIn(CANDIDATE, code)
        shown = [r.args[0] for r in logs.records if r.msg.startswith("Output code: ")]
        self.assertEqual(shown, codes)

    def test_kernels_of_what_is_timed_are_seen(self):
        def scaled(x, weight, bias, k):
            return (x @ weight + bias) * k

        configs = [CustomOpConfig(scaled, k=k) for k in (70, 71)]
        with custom_op_autotuning(linear, configs=configs):
            compiled = torch.compile(model, dynamic=True)
            _, code = run_and_get_cpp_code(compiled, *linear_inputs(3))
        for k in (70, 71):
            self.assertIn(f"static_cast<float>({k}.0)", code)

    @parametrize("threads", (1, 2))
    def test_kernels_are_compiled_side_by_side(self, threads):
        """All loads are under way at once, unless one compile thread is asked for."""
        most = []
        barrier = threading.Barrier(3, timeout=60)
        lock, running = threading.Lock(), []
        load = modules.GeneratedCode.load

        def watched_load(code):
            with lock:
                running.append(code)
                most.append(len(running))
            if threads > 1:
                barrier.wait()
            try:
                return load(code)
            finally:
                with lock:
                    running.remove(code)

        with (
            mock.patch.object(modules.GeneratedCode, "load", watched_load),
            config.patch(compile_threads=threads),
        ):
            self.compile(configs=betas(2), split_points=[8])
        self.assertEqual(max(most), 3 if threads > 1 else 1)
        self.assertEqual(self.counted()[:2], (3, 6))


instantiate_parametrized_tests(CompileTest)


class TuningCacheTest(TuningTestCase):
    def tune(self, **changes):
        registration = dict(configs=betas(2), split_points=[8, 16])
        self.compile(**{**registration, **changes})
        return self.counted()

    def test_the_same_again_times_nothing(self):
        with record_dispatches() as records:
            self.assertEqual(self.tune(), (3, 9, 0, 3))
            self.assertEqual(self.tune(), (0, 0, 3, 0))
        first, second = records
        self.assertEqual(first.ranges, second.ranges)

    def test_ranges_that_are_known_are_not_timed_again(self):
        self.assertEqual(self.tune(), (3, 9, 0, 3))
        # [0, 8] and the open range stay, [9, 16] is split.
        self.assertEqual(self.tune(split_points=[8, 12, 16]), (3, 3, 3, 1))

    def test_names_of_sizes_do_not_matter(self):
        self.assertEqual(self.tune(), (3, 9, 0, 3))

        def backwards(bias, weight, x):
            return linear(x, weight, bias)

        def among_others(one, x, two, weight, three, bias):
            return linear(x, weight, bias), one + 1, two + 1, three + 1

        x, weight, bias = linear_inputs(3)
        one, two, three = torch.randn(11, 2), torch.randn(13), torch.randn(17)
        for function, inputs in (
            (backwards, (bias, weight, x)),
            (among_others, (one, x, two, weight, three, bias)),
        ):
            found = self.tune(function=function, inputs=inputs)
            self.assertEqual(found, (0, 0, 3, 0))

    @pytest.mark.slow
    def test_what_times_depend_on(self):
        def halved(x, weight, bias, beta):
            return with_beta(x, weight, bias, beta) / 2

        def doubled(x, weight, bias, beta):
            return with_beta(x, weight, bias, beta) * 2

        plain = [CustomOpConfig(with_beta, beta=1)]
        x, weight, bias = linear_inputs(3)
        changes = {
            "implementation": dict(configs=[*plain, CustomOpConfig(halved, beta=1)]),
            "source": dict(configs=[*plain, CustomOpConfig(doubled, beta=1)]),
            "params": dict(configs=[*plain, CustomOpConfig(with_beta, beta=3)]),
            "patches": dict(
                configs=[
                    *plain,
                    CustomOpConfig(with_beta, beta=1, config_patches={"debug": True}),
                ]
            ),
            "sizes": dict(
                dispatch_on={"tensor_name": "x", "dim": 0, "range_upper_bound": 98},
                split_points=[9, 17],
            ),
            "size of the open range": dict(
                dispatch_on={"tensor_name": "x", "dim": 0, "range_upper_bound": 99},
                split_points=[2, 5],
            ),
            "dtype": dict(inputs=linear_inputs(3, dtype=torch.float64)),
            "layout": dict(inputs=(x, torch.randn(5, 7).t(), bias)),
            "generator": dict(input_gen_fns={"x": torch.ones_like}),
            "cudagraphs": dict(benchmark_with_cudagraphs=True),
        }
        self.assertEqual(self.tune(), (3, 9, 0, 3))
        for what, change in changes.items():
            with self.subTest(what):
                compiled, timed, hits, misses = self.tune(**change)
                self.assertEqual((hits, misses), (0, 3))
                self.assertEqual(timed, 3 * compiled)
        with self.subTest("config"), config.patch({"cpp.simdlen": 1}):
            self.assertEqual(self.tune()[2:], (0, 3))
        with self.subTest("the op's own kernel"):
            kernel = linear._init_fn
            linear._init_fn = lambda x, weight, bias: kernel(x, weight, bias).clone()
            try:
                self.assertEqual(self.tune()[2:], (0, 3))
            finally:
                linear._init_fn = kernel
        self.assertEqual(self.tune(), (0, 0, 3, 0))

    def test_off(self):
        self.assertEqual(self.tune(), (3, 9, 0, 3))
        with config.patch(autotune_local_cache=False):
            self.assertEqual(self.tune(), (3, 9, 0, 0))
        with torch.compiler.config.patch(force_disable_caches=True):
            self.assertEqual(self.tune(), (3, 9, 0, 0))

    def stored(self):
        return glob.glob(
            os.path.join(cache_dir(), "range_dispatch", "**", "*.json"), recursive=True
        )

    @pytest.mark.slow
    def test_damaged_files_are_timed_again(self):
        self.assertEqual(self.tune(), (3, 9, 0, 3))
        damage = ("", "{", "[]", '{"timings": [[1.0]]}', '{"timings": [1, 2, 3]}')
        for text in damage:
            for path in self.stored():
                with open(path, "w") as file:
                    file.write(text)
            with self.assertLogs("torch._inductor.range_dispatch", "WARNING") as logs:
                self.assertEqual(self.tune(), (3, 9, 0, 3))
            self.assertEqual(len(logs.output), 3)
        self.assertEqual(self.tune(), (0, 0, 3, 0))

    def test_a_folder_that_cannot_be_written(self):
        with (
            mock.patch(
                "torch._inductor.range_dispatch.cache.tuning_cache.write_atomic",
                side_effect=PermissionError("read-only"),
            ),
            self.assertLogs("torch._inductor.range_dispatch", "WARNING") as logs,
        ):
            self.assertEqual(self.tune(), (3, 9, 0, 3))
        self.assertIn("read-only", logs.output[0])

    def test_a_candidate_that_could_not_be_run_stays_out(self):
        time_candidates = timing.time_candidates

        def without_second(compiled, *args):
            rest = [c for c in compiled if "beta=1" not in c.candidate.name]
            return time_candidates(rest, *args)

        with mock.patch.object(timing, "time_candidates", without_second):
            self.tune()
        with record_dispatches() as records:
            self.assertEqual(self.tune(), (0, 0, 3, 0))
        for row in records[0].ranges:
            self.assertEqual({*row.milliseconds}, {"with_beta(beta=0)", "fallback"})

    SCRIPT = """
import json, sys, torch
from torch._dynamo.utils import counters
from torch._inductor.kernel.custom_op import *

@torch.library.custom_op("tuning_test::stored", mutates_args=())
def stored(x: torch.Tensor) -> torch.Tensor:
    return x.clone()

stored.register_fake(torch.empty_like)

def plus(x, k=1.0):
    return x.clone().add_(k)

register_custom_op_autotuning(
    stored,
    configs=[CustomOpConfig(plus), CustomOpConfig(plus, k=float(sys.argv[1]))],
    dispatch_on={"tensor_name": "x", "dim": 0, "range_upper_bound": 64},
    split_points=[8],
)
torch._inductor.config.fx_graph_cache = False
torch.compile(lambda x: stored(x), dynamic=True)(torch.randn(3, 5))
print(json.dumps({k: v for k, v in counters["inductor"].items() if "custom_op" in k}))
"""

    @pytest.mark.slow
    def test_other_processes(self):
        """A fresh process compiles and times nothing, unless something differs."""

        def run(k):
            output = subprocess.check_output(
                [sys.executable, "-c", self.SCRIPT, str(k)], text=True
            )
            return json.loads(output)

        self.assertEqual(
            run(2.0),
            {
                "custom_op_tuning_cache_miss": 4,
                "custom_op_candidates_compiled": 3,
                "custom_op_candidates_timed": 12,
            },
        )
        self.assertEqual(run(2.0), {"custom_op_tuning_cache_hit": 4})
        self.assertEqual(run(3.0)["custom_op_tuning_cache_miss"], 4)


class Clock:
    """A clock that only moves when a candidate runs."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


class TimingTest(TestCase):
    """How often candidates run, on a clock of our own."""

    def time_all(self, costs, seconds=0.5):
        """Times candidates of given seconds a call; returns timings and calls."""
        clock, calls = Clock(), []

        def candidate(index, cost):
            times = itertools.repeat(cost) if isinstance(cost, float) else iter(cost)

            def call(inputs):
                calls.append(index)
                clock.now += next(times)

            traced = TracedCandidate(Candidate(index, str(index), print), None)
            return modules.CompiledCandidate(traced, call)

        compiled = [candidate(i, cost) for i, cost in enumerate(costs)]
        with mock.patch.object(timing.time, "perf_counter", clock.perf_counter):
            timings = timing.time_candidates(
                compiled, [torch.ones(1)], False, seconds, self.fail
            )
        return [timings[one.candidate] for one in compiled], calls

    def run_all(self, costs, seconds):
        """As ``time_all``, without the first call of each, which comes before any round
        and is the only one that takes ten milliseconds whatever the costs."""
        costs = [
            cost if isinstance(cost, float) else itertools.chain([0.010], cost)
            for cost in costs
        ]
        timings, calls = self.time_all(costs, seconds)
        return timings, calls[len(costs) :]

    def test_rounds_are_interleaved_within_the_budget(self):
        timings, calls = self.run_all([0.010, 0.020], seconds=0.31)
        self.assertEqual(calls, [0, 1] * 11)
        self.assertEqual([round(t.milliseconds, 3) for t in timings], [10.0, 20.0])

    def test_a_few_rounds_whatever_the_budget(self):
        _, calls = self.run_all([0.010, 0.020], seconds=0.0)
        self.assertEqual(calls, [0, 1] * timing.MIN_ROUNDS)

    def test_a_budget_that_is_never_used_up(self):
        _, calls = self.run_all([0.0, 0.0], seconds=9.0)
        most = timing.MAX_ROUNDS * timing.MAX_CALLS_PER_ROUND
        self.assertEqual(len(calls), 2 * most)

    def test_what_is_clearly_slower_is_stopped_early(self):
        _, calls = self.run_all([0.010, 0.031, 0.029], seconds=1.0)
        self.assertEqual(calls.count(1), timing.MIN_ROUNDS)
        self.assertGreater(calls.count(2), 10)
        self.assertEqual(calls.count(0), calls.count(2))

    def test_the_median_round_counts(self):
        """Neither one lucky round nor a few slow ones."""
        costs = [0.010] * 4 + [0.001] + [0.050] * 3 + [0.010] * 4
        (timing_,), _ = self.run_all([costs], seconds=sum(costs) - 1e-9)
        self.assertEqual(round(timing_.milliseconds, 3), 10.0)
        self.assertEqual(timing_.noise, 0.0)

    def test_stalls_inside_a_round_do_not_count(self):
        """Threads that wait for each other add milliseconds to most calls."""
        costs = itertools.cycle([0.008, 0.008, 0.0001])
        (timing_,), _ = self.run_all([costs], seconds=0.2)
        self.assertLess(timing_.milliseconds, 9.0)

    def test_what_is_far_behind_is_called_once(self):
        timings, calls = self.time_all([0.002, 10.0, 0.004])
        milliseconds = [round(t.milliseconds, 6) for t in timings]
        self.assertEqual(milliseconds, [2.0, 10000.0, 4.0])
        self.assertEqual(calls.count(1), 1)
        self.assertGreater(calls.count(2), 10)

    def test_a_first_call_may_make_things_ready(self):
        ready = [0.3, *[0.002] * 400]
        timings, calls = self.time_all([0.002, ready, 0.3])
        milliseconds = [round(t.milliseconds, 6) for t in timings]
        self.assertEqual(milliseconds, [2.0, 2.0, 300.0])
        self.assertGreater(calls.count(1), 10)
        self.assertEqual(calls.count(2), 2)

    def test_what_is_short_is_timed_however_far_behind(self):
        _, calls = self.time_all([0.0002, 0.04])
        self.assertGreaterEqual(calls.count(1), timing.MIN_ROUNDS)

    def test_noise_is_the_spread_of_the_middle_half(self):
        costs = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.80]
        (result,), _ = self.run_all([costs], seconds=sum(costs) - 1e-9)
        self.assertEqual(round(result.milliseconds, 6), 45.0)
        self.assertEqual(round(result.noise, 6), round(30.0 / 8**0.5, 6))


class BudgetTest(TuningTestCase):
    def test_budget_is_shared_by_all_ranges(self):
        """``config.range_dispatch.tuning_seconds``, whatever the number of ranges."""
        for ranges in (2, 8):
            splits = [4 * (i + 1) for i in range(ranges - 1)]
            seconds = []

            def spy(compiled, inputs, use_cudagraphs, given, *_):
                seconds.append(given)
                return {c.candidate: timing.Timing(1.0) for c in compiled}

            with (
                mock.patch.object(timing, "time_candidates", spy),
                config.patch({"range_dispatch.tuning_seconds": 6.0}),
                config.patch(autotune_local_cache=False),
            ):
                self.compile(configs=betas(2), split_points=splits)
            self.assertEqual(len(seconds), ranges)
            self.assertEqual(round(sum(seconds), 6), 6.0)

    def timed_sizes(self, curves, split_points=(4, 8, 64), **dispatch_on):
        """The rows that candidates were timed at, by ``beta``; those without a curve
        take a millisecond for four rows."""
        rows = {}

        def milliseconds(candidate, inputs):
            size = inputs[0].shape[0]
            beta = candidate.params.get("beta")
            rows.setdefault(beta, []).append(size)
            return curves.get(beta, lambda n: n / 4)(size)

        with planted_times(milliseconds):
            self.compile(
                configs=betas(3),
                split_points=split_points,
                dispatch_on={"tensor_name": "x", "dim": 0, **dispatch_on},
            )
        return rows

    def test_what_is_far_behind_is_not_called_at_larger_sizes(self):
        rows = self.timed_sizes({0: lambda n: 9.0 * n, 1: lambda n: 2000.0})
        self.assertEqual(rows[2], [4, 8, 64, 65536])
        self.assertEqual(rows[None], rows[2])
        self.assertEqual(rows[0], [4, 8])  # 36 ms is too short to matter
        self.assertEqual(rows[1], [4])

    def test_stored_times_tell_what_is_far_behind(self):
        slow = {0: lambda n: 900.0}
        self.assertEqual(self.timed_sizes(slow, [8])[0], [8])
        again = self.timed_sizes(slow, [8, 64])
        self.assertEqual(again, {1: [64], 2: [64], None: [64]})

    def test_small_sizes_that_are_timed_later_change_nothing(self):
        curves = {
            0: lambda n: n * n / 10,
            1: lambda n: 1.0 + n / 100,
            2: lambda n: 1.2,
            None: lambda n: 9.0,
        }
        rows = self.timed_sizes(curves, "auto", min=4, max=1024)
        self.assertGreater(len([n for n in rows[1] if 16 < n < 64]), 1)
        self.assertEqual(max(rows[0]), 64)
        self.assertEqual(max(rows[1]), 1024)

    def test_what_catches_up_is_timed_on(self):
        rows = self.timed_sizes({0: lambda n: 50.0 if n < 5 else 51.0})
        self.assertEqual(rows[0], [4, 8, 64, 65536])

    def test_what_does_not_catch_up_in_time_is_not(self):
        """45 times as slow at 4, 32 times at 8: that would be 12 times at 64."""
        rows = self.timed_sizes({0: lambda n: 5.0 * n + 25.0})
        self.assertEqual(rows[0], [4, 8, 65536])

    def test_aten_calls_are_timed_as_they_will_run(self):
        """The Python dispatcher, on during a compile, made them several times slower
        and let candidates win that call none."""
        self.compile(
            op=tells_dispatcher,
            function=lambda x: tells_dispatcher(x),
            inputs=[torch.zeros(3)],
            configs=[CustomOpConfig(lambda x: torch.ops.tuning_test.told.default(x))],
            split_points=[4],
        )
        self.assertGreater(len(dispatcher_was_on), 1)
        self.assertEqual({*dispatcher_was_on}, {False})


class ArtifactTest(TuningTestCase):
    def test_tlparse_gets_what_was_measured(self):
        found = []

        class Handler(logging.Handler):
            def emit(self, record):
                artifact = record.metadata.get("artifact", {})
                if artifact.get("name") == "range_dispatch":
                    found.append(json.loads(record.payload))

        handler = Handler()
        trace_log = logging.getLogger("torch.__trace")
        trace_log.addHandler(handler)
        self.addCleanup(trace_log.removeHandler, handler)
        with record_dispatches() as records:
            self.compile(configs=betas(2), split_points=[8])
        expected = [dataclasses.asdict(record) for record in records]
        self.assertEqual(found, json.loads(json.dumps(expected)))
        (first, _) = found[0]["ranges"]
        self.assertEqual(first["cell"], {"ranges": [{"start": 0, "end": 8}]})
        self.assertEqual(first["winner"], records[0].ranges[0].winner)
        self.assertEqual([size["sizes"] for size in first["sizes"]], [[8]])


class ProgressTest(TestCase):
    def shown(self, terminal, environment, seconds):
        with (
            mock.patch.object(progress, "SECONDS_BEFORE_SHOWN", seconds),
            mock.patch.object(progress, "shown", OrderedSet()),
            mock.patch.dict(os.environ, environment, clear=True),
            mock.patch.object(sys, "stderr") as stderr,
        ):
            stderr.isatty.return_value = terminal
            with progress.TuningProgress("op", 2) as line:
                line.advance()
                line.advance()
        written = [call.args[0] for call in stderr.write.call_args_list]
        if written:
            self.assertIn("tuning op ", written[0])
            self.assertEqual(written[-1], "\r\x1b[K")
        return bool(written)

    def test_on_a_terminal_if_it_takes_long(self):
        self.assertTrue(self.shown(True, {}, 0.0))
        self.assertFalse(self.shown(True, {}, 60.0))
        self.assertFalse(self.shown(False, {}, 0.0))
        self.assertFalse(self.shown(True, {"CI": "true"}, 0.0))


if __name__ == "__main__":
    run_tests()
