# Owner(s): ["module: inductor"]
"""Reports of tuning tables: their numbers, pictures and page, also in a browser."""

import contextlib
import dataclasses
import html.parser
import io
import itertools
import json
import os
import re
import sys
import tempfile
import unittest
from unittest import mock

import matplotlib.image
import pytest
from _headless_browser import Browser, find_browser

import torch
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch import (
    __main__ as command,
    report,
    report_pictures,
    reset_counts,
    save,
    save_counts,
)
from torch._inductor.range_dispatch.cache import table_store
from torch._inductor.range_dispatch.cache.tables import (
    CandidateTime,
    Choice,
    Decided,
    Entry,
    merge_into_file,
    TableError,
    TuningTable,
)
from torch._inductor.range_dispatch.plan.decisions import decide, Leaf
from torch._inductor.range_dispatch.plan.ranges import cell_of
from torch._inductor.range_dispatch.record.live_counting import LiveCount
from torch._inductor.range_dispatch.report_data import (
    box_text,
    calls_of,
    leaves_of,
    percent,
    read_calls,
    summary,
    tree_text,
    winner_grid,
)
from torch._inductor.range_dispatch.report_pictures import (
    looks_of,
    pictures_of,
    PicturesUnavailable,
    shown,
)
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import fresh_cache


HERE = {"torch": "2", "device": "one", "driver": ""}
AXIS = ("x.shape[1]",)
TWO = ("x.shape[0]", "y.shape[0]")
THREE = (*TWO, "x.shape[1]*x.shape[2]")


def entry(sizes, times, axes=AXIS, op="some.op.default", environment=HERE, other=0):
    """What candidates took: milliseconds by name, None for one that failed."""
    candidates = tuple(
        CandidateTime(name, f"of {name}", ms, 0.1 * (ms or 0))
        for name, ms in times.items()
    )
    operands = json.dumps([[], [*sizes, other]])
    call = "x: float32[s0, s1] (s1, 1)"
    return Entry(
        op, "schema", environment, call, axes, operands, tuple(sizes), candidates
    )


def choice(
    split_points, winners, names, axes=AXIS, op="some.op.default", environment=HERE
):
    call = "x: float32[s0, s1] (s1, 1)"
    return Choice(
        op,
        "schema",
        environment,
        call,
        axes,
        tuple(split_points),
        tuple(winners),
        tuple(names),
    )


def crossing(**how):
    """Two candidates that cross between 10 and 100, and one that fails at 1000."""
    times = {
        1: {"short": 1.0, "long": 3.0, "flaky": 2.0},
        10: {"short": 2.0, "long": 3.0, "flaky": 4.0},
        100: {"short": 8.0, "long": 4.0, "flaky": 5.0},
        1000: {"short": 20.0, "long": 5.0, "flaky": None},
    }
    return [entry([size], taken, **how) for size, taken in times.items()]


def only_call(entries, *choices):
    (call,) = calls_of(TuningTable.of(entries, choices))
    return call


def split_at_ten(**how):
    return choice([[10]], [0, 1], ["short", "long"], **how)


