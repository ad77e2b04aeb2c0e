# Owner(s): ["module: inductor"]
"""What tuning does where other programs keep the processors busy, and how it keeps to
the time that it was given."""

import dataclasses
import itertools
import os
import tempfile
from unittest import mock

from _fresh_test_case import FreshTestCase

import torch
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch.benchmark import contention, modules, timing
from torch._inductor.range_dispatch.cache.table_store import find, forget, load, note
from torch._inductor.range_dispatch.cache.tables import (
    CandidateTime,
    Entry,
    merge_into_file,
    read_table,
    TuningTable,
)
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.range_dispatch.registration.candidates import Candidate
from torch._inductor.range_dispatch.trace.tracing import TracedCandidate
from torch._inductor.test_case import run_tests, TestCase


LOGGER = "torch._inductor.range_dispatch"
ROWS = {"tensor_name": "x", "dim": 0}


@torch.library.custom_op("busy_test::shift", mutates_args=())
def shift(x: torch.Tensor) -> torch.Tensor:
    return x + 0.0


@shift.register_fake
def _(x):
    return torch.empty_like(x)


def plus(x, k):
    return x + k


def waiting(share):
    """Threads wait for a processor for this part of the time."""
    return mock.patch.object(contention.WaitedShare, "so_far", lambda self: share)


class BusyMachineTest(FreshTestCase):
    settings = {"fx_graph_cache": False, "range_dispatch.tuning_seconds": 30.0}

    def setUp(self):
        super().setUp()
        threads = torch.get_num_threads()
        self.addCleanup(torch.set_num_threads, threads)
        self.addCleanup(forget)
        forget()

    def compile(self, threads, share):
        """How many threads each timing had, the record, and what was logged."""
        torch._dynamo.reset()
        counters.clear()
        torch.set_num_threads(threads)
        had = []
        time_candidates = timing.time_candidates

        def spy(*args):
            had.append(torch.get_num_threads())
            return time_candidates(*args)

        with (
            waiting(share),
            mock.patch.object(timing, "time_candidates", spy),
            record_dispatches() as records,
            torch.no_grad(),
            custom_op_autotuning(
                shift,
                configs=[CustomOpConfig(plus, k=k) for k in (1, 2)],
                dispatch_on={**ROWS, "range_upper_bound": 256},
                split_points=[64],
                sizes_per_range=1,
            ),
        ):
            torch.compile(lambda x: shift(x), dynamic=True)(torch.zeros(8, 512))
        self.assertEqual(torch.get_num_threads(), threads)
        (record,) = records
        return had, record

    def test_several_threads_are_timed_on_one(self):
        with self.assertLogs(LOGGER, "WARNING") as logs:
            had, record = self.compile(threads=2, share=1.3)
        self.assertEqual(had, [2, 1, 2, 1])
        self.assertEqual(
            [s.disturbed for r in record.ranges for s in r.sizes], [True] * 2
        )
        (line,) = [one for one in logs.output if "busy" in one]
        self.assertIn("busy_test.shift.default", line)
        self.assertIn("Tune again", line)
        # A module of each candidate for two threads, and for one.
        self.assertEqual(counters["inductor"]["custom_op_candidates_compiled"], 6)

    def test_what_is_dropped_is_not_timed_again(self):
        compared = {"range_dispatch.check_accuracy": "drop"}
        with config.patch(compared), self.assertLogs(LOGGER, "WARNING"):
            had, record = self.compile(threads=2, share=1.3)
        self.assertEqual(had, [2, 1, 2, 1])
        self.assertEqual({row.winner for row in record.ranges}, {"fallback"})
        self.assertEqual({*record.ranges[0].milliseconds}, {"fallback"})
        # Three for two threads, and the op itself for one.
        self.assertEqual(counters["inductor"]["custom_op_candidates_compiled"], 4)

    def test_what_was_disturbed_is_not_kept(self):
        self.compile(threads=2, share=1.3)
        _, record = self.compile(threads=2, share=0.0)
        self.assertEqual(counters["inductor"]["custom_op_tuning_cache_hit"], 0)
        self.assertFalse(any(s.disturbed for r in record.ranges for s in r.sizes))
        self.compile(threads=2, share=0.0)
        self.assertEqual(counters["inductor"]["custom_op_tuning_cache_hit"], 2)

    def test_an_idle_machine(self):
        with self.assertNoLogs(LOGGER, "WARNING"):
            had, record = self.compile(threads=2, share=0.05)
        self.assertEqual(had, [2, 2])
        self.assertFalse(any(s.disturbed for r in record.ranges for s in r.sizes))


