# Owner(s): ["module: inductor"]
"""Rows for the caches of compiled graphs, and for compiled code that is saved.

A cell fills a cache in this process and uses it in another one, where nothing may be
lowered. Kernels stay in the cache folder from cell to cell, graphs do not.
"""

import contextlib
import dataclasses
import os
import shutil
import tempfile
import types
import unittest
from collections.abc import Callable, Sequence
from typing import Any

from _backend_rows import check_sizes, compile_and_check, Rows
from _cache_counts import caches
from _cache_process import counted, OtherProcess, Report
from _dispatched_models import DispatchedModel, DispatchedOp, FIRST_SIZE, Tensor

import torch
import torch.utils._pytree as pytree
from torch._dynamo.package import DynamoCache
from torch._dynamo.precompile_context import PrecompileContext
from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table
from torch._inductor.runtime.cache_dir_utils import cache_dir
from torch._inductor.test_case import TestCase
from torch.compiler._cache import CacheArtifactManager


ROWS = Rows()
CACHES = "Caches"

_GRAPHS = ("fxgraph", "aotautograd", "dynamo", "range_dispatch")
# By task, so that no task finds what another left in the memory of its process.
# They end when this process does.
_others: dict[str, OtherProcess] = {}


def _remove_graphs() -> None:
    """No graph is cached any more; kernels may be."""
    for folder in _GRAPHS:
        shutil.rmtree(os.path.join(cache_dir(), folder), ignore_errors=True)


def _elsewhere(
    task: Callable[..., None], model: DispatchedModel, **given: Any
) -> Report:
    """Run a task for the model in another process, which has not seen the model."""
    name = task.__name__
    other = _others.setdefault(name, OtherProcess(__name__))
    return other.run(name, model, **given)


def _check_report(
    case: unittest.TestCase, report: Report, **expected: int | None
) -> None:
    """``expected`` counts, with 0 for what was not counted."""
    found = {name: report.get(name, 0) for name in expected}
    case.assertEqual(found, expected, msg=lambda m: f"{m}\n{report}")


# FX graph cache and AOTAutograd cache


def compile_cached(model: DispatchedModel, report: Report) -> None:
    with caches():
        compile_and_check(TestCase(), model)


@ROWS.row(
    "fx_graph_cache", CACHES, acted="a fresh process counts a hit and lowers nothing"
)
def fx_graph_cache(case: unittest.TestCase, model: DispatchedModel) -> None:
    _remove_graphs()
    report: Report = {}
    with counted(report):
        compile_cached(model, report)
    _check_report(case, report, fxgraph_cache_miss=1, fxgraph_cache_hit=0)
    report = _elsewhere(compile_cached, model)
    _check_report(case, report, fxgraph_cache_miss=0, fxgraph_cache_hit=1, lowered=0)


def train_cached(model: DispatchedModel, report: Report) -> None:
    """The dispatched part's results are scaled by a tensor that needs a gradient."""

    def step(call: Callable[..., Any], scale: Tensor, *tensors: Tensor) -> Any:
        scaled = pytree.tree_map(lambda t: t * scale.sin(), call(*tensors))
        return scaled, scale.exp() * 2

    def run(scale: Tensor, *tensors: Tensor) -> Any:
        return step(model.run, scale, *tensors)

    def gradient(call: Callable[..., Any], size: int) -> tuple[Any, Tensor]:
        scale = torch.tensor(0.5, requires_grad=True)
        outputs = call(scale, *model.inputs(size))
        sum(leaf.sum() for leaf in pytree.tree_leaves(outputs)).backward()
        assert scale.grad is not None
        return outputs, scale.grad

    with caches(autograd=True), model.registered():
        compiled = torch.compile(run, dynamic=True, fullgraph=True)
        for size in (FIRST_SIZE, *model.sizes):
            expected = gradient(lambda *args: step(model.due, *args), size)
            TestCase().assertEqual(gradient(compiled, size), expected)


