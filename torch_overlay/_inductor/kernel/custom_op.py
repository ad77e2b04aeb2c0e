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
from typing import Any, Literal, TYPE_CHECKING, TypeVar

import sympy

import torch
from torch._inductor import config
from torch._inductor.lowering import user_lowerings
from torch._inductor.range_dispatch.call.axes import axes_of, Axis
from torch._inductor.range_dispatch.call.binding import (
    bind_call,
    BoundCall,
    UnsupportedArgument,
)
from torch._inductor.range_dispatch.call.sizes import bounds_of
from torch._inductor.range_dispatch.lowering.branch_lowering import lower_for_ranges
from torch._inductor.range_dispatch.lowering.cond_tree import (
    build_cond_tree,
    TreeContext,
)
from torch._inductor.range_dispatch.lowering.count_emitting import counted_dispatch
from torch._inductor.range_dispatch.lowering.inlining import (
    ConfigPatches,
    inline_graph,
    not_dispatched,
    subgraph_prefix,
)
from torch._inductor.range_dispatch.lowering.op_itself import (
    warn_if_packaged,
    warn_of_effect,
)
from torch._inductor.range_dispatch.plan.decisions import (
    DispatchPlan,
    Leaf,
    plan_dispatch,
)
from torch._inductor.range_dispatch.plan.ranges import Cell, cell_of, SizeRange
from torch._inductor.range_dispatch.record.records import publish
from torch._inductor.range_dispatch.region.absorbing import absorb
from torch._inductor.range_dispatch.region.fusion import Fusion
from torch._inductor.range_dispatch.region.joining import join_followers, Joint
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
    output_values,
    real_tensors_as_constants,
    TracedCandidate,
)
from torch._inductor.range_dispatch.tuning.winners import choose_winners, ChosenCall
from torch._inductor.select_algorithm import ExternKernelChoice
from torch.fx.experimental.symbolic_shapes import is_symbolic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch._inductor.range_dispatch.region.regions import Region
    from torch._inductor.range_dispatch.tuning.choices import RangeChoice


log = logging.getLogger(__name__)

# A graph, or those of several ops that share a branch.
_WinnerT = TypeVar("_WinnerT")

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
        with real_tensors_as_constants():
            if self.registration.dispatch is None:
                values = _standard_lowering_fn(self.registration, args, kwargs)
            else:
                values = _range_based_lowering_fn(self.registration, args, kwargs)
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
    call = _bind(registration, args, kwargs)
    if call is None:
        return None
    chosen = choose_winners(registration, call)
    return None if chosen is None else _lower_winners(chosen)


