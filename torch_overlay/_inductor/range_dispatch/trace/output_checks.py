"""A candidate's outputs against those of the op's fake: dtype, device, shape, and own
memory."""

from __future__ import annotations

from typing import Any, TYPE_CHECKING

import sympy

import torch
from torch._inductor.range_dispatch.call.scratch import add_guard
from torch._inductor.range_dispatch.trace.drops import CandidateRejected
from torch._inductor.virtualized import V
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils._ordered_set import OrderedSet
from torch.utils._sympy.symbol import symbol_is_type, SymT

if TYPE_CHECKING:
    from collections.abc import Sequence


_AS_EXPECTED = "let it return what the op's fake implementation says"


def own_outputs(outputs: Sequence[Any], operands: Sequence[Any]) -> list[torch.Tensor]:
    """Copy outputs that share memory with an operand or an earlier output.

    A custom op's results may not alias anything, and neither may a branch's.
    """
    taken = OrderedSet(
        x.untyped_storage()._cdata for x in operands if isinstance(x, torch.Tensor)
    )
    owned = []
    for output in outputs:
        if not isinstance(output, torch.Tensor):
            raise CandidateRejected(
                f"it returns {type(output).__name__} where a tensor is due",
                _AS_EXPECTED,
            )
        if output.untyped_storage()._cdata in taken:
            output = output.clone()
        taken.add(output.untyped_storage()._cdata)
        owned.append(output)
    return owned


def check_outputs(
    actual: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]
) -> None:
    """Compare with what the op's fake gives; sizes equal in fact are guarded on.

    Raises:
        CandidateRejected: an output is another one.
    """
    if len(actual) != len(expected):
        raise CandidateRejected(
            f"it returns {len(actual)} tensors, the op returns {len(expected)}",
            _AS_EXPECTED,
        )
    for index, (own, due) in enumerate(zip(actual, expected)):
        for what in ("dtype", "device"):
            if getattr(own, what) != getattr(due, what):
                raise CandidateRejected(
                    f"output {index} has {what} {getattr(own, what)}, "
                    f"the op's has {getattr(due, what)}",
                    _AS_EXPECTED,
                )
        for size, wanted in zip(own.shape, due.shape):
            _identify_if_data_dependent(size, wanted)
        same_rank = len(own.shape) == len(due.shape)
        if not same_rank or not all(map(_same_size, own.shape, due.shape)):
            raise CandidateRejected(
                f"output {index} has shape {tuple(own.shape)}, "
                f"the op's has {tuple(due.shape)}",
                _AS_EXPECTED,
            )


def _same_size(own: int | torch.SymInt, due: int | torch.SymInt) -> bool:
    # Not by comparing SymInts: those of the fake have the sizes seen in compiling.
    equal = sympy.Eq(*(getattr(getattr(n, "node", n), "expr", n) for n in (own, due)))
    shape_env = V.fake_mode.shape_env
    known = shape_env._maybe_evaluate_static(equal) if equal.free_symbols else equal
    if known is not None or free_unbacked_symbols(equal):
        return known == sympy.true
    return add_guard(equal)


def _identify_if_data_dependent(
    size: int | torch.SymInt, wanted: int | torch.SymInt
) -> None:
    """Give a size that depends on data the symbol that the op's result has."""
    if isinstance(size, torch.SymInt) and isinstance(wanted, torch.SymInt):
        new, old = size.node.expr, wanted.node.expr
        are_unbacked = all(
            one.is_Symbol and symbol_is_type(one, SymT.UNBACKED_INT)
            for one in (new, old)
        )
        if are_unbacked and new != old:
            size.node.shape_env._rename_unbacked_to(new, old)