@ROWS.row(
    "autograd_cache",
    CACHES,
    acted="a fresh process counts a hit for forward and backward and lowers nothing",
)
def autograd_cache(case: unittest.TestCase, model: DispatchedModel) -> None:
    _remove_graphs()
    report: Report = {}
    with counted(report):
        train_cached(model, report)
    _check_report(case, report, autograd_cache_miss=1, autograd_cache_saved=1)
    report = _elsewhere(train_cached, model)
    _check_report(case, report, autograd_cache_hit=1, autograd_cache_miss=0, lowered=0)
    _check_report(case, report, fxgraph_cache_hit=2, fxgraph_cache_miss=0)


# Artifacts


def load_artifacts(model: DispatchedModel, report: Report, path: str) -> None:
    with open(path, "rb") as file:
        info = torch.compiler.load_cache_artifacts(file.read())
    assert info is not None and len(info.inductor_artifacts) == 1, info
    with caches(autograd=True):
        compile_and_check(TestCase(), model)


@ROWS.row(
    "cache_artifacts",
    CACHES,
    acted="a fresh process without cached graphs hits what was saved, lowers nothing",
)
def cache_artifacts(case: unittest.TestCase, model: DispatchedModel) -> None:
    _remove_graphs()
    with CacheArtifactManager.with_fresh_cache(), caches(autograd=True):
        compile_and_check(case, model)
        artifacts = torch.compiler.save_cache_artifacts()
    assert artifacts is not None
    _remove_graphs()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "artifacts")
        with open(path, "wb") as file:
            file.write(artifacts[0])
        report = _elsewhere(load_artifacts, model, path=path)
    _check_report(case, report, autograd_cache_hit=1, autograd_cache_miss=0, lowered=0)


_Place = tuple[int, int | None]


def _captured(
    model: DispatchedModel,
) -> tuple[torch.fx.GraphModule, list[Any], list[_Place]]:
    """The model's graph, and where its inputs are found among the model's.

    A place is the number of a tensor and, for a size, the dimension.
    """
    captured: list[tuple[torch.fx.GraphModule, list[Any]]] = []

    def capture(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        captured.append((graph, inputs))
        return graph

    torch._dynamo.reset()
    torch.compile(model.run, backend=capture, dynamic=True, fullgraph=True)(
        *model.inputs(FIRST_SIZE)
    )
    ((graph, inputs),) = captured
    placeholders = graph.graph.find_nodes(op="placeholder")
    values = [node.meta["example_value"] for node in placeholders]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    sizes: dict[Any, _Place] = {}
    for number, tensor in enumerate(tensors):
        for dim, size in enumerate(tensor.shape):
            sizes.setdefault(str(size), (number, dim))
    number_of = {id(tensor): number for number, tensor in enumerate(tensors)}
    places: list[_Place] = [
        (number_of[id(value)], None) if id(value) in number_of else sizes[str(value)]
        for value in values
    ]
    return graph, inputs, places


def _check_artifact(
    model: DispatchedModel, artifact: Callable[..., Any], places: Sequence[_Place]
) -> None:
    def call(*tensors: Tensor) -> Any:
        return artifact(
            *(
                tensors[number] if dim is None else tensors[number].shape[dim]
                for number, dim in places
            )
        )

    def due(*tensors: Tensor) -> Any:
        return tuple(pytree.tree_leaves(model.due(*tensors)))

    check_sizes(TestCase(), model, lambda *given: tuple(call(*given)), due)


def load_standalone(
    model: DispatchedModel,
    report: Report,
    path: str,
    format: Any,
    places: Sequence[_Place],
) -> None:
    artifact = torch._inductor.CompiledArtifact.load(path=path, format=format)
    _check_artifact(model, artifact, places)


@ROWS.row(
    "standalone_compile",
    CACHES,
    acted="the saved artifact runs, binary and unpacked, and a fresh process "
    "runs it without the registration and lowers nothing",
)
def standalone_compile(case: unittest.TestCase, model: DispatchedModel) -> None:
    _remove_graphs()
    with caches(autograd=True), model.registered():
        graph, inputs, places = _captured(model)
        report: Report = {}
        with counted(report):
            artifact = torch._inductor.standalone_compile(
                graph, inputs, dynamic_shapes="from_graph"
            )
    case.assertGreater(report["lowered"], 0)
    _check_artifact(model, artifact, places)
    for format in ("binary", "unpacked"):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, format)
            artifact.save(path=path, format=format)
            if format == "unpacked":
                _share_kernels(path)
            given: dict[str, Any] = {"path": path, "format": format, "places": places}
            _remove_graphs()
            report = {}
            with counted(report):
                load_standalone(model, report, **given)
            _check_report(case, report, lowered=0)
            _remove_graphs()
            report = _elsewhere(load_standalone, model, **given)
            _check_report(case, report, lowered=0)


