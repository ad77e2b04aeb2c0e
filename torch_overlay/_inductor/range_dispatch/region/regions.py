"""Finds what can be fused around a dispatched op in the graph that is lowered.

A cond is a fusion barrier, so what Inductor would fuse with a single implementation is
put into every branch: the work on the op's results, and the work on its arguments that
nothing has read by then. Dispatched ops that follow may join. Nothing is changed here.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any, TYPE_CHECKING

import torch
from torch._inductor import ir
from torch._inductor.lowering import user_lowerings
from torch._inductor.range_dispatch.region.node_kinds import (
    data_dependent_sizes,
    is_pure,
    kind_of,
    makes_sizes,
    mutates,
    NodeKind,
    refusal_of,
)
from torch._inductor.virtualized import V
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from torch.fx import Node


@dataclass(frozen=True)
class Region:
    """The nodes around dispatched ops that their branches take in.

    The first of ``ops`` is the one that is lowered, the others have joined it. All are
    in the graph's order: ``before`` is what the first op's arguments are computed by,
    ``after`` what follows it, with the other ops, the parts of what ops return, and
    what all that needs besides. ``inputs`` are the tensors that they read, ``outputs``
    those that others read. Views among the nodes stay in the graph too if others read
    them. ``refused`` has the readers of the region and the producers of its inputs that
    are left out, each with the reason, and ``followers`` those of them that are
    dispatched ops which could join.
    """

    ops: tuple[Node, ...]
    before: tuple[Node, ...]
    after: tuple[Node, ...]
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    refused: tuple[tuple[Node, str], ...] = field(default=(), compare=False)
    followers: tuple[Node, ...] = field(default=(), compare=False)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All that is fused around the ops."""
        return tuple(
            node
            for node in [*self.before, *self.after]
            if node not in self.ops and not is_part_of(node, self.ops)
        )

    @property
    def absorbed(self) -> tuple[str, ...]:
        """The names of what the graph itself no longer computes."""
        return tuple(n.name for n in self.nodes if not kind_of(n).is_free)

    def in_order(self) -> tuple[Node, ...]:
        """All that branches compute, each node after what it reads."""
        return (*self.before, self.ops[0], *self.after)

    def computes(self, node: Node) -> bool:
        """Whether the branches compute what an argument of the first op is."""
        return node in self.before

    def left_out(self, reason: str) -> Region:
        """The same ops with nothing around them."""
        refused = [(node, reason) for node in self.nodes if not kind_of(node).is_free]
        return Region(self.ops[:1], (), (), (), (), (*self.refused, *refused))

    def part_of(self, op: Node) -> Region:
        """What is around one of the ops, with the results of others as inputs."""
        after: OrderedSet[Node] = OrderedSet([op])
        for node in self.in_order():
            if any(argument in after for argument in node.all_input_nodes):
                after.add(node)
        before: OrderedSet[Node] = OrderedSet()
        for node in reversed(self.nodes):
            if node not in after and all(
                user in after or user in before for user in node.users
            ):
                before.add(node)
        inside = before | after
        outputs = [n for n in after if any(user not in inside for user in n.users)]
        return Region(
            (op,),
            tuple(reversed(before)),
            tuple(after - OrderedSet([op])),
            tuple(_tensors_read(inside)),
            tuple(n for n in outputs if _is_tensor(n)),
        )


def is_part_of(node: Node, ops: Collection[Node]) -> bool:
    """Whether a node takes one tensor from what one of the ops returns."""
    return node.target is operator.getitem and node.args[0] in ops


def find_region(
    op: Node, max_nodes: int, takes_producers: bool = True, joined: Sequence[Node] = ()
) -> Region | None:
    """The region of an op, None if it cannot have one.

    It has at most ``max_nodes`` nodes. Without ``takes_producers`` only what follows
    the op is fused. The ops in ``joined`` are taken in.
    """
    if op.graph is not V.graph.graph:
        return None  # in a graph that is inlined, whose nodes others number
    return _Finder(op, max_nodes, joined).find(takes_producers)


