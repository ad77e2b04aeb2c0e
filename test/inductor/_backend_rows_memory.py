# Owner(s): ["module: inductor"]
"""Rows for what plans, checks and splits a graph's memory."""

import contextlib
import re
import unittest
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from _backend_rows import compile_and_check, Compiled, Rows, Vehicle
from _captured_partitions import Capture, captured_partitions, function_bodies
from _dispatched_models import DispatchedModel
from _generated_code import DECISION, HAS_SWITCH

import torch
from torch._dynamo.utils import counters
from torch._inductor import config, memory
from torch._inductor.compile_fx import compile_fx
from torch._inductor.runtime import debug_utils
from torch._inductor.scheduler import BaseSchedulerNode


ROWS = Rows()
MEMORY = "Memory and partition"
BRANCH = re.compile(r"_branch_\d+$")
Call = Callable[..., Any]


def branches(result: Compiled) -> dict[str, str]:
    """The code of each branch's function, by name."""
    bodies = function_bodies(result.source)
    return {name: body for name, body in bodies.items() if BRANCH.search(name)}


def kernels_around(call: Call) -> Call:
    """Extern kernels before and after: what is theirs is no dispatch's."""

    def around(x: torch.Tensor, *rest: torch.Tensor) -> Any:
        weight = torch.eye(x.shape[1]) * 2
        before = (x @ weight).cos()
        after = call(before @ weight, *rest)
        return after.cumsum(0) * 2

    return around


def check_captured(
    case: unittest.TestCase,
    model: DispatchedModel,
    result: Compiled,
    capture: Capture,
) -> None:
    """Every kernel outside of the dispatch is captured, and no choice is."""
    bodies = function_bodies(result.source)
    partitions = {n: b for n, b in bodies.items() if n.startswith("partition_")}
    case.assertEqual(len(partitions), len(model.ops) + 1)
    case.assertEqual(len(capture.partitions), len(partitions))
    for body in partitions.values():
        case.assertNotRegex(body, rf"{DECISION}|_branch_|_outside")
        case.assertRegex(body, r"_fused_")
    case.assertRegex(bodies["call"], DECISION)
    case.assertNotRegex(bodies["call"], r"_fused_")
    # A capture takes tensors, and is made anew for each tuple of sizes.
    case.assertEqual(capture.argument_types, {torch.Tensor, int})
    first = [call.sizes for call in capture.calls if call.partition == 0]
    case.assertEqual(
        {size for sizes in first for size in sizes} & {*model.sizes}, {*model.sizes}
    )


@ROWS.row(
    "graph_partition",
    MEMORY,
    acted="each kernel beside the dispatch is in a captured partition, no choice is",
)
@config.patch(graph_partition=True, allow_buffer_reuse=True)
# What is looked at are kernels beside the dispatch.
@config.patch("range_dispatch.fuse", False)
def graph_partition(case: unittest.TestCase, model: DispatchedModel) -> None:
    with captured_partitions() as capture, torch.no_grad():
        result = compile_and_check(case, model)
    check_captured(case, model, result, capture)
    # What the dispatch returned is taken over by the kernel after it. v2.15 does not
    # where that kernel reads what the dispatch wrote into as well.
    if not (HAS_SWITCH and model.name == "mutation"):
        case.assertRegex(function_bodies(result.source)["partition_1"], "# reuse")


@ROWS.row(
    "graph_partition_triton",
    MEMORY,
    acted="the launches around the dispatch happen in captured partitions",
    vehicle=Vehicle.TRITON_ON_CPU,
)
@config.patch(graph_partition=True)
# What is looked at are kernels beside the dispatch.
@config.patch("range_dispatch.fuse", False)
def graph_partition_triton(case: unittest.TestCase, model: DispatchedModel) -> None:
    with captured_partitions() as capture, torch.no_grad():
        result = compile_and_check(case, model)
    check_captured(case, model, result, capture)
    case.assertTrue(case.recorder.launches)  # type: ignore[attr-defined]


@torch.library.custom_op("range_backends_memory::boundary", mutates_args=())
def boundary(x: torch.Tensor) -> torch.Tensor:
    """An op that no kernel takes in."""
    return x.clone()


boundary.register_fake(torch.empty_like)