def _share_kernels(path: str) -> None:
    """Spare compiling again the kernels that this process has."""
    for name in os.listdir(cache_dir()):
        if name not in _GRAPHS:
            source = os.path.join(cache_dir(), name)
            if os.path.isdir(source):
                shutil.copytree(
                    source,
                    os.path.join(path, name),
                    copy_function=_link,
                    dirs_exist_ok=True,
                )


def _link(source: str, target: str) -> None:
    if not os.path.exists(target):
        os.link(source, target)


# Precompiled functions


def _entry(*tensors: Tensor) -> Any:
    return FUNCTION(OPS, *tensors)  # type: ignore[name-defined]  # noqa: F821


def _entry_of(model: DispatchedModel) -> types.FunctionType:
    """A function of this module that Dynamo tells apart from the other models'."""
    globals().update(FUNCTION=model.function, OPS=[op.op for op in model.ops])
    code = _entry.__code__.replace(co_name=f"_entry_{model.name}")
    return types.FunctionType(code, globals(), code.co_name)


def load_aot_compiled(model: DispatchedModel, report: Report, path: str) -> None:
    with open(path, "rb") as file:
        compiled = torch.compiler.load_compiled_function(file)
    check_sizes(TestCase(), model, compiled, model.due)


@ROWS.row(
    "aot_compile",
    CACHES,
    acted="a fresh process runs the saved function without the registration and "
    "lowers nothing",
)
def aot_compile(case: unittest.TestCase, model: DispatchedModel) -> None:
    _remove_graphs()
    # All Triton kernels of the process are saved, by the modules that have them; those
    # that another test generated have none in a fresh process.
    kernel_side_table.reset_table()
    report: Report = {}
    with (
        caches(autograd=True),
        torch._dynamo.config.patch(enable_aot_compile=True),
        model.registered(),
        counted(report),
    ):
        compiled: Any = torch.compile(_entry_of(model), dynamic=True, fullgraph=True)
        function = compiled.aot_compile((tuple(model.inputs(FIRST_SIZE)), {}))
    case.assertGreater(report["lowered"], 0)
    check_sizes(case, model, function, model.due)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "function")
        function.save_compiled_function(path)
        _remove_graphs()
        report = _elsewhere(load_aot_compiled, model, path=path)
    _check_report(case, report, lowered=0, fxgraph_cache_miss=0)


def compile_packaged(
    model: DispatchedModel, report: Report, save: bool = False
) -> None:
    PrecompileContext.clear()
    with (
        caches(autograd=True),
        torch._dynamo.config.patch(caching_precompile=True),
        model.registered(),
    ):
        compiled = torch.compile(_entry_of(model), dynamic=True, fullgraph=True)
        stance = "default" if save else "fail_on_recompile"
        with torch.compiler.set_stance(stance):
            check_sizes(TestCase(), model, compiled, model.due)
        if save:
            PrecompileContext.save_to_dynamo_cache()


@ROWS.row(
    "caching_precompile",
    CACHES,
    acted="a fresh process hits Dynamo's cache, and neither traces nor lowers",
)
def caching_precompile(case: unittest.TestCase, model: DispatchedModel) -> None:
    _remove_graphs()
    report: Report = {}
    with counted(report):
        compile_packaged(model, report, save=True)
    _check_report(case, report, dynamo_cache_miss=1, dynamo_cache_hit=0)
    case.assertTrue(os.listdir(DynamoCache.path_prefix()))
    report = _elsewhere(compile_packaged, model)
    _check_report(case, report, dynamo_cache_hit=1, dynamo_cache_error=0, lowered=0)


