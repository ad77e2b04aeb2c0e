"""The lowering of a region: dispatched ops with what is fused around them."""

from __future__ import annotations

import contextlib
from typing import Any, TYPE_CHECKING

from torch._inductor import config
from torch._inductor.codegen.subgraph import inline_subgraph_to_ir_nodes
from torch._inductor.exc import LoweringException
from torch._inductor.range_dispatch.call.axes import axes_of
from torch._inductor.range_dispatch.call.binding import UnsupportedArgument
from torch._inductor.range_dispatch.cond.inlining import copied, not_dispatched
from torch._inductor.range_dispatch.lowering.groups import lower_group
from torch._inductor.range_dispatch.lowering.region_groups import (
    RegionGroup,
    why_not_together,
)
from torch._inductor.range_dispatch.region.forming import form_regions, registration_of
from torch._inductor.range_dispatch.region.fused_call import FusedCall
from torch._inductor.range_dispatch.region.inputs import constants_of, RegionInputs
from torch._inductor.range_dispatch.trace.tracing import real_tensors_as_constants
from torch._inductor.range_dispatch.tuning.winners import choose_winners
from torch._inductor.virtualized import V

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.region.regions import Region
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.selection.choices import ChosenCall
    from torch.fx import GraphModule, Node


class _CannotShare(Exception):
    """An op of a region is not lowered with the others; the message says why."""

    def __init__(self, op: Node, reason: str) -> None:
        super().__init__(reason)
        self.op = op


def with_regions(graph_module: GraphModule) -> GraphModule:
    """The graph with dispatched ops and what is fused around them as single nodes.

    Inductor calls this for each graph that it is about to lower.
    """
    return form_regions(graph_module, lower_region)


def lower_region(
    graph_module: GraphModule, region: Region, values: Sequence[Any]
) -> Sequence[Any]:
    """What a region's graph computes of the ``values`` of its placeholders, as IR."""
    node = V.graph.current_node
    placeholders = graph_module.graph.find_nodes(op="placeholder")
    given = dict(zip(placeholders, values, strict=True))
    arguments: Any = dict(zip(placeholders, node.args, strict=True))
    constants = constants_of(region, arguments, given, V.graph.module)
    seen = {part.args[1]: part for part in node.users}
    visible: Any = V.graph.user_visible_output_strides
    strides = [visible.get(seen.get(n)) for n in range(len(region.outputs))]
    with real_tensors_as_constants(), _telling_where(region.ops[0], values):
        try:
            inputs = RegionInputs.of(region, given, constants)
            group = _choose(region, inputs, strides)
        except _CannotShare as refusal:
            return _lower_parts(graph_module, region, values, refusal)
        lowered = lower_group(group)
    if lowered is None:
        raise AssertionError(f"{group.fused} is lowered to nothing")
    return lowered


@contextlib.contextmanager
def _telling_where(op: Node, values: Sequence[Any]) -> Iterator[None]:
    """Let errors say which op is lowered, and which line of the user's called it."""
    try:
        yield
    except LoweringException:
        raise
    except Exception as error:
        stack_trace = op.meta.get("stack_trace")
        raise LoweringException(
            error, op.target, [*values], {}, stack_trace=stack_trace
        ).with_traceback(error.__traceback__) from None


def _choose(
    region: Region, inputs: RegionInputs, strides: Sequence[Sequence[Any] | None]
) -> RegionGroup:
    """Winners for the ops, as a group that can share branches.

    Raises:
        _CannotShare: an op cannot; the first one if it cannot be dispatched at all.
    """
    first, *followers = region.ops
    members = [_choose_for(first, region, inputs)]
    for op in followers:
        chosen = _choose_for(op, region, inputs, members[0])
        if chosen.cells != members[0].cells:
            raise _CannotShare(op, "it is dispatched by other split points")
        members.append(chosen)
    calls = [one.call for one in members]
    fused = FusedCall.of(calls, region, inputs, strides)
    if fused is None:
        raise _CannotShare(region.ops[-1], "no tensor would be left to read")
    group = RegionGroup(tuple(members), fused)
    reason = why_not_together(group) if followers else None
    if reason is not None:
        raise _CannotShare(region.ops[-1], reason)
    return group


def _choose_for(
    op: Node, region: Region, inputs: RegionInputs, first: ChosenCall | None = None
) -> ChosenCall:
    """Choose the winners of an op, which is dispatched as the first one is."""
    registration = registration_of(op)
    if registration is None or registration.dispatch is None:
        raise AssertionError(f"{op} is in a region, and not registered")
    with _turn_of(op):
        try:
            call = inputs.bind(op)
        except UnsupportedArgument as error:
            reason = f"it has an unsupported argument: {error}"
            raise _CannotShare(op, reason) from error
        axes = axes_of(registration.dispatch, call) if call.nodes else None
        if axes is None:
            raise _CannotShare(op, "it has no tensor to dispatch on")
        if first is not None:
            if [axis.simplified().size for axis in axes] != [
                a.size for a in first.axes
            ]:
                raise _CannotShare(op, "it is dispatched on other sizes")
            if registration.cells != first.registration.cells:
                raise _CannotShare(op, "it is dispatched by other split points")
        timed = _to_time(registration, call, region.part_of(op), inputs)
        chosen = choose_winners(registration, call, axes, timed)
    if chosen is None:
        raise _CannotShare(op, "none of its implementations can be used")
    return chosen


def _to_time(
    registration: Registration, call: BoundCall, around: Region, inputs: RegionInputs
) -> FusedCall | None:
    """What to time candidates with, None to time them by themselves.

    An argument that is made by a generator must not be computed instead.
    """
    if not config.range_dispatch.tune_fused or not around.nodes:
        return None
    fused = FusedCall.of([call], around, inputs)
    computed = [n for n in call.nodes if fused and n not in fused.nodes]
    given = [call.position(name) for name in registration.input_gen_fns]
    if any(i is not None and call.nodes[i] in computed for i in given):
        return None
    return fused


@contextlib.contextmanager
def _turn_of(op: Node) -> Iterator[None]:
    """What Inductor's state is while an op of a region is looked at."""
    target: Any = op.target
    with not_dispatched([target]), V.graph.set_current_node(op):
        yield


def _lower_parts(
    graph_module: GraphModule,
    region: Region,
    values: Sequence[Any],
    refusal: _CannotShare,
) -> Sequence[Any]:
    """Lower the region with one op less, which has a region of its own if it can."""
    name = refusal.op.name
    is_first = refusal.op is region.ops[0]
    parts = form_regions(
        graph_module,
        lower_region,
        apart={} if is_first else {name: str(refusal)},
        alone=[name] if is_first else [],
        also_refused=region.refused,
    )
    if parts is graph_module:
        parts = copied(graph_module)
    return inline_subgraph_to_ir_nodes(parts, [*values], name)
