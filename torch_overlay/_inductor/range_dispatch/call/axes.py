"""The sizes of a call that its dispatch reads."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

import sympy

import torch
from torch._inductor.range_dispatch.call.scratch import is_guard_error
from torch._inductor.range_dispatch.registration.configs import callable_name
from torch._inductor.virtualized import V

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.registration.dispatch_on import (
        DispatchAxis,
        DispatchOn,
    )


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Axis:
    """A dispatched size: ``name`` is for people, ``size`` what it is in the graph.

    It is read off dimension ``dim`` of operand ``operand``. Both are None for an
    expression, which is computed from the sizes of the operands.
    """

    name: str
    size: sympy.Expr
    operand: int | None = None
    dim: int | None = None

    def simplified(self) -> Axis:
        """The same with what is known of its symbols by now."""
        size = V.graph.sizevars.shape_env.replace(self.size)
        return dataclasses.replace(self, size=V.graph.sizevars.simplify(size))

    @property
    def is_static(self) -> bool:
        """Whether the size is known at compile time."""
        return isinstance(self.size, sympy.Integer)


def axes_of(dispatch: DispatchOn, call: BoundCall) -> tuple[Axis, ...] | None:
    """The dispatched sizes of a call, None if it leaves out a tensor that has one.

    Raises:
        ValueError: a tensor has not so many dimensions, or a function cannot be used.
    """
    for axis in dispatch.axes:
        for name in axis.names:
            if call.position(name) is None:
                log.info("%s: no %s to dispatch on", call.op, name)
                return None
    return tuple(
        _dimension(axis, call) if axis.function is None else _expression(axis, call)
        for axis in dispatch.axes
    )


def _dimension(axis: DispatchAxis, call: BoundCall) -> Axis:
    (name,) = axis.names
    operand = call.position(name)
    if operand is None:
        raise AssertionError(f"{call.op} has no {name}")
    sizes = call.nodes[operand].get_size()
    if not -len(sizes) <= axis.dim < len(sizes):
        raise ValueError(
            f"dispatch_on['dim'] of {call.op} is {axis.dim}, out of range for "
            f"{name!r} of {len(sizes)} dimensions"
        )
    dim = axis.dim % len(sizes)
    size = V.graph.sizevars.simplify(sizes[dim])
    return Axis(f"{name}.shape[{axis.dim}]", size, operand, dim)


def _expression(axis: DispatchAxis, call: BoundCall) -> Axis:
    """What the function of an axis makes of shapes, without a guard."""
    function = axis.function
    if function is None:
        raise AssertionError(f"{axis} is no expression")
    with V.fake_mode:
        operands = call.fake_operands()
    shapes = {name: operands[call.position(name) or 0].shape for name in axis.names}
    place = f"dispatch_on['size'] of {call.op}, {callable_name(function)},"
    shape_env = V.graph.sizevars.shape_env
    try:
        with shape_env.error_on_new_guards():
            size = function(**shapes)
    except Exception as error:
        if is_guard_error(error):
            raise ValueError(
                f"{place} decides by a size, which is known at run time only; compute "
                "with sizes (torch.sym_max and torch.sym_min choose between them): "
                f"{error}"
            ) from error
        raise ValueError(f"{place} fails for {shapes}: {error!r}") from error
    if isinstance(size, bool) or not isinstance(size, (int, torch.SymInt)):
        raise ValueError(f"{place} must return an integer, got {size!r} for {shapes}")
    expr = size.node.expr if isinstance(size, torch.SymInt) else sympy.Integer(size)
    ranks = {name: len(shape) for name, shape in shapes.items()}
    return Axis(_expression_name(function, ranks), V.graph.sizevars.simplify(expr))


def _expression_name(function: Callable[..., Any], ranks: dict[str, int]) -> str:
    """``x.shape[0]*x.shape[1]``, or the function's name if it takes no symbols."""
    shapes = {
        name: tuple(sympy.Symbol(f"{name}.shape[{dim}]") for dim in range(rank))
        for name, rank in ranks.items()
    }
    try:
        return str(function(**shapes))
    except Exception:
        return callable_name(function)
