"""Traces a candidate to a functional graph over a call's operands."""

from __future__ import annotations

import contextlib
import copy
import logging
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

import sympy

import torch
import torch.utils._pytree as pytree
from torch._dynamo.eval_frame import innermost_fn, OptimizedModule
from torch._functorch._aot_autograd.functional_utils import (
    from_fun,
    has_data_mutation,
    has_metadata_mutation,
    to_fun,
)
from torch._inductor import config
from torch._inductor.range_dispatch.trace.guards import (
    admitting_guards,
    Guard,
    is_guard_error,
    NeedsGuard,
)
from torch._inductor.virtualized import V
from torch._subclasses.functional_tensor import FunctionalTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import statically_known_true, sym_eq
from torch.utils._ordered_set import OrderedSet
from torch.utils._sympy.symbol import symbol_is_type, SymT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch._inductor.range_dispatch.binding import BoundCall
    from torch._inductor.range_dispatch.candidates import Candidate


log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TracedCandidate:
    """A candidate's graph: placeholders are the operands, outputs are flat.

    The outputs are the op's results, then the new values of the operands that the op
    mutates; the graph itself mutates nothing.
    """

    candidate: Candidate
    graph_module: torch.fx.GraphModule


class CandidateRejected(Exception):
    """A candidate cannot stand in for the op; the message says why."""


class AddsGuards(CandidateRejected):
    """A candidate is valid for some sizes only: tracing it would add guards."""


def trace_candidate(
    candidate: Candidate,
    call: BoundCall,
    fake_operands: Sequence[Any],
    expected: Sequence[torch.Tensor],
    admits: Callable[[Guard], bool],
) -> TracedCandidate:
    """Trace one candidate.

    ``expected`` are the fake tensors that the op's own fake implementation gives,
    then the fake operands that the op mutates. ``admits`` says which guards on sizes
    need not stop it: they must be installed and the trace done again.

    Raises:
        NeedsGuard: tracing needs a guard that is admitted.
        AddsGuards: tracing needs a guard that is not.
        CandidateRejected: tracing failed, or the outputs are not what the op promises.
    """

    def flat(*operands: Any) -> list[torch.Tensor]:
        outputs = _call_functionally(candidate, call, operands)
        return _own_outputs(outputs, operands)

    try:
        graph_module = _trace(flat, fake_operands, admits)
    except (CandidateRejected, NeedsGuard):
        raise
    except Exception as error:
        if is_guard_error(error):
            raise AddsGuards(f"it adds guards: {error}") from error
        raise CandidateRejected(f"{type(error).__name__}: {error}") from error
    _check_outputs(output_values(graph_module), expected)
    return TracedCandidate(candidate, graph_module)


def output_values(graph_module: torch.fx.GraphModule) -> list[torch.Tensor]:
    """The fake tensors that a traced graph returns."""
    returned: Any = graph_module.graph.output_node().args[0]
    return [node.meta["val"] for node in returned]


def _trace(
    function: Callable[..., Any],
    fake_operands: Sequence[Any],
    admits: Callable[[Guard], bool],
) -> torch.fx.GraphModule:
    from torch._inductor.decomposition import select_decomp_table

    with (
        V.fake_mode,
        torch.no_grad(),
        _real_tensors_as_constants(),
        admitting_guards(V.fake_mode.shape_env, admits),
    ):
        graph_module = make_fx(
            function,
            decomposition_table=select_decomp_table(),
            tracing_mode="symbolic",
        )(*fake_operands)
    return _as_inductor_expects(graph_module)


@contextlib.contextmanager
def _real_tensors_as_constants() -> Iterator[None]:
    """Let implementations use tensors that they close over."""
    mode = V.fake_mode
    before, mode.allow_non_fake_inputs = mode.allow_non_fake_inputs, True
    try:
        yield
    finally:
        mode.allow_non_fake_inputs = before


