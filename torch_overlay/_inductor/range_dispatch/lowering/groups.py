"""Lowers the winners of calls: one graph that picks among them, or the only one.

A group is one call by itself, or those of a region with what is fused around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

from torch._inductor import config
from torch._inductor.lowering import user_lowerings
from torch._inductor.range_dispatch.cond.cond_tree import (
    build_torch_cond_dispatch,
    plan_for,
)
from torch._inductor.range_dispatch.cond.inlining import (
    inline_graph,
    not_dispatched,
    subgraph_prefix,
)
from torch._inductor.range_dispatch.lowering.branch_lowering import lower_for_ranges
from torch._inductor.range_dispatch.lowering.count_emitting import counted_dispatch
from torch._inductor.range_dispatch.plan.decisions import DispatchPlan, Leaf
from torch._inductor.range_dispatch.record.records import publish
from torch._inductor.range_dispatch.region.node_kinds import kind_of, NodeKind
from torch._inductor.range_dispatch.region.regions import Surroundings
from torch.fx import GraphModule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.region.fused_call import FusedCall
    from torch._inductor.range_dispatch.tuning.winners import ChosenCall
    from torch.fx import Node


@dataclass(frozen=True)
class Group:
    """Calls that share branches, all with the same ranges.

    ``fused`` is what is around them; without it there is one call. ``surroundings`` are
    for people.
    """

    members: tuple[ChosenCall, ...]
    fused: FusedCall | None = None
    surroundings: Surroundings = Surroundings()

    @property
    def first(self) -> ChosenCall:
        """The call whose sizes decide."""
        return self.members[0]

    @property
    def rows(self) -> list[tuple[GraphModule, ...]]:
        """For each range the winner of each call."""
        return list(zip(*(one.winners for one in self.members), strict=True))

    @property
    def operands(self) -> list[Any]:
        """What the branches are over, as a lowering passes it on."""
        return (self.fused or self.first.call).operands

    def fake_operands(self) -> Sequence[Any]:
        """Fake tensors and SymInts in the operands' place."""
        if self.fused is None:
            return self.first.fake_operands
        return self.fused.fake_operands()

    def fake_outputs(self) -> Sequence[Any]:
        """What every branch returns."""
        if self.fused is None:
            return self.first.expected.outputs
        return self.fused.fake_outputs()

    @property
    def axes(self) -> Sequence[Axis]:
        """The sizes that decide, read off the operands."""
        if self.fused is None:
            return self.first.axes
        return [self.fused.moved(axis) for axis in self.first.axes]

    def branch(self, row: tuple[GraphModule, ...]) -> GraphModule:
        """The graph of a branch that runs these winners."""
        return row[0] if self.fused is None else self.fused.compose(row)

    def config_patches(self) -> dict[tuple[GraphModule, ...], list[dict[str, Any]]]:
        """What each winner of a row is compiled with."""
        choices = zip(*(one.choices for one in self.members), strict=True)
        patches = ([c.winner.candidate.config_patches for c in row] for row in choices)
        return dict(zip(self.rows, patches))

    def subgraph_name(self) -> str:
        """What the names of the branches start with; alike groups share theirs."""
        name = ""
        for one in self.members:
            name += one.registration.name
            name = subgraph_prefix(name, one.number)
            name += "_" if self.fused is not None else ""
        return name if self.fused is None else f"{name}{self.fused.digest}"


def lower_group(group: Group) -> list[Any] | None:
    """Lower the winners to IR; None if that is one op itself, for all sizes."""
    first, rows = group.first, group.rows
    plan = DispatchPlan([rows[0]], Leaf(0))
    if len(rows) > 1:
        plan = plan_for(rows, first.cells, first.fake_operands, first.axes)
    is_dispatched = not isinstance(plan.tree, Leaf)
    # With one winner Inductor fuses by itself.
    around = group.surroundings if is_dispatched else Surroundings()
    records = [
        publish(
            one,
            DispatchPlan([row[index] for row in plan.branches], plan.tree),
            around,
        )
        for index, one in enumerate(group.members)
    ]
    if not is_dispatched and group.fused is None and _is_op_itself(group, plan):
        return None
    branches = {row: group.branch(row) for row in plan.branches}
    if len(rows) > 1:
        kept = [index for index, row in enumerate(rows) if row in branches]
        choices = [*zip(*(one.choices for one in group.members), strict=True)]
        lower_for_ranges(
            [branches[rows[index]] for index in kept],
            [choices[index] for index in kept],
            first.call,
        )
    patches = group.config_patches()
    graph_module = build_torch_cond_dispatch(
        group.subgraph_name(),
        DispatchPlan([branches[row] for row in plan.branches], plan.tree),
        group.fake_operands(),
        group.axes,
        group.fake_outputs(),
    )
    with (
        counted_dispatch(records, first.axes),
        not_dispatched(one.call.op for one in group.members),
    ):
        return inline_graph(
            first.registration.name,
            graph_module,
            first.call.op,
            group.operands,
            {branches[row]: patches[row][0] for row in plan.branches},
        )


def why_not_together(group: Group) -> str | None:
    """Why one graph cannot hold what the branches of several calls do."""
    size_of_region = len(group.fused.region.absorbed) if group.fused else 0
    ops = [one.registration.op for one in group.members]
    for row, patches in group.config_patches().items():
        if any(one != patches[0] for one in patches):
            return "their winners have config patches of their own"
        size = size_of_region
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


def _is_op_itself(group: Group, plan: DispatchPlan[tuple[GraphModule, ...]]) -> bool:
    (row,) = plan.branches
    return any(
        choice.winner.graph_module is row[0] and choice.winner.candidate.is_fallback
        for choice in group.first.choices
    )


def _operations(graph_module: GraphModule) -> Iterator[Node]:
    """What a winner's graph computes, with the graphs that it calls."""
    for module in graph_module.modules():
        if isinstance(module, GraphModule):
            for node in module.graph.nodes:
                kind = kind_of(node)
                is_operation = node.op == "call_function" and kind != NodeKind.SIZE
                if is_operation and not kind.is_free:
                    yield node
