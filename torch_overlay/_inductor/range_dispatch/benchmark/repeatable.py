"""What of a graph's results is the same whenever it is run on the same inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch._inductor.range_dispatch.trace.graph_passes import nodes_within
from torch.fx import GraphModule, Node
from torch.utils._ordered_set import OrderedSet


_UNINITIALIZED = OrderedSet(
    [
        torch.ops.aten.empty.memory_format,
        torch.ops.aten.empty_like.default,
        torch.ops.aten.empty_permuted.default,
        torch.ops.aten.empty_strided.default,
        torch.ops.aten.new_empty.default,
        torch.ops.aten.new_empty_strided.default,
    ]
)


def is_random(target: Any) -> bool:
    """Whether an operator, or one in a graph or in those nested in it, draws random
    numbers."""
    if isinstance(target, torch._ops.OpOverload):
        return torch.Tag.nondeterministic_seeded in target.tags
    if not isinstance(target, GraphModule):
        return False
    return any(is_random(node.target) for node in nodes_within(target))


def uninitialized_outputs(graph_module: GraphModule) -> OrderedSet[int]:
    """The outputs that are memory nobody has written to."""
    returned: Any = graph_module.graph.output_node().args[0]
    return OrderedSet(
        index for index, node in enumerate(returned) if _is_uninitialized(node)
    )


def _is_uninitialized(node: Any) -> bool:
    while isinstance(node, Node) and node.target is torch.ops.aten.clone.default:
        node = node.args[0]
    return isinstance(node, Node) and node.target in _UNINITIALIZED