class ReportDataTest(TestCase):
    def test_losses(self):
        call = only_call(crossing(), choice([[50]], [0, 1], ["short", "long"]))
        self.assertEqual(call.names, ("short", "long", "flaky"))
        self.assertEqual([p.sizes for p in call.points], [(1,), (10,), (100,), (1000,)])
        self.assertEqual(call.dispatch_loss, 0.0)
        # short loses 0, 0, 100 and 300 %, long 200, 50, 0 and 0 %.
        self.assertEqual(call.names[call.best_single], "long")
        self.assertEqual(call.single_loss, 0.625)
        self.assertEqual(call.points[2].loss_of(0), 1.0)
        self.assertIsNone(call.points[3].loss_of(2))
        self.assertEqual(call.points[3].failed, (2,))
        self.assertEqual(
            summary(call).replace("\N{NO-BREAK SPACE}", " "),
            "2 ranges, 2 branches; dispatch loses 0.0 % on the average over the best "
            "at each size, the best single candidate, long, 62 %",
        )

    def test_losses_of_a_worse_choice(self):
        call = only_call(crossing(), choice([[5]], [0, 1], ["short", "long"]))
        self.assertEqual(call.dispatch_loss, 0.5 / 4)
        self.assertEqual([p.dispatched for p in call.points], [0, 1, 1, 1])

    def test_percent(self):
        found = [percent(loss) for loss in (None, 0, 0.0041, 0.0996, 0.314, 12)]
        expected = ["–", "0.0 %", "0.4 %", "10 %", "31 %", "1200 %"]
        self.assertEqual(
            found, [e.replace(" ", "\N{NO-BREAK SPACE}") for e in expected]
        )

    def test_tree_decides_as_the_cells(self):
        winners = ["a", "b", "a", None, "c"]
        split_points = [1, 5, 9, 20]
        call = only_call([], choice([split_points], [0, 1, 0, None, 2], winners))
        self.assertEqual(call.names, ("a", "b", "c"))
        self.assertEqual(sorted(leaves_of(call.tree)), [0, 1, 2])
        cells = [row.cell for row in call.rows]
        for size in (0, 1, 2, 5, 6, 9, 21, 1000):
            winner = call.branches[decide(call.tree, (size,))].winner
            self.assertEqual(call.names[winner], winners[cell_of(cells, (size,))])
        self.assertIn("x.shape[1] <= ", tree_text(call, call.tree))

    def test_box_text(self):
        box = ((None, 4), (5, 9))
        self.assertEqual(box_text(TWO, box), "x.shape[0] <= 4 and 5 <= y.shape[0] <= 9")
        self.assertEqual(box_text(TWO, ((7, 7), (None, None))), "x.shape[0] == 7")
        self.assertEqual(box_text(TWO, ((None, None), (3, None))), "y.shape[0] >= 3")

    def test_grids_of_winners(self):
        names = ["a", "b", "b", None, "a", "b"]
        numbers = [0, 1, 1, None, 0, 1]
        two = only_call([], choice([[8], [4, 64]], numbers, names, TWO))
        self.assertEqual(winner_grid(two), [[0, 1, 1], [None, 0, 1]])
        three = only_call([], choice([[8], [], [4, 64]], numbers, names, THREE))
        self.assertEqual(winner_grid(three, 0), [[0, 1, 1]])
        self.assertEqual(winner_grid(three, 1), [[None, 0, 1]])

    def test_calls_stay_apart(self):
        there = {**HERE, "device": "two"}
        calls = calls_of(
            TuningTable.of(
                [
                    *crossing(),
                    *crossing(op="other.op.default"),
                    *crossing(environment=there),
                    entry([], {"short": 1.0}, axes=()),
                ],
                [split_at_ten(), split_at_ten(environment=there)],
            )
        )
        found = [(c.op, c.axes, len(c.points), len(c.rows)) for c in calls]
        self.assertEqual(
            found,
            [
                ("other.op.default", AXIS, 4, 0),
                ("some.op.default", (), 1, 0),
                ("some.op.default", AXIS, 4, 2),
                ("some.op.default", AXIS, 4, 2),
            ],
        )
        self.assertEqual(calls[2].environment["device"], "one")
        self.assertEqual(calls[3].environment["device"], "two")

    def test_operands_that_differ_otherwise_are_one_point_of_a_curve(self):
        call = only_call(
            [entry([8], {"a": 1.0}), entry([8], {"a": 4.0}, other=1), *crossing()]
        )
        (point,) = call.curve(call.names.index("a"))
        self.assertEqual((point.size, point.low, point.high), (8, 0.9, 4.4))
        self.assertAlmostEqual(point.middle, 2.0)

    def test_sources_that_differ_are_different_candidates(self):
        old, new = CandidateTime("a", "1" * 64, 1.0, 0), CandidateTime("a", "2", 2.0, 0)
        entries = [
            Entry("op", "schema", HERE, "call", AXIS, "[[], []]", (8,), (old,)),
            Entry("op", "schema", HERE, "call", AXIS, "[[], [1]]", (9,), (new,)),
        ]
        call = only_call(entries)
        self.assertEqual(call.names, ("a @11111111", "a @2"))
        self.assertIsNone(call.best_single)

    def test_contradictions_are_errors(self):
        for entries, choices, message in (
            ([entry([1, 2], {"a": 1.0})], [], "sizes"),
            ([], [choice([], [0], ["a"])], "0 lists of split points"),
            ([], [choice([[9, 3]], [0, 0, 0], ["a"] * 3)], "do not ascend"),
        ):
            with self.assertRaisesRegex(TableError, message):
                calls_of(TuningTable.of(entries, choices))


