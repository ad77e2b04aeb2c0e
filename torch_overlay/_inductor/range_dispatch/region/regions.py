"""A part of a graph that a dispatch takes in: calls of ops and what is around them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.region.node_kinds import (
    is_part_of,
    is_tensor,
    kind_of,
)
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch.fx import GraphModule, Node


@dataclass(frozen=True)
class Surroundings:
    """What is around a call, by the names of nodes: for people.

    ``fused`` are the operations that its branches take in, ``not_fused`` neighbours
    that they do not, each with the reason, and ``together`` the dispatched calls that
    they hold, this one too.
    """

    fused: tuple[str, ...] = ()
    not_fused: tuple[tuple[str, str], ...] = ()
    together: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Region:
    """Nodes of a graph of their own, which every branch computes.

    ``ops`` are the calls of dispatched ops, the first one first, and ``order`` are all
    nodes, each after what it reads. ``inputs`` are the tensors that they read and
    ``outputs`` what is read of them. ``refused`` has the names of neighbours that are
    left out, each with the reason.
    """

    ops: tuple[Node, ...]
    order: tuple[Node, ...]
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    refused: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls,
        graph_module: GraphModule,
        ops: Collection[str],
        refused: tuple[tuple[str, str], ...],
    ) -> Region:
        """A whole graph; ``ops`` are the names of the calls in it."""
        nodes = graph_module.graph.nodes
        by_name = {node.name: node for node in nodes}
        return cls(
            tuple(by_name[name] for name in ops),
            tuple(n for n in nodes if n.op not in ("placeholder", "output")),
            tuple(n for n in nodes if n.op == "placeholder" and is_tensor(n)),
            tuple(graph_module.graph.output_node().args[0]),  # type: ignore[arg-type]
            refused,
        )

    @functools.cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All that is fused around the ops."""
        return tuple(
            node
            for node in self.order
            if node not in self.ops and not is_part_of(node, self.ops)
        )

    @property
    def absorbed(self) -> tuple[str, ...]:
        """The names of the operations that are fused."""
        return tuple(n.name for n in self.nodes if not kind_of(n).is_free)

    @property
    def surroundings(self) -> Surroundings:
        """The region, as a record tells of it."""
        names = tuple(op.name for op in self.ops)
        return Surroundings(self.absorbed, self.refused, names)

    def part_of(self, op: Node) -> Region:
        """What is around one of the ops, with the results of others as inputs."""
        if self.ops == (op,):
            return self
        after: OrderedSet[Node] = OrderedSet([op])
        # Other ops that depend on this one, and what depends on them.
        beyond: OrderedSet[Node] = OrderedSet()
        for node in self.order:
            arguments = node.all_input_nodes
            if any(a in beyond for a in arguments):
                beyond.add(node)
            elif any(a in after for a in arguments):
                (beyond if node in self.ops else after).add(node)
        before: OrderedSet[Node] = OrderedSet()
        for node in reversed(self.nodes):
            if (
                node not in after
                and node not in beyond
                and all(user in after or user in before for user in node.users)
            ):
                before.add(node)
        inside = [n for n in self.order if n in after or n in before]
        read = OrderedSet(a for n in inside for a in n.all_input_nodes)
        return Region(
            (op,),
            tuple(inside),
            tuple(n for n in read if n not in inside and is_tensor(n)),
            tuple(
                n
                for n in after
                if is_tensor(n) and any(user not in inside for user in n.users)
            ),
        )
