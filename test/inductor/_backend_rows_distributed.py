# Owner(s): ["module: inductor"]
"""Rows for models that are wrapped for data-parallel training on two ranks."""

import itertools
import traceback
import unittest
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from _backend_rows import generated_sources, Rows
from _dispatched_models import DispatchedModel, FIRST_SIZE, MODELS
from _distributed_ranks import run_ranks, WORLD_SIZE

import torch
import torch.distributed as dist
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor import config
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel


ROWS = Rows()
DISTRIBUTED = "Distributed"
OUTPUTS = 3

Wrap = Callable[[torch.nn.Module, Any], torch.nn.Module]
# The names of a wrap and of a model.
Cell = tuple[str, str]

_seen: dict[Cell, list["Seen"]] = {}


@dataclass
class Seen:
    """What one rank saw of one model."""

    graphs: int = 0
    branches: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    sharded: list[bool] = field(default_factory=list)
    steps: list[tuple[int, str | None]] = field(default_factory=list)
    error: str = ""


class Surrounded(torch.nn.Module):
    """The dispatched part, between a parameter before it and one behind it."""

    def __init__(self, model: DispatchedModel, call: Callable[..., Any]) -> None:
        super().__init__()
        example = model.inputs(FIRST_SIZE)
        result = _columns(model.due(*example))
        width = example[0].shape[1]
        self.call = call
        self.before = torch.nn.Linear(width, width, bias=False)
        self.after = torch.nn.Linear(result.shape[1], OUTPUTS, bias=False)

    def forward(self, x: torch.Tensor, *rest: torch.Tensor) -> Any:
        hidden = self.before(x)
        # The ops have no derivative.
        result = self.call(hidden.detach(), *rest)
        return hidden, self.after(_columns(result))


def _columns(result: torch.Tensor) -> torch.Tensor:
    return result if result.dim() == 2 else result.unsqueeze(1)


def _ddp(module: torch.nn.Module, backend: Any) -> torch.nn.Module:
    # A bucket for each parameter: the graph is split between them.
    module = DistributedDataParallel(module, bucket_cap_mb=1e-5)
    return torch.compile(module, backend=backend, dynamic=True)  # type: ignore[return-value]


def _fsdp2(module: torch.nn.Module, backend: Any) -> torch.nn.Module:
    module.compile(backend=backend, dynamic=True, fullgraph=True)
    fully_shard(module)  # in place
    return module


def _run_cells(rank: int, cells: Sequence[Cell]) -> dict[Cell, Seen]:
    # No bucket may be smaller than the first.
    dist._DEFAULT_FIRST_BUCKET_BYTES = 1
    wraps = {wrap.__name__: wrap for wrap in (_ddp, _fsdp2)}
    models = {model.name: model for model in MODELS}
    return {
        (wrap, model): _run_model(rank, models[model], wraps[wrap])
        for wrap, model in cells
    }


def _run_model(rank: int, model: DispatchedModel, wrap: Wrap) -> Seen:
    torch._dynamo.reset()
    seen = Seen()
    backend = CompileCounterWithBackend("inductor")
    torch.manual_seed(0)
    eager = DistributedDataParallel(Surrounded(model, model.due))
    torch.manual_seed(0)
    compiled = wrap(Surrounded(model, model.run), backend)
    # At each step the ranks have other sizes, but in the end all.
    sizes = [FIRST_SIZE, *(reversed(model.sizes) if rank else model.sizes)]
    try:
        with (
            config.patch(fx_graph_cache=False),
            # As fullgraph=True has it, which a module under DDP cannot be compiled with.
            torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True),
            model.registered(),
            generated_sources() as sources,
            record_dispatches() as records,
        ):
            for size in sizes:
                seen.steps.append((size, _step(model, size, compiled, eager)))
    except Exception:
        seen.error = traceback.format_exc()
    seen.graphs = backend.frame_count
    seen.sources = sources
    seen.branches = [record.branches for record in records]
    seen.sharded = [isinstance(one, DTensor) for one in compiled.parameters()]
    return seen


def _step(
    model: DispatchedModel,
    size: int,
    compiled: torch.nn.Module,
    eager: torch.nn.Module,
) -> str | None:
    """Forward and backward on both sides; what differs, if anything."""
    results = []
    for module in (compiled, eager):
        module.zero_grad()
        outputs = module(*model.inputs(size))
        sum(output.square().sum() for output in outputs).backward()
        gradients = [_whole(parameter.grad) for parameter in module.parameters()]
        results.append([*outputs, *gradients])
    try:
        torch.testing.assert_close(*results)
    except AssertionError as error:
        return str(error)
    return None


def _whole(gradient: Any) -> torch.Tensor:
    return gradient.full_tensor() if isinstance(gradient, DTensor) else gradient


def _seen_by_ranks(cell: Cell) -> list[Seen]:
    """What the ranks saw in a cell.

    Starting ranks takes longest, so whoever wants many cells gets all at once.
    """
    if cell not in _seen:
        cells = [cell]
        if len(_seen) >= 2:
            names = itertools.product(("_ddp", "_fsdp2"), (m.name for m in MODELS))
            cells = [one for one in names if one not in _seen]
        ranks = run_ranks(_run_cells, cells)
        _seen.update({one: [seen[one] for seen in ranks] for one in cells})
    return _seen[cell]


def _check(
    case: unittest.TestCase, model: DispatchedModel, wrap: Wrap, graphs: int
) -> list[Seen]:
    """Every size has run on each rank, with the values and gradients of eager DDP."""
    ranks = _seen_by_ranks((wrap.__name__, model.name))
    case.assertEqual(len(ranks), WORLD_SIZE)
    for seen in ranks:
        case.assertEqual(seen.error, "")
        case.assertEqual({size for size, _ in seen.steps}, {FIRST_SIZE, *model.sizes})
        case.assertEqual([(size, None) for size, _ in seen.steps], seen.steps)
        case.assertEqual(seen.graphs, graphs)
        case.assertGreater(min(seen.branches), 1)
    return ranks


@ROWS.row(
    "ddp",
    DISTRIBUTED,
    acted="DDPOptimizer splits the graph at a bucket, gradients are averaged over ranks",
)
def ddp(case: unittest.TestCase, model: DispatchedModel) -> None:
    _check(case, model, _ddp, graphs=2)


@ROWS.row(
    "fsdp2",
    DISTRIBUTED,
    acted="parameters are sharded, gradients are scattered over ranks",
)
def fsdp2(case: unittest.TestCase, model: DispatchedModel) -> None:
    for seen in _check(case, model, _fsdp2, graphs=1):
        case.assertEqual(seen.sharded, [True, True])
