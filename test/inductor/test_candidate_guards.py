# Owner(s): ["module: inductor"]
"""What candidates need of sizes: who is dropped, what is guarded on, what is said."""

import contextlib
import logging

import pytest

import sympy
from _fresh_test_case import FreshTestCase
from _planted_times import planted_times
from hypothesis import given, settings, strategies as st

import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor import config
from torch._inductor.exc import InductorError
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch import explain
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.range_dispatch.trace.proving import holds_for_all
from torch._inductor.test_case import run_tests, TestCase
from torch.utils._sympy.functions import FloorDiv, Mod


LOGGER = "torch._inductor.range_dispatch"
OF_THE_OP = 1000.0


@torch.library.custom_op("candidate_guards::scale", mutates_args=())
def scale(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return x * w + OF_THE_OP


@scale.register_fake
def _(x, w):
    return torch.empty_like(x)


def shifted(shift):
    def implementation(x, w):
        return x * w + shift

    implementation.__name__ = f"shifted_{shift}"
    return implementation


def needs_even_rows(x, w):
    return x * w + (1.0 if x.shape[0] % 2 == 0 else 2.0)


def needs_even_columns(x, w):
    assert w.shape[0] % 2 == 0
    return x * w + 3.0


def needs_six_columns(x, w):
    return sum(x[:, i : i + 1] for i in range(x.shape[1])) * 0 + x * w + 4.0


def needs_one_size_of_rows(x, w):
    rows = [x[i] * w for i in range(x.shape[0])]
    return torch.stack(rows) + 5.0


def convolves(x, w):
    # The kernel's length is the size that is dispatched on: lowering makes it a number.
    signal = torch.ones(1, 1, 4096)
    return F.conv1d(signal, x[:, 0].view(1, 1, -1)).sum() * 0 + x * w + 6.0


def mark_rows(x, w):
    torch._dynamo.mark_dynamic(x, 0)


def planted(milliseconds):
    """Replaces timing: by name, what a candidate takes."""
    return planted_times(lambda candidate, inputs: milliseconds(candidate.name))


class CandidateGuardsTestCase(FreshTestCase):
    def register(self, *implementations, split_points=(16,), **arguments):
        configs = [CustomOpConfig(one) for one in implementations]
        self.enterContext(
            custom_op_autotuning(
                scale,
                configs=configs,
                dispatch_on={"tensor_name": "x", "dim": 0},
                split_points=[*split_points],
                **arguments,
            )
        )

    def compile(self, mark=None):
        """A compiled function of (rows, columns), which says what was added."""
        self.counter = CompileCounterWithBackend("inductor")
        compiled = torch.compile(
            lambda x, w: scale(x, w),
            backend=self.counter,
            dynamic=None if mark else True,
            fullgraph=True,
        )

        def run(rows, columns=6):
            x, w = torch.randn(rows, columns), torch.randn(columns)
            if mark:
                mark(x, w)
            added = compiled(x, w) - x * w
            self.assertEqual(added, added[0, 0].expand_as(added), atol=1e-4, rtol=0)
            return round(added[0, 0].item(), 3)

        self.compiled = compiled
        return run

    @contextlib.contextmanager
    def warnings(self):
        """The lines that are logged, at least one."""
        with self.assertLogs(LOGGER, "WARNING") as logs:
            lines: list[str] = []
            yield lines
        lines += [record.getMessage() for record in logs.records]
        for line in lines:
            self.assertNotIn("\n", line)


class GivenWinnersTest(CandidateGuardsTestCase):
    """``winners`` mean what they say."""

    def test_unusable(self):
        def raises(x, w):
            raise ValueError("not for me")

        self.register(shifted(1.0), raises, winners=[0, 1])
        with self.assertRaises(InductorError) as caught:
            self.compile()(8)
        message = str(caught.exception)
        for part in (
            "winners[1]",
            "candidate_guards.scale",
            "raises",
            "[17, inf]",
            "not for me",
            "on_unusable_winner",
        ):
            self.assertIn(part, message)
        torch._dynamo.reset()
        with (
            config.patch("range_dispatch.on_unusable_winner", "fallback"),
            self.warnings() as lines,
        ):
            run = self.compile()
            self.assertEqual([run(16), run(17)], [1.0, OF_THE_OP])
        self.assertEqual(len(lines), 1)
        self.assertEqual(self.counter.frame_count, 1)
        explained = str(explain(self.compiled, torch.randn(17, 6), torch.randn(6)))
        self.assertIn("in place of the winner that was given", explained)
        self.assertIn("not for me", explained)

    def test_forced(self):
        """By name, whatever was given or is timed."""
        for winners in ({"winners": [0, 1]}, {}):
            self.register(shifted(1.0), shifted(2.0), **winners)
            for force, due in (
                ("candidate_guards.scale:shifted_2.0", 2.0),
                ("other:f; scale : shifted_1.0", 1.0),
                ("candidate_guards::scale:fallback", OF_THE_OP),
            ):
                torch._dynamo.reset()
                with config.patch("range_dispatch.force", force):
                    run = self.compile()
                    self.assertEqual([run(16), run(17)], [due] * 2)
                    inputs = torch.randn(17, 6), torch.randn(6)
                    explained = str(explain(self.compiled, *inputs))
                    self.assertIn("forced by config", explained)
        for wrong, said in (
            ("scale:nobody", "has no candidate 'nobody', but 'shifted_1.0', "),
            ("scale", "must be 'op:name', got 'scale'"),
        ):
            torch._dynamo.reset()
            with config.patch("range_dispatch.force", wrong):
                with self.assertRaisesRegex(InductorError, said):
                    self.compile()(16)

    def test_config_is_checked(self):
        def raises(x, w):
            raise ValueError("not for me")

        self.register(raises, winners=[0, 0])
        with (
            config.patch("range_dispatch.on_unusable_winner", "ignore"),
            self.assertRaisesRegex(InductorError, "error, fallback, got 'ignore'"),
        ):
            self.compile()(8)

    def test_guard_that_the_range_leaves_open(self):
        """It is one for the sizes of that range only."""
        self.register(shifted(7.0), needs_even_rows, winners=[0, 1])
        run = self.compile()
        self.assertEqual([run(8), run(9), run(18)], [7.0, 7.0, 1.0])
        before = self.counter.frame_count
        self.assertEqual([run(20), run(3)], [1.0, 7.0])
        self.assertEqual(self.counter.frame_count, before)
        self.assertEqual(run(21), 2.0)
        self.assertLessEqual(self.counter.frame_count, 2)

    def test_a_graph_for_each_size_of_one_range(self):
        """Other ranges share a graph all the same, and one warning tells."""
        self.register(needs_one_size_of_rows, shifted(7.0), winners=[0, 1])
        run = self.compile()
        with self.warnings() as lines:
            self.assertEqual([run(40), run(17), run(80)], [7.0] * 3)
            self.assertEqual(self.counter.frame_count, 1)
            self.assertEqual([run(16), run(9), run(16), run(9)], [5.0] * 4)
        self.assertEqual(self.counter.frame_count, 3)
        self.assertEqual([run(18), run(90)], [7.0] * 2)
        self.assertEqual(self.counter.frame_count, 3)
        self.assertIn("x.shape[0]", lines[0])
        self.assertIn("a graph of its own", lines[0])

    def test_a_size_that_lowering_fixes(self):
        """A cached graph is not used for another one."""
        self.register(convolves, shifted(7.0), winners=[0, 1], split_points=[12])
        run = self.compile()
        with self.warnings() as lines:
            self.assertEqual([run(8), run(9), run(17)], [6.0, 6.0, 7.0])
        self.assertEqual([run(8), run(40)], [6.0, 7.0])
        self.assertEqual(self.counter.frame_count, 2)
        (line,) = lines
        for part in ("[0, 12]", "x.shape[0]", "a graph of its own"):
            self.assertIn(part, line)

    def test_a_marked_size_that_lowering_fixes(self):
        self.register(convolves, shifted(7.0), winners=[0, 1])
        with self.assertRaises(InductorError) as caught:
            self.compile(mark_rows)(8)
        for part in ("winners[0]", "convolves", "[0, 16]", "x.shape[0] == 8"):
            self.assertIn(part, str(caught.exception))
        torch._dynamo.reset()
        with (
            config.patch("range_dispatch.force", "scale:convolves"),
            self.assertRaisesRegex(
                InductorError, "the forced winner of .*, convolves, cannot be used for"
            ),
        ):
            self.compile(mark_rows)(8)
        torch._dynamo.reset()
        with (
            config.patch("range_dispatch.on_unusable_winner", "fallback"),
            self.warnings() as lines,
        ):
            run = self.compile(mark_rows)
            self.assertEqual([run(8), run(17), run(9)], [OF_THE_OP, 7.0, OF_THE_OP])
        self.assertEqual(len(lines), 1)
        self.assertEqual(self.counter.frame_count, 1)

    def test_sizes_are_found_that_a_range_is_traced_with(self):
        """Neither the smallest nor the largest size of the range will do."""

        def in_blocks(x, w):
            assert x.shape[0] % 12 == 0 and x.shape[0] % 5 == 0
            return x * w + 3.0

        self.register(shifted(7.0), in_blocks, winners=[0, 1])
        run = self.compile()
        self.assertEqual([run(8), run(60), run(120), run(9)], [7.0, 3.0, 3.0, 7.0])
        self.assertEqual(self.counter.frame_count, 1)

    def test_range_decides(self):
        """What holds for all sizes of a range is no guard: this is true for all."""

        def halves(x, w):
            first, second = torch.split(
                x, [x.shape[0] // 2, x.shape[0] - x.shape[0] // 2]
            )
            return torch.cat([first, second]) * w + 1.0

        def table(x, w):
            return x * w + 0 * torch.arange(64.0)[: x.shape[0], None] + 2.0

        # Alone, the second has a graph for up to 64 rows.
        self.register(table, halves, winners=[0, 1])
        run = self.compile()
        rows = (16, 17, 2, 900)
        self.assertEqual([run(n) for n in rows], [2.0, 1.0, 2.0, 1.0])
        self.assertEqual(self.counter.frame_count, 1)

    def test_checks_of_data_are_of_the_branch(self):
        def checks(x, w):
            first = x[0, 0].long().item()
            torch._check(first < 100)
            return x * w + 0 * first + 1.0

        self.register(checks, shifted(2.0), winners=[0, 1])
        run = self.compile()
        self.assertEqual([run(16), run(17)], [1.0, 2.0])
        large = torch.full((17, 6), 200.0)
        weight = torch.zeros(6)
        self.assertEqual(self.compiled(large, weight), torch.full((17, 6), 2.0))
        with self.assertRaises(RuntimeError):
            self.compiled(large[:16], weight)
        self.assertEqual(self.counter.frame_count, 1)

    def test_sizes_that_need_be_equal(self):
        def needs_equal(x, w):
            return torch.einsum("bi,bj->bi", x, w) * 0 + x * w + 1.0

        self.register(needs_equal, shifted(2.0), winners=[0, 1])
        counter = CompileCounterWithBackend("inductor")
        compiled = torch.compile(
            lambda x, w: scale(x, w), backend=counter, fullgraph=True
        )
        for n, added in ((16, 1.0), (17, 2.0), (5, 1.0)):
            x, w = torch.randn(n, 6), torch.randn(n, 6)
            torch._dynamo.mark_dynamic(x, 0)
            torch._dynamo.mark_dynamic(w, 0)
            self.assertEqual(compiled(x, w), x * w + added)
        self.assertEqual(counter.frame_count, 1)

    @config.patch("fx_graph_cache", False)
    @pytest.mark.slow
    def test_package_raises_where_it_does_not_hold(self):
        """A package has no guards: what a winner needs is checked when it runs."""
        self.register(needs_even_columns, shifted(2.0), winners=[0, 1])

        class Model(torch.nn.Module):
            def forward(self, x, w):
                return scale(x, w)

        rows, columns = torch.export.Dim("rows", min=2), torch.export.Dim.AUTO
        exported = torch.export.export(
            Model(),
            (torch.randn(8, 6), torch.randn(6)),
            dynamic_shapes=({0: rows, 1: columns}, {0: columns}),
        )
        package = torch._inductor.aoti_compile_and_package(exported)
        runner = torch._inductor.aoti_load_package(package)
        for n in (8, 17):
            x, w = torch.randn(n, 4), torch.randn(4)
            self.assertEqual(runner(x, w), x * w + (3.0 if n == 8 else 2.0))
        with self.assertRaises(RuntimeError):
            runner(torch.randn(8, 5), torch.randn(5))


class TunedCandidatesTest(CandidateGuardsTestCase):
    """A candidate that is timed adds nothing to the graph unless it wins."""

    def test_loser_adds_no_guard(self):
        self.register(needs_six_columns, shifted(1.0))
        run = self.compile()
        with planted(lambda name: 1.0 if "shifted" in name else 2.0):
            self.assertEqual([run(16, 6), run(17, 8), run(17, 10)], [1.0] * 3)
        self.assertEqual(self.counter.frame_count, 1)

    def test_winner_adds_its_guard(self):
        self.register(needs_six_columns, shifted(1.0))
        run = self.compile()
        with planted(lambda name: 1.0 if "columns" in name else 2.0):
            self.assertEqual([run(16, 6), run(17, 6), run(17, 8)], [4.0] * 3)
        # As when it is compiled alone.
        self.assertEqual(self.counter.frame_count, 2)

    def test_out_for_a_range_that_leaves_it_open(self):
        self.register(needs_even_rows, shifted(7.0))
        run = self.compile()
        with (
            self.warnings() as lines,
            record_dispatches() as records,
            planted(lambda name: 1.0 if "rows" in name else 2.0),
        ):
            self.assertEqual([run(16), run(17), run(18)], [7.0] * 3)
        self.assertEqual(self.counter.frame_count, 1)
        self.assertEqual(len(lines), 1)
        for part in ("needs_even_rows", "[0, 16]", "[17, inf]", "x.shape[0]"):
            self.assertIn(part, lines[0])
        self.assertIn("needs_even_rows", str(records[0].dropped))

    def test_out_where_lowering_fixes_the_size(self):
        self.register(convolves, shifted(7.0))
        for mark in (None, mark_rows):
            torch._dynamo.reset()
            run = self.compile(mark)
            with planted(lambda name: 1.0 if "convolves" in name else 2.0):
                self.assertEqual([run(8), run(9), run(17)], [7.0] * 3)
            self.assertEqual(self.counter.frame_count, 1)

    def test_the_only_one_left(self):
        def raises(x, w):
            raise ValueError("not for anybody")

        self.register(raises, shifted(7.0), include_fallback=False)
        run = self.compile()
        with self.warnings() as lines:
            run(16)
        self.assertEqual(len(lines), 1)
        explained = explain(self.compiled, torch.randn(16, 6), torch.randn(6))
        self.assertIn("the only candidate left; dropped: raises", str(explained))

    def test_marked_dimension_is_not_fixed(self):
        def mark(x, w):
            torch._dynamo.mark_dynamic(x, 0)
            torch._dynamo.mark_dynamic(x, 1)
            torch._dynamo.mark_dynamic(w, 0)

        self.register(needs_six_columns, shifted(7.0))
        run = self.compile(mark)
        with (
            self.warnings() as lines,
            planted(lambda name: 1.0 if "columns" in name else 2.0),
        ):
            self.assertEqual([run(16, 6), run(17, 8)], [7.0] * 2)
        self.assertEqual(self.counter.frame_count, 1)
        for part in ("needs_six_columns", "x.shape[1] == 6", "marked dynamic"):
            self.assertIn(part, lines[0])

    def test_bounds_of_a_marked_dimension_are_kept(self):
        def mark(x, w):
            torch._dynamo.mark_dynamic(x, 0)
            torch._dynamo.mark_dynamic(x, 1, min=2, max=64)
            torch._dynamo.mark_dynamic(w, 0)

        self.register(needs_even_columns, shifted(7.0))
        run = self.compile(mark)
        with (
            self.warnings() as lines,
            planted(lambda name: 1.0 if "columns" in name else 2.0),
        ):
            self.assertEqual([run(16, 6), run(17, 9)], [7.0] * 2)
        self.assertEqual(self.counter.frame_count, 1)
        self.assertIn("marked dynamic with bounds", lines[0])

    def test_nothing_of_the_base_is_logged(self):
        """A probe that fails is reported in one line, without tracebacks."""

        self.register(convolves, shifted(7.0))
        run = self.compile()
        with (
            self.assertLogs("torch", "WARNING") as logs,
            planted(lambda name: 1.0 if "convolves" in name else 2.0),
        ):
            self.assertEqual(run(16), 7.0)
            logging.getLogger("torch.end").warning("the end")
        self.assertLessEqual(len(logs.records), 2, logs.output)

    def test_plain_autotuning(self):
        """Without a dispatched size the guards of a winner are guards."""
        with (
            custom_op_autotuning(
                scale,
                configs=[
                    CustomOpConfig(needs_six_columns),
                    CustomOpConfig(shifted(1.0)),
                ],
            ),
            planted(lambda name: 1.0 if "columns" in name else 2.0),
        ):
            run = self.compile()
            self.assertEqual([run(16, 6), run(40, 6)], [4.0] * 2)
        self.assertEqual(self.counter.frame_count, 1)


class ProvingTest(TestCase):
    """Conditions that hold for all sizes are told from those that do not."""

    n = sympy.Symbol("n", integer=True, positive=True)

    @settings(deadline=None)
    @given(
        st.integers(1, 6),
        st.integers(-9, 9),
        st.integers(1, 9),
        st.integers(1, 6),
        st.integers(-9, 9),
        st.sampled_from([sympy.Ge, sympy.Gt, sympy.Le, sympy.Lt, sympy.Eq, sympy.Ne]),
        st.integers(0, 40),
    )
    def test_what_is_proved_holds(self, a, b, c, d, e, relation, lower):
        left = a * FloorDiv(self.n + 9 + b, c) + Mod(self.n, d)
        condition = relation(left, self.n + e)
        if holds_for_all(condition, lower, None):
            for size in (*range(lower, lower + 300), 10**6, 10**6 + 7):
                self.assertEqual(condition.xreplace({self.n: size}), sympy.true)

    def test_bounded(self):
        self.assertTrue(holds_for_all(self.n <= 128, 2, 128))
        self.assertFalse(holds_for_all(self.n <= 128, 2, 129))
        self.assertFalse(holds_for_all(self.n <= 128, 65, None))

    def test_tautologies(self):
        n = self.n
        for condition in (
            n - FloorDiv(n, 2) >= 0,
            FloorDiv(n, 2) < n,
            sympy.Eq(FloorDiv(n, 2) + FloorDiv(n + 1, 2), n),
            sympy.Eq(Mod(20 * n + 20480, n + 1024), 0),
            64 * FloorDiv(n + 63, 64) >= n,
        ):
            self.assertTrue(holds_for_all(condition, 2, None), str(condition))

    def test_not_always_true(self):
        n = self.n
        for condition in (
            sympy.Eq(Mod(n, 2), 0),
            sympy.Eq(2 * FloorDiv(n + 1, 2), n),
            sympy.Ne(n, 700),
            n < 2**40,
        ):
            self.assertFalse(holds_for_all(condition, 2, None), str(condition))


if __name__ == "__main__":
    run_tests()
