"""Finds what can be fused around a dispatched op in a graph that is to be lowered.

A cond is a fusion barrier, so what Inductor would fuse with a single implementation is
put into every branch: the work on the op's results, and the work on its arguments that
nothing has read by then. Dispatched ops that follow may join. Nothing is changed here.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch._inductor.lowering import user_lowerings
from torch._inductor.range_dispatch.region.node_kinds import (
    data_dependent_sizes,
    device_of,
    is_part_of,
    is_pure,
    is_tensor,
    is_tuple,
    kind_of,
    makes_sizes,
    mutates,
    NodeKind,
    refusal_of,
    returns_plain_tensors,
    stream_of,
    values_of,
)
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import sympy

    from torch.fx import Node


@dataclass(frozen=True)
class Neighbours:
    """The nodes around dispatched ops that their branches can take in.

    The first of ``ops`` is the one that was asked for, the others have joined it. All
    are in the graph's order: ``before`` is what the first op's arguments are computed
    by, ``after`` what follows it, with the other ops, the parts of what ops return, and
    what all that needs besides. ``refused`` has the readers of the region and the
    producers of its inputs that are left out, each with the reason, and ``followers``
    those of them that are dispatched ops which could join.
    """

    ops: tuple[Node, ...]
    before: tuple[Node, ...]
    after: tuple[Node, ...]
    refused: dict[Node, str] = field(default_factory=dict)
    followers: tuple[Node, ...] = ()

    def in_order(self) -> list[Node]:
        """All that branches compute, in the order of the graph."""
        return [*self.before, self.ops[0], *self.after]

    @property
    def is_empty(self) -> bool:
        """Whether nothing but the op would be in a branch."""
        own = [n for n in self.in_order() if not is_part_of(n, self.ops)]
        return all(n is self.ops[0] or kind_of(n).is_free for n in own)


def find_neighbours(
    op: Node,
    max_nodes: int,
    takes_producers: bool = True,
    joined: Sequence[Node] = (),
    apart: Mapping[str, str] | None = None,
) -> Neighbours | None:
    """What is around an op, None if it returns something that is no tensor.

    Args:
        op: the call of a dispatched op.
        max_nodes: how many nodes are taken at most; views are not counted.
        takes_producers: whether what computes the op's arguments is taken too.
        joined: other dispatched ops that are taken in if they can be.
        apart: by name dispatched ops that cannot join, and why not.
    """
    return _Finder(op, max_nodes, joined, apart or {}).find(takes_producers)


class _Finder:
    """Grows the region of one op: forward, then beside what was taken, then back."""

    def __init__(
        self,
        op: Node,
        max_nodes: int,
        joined: Sequence[Node],
        apart: Mapping[str, str],
    ) -> None:
        self._op = op
        self._joined = joined
        self._apart = apart
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
        self._refused: dict[Node, str] = {}

    @functools.cached_property
    def _known_sizes(self) -> OrderedSet[sympy.Symbol]:
        """Those that depend on data, and are told by what there is before the op."""
        return data_dependent_sizes(self._op) | OrderedSet(
            symbol
            for node in self._op.graph.nodes
            if self._order[node] < self._order[self._op]
            for value in values_of(node)
            if isinstance(value, (torch.Tensor, torch.SymInt))
            for symbol in free_unbacked_symbols(value)
        )

    def find(self, takes_producers: bool) -> Neighbours | None:
        if not returns_plain_tensors(self._op) or makes_sizes(self._op):
            return None
        self._follow()
        self._take_what_is_needed_beside()
        if takes_producers:
            self._trace_back()
        return Neighbours(
            tuple(self._ops),
            tuple(sorted(self._before, key=self._order.__getitem__)),
            tuple(self._after),
            self._refused,
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
            argument in taken or argument in self._early or self._is_there(argument)
            for argument in arguments
        )
        is_ready = is_ready and self._knows_sizes_of(node)
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
        reason = reason or self._apart.get(follower.name)
        if reason is None and follower in self._joined:
            self._ops.add(follower)
            self._after.add(follower)
            return
        self._refused[follower] = reason or "it has an autotuned lowering of its own"
        if reason is None and returns_plain_tensors(follower):
            self._followers.add(follower)

    def _refuse_rest(self, write: Node) -> None:
        taken = OrderedSet([self._op, *self._after])
        for one in taken:
            for user in one.users:
                if user not in taken and user.op != "output":
                    self._refused.setdefault(user, f"it comes after {write.name}")

    def _refusal_here(self, node: Node) -> str | None:
        if stream_of(node) != stream_of(self._op):
            return "it runs on another stream"
        device = device_of(node)
        if device is not None and device != device_of(self._op):
            return "it is on another device"
        if node.target is torch.ops.aten.cat.default:
            parts = node.all_input_nodes
            if 2 * sum(map(self._is_written_in_place, parts)) > len(parts):
                return "most of its parts are computed in their places in it"
        if not self._knows_sizes_of(node):
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
                if is_tuple(node) or any(
                    u in self._early or self._order[u] < self._order[self._op]
                    for u in others
                ):
                    reason = "others read it before the op is done"
            if reason is None and self._left <= 0 and not kind.is_free:
                reason = "config.range_dispatch.max_fused_nodes is reached"
            if reason is not None:
                self._refused[node] = reason
                if is_tuple(node):
                    # Its parts are read as they are.
                    self._before -= OrderedSet(readers)
                continue
            self._before.add(node)
            first = min(first, self._first_read(node))
            self._left -= not kind.is_free
            if others and kind.is_free:
                self._shared.add(node)

    def _first_read(self, node: Node) -> int:
        return min(
            (self._order[n] for n in node.all_input_nodes), default=len(self._order)
        )

    def _knows_sizes_of(self, node: Node) -> bool:
        sizes = data_dependent_sizes(node)
        return not sizes or sizes <= self._known_sizes

    def _is_there(self, node: Node) -> bool:
        """Whether a tensor was computed before the op, or is a constant."""
        is_before = self._order[node] < self._order[self._op]
        return is_tensor(node) and (is_before or node.op == "get_attr")
