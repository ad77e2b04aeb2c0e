# Owner(s): ["module: inductor"]
"""Ops that write to an argument which shares memory with another one.

A call whose written memory is shared runs the op itself, with a warning; where tensors
lie apart, or are one and the same, it is dispatched. Either way values are eager's.
"""

import contextlib
import itertools
import logging
import unittest

import pytest
from _fresh_test_case import FreshTestCase
from _triton_on_cpu import HAS_TRITON, SKIP_REASON, triton_kernels
from test_custom_op_mutation import (
    define,
    WRITE_AND_READ,
    write_and_read,
    WRITE_BOTH,
    write_both,
    WRITE_LIST,
    write_list,
)

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor import config
from torch._inductor.kernel.custom_op import (
    CustomOpConfig,
    register_custom_op_autotuning,
    unregister_custom_op_autotuning,
)
from torch._inductor.test_case import run_tests


SPLIT = 8
SIZES = (5, 8, 9, 20)
_branches = itertools.count()
IMPLEMENTATIONS = {
    WRITE_AND_READ: write_and_read,
    WRITE_BOTH: write_both,
    WRITE_LIST: write_list,
}

# What of a [n, 8] tensor the calls get that share what is written to.
SHARED = {
    "first_row": lambda x: (x, x[:1]),
    "written_view_of_what_is_read": lambda x: (x[:1], x),
    "shifted": lambda x: (x[:-1], x[1:]),
    "halves_that_meet": lambda x: (x[: len(x) // 2 + 1], x[len(x) // 2 :]),
    "flat": lambda x: (x, x.view(-1)),
    "transposed": lambda x: (x[:4, :4], x[:4, :4].t()),
    "row": lambda x: (x, x[0]),
    "element": lambda x: (x, x[2, 3]),
    "column_of_rows": lambda x: (x[1:3], x[:, 2]),
    "columns_that_meet": lambda x: (x[:, :5], x[:, 4:]),
    "every_other_row": lambda x: (x, x[::2]),
    "expanded": lambda x: (x[:1], x[:1].expand(4, 8)),
    "as_strided": lambda x: (x, x.as_strided((2, 2), (3, 2), 1)),
    "unbound": lambda x: (x[:4], x[:4].unbind(0)[1]),
    "chunk": lambda x: (x, x.chunk(2)[1]),
    "split": lambda x: (x, x.split([3, 5], -1)[0]),
    "detached": lambda x: (x, x.detach()[:1]),
    "diagonal": lambda x: (x[:4], x[:4].diagonal()),
    "windows": lambda x: (x[1:3], x.unfold(0, 2, 1)),
    "other_type": lambda x: (x[:2], x[:2].view(torch.int32)),
}
# And those that do not, or share all of it.
APART = {
    "halves": lambda x: (x[: len(x) // 2], x[len(x) // 2 :]),
    "row_and_rest": lambda x: (x[:1], x[1:]),
    "rest_and_row": lambda x: (x[1:], x[0]),
    "columns": lambda x: (x[:, :4], x[:, 4:]),
    "three_blocks": lambda x: (x[:, 2:5], x[:, 5:]),
    "chunked_columns": lambda x: x.chunk(2, -1),
    "split_columns": lambda x: x.split([3, 5], -1),
    "heads": lambda x: (x[:, :4].unflatten(-1, (2, 2)), x[:, 4:].unflatten(1, (1, 4))),
    "heads_and_columns": lambda x: (x[:, 4:].unflatten(-1, (2, 2)), x[:, :4]),
    "pairs": lambda x: x.unflatten(-1, (4, 2)).unbind(-1),
    "rows_by_turns": lambda x: (x[::2], x[1::2]),
    "unbound_rows": lambda x: x[:4].unbind(0)[:2],
    "transposed_blocks": lambda x: (x.t()[:4], x.t()[4:]),
    "block_and_lower_block": lambda x: (x[:2, :4], x[1:3, 4:]),
    "the_same": lambda x: (x, x),
    "the_same_view": lambda x: (x[1:], x[1:]),
    "the_same_in_another_form": lambda x: (x, x.view(-1, 8)),
    "a_copy": lambda x: (x, x[:1].clone()),
    "computed": lambda x: (x, x[:1] * 2),
}


class AliasingTestCase(FreshTestCase):
    def setUp(self):
        super().setUp()
        self.enterContext(config.patch(force_disable_caches=True))

    def register(self, op, winners=(0, 1), configs=2, **kwargs):
        """The branches of an op differ from each other and from the op itself."""
        implementation = IMPLEMENTATIONS[op]
        first = next(_branches)  # no two tests have the same graphs

        def branch(number):
            def call(*args):
                return implementation(*args, branch=number + 1)

            call.__name__ = f"branch_{first}_{number}"
            return call

        if kwargs.pop("dispatch", True):
            kwargs["dispatch_on"] = {"tensor_name": "size", "dim": 0}
            kwargs["split_points"] = [SPLIT]
        register_custom_op_autotuning(
            op,
            configs=[CustomOpConfig(branch(n)) for n in range(configs)],
            winners=winners,
            **kwargs,
        )
        self.addCleanup(unregister_custom_op_autotuning, op)

    def compile(self, model, dynamic=True, **options):
        self.counter = CompileCounterWithBackend("inductor")
        return torch.compile(
            model, backend=self.counter, dynamic=dynamic, fullgraph=True, **options
        )

    def check(self, op, cases, dispatched, dynamic=True, make=None, sizes=SIZES):
        """Compare with the branch that is due, or with the op itself.

        Each of ``cases`` makes arguments of an input, or of what ``make`` makes of it.
        """
        cases = [*cases]
        make = make or (lambda x: x)

        def model(call, inputs):
            results = []
            for views, x in zip(cases, inputs):
                y = make(x)
                results.append((call(*views(y), torch.ones(x.shape[0])), y, x))
            return results

        compiled = self.compile(lambda *inputs: model(op, inputs), dynamic)
        with self.assertLogsOrNot(0 if dispatched else len(cases)):
            for size in sizes:
                branch = 1 + (size > SPLIT) if dispatched else 0

                def chosen(*args, branch=branch):
                    return IMPLEMENTATIONS[op](*args, branch=branch)

                x = torch.arange(size * 8.0).view(size, 8)
                due = model(chosen, [x.clone() for _ in cases])
                got = compiled(*(x.clone() for _ in cases))
                self.assertEqual(got, due, msg=lambda m: f"size {size}: {m}")
        self.assertEqual(self.counter.frame_count, 1)

    @contextlib.contextmanager
    def assertLogsOrNot(self, warnings):
        """So many calls are left to the op itself, each with a warning."""
        logger = logging.getLogger("torch._inductor.kernel.custom_op")
        with self.assertLogs(logger, "WARNING") as logs:
            logger.warning("so that there is one")
            yield
        del logs.output[0]
        self.assertEqual(len(logs.output), warnings, msg=str(logs.output))


class AliasingTest(AliasingTestCase):
    def test_shared(self):
        self.register(WRITE_AND_READ)
        self.check(WRITE_AND_READ, SHARED.values(), dispatched=False)

    @pytest.mark.slow
    def test_apart(self):
        self.register(WRITE_AND_READ)
        self.check(WRITE_AND_READ, APART.values(), dispatched=True)

    def test_views_of_an_intermediate(self):
        self.register(WRITE_AND_READ)
        for make in (lambda x: x + 1, lambda x: x.clone(), lambda x: x.add_(1)):
            torch._dynamo.reset()
            shared = [SHARED[n] for n in ("first_row", "shifted", "columns_that_meet")]
            self.check(WRITE_AND_READ, shared, dispatched=False, make=make)
        torch._dynamo.reset()
        apart = [APART[n] for n in ("halves", "columns", "the_same_view", "computed")]
        self.check(WRITE_AND_READ, apart, dispatched=True, make=lambda x: x + 1)

    @pytest.mark.slow
    def test_both_are_written(self):
        self.register(WRITE_BOTH)
        shared = [SHARED[n] for n in ("shifted", "transposed", "every_other_row")]
        self.check(WRITE_BOTH, shared, dispatched=False)
        torch._dynamo.reset()
        names = ("halves", "columns", "pairs", "the_same", "the_same_view")
        self.check(WRITE_BOTH, [APART[n] for n in names], dispatched=True)

    def test_lists(self):
        self.register(WRITE_LIST)
        shared = (
            lambda x: ([x[:-1], x[1:]], None),
            lambda x: ([x[:2], x[2:]], x[:1]),
        )
        self.check(WRITE_LIST, shared, dispatched=False)
        torch._dynamo.reset()
        apart = (
            lambda x: ([*x.chunk(2, -1)], None),
            lambda x: ([x[:2], x[3:]], x[2]),
            lambda x: ([x, x], None),
            lambda x: ([x[1:], x[1:]], None),
        )
        self.check(WRITE_LIST, apart, dispatched=True)

    def test_static(self):
        self.register(WRITE_AND_READ)
        self.check(WRITE_AND_READ, [SHARED["first_row"]], False, False, sizes=[9])
        torch._dynamo.reset()
        apart = [APART["columns"], APART["the_same_view"]]
        self.check(WRITE_AND_READ, apart, True, False, sizes=[9])

    def test_one_config_without_dispatch_on(self):
        self.register(WRITE_AND_READ, winners=[0], configs=1, dispatch=False)
        self.check(WRITE_AND_READ, [SHARED["first_row"]], dispatched=False)
        torch._dynamo.reset()
        self.check(WRITE_AND_READ, [APART["halves"]], dispatched=True, sizes=(6, 8))

    def test_timed(self):
        self.register(WRITE_AND_READ, winners=None)
        self.check(WRITE_AND_READ, [SHARED["shifted"]], dispatched=False)

    @config.patch(cpp_wrapper=True)
    def test_cpp_wrapper(self):
        self.check_first_row_and_columns()

    @unittest.skipUnless(HAS_TRITON, SKIP_REASON)
    @config.patch(fx_wrapper=True)
    def test_fx_wrapper(self):
        with triton_kernels():
            self.check_first_row_and_columns()

    def check_first_row_and_columns(self):
        self.register(WRITE_AND_READ)
        self.check(WRITE_AND_READ, [SHARED["first_row"]], dispatched=False)
        torch._dynamo.reset()
        self.check(WRITE_AND_READ, [APART["columns"]], dispatched=True)

    def test_warning_says_what_to_do(self):
        self.register(WRITE_AND_READ)
        compiled = self.compile(lambda x: WRITE_AND_READ(x, x[:1], x))
        with self.assertLogs("torch._inductor.kernel.custom_op", "WARNING") as logs:
            compiled(torch.zeros(5, 8))
        (message,) = (record.getMessage() for record in logs.records)
        self.assertNotIn("\n", message)
        for part in ("write_and_read", "'x'", "'y'", ".clone()"):
            self.assertIn(part, message)

    def test_what_the_warning_says_helps(self):
        self.register(WRITE_AND_READ)
        copied = (
            lambda x: (x, x[:1].clone()),
            lambda x: (x, x.clone()[:1]),
            lambda x: (x.clone(), x[:1]),
        )
        for make in (lambda x: x, lambda x: x * 2):
            torch._dynamo.reset()
            self.check(WRITE_AND_READ, copied, dispatched=True, make=make)

    def test_within_an_implementation(self):
        """One that calls an op which writes to memory that it also reads."""
        op = define(
            "calls_a_writer",
            "(Tensor x, Tensor size) -> Tensor",
            lambda x, size: x.sum() - 1.0,
            lambda x, size: size.new_empty(()),
        )

        def calls_a_writer(x, size):
            double = x * 2
            return WRITE_AND_READ(double, double[:1], size)

        register_custom_op_autotuning(
            op,
            configs=[CustomOpConfig(calls_a_writer)],
            dispatch_on={"tensor_name": "size", "dim": 0},
            split_points=[SPLIT],
            winners=[0, -1],
        )
        self.addCleanup(unregister_custom_op_autotuning, op)
        compiled = torch.compile(
            lambda x, size: op(x, size), dynamic=True, fullgraph=True
        )
        x = torch.randn(4, 8)
        for n in SIZES:
            size = torch.randn(n)
            due = calls_a_writer(x, size) if n <= SPLIT else x.sum() - 1.0
            self.assertEqual(compiled(x, size), due)

    def test_inputs_that_share_memory(self):
        self.register(WRITE_AND_READ)
        for views, dispatched in (
            (lambda x: (x, x[:1]), False),
            (lambda x: (x[:1], x), False),
            (lambda x: (x[:-1], x[1:]), False),
            (lambda x: (x[:4], x[4:]), True),
            (lambda x: (x, x), True),
        ):
            torch._dynamo.reset()
            compiled = self.compile(lambda x, y, size: WRITE_AND_READ(x, y, size))
            with self.assertLogsOrNot(0 if dispatched else 1):
                for size in (5, 9):
                    x = torch.arange(size * 8.0).view(size, 8)
                    branch = 1 + (size > SPLIT) if dispatched else 0
                    own = x.clone()
                    args = torch.ones(size), branch
                    due = write_and_read(*views(own), *args)
                    self.assertEqual(compiled(*views(x), args[0]), due)
                    self.assertEqual(x, own)


if __name__ == "__main__":
    run_tests()