class ContentionTest(TestCase):
    def test_a_system_that_does_not_tell(self):
        with mock.patch.object(contention, "_THREADS", os.devnull + "/none"):
            self.assertEqual(contention.WaitedShare().so_far(), 0.0)

    def test_this_system_tells(self):
        """The test process has waited for a processor at some time."""
        if not os.path.exists("/proc/self/schedstat"):
            self.skipTest("a system that does not tell")
        self.assertGreater(contention.waited_here(), 0.0)


class Clock:
    """A clock that only moves when a candidate runs, or waits for a processor."""

    def __init__(self):
        self.now = self.waited = 0.0

    def perf_counter(self):
        return self.now


class HeldUpTest(TestCase):
    """On one thread what was waited is known, and is no part of the time."""

    def time(self, costs, limit=1e9, seconds=0.5, share=0.0):
        """Candidates cost (own seconds, seconds held up) a call."""
        clock, calls = Clock(), []

        def candidate(index, cost):
            costs = itertools.cycle(cost)

            def call(inputs):
                calls.append(index)
                own, waited = next(costs)
                clock.now += own + waited
                clock.waited += waited

            traced = TracedCandidate(Candidate(index, str(index), print), None)
            return modules.CompiledCandidate(traced, call)

        threads = torch.get_num_threads()
        self.addCleanup(torch.set_num_threads, threads)
        torch.set_num_threads(1)
        compiled = [candidate(i, cost) for i, cost in enumerate(costs)]
        with (
            mock.patch.object(timing.time, "perf_counter", clock.perf_counter),
            mock.patch.object(timing, "waited_here", lambda: clock.waited),
            waiting(share),
        ):
            timings = timing.time_candidates(
                compiled, [torch.ones(1)], False, seconds, self.fail, limit
            )
        return [timings[one.candidate] for one in compiled], calls, clock.now

    def test_short_calls(self):
        held_up = [(0.0001, 0.004), (0.0001, 0.0)]
        found, _, _ = self.time([held_up, [(0.0002, 0.0)]], share=0.6)
        self.assertEqual([round(t.milliseconds, 6) for t in found], [0.1, 0.2])
        self.assertFalse(timing.is_disturbed(dict(enumerate(found))))

    def test_long_calls_are_all_held_up(self):
        found, _, _ = self.time([[(0.02, 0.03)], [(0.03, 0.01)]], share=0.6)
        self.assertEqual([round(t.milliseconds, 6) for t in found], [20.0, 30.0])

    def test_what_stays_noisy_is_marked(self):
        noisy = [(own, 0.001) for own in (0.002, 0.02, 0.004, 0.03, 0.008)]
        found, _, _ = self.time([noisy, [(0.002, 0.0)]], share=0.6)
        self.assertEqual([t.disturbed for t in found], [True, False])

    def test_a_held_up_first_call_is_not_far_behind(self):
        first = [(0.002, 2.7), *[(0.002, 0.0)] * 400]
        found, calls, _ = self.time([first, [(0.001, 0.0)]], share=0.6)
        self.assertEqual([round(t.milliseconds, 6) for t in found], [2.0, 1.0])

    def test_the_limit_holds_between_calls(self):
        found, calls, seconds = self.time([[(0.5, 0.0)], [(0.6, 0.0)]], limit=2.0)
        self.assertLess(seconds, 2.0 + 0.6)
        self.assertEqual(calls[:2], [0, 1])
        self.assertEqual([round(t.milliseconds, 6) for t in found], [500.0, 600.0])

    def test_too_little_time_for_a_call_of_each(self):
        with self.assertRaises(timing.OutOfTime):
            self.time([[(3.0, 0.0)], [(3.0, 0.0)]], limit=2.0)