def between_boundaries(call: Call) -> Call:
    def around(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return boundary(call(boundary(x * 2), *rest)) * 2

    return around


@ROWS.row(
    "custom_partition_rule",
    MEMORY,
    acted="named ops before and after the dispatch, and it, are in no captured part",
)
@config.patch(graph_partition=True)
# What is looked at are kernels beside the dispatch.
@config.patch("range_dispatch.fuse", False)
def custom_partition_rule(case: unittest.TestCase, model: DispatchedModel) -> None:
    names = [op.op.name() for op in model.ops]
    rule = config.patch(custom_should_partition_ops=[boundary._qualname, *names])
    with rule, captured_partitions() as capture, torch.no_grad():
        result = compile_and_check(case, model, around=between_boundaries)
    bodies = function_bodies(result.source)
    partitions = [b for name, b in bodies.items() if name.startswith("partition_")]
    case.assertEqual(len(partitions), len(model.ops) + 3)
    case.assertEqual(len(capture.partitions), len(partitions))
    for body in partitions:
        case.assertNotIn("boundary.default(", body)
        case.assertNotRegex(body, r"_branch_|_outside")
    case.assertEqual(bodies["call"].count("boundary.default("), 2)


@ROWS.row(
    "device_context",
    MEMORY,
    acted="one device guard for all partitions and the dispatch between them",
    vehicle=Vehicle.GPU,
)
@config.patch({"graph_partition": True, "triton.cudagraphs": True})
# What is looked at are kernels beside the dispatch.
@config.patch("range_dispatch.fuse", False)
def device_context(case: unittest.TestCase, model: DispatchedModel) -> None:
    with torch.no_grad():
        # No other device has what this row is about.
        result = compile_and_check(case, model, device="cuda")  # noqa: test_device_bias
    bodies = function_bodies(result.source)
    case.assertEqual(bodies["call"].count("torch.cuda._DeviceGuard(0)"), 1)
    partitions = [b for name, b in bodies.items() if name.startswith("partition_")]
    case.assertEqual(len(partitions), len(model.ops) + 1)
    for body in partitions:
        case.assertNotIn("_DeviceGuard", body)


@ROWS.row(
    "cudagraph_trees",
    MEMORY,
    acted="the kernels around the dispatch are recorded, and replayed at each size",
    vehicle=Vehicle.GPU,
)
@config.patch({"graph_partition": True, "triton.cudagraphs": True})
# What is looked at are kernels beside the dispatch.
@config.patch("range_dispatch.fuse", False)
def cudagraph_trees(case: unittest.TestCase, model: DispatchedModel) -> None:
    from torch._inductor.cudagraph_trees import get_container, reset_cudagraph_trees

    counters.clear()
    reset_cudagraph_trees()
    with torch.no_grad(), model.registered():
        # No other device has what this row is about.
        result = compile_and_check(case, model, device="cuda")  # noqa: test_device_bias
        # The first call of a size warms up, the second records, the third replays.
        for size in [*model.sizes] * 3 + [*reversed(model.sizes)]:
            torch.compiler.cudagraph_mark_step_begin()
            arguments = model.inputs(size, "cuda")
            due = model.due(*model.inputs(size, "cuda"))
            case.assertEqual(result.function(*arguments), due)
    case.assertEqual(counters["inductor"]["cudagraph_skips"], 0)
    case.assertGreaterEqual(counters["inductor"]["cudagraph_partitions"], 3)
    manager = get_container(torch.cuda.current_device()).tree_manager
    assert manager is not None
    recorded = manager.new_graph_id().id
    case.assertGreaterEqual(recorded, len(model.sizes) * (len(model.ops) + 1))


def _memory_pool_row(pool: str) -> None:
    @ROWS.row(
        f"memory_planning_{pool}",
        MEMORY,
        acted="buffers of the graph and of branches are cut from pools",
    )
    @config.patch(memory_planning=True, memory_pool=pool)
    def memory_planning(case: unittest.TestCase, model: DispatchedModel) -> None:
        with torch.no_grad():
            result = compile_and_check(case, model, around=kernels_around)
        case.assertRegex(function_bodies(result.source)["call"], r"\bpool\d+ = ")
        bodies = branches(result)
        case.assertTrue(bodies)
        for body in bodies.values():
            allocated = body.count("empty_strided_cpu(")
            # No buffer but a pool is allocated.
            case.assertEqual(len(re.findall(r"pool\d+ = empty", body)), allocated)


for memory_pool in ("none", "intermediates", "outputs", "combined"):
    _memory_pool_row(memory_pool)


@contextlib.contextmanager
def memory_checks() -> Iterator[list[str]]:
    """The graphs whose memory is checked, an entry a check; "" is the main graph."""
    checked: list[str] = []
    check = debug_utils.check_memory_step

    def record(
        allocated: list[str],
        freed: list[str],
        is_final_step: bool = False,
        graph: str = "",
    ) -> None:
        checked.append(graph)
        check(allocated, freed, is_final_step, graph)

    with mock.patch.object(debug_utils, "check_memory_step", record):
        yield checked


# The checks know nothing of buffers that take over another's memory.
@ROWS.row(
    "memory_lifecycle_assert",
    MEMORY,
    acted="births and deaths of buffers are checked in the graph and in its branches",
)
@config.patch(
    {
        "allow_buffer_reuse": False,
        "inplace_buffers": False,
        "test_configs.track_memory_lifecycle": "assert",
    }
)
def memory_lifecycle_assert(case: unittest.TestCase, model: DispatchedModel) -> None:
    with torch.no_grad(), memory_checks() as checked:
        result = compile_and_check(case, model, around=kernels_around)
    case.assertIn("", checked)
    case.assertLessEqual({*branches(result)}, {*checked})


@ROWS.row(
    "memory_lifecycle_log",
    MEMORY,
    acted="reuse, which the checks do not know, is logged and nothing is raised",
)
@config.patch("test_configs.track_memory_lifecycle", "log")
def memory_lifecycle_log(case: unittest.TestCase, model: DispatchedModel) -> None:
    with (
        torch.no_grad(),
        memory_checks() as checked,
        mock.patch.object(debug_utils.log, "info") as logged,
    ):
        result = compile_and_check(case, model, around=kernels_around)
    case.assertLessEqual({"", *branches(result)}, {*checked})
    case.assertIn("still alive", str(logged.call_args_list))


@ROWS.row(
    "nan_asserts",
    MEMORY,
    acted="what goes into each branch, and what comes out, is looked at for nan",
)
@config.patch(nan_asserts=True)
def nan_asserts(case: unittest.TestCase, model: DispatchedModel) -> None:
    with torch.no_grad():
        result = compile_and_check(case, model)
    bodies = branches(result)
    case.assertTrue(bodies)
    for body in [function_bodies(result.source)["call"], *bodies.values()]:
        case.assertRegex(body, r"assert not \w*arg\w*\.isnan\(\)")
        case.assertIn("assert not var.isnan()", body)


@ROWS.row(
    "asserts",
    MEMORY,
    acted="layouts are asserted of inputs and of what extern kernels return",
)
@config.patch(size_asserts=True, alignment_asserts=True, scalar_asserts=True)
# What is looked at are kernels beside the dispatch.
@config.patch("range_dispatch.fuse", False)
def asserts(case: unittest.TestCase, model: DispatchedModel) -> None:
    with torch.no_grad():
        result = compile_and_check(case, model, around=between_boundaries)
    body = function_bodies(result.source)["call"]
    case.assertRegex(body, r"assert_size_stride\(arg")
    case.assertEqual(body.count("memory.boundary.default')"), 4)
    case.assertRegex(body, r"assert_alignment\(buf\d+, 16, ")
    if model.name == "unbacked":
        for branch in branches(result).values():
            # Since v2.15 of extern kernels along with the dtype.
            asserts = r"assert_(?:size_stride|tensor_metadata)\(.*\(u\d+, "
            case.assertRegex(branch, asserts)
            case.assertRegex(branch, r"if not \(u\d+ >= 0\):")


def two_wide_products(call: Call) -> Call:
    """In the order it is written in, both wide matrices are alive together."""

    def around(x: torch.Tensor, *rest: torch.Tensor) -> Any:
        wide = torch.ones(x.shape[1], 256)
        first = x @ wide
        second = x @ (wide + 1)
        narrow = first @ wide.t(), second @ wide.t()
        return call(x * (narrow[0] - narrow[1]).sign(), *rest)

    return around


@ROWS.row(
    "reorder_for_peak_memory",
    MEMORY,
    acted="the graph's nodes come out in another order; branches are looked at too",
)
@config.patch(reorder_for_peak_memory=True)
def reorder_for_peak_memory(case: unittest.TestCase, model: DispatchedModel) -> None:
    reordered: dict[str, bool] = {}
    reorder = memory.reorder_for_peak_memory

    def record(nodes: list[BaseSchedulerNode], *args: Any) -> list[BaseSchedulerNode]:
        result = reorder(nodes, *args)
        reordered[torch._inductor.virtualized.V.graph.name or ""] = result != nodes
        return result

    with torch.no_grad(), mock.patch.object(memory, "reorder_for_peak_memory", record):
        result = compile_and_check(case, model, around=two_wide_products)
    case.assertTrue(reordered[""])
    case.assertLessEqual({*branches(result)}, {*reordered})


@ROWS.row(
    "reduce_overhead",
    MEMORY,
    acted="CUDA graphs are asked for, and a graph on CPU is left as it is",
)
def reduce_overhead(case: unittest.TestCase, model: DispatchedModel) -> None:
    def backend(graph_module: torch.fx.GraphModule, inputs: Any) -> Any:
        options = torch._inductor.list_mode_options("reduce-overhead", dynamic=True)
        return compile_fx(graph_module, inputs, config_patches=options)

    counters.clear()
    with torch.no_grad():
        result = compile_and_check(case, model, backend=backend)
    case.assertEqual(counters["inductor"]["cudagraph_skips"], 1)
    case.assertIn("Runner(partitions=[])", result.source)


@ROWS.row(
    "no_buffer_reuse",
    MEMORY,
    acted="no buffer takes over another's memory, where by default some do",
)
@config.patch(allow_buffer_reuse=False, inplace_buffers=False)
def no_buffer_reuse(case: unittest.TestCase, model: DispatchedModel) -> None:
    with torch.no_grad():
        result = compile_and_check(case, model, around=kernels_around)
    case.assertNotIn("# reuse", result.source)
    with config.patch(allow_buffer_reuse=True, inplace_buffers=True), torch.no_grad():
        result = compile_and_check(case, model, around=kernels_around)
    case.assertIn("# reuse", result.source)