# Other registrations of the same op


def _same_name(implementation: Callable[..., Any]) -> Callable[..., Any]:
    def of_the_same_name(*args: Any, **kwargs: Any) -> Any:
        return implementation(*args, **kwargs)

    return of_the_same_name


def _turned(values: Sequence[Any]) -> list[Any]:
    return [*values[1:], *values[:1]]


def _other_winners(op: DispatchedOp) -> DispatchedOp:
    return dataclasses.replace(op, winners=_turned(op.winners))


def _other_points(op: DispatchedOp) -> DispatchedOp:
    return dataclasses.replace(
        op, split_points=[point + 1 for point in op.split_points]
    )


def _closures(op: DispatchedOp) -> DispatchedOp:
    implementations = [_same_name(one) for one in op.implementations]
    return dataclasses.replace(op, implementations=implementations)


def _other_closures(op: DispatchedOp) -> DispatchedOp:
    """The same names and code, other values closed over, or other params."""
    turned = dataclasses.replace(
        op, implementations=_turned(op.implementations), params=_turned(op.params)
    )
    return _closures(turned)


def _unregistered(op: DispatchedOp) -> DispatchedOp:
    return dataclasses.replace(op, winners=[-1] * len(op.winners))


@dataclasses.dataclass(frozen=True)
class _Unregistered(DispatchedModel):
    def registered(self) -> Any:
        return contextlib.nullcontext()


_VARIANTS: dict[str, Callable[[DispatchedOp], DispatchedOp]] = {
    "first": lambda op: op,
    "winners": _other_winners,
    "points": _other_points,
    "closures": _closures,
    "other closures": _other_closures,
    "unregistered": _unregistered,
}


def _check_variants(
    model: DispatchedModel, expected: Sequence[tuple[str, int]]
) -> None:
    """Compile variants in turn; each has its own values, and so many hits."""
    for variant, hits in expected:
        ops = [_VARIANTS[variant](op) for op in model.ops]
        kind = _Unregistered if variant == "unregistered" else DispatchedModel
        fields = {**vars(model), "ops": ops}
        report: Report = {}
        with counted(report), caches():
            compile_and_check(TestCase(), kind(**fields))
        found = (report.get("fxgraph_cache_hit", 0), bool(report["lowered"]))
        assert found == (hits, not hits and variant != "unregistered"), (
            f"{variant}: expected {hits} hits, got {report}"
        )


def register_again(
    model: DispatchedModel, report: Report, expected: Sequence[tuple[str, int]]
) -> None:
    _check_variants(model, expected)


def unregister(
    model: DispatchedModel, report: Report, expected: Sequence[tuple[str, int]]
) -> None:
    _check_variants(model, expected)


@ROWS.row(
    "reregistered",
    CACHES,
    acted="another registration is compiled anew, here and in a fresh process, "
    "the same one hits",
)
def reregistered(case: unittest.TestCase, model: DispatchedModel) -> None:
    _remove_graphs()
    _check_variants(
        model, [("first", 0), ("winners", 0), ("first", 1), ("closures", 0)]
    )
    _elsewhere(
        register_again,
        model,
        expected=[
            ("points", 0),
            ("winners", 1),
            ("other closures", 0),
            ("closures", 1),
            ("first", 1),
        ],
    )


@ROWS.row(
    "unregistered",
    CACHES,
    acted="without its registration the op itself is compiled, here and in a fresh "
    "process, with it the dispatch hits",
)
def unregistered(case: unittest.TestCase, model: DispatchedModel) -> None:
    _remove_graphs()
    _check_variants(model, [("first", 0)])
    _elsewhere(unregister, model, expected=[("unregistered", 0), ("first", 1)])
    _check_variants(model, [("unregistered", 1), ("first", 1)])
