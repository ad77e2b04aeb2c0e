# Owner(s): ["module: inductor"]
"""What ``tune`` takes from a table, and when it writes one."""

import gc
import itertools
import os
import re
import signal
import subprocess
import sys
from unittest import mock

import pytest
from _inductor_helpers import planted_times
from _scripts_to_tune import TuneTestCase

import torch
from torch._dynamo.utils import counters
from torch._inductor.range_dispatch import read_table
from torch._inductor.range_dispatch.cache import call_tables, table_store, tables
from torch._inductor.test_case import run_tests


RESUMED = """
import sys
from unittest import mock
import torch
from torch._inductor.kernel.custom_op import CustomOpConfig, register_custom_op_autotuning

def once(x):
    return torch.ops.command_test.plus.default(x, 1)

op = torch.library.custom_op(
    f"command_test_script::called_{sys.argv[1]}",
    lambda x: x + 1, mutates_args=(), schema="(Tensor x) -> Tensor")
op.register_fake(torch.empty_like)
on = {"tensor_name": "x", "dim": 0}
if "grid" in sys.argv[2]:
    on = [{**on, "range_upper_bound": 64}, {"tensor_name": "x", "dim": 1}]
    split_points = [[8], [16]]
elif "auto" in sys.argv[2]:
    on["max"] = 64
    split_points = "auto"
else:
    on["range_upper_bound"] = 128 if "more" in sys.argv[2] else 64
    split_points = [8]
register_custom_op_autotuning(
    op, configs=[CustomOpConfig(once)], dispatch_on=on, split_points=split_points,
    tuning_seconds=120.0)  # on a busy machine, too
for dtype in (torch.float32, torch.float64):
    compiled = torch.compile(lambda x: op(x), dynamic=True)
    compiled(torch.randn(5, 7, dtype=dtype))
"""


