"""What is done to a candidate's graph before it is lowered."""

from __future__ import annotations

import copy
import logging
from typing import Any, TYPE_CHECKING

import torch
from torch._inductor import config
from torch._inductor.range_dispatch.call.schemas import with_names
from torch._inductor.range_dispatch.registration.base_release import fake_tensor_updater
from torch._inductor.virtualized import V
from torch.fx.experimental.symbolic_shapes import (
    _ShapeEnvGuardError,
    statically_known_true,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


log = logging.getLogger(__name__)


def nodes_within(graph_module: torch.fx.GraphModule) -> Iterator[torch.fx.Node]:
    """The nodes of a graph, and of those nested in it."""
    for module in graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            yield from module.graph.nodes


def name_arguments(graph_module: torch.fx.GraphModule, op: Any) -> None:
    """Let a graph call the op as it is called where there is no graph but itself."""
    for node in graph_module.graph.find_nodes(op="call_function", target=op):
        node.args, node.kwargs = with_names(op, node.args, node.kwargs)
        if "eager_input_vals" in node.meta:  # Lowering compares them one by one.
            node.meta["eager_input_vals"] = with_names(
                op, *node.meta["eager_input_vals"]
            )
    graph_module.recompile()


def ready_to_lower(graph_module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """The graph as Inductor's lowering expects it, and as a branch has to be."""
    graph_module = _as_inductor_expects(graph_module)
    _start_where_memory_does(graph_module.graph)
    graph_module.recompile()
    return graph_module


def _as_inductor_expects(graph_module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """What is done to the graphs that Inductor compiles, before they come to lowering.

    Functionalized mutating ops become a copy and the op on the copy; with freezing,
    what is computed of constants becomes a constant.
    """
    from torch._inductor.constant_folding import constant_fold
    from torch._inductor.fx_passes.post_grad import decompose_auto_functionalized
    from torch._inductor.fx_passes.reinplace import reinplace_inplaceable_ops

    if config.freezing and V.graph.is_inference:
        constant_fold(graph_module)
    # They take a copy for what it copies, so nothing may be written in place yet.
    graph_module = _after_joint_passes(graph_module)
    functional = (
        torch.ops.higher_order.auto_functionalized,
        torch.ops.higher_order.auto_functionalized_v2,
    )
    if any(node.target in functional for node in graph_module.graph.nodes):
        # An op that reads what it writes must get no copy of it where none is due.
        updater = fake_tensor_updater(graph_module)
        with V.fake_mode:
            reinplace_inplaceable_ops(updater, graph_module.graph)
        decompose_auto_functionalized(graph_module.graph)
        graph_module.recompile()
    return graph_module


def _start_where_memory_does(graph: torch.fx.Graph) -> None:
    """Copy outputs that are a later part of a tensor: a branch's may not be."""
    output = graph.output_node()
    outputs: Any = output.args[0]
    owned = []
    for node in outputs:
        value = node.meta["val"]
        if not statically_known_true(value.storage_offset() == 0):
            with graph.inserting_before(output), V.fake_mode:
                node = graph.call_function(torch.ops.aten.clone.default, (node,))
                node.meta["val"] = value.clone()
        owned.append(node)
    output.args = (owned,)


def _after_joint_passes(graph_module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Run the passes over joint graphs, as far as they add no guards.

    They fold constants and let random numbers come from Inductor's seeds.
    """
    from torch._inductor.compile_fx import _recursive_joint_graph_passes
    from torch._inductor.fx_passes.replace_random import replace_random_passes

    copied = torch.fx.GraphModule(graph_module, copy.deepcopy(graph_module.graph))
    try:
        with V.graph.sizevars.shape_env.error_on_new_guards():
            return _recursive_joint_graph_passes(copied)
    except _ShapeEnvGuardError as error:
        log.info("joint graph passes are left out for a candidate: %s", error)
    replace_random_passes(graph_module)
    return graph_module
