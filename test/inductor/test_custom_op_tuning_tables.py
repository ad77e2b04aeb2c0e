# Owner(s): ["module: inductor"]
"""Tables of what candidates take: written, read, merged, and compiled with."""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import signal
import tempfile
from unittest import mock

import pytest
from hypothesis import given, settings, strategies

import torch
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch import load, save, tune_into
from torch._inductor.range_dispatch.benchmark import timing
from torch._inductor.range_dispatch.benchmark.timing import Timing
from torch._inductor.range_dispatch.cache import call_tables, table_store
from torch._inductor.range_dispatch.cache.tables import (
    CandidateTime,
    Choice,
    Decided,
    Entry,
    merge_into_file,
    read_table,
    TableError,
    TuningTable,
)
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import fresh_cache


def entry(number=0, milliseconds=1.0):
    return Entry(
        op=f"some::op{number}",
        schema="some::op(Tensor x) -> Tensor",
        environment={"torch": "2", "device": "one"},
        call="x: float32[s0] (1)",
        axes=("x.shape[0]",),
        operands="[[], []]",
        sizes=(number,),
        candidates=(
            CandidateTime("first", "abc", milliseconds, 0.1),
            CandidateTime("second", "def", None, 0.0),
        ),
    )


def choice(number=0, winners=(0, -1, None, 0, 0, 0)):
    """Two sizes of two and three ranges, and a cell that cannot occur."""
    names = {0: "first", 1: "second", -1: "fallback", None: None}
    return Choice(
        op=f"some::op{number}",
        schema="some::op(Tensor x) -> Tensor",
        environment={"torch": "2", "device": "one"},
        call="x: float32[s0, s1] (s1, 1)",
        axes=("x.shape[0]", "x.shape[1]"),
        split_points=((8,), (16, 32)),
        winners=winners,
        names=tuple(names[winner] for winner in winners),
    )


