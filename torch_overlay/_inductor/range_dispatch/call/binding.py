"""A lowering's arguments bound to the op's schema.

An op's call arrives as IR nodes, symbolic expressions and plain values, positional
or by keyword. Bound by name, it can be repeated with any implementation and with any
stand-ins (fake tensors for tracing, real ones for timing) for its *operands*: the
distinct tensors, then symbols of their sizes and of the scalars.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

import sympy

import torch
import torch.utils._pytree as pytree
from torch._inductor import ir
from torch._inductor.range_dispatch.call.aliasing import (
    is_same_memory,
    shared_with_written,
)
from torch._inductor.range_dispatch.call.schemas import (
    arrange_arguments,
    bind_to_schema,
)
from torch._inductor.range_dispatch.call.sizes import symbols_of
from torch._inductor.range_dispatch.registration.configs import structure_of
from torch._inductor.utils import convert_to_symint
from torch._inductor.virtualized import V
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils._ordered_set import OrderedSet
from torch.utils._sympy.interp import sympy_interp
from torch.utils._sympy.reference import PythonReferenceAnalysis

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence


_SYMBOL = re.compile(r"\b[su]\d+\b")


class UnsupportedArgument(Exception):
    """The call holds something that cannot become an operand of a branch."""


@dataclass(frozen=True)
class _TensorSlot:
    """A leaf of the arguments that is the operand with this index."""

    index: int


@dataclass(frozen=True)
class _SymbolicSlot:
    """A leaf of the arguments that is computed from size symbols."""

    expr: sympy.Expr


class Operands:
    """What branches are over: tensors as IR nodes, then symbols."""

    nodes: tuple[ir.IRNode, ...]
    symbols: tuple[sympy.Symbol, ...]

    @property
    def operands(self) -> list[Any]:
        """The operands as a lowering passes them on: IR nodes, then symbols."""
        return [*(ir.TensorBox(node) for node in self.nodes), *self.symbols]

    def fake_operands(self) -> list[Any]:
        """Fake tensors and SymInts in the operands' place."""
        with V.fake_mode:
            return [
                *(ir.ir_node_to_tensor(node) for node in self.nodes),
                *(convert_to_symint(symbol) for symbol in self.symbols),
            ]


@dataclass(frozen=True)
class BoundCall(Operands):
    """One call of ``op``: operands, and how its arguments are made of them.

    ``nodes`` are realized IR nodes with fixed layouts, each once; ``symbols`` are the
    symbols that every branch gets as operands after the tensors.
    """

    op: torch._ops.OpOverload
    nodes: tuple[ir.IRNode, ...]
    symbols: tuple[sympy.Symbol, ...]
    _slots: tuple[Any, ...]
    _spec: pytree.TreeSpec

    def size_symbols(self) -> OrderedSet[sympy.Symbol]:
        """Every symbol that a size, a stride or a scalar of the call depends on."""
        dims = [d for n in self.nodes for d in [*n.get_size(), *n.get_stride()]]
        return symbols_of([*self.symbols, *dims])

    def operand_of_leaves(self) -> list[int | None]:
        """For each leaf of the arguments, which operand it is."""
        return [s.index if isinstance(s, _TensorSlot) else None for s in self._slots]

    def arguments(self, operands: Sequence[Any]) -> dict[str, Any]:
        """The arguments by schema name, with ``operands`` filled in."""
        values = dict(zip(self.symbols, operands[len(self.nodes) :]))

        def fill(slot: Any) -> Any:
            if isinstance(slot, _TensorSlot):
                return operands[slot.index]
            if isinstance(slot, _SymbolicSlot):
                return sympy_interp(PythonReferenceAnalysis, values, slot.expr)
            return slot

        return pytree.tree_unflatten(map(fill, self._slots), self._spec)

    def tensors_by_name(self, operands: Sequence[Any]) -> dict[str, Any]:
        """The tensor arguments that are present, by name."""
        return {
            name: value
            for name, value in self.arguments(operands).items()
            if isinstance(value, torch.Tensor)
        }

    def position(self, name: str) -> int | None:
        """Which operand tensor argument ``name`` is, None if the call leaves it out."""
        slot = self._by_name()[name]
        return slot.index if isinstance(slot, _TensorSlot) else None

    def scalars(self) -> list[Any]:
        """What is passed beside tensors: expressions of symbols, and plain values."""
        return [
            slot.expr if isinstance(slot, _SymbolicSlot) else slot
            for slot in self._slots
            if not isinstance(slot, _TensorSlot)
        ]

    def signature(self) -> Hashable:
        """Equal for calls of the op that trace and tune alike."""
        layouts = tuple(
            (*n.get_size(), "|", *n.get_stride(), n.get_dtype(), n.get_device())
            for n in self.nodes
        )
        return self.op, layouts, self.symbols, tuple(map(structure_of, self._slots))

    def describe(self) -> str:
        """The tensor operands for people: ``x: float32[64, s0] (s0, 1)``.

        The same for calls that differ in the names of symbols only.
        """
        names: dict[str, str] = {}

        def shown(exprs: Iterable[Any]) -> str:
            text = ", ".join(map(str, exprs))
            return _SYMBOL.sub(
                lambda match: names.setdefault(match[0], f"s{len(names)}"), text
            )

        return "; ".join(
            f"{self.name_of(index)}: {str(node.get_dtype()).removeprefix('torch.')}"
            f"[{shown(node.get_size())}] ({shown(node.get_stride())})"
            for index, node in enumerate(self.nodes)
        )

    def name_of(self, index: int) -> str:
        """The argument that operand ``index`` was passed for."""
        name = next(name for name, i in self.named_operands() if i == index)
        return name.partition("[")[0]

    @property
    def mutated(self) -> tuple[int, ...]:
        """The operands that the schema lets the op write to, in order."""
        arguments = self.op._schema.arguments
        written = [a.name for a in arguments if a.alias_info and a.alias_info.is_write]
        named = self.named_operands()
        found = OrderedSet(i for name, i in named if name.partition("[")[0] in written)
        return tuple(sorted(found))

    def named_operands(self) -> list[tuple[str, int]]:
        """What each tensor was passed for, and which operand it is.

        One of a list is named ``tensors[1]``.
        """
        return [
            (f"{name}[{place}]" if slot is not slots else name, slot.index)
            for name, slots in self._by_name().items()
            for place, slot in enumerate(pytree.tree_leaves(slots))
            if isinstance(slot, _TensorSlot)
        ]

    def named_scalars(self) -> list[tuple[str, sympy.Expr]]:
        """The symbolic numbers that were passed, by argument name."""
        return [
            (name, slot.expr)
            for name, slot in self._by_name().items()
            if isinstance(slot, _SymbolicSlot)
        ]

    def _by_name(self) -> dict[str, Any]:
        return pytree.tree_unflatten(self._slots, self._spec)

    def invoke(
        self,
        function: Callable[..., Any],
        params: dict[str, Any],
        operands: Sequence[Any],
    ) -> Any:
        """Call ``function`` as the op was called, ``params`` laid over by name.

        Raises:
            TypeError: the function cannot take the op's arguments.
        """
        args, kwargs = arrange_arguments(
            function, self.op, self.arguments(operands), params
        )
        return function(*args, **kwargs)


