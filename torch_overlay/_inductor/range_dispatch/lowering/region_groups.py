"""The calls of a region, whose branches take in what is fused around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

from torch._inductor import config
from torch._inductor.lowering import user_lowerings
from torch._inductor.range_dispatch.cond.inlining import subgraph_prefix
from torch._inductor.range_dispatch.lowering.groups import Group
from torch._inductor.range_dispatch.region.node_kinds import kind_of, NodeKind
from torch._inductor.range_dispatch.trace.graph_passes import nodes_within

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.region.fused_call import FusedCall
    from torch.fx import GraphModule, Node


@dataclass(frozen=True)
class RegionGroup(Group):
    """Calls with what is ``fused`` around them."""

    fused: FusedCall

    @property
    def operands(self) -> list[Any]:
        return self.fused.operands

    def fake_operands(self) -> Sequence[Any]:
        return self.fused.fake_operands()

    def fake_outputs(self) -> Sequence[Any]:
        return self.fused.fake_outputs()

    @property
    def axes(self) -> Sequence[Axis]:
        return [self.fused.moved(axis) for axis in self.first.axes]

    def branch(self, row: tuple[GraphModule, ...]) -> GraphModule:
        return self.fused.compose(row)

    def subgraph_name(self) -> str:
        name = ""
        for one in self.members:
            name = subgraph_prefix(f"{name}{one.registration.name}", one.number) + "_"
        return f"{name}{self.fused.digest}"

    def is_op_itself(self, winner: tuple[GraphModule, ...]) -> bool:
        return False


def why_not_together(group: RegionGroup) -> str | None:
    """Why one graph cannot hold what the branches of several calls do."""
    ops = [one.registration.op for one in group.members]
    for row, patches in group.config_patches().items():
        if any(one != patches[0] for one in patches):
            return "their winners have config patches of their own"
        size = len(group.fused.region.absorbed)
        for op, graph_module in zip(ops, row):
            for node in _operations(graph_module):
                if node.target in user_lowerings and node.target is not op:
                    return f"an implementation calls {node.target}"
                size += 1
        if size > config.range_dispatch.max_fused_nodes:
            return (
                f"a branch of both would have {size} operations, more than "
                "config.range_dispatch.max_fused_nodes"
            )
    return None


def _operations(graph_module: GraphModule) -> Iterator[Node]:
    """What a winner's graph computes, with the graphs that it calls."""
    for node in nodes_within(graph_module):
        kind = kind_of(node)
        is_operation = node.op == "call_function" and kind != NodeKind.SIZE
        if is_operation and not kind.is_free:
            yield node