class TableTestCase(TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = os.path.join(folder.name, "tables", "table é.json")
        table_store.forget()
        self.addCleanup(table_store.forget)


def write_entries(path, numbers, ready):
    ready.wait()
    for number in numbers:
        merge_into_file(path, TuningTable.of([entry(number)]))


class TableFileTest(TableTestCase):
    def test_round_trip_and_merge(self):
        merge_into_file(self.path, TuningTable.of([entry(1), entry(2)]))
        merge_into_file(self.path, TuningTable.of([entry(2, 7.0), entry(3)]))
        found = read_table(self.path).entries
        expected = TuningTable.of([entry(1), entry(2, 7.0), entry(3)])
        self.assertEqual(found, expected.entries)
        self.assertEqual(
            {*os.listdir(os.path.dirname(self.path))},
            {"table é.json", "table é.json.lock"},
        )

    def test_choices_round_trip_and_merge(self):
        other = (1, 1, None, 1, -1, 0)
        merge_into_file(self.path, TuningTable.of([entry(1)], [choice(1), choice(2)]))
        merge_into_file(self.path, TuningTable.of([], [choice(2, other), choice(3)]))
        found = read_table(self.path)
        expected = TuningTable.of([entry(1)], [choice(1), choice(2, other), choice(3)])
        self.assertEqual(found, expected)

    def test_what_decided_round_trips(self):
        """A table without it, as they were written before, can be read as well."""
        one = Decided({"first": 1.0, "second": 2.5}, {"first": 0.0, "second": 0.25})
        none = Decided({}, {}, "not timed: for a reason", (4, None))
        two = dataclasses.replace(one, guess=(4, 2048))
        kept = dataclasses.replace(choice(1), decided=(one, two, None, none, one, one))
        merge_into_file(self.path, TuningTable.of([], [kept, choice(2)]))
        self.assertEqual(read_table(self.path), TuningTable.of([], [kept, choice(2)]))
        with open(self.path, encoding="utf-8") as file:
            content = json.load(file)
        for raw in content["choices"]:
            del raw["decided"]
        with open(self.path, "w", encoding="utf-8") as file:
            json.dump(content, file)
        self.assertEqual(
            read_table(self.path), TuningTable.of([], [choice(1), choice(2)])
        )

    def test_choices_of_other_calls_stay(self):
        """Of another call, of other axes, and of another environment."""
        choices = [
            choice(),
            dataclasses.replace(choice(), call="x: float64[s0, s1] (s1, 1)"),
            dataclasses.replace(choice(), axes=("x.shape[0]", "x.shape[2]")),
            dataclasses.replace(choice(), environment={"torch": "3"}),
        ]
        for one in choices:
            merge_into_file(self.path, TuningTable.of([], [one]))
        self.assertEqual(read_table(self.path), TuningTable.of([], choices))
        self.assertEqual(len(read_table(self.path).choices), 4)

    def test_what_is_no_table_is_an_error_and_stays(self):
        good = TuningTable.of([entry()], [choice()])
        merge_into_file(self.path, good)
        with open(self.path, encoding="utf-8") as file:
            content = json.load(file)
        (raw,) = content["entries"]
        (raw_choice,) = content["choices"]
        candidate = raw["candidates"][0]

        def with_candidate(**changes):
            return {"entries": [{**raw, "candidates": [{**candidate, **changes}]}]}

        def with_choice(**changes):
            return {"choices": [{**raw_choice, **changes}]}

        def with_decided(**changes):
            one = {"milliseconds": {"first": 1.0}, "noise": {"first": 0.1}, **changes}
            return with_choice(decided=[one, *[None] * 5])

        no_winners = {k: v for k, v in raw_choice.items() if k != "winners"}

        for changes, message in (
            ({"version": 1}, "of version 1, this is 2"),
            ({"version": 3}, "of version 3, this is 2"),
            ({"version": None}, "of version None"),
            ({"format": "other"}, "its format is not"),
            ({"entries": {}}, "'entries' must be a list"),
            ({"entries": [3]}, r"entries\[0\]"),
            ({"entries": [{**raw, "candidates": []}]}, "candidates is empty"),
            ({"entries": [{**raw, "sizes": ["8"]}]}, "sizes is '8'"),
            ({"entries": [{**raw, "sizes": 8}]}, "sizes is 8"),
            ({"entries": [{**raw, "axes": [0]}]}, "axes is 0"),
            ({"entries": [{**raw, "call": None}]}, "call is None"),
            ({"entries": [{**raw, "operands": "[]"}]}, r"entries\[0\]"),
            ({"entries": [{**raw, "environment": {"torch": 2}}]}, "environment is 2"),
            (with_candidate(milliseconds=0), "milliseconds is 0"),
            (with_candidate(milliseconds=True), "milliseconds is True"),
            (with_candidate(milliseconds=float("nan")), "milliseconds is nan"),
            (with_candidate(noise=-1.0), "noise is -1.0"),
            (with_candidate(digest=None), "digest is None"),
            ({"choices": None}, "'choices' must be a list"),
            ({"choices": ["one"]}, r"choices\[0\]"),
            ({"choices": [raw_choice, no_winners]}, r"choices\[1\].*winners"),
            (with_choice(winners=[0] * 5), r"choices\[0\].*for 6 cells"),
            (with_choice(winners=[0] * 7), "for 6 cells"),
            (with_choice(names=["first"] * 5), "for 6 cells"),
            (with_choice(split_points=[[8], [16]]), "for 4 cells"),
            (with_choice(split_points=[8, 16]), "split_points is 8"),
            (with_choice(split_points=[["8"], [16, 32]]), "split_points is '8'"),
            (with_choice(winners=["0"] * 6), "winners is '0'"),
            (with_choice(winners=[True] * 6), "winners is True"),
            (with_choice(names=[1] * 6), "names is 1"),
            (with_choice(op=3), "op is 3"),
            (with_choice(decided={}), "decided is {}"),
            (with_choice(decided=[None] * 5), "decided has 5 for 6 cells"),
            (with_decided(milliseconds={"first": 0}), "milliseconds is 0"),
            (with_decided(milliseconds={"other": 1.0}), "noise is {'first': 0.1} for"),
            (with_decided(noise={"first": -1.0}), "noise is -1.0"),
            (with_decided(untimed=3), "untimed is 3"),
            (with_decided(guess=[4]), r"choices\[0\].*unpack"),
            (with_decided(guess=[None, 8]), "guess is None"),
            (with_decided(guess=[4, "8"]), "guess is '8'"),
            (with_choice(environment=[]), r"environment is \[\]"),
        ):
            text = json.dumps({**content, **changes})
            with open(self.path, "w") as file:
                file.write(text)
            for action in (
                lambda: read_table(self.path),
                lambda: load(self.path),
                lambda: merge_into_file(self.path, good),
            ):
                with self.assertRaisesRegex(TableError, message):
                    action()
            with open(self.path) as file:
                self.assertEqual(file.read(), text)
        with self.assertRaises(FileNotFoundError):
            load(self.path + ".missing")

    @settings(max_examples=200, deadline=None)
    @given(strategies.data())
    def test_any_damage_is_an_error_or_no_damage(self, data):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "table.json")
            merge_into_file(path, TuningTable.of([entry(1)], [choice(2)]))
            with open(path, "rb") as file:
                content = bytearray(file.read())
            if data.draw(strategies.booleans()):
                del content[data.draw(strategies.integers(0, len(content) - 1)) :]
            else:
                place = data.draw(strategies.integers(0, len(content) - 1))
                content[place] = data.draw(strategies.integers(0, 255))
            with open(path, "wb") as file:
                file.write(content)
            with contextlib.suppress(TableError):
                table = read_table(path)
                for one in table.entries.values():
                    self.assertGreater(one.candidates[0].milliseconds, 0)
                for one in table.choices.values():
                    self.assertEqual(len(one.winners), 6)

    def test_a_failed_write_leaves_what_was_there(self):
        merge_into_file(self.path, TuningTable.of([entry(1)]))
        with mock.patch("os.replace", side_effect=OSError("no space left")):
            with self.assertRaisesRegex(OSError, "no space left"):
                merge_into_file(self.path, TuningTable.of([entry(2)]))
        self.assertEqual(len(read_table(self.path).entries), 1)
        self.assertEqual(len(os.listdir(os.path.dirname(self.path))), 2)

    def test_eight_writers_some_killed(self):
        context = multiprocessing.get_context("fork")
        ready = context.Event()
        writers = [
            context.Process(
                target=write_entries,
                args=(self.path, range(1000 * i, 1000 * i + count), ready),
            )
            # The first ones would write for long: they are killed while they do.
            for i, count in enumerate([999] * 3 + [12] * 5)
        ]
        for one in writers:
            one.start()
        ready.set()
        for one in writers[:3]:
            one.join(0.05)
            os.kill(one.pid, signal.SIGKILL)
        for one in writers:
            one.join()
        found = {one.sizes[0] for one in read_table(self.path).entries.values()}
        for i in range(3, 8):
            self.assertLessEqual({*range(1000 * i, 1000 * i + 12)}, found)
        for i in range(3):
            # What a killed one wrote is what it wrote first.
            own = sorted(size - 1000 * i for size in found if size // 1000 == i)
            self.assertLess(len(own), 999)
            self.assertEqual(own, [*range(len(own))])


@torch.library.custom_op("table_test::add", mutates_args=())
def add(x: torch.Tensor) -> torch.Tensor:
    return x - 1


@add.register_fake
def _(x):
    return torch.empty_like(x)


def plus(x, k):
    """Tells by its value which ``k`` ran."""
    return x + k


def model(x):
    return add(x)


def planted(split):
    """Timing finds k=1 the fastest up to ``split``, and k=2 above."""

    def time_candidates(compiled, inputs, *_):
        counters["inductor"]["sizes_timed"] += 1
        fastest = 1 if inputs[0].shape[0] <= split else 2
        return {
            one.candidate: Timing(
                0.001 * (1 + (one.candidate.params.get("k") != fastest))
            )
            for one in compiled
        }

    return mock.patch.object(timing, "time_candidates", time_candidates)


@pytest.mark.smoke
class CompileWithTablesTest(TableTestCase):
    def setUp(self):
        super().setUp()
        stack = contextlib.ExitStack()
        stack.enter_context(config.patch(fx_graph_cache=False))
        self.addCleanup(stack.close)

    def compile(self, split, sizes=(5,), implementation=plus, **options):
        """Compile without a cache; the k that ran at each size, and the record."""
        options.setdefault("split_points", [8])
        options.setdefault("dispatch_on", {"tensor_name": "x", "dim": 0})
        torch._dynamo.reset()
        counters.clear()
        configs = [CustomOpConfig(implementation, k=k) for k in (1, 2)]
        with (
            fresh_cache(),
            planted(split),
            custom_op_autotuning(add, configs=configs, **options),
            record_dispatches() as records,
        ):
            compiled = torch.compile(model, dynamic=True)
            ran = {n: compiled(torch.zeros(n)).max().item() for n in sizes}
        return ran, records[0]

    def timed(self):
        return counters["inductor"]["sizes_timed"]

    def measured_table(self, **options):
        """A file with what was measured, in a process that forgets it."""
        _, record = self.compile(split=8, **options)
        self.assertGreater(self.timed(), 0)
        self.assertEqual(save(self.path), self.timed())
        table_store.forget()
        return record

    def test_nothing_is_timed_with_a_table(self):
        record = self.measured_table()
        load(self.path)
        # Timing would find k=1 everywhere.
        ran, again = self.compile(split=10**6, sizes=(5, 8, 9))
        self.assertEqual(ran, {5: 1.0, 8: 1.0, 9: 2.0})
        self.assertEqual(again, record)
        self.assertEqual(self.timed(), 0)
        self.assertEqual(counters["inductor"]["custom_op_candidates_compiled"], 0)
        self.assertEqual(counters["inductor"]["custom_op_tuning_table_hit"], 4)

    def test_found_split_points(self):
        record = self.measured_table(split_points="auto")
        load(self.path)
        ran, again = self.compile(10**6, (5, 8, 9), split_points="auto")
        self.assertEqual(ran, {5: 1.0, 8: 1.0, 9: 2.0})
        self.assertEqual(again.ranges, record.ranges)
        self.assertEqual(self.timed(), 0)

    def test_sizes_that_a_table_has_not_are_timed(self):
        self.measured_table(sizes_per_range=1)
        load(self.path)
        self.compile(split=8)
        self.assertEqual(self.timed(), 2)

    def test_folders(self):
        self.measured_table()
        other = os.path.join(self.folder, "other")
        os.mkdir(other)
        for path in (
            os.path.dirname(self.path),
            self.path,
            os.pathsep.join([other, os.path.dirname(self.path)]),
        ):
            with config.patch({"range_dispatch.table_path": path}):
                ran, _ = self.compile(split=10**6, sizes=(5, 9))
            self.assertEqual(ran, {5: 1.0, 9: 2.0})
            self.assertEqual(self.timed(), 0)
        with mock.patch.object(table_store, "BUNDLED", os.path.dirname(self.path)):
            self.compile(split=10**6)
        self.assertEqual(self.timed(), 0)

    def test_the_folder_of_an_installation(self):
        package = os.path.dirname(torch._inductor.range_dispatch.__file__)
        self.assertEqual(table_store.BUNDLED, os.path.join(package, "tables"))

    def test_files_that_are_no_tables_are_ignored(self):
        folder = os.path.dirname(self.path)
        self.measured_table()
        with open(self.path) as file:
            text = file.read()
        for number, damaged in enumerate(
            (text[:100], "", text.replace('"version": 2', '"version": 3'))
        ):
            path = os.path.join(folder, f"a{number}.json")
            with open(path, "w") as file:
                file.write(damaged)
            with (
                config.patch({"range_dispatch.table_path": path}),
                self.assertLogs("torch._inductor.range_dispatch", "WARNING") as logs,
            ):
                self.compile(split=8)
            self.assertIn(f"a{number}.json", logs.output[0])
            self.assertEqual(len(logs.output), 1)
            self.assertEqual(self.timed(), 4)
        # Beside a good one, too.
        with config.patch({"range_dispatch.table_path": folder}):
            self.compile(split=10**6)
        self.assertEqual(self.timed(), 0)

    def test_another_environment(self):
        here = call_tables.describe_environment(torch.device("cpu"))
        self.measured_table()
        load(self.path)

        def elsewhere(**changes):
            return mock.patch.object(
                call_tables, "describe_environment", lambda _: {**here, **changes}
            )

        with elsewhere(torch="1.0"):
            with self.assertLogs("torch._inductor.range_dispatch", "WARNING") as logs:
                ran, _ = self.compile(split=10**6, sizes=(5, 9))
            self.assertIn("near_tables", logs.output[0])
            self.assertEqual((ran, self.timed()), ({5: 1.0, 9: 2.0}, 0))
            with config.patch({"range_dispatch.near_tables": "use"}):
                with self.assertNoLogs("torch._inductor.range_dispatch", "WARNING"):
                    self.compile(split=10**6)
                self.assertEqual(self.timed(), 0)
            with config.patch({"range_dispatch.near_tables": "ignore"}):
                self.compile(split=10**6)
                self.assertEqual(self.timed(), 4)
            with config.patch({"range_dispatch.near_tables": "maybe"}):
                with self.assertRaisesRegex(Exception, "near_tables must be one of"):
                    self.compile(split=10**6)
        with elsewhere(device="another"):
            self.compile(split=10**6)
            self.assertEqual(self.timed(), 4)

    def test_another_implementation(self):
        self.measured_table()
        load(self.path)
        self.compile(split=8, implementation=lambda x, k: x + k + 0)
        self.assertEqual(self.timed(), 4)

    def test_one_op_is_saved(self):
        self.compile(split=8)
        self.assertEqual(save(self.path, op=torch.ops.aten.mm.default), 0)
        self.assertEqual(save(self.path, op=add), 4)
        ops = {one.op for one in read_table(self.path).entries.values()}
        self.assertEqual(ops, {"table_test.add.default"})

    def saved_choices(self, **options):
        _, record = self.compile(split=8, **options)
        save(self.path)
        return record, [*read_table(self.path).choices.values()]

    def test_the_choice_is_saved(self):
        record, (found,) = self.saved_choices(split_points=[8, 64])
        self.assertEqual(found.op, "table_test.add.default")
        self.assertEqual(found.schema, str(add._opoverload._schema))
        self.assertEqual(found.call, record.call)
        self.assertEqual(found.axes, ("x.shape[0]",))
        self.assertEqual(found.split_points, ((8, 64),))
        self.assertEqual(found.winners, (0, 1, 1))
        self.assertEqual(found.names, ("plus(k=1)", "plus(k=2)", "plus(k=2)"))
        (entry,) = {(e.call, e.axes) for e in read_table(self.path).entries.values()}
        self.assertEqual(entry, (found.call, found.axes))

    def test_what_decided_is_saved(self):
        for options in (
            {"split_points": [8, 64]},
            {"split_points": "auto"},
            {"split_points": None, "dispatch_on": None},
            {"split_points": [8], "size_weights": {4: 3, 20: 1}},
        ):
            table_store.forget()
            record, choices = self.saved_choices(**options)
            self.assertEqual(
                [(one.milliseconds, one.noise) for one in choices[-1].decided],
                [(row.milliseconds, row.noise) for row in record.ranges],
            )
            self.assertTrue(all(one.milliseconds for one in choices[-1].decided))
            os.remove(self.path)

    def test_the_choice_among_found_ranges_is_saved(self):
        record, (found,) = self.saved_choices(split_points="auto")
        ends = tuple(row.size_range.end for row in record.ranges)
        self.assertEqual(found.split_points, (ends[:-1],))
        self.assertEqual(found.winners, (0, 1))
        self.assertEqual(found.names, ("plus(k=1)", "plus(k=2)"))

    def test_the_choice_of_plain_autotuning_is_saved(self):
        _, (found,) = self.saved_choices(split_points=None, dispatch_on=None)
        self.assertEqual((found.axes, found.split_points), ((), ()))
        self.assertEqual((found.winners, found.names), ((0,), ("plus(k=1)",)))
        entries = read_table(self.path).entries.values()
        self.assertEqual({(e.axes, e.sizes) for e in entries}, {((), ())})

    def test_a_cell_that_cannot_occur_has_no_winner(self):
        """A dynamic size is 2 at least."""
        _, (found,) = self.saved_choices(split_points=[1, 8])
        self.assertEqual(found.winners, (None, 0, 1))
        self.assertEqual(found.names[0], None)

    def test_choices_of_one_op_are_saved(self):
        self.compile(split=8)
        save(self.path, op=torch.ops.aten.mm.default)
        self.assertEqual(read_table(self.path).choices, {})
        save(self.path, op=add)
        self.assertEqual(len(read_table(self.path).choices), 1)

    def test_graphs_cached_before_a_table_was_loaded(self):
        self.measured_table()
        configs = [CustomOpConfig(plus, k=k) for k in (1, 2)]
        on = {"tensor_name": "x", "dim": 0}

        def run():
            torch._dynamo.reset()
            compiled = torch.compile(model, dynamic=True)
            return [compiled(torch.zeros(n)).max().item() for n in (5, 9)]

        with (
            fresh_cache(),
            config.patch(fx_graph_cache=True),
            planted(10**6),
            custom_op_autotuning(
                add, configs=configs, dispatch_on=on, split_points=[8]
            ),
        ):
            self.assertEqual(run(), [1.0, 1.0])
            load(self.path)
            self.assertEqual(run(), [1.0, 2.0])


class TuneIntoTest(TableTestCase):
    def compile(self, **options):
        torch._dynamo.reset()
        on = {"tensor_name": "x", "dim": 0, "range_upper_bound": 64}
        with (
            planted(8),
            custom_op_autotuning(
                add,
                configs=[CustomOpConfig(plus, k=k) for k in (1, 2)],
                dispatch_on=on,
                split_points=[8],
                tuning_seconds=120.0,
            ),
            tune_into(self.path, **options) as session,
        ):
            torch.compile(model, dynamic=True)(torch.zeros(5))
        return session

    def test_what_is_measured_is_in_the_file_and_taken_from_it(self):
        session = self.compile()
        found = read_table(self.path)
        self.assertEqual((session.measured, session.taken), (4, 0))
        self.assertFalse(session.has_something_to_take)
        self.assertEqual((len(found.entries), len(found.choices)), (4, 1))
        (record,) = session.records
        (choice,) = found.choices.values()
        self.assertEqual([row.cell for row in record.ranges], [*choice.cells])
        session = self.compile()
        self.assertEqual((session.measured, session.taken), (0, 4))
        self.assertTrue(session.has_something_to_take)
        session = self.compile(is_fresh=True)
        self.assertEqual((session.measured, session.taken), (4, 0))

    def test_ops_that_were_registered_and_never_tuned(self):
        with tune_into(self.path) as session:
            self.assertEqual(session.never_tuned, [])
            with custom_op_autotuning(add, configs=[CustomOpConfig(plus, k=1)]):
                self.assertEqual(session.never_tuned, [str(add._opoverload)])

    def test_what_is_no_table_is_refused_before_anything_runs(self):
        os.mkdir(os.path.dirname(self.path))
        with open(self.path, "w") as file:
            file.write("{")
        with self.assertRaisesRegex(TableError, "is not a tuning table"):
            with tune_into(self.path):
                self.fail("it began")

    def test_what_contradicts_its_axes_is_refused(self):
        for part, message in (
            (dataclasses.replace(entry(), sizes=(1, 2)), "sizes are"),
            (dataclasses.replace(choice(), axes=("x.shape[0]",)), "split_points has 2"),
            (dataclasses.replace(choice(), split_points=((8,), (9, 3))), "ascend"),
        ):
            is_entry = isinstance(part, Entry)
            table = TuningTable.of(*(([part],) if is_entry else ([], [part])))
            path = f"{self.path}{message}"
            merge_into_file(path, table)
            with self.assertRaisesRegex(TableError, message):
                read_table(path)


if __name__ == "__main__":
    run_tests()
