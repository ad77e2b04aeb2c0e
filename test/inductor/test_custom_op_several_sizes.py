# Owner(s): ["module: inductor"]
"""Range-tuned custom ops that dispatch on several sizes, or on an expression of them.

The implementations differ in value, so that a result tells which branch ran. What
candidates take is planted, never timed.
"""

import itertools
import math
import tempfile
from unittest import mock

import hypothesis
import pytest
from _fresh_test_case import FreshTestCase
from _planted_times import planted_times
from _triton_on_cpu import HAS_TRITON, SKIP_REASON, triton_kernels
from _tuning_clock import each_size_takes
from hypothesis import strategies as st

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.kernel.custom_op import (
    custom_op_autotuning,
    CustomOpConfig,
    register_custom_op_autotuning,
)
from torch._inductor.range_dispatch import load, save
from torch._inductor.range_dispatch.cache import table_store
from torch._inductor.range_dispatch.plan.decisions import (
    decide,
    group_by_winner,
    Leaf,
    plan_decisions,
)
from torch._inductor.range_dispatch.plan.grid_search import neighbours, search_grid
from torch._inductor.range_dispatch.plan.ranges import (
    cell_of,
    cells_of_grid,
    ranges_from_split_points,
)
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import fresh_cache
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    subtest,
)


