"""Lowers the winners of calls: one graph that picks among them, or the only one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

from torch._inductor.range_dispatch.cond.branch_lowering import lower_for_ranges
from torch._inductor.range_dispatch.cond.cond_tree import (
    build_torch_cond_dispatch,
    plan_for,
)
from torch._inductor.range_dispatch.cond.inlining import (
    inline_graph,
    not_dispatched,
    subgraph_prefix,
)
from torch._inductor.range_dispatch.lowering.observing import observed
from torch._inductor.range_dispatch.plan.decisions import DispatchPlan, Leaf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.selection.choices import ChosenCall
    from torch.fx import GraphModule


@dataclass(frozen=True)
class Group:
    """Calls that share branches, all with the same ranges; here one with nothing
    around it."""

    members: tuple[ChosenCall, ...]

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
        return self.first.call.operands

    def fake_operands(self) -> Sequence[Any]:
        """Fake tensors and SymInts in the operands' place."""
        return self.first.fake_operands

    def fake_outputs(self) -> Sequence[Any]:
        """What every branch returns."""
        return self.first.expected.outputs

    @property
    def axes(self) -> Sequence[Axis]:
        """The sizes that decide, read off the operands."""
        return self.first.axes

    def branch(self, row: tuple[GraphModule, ...]) -> GraphModule:
        """The graph of a branch that runs these winners."""
        return row[0]

    def subgraph_name(self) -> str:
        """What the names of the branches start with; alike groups share theirs."""
        return subgraph_prefix(self.first.registration.name, self.first.number)

    def is_op_itself(self, winner: tuple[GraphModule, ...]) -> bool:
        """Whether the normal lowering does what the only winner would."""
        return any(
            choice.winner.graph_module is winner[0]
            and choice.winner.candidate.is_fallback
            for choice in self.first.choices
        )

    def config_patches(self) -> dict[tuple[GraphModule, ...], list[dict[str, Any]]]:
        """What each winner of a row is compiled with."""
        choices = zip(*(one.choices for one in self.members), strict=True)
        patches = ([c.winner.candidate.config_patches for c in row] for row in choices)
        return dict(zip(self.rows, patches))


def lower_group(group: Group) -> list[Any] | None:
    """Lower the winners to IR; None if that is one op itself, for all sizes."""
    first, rows = group.first, group.rows
    plan = DispatchPlan([rows[0]], Leaf(0))
    if len(rows) > 1:
        plan = plan_for(rows, first.cells, first.fake_operands, first.axes)
    with (
        observed(group, plan),
        not_dispatched(one.call.op for one in group.members),
    ):
        if isinstance(plan.tree, Leaf) and group.is_op_itself(plan.branches[0]):
            return None
        return _lower(group, plan)


def _lower(group: Group, plan: DispatchPlan[tuple[GraphModule, ...]]) -> list[Any]:
    first, rows = group.first, group.rows
    branches = {row: group.branch(row) for row in plan.branches}
    if len(rows) > 1:
        kept = [index for index, row in enumerate(rows) if row in branches]
        choices = [*zip(*(one.choices for one in group.members), strict=True)]
        lower_for_ranges(
            [branches[rows[index]] for index in kept],
            [choices[index] for index in kept],
            first.call,
        )
    graph_module = build_torch_cond_dispatch(
        group.subgraph_name(),
        DispatchPlan([branches[row] for row in plan.branches], plan.tree),
        group.fake_operands(),
        group.axes,
        group.fake_outputs(),
    )
    patches = group.config_patches()
    return inline_graph(
        first.registration.name,
        graph_module,
        first.call.op,
        group.operands,
        {branches[row]: patches[row][0] for row in plan.branches},
    )
