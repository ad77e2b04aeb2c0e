"""Finds what can be fused around a dispatched op in the graph that is lowered.

A cond is a fusion barrier, so what Inductor would fuse with a single implementation is
put into every branch: the work on the op's results, and the work on its arguments that
nothing has read by then. Nothing is changed here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TYPE_CHECKING

import torch
from torch._inductor import ir
from torch._inductor.range_dispatch.node_kinds import (
    has_data_dependent_size,
    is_pure,
    kind_of,
    mutates,
    NodeKind,
    refusal_of,
)
from torch._inductor.virtualized import V
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from torch.fx import Node


@dataclass(frozen=True)
class Region:
    """The nodes around ``op`` that its branches take in.

    All are in the graph's order: ``before`` is what the op's arguments are computed by,
    ``after`` what follows it, with what that needs besides. ``inputs`` are the tensors
    that they and the op read, ``outputs`` those that others read. Views among the nodes
    stay in the graph too if others read them. ``refused`` has the readers of the region
    and the producers of its inputs that are left out, each with the reason.
    """

    op: Node
    before: tuple[Node, ...]
    after: tuple[Node, ...]
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    refused: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All that is fused around the op."""
        return (*self.before, *self.after)

    @property
    def absorbed(self) -> tuple[str, ...]:
        """The names of what the graph itself no longer computes."""
        return tuple(n.name for n in self.nodes if not kind_of(n).is_free)

    def computes(self, node: Node) -> bool:
        """Whether the branches compute what an argument of the op is."""
        return node in self.before


def find_region(max_nodes: int, takes_producers: bool = True) -> Region | None:
    """The region of the op that is being lowered, None if there is nothing to fuse.

    It has at most ``max_nodes`` nodes. Without ``takes_producers`` only what follows
    the op is fused.
    """
    op = V.graph.current_node
    if op is None or op.graph is not V.graph.graph:
        return None  # in a graph that is inlined, whose nodes others number
    return _Finder(op, max_nodes).find(takes_producers)


class _Finder:
    """Grows the region of one op: forward, then beside what was taken, then back."""

    def __init__(self, op: Node, max_nodes: int) -> None:
        self._op = op
        self._order = {node: n for n, node in enumerate(op.graph.nodes)}
        self._limit = self._left = max_nodes
        # The op, the parts of its result, and what depends on them and is fused.
        self._results: OrderedSet[Node] = OrderedSet([op])
        self._after: OrderedSet[Node] = OrderedSet()
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

    def find(self, takes_producers: bool) -> Region | None:
        values: Any = self._op.meta.get("val")
        parts = values if self._is_tuple(self._op) else [values]
        is_plain = all(isinstance(part, torch.Tensor) for part in parts)
        if not is_plain or has_data_dependent_size(self._op):
            return None
        self._follow()
        self._take_what_is_needed_beside()
        if takes_producers:
            self._trace_back()
        if all(kind_of(n).is_free for n in [*self._before, *self._after]):
            return None
        outputs = self._outputs()
        inside = OrderedSet([*self._before, *self._after, *self._results])
        read = OrderedSet(
            argument
            for node in [*self._before, self._op, *self._after]
            for argument in node.all_input_nodes
            if argument not in inside and _is_tensor(argument)
        )
        return Region(
            self._op,
            tuple(sorted(self._before, key=self._order.__getitem__)),
            tuple(self._after),
            tuple(read),
            tuple(outputs),
            tuple((node.name, why) for node, why in self._refused.items()),
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
            if node in self._results or node in self._after:
                last = max(last, self._last_reader(node))

    def _last_reader(self, node: Node) -> int:
        return max((self._order[user] for user in node.users), default=-1)

    def _consider(self, node: Node) -> None:
        arguments = [n for n in node.all_input_nodes if kind_of(n) != NodeKind.SIZE]
        taken = OrderedSet([*self._results, *self._after])
        depends = any(argument in taken for argument in arguments)
        if self._op in arguments and isinstance(
            self._op.meta.get("val"), (tuple, list)
        ):
            self._results.add(node)
            return
        kind = kind_of(node)
        if kind == NodeKind.SIZE:
            return
        reason = refusal_of(node) or self._refusal_here(node)
        is_ready = all(
            argument in taken or argument in self._early or _is_available(argument)
            for argument in arguments
        )
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

    def _refuse_rest(self, write: Node) -> None:
        taken = OrderedSet([*self._results, *self._after])
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
        if has_data_dependent_size(node):
            return "its size depends on data"
        return None

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
            others = [u for u in node.users if u not in inside or u in self._shared]
            if reason is None and others and not kind.is_free:
                if any(
                    u in self._early or self._order[u] < self._order[self._op]
                    for u in others
                ):
                    reason = "others read it before the op is done"
            if reason is None and not kind.is_free and not _is_computed_here(node):
                reason = "it was fused into another dispatch"
            if reason is None and self._left <= 0 and not kind.is_free:
                reason = "config.range_dispatch.max_fused_nodes is reached"
            if reason is not None:
                self._refused[node] = reason
                if self._is_tuple(node):
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
        inside = OrderedSet([*self._results, *self._after])
        stays: OrderedSet[Node] = OrderedSet()
        outputs = []
        for node in reversed([*self._results, *self._after]):
            outside = [u for u in node.users if u not in inside or u in stays]
            if not [u for u in outside if kind_of(u) != NodeKind.SIZE]:
                continue
            if node in self._after and kind_of(node).is_free:
                stays.add(node)
            elif node is not self._op or not self._is_tuple(node):
                outputs.append(node)
        return [*reversed(self._handed_on), *reversed(outputs)]

    def _is_tuple(self, node: Node) -> bool:
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