class RangesBudgetTest(FreshTestCase):
    def tuned(self, curves, seconds):
        """The winners, and what the clock shows after tuning four ranges."""
        clock = Clock()

        def planted(compiled, inputs, cudagraphs, share, on_failure, limit, *_):
            size = inputs[0].shape[0]
            timings, started = {}, clock.now
            for one in compiled:
                if clock.now > started + limit:
                    raise timing.OutOfTime
                taken = curves[one.candidate.params.get("k", "op")](size)
                clock.now += taken
                timings[one.candidate] = timing.Timing(taken * 1e3)
            return timings

        with (
            mock.patch.object(timing, "time_candidates", planted),
            mock.patch.object(timing.time, "perf_counter", clock.perf_counter),
            record_dispatches() as records,
            custom_op_autotuning(
                shift,
                configs=[CustomOpConfig(plus, k=k) for k in (1, 2)],
                dispatch_on={**ROWS, "range_upper_bound": 4096},
                split_points=[8, 64, 512],
                sizes_per_range=1,
                tuning_seconds=seconds,
            ),
        ):
            torch.compile(lambda x: shift(x), dynamic=True)(torch.zeros(8))
        return [row.winner for row in records[0].ranges], clock.now

    def test_ranges_that_there_is_no_time_for(self):
        curves = {
            1: lambda n: 0.02 if n <= 8 else 0.3,
            2: lambda n: 0.1,
            "op": lambda n: 1.0,
        }
        with self.assertLogs(LOGGER, "WARNING") as logs:
            winners, seconds = self.tuned(curves, seconds=1.6)
        self.assertEqual(winners, ["plus(k=1)", *["plus(k=2)"] * 3])
        self.assertLessEqual(seconds, 1.6 + 0.3)
        (line,) = logs.output
        self.assertIn("2 of 4 sizes were timed, then 1.6 s were used up", line)

    def test_enough_time(self):
        curves = {1: lambda n: 1e-3, 2: lambda n: 2e-3, "op": lambda n: 3e-3}
        with self.assertNoLogs(LOGGER, "WARNING"):
            winners, _ = self.tuned(curves, seconds=3.5)
        self.assertEqual(winners, ["plus(k=1)"] * 4)

    def test_no_time_for_any(self):
        curves = dict.fromkeys((1, 2, "op"), lambda n: 9.0)
        with self.assertLogs(LOGGER, "WARNING") as logs:
            winners, seconds = self.tuned(curves, seconds=3.5)
        self.assertEqual(winners, ["fallback"] * 4)
        self.assertLessEqual(seconds, 3.5 + 9.0)
        self.assertIn("0 of 4 sizes were timed", logs.output[0])


class TablesTest(TestCase):
    """An undisturbed time stands, whichever is written, read or found first."""

    def setUp(self):
        super().setUp()
        self.addCleanup(forget)
        forget()

    def entry(self, milliseconds, disturbed):
        return Entry(
            op="busy_test.shift.default",
            schema="schema",
            environment={"device": "here"},
            call="x: float32[s0]",
            axes=("x.shape[0]",),
            operands="[[], []]",
            sizes=(64,),
            candidates=(CandidateTime("plus", "d1", milliseconds, 0.0, disturbed),),
        )

    def test_files(self):
        busy, idle = self.entry(9.0, True), self.entry(1.0, False)
        later = dataclasses.replace(busy, candidates=self.entry(7.0, True).candidates)
        path = os.path.join(
            self.enterContext(tempfile.TemporaryDirectory()), "table.json"
        )
        for written, expected in ((busy, 9.0), (later, 7.0), (idle, 1.0), (busy, 1.0)):
            merge_into_file(path, TuningTable.of([written]))
            (found,) = read_table(path).entries.values()
            self.assertEqual(found.candidates[0].milliseconds, expected)

    def test_lookup(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        names = ("a", "b", "c")
        for name, entry in zip(
            names,
            (self.entry(9.0, True), self.entry(1.0, False), self.entry(2.0, False)),
        ):
            path = os.path.join(folder, f"{name}.json")
            merge_into_file(path, TuningTable.of([entry]))
        load(os.path.join(folder, "a.json"))
        wanted = self.entry(None, False)
        with config.patch({"range_dispatch.table_path": folder}):
            self.assertEqual(find(wanted).candidates[0].milliseconds, 1.0)
        self.assertEqual(find(wanted).candidates[0].milliseconds, 9.0)

    def test_what_one_process_measures(self):
        for entry in (self.entry(1.0, False), self.entry(9.0, True)):
            note(entry)
        path = os.path.join(
            self.enterContext(tempfile.TemporaryDirectory()), "table.json"
        )
        torch._inductor.range_dispatch.save(path)
        (found,) = read_table(path).entries.values()
        self.assertEqual(found.candidates[0].milliseconds, 1.0)


if __name__ == "__main__":
    run_tests()
