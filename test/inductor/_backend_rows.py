# Owner(s): ["module: inductor"]
"""One way to compile a graph is a row: what a row is, and how a model is run under it."""

import contextlib
import enum
import itertools
import unittest
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from _dispatched_models import DispatchedModel, FIRST_SIZE
from _generated_code import CANDIDATE, Generated

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor.graph import GraphLowering
from torch._inductor.range_dispatch.record.records import (
    DispatchRecord,
    record_dispatches,
)


class Vehicle(enum.Enum):
    """What the kernels of a row run on."""

    CPU = "CPU"
    TRITON_ON_CPU = "Triton, interpreted on CPU"
    GPU = "GPU"


@dataclass(frozen=True)
class Row:
    """``check(case, model)`` runs one model and raises where anything is off.

    ``acted`` says what the check sees of the feature itself. ``refusals`` has the reason
    for each model, by name, that cannot be run: there the check expects a clear error.
    """

    name: str
    section: str
    check: Callable[[unittest.TestCase, DispatchedModel], None]
    acted: str
    vehicle: Vehicle = Vehicle.CPU
    refusals: Mapping[str, str] = field(default_factory=dict)

    def test_name(self, model: str) -> str:
        """The name of the test of this row and the model of that name."""
        return f"test_{self.name}_{model}"


@dataclass
class Compiled(Generated):
    """What compiling and running a model left behind."""

    records: list[DispatchRecord]


class Rows:
    """The rows of one part of the matrix, in the order they are written in."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def row(
        self, name: str, section: str, acted: str, **options: Any
    ) -> Callable[[Callable[..., None]], Callable[..., None]]:
        def add(check: Callable[..., None]) -> Callable[..., None]:
            self._rows.append(Row(name, section, check, acted, **options))
            return check

        return add


@contextlib.contextmanager
def generated_sources() -> Iterator[list[str]]:
    """The wrapper code of every graph that is compiled in the context.

    That of candidates that are timed is left out.
    """
    sources: list[str] = []

    def save(code: str) -> None:
        if CANDIDATE not in code:
            sources.append(code)

    with mock.patch.object(GraphLowering, "save_output_code", staticmethod(save)):
        yield sources


def compile_and_check(
    case: unittest.TestCase,
    model: DispatchedModel,
    *,
    around: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda call: call,
    device: str = "cpu",
    backend: Any = "inductor",
    graphs: int = 1,
    **compile_options: Any,
) -> Compiled:
    """Compile the model once and compare it at every boundary size.

    ``around`` puts more of a model around the dispatched part, for both sides.
    """
    counter = CompileCounterWithBackend(backend)
    torch._dynamo.reset()
    compiled = torch.compile(
        around(model.run),
        backend=counter,
        dynamic=True,
        fullgraph=True,
        **compile_options,
    )
    with (
        model.registered(),
        generated_sources() as sources,
        record_dispatches() as records,
    ):
        check_sizes(case, model, compiled, around(model.due), device)
    case.assertEqual(counter.frame_count, graphs)
    return Compiled(sources, compiled, records)


def check_sizes(
    case: unittest.TestCase,
    model: DispatchedModel,
    compiled: Callable[..., Any],
    due: Callable[..., Any],
    device: str = "cpu",
    more_sizes: Sequence[int] = (),
) -> None:
    """What ``compiled`` returns, and does to its arguments, at every boundary size."""
    for size in itertools.chain([FIRST_SIZE], model.sizes, more_sizes):
        given = model.inputs(size, device)
        arguments = model.inputs(size, device)
        expected = due(*arguments)
        actual = compiled(*given)
        case.assertEqual(actual, expected, msg=lambda m: f"size {size}: {m}")
        case.assertEqual(given, arguments)