def _range_based_lowering_fn(
    registration: Registration, args: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    """Find a winner for each range that can occur and dispatch among them."""
    dispatch = registration.dispatch
    if dispatch is None:
        raise AssertionError(f"{registration} has nothing to dispatch on")
    fusion = Fusion.around(registration.op, args, kwargs)
    call = _bind(registration, args, kwargs, fusion)
    if call is None:
        return None
    axes = axes_of(dispatch, call)
    if axes is None:
        return None
    region = None if fusion is None else fusion.region
    chosen = choose_winners(registration, call, axes, region)
    if chosen is None:
        return None
    if fusion is None:
        return _lower_winners(chosen)
    joint = join_followers(chosen, fusion.region)
    values = _lower_fused(joint)
    if values is None:
        region = joint.region.left_out("no tensor would be left to read")
        values = _lower_winners(chosen.over(fusion.undone(call)), region)
    return values


def _bind(
    registration: Registration,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    fusion: Fusion | None = None,
) -> BoundCall | None:
    try:
        stand_ins = fusion.stand_ins() if fusion else None
        call = bind_call(registration.op, args, kwargs, stand_ins)
    except UnsupportedArgument as reason:
        log.warning("%s is not autotuned: %s", registration.op, reason)
        return None
    if not call.nodes:
        log.warning("%s is not autotuned: it has no tensor input", registration.op)
        return None
    return call


def _lower_winners(chosen: ChosenCall, region: Region | None = None) -> Any:
    """Lower the winners of a call to IR, and nothing with them.

    The ``region`` tells why there is nothing.
    """
    registration, choices, axes = chosen.registration, chosen.choices, chosen.axes
    call, expected = chosen.call, chosen.expected
    plan = DispatchPlan([chosen.winners[0]], Leaf(0))
    operands = chosen.fake_operands
    if len(choices) > 1:
        plan = _plan(chosen.winners, chosen.cells, operands, axes)
        lower_for_ranges(chosen.winners, [(one,) for one in choices], call)
    if isinstance(plan.tree, Leaf):
        region = None  # Inductor fuses by itself
    record = publish(chosen, plan, region)
    graph_module = plan.branches[0]
    if len(choices) > 1:
        graph_module = _build_torch_cond_dispatch(
            subgraph_prefix(registration.name, chosen.number),
            chosen.winners,
            chosen.cells,
            operands,
            outputs=expected.outputs,
            axes=axes,
            plan=plan,
        )
    for choice in choices:
        if choice.winner.graph_module is graph_module:
            if choice.winner.candidate.is_fallback:
                return None  # the op itself, for all sizes
    patches = _patches(choices)
    with counted_dispatch([record], axes):
        values = inline_graph(
            registration.name, graph_module, call.op, call.operands, patches
        )
    return expected.results_from(values)


def _lower_fused(joint: Joint) -> Any:
    """Lower the winners of calls to IR with what is fused around them.

    None if there is one winner for all sizes: it is inlined, and Inductor fuses it with
    what is around it. The same if there is nothing to fuse, or no tensor to read.
    """
    region, members, first = joint.region, joint.members, joint.first
    if len(first.choices) == 1 or not (region.absorbed or len(members) > 1):
        return None
    operands = first.fake_operands
    plan = _plan(joint.rows(), first.cells, operands, first.axes)
    if isinstance(plan.tree, Leaf) or joint.fuse(realize=False) is None:
        return None
    fused = joint.fuse(realize=True)
    if fused is None:
        raise AssertionError(f"{first.call.op} reads tensors, and reads none")
    records = []
    name = ""
    for index, one in enumerate(members.values()):
        own = DispatchPlan([row[index] for row in plan.branches], plan.tree)
        records.append(publish(one, own, region))
        name += one.registration.name
        name = subgraph_prefix(name, one.number) + "_"
    composed = {row: fused.compose(row) for row in plan.branches}
    rows = [*zip(*(one.choices for one in members.values()), strict=True)]
    lower_for_ranges([composed[row] for row in joint.rows()], rows, first.call)
    graph_module = _build_torch_cond_dispatch(
        f"{name}{fused.digest}",
        [composed[row] for row in plan.branches],
        first.cells,
        fused.fake_operands(),
        outputs=fused.fake_outputs(),
        axes=[fused.moved(axis) for axis in first.axes],
        plan=DispatchPlan([composed[row] for row in plan.branches], plan.tree),
    )
    patches = joint.config_patches()
    with (
        counted_dispatch(records, first.axes),
        not_dispatched(one.call.op for one in members.values()),
    ):
        values = inline_graph(
            first.registration.name,
            graph_module,
            first.call.op,
            fused.operands,
            {composed[row]: patches[row][0] for row in plan.branches},
        )
    return absorb(region, values)


def _patches(choices: Sequence[RangeChoice]) -> ConfigPatches:
    return {
        choice.winner.graph_module: choice.winner.candidate.config_patches
        for choice in choices
    }


def _build_torch_cond_dispatch(
    name: str,
    graph_modules: Sequence[torch.fx.GraphModule],
    ranges: Sequence[SizeRange | Cell],
    operands: Sequence[Any],
    tensor: int = 0,
    dim: int = 0,
    outputs: Sequence[torch.Tensor] | None = None,
    merge: bool = True,
    axes: Sequence[Axis] | None = None,
    plan: DispatchPlan[torch.fx.GraphModule] | None = None,
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
        ranges: inclusive and ascending; with several axes, cells of their grid.
        operands: fake tensors and SymInts, one for each placeholder.
        tensor, dim: operand and dimension whose size decides.
        outputs: fake tensors with the strides that every branch must produce; those
            of the first graph by default.
        merge: whether ranges with the same graph share one branch.
        axes: instead of ``tensor`` and ``dim``, the sizes that decide.
        plan: the branches, if they are planned already.
    """
    if axes is None:
        size = operands[tensor].shape[dim]
        expr = size.node.expr if isinstance(size, torch.SymInt) else size
        axes = [Axis("size", sympy.sympify(expr), tensor, dim)]
    cells = [one if isinstance(one, Cell) else Cell((one,)) for one in ranges]
    if all(axis.is_static for axis in axes):
        sizes = [max(int(axis.size), 0) for axis in axes]
        return graph_modules[cell_of(cells, sizes)]
    plan = plan or _plan(graph_modules, cells, operands, axes, merge)
    return build_cond_tree(
        plan.tree,
        plan.branches,
        TreeContext(operands, outputs or output_values(plan.branches[0]), axes, name),
    )


def _plan(
    winners: Sequence[_WinnerT],
    cells: Sequence[Cell],
    operands: Sequence[Any],
    axes: Sequence[Axis],
    merge: bool | None = None,
) -> DispatchPlan[_WinnerT]:
    """Branches for what can occur by the bounds of the operands' symbols.

    Cells with the same winner share one unless ``merge``, or config, says not to.
    """
    if merge is None:
        merge = not config.test_configs.force_no_impl_grouping
    sizes = [n for x in operands for n in getattr(x, "shape", [x])]
    shape_env = next((n.node.shape_env for n in sizes if is_symbolic(n)), None)
    bounds = [bounds_of(axis.size, shape_env) for axis in axes]
    return plan_dispatch(winners, cells, bounds, merge)


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
    patches = _patches(chosen.choices)
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
