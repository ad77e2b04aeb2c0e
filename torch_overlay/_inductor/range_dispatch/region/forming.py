"""The FX pass that makes a node of each dispatched op and what is fused around it.

It runs over each graph that is about to be lowered. A region becomes one node that
calls a graph of its own; what is left out of it is as it was.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING, TypeAlias

import torch
from torch._inductor import config
from torch._inductor.lowering import get_layout_constraint_tag, user_lowerings
from torch._inductor.range_dispatch.call.schemas import bind_to_schema
from torch._inductor.range_dispatch.cond.inlining import copied, is_partitioned_on
from torch._inductor.range_dispatch.region.finding import find_neighbours, Neighbours
from torch._inductor.range_dispatch.region.node_kinds import is_tuple, kind_of, NodeKind
from torch._inductor.range_dispatch.region.regions import Region, Surroundings
from torch._inductor.range_dispatch.registration.spec import Registration
from torch._inductor.virtualized import V
from torch.fx import GraphModule, Node
from torch.fx.passes.tools_common import stable_topological_sort
from torch.fx.passes.utils.fuser_utils import (
    erase_nodes,
    fuse_as_graphmodule,
    validate_partition,
)
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    import sympy

    from torch._inductor.range_dispatch.registration.dispatch_on import DispatchAxis

# Lowers a region: its graph, itself and the lowered arguments.
LowerRegion: TypeAlias = Callable[[GraphModule, Region, list[Any]], Any]

_NOTHING: Mapping[str, str] = {}

# Where a call that stays as it is keeps its ``Surroundings``.
SURROUNDINGS = "range_dispatch_surroundings"


@dataclass(frozen=True, eq=False)
class RegionCall:
    """What a region's node in the graph calls; Inductor calls it to lower the node."""

    graph_module: GraphModule
    region: Region
    lower: LowerRegion

    # Inductor calls such a target with lowered arguments, and does not look it up.
    _inductor_lowering_function = True
    __name__ = "range_dispatch_region"

    def __call__(self, *args: Any) -> Any:
        return self.lower(self.graph_module, self.region, [*args])


@dataclass(frozen=True)
class SizeCall:
    """What computes a size of a tensor that is only in a region: its expression."""

    size: sympy.Expr | int

    _inductor_lowering_function = True
    __name__ = "range_dispatch_size"

    def __call__(self) -> Any:
        return self.size


def form_regions(
    graph_module: GraphModule,
    lower: LowerRegion,
    apart: Mapping[str, str] = _NOTHING,
    alone: Collection[str] = (),
    also_refused: Sequence[tuple[str, str]] = (),
) -> GraphModule:
    """The graph with regions as nodes, itself if there is no dispatched op in it.

    Args:
        graph_module: a graph that is to be lowered; it is not changed.
        lower: what lowers a region.
        apart: by name calls that join no other call, with the reason.
        alone: the names of calls that take in nothing.
        also_refused: neighbours that are left out, with reasons, which are known.

    Raises:
        ValueError: ``config.range_dispatch.max_fused_nodes`` is no number.
    """
    names = [n.name for n in graph_module.graph.nodes if _may_fuse(n, alone)]
    limit = _max_nodes() if names else 0
    if not names or not limit or not config.range_dispatch.fuse:
        return graph_module
    graph_module = copied(graph_module)
    for name in names:
        nodes = {node.name: node for node in graph_module.graph.nodes}
        if registration_of(nodes.get(name)) is None:
            continue  # it joined one before it
        found = _grow(nodes[name], limit, apart)
        if found is None:
            continue
        refused = [(one.name, why) for one, why in found.refused.items()]
        refused += also_refused
        frozen = [constant for op in found.ops for constant in frozen_inputs(op)]
        if found.is_empty and not frozen:
            nodes[name].meta[SURROUNDINGS] = Surroundings((), tuple(refused), (name,))
        else:
            inside = [*dict.fromkeys(frozen), *found.in_order()]
            _replace(graph_module, found.ops, inside, tuple(refused), lower)
    graph_module.recompile()
    return graph_module


