"""Lets dispatched ops that follow one another share one cond.

An op joins another if it is dispatched on the same ranges of the same sizes and reads
what the other's branches compute, so that each branch holds a winner of both, fused,
and it is decided only once.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

import torch
from torch._inductor import config, ir
from torch._inductor.lowering import get_layout_constraint_tag, user_lowerings
from torch._inductor.range_dispatch.call.axes import axes_of
from torch._inductor.range_dispatch.call.binding import (
    bind_call,
    BoundCall,
    UnsupportedArgument,
)
from torch._inductor.range_dispatch.lowering.inlining import (
    is_partitioned_on,
    not_dispatched,
)
from torch._inductor.range_dispatch.region.fused_call import (
    argument_leaves,
    FusedCall,
    settled_size,
    stand_in,
)
from torch._inductor.range_dispatch.region.fusion import region_around
from torch._inductor.range_dispatch.region.node_kinds import kind_of, NodeKind
from torch._inductor.range_dispatch.registration.spec import Registration
from torch._inductor.range_dispatch.tuning.winners import choose_winners, ChosenCall
from torch._inductor.virtualized import V
from torch.fx import GraphModule, map_arg, Node

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch._inductor.range_dispatch.region.regions import Region


@dataclass(frozen=True)
class Joint:
    """Calls that share one cond, by op in the region's order, and what is around them.

    All have the same ranges.
    """

    region: Region
    members: dict[Node, ChosenCall]

    @property
    def first(self) -> ChosenCall:
        """The call that is lowered; the others have joined it."""
        return self.members[self.region.ops[0]]

    def rows(self) -> list[tuple[GraphModule, ...]]:
        """For each range the winner of each call."""
        return list(zip(*(one.winners for one in self.members.values()), strict=True))

    def config_patches(self) -> dict[tuple[GraphModule, ...], list[dict[str, Any]]]:
        """What each winner of a row is compiled with."""
        choices = zip(*(one.choices for one in self.members.values()), strict=True)
        patches = ([c.winner.candidate.config_patches for c in row] for row in choices)
        return dict(zip(self.rows(), patches))

    def fuse(self, realize: bool) -> FusedCall | None:
        """The calls as one, None if the region reads no tensor."""
        calls = [one.call for one in self.members.values()]
        return FusedCall.of(calls, self.region, realize)


class _CannotJoin(Exception):
    """An op keeps its own cond; the message says why."""


def join_followers(first: ChosenCall, region: Region) -> Joint:
    """The call with all that can share its cond."""
    joint = Joint(region, {region.ops[0]: first})
    if len(first.choices) == 1:
        return joint  # it has none
    refused: dict[Node, str] = {}
    while followers := [n for n in joint.region.followers if n not in refused]:
        try:
            joint = _joined(joint, followers[0])
        except _CannotJoin as reason:
            refused[followers[0]] = str(reason)
    reasons = tuple((n, refused.get(n, why)) for n, why in joint.region.refused)
    return Joint(dataclasses.replace(joint.region, refused=reasons), joint.members)


def _joined(joint: Joint, follower: Node) -> Joint:
    registration = _registration_of(follower)
    for op in (*joint.region.ops, follower):
        target: Any = op.target
        if is_partitioned_on(target):
            raise _CannotJoin("one of them is kept out of captured graphs")
    if get_layout_constraint_tag(registration.op, with_default=False) is not None:
        raise _CannotJoin("it is tagged with a layout constraint")
    _check_branches(joint)
    first, *others = joint.region.ops
    region = region_around(first, [*others, follower])
    if region is None or follower not in region.ops:
        raise _CannotJoin("config.range_dispatch.max_fused_nodes is reached")
    if any(
        joint.region.computes(n) > region.computes(n) for n in first.all_input_nodes
    ):
        raise _CannotJoin(
            f"config.range_dispatch.max_fused_nodes would put {first.name}'s arguments "
            "in memory"
        )
    chosen = _choose(joint, registration, region, follower)
    members = {**joint.members, follower: chosen}
    grown = Joint(region, {op: members[op] for op in region.ops})
    _check_branches(grown)
    if grown.fuse(realize=False) is None:
        raise _CannotJoin("no tensor would be left to read")
    return grown


def _registration_of(op: Node) -> Registration:
    # What has no registration is a lowering that someone else made.
    lowering = user_lowerings[op.target]  # type: ignore[index]
    registration = getattr(lowering, "registration", None)
    if not isinstance(registration, Registration) or registration.dispatch is None:
        raise _CannotJoin("it has a lowering of its own, without ranges")
    return registration


def _choose(
    joint: Joint, registration: Registration, region: Region, follower: Node
) -> ChosenCall:
    """Choose the winners of an op before its turn comes."""
    known = joint.fuse(realize=False)
    if known is None or registration.dispatch is None:
        raise _CannotJoin("no tensor would be left to read")
    first = joint.first
    with _turn_of(follower):
        inputs = {one: known.nodes[n] for one, n in known.positions.items()}
        call = _bind(registration.op, follower, inputs)
        axes = axes_of(registration.dispatch, call)
        simplified = [axis.simplified().size for axis in axes or ()]
        if simplified != [axis.size for axis in first.axes]:
            raise _CannotJoin("it is dispatched on other sizes")
        if axes is None or registration.cells != first.registration.cells:
            raise _CannotJoin("it is dispatched by other split points")
        around = region.part_of(follower)
        chosen = choose_winners(registration, call, axes, around)
    if chosen is None:
        raise _CannotJoin("none of its implementations can be used")
    if chosen.cells != first.cells:
        raise _CannotJoin("it is dispatched by other split points")
    return chosen


@contextlib.contextmanager
def _turn_of(op: Node) -> Iterator[None]:
    """What lowering sees while it is the turn of ``op``, amid that of another one."""
    active = V.active_user_lowering_ops
    current: Any = V.graph.current_node.target
    active.discard(current)
    try:
        with not_dispatched([op.target]), V.graph.set_current_node(op):
            yield
    finally:
        active.add(current)


def _bind(
    op: torch._ops.OpOverload, node: Node, known: Mapping[Node, ir.IRNode]
) -> BoundCall:
    """The call that a node is, over stand-ins where nothing is known yet."""
    boxes: dict[Node, Any] = {}
    for one in node.all_input_nodes:
        if isinstance(one.meta["val"], torch.Tensor):
            boxes[one] = ir.TensorBox(known.get(one) or stand_in(one))
        elif kind_of(one) == NodeKind.SIZE:
            boxes[one] = settled_size(one)
        else:
            raise _CannotJoin(f"{one.name} is neither a tensor nor a size")
    args, kwargs = map_arg((node.args, node.kwargs), boxes.__getitem__)
    stand_ins = {
        number: boxes[leaf].data
        for number, leaf in enumerate(argument_leaves(node))
        if isinstance(leaf, Node) and isinstance(boxes[leaf], ir.TensorBox)
    }
    try:
        call = bind_call(op, args, kwargs, stand_ins)
    except UnsupportedArgument as reason:
        raise _CannotJoin(f"it has an unsupported argument: {reason}") from reason
    if not call.nodes:
        raise _CannotJoin("it has no tensor input")
    return call


def _check_branches(joint: Joint) -> None:
    """Whether one graph can hold what the branches do, and is not too large.

    Raises:
        _CannotJoin: it cannot.
    """
    ops = [one.registration.op for one in joint.members.values()]
    for row, patches in joint.config_patches().items():
        if any(one != patches[0] for one in patches):
            raise _CannotJoin("their winners have config patches of their own")
        size = len(joint.region.absorbed)
        for op, graph_module in zip(ops, row):
            for node in _operations(graph_module):
                if node.target in user_lowerings and node.target is not op:
                    raise _CannotJoin(f"an implementation calls {node.target}")
                size += 1
        if size > config.range_dispatch.max_fused_nodes:
            raise _CannotJoin(
                f"a branch of both would have {size} operations, more than "
                "config.range_dispatch.max_fused_nodes"
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
