# Owner(s): ["module: inductor"]
"""The page and the files of reports, also in a browser."""

import contextlib
import dataclasses
import html.parser
import io
import os
import re
import tempfile
import unittest
from unittest import mock

import matplotlib.image
import pytest
from _headless_browser import Browser, find_browser
from _reported_calls import choice, crossing, entry, HERE, split_at_ten
from range_tuning import __main__ as command, drawing, pictures, report
from range_tuning.report_data import read_calls

import torch
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch import (
    Decided,
    Entry,
    Leaf,
    LiveCount,
    reset_counts,
    save,
    save_counts,
    TableError,
    TuningTable,
)
from torch._inductor.range_dispatch.cache import table_store
from torch._inductor.range_dispatch.cache.tables import merge_into_file
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import fresh_cache


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
        with self.assertRaisesRegex(TableError, "table é.json is not a tuning table"):
            report.write_report(self.path, self.out)
        self.assertFalse(os.path.exists(self.out))
        os.remove(self.path)
        contradiction = choice([[9, 3]], [0, 0, 0], ["a"] * 3)
        with self.assertRaisesRegex(
            TableError, r"table é.json is damaged: choices\[0\]: .*do not ascend"
        ):
            self.write([], [contradiction])
        with self.assertRaisesRegex(NotADirectoryError, "out must be a folder"):
            report.write_report(self.path, self.path)

    def test_nothing_half_written(self):
        text, names = self.write(crossing(), [split_at_ten()])
        merge_into_file(self.path, TuningTable.of(crossing(op="another.op")))
        for place, name in ((pictures, "tree_picture"), (report.os, "replace")):
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
                tuning_seconds=120.0,  # on a busy machine, too
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
                for colour in drawing.COLOURS[:2]:
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