class ReportPicturesTest(TestCase):
    def kinds(self, *parts):
        """The kinds of a call's pictures, each of which is a PNG that is not blank."""
        found = pictures_of(only_call(*parts))
        for picture in found:
            self.assertEqual(picture.png[:8], b"\x89PNG\r\n\x1a\n")
            pixels = matplotlib.image.imread(io.BytesIO(picture.png))
            height, width = pixels.shape[:2]
            self.assertGreater(width, 100)
            self.assertGreater(height, 50)
            self.assertLess(max(width, height), 6000)
            self.assertGreater(pixels[..., :3].std(), 0.01)
            self.assertIn("some.op.default", picture.description)
        return [picture.kind for picture in found]

    def test_one_axis(self):
        self.assertEqual(self.kinds(crossing(), split_at_ten()), ["times", "tree"])
        self.assertEqual(self.kinds(crossing()), ["times"])
        self.assertEqual(self.kinds([], split_at_ten()), ["times", "tree"])
        self.assertEqual(self.kinds([entry([7], {"a": 1.0})]), ["times"])
        self.assertEqual(self.kinds([entry([0], {"a": 1.0})]), ["times"])
        self.assertEqual(self.kinds([entry([7], {"a": None})]), [])

    def test_no_axis(self):
        times = {"a": 1.0, "b": 2.0, "c": None}
        chosen = choice([], [0], ["a"], axes=())
        self.assertEqual(self.kinds([entry([], times, axes=())], chosen), ["times"])
        self.assertEqual(self.kinds([entry([], {"a": None}, axes=())]), [])
        self.assertEqual(self.kinds([], chosen), [])

    def test_two_and_three_axes(self):
        for axes, split_points in ((TWO, [[8], [4, 64]]), (THREE, [[8], [], [4, 64]])):
            names = ["a", "b", "b", None, "a", "b"]
            chosen = choice(split_points, [0, 1, 1, None, 0, 1], names, axes)
            entries = [
                entry(sizes, {"a": 1.0, "b": 1 + sizes[0] / 9}, axes)
                for sizes in itertools.product((1, 8, 9), repeat=len(axes))
            ]
            all_kinds = ["winners", "loss", "tree"]
            self.assertEqual(self.kinds(entries, chosen), all_kinds)
            self.assertEqual(self.kinds(entries), ["loss"])
            self.assertEqual(self.kinds([], chosen), ["winners", "tree"])

    def test_many_candidates_and_sizes(self):
        names = [
            f"_part$_{i}$(note='a very long name of a candidate')" for i in range(60)
        ]
        entries = [
            entry([size], {n: 1.0 + i + size / (i + 1) for i, n in enumerate(names)})
            for size in range(1, 201)
        ]
        winners = [*range(40, 50), 0]
        chosen = choice([range(9, 108, 10)], winners, [names[w] for w in winners])
        call = only_call(entries, chosen)
        self.assertEqual([*looks_of(call)][:11], winners)
        self.assertEqual(
            len(dict.fromkeys(looks_of(call).values())), len(looks_of(call))
        )
        self.assertEqual(self.kinds(entries, chosen), ["times", "tree"])

    def test_many_branches(self):
        names = [f"branch {i}" for i in range(60)]
        chosen = choice([range(1, 60)], range(60), names)
        with mock.patch.object(report_pictures, "_MOST_DOTS", 1500):
            tree = pictures_of(only_call([], chosen))[1]
        height, width = matplotlib.image.imread(io.BytesIO(tree.png)).shape[:2]
        self.assertLessEqual(max(height, width), 1501)

    def test_colours_go_by_order(self):
        looks = looks_of(only_call(crossing(), split_at_ten()))
        others = looks_of(only_call(crossing()))
        self.assertEqual(looks, others)
        self.assertEqual([*looks], [0, 1, 2])
        self.assertEqual(len(dict.fromkeys(marker for _, marker in looks.values())), 3)

    def test_bands_are_the_ranges(self):
        call = only_call(
            crossing(), choice([[10, 99]], [0, None, 1], ["short", None, "long"])
        )
        bands = [*report_pictures._bands(call, (0.5, 2000.0))]
        self.assertEqual(bands, [(0.5, 10, 0), (10, 99, None), (99, 2000.0, 1)])

    def test_names_are_shortened(self):
        self.assertEqual(shown("a\nb"), "a b")
        self.assertEqual(shown("abcdefghij" * 9, 12), "abcdefgh…hij")

    def test_other_figures_are_left_alone(self):
        before = dict(matplotlib.rcParams)
        with mock.patch.dict(sys.modules, {"matplotlib.pyplot": None}):
            self.assertEqual(self.kinds(crossing(), split_at_ten()), ["times", "tree"])
        self.assertEqual(dict(matplotlib.rcParams), before)

    def test_without_matplotlib(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "table.json")
            merge_into_file(path, TuningTable.of(crossing()))
            with (
                mock.patch.dict(sys.modules, {"matplotlib.figure": None}),
                self.assertRaisesRegex(PicturesUnavailable, "pip install matplotlib"),
            ):
                report.write_report(path, os.path.join(folder, "out"))
            self.assertFalse(os.path.exists(os.path.join(folder, "out")))


