"""Decides what the branches of a dispatch take in from around the op."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

import torch
import torch.utils._pytree as pytree
from torch._inductor import config, ir
from torch._inductor.lowering import get_layout_constraint_tag
from torch._inductor.range_dispatch.call.binding import bind_to_schema, realize_operand
from torch._inductor.range_dispatch.region.fused_call import (
    argument_leaves,
    FusedCall,
    stand_in,
)
from torch._inductor.range_dispatch.region.regions import find_region, Region
from torch._inductor.virtualized import V
from torch.fx import Node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.registration.spec import Registration


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fusion:
    """What can be fused around a call that is being lowered with these arguments."""

    region: Region
    arguments: tuple[Any, ...]

    @classmethod
    def around(
        cls, op: torch._ops.OpOverload, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Fusion | None:
        """None if there is nothing to fuse, or config says not to.

        Raises:
            ValueError: ``config.range_dispatch.max_fused_nodes`` is no number.
        """
        node = V.graph.current_node
        region = None if node is None else region_around(node)
        if region is None:
            return None
        return cls(region, tuple(pytree.tree_leaves(bind_to_schema(op, args, kwargs))))

    def stand_ins(self) -> dict[int, ir.IRNode]:
        """For the leaves of the arguments that the branches compute."""
        return {
            number: stand_in(leaf)
            for number, leaf in enumerate(argument_leaves(self.region.ops[0]))
            if isinstance(leaf, Node) and self.region.computes(leaf)
        }

    def undone(self, call: BoundCall) -> BoundCall:
        """The call over its real arguments, as nothing is fused around it."""
        nodes = list(call.nodes)
        computed = self.stand_ins()
        for number, index in enumerate(call.operand_of_leaves()):
            if number in computed and index is not None:
                wanted = nodes[index].get_stride()
                box = self.arguments[number]
                exact = ir.ExternKernel.require_exact_strides(box, wanted)
                nodes[index] = realize_operand(exact)
        return call.with_nodes(nodes)


def region_around(op: Node, joined: Sequence[Node] = ()) -> Region | None:
    """What branches of an op, and of those that have joined it, take in.

    Raises:
        ValueError: ``config.range_dispatch.max_fused_nodes`` is no number.
    """
    limit = config.range_dispatch.max_fused_nodes
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise ValueError(
            "config.range_dispatch.max_fused_nodes must be how many nodes a branch "
            f"may take in, 0 or more, got {limit!r}"
        )
    target: Any = op.target
    if not config.range_dispatch.fuse or not limit or target._schema.is_mutable:
        return None
    # What computes an argument would not know of the layout that it must have.
    takes_producers = get_layout_constraint_tag(target, with_default=False) is None
    return find_region(op, limit, takes_producers, joined)


def to_time(
    registration: Registration, call: BoundCall, region: Region
) -> FusedCall | None:
    """What to time candidates with, None to time them by themselves.

    An argument that is made by a generator must not be computed instead.
    """
    if not config.range_dispatch.tune_fused or not region.nodes:
        return None
    fused = FusedCall.of([call], region, realize=False)
    computed = [n for n in call.nodes if fused and n not in fused.nodes]
    given = [call.position(name) for name in registration.input_gen_fns]
    if any(i is not None and call.nodes[i] in computed for i in given):
        return None
    return fused