def bind_call(
    op: torch._ops.OpOverload,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    stand_ins: Mapping[int, ir.IRNode] | None = None,
) -> BoundCall:
    """Bind a lowering's arguments to the schema and realize its tensors.

    Arguments that the caller left out take the *op's* defaults. ``stand_ins`` are taken
    for the leaves of the arguments with these numbers, which are not realized. Of an op
    that writes to its arguments, those that are the same memory are one operand.

    Raises:
        UnsupportedArgument: an argument is neither tensor, symbolic nor plain, or one
            that is written to may share memory with another.
    """
    leaves, spec = pytree.tree_flatten(bind_to_schema(op, args, kwargs))
    nodes: dict[int, ir.IRNode] = {}
    positions: dict[int, int] = {}

    def slot(number: int, leaf: Any) -> Any:
        if isinstance(leaf, ir.ShapeAsConstantBuffer):
            leaf = leaf.expr
        if isinstance(leaf, (sympy.Integer, sympy.Float)):
            return leaf.__int__() if leaf.is_Integer else leaf.__float__()
        if isinstance(leaf, sympy.Basic):
            return _SymbolicSlot(leaf)
        if not isinstance(leaf, ir.IRNode):
            return leaf
        if isinstance(leaf, ir.NonTensorObj):
            raise UnsupportedArgument(f"{type(leaf).__name__} argument")
        if id(leaf) not in positions:
            node = (stand_ins or {}).get(number) or realize_operand(leaf)
            known = nodes.items() if op._schema.is_mutable else ()
            same = [i for i, other in known if is_same_memory(node, other)]
            positions[id(leaf)] = same[0] if same else len(nodes)
            nodes.setdefault(positions[id(leaf)], node)
        return _TensorSlot(positions[id(leaf)])

    slots = tuple(slot(number, leaf) for number, leaf in enumerate(leaves))
    realized = tuple(nodes.values())
    scalars = [s.expr for s in slots if isinstance(s, _SymbolicSlot)]
    symbols = symbol_operands(realized, scalars)
    return _not_sharing(BoundCall(op, realized, symbols, slots, spec))


def _not_sharing(call: BoundCall) -> BoundCall:
    """The call, if what it writes to shares no memory with its other operands.

    Raises:
        UnsupportedArgument: it may; the message says what can be done.
    """
    shared = shared_with_written(call.nodes, call.mutated)
    if shared is None:
        return call
    written, other = (f"{call.name_of(index)!r}" for index in shared)
    if written == other and shared[0] == shared[1]:
        raise UnsupportedArgument(
            f"it writes to {written}, where one element is at several places; pass a "
            "copy of it, .clone(), to have the call dispatched"
        )
    if written == other:
        written, other = f"a tensor of {written}", "another one of them"
    raise UnsupportedArgument(
        f"it writes to {written}, which may share memory with {other}; the op itself "
        "runs. Pass a copy of one, .clone(), or views that lie apart for every size, "
        "to have the call dispatched"
    )


def realize_operand(node: ir.IRNode) -> ir.IRNode:
    """The node in memory, with a layout that no longer changes."""
    realized = ir.ExternKernel.realize_input(node)
    realized.freeze_layout()
    return realized


def symbol_operands(
    nodes: Sequence[ir.IRNode], scalars: Sequence[sympy.Expr]
) -> tuple[sympy.Symbol, ...]:
    """The symbols of all sizes, strides and scalars, in a call's own order.

    A branch's code would have to read them off its inputs, and cannot if a symbol
    occurs in compound sizes only. Unbacked ones are read if they can: a graph that
    gets one asserts all over again what is known of it.
    """
    dims = [d for node in nodes for d in [*node.get_size(), *node.get_stride()]]
    read = OrderedSet(d for d in dims if d in free_unbacked_symbols(d))
    return tuple((symbols_of(dims) - read) | symbols_of(scalars))
