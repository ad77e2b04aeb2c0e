# Owner(s): ["module: inductor"]
"""Training and export with dispatched ops."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile

import pytest
from _backend_rows_export import check_opaque, exported
from _backend_rows_training import branch_functions, saved_for_backward, train_and_check
from _dispatched_models import MODEL_BY_NAME

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch._functorch import config as functorch_config
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.test_case import run_tests, TestCase


TRAINED_POINTS = [8, 16]


def define_trained(namespace):
    """An op whose backward calls another op; both have three implementations."""
    forward, backward = (
        torch.library.custom_op(
            f"{namespace}::{name}",
            function,
            mutates_args=(),
            schema="(Tensor x, Tensor w) -> Tensor",
        )
        for name, function in (
            ("scaled", lambda x, w: x * w),
            ("scaled_backward", lambda x, w: x * w),
        )
    )
    for op in (forward, backward):
        op.register_fake(lambda x, w: torch.empty_like(x))
    forward.register_autograd(
        lambda ctx, gradient: (backward(gradient, ctx.saved_tensors[0]), None),
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[1]),
    )
    return forward, backward


def add_up(x, w, constant=0.0):
    return x * w + constant


class DispatchInTrainingTest(TestCase):
    def test_backward_that_is_a_dispatched_op(self):
        ops = define_trained("range_training")
        configs = [CustomOpConfig(add_up, constant=float(n)) for n in range(1, 4)]
        with contextlib.ExitStack() as stack:
            for op, winners in zip(ops, ([0, 1, 2], [2, -1, 0])):
                stack.enter_context(
                    custom_op_autotuning(
                        op,
                        configs=configs,
                        dispatch_on={"tensor_name": "x", "dim": 0},
                        split_points=TRAINED_POINTS,
                        winners=winners,
                    )
                )
            counter = CompileCounterWithBackend("inductor")
            compiled = torch.compile(
                lambda x, w: ops[0](x.sin(), w) * 2,
                dynamic=True,
                fullgraph=True,
                backend=counter,
            )
            for size in (4, 8, 9, 16, 17, 40):
                x = torch.randn(size, 5, requires_grad=True)
                w, gradient = torch.randn(5), torch.randn(size, 5)
                index = sum(size > point for point in TRAINED_POINTS)
                value = compiled(x, w)
                self.assertEqual(value, (x.sin() * w + (1.0, 2.0, 3.0)[index]) * 2)
                due = (gradient * 2 * w + (3.0, 0.0, 1.0)[index]) * x.cos()
                (actual,) = torch.autograd.grad(value, x, gradient)
                self.assertEqual(actual, due)
        self.assertEqual(counter.frame_count, 1)

    @functorch_config.patch(activation_memory_budget=1.0)
    def test_budget_that_lets_the_dispatched_value_be_saved(self):
        """The counterpart of the row that recomputes it."""
        result = train_and_check(self, MODEL_BY_NAME["two"], saved_for_backward)
        self.assertEqual([branch_functions(code) for code in result.sources], [2, 0])

    def test_uniform_values_are_folded_in_candidates(self):
        def shifted(x):
            return x * (torch.ones_like(x) * 7 + 4)

        model = MODEL_BY_NAME["two"]
        op = dataclasses.replace(model.ops[0], implementations=[shifted, shifted])
        for folds in (True, False):
            graphs = []
            torch._dynamo.reset()
            with (
                op.register(),
                config.patch(
                    joint_graph_constant_folding=folds,
                    joint_custom_post_pass=lambda graph: graphs.append(str(graph)),
                    fx_graph_cache=False,
                ),
            ):
                x = torch.randn(20, 5)
                compiled = torch.compile(model.run, dynamic=True)
                self.assertEqual(compiled(x), (x + 1) * 11 * 2)
            self.assertEqual(any(", 11" in graph for graph in graphs), folds)

    def test_deterministic_modes_time_nothing(self):
        model = MODEL_BY_NAME["two"]
        (op,) = model.ops
        untuned = dataclasses.replace(op, is_tuned=True)
        x = torch.randn(20, 5)
        for modes, due in (
            ({"deterministic": True}, op.own),
            ({"batch_invariant": True}, op.own),
            (
                {
                    "deterministic": True,
                    "test_configs.force_custom_op_decomposition": True,
                },
                op.implementations[0],
            ),
        ):
            counters.clear()
            torch._dynamo.reset()
            with untuned.register(), config.patch({**modes, "fx_graph_cache": False}):
                compiled = torch.compile(model.run, dynamic=True)
                self.assertEqual(compiled(x), due(x + 1) * 2)
            self.assertEqual(counters["inductor"]["custom_op_candidates_timed"], 0)


LOAD_AND_RUN = """
import sys, torch
from _dispatched_models import MODEL_BY_NAME
model = MODEL_BY_NAME["two"]
with model.registered():
    program = torch.export.load(sys.argv[1])
    assert any(node.target is model.ops[0].op for node in program.graph.nodes)
    compiled = torch.compile(program.module(), dynamic=True, fullgraph=True)
    for size in model.sizes:
        inputs = model.inputs(size)
        torch.testing.assert_close(compiled(*inputs), model.due(*inputs))
"""


class DispatchInExportTest(TestCase):
    @pytest.mark.slow
    def test_loaded_by_another_process(self):
        model = MODEL_BY_NAME["two"]
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.pt2")
            with model.registered():
                torch.export.save(exported(model), path)
            done = subprocess.run(
                [sys.executable, "-c", LOAD_AND_RUN, path],
                cwd=os.path.dirname(os.path.abspath(__file__)),
                capture_output=True,
                text=True,
            )
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_forced_decomposition_leaves_exported_graphs_alone(self):
        model = MODEL_BY_NAME["two"]
        x = torch.randn(20, 5)
        for force in (True, False):
            torch._dynamo.reset()
            with (
                model.registered(),
                config.patch(
                    {
                        "test_configs.force_custom_op_decomposition": force,
                        "fx_graph_cache": False,
                    }
                ),
            ):
                program = exported(model).run_decompositions()
                check_opaque(self, model, program.graph)
                compiled = torch.compile(program.module(), dynamic=True)
                # False is the op itself, True still honours the winners given.
                due = model.due(x) if force else model.ops[0].own(x + 1) * 2
                self.assertEqual(compiled(x), due)


if __name__ == "__main__":
    run_tests()
