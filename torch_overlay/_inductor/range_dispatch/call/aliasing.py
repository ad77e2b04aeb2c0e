"""Which tensors of a call share memory, as far as the graph being compiled tells.

A branch takes its operands for tensors of their own: what it writes to one is not seen
in another. So an op that writes to a tensor can be dispatched only if no other operand
has a part of that memory, or has all of it in just the same layout, and is the same
operand. What the graph's own inputs share is decided before: AOTAutograd makes views of
one input of those that overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

import sympy

from torch._inductor import ir
from torch._inductor.virtualized import V
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


@dataclass(frozen=True)
class _Extent:
    """The elements at ``offset`` plus a multiple below its size of each stride."""

    offset: sympy.Expr
    dims: tuple[tuple[sympy.Expr, sympy.Expr], ...]

    @classmethod
    def of(cls, node: ir.IRNode) -> _Extent:
        layout = node.get_layout()
        dims = tuple(
            (sympy.sympify(size), sympy.sympify(stride))
            for size, stride in zip(layout.size, layout.stride)
            if size != 1
        )
        return cls(sympy.sympify(layout.offset), dims)

    @property
    def reach(self) -> sympy.Expr:
        """How far behind the first element the last one is."""
        return sympy.Add(*((size - 1) * stride for size, stride in self.dims))


def is_same_memory(one: ir.IRNode, other: ir.IRNode) -> bool:
    """Whether two realized nodes are the same elements of one buffer."""
    first, second = (
        (layout.dtype, [*layout.size, *layout.stride, layout.offset])
        for layout in (one.get_layout(), other.get_layout())
    )
    return one is other or (
        one.get_name() == other.get_name()
        and first[0] == second[0]
        and V.graph.sizevars.statically_known_list_equals(first[1], second[1])
    )


def shared_with_written(
    nodes: Sequence[ir.IRNode], written: Collection[int]
) -> tuple[int, int] | None:
    """A node that is written to, and one that may share memory with it.

    They are the same if one element may be at several places of a written node. None if
    nothing is shared.
    """
    for index in written:
        if _may_repeat_elements(nodes[index]):
            return index, index
        for other, node in enumerate(nodes):
            if other != index and may_overlap(nodes[index], node):
                return index, other
    return None


def may_overlap(one: ir.IRNode, other: ir.IRNode) -> bool:
    """Whether it cannot be ruled out that two realized nodes have an element in common.

    No guard is added to find out.
    """
    if not _buffers(one) & _buffers(other):
        return False
    if one.get_name() != other.get_name():
        return True  # one is a view by an operator that Inductor does not look into
    if one.get_dtype().itemsize != other.get_dtype().itemsize:
        return True  # offsets are counted in elements
    return not _are_disjoint(_Extent.of(one), _Extent.of(other))


def _buffers(node: ir.IRNode) -> OrderedSet[str]:
    """The buffers in whose memory a node may be."""
    found: OrderedSet[str] = OrderedSet()
    pending = [node.get_name()]
    while pending:
        name = pending.pop()
        buffer = V.graph.try_get_buffer(name)
        if name in found:
            continue
        found.add(name)
        if not isinstance(buffer, ir.OperationBuffer):
            continue
        if isinstance(buffer.layout, ir.MutationLayoutSHOULDREMOVE):
            pending.append(buffer.layout.get_buffer().get_name())
        elif not isinstance(buffer.layout, ir.NonOwningLayout):
            # Where Inductor lets a part of a cat be computed in its place, the two are
            # different tensors all the same.
            pending += buffer.get_inputs_that_alias_output()
    return found


def _are_disjoint(one: _Extent, other: _Extent) -> bool:
    """Whether it is certain that two extents in one buffer have no element in common.

    If all else reaches less far than a stride, only elements with the same multiple of
    that stride can be the same, so that it may be left out of both. What remains lies
    apart if one ends before the other begins.
    """
    # The largest first, as far as sizes that were seen tell.
    strides = sorted(
        OrderedSet(stride for _, stride in (*one.dims, *other.dims)),
        key=_hint,
        reverse=True,
    )
    for stride in [None, *strides]:
        if stride is not None:
            rest = _without(one, other, stride)
            if rest is None:
                return False
            one, other = rest
        distance = other.offset - one.offset
        if _is_positive(distance - one.reach) or _is_positive(-distance - other.reach):
            return True
    return False


def _without(
    one: _Extent, other: _Extent, stride: sympy.Expr
) -> tuple[_Extent, _Extent] | None:
    """Of both just the first element of the dimension with this stride, the second
    moved by a multiple of it to within it of the first.

    None if there is no way to be sure that this is all the same.
    """
    rests = []
    for extent in (one, other):
        rest = tuple(dim for dim in extent.dims if not _is_equal(dim[1], stride))
        if len(extent.dims) - len(rest) > 1:
            return None
        rests.append(_Extent(extent.offset, rest))
    one, other = rests
    distance = other.offset - one.offset
    near = _hint(distance) // max(_hint(stride), 1)
    for times in (near, near + 1):
        moved = distance - times * stride
        if _is_positive(stride - moved - other.reach) and _is_positive(
            stride + moved - one.reach
        ):
            return one, _Extent(one.offset + moved, other.dims)
    return None


def _may_repeat_elements(node: ir.IRNode) -> bool:
    """Whether an element seems to be at several places of a node, as in ``expand``."""
    reach = 0
    dims = [(_hint(stride), _hint(size)) for size, stride in _Extent.of(node).dims]
    for stride, size in sorted(dims):
        if size > 1 and stride <= reach:
            return True
        reach += (size - 1) * stride
    return False


def _hint(expr: Any) -> int:
    """What an expression was when it was compiled; a guess for what depends on data."""
    return V.graph.sizevars.optimization_hint(expr, fallback=2)


def _is_equal(one: Any, other: Any) -> bool:
    return V.graph.sizevars.statically_known_equals(one, other)


def _is_positive(expr: sympy.Expr) -> bool:
    expanded = sympy.expand(expr)
    return V.graph.sizevars.statically_known_true(sympy.Gt(expanded, 0))
