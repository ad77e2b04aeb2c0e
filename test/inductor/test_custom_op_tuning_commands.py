# Owner(s): ["module: inductor"]
"""What people see of tuning: the commands, the terminal and the log."""

import contextlib
import dataclasses
import gc
import io
import itertools
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import types
from unittest import mock

import pytest

import torch
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.kernel.custom_op import (
    custom_op_autotuning,
    CustomOpConfig,
    unregister_custom_op_autotuning,
)
from torch._inductor.range_dispatch import __main__ as command, save
from torch._inductor.range_dispatch.benchmark import progress, timing
from torch._inductor.range_dispatch.benchmark.timing import Timing
from torch._inductor.range_dispatch.cache import (
    call_tables,
    table_store,
    tables,
    tune_table,
)
from torch._inductor.range_dispatch.cache.tables import (
    CandidateTime,
    Choice,
    Decided,
    Entry,
    merge_into_file,
    read_table,
    TuningTable,
)
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.range_dispatch.record.text_tables import (
    milliseconds_text,
    TextTable,
    write,
)
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import fresh_cache
from torch.testing._internal.logging_utils import log_settings
from torch.utils._ordered_set import OrderedSet


HERE = {"torch": "2", "device": "one", "threads": "2 of 2"}
CALL = "x: float32[s0, 4] (4, 1)"
NAMES = {0: "first", 1: "second", -1: "fallback", None: None}


def entry(size=8, times=(1.0, 2.0), noise=0.1, digests=("abc", "def"), **changes):
    made = Entry(
        op="some::op.default",
        schema="some::op(Tensor x) -> Tensor",
        environment=HERE,
        call=CALL,
        axes=("x.shape[0]",),
        operands=f'[[[[{size}, 4], [4, 1], "torch.float32", "cpu"]], []]',
        sizes=(size,),
        candidates=tuple(
            CandidateTime(name, digest, milliseconds, noise)
            for name, digest, milliseconds in zip(("first", "second"), digests, times)
        ),
    )
    return dataclasses.replace(made, **changes)


def choice(split_points=((8,),), winners=(0, 1), **changes):
    made = Choice(
        op="some::op.default",
        schema="some::op(Tensor x) -> Tensor",
        environment=HERE,
        call=CALL,
        axes=("x.shape[0]",),
        split_points=split_points,
        winners=winners,
        names=tuple(NAMES[winner] for winner in winners),
    )
    return dataclasses.replace(made, **changes)


def decided_by(*times):
    """What decided in each cell: milliseconds of the first and second, and noise."""
    return tuple(
        Decided(
            dict(zip(("first", "second"), milliseconds)),
            dict.fromkeys(("first", "second"), noise),
        )
        for milliseconds, noise in times
    )