def registration_of(node: Node | None) -> Registration | None:
    """What is registered for the op that a node calls, None if it is not dispatched."""
    if (
        node is None
        or node.op != "call_function"
        or node.target in V.active_user_lowering_ops
    ):
        return None
    lowering = user_lowerings.get(node.target)  # type: ignore[call-overload]
    registration = getattr(lowering, "registration", None)
    if not isinstance(registration, Registration) or registration.dispatch is None:
        return None
    return registration


def _max_nodes() -> int:
    limit = config.range_dispatch.max_fused_nodes
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise ValueError(
            "config.range_dispatch.max_fused_nodes must be how many nodes a branch "
            f"may take in, 0 or more, got {limit!r}"
        )
    return limit


def _may_fuse(node: Node, alone: Collection[str]) -> bool:
    registration = registration_of(node)
    if registration is None or registration.op._schema.is_mutable:
        return False
    if node.name in alone:
        return False
    return bool(frozen_inputs(node)) or not _is_static(node, registration)


def frozen_inputs(op: Node) -> list[Node]:
    """The parameters among an op's arguments that freezing has made constants.

    Implementations may compute constants of them, such as packed weights.
    """
    if not config.freezing:
        return []
    return [one for one in op.all_input_nodes if kind_of(one) is NodeKind.CONSTANT]


def _is_static(node: Node, registration: Registration) -> bool:
    """Whether all dispatched sizes are known, so that there is one winner."""
    axes = () if registration.dispatch is None else registration.dispatch.axes
    arguments = bind_to_schema(registration.op, node.args, dict(node.kwargs))
    sizes = (n for axis in axes for n in _sizes_read(axis, arguments))
    return not any(isinstance(size, torch.SymInt) for size in sizes)


def _sizes_read(axis: DispatchAxis, arguments: Mapping[str, Any]) -> Iterator[Any]:
    """The sizes that may decide; a function may read any of its tensors' sizes."""
    for name in axis.names:
        argument = arguments.get(name)
        value = argument.meta.get("val") if isinstance(argument, Node) else None
        if isinstance(value, torch.Tensor):
            has_dim = -value.dim() <= axis.dim < value.dim()
            reads_one = axis.function is None and has_dim
            yield from [value.shape[axis.dim]] if reads_one else value.shape


def _grow(op: Node, limit: int, apart: Mapping[str, str]) -> Neighbours | None:
    """The neighbours of an op, with the dispatched ops that can join it."""
    # What computes an argument would not know of the layout that it must have.
    takes_producers = _layout_tag(op) is None
    refused: dict[str, str] = {**apart}
    found = find_neighbours(op, limit, takes_producers, (), refused)
    while found is not None and found.followers:
        follower = found.followers[0]
        joined = [*found.ops[1:], follower]
        grown = find_neighbours(op, limit, takes_producers, joined, refused)
        reason = _why_apart(op, follower, found, grown)
        if reason is None:
            found = grown
        else:
            refused[follower.name] = reason
            found = find_neighbours(op, limit, takes_producers, found.ops[1:], refused)
    return found


def _why_apart(
    first: Node, follower: Node, found: Neighbours, grown: Neighbours | None
) -> str | None:
    """Why an op cannot join what was found around the first one, None if it can."""
    if registration_of(follower) is None:
        return "it has a lowering of its own, without ranges"
    ops: list[Any] = [one.target for one in (*found.ops, follower)]
    if any(map(is_partitioned_on, ops)):
        return "one of them is kept out of captured graphs"
    if _layout_tag(follower) is not None:
        return "it is tagged with a layout constraint"
    if grown is None or follower not in grown.ops:
        return "config.range_dispatch.max_fused_nodes is reached"
    if any(n in found.before and n not in grown.before for n in first.all_input_nodes):
        return (
            f"config.range_dispatch.max_fused_nodes would put {first.name}'s arguments "
            "in memory"
        )
    return None


