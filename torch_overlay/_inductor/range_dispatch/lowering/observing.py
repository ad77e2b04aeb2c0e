"""What is made known of calls where they are lowered: their records, and counts."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.lowering.count_emitting import counted_dispatch
from torch._inductor.range_dispatch.plan.decisions import DispatchPlan, Leaf
from torch._inductor.range_dispatch.record.records import publish
from torch._inductor.range_dispatch.region.forming import RegionCall, SURROUNDINGS
from torch._inductor.range_dispatch.region.regions import Surroundings
from torch._inductor.virtualized import V

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch._inductor.range_dispatch.lowering.groups import Group
    from torch.fx import GraphModule


@contextlib.contextmanager
def observed(
    group: Group, plan: DispatchPlan[tuple[GraphModule, ...]]
) -> Iterator[None]:
    """Publish what was chosen for calls, and count what is lowered for them."""
    # With one winner Inductor fuses by itself.
    around = Surroundings()
    if not isinstance(plan.tree, Leaf):
        around = _surroundings(group.first.registration.op)
    records = [
        publish(one, DispatchPlan([row[i] for row in plan.branches], plan.tree), around)
        for i, one in enumerate(group.members)
    ]
    with counted_dispatch(records, group.first.axes):
        yield


def _surroundings(op: torch._ops.OpOverload) -> Surroundings:
    """What is around the calls that are lowered, ``op`` the first."""
    node = V.graph.current_node
    if node is not None and isinstance(node.target, RegionCall):
        return node.target.region.surroundings
    if node is not None and node.target is op:
        return node.meta.get(SURROUNDINGS, Surroundings())
    return Surroundings()