def grid_choice():
    """Two sizes, one of them an expression, and a cell that cannot occur."""
    return choice(
        ((8,), (16, 32)),
        (0, -1, None, 1, 1, 0),
        call="x: float32[s0, s1] (s1, 1)",
        axes=("x.shape[-1]", "x.shape[0]*x.shape[1]"),
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def text(self):
        """Without the control sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.getvalue())


class CommandTestCase(TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        table_store.forget()
        self.addCleanup(table_store.forget)
        terminal = {"TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1"}
        patch = mock.patch.dict(os.environ, terminal)
        patch.start()
        self.addCleanup(patch.stop)

    def table(self, name, entries=(), choices=()):
        path = os.path.join(self.folder, name)
        merge_into_file(path, TuningTable.of(entries, choices))
        return path

    def run_command(self, *arguments, out=None, err=None):
        out = io.StringIO() if out is None else out
        err = io.StringIO() if err is None else err
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = command.main(arguments)
        return status, out.getvalue(), err.getvalue()

    def output(self, *arguments, status=0, **options):
        found, out, err = self.run_command(*arguments, **options)
        self.assertEqual((found, err), (status, ""))
        return out


class TextTest(CommandTestCase):
    def test_times(self):
        for given, text in (
            ((None,), "failed"),
            ((1234.5,), "1234"),
            ((0.0123456,), "0.01235"),
            ((0.0123456, 0.0002), "0.01235 ±0.00020"),
            ((30.0, 12.0), "30.00 ±12.00"),
            ((0.00099999999,), "0.001000"),
            ((99.9999, 0.01), "100.0 ±0.0"),
        ):
            self.assertEqual(milliseconds_text(*given), text)

    def test_a_range_is_no_markup_on_a_terminal(self):
        terminal = Terminal()
        table = TextTable(("[bold]", "ms"), [("[0, 512]", "1.0")])
        write(["[red] line", table], terminal)
        for text in ("[red] line", "[bold]", "[0, 512]"):
            self.assertIn(text, terminal.text())

    def test_a_terminal_without_rich_gets_plain_text(self):
        plain, terminal = io.StringIO(), Terminal()
        table = TextTable(("size", "ms"), [("a", "1.0"), ("long", "10.0")])
        write(["line", table], plain)
        with mock.patch.dict(sys.modules, {"rich": None, "rich.console": None}):
            write(["line", table], terminal)
        self.assertEqual(plain.getvalue(), terminal.getvalue())
        self.assertExpectedInline(
            plain.getvalue(),
            """\
line
  size    ms
  a      1.0
  long  10.0
""",
        )


class ShowTest(CommandTestCase):
    def test_choice_and_times(self):
        entries = [entry(64, (3.0, None)), entry(8)]
        decided = [([0.5, 2.0], 0.1), ([4.0, 3.0], 0.0)]
        path = self.table("a.json", entries, [choice(decided=decided_by(*decided))])
        self.assertExpectedInline(
            self.output("show", path),
            """\
some::op.default
  x: float32[s0, 4] (4, 1)
  dispatched on x.shape[0]
  device: one, threads: 2 of 2, torch: 2

  x.shape[0]  winner  number        first ms     second ms
  [0, 8]      first        0  0.5000 ±0.1000  2.000 ±0.100
  [9, inf]    second       1           4.000         3.000

  x.shape[0]  operands            first ms     second ms
  8           float32[8, 4]   1.000 ±0.100  2.000 ±0.100
  64          float32[64, 4]  3.000 ±0.100        failed
""",
        )

    def test_an_older_table_keeps_no_times_that_decided(self):
        """They are the geometric means of the sizes in a range."""
        entries = [entry(2, (1.0, 2.0)), entry(8, (4.0, 2.0)), entry(64, (3.0, None))]
        out = self.output("show", self.table("a.json", entries, [choice()]))
        self.assertIn(
            """
  x.shape[0]  winner  number      first ms     second ms
  [0, 8]      first        0  2.000 ±0.103  2.000 ±0.071
  [9, inf]    second       1  3.000 ±0.100
  the table does not keep what decided: the times of ranges are geometric means of \
what was taken at the sizes in them
""",
            out,
        )

    def test_a_grid(self):
        out = self.output("show", self.table("a.json", [], [grid_choice()]))
        self.assertIn("dispatched on x.shape[-1], x.shape[0]*x.shape[1]", out)
        lines = [line.split() for line in out.splitlines()]
        self.assertIn(["[0,", "8]", "[17,", "32]", "fallback", "-1"], lines)
        self.assertIn(["[0,", "8]", "[33,", "inf]", "cannot", "occur"], lines)
        self.assertIn(["[9,", "inf]", "[33,", "inf]", "first", "0"], lines)

    def test_plain_autotuning(self):
        plain = {"axes": (), "call": "x: float32[8, 4] (4, 1)"}
        path = self.table(
            "a.json", [entry(sizes=(), **plain)], [choice((), (1,), **plain)]
        )
        out = self.output("show", path)
        self.assertIn("no dispatch", out)
        self.assertRegex(out, r"(?m)^  all +second +1 +1.000 ±0.100 +2.000 ±0.100$")
        self.assertRegex(out, r"(?m)^  float32\[8, 4\] +1.000 ±0.100 +2.000 ±0.100$")

    def test_calls_of_one_op(self):
        """Of other operands, and measured in another environment."""
        other = {"call": "x: float64[s0, 4] (4, 1)"}
        elsewhere = {"environment": {**HERE, "torch": "3"}}
        path = self.table(
            "a.json",
            [entry(), entry(16, **other), entry(**elsewhere)],
            [choice(), choice(winners=(1, 0), **other)],
        )
        out = self.output("show", path)
        self.assertEqual(out.count("some::op.default\n"), 3)
        self.assertEqual(out.count("nothing is known of what was chosen"), 1)

    def test_candidates_of_an_edited_source(self):
        edited = entry(16, digests=("abc", "other"))
        out = self.output("show", self.table("a.json", [entry(), edited], [choice()]))
        self.assertEqual(out.count("operands"), 2)

    def test_on_a_terminal(self):
        terminal = Terminal()
        self.output("show", self.table("a.json", [entry()], [choice()]), out=terminal)
        self.assertIn("─", terminal.text())
        self.assertRegex(terminal.text(), r"\[9, inf\] +second +1")

    def test_an_empty_table(self):
        out = self.output("show", self.table("a.json"))
        self.assertEqual(out, "the table is empty\n")


class DiffTest(CommandTestCase):
    def diff(self, first, second, status=1):
        """Of tables of (entries, choices); the tables are called A and B."""
        paths = [
            self.table(f"{self.id()}{status}{len(os.listdir(self.folder))}.json", *one)
            for one in (first, second)
        ]
        out = self.output("diff", *paths, status=status)
        return out.replace(paths[0], "A").replace(paths[1], "B")

    def test_tables_that_say_the_same(self):
        for one in (([], []), ([entry()], [choice(), grid_choice()])):
            self.assertEqual(self.diff(one, one, status=0), "")

    def test_within_noise(self):
        noisy = entry(times=(1.15, 2.0))
        self.assertEqual(self.diff(([entry()], []), ([noisy], []), status=0), "")

    def test_times(self):
        first = [entry(8), entry(64, (1.0, 5.0))]
        second = [entry(8, (1.5, 2.0)), entry(64, (1.0, None))]
        out = self.diff((first, []), (second, []))
        lines = [line.split() for line in out.splitlines()]
        time = ["1.000", "±0.100", "1.500", "±0.100", "1.500"]
        self.assertIn(["8", "float32[8,", "4]", "first", *time], lines)
        failed = ["5.000", "±0.100", "failed"]
        self.assertIn(["64", "float32[64,", "4]", "second", *failed], lines)
        self.assertEqual(out.count("float32["), 3)  # with the call

    def test_what_only_one_has(self):
        other = {"call": "x: float64[s0, 4] (4, 1)"}
        first = [entry(8), entry(64)], [choice()]
        second = [entry(8), entry(16, **other)], [choice(), choice(**other)]
        out = self.diff(first, second)
        self.assertIn("only in B:\n  some::op.default\n    x: float64[s0, 4]", out)
        self.assertIn("winners first, second, split at [8]; 1 sizes measured", out)
        self.assertIn("sizes that were measured in A only: 64", out)
        self.assertNotIn("B only", out)
        self.assertNotIn("only in A", out)

    def test_winners(self):
        """Shown for the ranges that both have a part in."""
        moved = choice(((10,),), (0, 1))
        out = self.diff(([], [choice()]), ([], [moved]))
        self.assertExpectedInline(
            re.sub(" +", " ", out),
            """\
some::op.default
 x: float32[s0, 4] (4, 1)
 x.shape[0] is split differently:
 split points
 A [8]
 B [10]
 the winners differ:
 x.shape[0] A B
 [9, 10] second first
""",
        )

    def test_times_that_decided(self):
        """Of an older table they are means of what was measured."""
        kept = choice(decided=decided_by(((0.5, 2.0), 0.1), ((4.0, 3.0), 0.0)))
        other = choice(winners=(0, 0))
        sizes = [entry(16, (2.0, 1.0), 0.0), entry(64, (8.0, 1.0), 0.0)]
        out = self.diff((sizes, [kept]), (sizes, [other]))
        self.assertExpectedInline(
            re.sub(" +", " ", out),
            """\
some::op.default
 x: float32[s0, 4] (4, 1)
 the winners differ:
 x.shape[0] A B decided by in A decided by in B
 [9, inf] second first 3.00 ms against 4.00 ms (first) 4.00 ms against 1.00 ms (second)
 B: the table does not keep what decided: the times of ranges are geometric means of \
what was taken at the sizes in them
""",
        )

    def test_winners_of_a_grid(self):
        before = grid_choice()
        winners = (0, -1, 1, 1, 1, 0)
        names = tuple(NAMES[winner] for winner in winners)
        after = dataclasses.replace(before, winners=winners, names=names)
        out = self.diff(([], [before]), ([], [after]))
        self.assertRegex(out, r"\[0, 8\] +\[33, inf\] +cannot occur +second")
        self.assertEqual(out.count("inf]"), 1)

    def test_configs_in_another_order(self):
        """The same winner, by another number."""
        other = choice(winners=(1, 1), names=("first", "second"))
        out = self.diff(([], [choice()]), ([], [other]))
        self.assertRegex(out, r"\[0, 8\] +first \(0\) +first \(1\)")
        self.assertNotIn("[9, inf]", out)

    def test_another_environment(self):
        elsewhere = {"environment": {**HERE, "torch": "3"}}
        second = [entry(**elsewhere)], [choice(**elsewhere)]
        out = self.diff(([entry()], [choice()]), second)
        self.assertIn("the environments differ:", out)
        self.assertRegex(out, r"(?m)^ +torch +2 +3$")
        self.assertNotIn("threads", out)
        self.assertNotIn("only in", out)

    def test_the_same_environment_and_then_the_same_device_come_first(self):
        def measured(times, **environment):
            return entry(times=times, environment={**HERE, **environment})

        first = [measured((1.0, 1.0)), measured((2.0, 2.0), torch="3")]
        second = [
            measured((3.0, 3.0), device="another"),
            measured((2.0, 2.0), torch="4"),
            measured((1.0, 1.0)),
        ]
        out = self.diff((first, []), (second, []))
        self.assertRegex(out, r"(?m)^ +torch +3 +4$")
        self.assertNotIn("times that differ", out)
        self.assertIn("only in B:", out)
        self.assertEqual(out.count("another"), 1)

    def test_an_edited_source(self):
        """A new candidate, and another source under the same name."""
        candidates = entry(digests=("abc", "new")).candidates
        third = CandidateTime("third", "ghi", 0.5, 0.0)
        other = entry(candidates=(*candidates, third))
        out = self.diff(([entry()], []), ([other], []))
        self.assertIn("other sources, params or patches: second", out)
        self.assertRegex(out, r"third +0.5000")
        self.assertNotRegex(out, r"float32\[8, 4\] +(first|second)")

    def test_trouble(self):
        good = self.table("good.json")
        missing = os.path.join(self.folder, "missing.json")
        for paths in ((missing, good), (good, missing)):
            status, out, err = self.run_command("diff", *paths)
            self.assertEqual((status, out), (2, ""))
            self.assertRegex(err, r"^error: .*missing.json'\n$")


@torch.library.custom_op("command_test::add", mutates_args=())
def add(x: torch.Tensor) -> torch.Tensor:
    return x - 1


@add.register_fake
def _(x):
    return torch.empty_like(x)


@torch.library.custom_op("command_test::plus", mutates_args=())
def plus_kernel(x: torch.Tensor, k: int) -> torch.Tensor:
    return x + k


@plus_kernel.register_fake
def _(x, k):
    return torch.empty_like(x)


def plus(x, k):
    """Tells by its value which ``k`` ran; an extern kernel, quick to compile."""
    return torch.ops.command_test.plus.default(x, k)


CONFIGS = [CustomOpConfig(plus, k=k) for k in (1, 2)]


def planted(split):
    """Timing finds k=1 the fastest up to ``split`` elements, and k=2 above."""

    def time_candidates(compiled, inputs, *_):
        counters["inductor"]["sizes_timed"] += 1
        fastest = 1 if inputs[0].numel() <= split else 2
        return {
            one.candidate: Timing(
                0.001 * (1 + (one.candidate.params.get("k") != fastest)), 0.0001
            )
            for one in compiled
        }

    return mock.patch.object(timing, "time_candidates", time_candidates)


def compiled_values(shapes, **options):
    """What runs for each shape, compiled once: the value tells the candidate."""
    torch._dynamo.reset()
    options.setdefault("configs", CONFIGS)
    with (
        fresh_cache(),
        config.patch(fx_graph_cache=False),
        custom_op_autotuning(add, **options),
    ):
        compiled = torch.compile(lambda x: add(x), dynamic=True)
        return [compiled(torch.zeros(shape)).max().item() for shape in shapes]


def arguments_of(text):
    """The keyword arguments that were printed, as Python reads them."""
    return eval(f"dict(\n{text}\n)")


class ExportWinnersTest(CommandTestCase):
    def exported(self, shape, **options):
        """The printed arguments of a choice that was made by timing."""
        with planted(60):
            compiled_values([shape], **options)
        path = os.path.join(self.folder, "a.json")
        save(path)
        return self.output("export-winners", path)

    def registered(self, text, shapes, **options):
        arguments = arguments_of(text)
        counters.clear()
        with mock.patch.object(timing, "time_candidates", side_effect=AssertionError):
            ran = compiled_values(shapes, **options, **arguments)
        self.assertEqual(counters["inductor"]["sizes_timed"], 0)
        return ran

    def test_one_axis(self):
        on = {"tensor_name": "x", "dim": 0}
        text = self.exported((5, 2), dispatch_on=on, split_points=[1, 30, 100])
        self.assertIn('# dispatch_on={"tensor_name": "x", "dim": 0}\n', text)
        self.assertIn("# winners: 0 plus(k=1), 1 plus(k=2)\n", text)
        self.assertRegex(text, r"# cannot occur, .* -1 .*: \[0, 1\]\n")
        self.assertEqual(
            arguments_of(text),
            {"split_points": [1, 30, 100], "winners": [-1, 0, 1, 1]},
        )
        shapes = [(30, 2), (31, 2), (101, 2)]
        ran = self.registered(text, shapes, dispatch_on=on)
        self.assertEqual(ran, [1.0, 2.0, 2.0])

    def test_two_axes(self):
        on = [{"tensor_name": "x", "dim": 0}, {"tensor_name": "x", "dim": -1}]
        text = self.exported((5, 3), dispatch_on=on, split_points=[[4], [15, 40]])
        self.assertEqual(
            arguments_of(text),
            {"split_points": [[4], [15, 40]], "winners": [0, 1, 1, 1, 1, 1]},
        )
        self.assertIn(
            '# dispatch_on=[{"tensor_name": "x", "dim": 0}, '
            '{"tensor_name": "x", "dim": -1}]\n',
            text,
        )
        shapes = [(4, 15), (4, 16), (5, 15)]
        self.assertEqual(self.registered(text, shapes, dispatch_on=on), [1.0, 2.0, 2.0])

    def test_an_expression(self):
        on = {"size": lambda x: x[0] * x[1]}
        text = self.exported((5, 3), dispatch_on=on, split_points=[60])
        self.assertIn("a function for x.shape[0]*x.shape[1]", text)
        ran = self.registered(text, [(6, 10), (61, 2)], dispatch_on=on)
        self.assertEqual(ran, [1.0, 2.0])

    def test_found_split_points(self):
        on = {"tensor_name": "x", "dim": 0}
        text = self.exported((5, 2), dispatch_on=on, split_points="auto")
        arguments = arguments_of(text)
        (split,) = arguments["split_points"]
        self.assertTrue(28 <= split <= 32, split)
        shapes = [(split, 2), (split + 1, 2)]
        self.assertEqual(self.registered(text, shapes, dispatch_on=on), [1.0, 2.0])

    def test_one_winner(self):
        """Found to be the fastest of all sizes, and in plain autotuning."""
        on = {"tensor_name": "x", "dim": 0, "max": 16}
        for options in ({"dispatch_on": on, "split_points": "auto"}, {}):
            table_store.forget()
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(self.folder, "a.json"))
            text = self.exported((5, 2), **options)
            self.assertIn("no dispatch_on\n", text)
            self.assertEqual(arguments_of(text), {"winners": [0]})
            self.assertEqual(self.registered(text, [(5, 2), (80, 2)]), [1.0, 1.0])

    def test_times_that_decided(self):
        decided = decided_by(((0.5, 2.0), 0.1), ((4.0, 3.0), 0.0))
        path = self.table("a.json", [entry(8)], [choice(decided=decided)])
        text = self.output("export-winners", path)
        for line in (
            "[0, 8] first: 0.500 ms ±0.100 against 2.00 ms ±0.10 (second)",
            "[9, inf] second: 3.00 ms against 4.00 ms (first)",
        ):
            self.assertIn(f"\n# {line}\n", text)
        path = self.table("b.json", [entry(8)], [choice()])
        text = self.output("export-winners", path)
        self.assertIn("[0, 8] first: 1.00 ms ±0.10 against 2.00 ms ±0.10", text)
        self.assertIn("\n# the table does not keep what decided: ", text)

    def test_several_choices(self):
        other = {"op": "other::op.default"}
        path = self.table("a.json", [], [choice(), choice(**other), grid_choice()])
        text = self.output("export-winners", path)
        blocks = text.split("\n\n")
        self.assertEqual(len(blocks), 3)
        winners = sorted(arguments_of(one)["winners"] for one in blocks)
        self.assertEqual(winners, [[0, -1, -1, 1, 1, 0], [0, 1], [0, 1]])
        for name in ("other::op", "other.op", "other::op.default"):
            (one,) = self.output("export-winners", path, "--op", name).split("\n\n")
            self.assertIn("# other::op.default\n", one)

    def test_nothing_to_export(self):
        path = self.table("a.json", [entry()])
        status, out, err = self.run_command("export-winners", path)
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(err, f"error: {path} has no choices\n")
        path = self.table("b.json", [], [choice()])
        status, _, err = self.run_command("export-winners", path, "--op", "other::op")
        self.assertEqual(status, 1)
        self.assertEqual(
            err, f"error: {path} has no choice of other::op; it has some::op.default\n"
        )


SCRIPT = """
import os, sys
import torch
import beside
from torch._inductor.kernel.custom_op import CustomOpConfig, register_custom_op_autotuning

ops = []
for name in ("called", "idle"):
    op = torch.library.custom_op(
        f"command_test_script::{name}_{sys.argv[1]}",
        lambda x: x.sin(), mutates_args=(), schema="(Tensor x) -> Tensor")
    op.register_fake(torch.empty_like)
    register_custom_op_autotuning(
        op,
        configs=[CustomOpConfig(beside.once)],
        dispatch_on={"tensor_name": "x", "dim": 0, "range_upper_bound": 64},
        split_points=[8],
    )
    ops.append(op)
called, idle = ops
if sys.argv[2] != "nothing":
    torch.compile(lambda x: called(x), dynamic=True)(torch.randn(5))
if sys.argv[2] == "fail":
    raise RuntimeError("no such\\nthing")
if sys.argv[2] == "interrupt":
    raise KeyboardInterrupt
if sys.argv[2] == "exit":
    sys.exit(3)
"""

BESIDE = """
import torch

def once(x):
    return torch.ops.command_test.plus.default(x, 1)
"""


class TuneTestCase(CommandTestCase):
    SCRIPT = SCRIPT

    def setUp(self):
        super().setUp()
        self.script = os.path.join(self.folder, "train.py")
        with open(self.script, "w") as file:
            file.write(self.SCRIPT)
        with open(os.path.join(self.folder, "beside.py"), "w") as file:
            file.write(BESIDE)
        self.default = os.path.join(self.folder, "train.tuning.json")
        self.addCleanup(sys.modules.pop, "beside", None)

    def tune(self, how, *options, name=None, **others):
        torch._dynamo.reset()
        if name is None:
            name = f"{self._testMethodName}_{len(os.listdir(self.folder))}"
        self.addCleanup(self.unregister, name)
        path, argv = [*sys.path], sys.argv
        found = self.run_command("tune", *options, self.script, name, how, **others)
        self.assertEqual((sys.path, sys.argv), (path, argv))
        return found

    def unregister(self, name):
        for op in ("called", "idle"):
            namespace = torch.ops.command_test_script
            with contextlib.suppress(AttributeError, KeyError):
                op = getattr(namespace, f"{op}_{name}").default
                unregister_custom_op_autotuning(op)


class TuneTest(TuneTestCase):
    def test_table_and_summary(self):
        status, out, err = self.tune("call")
        self.assertEqual(status, 0)
        self.assertNotIn("error", err)  # torch may warn that it uses no cache
        self.assertEqual(len(read_table(self.default).entries), 4)
        self.assertEqual(len(read_table(self.default).choices), 1)
        self.assertRegex(out, r"(?m)^command_test_script.called_.*_autotuned\)$")
        self.assertRegex(out, r"(?m)^  \[0, 8\] +(once|fallback) +[\d.]+ ")
        self.assertRegex(out, r"(?m)^  \[9, inf\] +(once|fallback) +[\d.]+ ")
        (note,) = re.findall("note: .*", out)
        self.assertRegex(note, r"idle_\w+.default is .*the script must call it")
        self.assertTrue(out.endswith(f"\n{self.default}: 4 sizes measured\n"))

    def test_a_given_table_and_a_terminal(self):
        """Where what came out is told once, at the end."""
        out = os.path.join(self.folder, "tables", "a.json")
        terminal, stderr = Terminal(), Terminal()
        with (
            mock.patch.dict(os.environ, {"CI": ""}),
            mock.patch.object(progress, "SECONDS_BEFORE_SHOWN", 0.0),
        ):
            status, _, _ = self.tune("call", "--out", out, out=terminal, err=stderr)
        self.assertEqual(status, 0)
        self.assertIn("tuning command_test_script::called", stderr.text())
        self.assertNotIn("winner", stderr.text())
        self.assertIn("winner", terminal.text())
        self.assertEqual(len(read_table(out).entries), 4)
        self.assertFalse(os.path.exists(self.default))
        self.assertIn("─", terminal.text())

    def test_nothing_tuned(self):
        status, out, _ = self.tune("nothing")
        self.assertEqual(status, 1)
        self.assertEqual(out.count("note: "), 2)
        self.assertIn("0 sizes measured", out)

    def test_a_script_that_fails_keeps_what_was_measured(self):
        for how, message in (
            ("fail", "failed: RuntimeError"),
            ("exit", "ended with 3"),
            ("interrupt", "was interrupted"),
        ):
            table_store.forget()
            status, _, err = self.tune(how, "--out", self.default + how)
            self.assertEqual(status, 1)
            last = err.splitlines()[-1]
            self.assertTrue(last.startswith(f"error: {self.script} {message}"), last)
            self.assertEqual(len(read_table(self.default + how).entries), 4)

    def test_nothing_is_run_if_the_table_cannot_be_written(self):
        out = os.path.join(self.script, "a.json")  # in what is no folder
        status, text, err = self.tune("fail", "--out", out)
        self.assertEqual((status, text), (1, ""))
        self.assertRegex(err, r"^error: .*train.py'\n$")

    def test_nothing_is_run_if_the_table_is_none(self):
        with open(self.default, "w") as file:
            file.write("{")
        status, out, err = self.tune("fail")
        self.assertEqual((status, out), (1, ""))
        self.assertRegex(err, rf"^error: {self.default} is no tuning table: .*\n$")

    def test_a_script_that_is_missing(self):
        missing = os.path.join(self.folder, "missing.py")
        status, _, err = self.run_command("tune", missing)
        self.assertEqual(status, 1)
        self.assertRegex(err, r"^error: .*missing.py'\n$")
        self.assertEqual({*os.listdir(self.folder)}, {"train.py", "beside.py"})


RESUMED = """
import sys
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
    op, configs=[CustomOpConfig(once)], dispatch_on=on, split_points=split_points)
