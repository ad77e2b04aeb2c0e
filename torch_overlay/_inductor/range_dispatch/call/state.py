"""What the engine remembers while a graph is compiled, and forgets with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TYPE_CHECKING

from torch._inductor.virtualized import V
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from torch._inductor.graph import GraphLowering


@dataclass
class CompileState:
    """State of the compile of one graph, with those nested in it.

    ``chosen`` has the choices for calls that are alike, by what tells them apart.
    ``agreed`` are the winners that ranks agreed on and ``calls`` the dispatched calls,
    both to be kept with the compiled graph. ``packaged`` are the ops that were warned
    of, as a package needs them. ``folded`` are constants that were computed of frozen
    parameters, by what equal ones have in common.
    """

    chosen: dict[Any, Any] = field(default_factory=dict)
    agreed: list[Any] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)
    packaged: OrderedSet[Any] = field(default_factory=OrderedSet)
    folded: dict[Any, list[Any]] = field(default_factory=dict)


def compile_state() -> CompileState:
    """The state of what is being compiled."""
    return state_of(root_graph())


def state_of(graph: GraphLowering) -> CompileState:
    """The state that a root graph holds."""
    return vars(graph).setdefault("range_dispatch_state", CompileState())


def root_graph() -> GraphLowering:
    """The graph that is compiled: what is being lowered, or what that is nested in."""
    graph = V.graph
    while (parent := getattr(graph, "parent", None)) is not None:
        graph = parent
    return graph


def share_choices(graph: GraphLowering) -> None:
    """Let a graph that is compiled to be timed make the choices of the one that it is
    compiled for."""
    state_of(graph).chosen = compile_state().chosen