def _layout_tag(op: Node) -> torch._C.Tag | None:
    target: Any = op.target
    return get_layout_constraint_tag(target, with_default=False)


def _put_placeholders_first(module: GraphModule) -> None:
    """Order a graph as Inductor inlines it: it counts nodes to find an argument."""
    graph = module.graph
    first = next(iter(graph.nodes))
    for placeholder in graph.find_nodes(op="placeholder"):
        if placeholder is not first:
            first.prepend(placeholder)
        else:
            first = first.next
    module.recompile()


def _replace(
    graph_module: GraphModule,
    ops: Sequence[Node],
    inside: Sequence[Node],
    refused: tuple[tuple[str, str], ...],
    lower: LowerRegion,
) -> None:
    """Put one node in the place of ops and of all that goes inside their branches."""
    names = [op.name for op in ops]
    op = ops[0]
    meta = {k: v for k, v in op.meta.items() if k != "eager_input_vals"}
    nodes = _separated(inside)
    if not validate_partition(nodes):
        reason = "it reads what is computed around the op, and is read by it"
        refused += tuple((n.name, reason) for n in nodes if n is not op)
        op.meta[SURROUNDINGS] = Surroundings((), refused, (op.name,))
        return
    module, inputs, outputs = fuse_as_graphmodule(
        graph_module, nodes, f"{op.name}_region", always_return_tuple=True
    )
    _put_placeholders_first(module)
    target = RegionCall(module, Region.of(module, names, refused), lower)
    graph = graph_module.graph
    order = {node: n for n, node in enumerate(graph.nodes)}
    last = max((op, *inputs), key=order.__getitem__)
    readers = [u for n in outputs for u in n.users if u not in nodes]
    with graph.inserting_after(last):
        call = graph.create_node(
            "call_function", target, inputs, name=module._get_name()
        )
    call.meta = {**meta, "val": tuple(node.meta["val"] for node in outputs)}
    with graph.inserting_after(call):
        parts = [
            graph.call_function(operator.getitem, (call, n))
            for n in range(len(outputs))
        ]
    for part, node in zip(parts, outputs, strict=True):
        part.meta = {**node.meta}
        node.replace_all_uses_with(part)
    kept = [node.name for node in outputs]
    erase_nodes(graph_module, nodes)
    for part, name in zip(parts, kept, strict=True):
        part.name = name
    if any(order[reader] < order[last] for reader in readers):
        stable_topological_sort(graph_module)


def _separated(nodes: Sequence[Node]) -> list[Node]:
    """The nodes with copies of views and constants that others read too, which keep
    their own.

    Sizes of the tensors among them are known without the tensors.
    """
    parts = [u for n in nodes for u in n.users if is_tuple(n)]
    inside: OrderedSet[Node] = OrderedSet([*nodes, *parts])
    for node in inside:
        for user in [*node.users]:
            if user not in inside and kind_of(user) == NodeKind.SIZE:
                _detach_size(user)
    for node in reversed(nodes):
        others = [user for user in node.users if user not in inside]
        if not (others and kind_of(node).is_free):
            continue
        inside.discard(node)
        readers = [user for user in node.users if user in inside]
        if readers:
            with node.graph.inserting_before(node):
                own = node.graph.node_copy(node)
            for reader in readers:
                reader.replace_input_with(node, own)
            inside.add(own)
    order = {node: n for n, node in enumerate(nodes[0].graph.nodes)}
    return sorted(inside, key=order.__getitem__)


def _detach_size(node: Node) -> None:
    """Let a node compute a size without the tensor that it is of."""
    size = node.meta["val"]
    with node.graph.inserting_before(node):
        known = node.graph.call_function(
            SizeCall(size.node.expr if isinstance(size, torch.SymInt) else size)
        )
    known.meta = {**node.meta}
    node.replace_all_uses_with(known)
    node.graph.erase_node(node)
