"""Autotuning of custom ops: several implementations, the fastest is compiled in.

:func:`register_custom_op_autotuning` gives an op implementations to choose from. With
``dispatch_on`` and ``split_points`` the choice is made for each range of a dimension's
sizes, and a dynamic graph picks the winner at run time through nested ``torch.cond``.
The engine is ``torch._inductor.range_dispatch``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
from typing import Any, Literal, TYPE_CHECKING

import sympy

import torch
from torch._inductor.lowering import user_lowerings
from torch._inductor.range_dispatch.call.axes import Axis
from torch._inductor.range_dispatch.call.binding import bind_call, UnsupportedArgument
from torch._inductor.range_dispatch.cond.cond_tree import (
    build_torch_cond_dispatch,
    plan_for,
)
from torch._inductor.range_dispatch.cond.inlining import inline_graph
from torch._inductor.range_dispatch.cond.op_itself import (
    warn_if_packaged,
    warn_of_effect,
)
from torch._inductor.range_dispatch.lowering.calls import lower_call
from torch._inductor.range_dispatch.plan.ranges import Cell, cell_of, SizeRange
from torch._inductor.range_dispatch.registration.configs import (
    ConfigGenerator,
    CustomOpConfig,
)
from torch._inductor.range_dispatch.registration.dispatch_on import (  # noqa: F401
    DEFAULT_RANGE_UPPER_BOUND,
    DispatchOnConfig,
)
from torch._inductor.range_dispatch.registration.spec import (
    build_registration,
    DEFAULT_SIZES_PER_RANGE,
    InputGenerators,
    Registration,
    resolve_op,
    SizeWeights,
)
from torch._inductor.range_dispatch.trace.tracing import (
    real_tensors_as_constants,
    TracedCandidate,
)
from torch._inductor.range_dispatch.tuning.winners import choose_winners
from torch._inductor.select_algorithm import ExternKernelChoice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


log = logging.getLogger(__name__)

__all__ = [
    "autotune_custom_op",
    "register_custom_op_autotuning",
    "unregister_custom_op_autotuning",
    "custom_op_autotuning",
    "CustomOpConfig",
    "DispatchOnConfig",
]


@dataclasses.dataclass(frozen=True)
class AutotunedLowering:
    """The lowering of a registered op, as it stands in ``user_lowerings``.

    Returns the op's results as IR nodes, or None: use the normal lowering.
    """

    registration: Registration

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        lower = _standard_lowering_fn
        if self.registration.dispatch is not None:
            lower = _range_based_lowering_fn
        values = None
        try:
            with real_tensors_as_constants():
                values = lower(self.registration, args, kwargs)
        except UnsupportedArgument as reason:
            log.warning("%s is not autotuned: %s", self.registration.op, reason)
        if values is None:
            warn_if_packaged(self.registration.op)
        return values


@dataclasses.dataclass(frozen=True)
class WinningChoice:
    """What ``autotune_custom_op`` chose; the op itself has no decomposition or gm."""

    name: str
    decomposition: Callable[..., Any] | None
    decomposition_kwargs: dict[str, Any]
    config_patches: dict[str, Any]
    gm: torch.fx.GraphModule | None

    @classmethod
    def of(cls, traced: TracedCandidate) -> WinningChoice:
        """The public view of a traced candidate."""
        candidate = traced.candidate
        return cls(
            candidate.name,
            None if candidate.is_fallback else candidate.function,
            candidate.params,
            candidate.config_patches,
            None if candidate.is_fallback else traced.graph_module,
        )


def register_custom_op_autotuning(
    custom_op: torch._library.custom_ops.CustomOpDef | torch._ops.OpOverload,
    configs: list[CustomOpConfig] | None = None,
    config_generator: ConfigGenerator | None = None,
    name: str | None = None,
    input_gen_fns: InputGenerators | None = None,
    dispatch_on: DispatchOnConfig | Sequence[DispatchOnConfig] | None = None,
    split_points: Sequence[int] | Sequence[Sequence[int]] | Literal["auto"] | None = (
        None
    ),
    min_speedup_threshold: float = 1.0,
    benchmark_with_cudagraphs: bool = False,
    include_fallback: bool = True,
    winners: Sequence[int] | None = None,
    sizes_per_range: int = DEFAULT_SIZES_PER_RANGE,
    size_weights: SizeWeights | None = None,
    tuning_seconds: float | None = None,
    uuid: str | None = None,
    accuracy_tolerance: float | tuple[float, float] | None = None,
) -> None:
    """Let ``torch.compile`` choose among several implementations of a custom op.

    Every implementation is called just as the op was called, and competes with the
    op's own implementation (the fallback), unless ``include_fallback`` is False.
    Registering an op again replaces what was registered before.

    Timing takes about ``tuning_seconds`` for a call, however many ranges it has. What
    was timed is kept in Inductor's cache folder.

    Args:
        custom_op: a ``@torch.library.custom_op`` or an overload such as
            ``torch.ops.aten.mm.default``.
        configs: the implementations. Exactly one of ``configs`` and
            ``config_generator`` is given.
        config_generator: called at compile time with a dict from the names of the
            tensor arguments to fake tensors of the sizes tuned for (once for each
            range); returns the list of configs.
        name: the operation's name in logs, by default ``"{op}_autotuned"``.
        input_gen_fns: by argument name, functions from a real tensor of the shape
            that is timed to the tensor to time with.
        dispatch_on: the dimension to dispatch on: ``tensor_name``, an argument of the
            op; ``dim``, its dimension; and optionally ``range_upper_bound`` (alias
            ``unbounded_size``), the size at which the open last range is timed,
            65536 by default. Instead of the two, ``size`` is a function of the shapes
            of the tensor arguments that its parameters name, without branches:
            ``lambda x: x[0] * x[1]``. A list of up to three such dicts dispatches on
            all of them.
        split_points: the last size of each range but the open one, ascending:
            ``[512, 2048]`` makes ``[0, 512]``, ``[513, 2048]`` and ``[2049, inf]``.
            With ``"auto"`` they are found by timing sizes from ``min`` to ``max``
            (1 to 65536 by default) of ``dispatch_on``: the fewest ranges in which no
            size that was timed takes more than ``max_loss`` (0.03) over the fastest
            candidate there, split within ``precision`` (0.05) of where two cross.
            With a list in ``dispatch_on`` a list of such lists: their ranges span a
            grid, and every cell of it has a winner.
        min_speedup_threshold: the fallback stays unless another candidate is at
            least this many times faster.
        benchmark_with_cudagraphs: time candidates by CUDA graph replay.
        include_fallback: whether the op's own implementation competes. If it does
            not, a call for which every implementation was dropped is an error.
        winners: for each range (one, without ``dispatch_on``) the index of a config,
            or -1 for the fallback; for each cell of a grid, those of the last
            dimension's ranges next to each other. If given, nothing is timed.
        sizes_per_range: at how many sizes a range that is not open is timed, from its
            first to its last, equally far on a log scale. What counts is how much
            slower than the fastest a candidate is on the average. With 1 it is the
            last size alone.
        size_weights: by size, how often it occurs, such as a histogram of what was
            seen in production. Ranges are then timed at the sizes that weigh most in
            them, and what counts is the time of all the calls. With several dimensions
            the keys are tuples.
        tuning_seconds: what timing a call may take, by default
            ``config.range_dispatch.tuning_seconds``.
        uuid: stands for the code of the implementations and of all that they call, of
            the op and of its derivative in the keys of caches, which otherwise look at
            that code and the values that it reads. Change it when you change them.
        accuracy_tolerance: how far results of an implementation may be from the op's
            own on the inputs that it is timed with: a number, relative and absolute at
            once, or a pair ``(rtol, atol)``; by default what
            ``torch.testing.assert_close`` allows for the dtype. ``math.inf``: they
            differ on purpose, and are not compared.
            ``config.range_dispatch.check_accuracy`` says what to do about one that is
            farther off.

    Raises:
        TypeError, ValueError: an argument is wrong; the message names it.

    Example::

        register_custom_op_autotuning(
            my_op,
            configs=[CustomOpConfig(short), CustomOpConfig(long, chunks=4)],
            dispatch_on={"tensor_name": "x", "dim": 1},
            split_points=[512],
        )
    """
    registration = build_registration(
        custom_op,
        configs=configs,
        config_generator=config_generator,
        name=name,
        input_gen_fns=input_gen_fns,
        dispatch_on=dispatch_on,
        split_points=split_points,
        min_speedup_threshold=min_speedup_threshold,
        benchmark_with_cudagraphs=benchmark_with_cudagraphs,
        winners=winners,
        include_fallback=include_fallback,
        sizes_per_range=sizes_per_range,
        size_weights=size_weights,
        tuning_seconds=tuning_seconds,
        uuid=uuid,
        accuracy_tolerance=accuracy_tolerance,
    )
    warn_of_effect(registration.op)
    if registration.op in user_lowerings:
        log.info("%s: replacing the lowering registered before", registration.op)
    user_lowerings[registration.op] = AutotunedLowering(registration)


def unregister_custom_op_autotuning(
    custom_op: torch._library.custom_ops.CustomOpDef | torch._ops.OpOverload,
) -> None:
    """Take back ``register_custom_op_autotuning``.

    Raises:
        TypeError: ``custom_op`` is not an op.
        KeyError: the op is not registered for autotuning.
    """
    op = resolve_op(custom_op)
    if not isinstance(user_lowerings.get(op), AutotunedLowering):
        raise KeyError(f"{op} is not registered for autotuning")
    del user_lowerings[op]


@contextlib.contextmanager
def custom_op_autotuning(custom_op: Any, *args: Any, **kwargs: Any) -> Iterator[None]:
    """``register_custom_op_autotuning`` for the extent of a ``with`` block.

    What was registered for the op before is in force again afterwards.
    """
    op = resolve_op(custom_op)
    before = user_lowerings.get(op)
    register_custom_op_autotuning(custom_op, *args, **kwargs)
    try:
        yield
    finally:
        if before is None:
            user_lowerings.pop(op, None)
        else:
            user_lowerings[op] = before


def _standard_lowering_fn(
    registration: Registration, args: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    """Plain autotuning: one range that holds every size, its winner inlined."""
    return lower_call(registration, args, kwargs)


def _range_based_lowering_fn(
    registration: Registration, args: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    """Find a winner for each range that can occur and dispatch among them.

    This is for calls with nothing around them: ``lowering.region_lowering`` has those
    that are lowered with what is fused around them.
    """
    if registration.dispatch is None:
        raise AssertionError(f"{registration} has nothing to dispatch on")
    return lower_call(registration, args, kwargs)


def _build_torch_cond_dispatch(
    name: str,
    graph_modules: Sequence[torch.fx.GraphModule],
    ranges: Sequence[SizeRange],
    operands: Sequence[Any],
    tensor: int = 0,
    dim: int = 0,
    outputs: Sequence[torch.Tensor] | None = None,
) -> torch.fx.GraphModule:
    """The graph that picks among traced implementations by a size.

    A concrete size yields the graph of the range that holds it. A symbolic one yields
    nested ``torch.cond`` nodes: a balanced tree over the distinct graphs of the ranges
    that the symbol can reach. Whether it is symbolic is read off ``operands``, not off
    the surrounding compile.

    Args:
        name: what the names of the subgraphs start with.
        graph_modules: the graph for each range; the very same graph in several ranges
            becomes one branch. All take ``operands`` and return a tuple of tensors.
        ranges: inclusive and ascending.
        operands: fake tensors and SymInts, one for each placeholder.
        tensor, dim: operand and dimension whose size decides.
        outputs: fake tensors with the strides that every branch must produce; those
            of the first graph by default.
    """
    size = operands[tensor].shape[dim]
    expr = size.node.expr if isinstance(size, torch.SymInt) else size
    axes = [Axis("size", sympy.sympify(expr), tensor, dim)]
    cells = [Cell((one,)) for one in ranges]
    if axes[0].is_static:
        return graph_modules[cell_of(cells, [max(int(size), 0)])]
    plan = plan_for(graph_modules, cells, operands, axes)
    return build_torch_cond_dispatch(name, plan, operands, axes, outputs)


def autotune_custom_op(
    name: str,
    decompositions: list[Callable[..., Any]],
    inputs: list[Any],
    non_tensor_args: list[dict[str, Any]],
    op_overload: torch._ops.OpOverload,
    user_input_gen_fns: InputGenerators | None = None,
    config_patches_list: list[dict[str, Any]] | None = None,
    min_speedup_threshold: float = 1.0,
    benchmark_with_cudagraphs: bool = False,
    include_fallback: bool = True,
) -> tuple[Any, WinningChoice]:
    """Time decompositions of an op on the inputs of a lowering, inline the fastest.

    Args:
        name: the operation's name in logs.
        decompositions: the implementations; the op itself competes with them.
        inputs: IR nodes of the op's tensor arguments, in schema order.
        non_tensor_args: for each decomposition its non-tensor arguments by name; the
            op itself gets the first entry.
        op_overload: the op.
        user_input_gen_fns, min_speedup_threshold, benchmark_with_cudagraphs,
        include_fallback: as for ``register_custom_op_autotuning``.
        config_patches_list: for each decomposition its config patches.

    Returns:
        The op's results as IR nodes, in the structure the op returns, and the winner.

    Raises:
        TypeError, ValueError: the lists are of wrong types or lengths.
        RuntimeError: there is no tensor input, or nothing could be traced.
    """
    if not isinstance(decompositions, (list, tuple)):
        raise TypeError(
            "decompositions must be a list or tuple of callables, "
            f"got {type(decompositions)}"
        )
    if not inputs:
        raise RuntimeError(f"Custom op '{name}' requires tensor inputs for autotuning")
    patches_list = config_patches_list or [{} for _ in decompositions]
    for what, given in (
        ("non_tensor_args", non_tensor_args),
        ("config_patches_list", patches_list),
    ):
        if len(given) != len(decompositions):
            raise ValueError(
                f"decompositions and {what} must have same length, "
                f"got {len(decompositions)} and {len(given)}"
            )
    registration = build_registration(
        op_overload,
        configs=[
            CustomOpConfig(decomposition, config_patches=patches, **arguments)
            for decomposition, arguments, patches in zip(
                decompositions, non_tensor_args, patches_list
            )
        ],
        name=name,
        input_gen_fns=user_input_gen_fns,
        min_speedup_threshold=min_speedup_threshold,
        benchmark_with_cudagraphs=benchmark_with_cudagraphs,
        include_fallback=include_fallback,
    )
    schema_names = [argument.name for argument in op_overload._schema.arguments]
    runtime = {k: v for k, v in non_tensor_args[0].items() if k in schema_names}
    tensor_names = [name for name in schema_names if name not in runtime]
    call = bind_call(op_overload, (), {**dict(zip(tensor_names, inputs)), **runtime})
    chosen = choose_winners(registration, call)
    if chosen is None:
        raise RuntimeError(f"No valid choices generated for {name}")
    winner = chosen.choices[0].winner
    patches = {winner.graph_module: winner.candidate.config_patches}
    values = inline_graph(name, winner.graph_module, call.op, call.operands, patches)
    return chosen.expected.results_from(values), WinningChoice.of(winner)


def _create_fallback_choice(op_overload: torch._ops.OpOverload) -> ExternKernelChoice:
    """The extern kernel that calls the op eagerly, one for each overload.

    Arguments are given when a choice is made of it, so that it can be reused across
    compiles.
    """
    name = f"{re.sub(r'[:.]+', '_', op_overload.name())}_fallback"
    return ExternKernelChoice.lookup(name) or ExternKernelChoice(
        kernel=op_overload,
        name=name,
        has_out_variant=False,
        op_overload=op_overload,
        use_fallback_kernel=True,
    )
