"""Digests of registered ops: what a compiled graph depends on of them."""

from __future__ import annotations

from typing import Any, TYPE_CHECKING

import torch
from torch._inductor.range_dispatch.cache.identity import described, Indescribable
from torch._library.custom_ops import OPDEFS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.utils._ordered_set import OrderedSet


# Kernels that are traced through or make another graph, so that a key has to know them.
_TRACED_KEYS = ("CompositeImplicitAutograd", "Autograd")


class OpDigests:
    """Digests of the ops that have a user lowering, each found out once."""

    def __init__(self, registered: Mapping[torch._ops.OpOverload, Any]) -> None:
        self.registered = registered
        self._found: dict[torch._ops.OpOverload, tuple[str, OrderedSet[str]]] = {}

    def of(self, op: torch._ops.OpOverload) -> str:
        """A digest that changes with what is compiled for the op.

        Raises:
            Indescribable: there is none.
        """
        return self._described(op)[0]

    def strings(self, op: torch._ops.OpOverload) -> OrderedSet[str]:
        """Names, constants and ops in the code of an op's implementations.

        Raises:
            Indescribable: not all of it can be seen.
        """
        return self._described(op)[1]

    def _described(self, op: torch._ops.OpOverload) -> tuple[str, OrderedSet[str]]:
        if op not in self._found:
            lowering = self.registered[op]
            registration = getattr(lowering, "registration", None)
            if registration is not None and registration.uuid is not None:
                what = registration.key_parts()
            else:
                what = lowering, autograd_of(op)
            self._found[op] = described((what, str(op._schema)))
        return self._found[op]


def autograd_of(op: torch._ops.OpOverload) -> Any:
    """What an op's derivative is made by, None if it has none of its own.

    Raises:
        Indescribable: it was registered where it cannot be seen.
    """
    definition = OPDEFS.get(op._name)
    if definition is not None:
        return definition._setup_context_fn, definition._backward_fn
    if is_traced_through(op):
        raise Indescribable(f"the autograd formula of {op} cannot be seen")
    return None


def is_traced_through(op: torch._ops.OpOverload) -> bool:
    """Whether a user's kernels of an op run while a graph is traced."""
    return not torch._library.utils.is_builtin(op) and any(
        torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), key)
        for key in _TRACED_KEYS
    )
