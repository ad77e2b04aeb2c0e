# Owner(s): ["module: inductor"]
"""Rows for how kernels are generated and tuned, with a dispatch in the graph."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import re
import tempfile
import unittest
from dataclasses import dataclass, field
from typing import Any, TYPE_CHECKING
from unittest import mock

from _backend_rows import compile_and_check, Compiled, Rows, Vehicle
from _dispatched_models import DispatchedModel, DispatchedOp, FIRST_SIZE
from _generated_code import (
    branch_bodies,
    called_in,
    combined_kernels,
    combining_on_cpu,
    kernel_sources,
)

import torch
import torch._inductor.debug
import torch._inductor.select_algorithm
from torch._inductor import config
from torch._inductor.autotune_process import AsyncAutotuner, AutotuneProcessPool
from torch._inductor.codecache import PyCodeCache
from torch._inductor.codegen.triton import TritonScheduling
from torch._inductor.codegen.wrapper import PythonWrapperCodegen
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.runtime.triton_heuristics import CachingAutotuner
from torch._inductor.select_algorithm import (
    AlgorithmSelectorCache,
    TritonTemplateCaller,
)
from torch._inductor.virtualized import V
from torch.profiler import profile, ProfilerActivity
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


ROWS = Rows()
CODEGEN = "Code generation and tuning"
Tensor = torch.Tensor
WEIGHTS = {
    width: torch.randn(width, width, generator=torch.Generator().manual_seed(1)) / width
    for width in (5, 16)
}


def launched(case: Any) -> set[str]:
    return {launch.kernel for launch in case.recorder.launches}


# An op of ATen


def _multiplied(x: Tensor, w: Tensor) -> Tensor:
    return torch.mm(x, w) * 2


def _biased(bias: Tensor, x: Tensor, w: Tensor) -> Tensor:
    return torch.mm(x, w) + bias * 2


MM = DispatchedOp(
    torch.ops.aten.mm.default,
    torch.mm,
    [_multiplied],
    [8, 100],
    [0, -1, 0],
    tensor_name="self",
)
ADDMM = DispatchedOp(
    torch.ops.aten.addmm.default,
    torch.addmm,
    [_biased],
    [8, 100],
    [-1, 0, -1],
    tensor_name="mat1",
)


class _EagerDispatch(TorchDispatchMode):
    """Calls of ``ops`` compute what is due, and are plain inside themselves."""

    def __init__(self, ops: Sequence[DispatchedOp]) -> None:
        super().__init__()
        self.ops = ops

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        for op in self.ops:
            if op.op is func:
                with _EagerDispatch([other for other in self.ops if other is not op]):
                    return op.due(*args)
        return func(*args, **(kwargs or {}))


@ROWS.row(
    "aten_op",
    CODEGEN,
    acted="aten.mm and aten.addmm, called on what is not realized, are dispatched, "
    "also inside of branches, but not inside of their own implementations",
)
def aten_op(case: unittest.TestCase, model: DispatchedModel) -> None:
    def around(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(x: Tensor, *rest: Tensor) -> Any:
            w = WEIGHTS[x.shape[1]]
            out = call(x, *rest)
            return out, torch.mm(x + 1, w) * 2, torch.addmm(x[0] * 2, x - 1, w)

        def due(*tensors: Tensor) -> Any:
            with _EagerDispatch([MM, ADDMM]):
                return run(*tensors)

        return run if call == model.run else due

    with MM.register(), ADDMM.register():
        result = compile_and_check(case, model, around=around)
    for op in ("aten.mm.default", "aten.addmm.default"):
        branches = [record.branches for record in result.records if record.op == op]
        case.assertIn(2, branches)


# Templates


def _after_product(call: Callable[..., Any]) -> Callable[..., Any]:
    def run(x: Tensor, *rest: Tensor) -> Any:
        return call(x @ WEIGHTS[x.shape[1]], *rest)

    return run


def _made_up_time(choice: Any) -> float:
    """An interpreted template would never win."""
    return 0.5 if isinstance(choice, TritonTemplateCaller) else 1.0


@contextlib.contextmanager
def _one_template() -> Iterator[None]:
    """Each matmul is tuned between ATen and one Triton template."""

    def first(choices: list[Any]) -> list[Any]:
        templates = [c for c in choices if isinstance(c, TritonTemplateCaller)]
        return [c for c in choices if c not in templates] + templates[:1]

    patches = {
        "max_autotune_gemm_backends": "ATEN,TRITON",
        "benchmark_epilogue_fusion": False,
    }
    torch._inductor.select_algorithm.add_preprocessing_fn(first)
    try:
        with config.patch(patches):
            yield
    finally:
        torch._inductor.select_algorithm.clear_preprocessing_fns()


def _check_templates(case: Any, model: DispatchedModel, compiled: Compiled) -> None:
    """Templates ran, in the graph and in the branches of matmuls."""
    templates = {name for name in kernel_sources(compiled) if "triton_tem" in name}
    case.assertTrue(templates)
    case.assertLessEqual(templates, launched(case))
    bodies = branch_bodies(compiled).values()
    in_branches = [k for body in bodies for k in called_in(body, compiled)]
    expected = 3 if model.name == "matmul" else 0
    case.assertEqual(len([k for k in in_branches if k in templates]), expected)


@ROWS.row(
    "max_autotune",
    CODEGEN,
    acted="the matmuls of the graph and of the branches are tuned and run as templates",
    vehicle=Vehicle.TRITON_ON_CPU,
)
@config.patch(torch._inductor.list_mode_options("max-autotune"))
def max_autotune(case: Any, model: DispatchedModel) -> None:
    tuned = []

    def benchmark(choices: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        tuned.append(choices)
        return {choice: _made_up_time(choice) for choice in choices}

    with (
        _one_template(),
        mock.patch.object(AlgorithmSelectorCache, "benchmark_choices", benchmark),
    ):
        result = compile_and_check(case, model, around=_after_product)
    _check_templates(case, model, result)
    case.assertEqual(len(tuned), 4 if model.name == "matmul" else 1)


@ROWS.row(
    "pipeline_max_autotune_gemm",
    CODEGEN,
    acted="the choices of all matmuls, in branches too, go through the pipeline",
    vehicle=Vehicle.TRITON_ON_CPU,
)
@config.patch(max_autotune_gemm=True, pipeline_max_autotune_gemm=True)
def pipeline_max_autotune_gemm(case: Any, model: DispatchedModel) -> None:
    queued: list[Any] = []
    start = AsyncAutotuner.start.__func__  # type: ignore[attr-defined]

    def start_tuning(cls: Any, choices: Sequence[Any], inputs_key: str) -> None:
        """The other process of the pipeline cannot interpret kernels."""
        queued.extend(choices)
        for choice in choices:
            timing: concurrent.futures.Future[float] = concurrent.futures.Future()
            timing.set_result(_made_up_time(choice))
            key = cls.get_choice_hash(choice, inputs_key)
            cls.choice_hash_to_future[key] = timing
        start(cls, choices, inputs_key)

    with (
        _one_template(),
        mock.patch.dict(AsyncAutotuner.choice_hash_to_future),
        mock.patch.object(AsyncAutotuner, "start", classmethod(start_tuning)),
        mock.patch.object(AutotuneProcessPool, "warm_up"),
    ):
        result = compile_and_check(case, model, around=_after_product)
    templates = [
        choice for choice in queued if isinstance(choice, TritonTemplateCaller)
    ]
    _check_templates(case, model, result)
    case.assertEqual(len(templates), 4 if model.name == "matmul" else 1)
    case.assertEqual(len(queued), 2 * len(templates))


# Several kernels in one


def _beside_others(call: Callable[..., Any]) -> Callable[..., Any]:
    """Work of other sizes, which depends on nothing that the dispatch does."""

    def run(x: Tensor, *rest: Tensor) -> Any:
        return call(x, *rest), x.sum(0), (WEIGHTS[16] + 1).cos()

    return run


def _check_combined(case: Any, compiled: Compiled) -> None:
    case.assertTrue(combined_kernels(compiled))
    case.assertLessEqual(combined_kernels(compiled), launched(case))


@ROWS.row(
    "combo_kernels",
    CODEGEN,
    acted="independent work of several sizes runs as one kernel",
    vehicle=Vehicle.TRITON_ON_CPU,
)
@config.patch(combo_kernels=True, combo_kernel_peak_memory_pct_threshold=None)
# What is looked at are kernels beside the dispatch.
@config.patch("range_dispatch.fuse", False)
def combo_kernels(case: Any, model: DispatchedModel) -> None:
    with combining_on_cpu():
        result = compile_and_check(case, model, around=_beside_others)
    _check_combined(case, result)


@ROWS.row(
    "benchmark_combo_kernel",
    CODEGEN,
    acted="kernels are combined where a benchmark says that it pays",
    vehicle=Vehicle.TRITON_ON_CPU,
)
@config.patch(
    combo_kernels=True,
    combo_kernel_peak_memory_pct_threshold=None,
    benchmark_combo_kernel=True,
)
# What is looked at are kernels beside the dispatch.
@config.patch("range_dispatch.fuse", False)
def benchmark_combo_kernel(case: Any, model: DispatchedModel) -> None:
    benchmarked = []
    benchmark = TritonScheduling.benchmark_combo_kernel

    def recorded(self: Any, nodes: Sequence[Any], *args: Any) -> Any:
        _, _, paths = benchmark(self, nodes, *args)
        benchmarked.append(nodes)
        return 0.1, 0.0, paths  # An interpreted kernel's time says nothing.

    with (
        combining_on_cpu(),
        mock.patch.object(TritonScheduling, "benchmark_combo_kernel", recorded),
    ):
        result = compile_and_check(case, model, around=_beside_others)
    case.assertTrue(benchmarked)
    _check_combined(case, result)


@ROWS.row(
    "benchmark_fusion",
    CODEGEN,
    acted="fusions are benchmarked, in the graph and inside of branches",
    vehicle=Vehicle.TRITON_ON_CPU,
)
@config.patch(benchmark_fusion=True)
def benchmark_fusion(case: Any, model: DispatchedModel) -> None:
    graphs = set()
    benchmark = TritonScheduling.benchmark_codegened_module

    def recorded(*args: Any, **kwargs: Any) -> tuple[float, str]:
        _, path = benchmark(*args, **kwargs)
        graphs.add(V.graph.name)
        return 1.0, path  # An interpreted kernel's time says nothing.

    def around(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(x: Tensor, *rest: Tensor) -> Any:
            return call(x, *rest), x.softmax(1)

        return run

    with mock.patch.object(TritonScheduling, "benchmark_codegened_module", recorded):
        compile_and_check(case, model, around=around)
    inside = {name for name in graphs if name and "_branch_" in name}
    case.assertLess(len(inside), len(graphs))
    # Nothing else has two kernels in a branch that could be one.
    case.assertEqual(len(inside), 3 if model.name == "outputs" else 0, inside)


@ROWS.row(
    "benchmark_kernel",
    CODEGEN,
    acted="every kernel, those of the branches too, can be benchmarked by itself",
    vehicle=Vehicle.TRITON_ON_CPU,
)
@config.patch(benchmark_kernel=True)
def benchmark_kernel(case: Any, model: DispatchedModel) -> None:
    result = compile_and_check(case, model)
    case.assertTrue(kernel_sources(result))
    for name, source in kernel_sources(result).items():
        case.recorder.clear()
        module = PyCodeCache.load(source)
        module.call(module.get_args())
        case.assertEqual(launched(case), {name})


# Config patches of one branch


@dataclass(frozen=True)
class _LastPatched(DispatchedOp):
    """The implementation of the last range has config patches, the others have not."""

    patches: dict[str, Any] = field(default_factory=dict)

    def register(self) -> contextlib.AbstractContextManager[None]:
        configs = []
        for index, implementation in enumerate(self.implementations):
            params = self.params[index] if self.params else {}
            patches = self.patches if index == self.winners[-1] else None
            configs.append(CustomOpConfig(implementation, patches, **params))
        return custom_op_autotuning(
            self.op,
            configs=configs,
            dispatch_on={"tensor_name": self.tensor_name, "dim": 0},
            split_points=list(self.split_points),
            winners=list(self.winners),
        )


def _with_last_patched(
    model: DispatchedModel, patches: dict[str, Any]
) -> DispatchedModel:
    ops = []
    for op in model.ops:
        fields = {f.name: getattr(op, f.name) for f in dataclasses.fields(op)}
        ops.append(_LastPatched(**fields, patches=patches))
    return dataclasses.replace(model, ops=ops)


def _last_branches_kernels(model: DispatchedModel, compiled: Compiled) -> set[str]:
    """The kernels of the branches that run what the last range is due."""
    ends = []
    for op in model.ops:
        index = list(dict.fromkeys(op.winners)).index(op.winners[-1])
        name = op.op._schema.name.replace("::", "__")
        ends.append(re.compile(rf"{name}_autotuned_\d+(_[0-9a-f]+)?_branch_{index}$"))
    return {
        kernel
        for name, body in branch_bodies(compiled).items()
        if any(end.search(name) for end in ends)
        for kernel in called_in(body, compiled)
    }


@ROWS.row(
    "coordinate_descent",
    CODEGEN,
    acted="just the kernels of the one branch that asks for it are tuned so",
    vehicle=Vehicle.TRITON_ON_CPU,
)
def coordinate_descent(case: Any, model: DispatchedModel) -> None:
    model = _with_last_patched(model, {"coordinate_descent_tuning": True})
    tuned = set()
    tune = CachingAutotuner.coordinate_descent_tuning

    def recorded(self: Any, *args: Any, **kwargs: Any) -> Any:
        tuned.add(self.fn.__name__)
        return tune(self, *args, **kwargs)

    with mock.patch.object(CachingAutotuner, "coordinate_descent_tuning", recorded):
        result = compile_and_check(case, model)
    case.assertTrue(tuned)
    case.assertEqual(tuned, _last_branches_kernels(model, result))
    case.assertLess(tuned, launched(case))


@ROWS.row(
    "branch_threads",
    CODEGEN,
    acted="just the C++ kernels of the one branch that asks for it have their threads",
)
def branch_threads(case: unittest.TestCase, model: DispatchedModel) -> None:
    model = _with_last_patched(model, {"cpp.threads": 3, "cpp.min_chunk_size": 1})
    result = compile_and_check(case, model)
    sources = kernel_sources(result)
    threaded = {name for name in sources if "num_threads(3)" in sources[name]}
    case.assertTrue(threaded)
    case.assertLessEqual(threaded, _last_branches_kernels(model, result))


# Looking into it

HANDLE = re.compile(r"\[Provenance debug handles\] (\S+)")


def _check_provenance(
    case: unittest.TestCase, model: DispatchedModel, level: int
) -> None:
    mappings = []
    dump = torch._inductor.debug.dump_inductor_provenance_info

    def recorded() -> dict[str, Any]:
        mappings.append(dump())
        return mappings[-1]

    with (
        config.patch({"trace.provenance_tracking_level": level}),
        mock.patch.object(
            torch._inductor.debug, "dump_inductor_provenance_info", recorded
        ),
    ):
        result = compile_and_check(case, model)
    (mapping,) = mappings
    nodes_of = mapping["cppCodeToPost"]
    handles = HANDLE.findall(result.source)
    case.assertEqual(sorted(handles), sorted(nodes_of))
    numbers = {handle.rpartition(":")[2] for handle in handles}
    case.assertEqual(len(numbers), len(handles))
    names = tuple(op.op._opname for op in model.ops)
    in_branches = 0
    for body in branch_bodies(result).values():
        inside = HANDLE.findall(body)
        in_branches += len(inside)
        kernels = [handle.rpartition(":")[0] for handle in inside]
        for kernel in called_in(body, result):
            case.assertIn(kernel, kernels)
        for handle in inside:
            nodes = nodes_of[handle]
            # A kernel that is not generated has the node of the implementation alone.
            is_from_op = any(node.startswith(names) for node in nodes)
            case.assertTrue(is_from_op if "fused" in handle else nodes, handle)
            for node in nodes:
                case.assertIn(handle, mapping["postToCppCode"][node])
    case.assertTrue(in_branches)


@ROWS.row(
    "provenance_1",
    CODEGEN,
    acted="each call of a kernel in a branch has its handle, which maps to graph nodes",
)
def provenance_1(case: unittest.TestCase, model: DispatchedModel) -> None:
    _check_provenance(case, model, 1)


@ROWS.row(
    "provenance_2",
    CODEGEN,
    acted="each call of a kernel in a branch has its handle, which maps to graph nodes",
)
def provenance_2(case: unittest.TestCase, model: DispatchedModel) -> None:
    _check_provenance(case, model, 2)


@ROWS.row(
    "trace",
    CODEGEN,
    acted="the debug folder has graph, code, and the IR of the graph and its branches",
)
def trace(case: unittest.TestCase, model: DispatchedModel) -> None:
    texts = {}
    with tempfile.TemporaryDirectory() as folder:
        with config.patch({"trace.enabled": True, "trace.debug_dir": folder}):
            # The folder gets a copy of the code's file, which must be there.
            result = compile_and_check(case, model)
        for path, _, names in os.walk(folder):
            for name in names:
                with open(os.path.join(path, name)) as file:
                    texts[name] = file.read()
    case.assertIn(result.source.strip(), texts["output_code.py"])
    case.assertIn(model.ops[0].op._opname, texts["fx_graph_transformed.py"])
    case.assertIn("fx_graph_runnable.py", texts)
    for name in ("ir_pre_fusion.txt", "ir_post_fusion.txt"):
        case.assertRegex(texts[name][:80], r"^op\d+")
        for branch in branch_bodies(result):
            case.assertEqual(texts[name].count(f"# subgraph: {branch}\n"), 1)


@ROWS.row(
    "autotune_block_comments",
    CODEGEN,
    acted="every kernel runs in the block that is generated to tune them all, on "
    "inputs of the sizes seen, below the comment that says where it comes from",
    vehicle=Vehicle.TRITON_ON_CPU,
)
@config.patch({"triton.autotune_at_compile_time": True})
def autotune_block_comments(case: Any, model: DispatchedModel) -> None:
    blocks = []
    generate = PythonWrapperCodegen.generate_and_run_autotune_block

    def recorded(self: Any) -> None:
        generate(self)
        blocks.append(self.kernel_autotune_defs.getvalue())
        blocks.append(self.kernel_autotune_calls.getvalue())

    with mock.patch.object(
        PythonWrapperCodegen, "generate_and_run_autotune_block", recorded
    ):
        result = compile_and_check(case, model)
    definitions, calls = blocks
    tuned = {launch.kernel for launch in case.recorder.tuning_launches}
    bodies = branch_bodies(result).values()
    case.assertTrue([kernel for body in bodies for kernel in called_in(body, result)])
    for kernel in kernel_sources(result):
        case.assertIn(kernel, tuned)
        above, defined, _ = definitions.partition(f"\n{kernel} = async_compile")
        case.assertTrue(defined)
        comment = above.rpartition("\n\n")[2]
        case.assertRegex(comment, r"(?m)^# .* Source Nodes: ")
    # Since v2.15 the sizes are those of a view of what is made.
    made = re.findall(r"(?:example_value\(|as_strided\(\w+, )\((.*?)\)", calls)
    case.assertTrue(any(str(FIRST_SIZE) in shape.split(", ") for shape in made))


# Wrapper code


@ROWS.row(
    "profiler_mark",
    CODEGEN,
    acted="the profiler sees the compiled call as an event of its own",
)
@config.patch(profiler_mark_wrapper_call=True)
def profiler_mark(case: unittest.TestCase, model: DispatchedModel) -> None:
    result = compile_and_check(case, model)
    with model.registered(), profile(activities=[ProfilerActivity.CPU]) as seen:
        result.function(*model.inputs(model.sizes[0]))
    events = seen.events()
    assert events is not None
    marks = {event.name for event in events if "wrapper_call" in event.name}
    case.assertEqual(len([mark for mark in marks if "graph_None" not in mark]), 1)
    for mark in marks:  # the branches' graphs have no number
        case.assertIn(mark, result.source)