class ResumeTest(TuneTestCase):
    """A ``tune`` that goes on with the table of one before."""

    SCRIPT = RESUMED

    def planted(self, then=lambda count: None):
        """Takes down what is timed, calls ``then`` with how much, and times nothing."""

        def milliseconds(candidate, inputs):
            (x,) = (one for one in inputs if isinstance(one, torch.Tensor))
            size = (*x.shape, x.dtype)
            # The first of its candidates.
            if size not in self.timed[-1:]:
                then(len(self.timed))
                self.timed.append(size)
            return 0.001 * (1 + (candidate.is_fallback == (x.shape[0] <= 20)))

        return planted_times(milliseconds)

    def counts(self, how="", *options, then=lambda count: None):
        """What a ``tune`` says at last of what it has measured, and taken; its ops are
        those of the one before."""
        name = self._testMethodName
        # What a failed script leaves behind must not go while the next one runs.
        torch._dynamo.reset()
        gc.collect()
        self.unregister(name)
        table_store.forget()
        counters.clear()
        self.timed = []
        with self.planted(then):
            found = self.tune(how, *options, name=name)
        self.status, out, self.err = found
        last = out.splitlines()[-1]
        numbers = re.fullmatch(
            re.escape(self.default)
            + r": (\d+) sizes measured(?:, (\d+) taken from the table)?",
            last,
        )
        self.assertEqual(int(numbers[1]), len({*self.timed}))
        return tuple(None if one is None else int(one) for one in numbers.groups())

    @staticmethod
    def interrupted(count):
        def then(timed):
            if timed == count:
                raise KeyboardInterrupt

        return then

    def test_nothing_is_measured_again(self):
        self.assertEqual(self.counts(), (8, None))
        before = read_table(self.default)
        self.assertEqual((len(before.entries), len(before.choices)), (8, 2))
        self.assertEqual(self.counts(), (0, 8))
        self.assertEqual(self.status, 0)
        self.assertEqual(read_table(self.default), before)
        self.assertEqual(counters["inductor"]["custom_op_candidates_compiled"], 0)
        self.assertEqual(self.counts("", "--fresh"), (8, None))

    def test_it_goes_on_where_it_was_interrupted(self):
        self.assertEqual(self.counts(then=self.interrupted(3)), (3, None))
        self.assertEqual(self.status, 1)
        self.assertEqual(len(read_table(self.default).entries), 3)
        before = {*self.timed}
        self.assertEqual(self.counts(), (5, 3))
        self.assertEqual((self.status, before & {*self.timed}), (0, set()))
        self.assertEqual(len(read_table(self.default).entries), 8)
        self.assertEqual(self.counts(), (0, 8))

    def test_new_sizes_extend_it(self):
        self.counts()
        self.assertEqual(self.counts("more"), (2, 6))
        self.assertEqual({one[0] for one in self.timed}, {128})
        self.assertEqual(len(read_table(self.default).entries), 10)

    @pytest.mark.slow
    def test_found_split_points(self):
        """A search times what it had no time for; with other tables it does not."""
        self.assertEqual(self.counts("auto", then=self.interrupted(5)), (5, None))
        before = {*self.timed}
        measured, taken = self.counts("auto")
        self.assertEqual(taken, 5)
        self.assertGreater(measured, 10)
        self.assertFalse(before & {*self.timed})
        choices = read_table(self.default).choices
        self.assertEqual(self.counts("auto"), (0, measured + taken))
        self.assertEqual(read_table(self.default).choices, choices)
        for choice in choices.values():
            ((split,),) = choice.split_points
            self.assertTrue(18 <= split <= 22, split)

    @pytest.mark.slow
    def test_a_grid(self):
        self.assertEqual(self.counts("grid", then=self.interrupted(5)), (5, None))
        measured, taken = self.counts("grid")
        self.assertEqual(taken, 5)
        self.assertGreater(measured, 5)
        self.assertEqual(self.counts("grid"), (0, measured + taken))

    def test_another_environment_and_an_edited_source(self):
        self.counts()
        here = call_tables.describe_environment(torch.device("cpu"))
        with mock.patch.object(
            call_tables, "describe_environment", lambda _: {**here, "torch": "1.0"}
        ):
            # No time of the near table is used.
            self.assertEqual(self.counts(), (8, 0))
        self.assertNotIn("near_tables", self.err)
        self.assertEqual(len(read_table(self.default).entries), 16)
        with open(self.script, "w") as file:
            file.write(RESUMED.replace("default(x, 1)", "default(x, 1).view(x.shape)"))
        self.assertEqual(self.counts(), (8, 0))
        self.assertEqual(len(read_table(self.default).entries), 24)

    def test_calls_are_written_as_they_are_measured(self):
        found = []

        def then(timed):
            table = read_table(self.default)
            found.append((len(table.entries), len(table.choices)))

        self.counts(then=then)
        self.assertEqual(found, [(0, 0)] * 4 + [(4, 1)] * 4)
        os.remove(self.default)
        found.clear()
        with mock.patch.object(table_store, "SECONDS_BETWEEN_WRITES", -1.0):
            self.counts(then=then)
        self.assertEqual([entries for entries, _ in found], [*range(8)])

    def test_a_table_that_cannot_be_written_for_a_while(self):
        """Other than before and after a script."""
        merge = tables.merge_into_file
        done = itertools.count()

        def failing(path, table):
            if next(done) == 1:
                raise OSError("no space left")
            return merge(path, table)

        with (
            mock.patch.object(table_store, "merge_into_file", failing),
            self.assertLogs("torch._inductor.range_dispatch", "WARNING") as logs,
        ):
            self.assertEqual(self.counts(), (8, None))
        (line,) = logs.output
        self.assertIn(
            "train.tuning.json: not written yet, trying again: no space", line
        )
        self.assertEqual(len(read_table(self.default).entries), 8)

    @pytest.mark.slow  # a process
    def test_a_killed_process_loses_no_call_that_it_had_done(self):
        with open(self.script, "w") as file:
            file.write(
                "import torch\n"
                "@torch.library.custom_op('command_test::plus', mutates_args=())\n"
                "def plus(x: torch.Tensor, k: int) -> torch.Tensor:\n"
                "    return x + k\n"
                "plus.register_fake(lambda x, k: torch.empty_like(x))\n"
                + RESUMED
                + "    import os, signal\n"
                "    os.kill(os.getpid(), signal.SIGKILL)\n"
            )
        tune = ["-m", "range_tuning", "tune", self.script]
        done = subprocess.run([sys.executable, *tune, "killed", ""], timeout=300)
        self.assertEqual(done.returncode, -signal.SIGKILL)
        found = read_table(self.default)
        self.assertEqual((len(found.entries), len(found.choices)), (4, 1))


if __name__ == "__main__":
    run_tests()
