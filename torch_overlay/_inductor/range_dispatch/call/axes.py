"""The sizes of a call that its dispatch reads."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

import sympy

import torch
from torch._inductor.range_dispatch.registration.configs import callable_name
from torch._inductor.virtualized import V
from torch.fx.experimental.symbolic_shapes import _ShapeEnvGuardError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.registration.dispatch_on import DispatchOn


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
    axes = []
    for axis in dispatch.axes:
        operands = {name: call.position(name) for name in axis.names}
        found = {name: n for name, n in operands.items() if n is not None}
        if len(found) < len(operands):
            missing = [name for name in operands if name not in found]
            log.info("%s: no %s to dispatch on", call.op, missing[0])
            return None
        if axis.function is None:
            ((name, operand),) = found.items()
            axes.append(_dimension(name, axis.dim, operand, call))
        else:
            axes.append(_expression(axis.function, found, call))
    return tuple(axes)


def _dimension(name: str, dim: int, operand: int, call: BoundCall) -> Axis:
    sizes = call.nodes[operand].get_size()
    if not -len(sizes) <= dim < len(sizes):
        raise ValueError(
            f"dispatch_on['dim'] of {call.op} is {dim}, out of range for "
            f"{name!r} of {len(sizes)} dimensions"
        )
    size = V.graph.sizevars.simplify(sizes[dim])
    return Axis(f"{name}.shape[{dim}]", size, operand, dim % len(sizes))


def _expression(
    function: Callable[..., Any], tensors: dict[str, int], call: BoundCall
) -> Axis:
    """What the function of an axis makes of shapes, without a guard."""
    operands = call.fake_operands()
    shapes = {name: operands[index].shape for name, index in tensors.items()}
    place = f"dispatch_on['size'] of {call.op}, {callable_name(function)},"
    try:
        with V.graph.sizevars.shape_env.error_on_new_guards():
            size = function(**shapes)
    except _ShapeEnvGuardError as error:
        raise ValueError(
            f"{place} decides by a size, which is known at run time only; compute "
            "with sizes (torch.sym_max and torch.sym_min choose between them): "
            f"{error}"
        ) from error
    except Exception as error:
        raise ValueError(f"{place} fails for {shapes}: {error!r}") from error
    if isinstance(size, bool) or not isinstance(size, (int, torch.SymInt)):
        raise ValueError(f"{place} must return an integer, got {size!r} for {shapes}")
    expr = size.node.expr if isinstance(size, torch.SymInt) else sympy.Integer(size)
    return Axis(_expression_name(function, shapes), V.graph.sizevars.simplify(expr))


def _expression_name(function: Callable[..., Any], shapes: dict[str, Any]) -> str:
    """``x.shape[0]*x.shape[1]``, or the function's name if it takes no symbols."""
    named = {
        name: tuple(sympy.Symbol(f"{name}.shape[{dim}]") for dim in range(len(shape)))
        for name, shape in shapes.items()
    }
    try:
        return str(function(**named))
    except Exception:
        return callable_name(function)
