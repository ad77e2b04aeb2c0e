# Owner(s): ["module: inductor"]
"""Rows for torch.export: the op stays one node, and dispatches where it is compiled."""

import io
import unittest
from collections.abc import Callable
from typing import Any

from _backend_rows import check_sizes, generated_sources, Rows
from _dispatched_models import DispatchedModel, FIRST_SIZE

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch.export import Dim, export, ExportedProgram


ROWS = Rows()
EXPORT = "Export"


class Plain(torch.nn.Module):
    """The model as a submodule, which unflattening finds again."""

    def __init__(self, model: DispatchedModel) -> None:
        super().__init__()
        self.inner = model.module()

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return self.inner(*tensors)


def exported(model: DispatchedModel, strict: bool = False) -> ExportedProgram:
    """The model with a dynamic dimension 0 of its first inputs, exported."""
    size = Dim("size", min=2, max=4096)
    inputs = model.inputs(FIRST_SIZE)
    shapes = tuple(
        {0: size} if index < model.varying else {} for index, _ in enumerate(inputs)
    )
    return export(Plain(model), tuple(inputs), dynamic_shapes=(shapes,), strict=strict)


def check_opaque(
    case: unittest.TestCase, model: DispatchedModel, graph: torch.fx.Graph
) -> None:
    """The graph calls each op once, as one node, and no cond."""
    targets = [node.target for node in graph.nodes]
    for op in model.ops:
        called = [
            target
            for target, node in zip(targets, graph.nodes)
            if op.op in (target, *node.args)  # a mutating op is an argument of another
        ]
        case.assertEqual(len(called), 1, str(graph))
    case.assertNotIn(torch.ops.higher_order.cond, targets)


def check_compiled(
    case: unittest.TestCase,
    model: DispatchedModel,
    module: Callable[..., torch.Tensor],
    fullgraph: bool = True,
) -> None:
    """Compiled once, the module dispatches at every boundary size."""
    counter = CompileCounterWithBackend("inductor")
    torch._dynamo.reset()
    compiled = torch.compile(module, backend=counter, dynamic=True, fullgraph=fullgraph)
    with generated_sources() as sources, record_dispatches() as records:
        check_sizes(case, model, compiled, model.due)
    case.assertEqual((counter.frame_count, len(sources)), (1, 1))
    case.assertEqual(len(records), len(model.ops))
    case.assertGreater(min(record.branches for record in records), 1)


def check_program(
    case: unittest.TestCase,
    model: DispatchedModel,
    program: torch.export.ExportedProgram,
) -> None:
    """The program has the op as one node, its module compiled dispatches."""
    check_opaque(case, model, program.graph)
    check_compiled(case, model, program.module())


@ROWS.row(
    "export",
    EXPORT,
    acted="the exported graph has the op as one node, its module compiled dispatches",
)
def export_row(case: unittest.TestCase, model: DispatchedModel) -> None:
    with model.registered():
        check_program(case, model, exported(model))


@ROWS.row(
    "export_strict",
    EXPORT,
    acted="the graph that strict mode exports has the op as one node, and dispatches",
)
def export_strict(case: unittest.TestCase, model: DispatchedModel) -> None:
    with model.registered():
        check_program(case, model, exported(model, strict=True))


@ROWS.row(
    "export_saved",
    EXPORT,
    acted="what is read back from what was saved has the op as one node, and dispatches",
)
def export_saved(case: unittest.TestCase, model: DispatchedModel) -> None:
    with model.registered():
        file = io.BytesIO()
        torch.export.save(exported(model), file)
        file.seek(0)
        check_program(case, model, torch.export.load(file))


@ROWS.row(
    "export_decompositions",
    EXPORT,
    acted="the op is one node of the decomposed graph as well, and dispatches",
)
def export_decompositions(case: unittest.TestCase, model: DispatchedModel) -> None:
    with model.registered():
        check_program(case, model, exported(model).run_decompositions())


@ROWS.row(
    "export_unflattened",
    EXPORT,
    acted="the op is a node of the submodule that called it, and dispatches",
)
@torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True)
def export_unflattened(case: unittest.TestCase, model: DispatchedModel) -> None:
    with model.registered():
        unflattened = torch.export.unflatten(exported(model))
        inner: Any = unflattened.inner
        check_opaque(case, model, inner.graph)
        # Dynamo refuses to trace how the module takes its inputs apart.
        check_compiled(case, model, unflattened, fullgraph=False)
