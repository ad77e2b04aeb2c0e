"""Tensors to time candidates with.

Strides are those of the real call: a transposed, sliced or expanded input is timed as
such.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, TYPE_CHECKING

import torch
import torch.utils._pytree as pytree
from torch._inductor.range_dispatch.call.sizes import (
    concrete,
    concrete_layout,
    SymbolValues,
)
from torch._prims_common import compute_required_storage_length, is_integer_dtype
from torch.utils._python_dispatch import _disable_current_modes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.call.binding import BoundCall, Operands
    from torch._inductor.range_dispatch.registration.spec import InputGenerators


log = logging.getLogger(__name__)

# Integers are drawn from {0, 1}: valid as indices into any dimension of two or more.
_INTEGER_LIMIT = 2

# Elements drawn at a time where a tensor cannot be filled in place.
_CHUNK = 1 << 18


def operand_layouts(call: Operands, values: SymbolValues) -> list[tuple[Any, ...]]:
    """Size, stride, dtype and device of each tensor operand at these sizes, then the
    values of the symbols."""
    tensors = [
        (*concrete_layout(node, values), str(node.get_dtype()), str(node.get_device()))
        for node in call.nodes
    ]
    return [*tensors, tuple(concrete(symbol, values) for symbol in call.symbols)]


def make_inputs(
    call: BoundCall,
    values: SymbolValues,
    generators: InputGenerators,
    wanted: Sequence[Any] | None = None,
) -> list[Any]:
    """Real operands at these sizes: random tensors, then the symbols' values.

    Generators get a real tensor of the argument's shape, each of a list in turn, and
    return what to use. Only the ``wanted`` nodes are made, if they are given, and there
    is None for the others.

    Raises:
        ValueError: a generator returns another shape, dtype or device.
    """
    with _disable_current_modes(), torch.no_grad():
        operands: list[Any] = [
            random_tensor(node, values, seed)
            if wanted is None or node in wanted
            else None
            for seed, node in enumerate(call.nodes)
        ]
        symbols = [concrete(symbol, values) for symbol in call.symbols]
        examples = call.arguments([*operands, *symbols])
        for name, generator in generators.items():
            for example in pytree.tree_leaves(examples[name]):
                if isinstance(example, torch.Tensor):
                    position = next(i for i, x in enumerate(operands) if x is example)
                    made = generator(example)
                    operands[position] = _generated(call, name, made, example)
    return [*operands, *symbols]


def warn_of_integers(call: BoundCall, generators: InputGenerators) -> None:
    """Say which arguments are timed with zeros and ones for want of a generator."""
    names = [
        name
        for name, index in call.named_operands()
        if name.partition("[")[0] not in generators
        and is_integer_dtype(call.nodes[index].get_dtype())
    ]
    if names:
        _warn_of_integers(str(call.op), tuple(names))


@functools.cache
def _warn_of_integers(op: str, names: tuple[str, ...]) -> None:
    log.warning(
        "%s: timed with zeros and ones for %s; if the time depends on these values "
        "(indices, lengths), give input_gen_fns={%r: ...}",
        op,
        ", ".join(names),
        names[0].partition("[")[0],
    )


def _generated(
    call: BoundCall, name: str, made: Any, example: torch.Tensor
) -> torch.Tensor:
    def described(x: Any) -> str:
        if not isinstance(x, torch.Tensor):
            return repr(type(x))
        return f"{tuple(x.shape)} {x.dtype} on {x.device}"

    if described(made) != described(example):
        raise ValueError(
            f"input_gen_fns[{name!r}] of {call.op} must return a tensor like its "
            f"argument, {described(example)}, got {described(made)}"
        )
    if made.stride() == example.stride():
        return made
    return example.copy_(made)


def random_tensor(node: Any, values: SymbolValues, seed: int = 0) -> torch.Tensor:
    """A tensor with the layout of an IR node; integers are 0 or 1.

    Operands with the same layout need seeds of their own to be told apart.
    """
    size, stride = concrete_layout(node, values)
    length = compute_required_storage_length(size, stride, 0)
    dtype, device = node.get_dtype(), node.get_device()
    # A generator of its own leaves the global random state alone.
    generator = torch.Generator(device=device).manual_seed(seed)
    flat = torch.empty(length, dtype=dtype, device=device)
    try:
        _fill(flat, generator)
    except NotImplementedError:
        # Types that only some kernels know, such as packed 4-bit floats.
        flat.view(torch.uint8).zero_()
    return flat.as_strided(size, stride)


def _fill(flat: torch.Tensor, generator: torch.Generator) -> None:
    """Draw random numbers, without a second tensor of that size."""
    is_number = flat.dtype.is_floating_point or flat.dtype.is_complex
    if is_number and flat.dtype.itemsize >= 2:
        flat.normal_(generator=generator)
        return
    # Not every narrow type has a random kernel of its own.
    draw: Any = torch.randn
    if not is_number:
        draw = functools.partial(torch.randint, _INTEGER_LIMIT)
    for part in flat.split(_CHUNK) if len(flat) else ():
        part.copy_(draw(part.shape, device=flat.device, generator=generator))
