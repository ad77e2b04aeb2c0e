# Owner(s): ["module: inductor"]
"""Rows for the wrappers that Inductor can write a graph as."""

import contextlib
import re
import unittest
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import _aoti_packages
from _aoti_packages import Package, Run
from _backend_rows import (
    check_sizes,
    compile_and_check,
    generated_sources,
    Rows,
    Vehicle,
)
from _dispatched_models import DispatchedModel, FIRST_SIZE
from _triton_on_cpu import DEVICE

import torch
from torch._inductor import config
from torch._inductor.codegen.wrapper_fxir import FxConverter
from torch._inductor.range_dispatch.record.records import (
    DispatchRecord,
    record_dispatches,
)


ROWS = Rows()
WRAPPERS = "Wrappers"
FAR_SIZES = (2, 1000, 5003)
# Before v2.14, then inside a branch and of a first decision since.
PYTHON_DECISION = r"(?:if |\w+_selector = )(.*?):?"


def decisions(records: Sequence[DispatchRecord]) -> int:
    """How many times the dispatches of a graph ask for a size."""
    return sum(record.branches - 1 for record in records)


def check_decisions(
    case: unittest.TestCase,
    source: str,
    records: Sequence[DispatchRecord],
    opening: str = r"if \((.*)\) \{",
) -> None:
    """The wrapper has an ``if`` on the dispatched size for each decision, in its text."""
    symbols = {
        symbol for r in records for symbol in re.findall(r"\bs\d+\b", str(r.sizes))
    }
    conditions = re.findall(rf"^\s*(?:{opening})$", source, re.MULTILINE)
    asked = [c for c in conditions if symbols & {*re.findall(r"\w+", c)}]
    case.assertTrue(records)
    case.assertEqual(len(asked), decisions(records), msg=lambda m: f"{asked}: {m}")


@ROWS.row("python", WRAPPERS, acted="the wrapper is Python code that asks for the size")
def python(case: unittest.TestCase, model: DispatchedModel) -> None:
    result = compile_and_check(case, model)
    case.assertIn("def call(", result.source)
    check_decisions(case, result.source, result.records, opening=PYTHON_DECISION)


@ROWS.row("cpp", WRAPPERS, acted="the wrapper is C++ code that asks for the size")
@config.patch(cpp_wrapper=True)
def cpp(case: unittest.TestCase, model: DispatchedModel) -> None:
    result = compile_and_check(case, model)
    case.assertIn("inductor_entry_impl", result.source)
    check_decisions(case, result.source, result.records)


def check_package(case: unittest.TestCase, model: DispatchedModel) -> Package:
    """One library was compiled for all sizes, and its code asks for the size."""
    package = _aoti_packages.package(model.name)
    case.assertEqual(package.graphs_compiled, 1)
    case.assertEqual(len(package.libraries), 1)
    check_decisions(case, package.wrapper, package.records)
    own_ops_win = any(-1 in op.winners for op in model.ops)
    case.assertEqual(bool(package.ops), own_ops_win)
    return package


@ROWS.row("aoti", WRAPPERS, acted="one library, its C++ code asks for the size")
def aoti(case: unittest.TestCase, model: DispatchedModel) -> None:
    package = check_package(case, model)
    compiled = torch._inductor.aoti_load_package(str(package.path))
    with generated_sources() as sources:
        check_sizes(case, model, compiled, model.due, more_sizes=FAR_SIZES)
    case.assertEqual(sources, [])


def check_run(
    case: unittest.TestCase,
    model: DispatchedModel,
    run: Callable[[Package, Sequence[Sequence[torch.Tensor]]], Run],
) -> Run:
    """Another process gives for every size what is due."""
    package = check_package(case, model)
    sizes = [FIRST_SIZE, *model.sizes, *FAR_SIZES]
    result = run(package, [model.inputs(size) for size in sizes])
    case.assertEqual(len(result.results), len(sizes))
    for size, (actual, given) in zip(sizes, result.results):
        arguments = model.inputs(size)
        expected = model.due(*arguments)
        if isinstance(expected, torch.Tensor) and not isinstance(actual, torch.Tensor):
            (actual,) = actual
        case.assertEqual(actual, expected, msg=lambda m: f"size {size}: {m}")
        case.assertEqual(given, arguments)
    case.assertEqual(result.compiled, [])
    return result


@ROWS.row(
    "aoti_fresh_process",
    WRAPPERS,
    acted="a process that imports nothing of this project and compiles nothing",
)
def aoti_fresh_process(case: unittest.TestCase, model: DispatchedModel) -> None:
    result = check_run(case, model, _aoti_packages.run_in_fresh_python)
    case.assertIn("torch", result.modules)
    ours = ("_dispatched_models", "torch._inductor.range_dispatch")
    imported = [m for m in result.modules if m.startswith(ours)]
    case.assertEqual(bool(imported), any(-1 in op.winners for op in model.ops))


@ROWS.row("aoti_cpp_program", WRAPPERS, acted="a C++ program runs it, without Python")
def aoti_cpp_program(case: unittest.TestCase, model: DispatchedModel) -> None:
    check_run(case, model, _aoti_packages.run_in_cpp_program)


@contextlib.contextmanager
def converted_graphs() -> Iterator[list[torch.fx.GraphModule]]:
    """What the FX converter makes of whole graphs, branches left out."""
    graphs: list[torch.fx.GraphModule] = []
    generate = FxConverter.generate

    def generate_and_record(converter: FxConverter) -> Any:
        graph = generate(converter)
        if not converter.is_subgraph:
            graphs.append(graph)
        return graph

    with mock.patch.object(FxConverter, "generate", generate_and_record):
        yield graphs


def check_conds(
    case: unittest.TestCase,
    graphs: Sequence[torch.fx.GraphModule],
    records: Sequence[DispatchRecord],
) -> None:
    """One graph was converted, which has a cond for each decision."""
    (graph,) = graphs
    conds = [
        node
        for module in graph.modules()
        if isinstance(module, torch.fx.GraphModule)
        for node in module.graph.find_nodes(
            op="call_function", target=torch.ops.higher_order.cond
        )
    ]
    case.assertTrue(records)
    case.assertEqual(len(conds), decisions(records))


@ROWS.row(
    "fx",
    WRAPPERS,
    acted="the FX converter's graph has a cond for each decision",
    vehicle=Vehicle.TRITON_ON_CPU,
)
@config.patch(fx_wrapper=True)
def fx(case: unittest.TestCase, model: DispatchedModel) -> None:
    with converted_graphs() as graphs:
        result = compile_and_check(case, model, device=DEVICE)
    check_conds(case, graphs, result.records)


@ROWS.row(
    "fx_aot",
    WRAPPERS,
    acted="the graph compiled ahead of time has a cond for each decision",
    vehicle=Vehicle.TRITON_ON_CPU,
)
def fx_aot(case: unittest.TestCase, model: DispatchedModel) -> None:
    inputs = tuple(model.inputs(FIRST_SIZE, DEVICE))
    with (
        model.registered(),
        record_dispatches() as records,
        converted_graphs() as graphs,
    ):
        compiled: Any = torch._inductor.aot_compile(
            _aoti_packages.export(model, DEVICE).module(),
            inputs,
            options={"fx_wrapper": True},
        )
    case.assertIsInstance(compiled, torch.fx.GraphModule)
    check_conds(case, graphs, records)
    with generated_sources() as sources:
        check_sizes(case, model, compiled, model.due, DEVICE, more_sizes=FAR_SIZES[:2])
    case.assertEqual(sources, [])
