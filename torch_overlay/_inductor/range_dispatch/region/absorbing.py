"""Puts what branches have computed in the place of the nodes that they took in."""

from __future__ import annotations

from typing import Any, TYPE_CHECKING

from torch._inductor import ir
from torch._inductor.range_dispatch.region.fused_call import settled_size
from torch._inductor.range_dispatch.region.node_kinds import kind_of, NodeKind
from torch._inductor.virtualized import V

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.region.regions import Region


# Nothing reads it; Inductor takes None from a lowering for a refusal.
_NOT_COMPUTED = ()


def absorb(region: Region, values: Sequence[Any]) -> Any:
    """Let the graph go on with the values of the region's outputs.

    Nodes that were fused are not lowered. Returns what the lowering of the first op has
    to: its result, if that is a tensor which is read outside of the branches.
    """
    found = dict(zip(region.outputs, values, strict=True))
    for node, value in found.items():
        ir.assign_origin_node(value, node)
        V.graph.env[node] = value
    for node in region.after:
        # A view that is read elsewhere is lowered as without fusion.
        if node not in found and not (kind_of(node).is_free and _is_read(node, region)):
            V.graph.env[node] = _NOT_COMPUTED
    _settle_sizes(region)
    return found.get(region.ops[0], _NOT_COMPUTED)


def _is_read(node: Any, region: Region) -> bool:
    """Whether a view, or one of it, has a reader that is not fused."""
    return any(
        user not in region.after or (kind_of(user).is_free and _is_read(user, region))
        for user in node.users
        if kind_of(user) != NodeKind.SIZE
    )


def _settle_sizes(region: Region) -> None:
    """Sizes of what is no longer there are known without it."""
    for node in [region.ops[0], *region.after]:
        for user in node.users:
            if kind_of(user) == NodeKind.SIZE and user not in V.graph.env:
                V.graph.env[user] = settled_size(user)
