"""What is done to a candidate's graph before it is lowered."""

from __future__ import annotations

import copy
import logging
import operator
from typing import Any, TYPE_CHECKING

import torch
from torch._inductor import config
from torch._inductor.range_dispatch.call.schemas import with_names
from torch._inductor.range_dispatch.call.state import compile_state
from torch._inductor.range_dispatch.registration.base_release import fake_tensor_updater
from torch._inductor.range_dispatch.trace.capturing import quiet
from torch._inductor.virtualized import V
from torch.fx.experimental.symbolic_shapes import (
    _ShapeEnvGuardError,
    statically_known_true,
)
from torch.utils._ordered_set import OrderedSet
from torch.utils._python_dispatch import _disable_current_modes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


log = logging.getLogger(__name__)

# Elements of a constant that tell it apart from most others.
_COMPARED_FIRST = 64


def nodes_within(graph_module: torch.fx.GraphModule) -> Iterator[torch.fx.Node]:
    """The nodes of a graph, and of those nested in it."""
    for module in graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            yield from module.graph.nodes


def name_arguments(graph_module: torch.fx.GraphModule, op: Any) -> None:
    """Let a graph call the op as it is called where there is no graph but itself."""
    for node in graph_module.graph.find_nodes(op="call_function", target=op):
        node.args, node.kwargs = with_names(op, node.args, node.kwargs)
        if "eager_input_vals" in node.meta:  # Lowering compares them one by one.
            node.meta["eager_input_vals"] = with_names(
                op, *node.meta["eager_input_vals"]
            )
    graph_module.recompile()


def ready_to_lower(graph_module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """The graph as Inductor's lowering expects it, and as a branch has to be."""
    graph_module = _as_inductor_expects(graph_module)
    _start_where_memory_does(graph_module.graph)
    graph_module.recompile()
    return graph_module


def _as_inductor_expects(graph_module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """What is done to the graphs that Inductor compiles, before they come to lowering.

    Functionalized mutating ops become a copy and the op on the copy; with freezing,
    what is computed of constants becomes a constant.
    """
    from torch._inductor.constant_folding import constant_fold
    from torch._inductor.fx_passes.post_grad import decompose_auto_functionalized
    from torch._inductor.fx_passes.reinplace import reinplace_inplaceable_ops

    if config.freezing and V.graph.is_inference:
        constant_fold(graph_module)
    # They take a copy for what it copies, so nothing may be written in place yet.
    graph_module = _after_joint_passes(graph_module)
    functional = (
        torch.ops.higher_order.auto_functionalized,
        torch.ops.higher_order.auto_functionalized_v2,
    )
    if any(node.target in functional for node in graph_module.graph.nodes):
        # An op that reads what it writes must get no copy of it where none is due.
        updater = fake_tensor_updater(graph_module)
        with V.fake_mode:
            reinplace_inplaceable_ops(updater, graph_module.graph)
        decompose_auto_functionalized(graph_module.graph)
        graph_module.recompile()
    return graph_module


def _start_where_memory_does(graph: torch.fx.Graph) -> None:
    """Copy outputs that are a later part of a tensor: a branch's may not be."""
    output = graph.output_node()
    outputs: Any = output.args[0]
    owned = []
    for node in outputs:
        value = node.meta["val"]
        if not statically_known_true(value.storage_offset() == 0):
            with graph.inserting_before(output), V.fake_mode:
                node = graph.call_function(torch.ops.aten.clone.default, (node,))
                node.meta["val"] = value.clone()
        owned.append(node)
    output.args = (owned,)


def fold_frozen(
    graph_module: torch.fx.GraphModule, fake_operands: Sequence[Any]
) -> None:
    """Do to a branch what freezing does to a graph: constants are computed of what
    it reads of frozen parameters, such as weights that are packed for a kernel.

    The branches of a compile share those that are equal.
    """
    from torch._inductor.constant_folding import constant_fold
    from torch._inductor.fx_passes import freezing_patterns

    before = OrderedSet(name for name, _ in _constants_of(graph_module))
    try:
        with quiet(), V.graph.sizevars.shape_env.error_on_new_guards():
            freezing_patterns.freezing_passes(graph_module, fake_operands)
    except _ShapeEnvGuardError as error:
        log.info("a branch's fake tensors are not propagated anew: %s", error)
        # What they are needed for, binary folding, is left out.
        freezing_patterns.lazy_init()
        constant_fold(graph_module)
        for pattern_pass in freezing_patterns.pass_patterns:
            pattern_pass.apply(graph_module.graph)
    constant_fold(graph_module)
    for name, constant in _constants_of(graph_module):
        if name not in before:
            setattr(graph_module, name, _shared(constant))


def _constants_of(
    graph_module: torch.fx.GraphModule,
) -> list[tuple[str, torch.Tensor]]:
    targets = [str(n.target) for n in graph_module.graph.find_nodes(op="get_attr")]
    found = [(name, operator.attrgetter(name)(graph_module)) for name in targets]
    return [pair for pair in found if isinstance(pair[1], torch.Tensor)]


def _shared(constant: torch.Tensor) -> torch.Tensor:
    """The tensor that is equal to it and in use already, if there is one.

    Only those are compared as a whole that have some elements in common: a model may
    have hundreds of weights of one shape.
    """

    def dense(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to_dense() if tensor.is_mkldnn else tensor

    with _disable_current_modes(), torch.no_grad():
        values = dense(constant)
        some = values.flatten()[:: values.numel() // _COMPARED_FIRST + 1].tolist()
        layout = values.shape, values.stride(), constant.dtype, constant.device
        key = (constant.layout, *layout, *some)
        alike = compile_state().folded.setdefault(key, [])
        for other in alike:
            if torch.equal(values, dense(other)):
                return other
    alike.append(constant)
    return constant


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
    except _ShapeEnvGuardError as error:
        log.info("joint graph passes are left out for a candidate: %s", error)
    replace_random_passes(graph_module)
    return graph_module