for dtype in (torch.float32, torch.float64):
    compiled = torch.compile(lambda x: op(x), dynamic=True)
    compiled(torch.randn(5, 7, dtype=dtype))
"""


class ResumeTest(TuneTestCase):
    """A ``tune`` that goes on with the table of one before."""

    SCRIPT = RESUMED

    def planted(self, then=lambda count: None):
        """Takes down what is timed, calls ``then`` with how much, and times nothing."""

        def time_candidates(compiled, inputs, *_):
            (x,) = (one for one in inputs if isinstance(one, torch.Tensor))
            then(len(self.timed))
            self.timed.append((*x.shape, x.dtype))
            return {
                one.candidate: Timing(
                    0.001 * (1 + (one.candidate.is_fallback == (x.shape[0] <= 20)))
                )
                for one in compiled
            }

        return mock.patch.object(timing, "time_candidates", time_candidates)

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
        with mock.patch.object(tune_table, "SECONDS_BETWEEN_WRITES", -1.0):
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
            mock.patch.object(tune_table, "merge_into_file", failing),
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
        tune = ["-m", "torch._inductor.range_dispatch", "tune", self.script]
        done = subprocess.run([sys.executable, *tune, "killed", ""], timeout=300)
        self.assertEqual(done.returncode, -signal.SIGKILL)
        found = read_table(self.default)
        self.assertEqual((len(found.entries), len(found.choices)), (4, 1))


class LazyCommandTest(CommandTestCase):
    def with_module(self, name, **functions):
        module = types.ModuleType(name)
        vars(module).update(functions)
        qualified = f"torch._inductor.range_dispatch.{name}"
        return mock.patch.dict(sys.modules, {qualified: module})

    def test_report(self):
        def write_report(path, out, counts):
            self.assertEqual(counts, [])
            return [f"{out}/{path}.svg", f"{out}/index.html"]

        with self.with_module("report", write_report=write_report):
            out = self.output("report", "a.json", "--out", "pages")
        self.assertEqual(out, "pages/a.json.svg\npages/index.html\n")

    def test_suggest(self):
        with self.with_module("suggesting", suggest_file=lambda path: f"of {path}"):
            self.assertEqual(self.output("suggest", "counts.json"), "of counts.json\n")

    def test_errors_are_one_line_that_names_the_file(self):
        for error, message in (
            (ValueError("no counts\nat all"), "counts.json: no counts at all"),
            (ValueError("counts.json is empty"), "counts.json is empty"),
            (ImportError("pip install matplotlib"), "pip install matplotlib"),
        ):
            failing = mock.Mock(side_effect=error)
            with self.with_module("suggesting", suggest_file=failing):
                found = self.run_command("suggest", "counts.json")
            self.assertEqual(found, (1, "", f"error: {message}\n"))


class ProgramTest(CommandTestCase):
    def test_an_encoding_without_all_characters(self):
        path = self.table("a.json", [entry()])
        encoded = io.BytesIO()
        with io.TextIOWrapper(encoded, "ascii", write_through=True) as out:
            with contextlib.redirect_stdout(out):
                self.assertEqual(command.main(["show", path]), 0)
            self.assertIn(b"1.000 \\xb10.100", encoded.getvalue())

    @pytest.mark.slow  # a process
    def test_it_is_a_program_whose_reader_may_leave(self):
        path = self.table("a.json", [entry(size) for size in range(1000)], [choice()])
        read, write_end = os.pipe()
        os.close(read)
        with os.fdopen(write_end, "w") as closed:
            done = subprocess.run(
                [sys.executable, "-m", "torch._inductor.range_dispatch", "show", path],
                stdout=closed,
                stderr=subprocess.PIPE,
                text=True,
            )
        self.assertEqual((done.returncode, done.stderr), (1, ""))


class TerminalTest(CommandTestCase):
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
            with mock.patch.dict(sys.modules, {"rich.progress": None}):
                self.assertEqual(self.tuned(Terminal()).getvalue(), "")

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


class LogTest(CommandTestCase):
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