@torch.library.custom_op("several_sizes::add", mutates_args=())
def add(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return x - 1


@add.register_fake
def _(x, w):
    return torch.empty_like(x)


add.register_autograd(lambda context, grad: (grad * 5, None))


def plus(x, w, k):
    """Tells by its value which ``k`` ran, and by its gradient that it did."""
    return x + k


def configs(count):
    return [CustomOpConfig(plus, k=k) for k in range(1, count + 1)]


def model(x, w):
    return add(x, w)


def made(rows, columns, length=3):
    return torch.zeros(rows, columns), torch.zeros(length)


def by_dimensions(*dims):
    return [{"tensor_name": name, "dim": dim} for name, dim in dims]


def around(split_points):
    """The sizes on either side of each split, and one beyond; 1 is never dynamic."""
    found = {n for p in split_points for n in (p, p + 1)} | {2, split_points[-1] + 9}
    return sorted(n for n in found if n > 1)


class SeveralSizesTestCase(FreshTestCase):
    def setUp(self):
        super().setUp()
        table_store.forget()
        self.addCleanup(table_store.forget)

    def ran(self, calls, function=model, **registered):
        """Compile once for all calls; the k that ran at each, and the record."""
        torch._dynamo.reset()
        counters.clear()
        counter = CompileCounterWithBackend("inductor")
        with custom_op_autotuning(add, **registered), record_dispatches() as records:
            compiled = torch.compile(function, dynamic=True, backend=counter)
            compiled(*made(5, 7, 11))  # sizes that are equal at first stay equal
            found = {sizes: compiled(*made(*sizes)).max().item() for sizes in calls}
        self.assertEqual(counter.frame_count, 1)
        (record,) = records
        return found, record


GRID = dict(
    configs=configs(3),
    dispatch_on=by_dimensions(("x", 0), ("x", 1)),
    split_points=[[8, 32], [16]],
    winners=[0, 1, 2, 0, 1, 1],
)


def due_on_grid(rows, columns):
    winners = GRID["winners"]
    return winners[((rows > 8) + (rows > 32)) * 2 + (columns > 16)] + 1.0


GRID_CALLS = [*itertools.product(around([8, 32]), around([16]))]


@instantiate_parametrized_tests
class DispatchTest(SeveralSizesTestCase):
    @parametrize("cpp_wrapper", (False, True))
    def test_two_dimensions_of_a_tensor(self, cpp_wrapper):
        with config.patch(cpp_wrapper=cpp_wrapper):
            ran, record = self.ran(GRID_CALLS, **GRID)
        self.assertEqual(ran, {sizes: due_on_grid(*sizes) for sizes in ran})
        self.assertEqual(record.branches, 3)
        self.assertEqual(record.axes, ("x.shape[0]", "x.shape[1]"))
        self.assertEqual(len(record.ranges), 6)

    def test_three_dimensions_of_two_tensors(self):
        splits = [[4], [8, 12], [6]]
        winners = [0, 1, 2, 3, 0, 1, 2, 3, 3, -1, -1, 0]
        calls = [*itertools.product(*map(around, splits))]
        ran, record = self.ran(
            calls,
            configs=configs(4),
            dispatch_on=by_dimensions(("w", -1), ("x", 0), ("x", 1)),
            split_points=splits,
            winners=winners,
            function=lambda a, b: add(a, b),
        )
        for (rows, columns, length), k in [
            ((r, c, n), ran[(r, c, n)]) for r, c, n in ran
        ]:
            place = (length > 4) * 6 + ((rows > 8) + (rows > 12)) * 2 + (columns > 6)
            due = winners[place]
            self.assertEqual(k, -1.0 if due == -1 else due + 1.0)
        self.assertEqual(record.branches, 5)
        self.assertLessEqual(depth(record.tree), 3)

    @parametrize(
        "size,of",
        (
            subtest((lambda x: x[0] * x[1], lambda r, c, n: r * c), name="product"),
            subtest(
                (lambda x, w: x[0] * w[0], lambda r, c, n: r * n), name="of_two_tensors"
            ),
            subtest(
                (lambda w, x: (x[0] + 2 * w[0]) // 3, lambda r, c, n: (r + 2 * n) // 3),
                name="sum_and_quotient",
            ),
            subtest(
                (lambda x: torch.sym_max(x[0], x[1]), lambda r, c, n: max(r, c)),
                name="largest",
            ),
            subtest((lambda x: math.prod(x), lambda r, c, n: r * c), name="numel"),
            # Below 0 it is in the first range.
            subtest((lambda x: x[0] - x[1], lambda r, c, n: r - c), name="difference"),
        ),
    )
    @parametrize("cpp_wrapper", (False, subtest(True, decorators=[pytest.mark.slow])))
    def test_expression(self, size, of, cpp_wrapper):
        calls = [*itertools.product((2, 5, 10, 11, 60), (2, 10, 11), (3, 10))]
        with config.patch(cpp_wrapper=cpp_wrapper):
            ran, record = self.ran(
                calls,
                configs=configs(3),
                dispatch_on={"size": size},
                split_points=[10, 50],
                winners=[2, 0, 1],
            )
        due = {s: [3.0, 1.0, 2.0][(of(*s) > 10) + (of(*s) > 50)] for s in calls}
        self.assertEqual(ran, due)
        self.assertGreater(len({*due.values()}), 1)
        self.assertEqual(record.branches, 3)

    @torch.fx.experimental._config.patch(use_duck_shape=False)
    @pytest.mark.slow
    def test_sizes_that_an_implementation_equates(self):
        """Each has a symbol of its own until the implementation is traced."""

        def fit(x, w, k):
            return x + w[:, None] + k

        sizes = (4, 8, 9, 10, 11, 20)
        for dispatched, due in (
            (
                dict(
                    dispatch_on={"size": lambda x, w: x[0] * w[0]},
                    split_points=[64, 100],
                    winners=[0, 1, 2],
                ),
                lambda n: 1.0 + (n * n > 64) + (n * n > 100),
            ),
            (
                dict(
                    dispatch_on=by_dimensions(("x", 0), ("w", 0)),
                    split_points=[[8], [10]],
                    winners=[0, -1, 1, 2],
                ),
                lambda n: 1.0 + (n > 8) + (n > 10),
            ),
        ):
            torch._dynamo.reset()
            options = {"configs": [CustomOpConfig(fit, k=k) for k in (1, 2, 3)]}
            with (
                custom_op_autotuning(add, **options, **dispatched),
                record_dispatches() as records,
            ):
                compiled = torch.compile(model, dynamic=True)
                ran = {n: compiled(*made(n, 3, n)).max().item() for n in sizes}
            self.assertEqual(ran, {n: due(n) for n in ran})
            self.assertEqual(len(records), 1)

    @pytest.mark.slow
    def test_a_size_that_an_implementation_settles(self):
        """It closes over a tensor of 20 rows, so that there can only be 20."""

        def fit(x, w, k):
            return x + torch.zeros(20, 1) + k

        options = {
            "configs": [CustomOpConfig(fit, k=k) for k in (1, 2, 3)],
            "dispatch_on": {"size": lambda x: x[0] * x[1]},
            "split_points": [8, 70],
            "winners": [0, 1, 2],
        }
        with custom_op_autotuning(add, **options), record_dispatches() as records:
            compiled = torch.compile(model, dynamic=True)
            ran = [compiled(*made(20, n, 7)).max().item() for n in (3, 4)]
        self.assertEqual(ran, [2.0, 3.0])
        self.assertEqual(len(records), 1)
        torch._dynamo.reset()
        options["dispatch_on"] = {"tensor_name": "x", "dim": 0}
        with custom_op_autotuning(add, **options), record_dispatches() as records:
            compiled = torch.compile(model, dynamic=True)
            self.assertEqual(compiled(*made(20, 3)).max().item(), 2.0)
        self.assertEqual(records[0].branches, 1)

    def test_expression_that_is_never_above_zero(self):
        ran, record = self.ran(
            [(5, 4), (9, 4)],
            configs=configs(2),
            dispatch_on={"size": lambda x: -x[0]},
            split_points=[10],
            winners=[1, 0],
        )
        self.assertEqual([*ran.values()], [2.0, 2.0])
        self.assertEqual(record.branches, 1)

    def test_dimension_and_expression(self):
        calls = [*itertools.product((2, 8, 9, 30), (2, 5, 6, 12, 13))]
        ran, _ = self.ran(
            calls,
            configs=configs(4),
            dispatch_on=[
                {"tensor_name": "x", "dim": 0},
                {"size": lambda x: x[0] * x[1]},
            ],
            split_points=[[8], [48]],
            winners=[0, 1, 2, 3],
        )
        due = {(r, c): 1.0 + 2 * (r > 8) + (r * c > 48) for r, c in calls}
        self.assertEqual(ran, due)

    @pytest.mark.slow
    def test_static_sizes_leave_a_part_of_the_grid(self):
        """Of a static dimension one row is left, of two one cell, without a cond."""
        marked = torch.zeros(4, 20)
        for dynamic, branches in ((0, 3), (1, 2), (None, 1)):
            torch._dynamo.reset()
            x = marked.clone()
            if dynamic is not None:
                torch._dynamo.mark_dynamic(x, dynamic)
            compiled = torch.compile(model)
            with (
                config.patch(fx_graph_cache=False),
                custom_op_autotuning(add, **{**GRID, "winners": [1, 0, 1, 1, 0, 2]}),
                record_dispatches() as records,
            ):
                self.assertEqual(compiled(x, torch.zeros(3)).max().item(), 1.0)
                if dynamic == 0:
                    y = torch.zeros(40, 20)
                    self.assertEqual(compiled(y, torch.zeros(3)).max().item(), 3.0)
            self.assertEqual(len(records), 1)
            self.assertEqual(records[0].branches, branches)
            kept = [str(row.cell) for row in records[0].ranges]
            if dynamic is None:
                self.assertEqual(kept, ["[0, 8] x [17, inf]"])

    @pytest.mark.slow
    def test_sizes_that_are_the_same(self):
        """Cells off the diagonal cannot occur: they are neither timed nor branches."""

        def square(x, w):
            return add(x @ x.t(), w)

        for winners in (None, [0, 1, 1, 2]):
            with planted(lambda rows, columns: 1 + (rows > 8)):
                ran, record = self.ran(
                    [(4, 3), (8, 3), (9, 3), (30, 3)],
                    function=square,
                    configs=configs(3),
                    dispatch_on=by_dimensions(("x", 0), ("x", 1)),
                    split_points=[[8], [8]],
                    winners=winners,
                )
            large = 2.0 if winners is None else 3.0
            self.assertEqual([*ran.values()], [1.0, 1.0, large, large])
            self.assertEqual(
                [str(row.cell) for row in record.ranges],
                ["[0, 8] x [0, 8]", "[9, inf] x [9, inf]"],
            )
            self.assertEqual(record.branches, 2)

    def test_cells_without_sizes_to_time_have_a_winner_of_their_own(self):
        """What is traced for other cells must not run there, timed or not."""

        def choosy(x, w, k):
            return x + (10 if x.shape[0] <= 8 else 20)

        # Nothing is found to vary the second size with, which the first one settles.
        size = lambda x: (x[0] + x[1]) % 7  # noqa: E731
        calls = [(r, c) for r in (2, 8, 9, 20) for c in range(2, 9)]
        with (
            planted(lambda *_: 1),
            mock.patch(
                "torch._inductor.range_dispatch.call.cells.values_in", return_value=None
            ),
        ):
            ran, record = self.ran(
                calls,
                configs=[CustomOpConfig(choosy, k=1)],
                dispatch_on=[{"tensor_name": "x", "dim": 0}, {"size": size}],
                split_points=[[8], [3]],
                include_fallback=False,
            )
        self.assertEqual(ran, {(r, c): 10.0 if r <= 8 else 20.0 for r, c in calls})
        self.assertEqual([row.sizes for row in record.ranges], [()] * 4)

    def test_implementation_that_looks_at_both_sizes(self):
        """Each cell decides what the implementation asks of its sizes."""

        def choosy(x, w, k):
            if x.shape[0] <= 8:
                return x + 10
            return x + (20 if x.shape[1] <= 16 else 30)

        ran, record = self.ran(
            GRID_CALLS,
            **{
                **GRID,
                "configs": [CustomOpConfig(choosy, k=1)],
                "winners": [0, 0, 0, 0, 0, 0],
            },
        )
        for (rows, columns), value in ran.items():
            due = 10.0 if rows <= 8 else 20.0 if columns <= 16 else 30.0
            self.assertEqual(value, due)
        self.assertEqual(record.branches, 3)

    def test_training(self):
        calls = [(8, 16), (9, 17), (33, 2)]
        counter = CompileCounterWithBackend("inductor")
        with custom_op_autotuning(add, **GRID):
            compiled = torch.compile(
                lambda x, w: (add(x, w) * 2).sum(), dynamic=True, backend=counter
            )
            for rows, columns in calls:
                x = torch.zeros(rows, columns, requires_grad=True)
                value = compiled(x, torch.zeros(3))
                self.assertEqual(
                    value.item(), due_on_grid(rows, columns) * 2 * x.numel()
                )
                value.backward()
                self.assertEqual(x.grad, torch.full_like(x, 10.0))
        self.assertEqual(counter.frame_count, 1)

    @pytest.mark.slow
    def test_aoti(self):
        class Module(torch.nn.Module):
            def forward(self, x, w):
                return add(x, w), add(x.t(), w)

        rows, columns = torch.export.Dim("rows", min=2), torch.export.Dim("columns")
        exported = torch.export.export(
            Module(), made(5, 7), dynamic_shapes=({0: rows, 1: columns}, None)
        )
        with tempfile.TemporaryDirectory() as folder, custom_op_autotuning(add, **GRID):
            path = torch._inductor.aoti_compile_and_package(
                exported, package_path=f"{folder}/model.pt2"
            )
            loaded = torch._inductor.aoti_load_package(path)
            for sizes in GRID_CALLS:
                straight, turned = loaded(*made(*sizes))
                self.assertEqual(straight.max().item(), due_on_grid(*sizes))
                self.assertEqual(turned.max().item(), due_on_grid(*sizes[::-1]))

    def test_cached_graphs_follow_the_expression(self):
        def run(size):
            torch._dynamo.reset()
            counters.clear()
            with custom_op_autotuning(
                add,
                configs=configs(2),
                dispatch_on={"size": size},
                split_points=[20],
                winners=[0, 1],
            ):
                value = torch.compile(model, dynamic=True)(*made(5, 6)).max().item()
            return value, counters["inductor"]["fxgraph_cache_hit"]

        with config.patch(fx_graph_cache=True):
            self.assertEqual(run(lambda x: x[0] * x[1]), (2.0, 0))
            self.assertEqual(run(lambda x: x[0] + x[1]), (1.0, 0))
            self.assertEqual(run(lambda x: x[0] * x[1]), (2.0, 1))

    def test_expression_that_decides_by_a_size(self):
        for size, message in (
            (lambda x: x[0] if x[0] > 4 else x[1], "decides by a size.*torch.sym_max"),
            (lambda x: x[5], "fails for"),
            (lambda x: x[0] / 2, "must return an integer"),
            (lambda x: x[0] > 2, "must return an integer"),
        ):
            torch._dynamo.reset()
            with custom_op_autotuning(
                add,
                configs=configs(1),
                dispatch_on={"size": size},
                split_points=[20],
            ):
                with self.assertRaisesRegex(
                    Exception, rf"dispatch_on\['size'\] of several_sizes.*{message}"
                ):
                    torch.compile(model, dynamic=True)(*made(5, 6))


@pytest.mark.skipif(not HAS_TRITON, reason=SKIP_REASON)
class FxWrapperTest(SeveralSizesTestCase):
    def test_grid_and_expression(self):
        """Triton kernels, and conds whose predicates read several sizes."""
        with triton_kernels(), config.patch(fx_wrapper=True), torch.no_grad():
            calls = [(8, 16), (8, 17), (9, 16), (32, 17), (33, 16), (40, 30)]
            ran, _ = self.ran(calls, **GRID)
            self.assertEqual(ran, {sizes: due_on_grid(*sizes) for sizes in calls})
            ran, _ = self.ran(
                calls,
                configs=configs(2),
                dispatch_on={"size": lambda x: x[0] * x[1]},
                split_points=[140],
                winners=[0, 1],
            )
            due = {(r, c): 1.0 + (r * c > 140) for r, c in calls}
            self.assertEqual(ran, due)


def planted(fastest, seen=None):
    """Timing finds ``k = fastest(rows, columns)`` twice as fast as the others."""

    def milliseconds(candidate, inputs):
        sizes = tuple(inputs[0].shape)
        # Told once a size: the first candidate's turn.
        if seen is not None and sizes not in seen[-1:]:
            seen.append(sizes)
        return 0.001 * (1 + (candidate.params.get("k") != fastest(*sizes)))

    return planted_times(milliseconds)


class TuningTest(SeveralSizesTestCase):
    """Cells are timed, and neighbours with one winner merged."""

    SPLITS = [[16, 64, 256], [32, 128]]

    def tuned(self, fastest, calls, seen=None, **registered):
        registered = {
            "configs": configs(2),
            "dispatch_on": by_dimensions(("x", 0), ("x", 1)),
            "split_points": self.SPLITS,
            **registered,
        }
        with planted(fastest, seen):
            return self.ran(calls, **registered)

    def test_every_cell_finds_its_winner(self):
        def fastest(rows, columns):
            return 1 if rows <= 64 and columns <= 128 else 2

        seen = []
        calls = [*itertools.product(*map(around, self.SPLITS))]
        ran, record = self.tuned(fastest, calls, seen)
        self.assertEqual(ran, {sizes: float(fastest(*sizes)) for sizes in calls})
        self.assertEqual(record.branches, 2)
        # One box is enough to tell the two apart.
        self.assertEqual(len(record.tree.boxes), 1)
        for row in record.ranges:
            for one in row.sizes:
                self.assertIn(one.sizes, row.cell)
                self.assertIn(one.sizes, seen)
        # The corners of a cell stand for it, and its middle.
        sizes = [one.sizes for one in record.ranges[4].sizes]
        corners = {*itertools.product((17, 64), (33, 128))}
        self.assertEqual({*sizes} - corners, {(33, 65)})

    def test_a_second_compile_times_nothing(self):
        def fastest(rows, columns):
            return 1 + (rows > 64)

        _, record = self.tuned(fastest, [(5, 5)])
        self.assertGreater(counters["inductor"]["sizes_timed"], 0)
        ran, again = self.tuned(lambda *_: 1, [(64, 5), (65, 5)])
        self.assertEqual(again.ranges, record.ranges)
        self.assertEqual(ran, {(64, 5): 1.0, (65, 5): 2.0})
        self.assertEqual(counters["inductor"]["sizes_timed"], 0)
        self.assertEqual(counters["inductor"]["custom_op_candidates_compiled"], 0)

    def test_a_table_is_enough(self):
        def fastest(rows, columns):
            return 1 + (columns > 32)

        _, record = self.tuned(fastest, [(5, 5)])
        with tempfile.TemporaryDirectory() as folder:
            save(f"{folder}/table.json")
            table_store.forget()
            load(f"{folder}/table.json")
        with fresh_cache():
            ran, again = self.tuned(lambda *_: 1, [(5, 32), (5, 33)])
        self.assertEqual(ran, {(5, 32): 1.0, (5, 33): 2.0})
        self.assertEqual(again.ranges, record.ranges)
        self.assertEqual(counters["inductor"]["sizes_timed"], 0)

    @pytest.mark.slow
    def test_size_weights(self):
        """Many calls of a few sizes decide for a cell; the others are as before."""
        weights = {(20, 40): 100.0, (60, 120): 1.0, (60, 100): 0, (9999, 9999): 3.0}
        seen = []
        ran, record = self.tuned(
            lambda rows, columns: 1 if (rows, columns) == (20, 40) else 2,
            [(20, 40), (60, 120), (65, 40), (257, 129)],
            seen,
            size_weights=weights,
        )
        self.assertEqual([*ran.values()], [1.0, 1.0, 2.0, 2.0])
        middle = record.ranges[4]
        self.assertEqual(
            {one.sizes: one.weight for one in middle.sizes},
            {(20, 40): 100.0, (60, 120): 1.0},
        )
        self.assertEqual([s.sizes for s in record.ranges[-1].sizes], [(9999, 9999)])
        self.assertEqual(len(record.ranges[0].sizes), 5)

    @pytest.mark.slow
    def test_budget(self):
        """A fine grid: a border between winners is found from few of the cells."""
        splits = [[8 * i for i in range(1, 16)]] * 2

        def fastest(rows, columns):
            return 1 if rows <= 40 else 2

        with each_size_takes(0.3):
            _, record = self.tuned(
                fastest, [(5, 5)], split_points=splits, tuning_seconds=120.0
            )
        measured = [row for row in record.ranges if row.sizes]
        # A cell is timed at three to five sizes.
        self.assertLessEqual(len(measured), 120)
        self.assertGreater(len(measured), 60)
        for row in record.ranges:
            first = row.cell.ranges[0].start
            self.assertEqual(row.winner, f"plus(k={1 if first <= 40 else 2})")
        self.assertEqual(record.branches, 2)
        ran, again = self.tuned(lambda *_: 1, [(40, 9), (41, 9)], split_points=splits)
        self.assertEqual(ran, {(40, 9): 1.0, (41, 9): 2.0})

    def test_found_split_points_of_an_expression(self):
        ran, record = self.tuned(
            lambda rows, columns: 1 if rows * columns <= 3000 else 2,
            [(20, 140), (20, 160), (10, 280), (10, 320)],
            dispatch_on={"size": lambda x: x[0] * x[1], "min": 4, "max": 65536},
            split_points="auto",
        )
        self.assertEqual([*ran.values()], [1.0, 2.0, 1.0, 2.0])
        self.assertEqual(record.axes, ("x.shape[0]*x.shape[1]",))
        (split,) = [r.size_range.end for r in record.ranges[:-1]]
        self.assertLess(abs(split / 3000 - 1), 0.1)

    def test_equal_candidates_make_no_branch(self):
        _, record = self.tuned(lambda *_: 0, [(5, 5)])
        self.assertEqual(record.branches, 1)

    @pytest.mark.slow
    def test_memory(self):
        """Inputs of the open cell would take 16 GiB."""
        seen = []
        self.tuned(lambda *_: 1, [(5, 5)], seen)
        self.assertLessEqual(max(math.prod(sizes) * 4 for sizes in seen), 1 << 30)

    def test_config_generator_sees_every_cell(self):
        shapes = []

        def generate(tensors):
            rows, columns = tensors["x"].shape
            shapes.append((rows, columns))
            return [CustomOpConfig(plus, k=1 if rows * columns <= 64 * 128 else 7)]

        ran, _ = self.tuned(
            lambda *_: 0,
            [(64, 128), (65, 129)],
            configs=None,
            config_generator=generate,
            include_fallback=False,
        )
        self.assertEqual(ran, {(64, 128): 1.0, (65, 129): 7.0})
        self.assertEqual(len(shapes), 12)

    def test_what_cannot_be_run_leaves_the_op_itself(self):
        with planted_times(lambda *_: None):
            ran, _ = self.ran(
                [(5, 5), (300, 300)],
                configs=configs(2),
                dispatch_on=by_dimensions(("x", 0), ("x", 1)),
                split_points=self.SPLITS,
            )
        self.assertEqual({*ran.values()}, {-1.0})


GOOD = dict(
    configs=configs(1),
    dispatch_on=by_dimensions(("x", 0), ("w", 0)),
    split_points=[[8], [16]],
)
WRONG = [
    (dict(dispatch_on=[]), "list of 1 to 3 dicts"),
    (dict(dispatch_on=by_dimensions(*[("x", 0)] * 4)), "list of 1 to 3 dicts.*got 4"),
    (dict(dispatch_on=[3, 4]), "dispatch_on must be a dict"),
    (dict(split_points=[[8]]), "a list for each of the dimensions.*for 2"),
    (dict(split_points="auto"), "a list for each of the dimensions"),
    (dict(split_points=[8, 16]), r"split_points\[0\] must be a non-empty list"),
    (dict(split_points=[[8], []]), r"split_points\[1\] must be a non-empty list"),
    (dict(split_points=[[8], [4, 2]]), r"split_points\[1\] must be sorted"),
    (dict(split_points=[[*range(1, 60)]] * 2), "3600 cells, more than 1024"),
    (dict(dispatch_on=by_dimensions(("x", 0), ("v", 0))), r"dispatch_on\[1\].*'v'"),
    (dict(dispatch_on=by_dimensions(("x", 0), ("w", "0"))), r"dispatch_on\[1\]\['dim'"),
    (
        dict(
            dispatch_on=[
                {"tensor_name": "x", "dim": 0, "min": 3},
                GOOD["dispatch_on"][1],
            ]
        ),
        r"dispatch_on\[0\]\['min'\] is for split_points='auto'",
    ),
    (dict(winners=[0, 0]), r"each of the 4 cells \(2 x 2, the last one fastest\)"),
    (dict(size_weights={3: 1}), "tuples of 2 sizes as keys.*got 3"),
    (dict(size_weights={(3, 4, 5): 1}), "tuples of 2 sizes as keys"),
    (dict(size_weights={(3, -1): 1}), r"integers from 0, got \(3, -1\)"),
    (
        dict(dispatch_on={"size": lambda x: x[0], "dim": 0}, split_points=[8]),
        "takes 'size', or 'tensor_name' and 'dim'",
    ),
    (dict(dispatch_on={"size": 3}, split_points=[8]), "must be a function of the"),
    (dict(dispatch_on={"size": lambda: 3}, split_points=[8]), "must be a function of"),
    (
        dict(dispatch_on={"size": lambda weight: 3}, split_points=[8]),
        r"the parameter 'weight', not a tensor argument.*allowed: \['x', 'w'\]",
    ),
    (
        dict(dispatch_on={"size": lambda *x: 3}, split_points=[8]),
        r"the parameter '\*x'",
    ),
]


@instantiate_parametrized_tests
class RegistrationTest(TestCase):
    @parametrize("index", range(len(WRONG)))
    def test_wrong(self, index):
        changes, message = WRONG[index]
        with self.assertRaisesRegex((ValueError, TypeError), message):
            register_custom_op_autotuning(add, **{**GOOD, **changes})

    def test_a_list_of_one_is_like_a_dict(self):
        with custom_op_autotuning(
            add,
            configs=configs(1),
            dispatch_on=by_dimensions(("x", 0)),
            split_points=[[8]],
            winners=[0, -1],
        ):
            compiled = torch.compile(model, dynamic=True)
            self.assertEqual(compiled(*made(8, 2)).max().item(), 1.0)
            self.assertEqual(compiled(*made(9, 2)).max().item(), -1.0)


axis_splits = st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True)
grids = st.lists(axis_splits.map(sorted), min_size=1, max_size=3)


class PlanTest(TestCase):
    @hypothesis.settings(deadline=None, max_examples=200)
    @hypothesis.given(data=st.data(), splits=grids, merge=st.booleans())
    @pytest.mark.slow
    def test_tree_decides_as_the_grid_does(self, data, splits, merge):
        cells = cells_of_grid([ranges_from_split_points(one) for one in splits])
        winners = data.draw(
            st.lists(st.integers(0, 4), min_size=len(cells), max_size=len(cells))
        )
        branches = group_by_winner(cells, winners, merge)
        tree = plan_decisions(branches)
        self.assertLessEqual(depth(tree), math.ceil(math.log2(len(branches))))
        self.assertEqual(sorted(leaves(tree)), [*range(len(branches))])
        for sizes in itertools.product(*map(around, splits)):
            due = winners[cell_of(cells, sizes)]
            self.assertEqual(branches[decide(tree, sizes)].winner, due)

    def test_a_straight_border_takes_one_comparison(self):
        cells = cells_of_grid([ranges_from_split_points([4, 8, 16])] * 3)
        winners = [int(cell.ranges[1].start > 8) for cell in cells]
        tree = plan_decisions(group_by_winner(cells, winners))
        self.assertEqual(tree.boxes, (((None, None), (None, 8), (None, None)),))


def depth(tree):
    if isinstance(tree, Leaf):
        return 0
    return 1 + max(depth(tree.inside), depth(tree.outside))


def leaves(tree):
    if isinstance(tree, Leaf):
        return [tree.branch]
    return [*leaves(tree.inside), *leaves(tree.outside)]


class GridSearchTest(TestCase):
    def search(self, shape, winner, budget=None):
        asked = []

        def measure(place):
            if budget is not None and len(asked) >= budget:
                return None
            asked.append(place)
            return winner(*place)

        places = [*itertools.product(*map(range, shape))]
        return search_grid(places, measure), asked

    def test_everything_is_measured_if_there_is_time(self):
        for shape in ((1,), (5,), (3, 4), (9, 9), (2, 3, 4)):
            found, asked = self.search(shape, lambda *place: sum(place) > 4)
            self.assertEqual(len(asked), math.prod(shape))
            self.assertEqual(found, {p: sum(p) > 4 for p in asked})

    def test_the_border_comes_before_what_lies_within(self):
        def winner(row, column):
            return row + column > 17

        found, asked = self.search((16, 16), winner, budget=140)
        self.assertEqual(len(asked), 140)
        for place in itertools.product(range(16), repeat=2):
            beside = [(place[0] + 1, place[1]), (place[0], place[1] + 1)]
            if any(max(b) < 16 and winner(*b) != winner(*place) for b in beside):
                self.assertIn(place, found)

    def test_a_short_budget_sees_all_of_the_grid(self):
        _, asked = self.search((16, 16), lambda *_: 0, budget=25)
        for corner in itertools.product((0, 15), repeat=2):
            self.assertIn(corner, asked)

    def test_neighbours(self):
        places = [*itertools.product(range(2), range(3))]
        self.assertEqual(
            neighbours(places), [[1, 3], [0, 2, 4], [1, 5], [0, 4], [1, 3, 5], [2, 4]]
        )
        self.assertEqual(neighbours([()]), [[]])


if __name__ == "__main__":
    run_tests()
