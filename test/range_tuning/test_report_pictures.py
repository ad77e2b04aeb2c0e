# Owner(s): ["module: inductor"]
"""The pictures of reports."""

import contextlib
import io
import itertools
import os
import sys
import tempfile
from unittest import mock

import matplotlib
import matplotlib.image
from _reported_calls import choice, crossing, entry, only_call, split_at_ten, THREE, TWO
from range_tuning import __main__ as command, drawing, picture_of_times
from range_tuning.drawing import looks_of, shown
from range_tuning.pictures import pictures_of

from torch._inductor.range_dispatch import TuningTable
from torch._inductor.range_dispatch.cache.tables import merge_into_file
from torch._inductor.test_case import run_tests, TestCase


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
        with mock.patch.object(drawing, "_MOST_DOTS", 1500):
            tree = pictures_of(only_call([], chosen))[1]
        height, width = matplotlib.image.imread(io.BytesIO(tree.png)).shape[:2]
        self.assertLessEqual(max(height, width), 1501)

    def test_colours_go_by_order(self):
        looks = looks_of(only_call(crossing(), split_at_ten()))
        others = looks_of(only_call(crossing()))
        self.assertEqual(looks, others)
        self.assertEqual([*looks], [0, 1, 2])
        self.assertEqual(len(dict.fromkeys(look.marker for look in looks.values())), 3)

    def test_bands_are_the_ranges(self):
        call = only_call(
            crossing(), choice([[10, 99]], [0, None, 1], ["short", None, "long"])
        )
        bands = [*picture_of_times._bands(call, (0.5, 2000.0))]
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
            out = os.path.join(folder, "out")
            err = io.StringIO()
            with (
                mock.patch.dict(sys.modules, {"matplotlib.style": None}),
                contextlib.redirect_stderr(err),
            ):
                for name in ("range_tuning.report", "range_tuning.pictures"):
                    sys.modules.pop(name, None)
                status = command.main(["report", path, "--out", out])
            self.assertEqual(status, 1)
            self.assertIn("pip install matplotlib", err.getvalue())
            self.assertFalse(os.path.exists(out))


if __name__ == "__main__":
    run_tests()
