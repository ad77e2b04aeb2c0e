"""Lowers a dispatch graph, or a winner's graph, into the graph being compiled."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch._inductor import config
from torch._inductor.codegen.subgraph import inline_subgraph_to_ir_nodes
from torch._inductor.range_dispatch.cond.op_itself import warn_of_packaged_calls
from torch._inductor.utils import get_first_incompatible_cudagraph_node, get_op_names
from torch._inductor.virtualized import V
from torch.fx import GraphModule

ConfigPatches: TypeAlias = Mapping[GraphModule, dict[str, Any]]


def subgraph_prefix(name: str, number: int) -> str:
    """What the names of a dispatch's subgraphs start with.

    Lowering finds subgraphs by attribute name, across all inlined graphs: dispatches
    with one number in a compile share their branches, and no others do.
    """
    stem = re.sub(r"\W", "_", name)
    prefix = f"{stem}_{number}"
    if V.graph.cpp_wrapper or V.graph.aot_mode:
        # There a branch is no function but written where it is used, which can be done
        # only once.
        uses = 0
        while any(seen.startswith(f"{prefix}_") for seen in V.graph.seen_subgraphs):
            uses += 1
            prefix = f"{stem}_{number}_use_{uses}"
    return prefix


def inline_graph(
    name: str,
    graph_module: GraphModule,
    op: torch._ops.OpOverload,
    operands: Sequence[Any],
    patches: ConfigPatches,
) -> list[Any]:
    """Lower a graph over the operands of a call of ``op`` into the current graph.

    ``patches`` are the config patches for the operations of each candidate's graph:
    they are in force while it is lowered and while its kernels are generated, as they
    were when it was timed.
    """
    warn_of_packaged_calls(graph_module)
    first_new = len(V.graph.operations)
    for branch, of_branch in patches.items():
        branch.meta["inductor_config_patches"] = of_branch
    own = patches.get(graph_module, {})
    # A graph is inlined once only, and a candidate's may be wanted again.
    own_graph = copied(graph_module)
    with config.patch(own):
        results = list(inline_subgraph_to_ir_nodes(own_graph, [*operands], name))
    if is_partitioned_on(op):
        for result in results:
            result.realize()
        for operation in V.graph.operations[first_new:]:
            operation.lowered_from = op
    _forbid_unsafe_capture(name, graph_module)
    _apply_config_patches(V.graph.operations[first_new:], own, patches)
    return results


def copied(graph_module: GraphModule) -> GraphModule:
    """A copy that can be changed, or inlined, which can be done only once."""
    other = GraphModule(graph_module, copy.deepcopy(graph_module.graph))
    other.meta = graph_module.meta
    return other


def is_partitioned_on(op: torch._ops.OpOverload) -> bool:
    """Whether the user wants the op out of the captured parts of a graph."""
    return torch.Tag.cudagraph_unsafe in op.tags or any(
        name in config.custom_should_partition_ops for name in get_op_names(op)
    )


@contextlib.contextmanager
def not_dispatched(ops: Iterable[Any]) -> Iterator[None]:
    """Lower calls of these ops as the ops themselves, as lowering one does for it."""
    active = V.active_user_lowering_ops
    new = [op for op in ops if op not in active]
    active.update(new)
    try:
        yield
    finally:
        for op in new:
            active.discard(op)


def _forbid_unsafe_capture(name: str, graph_module: GraphModule) -> None:
    """Without partitions a graph is captured as a whole, or not at all.

    Inductor looks for what cannot be captured in the graph that was given to it.
    """
    if config.graph_partition:
        return
    if unsafe := get_first_incompatible_cudagraph_node(graph_module):
        V.graph.disable_cudagraphs_reason = (
            f"disabling cudagraphs due to incompatible op {unsafe.target} in an "
            f"implementation of {name}"
        )


def _apply_config_patches(
    operations: Sequence[Any],
    own: dict[str, Any],
    by_branch: ConfigPatches,
) -> None:
    """Give each branch's operations its candidate's patches, and no others."""
    for operation in operations:
        if own:
            operation.set_config_patches(own.copy())
        for subgraph in operation.get_subgraphs():
            if subgraph.graph is not None:
                inner = by_branch.get(subgraph.graph_module, own)
                _apply_config_patches(subgraph.graph.operations, inner, by_branch)
