# Owner(s): ["module: inductor"]
"""What is seen of tuning on a terminal and in the log."""

import contextlib
import io
import logging
import os
import re
import sys
from unittest import mock

from _planted_times import compiled_values, planted

from torch._inductor.range_dispatch.benchmark import progress

from torch._inductor.range_dispatch.cache import table_store
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.test_case import run_tests, TestCase
from torch.testing._internal.logging_utils import log_settings
from torch.utils._ordered_set import OrderedSet


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def text(self):
        """Without the control sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.getvalue())


class TunedTestCase(TestCase):
    def setUp(self):
        super().setUp()
        table_store.forget()
        self.addCleanup(table_store.forget)
        terminal = {"TERM": "xterm", "COLUMNS": "120"}
        self.enterContext(mock.patch.dict(os.environ, terminal))


class TerminalTest(TunedTestCase):
    """Tuning as it is seen on a terminal."""

    def setUp(self):
        super().setUp()
        shown = mock.patch.object(progress, "shown", OrderedSet())
        self.enterContext(shown)

    def tuned(self, stderr, seconds=0.0, **options):
        options.setdefault("split_points", [8])
        with (
            mock.patch.dict(os.environ),
            mock.patch.object(progress, "SECONDS_BEFORE_SHOWN", seconds),
            mock.patch.object(progress, "SECONDS_BETWEEN_DRAWINGS", 0.0),
            mock.patch.object(sys, "stderr", stderr),
        ):
            os.environ.pop("CI", None)
            os.environ.update(options.pop("environment", {}))
            compiled_values(
                [(5,)], dispatch_on={"tensor_name": "x", "dim": 0}, **options
            )
        return stderr

    def test_bar_and_summary(self):
        terminal = self.tuned(Terminal(), tuning_seconds=5.0)
        text = terminal.text()
        for place in ("[0, 8] at 2", "[0, 8] at 8", "[9, inf] at 65536"):
            for candidate in ("plus(k=1)", "plus(k=2)", "fallback"):
                self.assertIn(f"{place}, {candidate}", text)
        self.assertRegex(text, r"tuning command_test::add_autotuned .* 4/4 0:00:\d\d")
        summary = text[text.rindex("command_test.add.default (") :]
        for cell in (r"\[0, 8\]", r"\[9, inf\]"):
            self.assertRegex(summary, rf"{cell} +\S+ +[\d.]+.* +[\d.]+.* +[\d.]+")
        self.assertFalse(progress._running)
        self.assertFalse(progress.shown)

    def test_what_does_not_fit_is_cut_off(self):
        terminal = Terminal()
        with (
            mock.patch.dict(os.environ, {"CI": "", "COLUMNS": "70"}),
            mock.patch.object(progress, "SECONDS_BEFORE_SHOWN", 0.0),
            mock.patch.object(sys, "stderr", terminal),
            progress.TuningProgress("some_op", 2) as bar,
        ):
            bar.showing("[0, 512] x [0, inf] at 128 x 65536", "candidate")
        lines = re.split("[\\r\\n]", terminal.text())
        self.assertTrue(all(len(line) <= 70 for line in lines), lines)
        self.assertIn("0/2", terminal.text())
        self.assertIn("…", terminal.text())

    def test_found_split_points(self):
        with planted(60):
            terminal = self.tuned(Terminal(), split_points="auto")
        self.assertRegex(terminal.text(), r"1/\d+ .* \[0, \d+\] at 2")
        self.assertRegex(terminal.text(), r"\[\d+, inf\] +plus\(k=2\) ")

    def test_nothing_elsewhere(self):
        with planted(8):
            for stderr, options in (
                (io.StringIO(), {}),
                (Terminal(), {"environment": {"CI": "true"}}),
                (Terminal(), {"seconds": 60.0}),
            ):
                table_store.forget()
                self.assertEqual(self.tuned(stderr, **options).getvalue(), "")

    def test_tuning_that_fails_is_not_summed_up(self):
        with (
            mock.patch.object(progress, "SECONDS_BEFORE_SHOWN", 0.0),
            mock.patch.dict(os.environ, {"CI": ""}),
            mock.patch.object(sys, "stderr", Terminal()),
            contextlib.suppress(KeyboardInterrupt),
            progress.TuningProgress("op", 2) as bar,
        ):
            bar.advance()
            raise KeyboardInterrupt
        self.assertFalse(progress.shown)
        self.assertFalse(progress._running)


class LogTest(TunedTestCase):
    def logged(self, settings, **options):
        """What goes to the artifact's log under TORCH_LOGS, and the records."""
        messages = []

        class Handler(logging.Handler):
            def emit(self, record):
                if record.name.endswith(".__range_dispatch"):
                    messages.append(record.getMessage())

        handler = Handler()
        log = logging.getLogger("torch._inductor")
        log.addHandler(handler)
        self.addCleanup(log.removeHandler, handler)
        options = {
            "dispatch_on": {"tensor_name": "x", "dim": 0},
            "split_points": [8],
            **options,
        }
        set_up = log_settings(settings) if settings else contextlib.nullcontext()
        with set_up, record_dispatches() as records, planted(8):
            compiled_values([(5,)], **options)
        return messages, records

    def test_on_by_name(self):
        (message,), _ = self.logged("range_dispatch")
        self.assertExpectedInline(
            re.sub(r"= s\d+", "= s0", message),
            """\
command_test.add.default (command_test::add_autotuned)
  x: float32[s0] (1)
  dispatched on x.shape[0] = s0
  2 branches: plus(k=1), plus(k=2)
  x.shape[0]  winner           plus(k=1) ms        plus(k=2) ms         fallback ms
  [0, 8]      plus(k=1)  0.001000 ±0.000061  0.002000 ±0.000061  0.002000 ±0.000061
  [9, inf]    plus(k=2)  0.002000 ±0.000100  0.001000 ±0.000100  0.002000 ±0.000100
  at each size:
  x.shape[0]        plus(k=1) ms        plus(k=2) ms         fallback ms
  2           0.001000 ±0.000100  0.002000 ±0.000100  0.002000 ±0.000100
  4           0.001000 ±0.000100  0.002000 ±0.000100  0.002000 ±0.000100
  8           0.001000 ±0.000100  0.002000 ±0.000100  0.002000 ±0.000100
  65536       0.002000 ±0.000100  0.001000 ±0.000100  0.002000 ±0.000100""",
        )

    def test_all_that_is_recorded_is_logged(self):
        (message,), (record,) = self.logged("range_dispatch", split_points=[4, 16])
        for row in record.ranges:
            self.assertRegex(
                message, rf"(?m)^  {re.escape(str(row.cell))} +{re.escape(row.winner)} "
            )
        for text in (record.op, record.name, record.call, *record.branch_winners):
            self.assertIn(text, message)

    def test_given_winners(self):
        (message,), _ = self.logged("range_dispatch", winners=[1, -1])
        self.assertIn("2 branches: plus(k=2), fallback", message)
        self.assertRegex(message, r"(?m)^  \[9, inf\] +fallback$")
        self.assertNotIn(" ms", message)

    def test_plain_autotuning(self):
        options = {"dispatch_on": None, "split_points": None}
        (message,), _ = self.logged("range_dispatch", **options)
        self.assertIn("one choice for all sizes", message)
        self.assertIn("inlined, no cond: plus(k=1)", message)
        self.assertRegex(message, r"(?m)^  all +plus\(k=1\) +0.001000")

    def test_off_by_default(self):
        for settings in ("", "+inductor"):
            messages, records = self.logged(settings)
            self.assertEqual((messages, len(records)), ([], 1))


if __name__ == "__main__":
    run_tests()
