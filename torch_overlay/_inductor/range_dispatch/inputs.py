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
from torch._inductor.range_dispatch.sizes import (
    concrete,
    concrete_layout,
    storage_length,
    SymbolValues,
)
from torch.utils._python_dispatch import _disable_current_modes

if TYPE_CHECKING:
    from torch._inductor.range_dispatch.binding import BoundCall
    from torch._inductor.range_dispatch.fused_call import FusedCall
    from torch._inductor.range_dispatch.spec import InputGenerators


log = logging.getLogger(__name__)

# Integers are drawn from {0, 1}: valid as indices into any dimension of two or more.
_INTEGER_LIMIT = 2


def operand_layouts(
    call: BoundCall | FusedCall, values: SymbolValues
) -> list[tuple[Any, ...]]:
    """Size, stride, dtype and device of each tensor operand at these sizes, then the
    values of the symbols."""
    tensors = [
        (*concrete_layout(node, values), str(node.get_dtype()), str(node.get_device()))
        for node in call.nodes
    ]
    return [*tensors, tuple(concrete(symbol, values) for symbol in call.symbols)]


def make_inputs(
    call: BoundCall, values: SymbolValues, generators: InputGenerators
) -> list[Any]:
    """Real operands at these sizes: random tensors, then the symbols' values.

    Generators get a real tensor of the argument's shape, each of a list in turn, and
    return what to use.

    Raises:
        ValueError: a generator returns another shape, dtype or device.
    """
    with _disable_current_modes(), torch.no_grad():
        operands: list[Any] = [
            random_tensor(node, values, seed) for seed, node in enumerate(call.nodes)
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
        and _is_integer(call.nodes[index].get_dtype())
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


def _is_integer(dtype: torch.dtype) -> bool:
    is_number = dtype.is_floating_point or dtype.is_complex
    return not is_number and dtype is not torch.bool


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


def random_tensor(node: Any, values: SymbolValues, seed: int) -> torch.Tensor:
    """A tensor with the layout of an IR node; integers are 0 or 1.

    Operands with the same layout need seeds of their own to be told apart.
    """
    size, stride = concrete_layout(node, values)
    length = storage_length(size, stride)
    dtype, device = node.get_dtype(), node.get_device()
    # A generator of its own leaves the global random state alone.
    generator = torch.Generator(device=device).manual_seed(seed)
    if dtype.is_floating_point or dtype.is_complex:
        # Not every narrow float type has a random kernel of its own.
        drawn = dtype if dtype.itemsize >= 2 else torch.float32
        flat = torch.randn(length, dtype=drawn, device=device, generator=generator)
    else:
        flat = torch.randint(
            _INTEGER_LIMIT, (length,), device=device, generator=generator
        )
    try:
        flat = flat.to(dtype)
    except NotImplementedError:
        # Types that only some kernels know, such as packed 4-bit floats.
        flat = torch.zeros(length * dtype.itemsize, dtype=torch.uint8, device=device)
        flat = flat.view(dtype)
    return flat.as_strided(size, stride)
