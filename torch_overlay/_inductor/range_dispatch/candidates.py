"""The ways to compute an op, told apart by identity and traced once each."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch._dynamo.utils import counters
from torch._inductor.range_dispatch.binding import BoundCall
from torch._inductor.range_dispatch.configs import (
    callable_name,
    CustomOpConfig,
    format_params,
)
from torch._inductor.range_dispatch.spec import FALLBACK
from torch._inductor.virtualized import V
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import (
    _ShapeEnvGuardError,
    statically_known_true,
    sym_eq,
)
from torch.utils._ordered_set import OrderedSet


log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Candidate:
    """An implementation with its params and patches; equal only to itself.

    ``index`` numbers the distinct candidates, ``FALLBACK`` for the op itself.
    """

    index: int
    name: str
    function: Callable[..., Any]
    params: dict[str, Any] = field(default_factory=dict)
    config_patches: dict[str, Any] = field(default_factory=dict)

    @property
    def is_fallback(self) -> bool:
        return self.index == FALLBACK

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class TracedCandidate:
    """A candidate's graph: placeholders are the operands, outputs are flat."""

    candidate: Candidate
    graph_module: torch.fx.GraphModule


class CandidateRejected(Exception):
    """A candidate cannot stand in for the op; the message says why."""


class CandidatePool:
    """The distinct candidates of one op.

    Configs with the very same function, params (by type and value) and patches are one
    candidate; functions that merely look or are named alike are not.
    """

    def __init__(self, op: torch._ops.OpOverload) -> None:
        self.fallback = Candidate(FALLBACK, "fallback", op)
        self._by_identity: dict[Any, Candidate] = {
            _identity(op, {}, {}): self.fallback
        }
        self._names = OrderedSet([self.fallback.name])
        self._op = op

    def __iter__(self) -> Any:
        return iter(self._by_identity.values())

    def add(self, config: CustomOpConfig) -> Candidate:
        """The candidate for a config, a new one if it is not there yet."""
        function = config.get_decomposition(self._op)
        key = _identity(function, config.params, config.config_patches)
        if key not in self._by_identity:
            self._by_identity[key] = Candidate(
                len(self._by_identity) - 1,
                self._unique_name(callable_name(function), config.params),
                function,
                config.params,
                config.config_patches,
            )
        return self._by_identity[key]

    def _unique_name(self, name: str, params: dict[str, Any]) -> str:
        if params:
            name = f"{name}({', '.join(format_params(params))})"
        unique, repeat = name, 1
        while unique in self._names:
            repeat += 1
            unique = f"{name} #{repeat}"
        self._names.add(unique)
        return unique


def _identity(function: Any, params: dict[str, Any], patches: dict[str, Any]) -> Any:
    if inspect.ismethod(function):  # a new object each time it is looked up
        who = (id(function.__self__), id(function.__func__))
    else:
        who = (id(function), 0)
    return who, _structure(params), _structure(patches)


def _structure(value: Any) -> Any:
    """A hashable stand-in that differs when type or value does (1, 1.0 and True)."""
    if isinstance(value, dict):
        items = (
            (_structure(k), _structure(v))
            for k, v in sorted(value.items(), key=lambda item: repr(item[0]))
        )
        return (dict, tuple(items))
    if isinstance(value, (list, tuple)):
        return (type(value), tuple(map(_structure, value)))
    if isinstance(value, float):
        return (float, repr(value))  # tells 0.0 from -0.0, and nan equals itself
    if isinstance(value, (int, str, bytes, type(None), torch.dtype, torch.device)):
        return (type(value), value)
    return (type(value), id(value))


def trace_candidate(
    candidate: Candidate,
    call: BoundCall,
    fake_operands: Sequence[Any],
    expected: Sequence[torch.Tensor],
) -> TracedCandidate:
    """Trace one candidate to a graph over the call's operands.

    ``expected`` are the fake tensors that the op's own fake implementation gives.

    Raises:
        CandidateRejected: tracing failed or would add guards, or the outputs are not
            what the op promises.
    """

    def flat(*operands: Any) -> list[torch.Tensor]:
        result = call.invoke(candidate.function, candidate.params, operands)
        return _own_outputs(pytree.tree_leaves(result), operands)

    try:
        graph_module = _trace(flat, fake_operands)
    except Exception as error:
        if is_guard_error(error):
            counters["inductor"]["custom_op_decomp_guard_skips"] += 1
            raise CandidateRejected(f"it adds guards: {error}") from error
        raise CandidateRejected(f"{type(error).__name__}: {error}") from error
    _check_outputs(output_values(graph_module), expected)
    return TracedCandidate(candidate, graph_module)


def _trace(
    function: Callable[..., Any], fake_operands: Sequence[Any]
) -> torch.fx.GraphModule:
    from torch._inductor.decomposition import select_decomp_table

    shape_env = V.fake_mode.shape_env
    no_new_guards = (
        shape_env.error_on_new_guards() if shape_env else contextlib.nullcontext()
    )
    with V.fake_mode, torch.no_grad(), no_new_guards:
        return make_fx(
            function,
            decomposition_table=select_decomp_table(),
            tracing_mode="symbolic",
        )(*fake_operands)


def is_guard_error(error: Exception) -> bool:
    """Whether an exception says that a frozen shape environment refused a guard."""
    return isinstance(error, _ShapeEnvGuardError) or (
        isinstance(error, AssertionError)
        and "Guard attempted while ShapeEnv guards are frozen" in str(error)
    )


def _own_outputs(
    outputs: Sequence[Any], operands: Sequence[Any]
) -> list[torch.Tensor]:
    """Copy outputs that share memory with an operand or an earlier output.

    A custom op's results may not alias anything, and neither may a branch's.
    """
    taken = OrderedSet(
        x.untyped_storage()._cdata for x in operands if isinstance(x, torch.Tensor)
    )
    owned = []
    for output in outputs:
        if not isinstance(output, torch.Tensor):
            raise TypeError(f"it returns {type(output).__name__} where a tensor is due")
        if output.untyped_storage()._cdata in taken:
            output = output.clone()
        taken.add(output.untyped_storage()._cdata)
        owned.append(output)
    return owned


def output_values(graph_module: torch.fx.GraphModule) -> list[torch.Tensor]:
    """The fake tensors that a traced graph returns."""
    (returned,) = graph_module.graph.output_node().args
    return [node.meta["val"] for node in returned]


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
        same_rank = len(own.shape) == len(due.shape)
        if not same_rank or not statically_known_true(sym_eq(own.shape, due.shape)):
            raise CandidateRejected(
                f"output {index} has shape {tuple(own.shape)}, "
                f"the op's has {tuple(due.shape)}"
            )


@functools.cache
def warn_rejected(op: str, candidate: str, where: str, reason: str) -> None:
    """Say once for each distinct case that a candidate was dropped, and why."""
    log.warning("%s: dropped candidate %s %s: %s", op, candidate, where, reason)
