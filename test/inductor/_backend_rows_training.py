# Owner(s): ["module: inductor"]
"""Rows for training: a dispatch in the forward graph, the backward graph, or both."""

import contextlib
import functools
import itertools
import re
import unittest
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from _backend_rows import Compiled, generated_sources, Rows
from _dispatched_models import DispatchedModel, FIRST_SIZE

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch._functorch import config as functorch_config
from torch._inductor import config, ir
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch.utils.checkpoint import (
    CheckpointPolicy,
    create_selective_checkpoint_contexts,
)


ROWS = Rows()
TRAINING = "Training"
Call = Callable[..., Any]
# Means over hundreds of elements; implementations differ by far more.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def saved_for_backward(call: Call) -> Call:
    """The dispatch in the forward graph only, its value saved for the backward."""

    def run(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        hidden = x.sin()
        return (call(hidden.detach(), *rest) * hidden.mean()).tanh()

    return run


def in_both_graphs(call: Call) -> Call:
    """The dispatch in the forward graph, and again in the backward graph."""

    class Both(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
            # Nothing that the partitioner would compute again.
            hidden = x.sort(0).values
            ctx.save_for_backward(hidden, *rest)
            return call(hidden, *rest)

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
            hidden, *rest = ctx.saved_tensors
            # Without the gradient it would be computed in the forward graph.
            again = call(hidden * gradient.mean(), *rest)
            return hidden.cos() * again.mean(), *[None for _ in rest]

    def run(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return Both.apply(x * 2, *rest) * 2

    return run


def gradient_of(call: Call, arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The value, and the gradient of its weighted sum in the first argument."""
    first = arguments[0].clone().requires_grad_()
    value = call(first, *arguments[1:])
    weights = torch.linspace(0.5, 1.5, value.numel()).reshape(value.shape)
    return [value.detach(), *torch.autograd.grad(value, first, weights)]


def train_and_check(
    case: unittest.TestCase,
    model: DispatchedModel,
    around: Callable[[Call], Call],
    context: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    graphs: int = 2,
) -> Compiled:
    """Compile once, run in ``context``, compare values and gradients at every boundary size.

    Leaves the code of the forward and then the backward graph behind.
    """
    counter = CompileCounterWithBackend("inductor")
    torch._dynamo.reset()
    compiled = torch.compile(
        around(model.run), backend=counter, dynamic=True, fullgraph=True
    )
    with (
        model.registered(),
        generated_sources() as sources,
        record_dispatches() as records,
    ):
        for size in itertools.chain([FIRST_SIZE], model.sizes):
            given = model.inputs(size)
            expected = gradient_of(around(model.due), given)
            with context():
                actual = gradient_of(compiled, given)
            case.assertEqual(
                actual, expected, msg=lambda m: f"size {size}: {m}", **TOLERANCE
            )
    case.assertEqual(counter.frame_count, 1)
    case.assertEqual(len(sources), graphs)
    return Compiled(sources, compiled, records)


def branch_functions(source: str) -> int:
    """How many functions of branches the code of a Python wrapper defines."""
    return len(re.findall(r"^def \w+_branch_\d+\w*\(args\):", source, re.MULTILINE))


@ROWS.row(
    "training",
    TRAINING,
    acted="forward and backward graph have the branches, and were compiled once each",
)
def training(case: unittest.TestCase, model: DispatchedModel) -> None:
    result = train_and_check(case, model, in_both_graphs)
    case.assertEqual(len(result.records), 2 * len(model.ops))
    for source in result.sources:
        case.assertGreater(branch_functions(source), 1)


@ROWS.row(
    "donated_buffers",
    TRAINING,
    acted="the backward graph writes a result into a saved activation's memory",
)
@functorch_config.patch(donated_buffer=True)
# What is looked at are kernels beside the dispatch.
@config.patch("range_dispatch.fuse", False)
def donated_buffers(case: unittest.TestCase, model: DispatchedModel) -> None:
    donated: list[str] = []

    def record(name: str, layout: ir.Layout) -> ir.DonatedBuffer:
        donated.append(name)
        return ir.DonatedBuffer(name=name, layout=layout)

    with mock.patch("torch._inductor.graph.DonatedBuffer", record):
        result = train_and_check(case, model, in_both_graphs)
    _, backward = result.sources
    reused = re.findall(r"= (\w+); del \1  # reuse", backward)
    case.assertTrue({*donated} & {*reused}, f"{donated} {reused}")
    case.assertGreater(branch_functions(backward), 1)


@ROWS.row(
    "activation_memory_budget",
    TRAINING,
    acted="the backward graph computes the dispatched value again, it is not saved",
)
@functorch_config.patch(activation_memory_budget=0.0)
def activation_memory_budget(case: unittest.TestCase, model: DispatchedModel) -> None:
    result = train_and_check(case, model, saved_for_backward)
    assert_recomputed(case, model, result)


def assert_recomputed(
    case: unittest.TestCase, model: DispatchedModel, result: Compiled
) -> None:
    case.assertEqual(len(result.records), 2 * len(model.ops))
    for source in result.sources:
        case.assertGreater(branch_functions(source), 1)


@ROWS.row(
    "checkpoint",
    TRAINING,
    acted="the backward graph computes the dispatched value again, it is not saved",
)
def checkpoint(case: unittest.TestCase, model: DispatchedModel) -> None:
    result = train_and_check(case, model, checkpointed())
    assert_recomputed(case, model, result)


def checkpointed(**options: Any) -> Callable[[Call], Call]:
    """``saved_for_backward`` in a region that is checkpointed."""

    def around(call: Call) -> Call:
        region = saved_for_backward(call)

        def run(*tensors: torch.Tensor) -> torch.Tensor:
            return torch.utils.checkpoint.checkpoint(
                region, *tensors, use_reentrant=False, **options
            )

        return run

    return around


def policy_for(ops: Sequence[Any], policy: CheckpointPolicy) -> Callable[[], Any]:
    """A context for checkpointing that treats ``ops`` by ``policy``."""

    def decide(context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        return policy if op in ops else CheckpointPolicy.PREFER_RECOMPUTE

    return functools.partial(create_selective_checkpoint_contexts, decide)


@ROWS.row(
    "selective_checkpoint",
    TRAINING,
    acted="the backward graph recomputes what is around the dispatch, not the dispatch",
)
def selective_checkpoint(case: unittest.TestCase, model: DispatchedModel) -> None:
    save = policy_for([op.op for op in model.ops], CheckpointPolicy.MUST_SAVE)
    result = train_and_check(case, model, checkpointed(context_fn=save))
    forward, backward = result.sources
    case.assertEqual(len(result.records), len(model.ops))
    case.assertGreater(branch_functions(forward), 1)
    case.assertEqual(branch_functions(backward), 0)
    case.assertIn(".sin()", backward)


@ROWS.row(
    "selective_recompute",
    TRAINING,
    acted="the backward graph computes the dispatched value again, as the policy says",
)
def selective_recompute(case: unittest.TestCase, model: DispatchedModel) -> None:
    recompute = policy_for([op.op for op in model.ops], CheckpointPolicy.MUST_RECOMPUTE)
    result = train_and_check(case, model, checkpointed(context_fn=recompute))
    assert_recomputed(case, model, result)


@ROWS.row(
    "compiled_autograd",
    TRAINING,
    acted="compiled autograd captured one graph for all sizes, the dispatch in it",
)
def compiled_autograd(case: unittest.TestCase, model: DispatchedModel) -> None:
    counters.clear()
    compiler = functools.partial(torch.compile, dynamic=True, fullgraph=True)
    enable = functools.partial(torch._dynamo.compiled_autograd._enable, compiler)
    # The backward graph is compiled with the forward graph, too.
    result = train_and_check(case, model, in_both_graphs, enable, graphs=3)
    case.assertEqual(counters["compiled_autograd"]["captures"], 1)
    case.assertEqual(len(result.records), 3 * len(model.ops))
    case.assertGreater(branch_functions(result.sources[2]), 1)