def _call_functionally(
    candidate: Candidate, call: BoundCall, operands: Sequence[Any]
) -> list[Any]:
    """Results, then new values of mutated operands; nothing is written in place."""
    exclude = torch._C.DispatchKeySet(torch._C.DispatchKey.Functionalize)
    with torch._C._ExcludeDispatchKeyGuard(exclude), FunctionalTensorMode():
        wrapped = [to_fun(x) if isinstance(x, torch.Tensor) else x for x in operands]
        function = _not_compiled(candidate.function)
        result = call.invoke(function, candidate.params, wrapped)
        leaves = [x for x in pytree.tree_leaves(result) if x is not None]
        for index, tensor in enumerate(wrapped[: len(call.nodes)]):
            if index in call.mutated:
                leaves.append(tensor)
            elif has_data_mutation(tensor) or has_metadata_mutation(
                tensor, operands[index], check_only_storage_mutation=False
            ):
                raise CandidateRejected(
                    f"it mutates its input {call.name_of(index)!r}, which the schema "
                    "does not allow"
                )
        return [from_fun(x) if isinstance(x, torch.Tensor) else x for x in leaves]


def _not_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """What ``torch.compile`` was given: the graph is compiled here, and only once."""
    if isinstance(function, OptimizedModule):
        return function._orig_mod
    return innermost_fn(function)


def _own_outputs(outputs: Sequence[Any], operands: Sequence[Any]) -> list[torch.Tensor]:
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
                f"it returns {type(output).__name__} where a tensor is due"
            )
        if output.untyped_storage()._cdata in taken:
            output = output.clone()
        taken.add(output.untyped_storage()._cdata)
        owned.append(output)
    return owned


def _as_inductor_expects(graph_module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """What is done to the graphs that Inductor compiles, before they come to lowering.

    Functionalized mutating ops become a copy and the op on the copy; with freezing,
    what is computed of constants becomes a constant.
    """
    from torch._inductor.constant_folding import constant_fold
    from torch._inductor.fx_passes.post_grad import decompose_auto_functionalized

    if config.freezing and V.graph.is_inference:
        constant_fold(graph_module)
    # They take a copy for what it copies, so nothing may be written in place yet.
    graph_module = _after_joint_passes(graph_module)
    functional = (
        torch.ops.higher_order.auto_functionalized,
        torch.ops.higher_order.auto_functionalized_v2,
    )
    if any(node.target in functional for node in graph_module.graph.nodes):
        decompose_auto_functionalized(graph_module.graph)
        graph_module.recompile()
    return graph_module


def _after_joint_passes(graph_module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Run the passes over joint graphs, as far as they add no guards.

    They fold constants and let random numbers come from Inductor's seeds.
    """
    from torch._inductor.compile_fx import _recursive_joint_graph_passes
    from torch._inductor.fx_passes.replace_random import replace_random_passes

    copied = torch.fx.GraphModule(graph_module, copy.deepcopy(graph_module.graph))
    try:
        with V.graph.sizevars.shape_env.error_on_new_guards():
            return _recursive_joint_graph_passes(copied)
    except Exception as error:
        if not is_guard_error(error):
            raise
        log.info("joint graph passes are left out for a candidate: %s", error)
    replace_random_passes(graph_module)
    return graph_module


def _check_outputs(
    actual: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]
) -> None:
    if len(actual) != len(expected):
        raise CandidateRejected(
            f"it returns {len(actual)} tensors, the op returns {len(expected)}"
        )
    for index, (own, due) in enumerate(zip(actual, expected)):
        for what in ("dtype", "device"):
            if getattr(own, what) != getattr(due, what):
                raise CandidateRejected(
                    f"output {index} has {what} {getattr(own, what)}, "
                    f"the op's has {getattr(due, what)}"
                )
        _identify_data_dependent_sizes(own, due)
        same_rank = len(own.shape) == len(due.shape)
        if not same_rank or not statically_known_true(sym_eq(own.shape, due.shape)):
            raise CandidateRejected(
                f"output {index} has shape {tuple(own.shape)}, "
                f"the op's has {tuple(due.shape)}"
            )


def _identify_data_dependent_sizes(own: torch.Tensor, due: torch.Tensor) -> None:
    """Give sizes that depend on data the symbols that the op's results have."""
    for size, wanted in zip(own.shape, due.shape):
        if isinstance(size, torch.SymInt) and isinstance(wanted, torch.SymInt):
            shape_env = size.node.shape_env
            new, old = size.node.expr, wanted.node.expr
            if new != old and all(
                isinstance(s, sympy.Symbol) and symbol_is_type(s, SymT.UNBACKED_INT)
                for s in (new, old)
            ):
                shape_env._rename_unbacked_to(new, old)
