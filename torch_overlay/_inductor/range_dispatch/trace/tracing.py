"""Traces a candidate to a functional graph over a call's operands."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

import torch
import torch.utils._pytree as pytree
from torch._dynamo.eval_frame import innermost_fn, OptimizedModule
from torch._functorch._aot_autograd.functional_utils import (
    from_fun,
    has_data_mutation,
    has_metadata_mutation,
    to_fun,
)
from torch._higher_order_ops.effects import _EffectType
from torch._inductor.range_dispatch.call.schemas import arrange_arguments
from torch._inductor.range_dispatch.call.scratch import add_guard
from torch._inductor.range_dispatch.trace.capturing import capture, quiet
from torch._inductor.range_dispatch.trace.drops import CandidateRejected
from torch._inductor.range_dispatch.trace.graph_passes import (
    name_arguments,
    ready_to_lower,
)
from torch._inductor.range_dispatch.trace.guards import Needs
from torch._inductor.range_dispatch.trace.output_checks import (
    check_outputs,
    own_outputs,
)
from torch._inductor.virtualized import V
from torch._subclasses.functional_tensor import FunctionalTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import SymbolValues
    from torch._inductor.range_dispatch.registration.candidates import Candidate


@dataclass(frozen=True, eq=False)
class TracedCandidate:
    """A candidate's graph: placeholders are the operands, outputs are flat.

    The outputs are the op's results, then the new values of the operands that the op
    mutates; the graph itself mutates nothing. It is right where what it ``needs`` of
    sizes holds, and if it ``is_for_range`` only for the sizes that it was traced for.
    ``values`` are sizes that it was traced with, None for those seen at compile time.
    """

    candidate: Candidate
    graph_module: torch.fx.GraphModule
    needs: Needs = Needs()
    is_for_range: bool = False
    values: SymbolValues | None = None


def trace_candidate(
    candidate: Candidate,
    call: BoundCall,
    fake_operands: Sequence[Any],
    expected: Sequence[torch.Tensor],
    with_dynamo: bool = False,
) -> torch.fx.GraphModule:
    """Trace one candidate; guards go to the shape environment of the operands.

    ``expected`` are the fake tensors that the op's own fake implementation gives,
    then the fake operands that the op mutates. ``with_dynamo`` it is traced by Dynamo
    first, as it is when it is compiled alone.

    Raises:
        CandidateRejected: the outputs are not what the op's fake gives, or Dynamo has
            nothing to trace.
        Exception: whatever the implementation raises, or what traces it.
    """
    function = candidate.function  # what torch.compile was given, if it was
    if isinstance(function, OptimizedModule):
        function = function._orig_mod
    function = traced = innermost_fn(function)

    def arranged(operands: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        return arrange_arguments(
            function, call.op, call.arguments(operands), candidate.params
        )

    if with_dynamo:
        traced, conditions = capture(function, *arranged(fake_operands))
        for condition in conditions:
            add_guard(condition)

    def compute(operands: Sequence[Any]) -> Any:
        args, kwargs = arranged(operands)
        return traced(*args, **kwargs)

    def flat(*operands: Any) -> list[torch.Tensor]:
        outputs = _call_functionally(compute, call, operands)
        return own_outputs(outputs, operands)

    with quiet():
        graph_module = _trace(flat, fake_operands)
    if candidate.is_fallback:
        name_arguments(graph_module, call.op)
    check_outputs(output_values(graph_module), expected)
    return graph_module


def output_values(graph_module: torch.fx.GraphModule) -> list[torch.Tensor]:
    """The fake tensors that a traced graph returns."""
    returned: Any = graph_module.graph.output_node().args[0]
    return [node.meta["val"] for node in returned]


def _trace(
    function: Callable[..., Any], fake_operands: Sequence[Any]
) -> torch.fx.GraphModule:
    from torch._inductor.decomposition import select_decomp_table

    with V.fake_mode, torch.no_grad():
        graph_module = make_fx(
            function,
            decomposition_table=select_decomp_table(),
            tracing_mode="symbolic",
        )(*fake_operands)
    for token in graph_module.graph.find_nodes(
        op="call_function", target=torch.ops.prims._make_token.default
    ):
        if not token.users:
            graph_module.graph.erase_node(token)
    return ready_to_lower(graph_module)


@contextlib.contextmanager
def real_tensors_as_constants() -> Iterator[None]:
    """Let implementations use tensors that they close over, when they are traced and
    when operators on these are lowered that Inductor has no code for."""
    mode = V.fake_mode
    before, mode.allow_non_fake_inputs = mode.allow_non_fake_inputs, True
    try:
        yield
    finally:
        mode.allow_non_fake_inputs = before


def _call_functionally(
    function: Callable[[Sequence[Any]], Any], call: BoundCall, operands: Sequence[Any]
) -> list[Any]:
    """Results, then new values of mutated operands; nothing is written in place."""
    exclude = torch._C.DispatchKeySet(torch._C.DispatchKey.Functionalize)
    mode = FunctionalTensorMode()
    with torch._C._ExcludeDispatchKeyGuard(exclude), mode, _effects_in_order(mode):
        wrapped = [to_fun(x) if isinstance(x, torch.Tensor) else x for x in operands]
        result = function(wrapped)
        leaves = [x for x in pytree.tree_leaves(result) if x is not None]
        for index, tensor in enumerate(wrapped[: len(call.nodes)]):
            if index in call.mutated:
                leaves.append(tensor)
            elif has_data_mutation(tensor) or has_metadata_mutation(
                tensor, operands[index], check_only_storage_mutation=False
            ):
                raise CandidateRejected(
                    f"it mutates its input {call.name_of(index)!r}, which the schema "
                    "does not allow",
                    "let it work on a copy, or declare the mutation (mutates_args)",
                )
        return [from_fun(x) if isinstance(x, torch.Tensor) else x for x in leaves]


@contextlib.contextmanager
def _effects_in_order(mode: FunctionalTensorMode) -> Iterator[None]:
    """Chain operators that have effects (checks, prints) by tokens, as AOTAutograd does
    for the graph that is compiled."""
    make_token = torch.ops.prims._make_token.default
    before = {effect: make_token() for effect in _EffectType}
    mode._tokens.update(before)
    yield
    last = [
        from_fun(token)
        for effect, token in mode._tokens.items()
        if token is not before[effect]
    ]
    if last:
        torch.ops.prims._sink_tokens.default(last)