class _Finder:
    """Grows the region of one op: forward, then beside what was taken, then back."""

    def __init__(self, op: Node, max_nodes: int, joined: Sequence[Node]) -> None:
        self._op = op
        self._joined = joined
        self._order = {node: n for n, node in enumerate(op.graph.nodes)}
        self._limit = self._left = max_nodes
        # The ops that were taken, and what depends on them and is fused.
        self._ops: OrderedSet[Node] = OrderedSet([op])
        self._after: OrderedSet[Node] = OrderedSet()
        self._followers: OrderedSet[Node] = OrderedSet()
        # What does not, so that it can be lowered before the op, and what of it could
        # be fused as well.
        self._early: OrderedSet[Node] = OrderedSet()
        self._beside: OrderedSet[Node] = OrderedSet()
        self._before: OrderedSet[Node] = OrderedSet()
        # Views among them that others read too, and with them what they are of.
        self._shared: OrderedSet[Node] = OrderedSet()
        # Producers that are read after the op too: they become outputs.
        self._handed_on: OrderedSet[Node] = OrderedSet()
        self._refused: dict[Node, str] = {}
        # Those that depend on data, and are told by what there is before the op.
        self._known_sizes = V.graph.bound_unbacked_symbols | data_dependent_sizes(op)

    def find(self, takes_producers: bool) -> Region | None:
        if not _returns_plain_tensors(self._op) or makes_sizes(self._op):
            return None
        self._follow()
        self._take_what_is_needed_beside()
        if takes_producers:
            self._trace_back()
        outputs = self._outputs()
        return Region(
            tuple(self._ops),
            tuple(sorted(self._before, key=self._order.__getitem__)),
            tuple(self._after),
            tuple(_tensors_read([*self._before, self._op, *self._after])),
            tuple(outputs),
            tuple(self._refused.items()),
            tuple(self._followers),
        )

    def _follow(self) -> None:
        """Take what depends on the op, as long as all else it reads is there."""
        node = self._op
        last = self._last_reader(node)
        while (node := node.next).op != "output" and self._order[node] <= last:
            if mutates(node):
                # What comes later may read what is written here.
                self._refuse_rest(node)
                return
            if node.op == "call_function":
                self._consider(node)
            if node in self._after:
                last = max(last, self._last_reader(node))

    def _last_reader(self, node: Node) -> int:
        return max((self._order[user] for user in node.users), default=-1)

    def _consider(self, node: Node) -> None:
        arguments = [n for n in node.all_input_nodes if kind_of(n) != NodeKind.SIZE]
        taken = OrderedSet([self._op, *self._after])
        depends = any(argument in taken for argument in arguments)
        if is_part_of(node, taken):
            self._after.add(node)
            return
        kind = kind_of(node)
        if kind == NodeKind.SIZE:
            return
        reason = refusal_of(node) or self._refusal_here(node)
        is_ready = all(
            argument in taken or argument in self._early or _is_available(argument)
            for argument in arguments
        )
        is_ready &= data_dependent_sizes(node) <= self._known_sizes
        if depends and node.target in user_lowerings:
            self._meet(node, is_ready)
            return
        if not depends and is_ready and len(self._early) < self._limit:
            if reason is None or is_pure(node):
                self._early.add(node)
            else:
                return
        if reason is None and not is_ready:
            reason = "it reads what is computed later"
        if reason is None and self._left <= 0 and not kind.is_free:
            reason = "config.range_dispatch.max_fused_nodes is reached"
        if reason is not None:
            if depends:
                self._refused[node] = reason
        elif depends:
            self._after.add(node)
            self._left -= not kind.is_free
        elif node in self._early:
            self._beside.add(node)

    def _meet(self, follower: Node, is_ready: bool) -> None:
        """Take an op that has joined; else it could, unless something is against it."""
        reason = self._refusal_here(follower)
        if reason is None and not is_ready:
            reason = "it reads what is computed later"
        if reason is None and follower in self._joined:
            self._ops.add(follower)
            self._after.add(follower)
            return
        self._refused[follower] = reason or "it has an autotuned lowering of its own"
        if reason is None and _returns_plain_tensors(follower):
            self._followers.add(follower)

    def _refuse_rest(self, write: Node) -> None:
        taken = OrderedSet([self._op, *self._after])
        for one in taken:
            for user in one.users:
                if user not in taken and user.op != "output":
                    self._refused.setdefault(user, f"it comes after {write.name}")

    def _refusal_here(self, node: Node) -> str | None:
        if V.graph._get_node_stream(node) != V.graph._get_node_stream(self._op):
            return "it runs on another stream"
        device = _device(node)
        if device is not None and device != _device(self._op):
            return "it is on another device"
        if node.target is torch.ops.aten.cat.default:
            parts = node.all_input_nodes
            if 2 * sum(map(self._is_written_in_place, parts)) > len(parts):
                return "most of its parts are computed in their places in it"
        if data_dependent_sizes(node) - self._known_sizes:
            return "a size or a number depends on data"
        return None

    def _is_written_in_place(self, part: Node) -> bool:
        """Whether a kernel that is not Inductor's own computes a part of a ``cat``."""
        is_computed = part.op == "call_function" and len(part.users) == 1
        is_fused = part is self._op or part in self._after
        return is_computed and not is_fused and refusal_of(part) is not None

    def _take_what_is_needed_beside(self) -> None:
        """Of the work beside the op, fuse what only the region reads.

        What others read too is lowered before the op, and read by the branches.
        """
        for node in reversed(self._beside):
            readers = [user for user in node.users if user in self._after]
            is_free = kind_of(node).is_free
            if readers and (is_free or len(readers) == len(node.users)):
                if is_free or self._left > 0:
                    self._after.add(node)
                    self._left -= not is_free
        # Parts of what stays outside are read as they are.
        taken = OrderedSet([self._op, *self._after])
        self._after -= OrderedSet(
            node
            for node in self._beside
            if node.target is operator.getitem and not is_part_of(node, taken)
        )
        self._after = OrderedSet(sorted(self._after, key=self._order.__getitem__))
        needed: OrderedSet[Node] = OrderedSet()
        for node in reversed(self._early - self._after):
            if any(user in self._after or user in needed for user in node.users):
                needed.add(node)
        self._early = needed

    def _trace_back(self) -> None:
        """Take producers of what the region reads that nothing else reads."""
        node = self._op
        first = min(map(self._first_read, [node, *self._after]))
        while (node := node.prev).op != "root" and self._order[node] >= first:
            if mutates(node):
                return  # before it, tensors may have had other values
            inside = OrderedSet([*self._before, *self._after, self._op])
            readers = [user for user in node.users if user in inside]
            if not readers or node.op != "call_function":
                continue
            kind = kind_of(node)
            if kind == NodeKind.SIZE:
                continue
            reason = refusal_of(node) or self._refusal_here(node)
            others = [
                user
                for user in node.users
                if user not in inside or user in self._shared
                if kind_of(user) != NodeKind.SIZE
            ]
            if reason is None and others and not kind.is_free:
                if _is_tuple(node) or any(
                    u in self._early or self._order[u] < self._order[self._op]
                    for u in others
                ):
                    reason = "others read it before the op is done"
            if reason is None and not kind.is_free and not _is_computed_here(node):
                reason = "it is in memory already"
            if reason is None and self._left <= 0 and not kind.is_free:
                reason = "config.range_dispatch.max_fused_nodes is reached"
            if reason is not None:
                self._refused[node] = reason
                if _is_tuple(node):
                    # Its parts are read as they are.
                    self._before -= OrderedSet(readers)
                    self._handed_on -= OrderedSet(readers)
                continue
            self._before.add(node)
            first = min(first, self._first_read(node))
            self._left -= not kind.is_free
            if others and kind.is_free:
                self._shared.add(node)
            elif others:
                self._handed_on.add(node)

    def _first_read(self, node: Node) -> int:
        return min(
            (self._order[n] for n in node.all_input_nodes), default=len(self._order)
        )

    def _outputs(self) -> list[Node]:
        """What others read: results of the op, or of work that is fused.

        A view that others read stays with them, so they read what it is of.
        """
        inside = OrderedSet([self._op, *self._after])
        stays: OrderedSet[Node] = OrderedSet()
        outputs = []
        for node in reversed(inside):
            outside = [u for u in node.users if u not in inside or u in stays]
            if not [u for u in outside if kind_of(u) != NodeKind.SIZE]:
                continue
            if node in self._after and kind_of(node).is_free:
                stays.add(node)
            elif node not in self._ops or not _is_tuple(node):
                outputs.append(node)
        return [*reversed(self._handed_on), *reversed(outputs)]


