# Owner(s): ["module: inductor"]
"""What torch.compile compiles by itself is a candidate: implementations as people write
them, each alone and as the candidate of a dispatched op."""

import contextlib
import logging
import os
import unittest
from collections import Counter
from unittest import mock

import pytest
from _candidate_table import Kind, OWN_MARKER, SPLIT_POINT
from _candidates_algebra import ALGEBRA
from _candidates_attention import ATTENTION
from _candidates_norms import NORMS
from _candidates_numbers import NUMBERS
from _candidates_routing import ROUTING
from _planted_times import planted_times
from _triton_on_cpu import HAS_TRITON, SKIP_REASON, triton_kernels

import torch
import torch.utils._pytree as pytree
from torch._dynamo.exc import Unsupported
from torch._dynamo.testing import CompileCounterWithBackend
from torch._functorch import config as functorch_config
from torch._inductor import config
from torch._inductor.exc import InductorError
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.runtime.cache_dir_utils import cache_dir
from torch._inductor.test_case import run_tests, TestCase
from torch.fx.experimental.symbolic_shapes import ConstraintViolationError
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    subtest,
)


ENTRIES = [*ATTENTION, *NORMS, *ROUTING, *NUMBERS, *ALGEBRA]
MODES = ("all", "marked")
KERNELS = cache_dir()
DISPATCH_LOGGER = "torch._inductor.range_dispatch"


def cases(flag="", at_most=None):
    """All entries, or those with a flag; tests are slow but for ``at_most`` of the fast
    entries, without it the first one of each kind."""
    for entry, is_fast in _told_apart(flag, at_most):
        yield _subtest(entry, entry.name, is_fast)


def cells(flag="", at_most=None):
    """As cases, each in each mode; the fast entries take the modes in turn."""
    number = 0
    for entry, is_fast in _told_apart(flag, at_most):
        for index, mode in enumerate(MODES):
            is_turn = index == number % len(MODES)
            yield _subtest((entry, mode), f"{entry.name}_{mode}", is_fast and is_turn)
        number += is_fast


def _told_apart(flag, at_most):
    fast = []
    for entry in ENTRIES:
        if flag and not getattr(entry, flag):
            continue
        is_fast = entry.fast and (
            all(entry.kind is not other.kind for other in fast)
            if at_most is None
            else len(fast) < at_most
        )
        fast += [entry] * is_fast
        yield entry, is_fast


def _subtest(parameters, name, is_fast):
    decorators = [] if is_fast else [pytest.mark.slow]
    return subtest(parameters, name=name, decorators=decorators)


def arguments_in(mode, entry, size):
    """All sizes are dynamic without a mark in mode "all"."""
    return entry.arguments(size) if mode == "all" else entry.marked_arguments(size)


def compile_in(mode, function, backend):
    dynamic = True if mode == "all" else None
    return torch.compile(function, backend=backend, dynamic=dynamic, fullgraph=True)


@contextlib.contextmanager
def warnings_of_dispatch():
    """What the engine warns of: that a candidate was dropped, and why."""
    messages = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger(DISPATCH_LOGGER)
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


class ParityTestCase(TestCase):
    def setUp(self):
        super().setUp()
        # Kernels that were compiled before may serve; every graph is lowered anew.
        environment = {"TORCHINDUCTOR_CACHE_DIR": KERNELS}
        for context in (
            mock.patch.dict(os.environ, environment),
            config.patch(fx_graph_cache=False, autotune_local_cache=False),
            functorch_config.patch(enable_autograd_cache=False),
            torch._dynamo.config.patch(capture_scalar_outputs=True),
        ):
            self.enterContext(context)
        torch._dynamo.reset()

    def register(self, entry, own=None, **options):
        """A call of a new op that is dispatched for the rest of the test.

        Its first candidate is the entry's implementation, which the range up to the
        split point takes; the second is told from it, and the op itself, by values.
        """
        op = entry.define_op(own or entry.shifted(OWN_MARKER))
        context = custom_op_autotuning(
            op,
            configs=[
                CustomOpConfig(entry.implementation),
                CustomOpConfig(entry.shifted(1)),
            ],
            dispatch_on={"tensor_name": "x", "dim": entry.dim},
            split_points=[SPLIT_POINT],
            **options,
        )
        context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return op

    def graphs_alone(self, entry, mode, sizes=None):
        """The number of graphs that plain compile makes of the implementation."""
        counter = CompileCounterWithBackend(entry.alone_with)
        compiled = compile_in(
            mode, lambda *args: entry.call(entry.implementation, *args), counter
        )
        for size in sizes or entry.sizes:
            compiled(*arguments_in(mode, entry, size))
        if mode not in entry.graphs_alone and sizes is None:
            self.assertEqual(counter.frame_count, 1)
        return counter.frame_count

    def check_dispatch(self, entry, op, mode, graphs, sizes=None):
        """One compiled function at all sizes: which implementation ran, the values and
        the number of graphs."""
        counter = CompileCounterWithBackend("inductor")
        compiled = compile_in(mode, lambda *args: entry.call(op, *args), counter)
        with warnings_of_dispatch() as warnings:
            for size in sizes or entry.sizes:
                self.assertEqual(
                    compiled(*arguments_in(mode, entry, size)),
                    entry.due(size),
                    atol=1e-3,
                    rtol=1e-4,
                    msg=lambda m: f"size {size}: {m}\n{warnings}",
                )
        self.assertLessEqual(counter.frame_count, graphs)