class Page(html.parser.HTMLParser):
    """Sees to it that tags are closed in order, and collects what a page has."""

    EMPTY = ("meta", "link", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open_tags = []
        self.tags = []
        self.text = []
        self.feed(text)
        self.close()
        assert not self.open_tags, self.open_tags

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open_tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open_tags and self.open_tags.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        self.text.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


class ReportTestCase(TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "table é.json")
        self.out = os.path.join(folder.name, "reports", "of <this>")

    def write(self, entries, choices=(), counts=()):
        """Write a report on a new table; returns its page and the names of files."""
        if os.path.exists(self.path):
            os.remove(self.path)
        merge_into_file(self.path, TuningTable.of(entries, choices))
        written = report.write_report(self.path, self.out, counts)
        self.assertEqual({os.path.dirname(path) for path in written}, {self.out})
        names = [os.path.basename(path) for path in written]
        self.assertEqual(names[0], "index.html")
        return self.page(), names

    def page(self):
        with open(os.path.join(self.out, "index.html"), encoding="utf-8") as file:
            return file.read()


def counted(branches, every=1, op="some.op.default"):
    one = split_at_ten()
    sizes = {(5,): sum(branches.values())}
    return LiveCount(op, "some op", one.call, one.axes, every, branches, sizes)


class ReportPageTest(ReportTestCase):
    def test_page_needs_nothing_besides(self):
        text, names = self.write(
            [*crossing(), *crossing(op="other.op.default")], [split_at_ten()]
        )
        page = Page(text)
        self.assertEqual(
            names,
            [
                "index.html",
                "call-01-other-op-default-times.png",
                "call-02-some-op-default-times.png",
                "call-02-some-op-default-tree.png",
            ],
        )
        self.assertEqual(sorted(os.listdir(self.out)), sorted(names))
        images = page.named("img")
        self.assertEqual(len(images), 3)
        for image in images:
            self.assertTrue(image["src"].startswith("data:image/png;base64,"))
            self.assertTrue(image["alt"])
        self.assertNotIn("http", re.sub(r'base64,[^"]*', "", text))
        self.assertEqual(page.named("script"), [])
        for _, attributes in page.tags:
            self.assertFalse([name for name in attributes if name.startswith("on")])
        links = [one["href"] for one in page.named("a")]
        sections = [one["id"] for one in page.named("section")]
        self.assertEqual(links, [f"#{name}" for name in sections])
        self.assertEqual(sections, ["call-1", "call-2"])

    def test_names_are_escaped(self):
        bad = "<lambda>(note='\"&</td><script>alert(1)</script>')"
        environment = {**HERE, "device": "<b>&"}
        op = "ns.<img src=x onerror=y>../..\\op"
        entries = [entry([8], {bad: 1.0}, op=op, environment=environment)]
        chosen = choice([[5]], [0, 0], [bad, bad], op=op, environment=environment)
        text, names = self.write(entries, [chosen], [counted({bad: 3}, op=op)])
        page = Page(text)
        self.assertEqual(page.named("script"), [])
        self.assertEqual(len(page.named("img")), 1)
        self.assertIn(bad, "".join(page.text))
        self.assertIn("<b>&", "".join(page.text))
        self.assertEqual(names[1], "call-01-ns-img-src-x-onerror-y-op-times.png")

    def test_tables(self):
        text, _ = self.write(crossing(), [choice([[10]], [0, 1], ["short", "long"])])
        cells = [one for one in Page(text).text if one.strip()]
        for expected in ("≤ 10", "≥ 11", "short", "8 ± 0.8", "failed"):
            self.assertIn(expected, cells)
        # The geometric means of short and long up to 10, and of long beyond.
        for expected in ("1.414", "2.828 flaky", "4.472"):
            self.assertIn(expected, cells)
        self.assertIn("The table does not keep what decided: ", " ".join(cells))

    def test_times_that_decided(self):
        """They are shown as they are, whatever was taken at the sizes."""
        chosen = split_at_ten()
        decided = (
            Decided({"short": 7.25, "long": 9.5}, {"short": 0.5, "long": 0.0}),
            Decided({"long": 3.5}, {"long": 0.0}),
        )
        chosen = dataclasses.replace(chosen, decided=decided)
        text, _ = self.write(crossing(), [chosen])
        cells = [one for one in Page(text).text if one.strip()]
        for expected in ("7.25", "9.5 long", "3.5"):
            self.assertIn(expected, cells)
        for unexpected in ("1.414", "2.828 flaky", "4.472"):
            self.assertNotIn(unexpected, cells)
        self.assertIn("Milliseconds are what decided: geometric", " ".join(cells))

    def test_counts(self):
        count = counted({"short": 30, "long": 10}, every=10)
        # What was counted of another call is not this one's.
        other = dataclasses.replace(count, call="x: float64[s0]", branches={"long": 9})
        text, _ = self.write(crossing(), [split_at_ten()], [count, other])
        shown_text = "".join(Page(text).text)
        self.assertIn("How often each branch ran", shown_text)
        self.assertIn("75.0\N{NO-BREAK SPACE}%", shown_text)
        self.assertIn("300", Page(text).text)
        text, _ = self.write(crossing(), [split_at_ten()])
        self.assertNotIn("How often", text)

    def test_odd_tables(self):
        for entries, choices in (
            ([], []),
            ([], [split_at_ten()]),
            ([entry([7], {"a": None})], []),
            ([entry([], {"a": None}, axes=())], []),
            ([], [choice([[10]], [None, None], [None, None])]),
            ([], [choice([], [-1], ["fallback"], axes=())]),
            ([entry([7], {"a": 1.0})], [split_at_ten()]),
        ):
            text, names = self.write(entries, choices)
            images = Page(text).named("img")
            self.assertEqual(len(images), len(names) - 1)


@torch.library.custom_op("tuning_report::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x + x


@twice.register_fake
def _(x):
    return torch.empty_like(x)


def by_adding(x):
    return x + x


def by_multiplying(x):
    return x * 2


class ReportFilesTest(ReportTestCase):
    def test_report_is_replaced(self):
        _, first = self.write([*crossing(), *crossing(op="b")], [split_at_ten()])
        others = ["notes.png", "call-01.png", "call-01-mine.png"]
        for name in others:
            with open(os.path.join(self.out, name), "w"):
                pass
        _, second = self.write([*crossing()])
        self.assertNotEqual(first, second)
        self.assertEqual(sorted(os.listdir(self.out)), sorted([*second, *others]))

    def test_same_table_same_report(self):
        text, _ = self.write(crossing(), [split_at_ten()])
        again, _ = self.write([*reversed(crossing())], [split_at_ten()])
        self.assertEqual(text, again)

    def test_other_pages_are_left_alone(self):
        os.makedirs(self.out)
        with open(os.path.join(self.out, "index.html"), "w") as file:
            file.write("<p>mine</p>")
        with self.assertRaisesRegex(FileExistsError, "no report"):
            self.write(crossing())
        self.assertEqual(self.page(), "<p>mine</p>")
        self.assertEqual(os.listdir(self.out), ["index.html"])

    def test_errors(self):
        with self.assertRaises(FileNotFoundError):
            report.write_report(self.path, self.out)
        with open(self.path, "w") as file:
            file.write('{"format": ')
        with self.assertRaisesRegex(TableError, "table é.json is no tuning table"):
            report.write_report(self.path, self.out)
        self.assertFalse(os.path.exists(self.out))
        os.remove(self.path)
        contradiction = choice([[9, 3]], [0, 0, 0], ["a"] * 3)
        with self.assertRaisesRegex(TableError, "table é.json is damaged: some.op"):
            self.write([], [contradiction])
        with self.assertRaisesRegex(NotADirectoryError, "out must be a folder"):
            report.write_report(self.path, self.path)

    def test_nothing_half_written(self):
        text, names = self.write(crossing(), [split_at_ten()])
        merge_into_file(self.path, TuningTable.of(crossing(op="another.op")))
        for place, name in ((report_pictures, "_tree"), (report.os, "replace")):
            with (
                mock.patch.object(place, name, side_effect=OSError("disk is full")),
                self.assertRaisesRegex(OSError, "disk is full"),
            ):
                report.write_report(self.path, self.out)
            self.assertEqual(self.page(), text)
            self.assertEqual(sorted(os.listdir(self.out)), sorted(names))

    def test_command_with_what_was_counted(self):
        table_store.forget()
        self.addCleanup(table_store.forget)
        self.addCleanup(reset_counts)
        configs = [CustomOpConfig(by_adding), CustomOpConfig(by_multiplying)]
        with (
            custom_op_autotuning(
                twice,
                configs=configs,
                dispatch_on={"tensor_name": "x", "dim": 0},
                split_points=[8],
                winners=[1, 0],
            ),
            config.patch({"range_dispatch.count_calls": 1}),
            fresh_cache(),
        ):
            compiled = torch.compile(lambda x: twice(x), dynamic=True)
            for size in (4, 5, 8, 9):
                compiled(torch.randn(size))
        save(self.path, twice)
        counts = f"{self.path}.counts.json"
        save_counts(counts)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            status = command.main(
                ["report", self.path, "--out", self.out, "--counts", counts]
            )
        self.assertEqual(status, 0)
        self.assertIn(os.path.join(self.out, "index.html"), printed.getvalue())
        text = Page(self.page()).text
        self.assertIn("How often each branch ran", text)
        self.assertIn("75.0\N{NO-BREAK SPACE}%", text)
        self.assertIn("25.0\N{NO-BREAK SPACE}%", text)

    @pytest.mark.slow
    def test_what_a_compile_measured(self):
        table_store.forget()
        self.addCleanup(table_store.forget)
        configs = [CustomOpConfig(by_adding), CustomOpConfig(by_multiplying)]
        with (
            custom_op_autotuning(
                twice,
                configs=configs,
                dispatch_on={"tensor_name": "x", "dim": 0, "range_upper_bound": 128},
                split_points=[8, 64],
            ),
            fresh_cache(),
        ):
            torch.compile(lambda x: twice(x), dynamic=True)(torch.randn(16))
        save(self.path, twice)
        written = report.write_report(self.path, self.out)
        (call,) = read_calls(self.path)
        self.assertEqual(call.op, "tuning_report.twice.default")
        self.assertEqual(call.axes, ("x.shape[0]",))
        self.assertEqual(call.names, ("by_adding", "by_multiplying", "fallback"))
        self.assertEqual(len(call.rows), 3)
        self.assertEqual(
            [len(call.points_in(row.cell)) for row in call.rows], [3, 3, 1]
        )
        self.assertTrue(all(p.dispatched is not None for p in call.points))
        kinds = 1 if isinstance(call.tree, Leaf) else 2
        self.assertEqual(len(written), 1 + kinds)
        self.assertEqual(len(Page(self.page()).named("img")), kinds)


@unittest.skipIf(find_browser() is None, "no chromium or google-chrome in PATH")
class ReportBrowserTest(ReportTestCase):
    def test_page_in_a_browser(self):
        there = {**HERE, "device": "a device with a rather long name, AVX512"}
        long_name = "an_implementation_with_a_long_name(BLOCK=128, stages=4, warps=8)"
        wide = [entry([n], {long_name + str(i): 1.0 for i in range(9)}) for n in (3, 4)]
        wide = [Entry(**{**vars(one), "op": "wide.op.default"}) for one in wide]
        self.write(
            [*crossing(), *crossing(environment=there), *wide],
            [split_at_ten(), split_at_ten(environment=there)],
            [counted({"short": 3, "long": 1})],
        )
        page = os.path.join(self.out, "index.html")
        with Browser(find_browser()) as browser:
            for width, scripts, dark in (
                (1200, True, False),
                (1200, False, False),
                (390, False, True),
            ):
                browser.open(page, width, scripts, dark)
                # Wide tables scroll by themselves, not the page.
                self.assertEqual(browser.content_size()[0], width)
                self.assertGreater(browser.content_size()[1], 2000)
                taken = io.BytesIO(browser.screenshot())
                pixels = matplotlib.image.imread(taken)[..., :3]
                self.assertEqual(pixels.shape[1], width)
                self.assertGreater(pixels.std(), 0.05)
                # The pictures are shown: the first two candidates' colours are there.
                for colour in report_pictures.COLOURS[:2]:
                    wanted = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
                    close = abs(pixels - wanted).max(-1) < 0.01
                    self.assertGreater(close.sum(), 500)
                if dark:
                    self.assertLess(pixels[-1].mean(), 0.3)
        self.assertEqual(browser.errors, [])
        # Nothing is asked for besides the file and what is in it.
        schemes = {address.partition(":")[0] for address in browser.requests}
        self.assertEqual(schemes, {"file", "data"})
        files = {address for address in browser.requests if address.startswith("file:")}
        self.assertEqual(len(files), 1)


if __name__ == "__main__":
    run_tests()