def _tensors_read(nodes: Collection[Node]) -> OrderedSet[Node]:
    """The tensors that some of the nodes read and none of them computes."""
    return OrderedSet(
        argument
        for node in nodes
        for argument in node.all_input_nodes
        if argument not in nodes and _is_tensor(argument)
    )


def _returns_plain_tensors(op: Node) -> bool:
    """Whether an op returns tensors only."""
    values: Any = op.meta.get("val")
    parts = values if _is_tuple(op) else [values]
    return all(isinstance(part, torch.Tensor) for part in parts)


def _is_tuple(node: Node) -> bool:
    return isinstance(node.meta.get("val"), (tuple, list))


def _is_tensor(node: Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


def _device(node: Node) -> Any:
    values = node.meta.get("val")
    for value in values if isinstance(values, (tuple, list)) else [values]:
        if isinstance(value, torch.Tensor):
            return value.device
    return None


def _is_available(node: Node) -> bool:
    """Whether a node was lowered to a tensor before the op, or is a constant."""
    if node.op == "get_attr":
        return _is_tensor(node)
    return isinstance(V.graph.env.get(node), ir.TensorBox)


def _is_computed_here(node: Node) -> bool:
    """Whether the graph would compute a node's value, in a kernel of Inductor's own.

    Once the branches compute it, nothing reads that any more, and it is dropped.
    """
    values = V.graph.env[node]
    for value in values if isinstance(values, (tuple, list)) else [values]:
        while isinstance(value, (ir.TensorBox, ir.StorageBox, ir.BaseView)):
            value = value.data
        if not isinstance(value, (ir.Loops, ir.ComputedBuffer)):
            return False
    return True