@instantiate_parametrized_tests
class CandidateParityTest(ParityTestCase):
    @parametrize("entry, mode", cells())
    def test_dispatched_as_alone(self, entry, mode):
        op = self.register(entry, winners=[0, 1])
        if mode not in entry.fails_alone:
            self.check_dispatch(entry, op, mode, self.graphs_alone(entry, mode))
            return
        errors = (ConstraintViolationError, Unsupported)
        with self.assertRaisesRegex(errors, entry.fails_alone[mode]):
            self.graphs_alone(entry, mode)
        # Dispatch does better or says that it cannot: the op itself runs for none.
        with contextlib.suppress(ConstraintViolationError, InductorError):
            self.check_dispatch(entry, op, mode, graphs=1)

    @parametrize("entry", cases(at_most=4))
    def test_compiled_for_the_upper_range_first(self, entry):
        """The range that the implementation runs in is not the one that was seen."""
        op = self.register(entry, winners=[0, 1])
        sizes = entry.sizes[::-1]
        for mode in MODES:
            if mode not in entry.fails_alone:
                torch._dynamo.reset()
                graphs = self.graphs_alone(entry, mode, sizes)
                torch._dynamo.reset()
                self.check_dispatch(entry, op, mode, graphs, sizes)

    @config.patch(cpp_wrapper=True)
    @parametrize("entry, mode", cells("wrappers", at_most=1))
    def test_cpp_wrapper(self, entry, mode):
        op = self.register(entry, winners=[0, 1])
        self.check_dispatch(entry, op, mode, graphs=1)

    @unittest.skipUnless(HAS_TRITON, SKIP_REASON)
    @parametrize("entry, mode", cells("wrappers", at_most=1))
    def test_fx_wrapper(self, entry, mode):
        op = self.register(entry, winners=[0, 1])
        with triton_kernels(), config.patch(fx_wrapper=True), torch.no_grad():
            self.check_dispatch(entry, op, mode, graphs=1)

    @parametrize("entry, mode", cells("trains", at_most=2))
    def test_training(self, entry, mode):
        op = self.register(entry, winners=[0, 1])
        backward = entry.define_backward()
        op.register_autograd(
            lambda ctx, gradient: tuple(backward(gradient, [*ctx.saved_tensors])),
            setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
        )
        counter = CompileCounterWithBackend("inductor")
        compiled = compile_in(mode, lambda *args: entry.call(op, *args), counter)
        with warnings_of_dispatch() as warnings:
            for size in entry.sizes:
                outcomes = []
                for function in (entry.due_of(size), compiled):
                    given = arguments_in(mode, entry, size)
                    wanted = [tensor.requires_grad_() for tensor in given]
                    result = function(*given)
                    gradients = torch.autograd.grad(result.square().sum(), wanted)
                    outcomes.append((result, gradients))
                self.assertEqual(
                    *outcomes,
                    atol=1e-3,
                    rtol=1e-3,
                    msg=lambda m: f"size {size}: {m}\n{warnings}",
                )
        self.assertEqual(counter.frame_count, 1)


@instantiate_parametrized_tests
class TunedParityTest(ParityTestCase):
    """Nothing is given: candidates are dropped, if at all, while tuning."""

    @parametrize("entry, mode", cells("tuned", at_most=4))
    def test_none_is_dropped(self, entry, mode):
        """Each candidate is timed in each range; the second is the faster one, in the
        range up to the split point as well."""
        op = self.register(entry, own=entry.implementation)
        timed = []

        def milliseconds(candidate, inputs):
            timed.append(candidate)
            return 1.0 if candidate.name == "shifted" else 2.0

        compiled = compile_in(mode, lambda *args: entry.call(op, *args), "inductor")
        with (
            planted_times(milliseconds),
            self.assertNoLogs(DISPATCH_LOGGER, "WARNING"),
        ):
            outputs = {n: compiled(*arguments_in(mode, entry, n)) for n in entry.sizes}
        # As often as the others, in each range.
        often = len(timed) // 3
        self.assertEqual([*Counter(timed).values()], [often] * 3)
        shifted = entry.shifted(1)
        for size, output in outputs.items():
            due = entry.call(shifted, *entry.arguments(size))
            self.assertEqual(output, due, atol=1e-3, rtol=1e-4)


class TableTest(TestCase):
    def test_covers_every_kind(self):
        self.assertGreaterEqual(len(ENTRIES), 70)
        self.assertEqual(len({entry.name for entry in ENTRIES}), len(ENTRIES))
        for kind in Kind:
            members = [entry for entry in ENTRIES if entry.kind is kind]
            self.assertGreaterEqual(len(members), 3, msg=kind.name)
            self.assertTrue(any(entry.fast for entry in members), msg=kind.name)

    def test_fast_cells_have_every_kind_and_mode(self):
        fast = [one for one in cells() if pytest.mark.slow not in one.decorators]
        entries, modes = zip(*(one.arg_values for one in fast))
        self.assertEqual({entry.kind for entry in entries}, {*Kind})
        self.assertEqual({*modes}, {*MODES})

    def test_sizes_are_on_both_sides(self):
        for entry in ENTRIES:
            self.assertIn(SPLIT_POINT, entry.sizes, msg=entry.name)
            self.assertGreater(max(entry.sizes), SPLIT_POINT, msg=entry.name)
            own = pytree.tree_leaves(entry.due(SPLIT_POINT))
            self.assertTrue(all(t.dtype != torch.bool for t in own), msg=entry.name)


if __name__ == "__main__":
    run_tests()
