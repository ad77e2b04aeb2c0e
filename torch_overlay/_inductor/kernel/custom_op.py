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
    "register_custom_op_autotuning",
    "unregister_custom_op_autotuning",
    "custom_op_autotuning",
    "autotune_custom_op",
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

    When a call of the op is compiled, the implementations are timed on inputs like the
    call's, and the fastest is compiled into the graph. They compete with the op's own
    implementation (the fallback), unless ``include_fallback`` is False. With
    ``dispatch_on`` and ``split_points`` each range of sizes has its own winner, and the
    graph picks one at run time. Each implementation is called exactly as the op was.

    Timings are kept in Inductor's cache folder. Registering an op again replaces the
    earlier registration.

    Args:
        custom_op: a ``@torch.library.custom_op``, or an overload such as
            ``torch.ops.aten.mm.default``.
        configs: the implementations. Give either ``configs`` or ``config_generator``.
        config_generator: returns the list of configs. It is called at compile time,
            once for each range, with a dict from the names of the tensor arguments to
            fake tensors of the sizes in that range.
        name: the operation's name in logs; ``"{op}_autotuned"`` by default.
        input_gen_fns: a dict from argument names to functions. Each gets the tensor
            that would be used for timing and returns the one to use: of the same
            shape, dtype and device, with values that are typical for the argument.
        dispatch_on: the dimension whose size decides: ``tensor_name``, an argument of
            the op, and ``dim``. Or ``size``, a function of the shapes of the tensor
            arguments that its parameters name, without a branch on a size:
            ``lambda x: x[0] * x[1]``. A list of up to three dicts dispatches on all of
            them. See ``DispatchOnConfig`` for the other keys.
        split_points: the last size of each range but the open one, ascending:
            ``[512, 2048]`` makes ``[0, 512]``, ``[513, 2048]`` and ``[2049, inf]``.
            ``"auto"`` finds them by timing. If ``dispatch_on`` is a list, give one
            list for each of its entries; the ranges then form a grid of cells, each
            with its own winner.
        min_speedup_threshold: the fallback wins unless another candidate is at least
            this many times as fast.
        benchmark_with_cudagraphs: time candidates by replaying CUDA graphs.
        include_fallback: whether the fallback competes. If it does not, a call for
            which every implementation was dropped is an error.
        winners: ship a choice; nothing is timed. For each range (one range without
            ``dispatch_on``) the index of a config, or -1 for the fallback. In a grid,
            one entry for each cell; the last dimension's ranges change fastest.
        sizes_per_range: how many sizes a closed range is timed at, spaced evenly on a
            log scale from its first to its last. The winner has the lowest mean
            slowdown relative to the fastest candidate. With 1, only the last size is
            timed.
        size_weights: a histogram of your sizes, ``{size: how often}``; with several
            dimensions the keys are tuples. Each range is timed at its most frequent
            sizes, and the winner has the lowest total time over all calls.
        tuning_seconds: the time limit for timing one call, in seconds, shared by all
            its ranges; ``config.range_dispatch.tuning_seconds`` by default. Compiling
            the candidates comes on top.
        uuid: identifies the code of the op, its derivative, its implementations and
            all that they call in cache keys. Without it the keys look at that code and
            the values it reads. Change it whenever you change them.
        accuracy_tolerance: how far an implementation's results may be from the op's
            own on the inputs that it is timed with: one number, relative and absolute
            at once, or a pair ``(rtol, atol)``. By default what
            ``torch.testing.assert_close`` allows for the dtype. With ``math.inf``
            results are not compared. ``config.range_dispatch.check_accuracy`` says
            what happens to a candidate that is farther off.

    Raises:
        TypeError: an argument has the wrong type; the message names it.
        ValueError: an argument has a wrong value; the message names it.

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
    """Undo ``register_custom_op_autotuning`` for this op.

    Functions that are already compiled keep their dispatch.

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
    """Register an op within a ``with`` block, then restore the earlier registration.

    Args:
        custom_op: as for ``register_custom_op_autotuning``.
        *args, **kwargs: its other arguments.

    Raises:
        TypeError: an argument has the wrong type; the message names it.
        ValueError: an argument has a wrong value; the message names it.
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
    """Within a lowering: time implementations of an op and inline the fastest.

    This is for authors of lowerings; others use ``register_custom_op_autotuning``.

    Args:
        name: the operation's name in logs.
        decompositions: the implementations. They compete with the fallback.
        inputs: IR nodes of the op's tensor arguments, in the order of the schema.
        non_tensor_args: for each implementation a dict of its non-tensor arguments.
            The fallback is called with the first one.
        op_overload: the op.
        user_input_gen_fns: as ``input_gen_fns`` of ``register_custom_op_autotuning``.
        config_patches_list: for each implementation its Inductor config values.
        min_speedup_threshold: as for ``register_custom_op_autotuning``.
        benchmark_with_cudagraphs: as for ``register_custom_op_autotuning``.
        include_fallback: as for ``register_custom_op_autotuning``.

    Returns:
        a pair: the op's results as IR nodes, in the structure that the op returns, and
        the winner, with ``name``, ``decomposition`` and ``gm``, its traced graph.

    Raises:
        TypeError: ``decompositions`` is not a list, or has something uncallable.
        ValueError: the lists differ in length.
        RuntimeError: there is no tensor input, or no candidate could be traced.
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
