"""The outputs that a lowering has to give, as the op's fake implementation says."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

import torch
import torch.utils._pytree as pytree
from torch._inductor import ir
from torch._inductor.lowering import mutate_to, validate_ir
from torch._inductor.virtualized import V

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.call.binding import BoundCall


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExpectedOutputs:
    """What the op's fake implementation says of its results and its mutations.

    ``outputs`` are fake tensors: the results, then the operands that are written to.
    ``leaves`` and ``structure`` are the results', with None where there is no tensor.
    """

    call: BoundCall
    outputs: list[torch.Tensor]
    leaves: list[Any]
    structure: pytree.TreeSpec

    @classmethod
    def of(cls, call: BoundCall) -> ExpectedOutputs | None:
        """None, and a warning, if the op returns something that is not a tensor."""
        operands = call.fake_operands()
        node = V.graph.current_node
        if not call.op._schema.returns:
            results = None
        elif node is not None and node.target is call.op and "val" in node.meta:
            results = node.meta["val"]
        else:
            with V.fake_mode:
                results = call.invoke(call.op, {}, operands)
        leaves, structure = pytree.tree_flatten(results)
        tensors = [leaf for leaf in leaves if leaf is not None]
        if not all(isinstance(leaf, torch.Tensor) for leaf in tensors):
            log.warning("%s is not autotuned: it returns more than tensors", call.op)
            return None
        written = [operands[index] for index in call.mutated]
        return cls(call, tensors + written, leaves, structure)

    def results_from(self, values: Sequence[Any]) -> Any:
        """Write the mutated operands' new values; the results as the op gives them."""
        remaining = iter(values)
        results = [None if leaf is None else next(remaining) for leaf in self.leaves]
        for index, new_value in zip(self.call.mutated, remaining, strict=True):
            mutate_to(ir.TensorBox(self.call.nodes[index]), new_value)
        if not any(result is not None for result in results):
            return ()  # None would ask for the normal lowering
        result = pytree.tree_unflatten(results, self.structure)
        validate_ir(result)
        return result
