"""Dispatched calls together with what is fused around them.

The branches' graphs are over the operands of the whole: what the region reads, then
symbols.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import operator
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

import torch
import torch.utils._pytree as pytree
from torch._inductor.range_dispatch.call.binding import (
    BoundCall,
    Operands,
    symbol_operands,
)
from torch._inductor.range_dispatch.call.inputs import make_inputs, random_tensor
from torch._inductor.range_dispatch.call.size_nodes import add_size
from torch._inductor.range_dispatch.call.sizes import concrete, SymbolValues
from torch._inductor.range_dispatch.region.inputs import argument_leaves, RegionInputs
from torch._inductor.range_dispatch.region.node_kinds import kind_of, NodeKind
from torch._inductor.range_dispatch.trace.graph_passes import fold_frozen
from torch._inductor.virtualized import V
from torch.fx import Graph, GraphModule, map_arg, Node
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils._mode_utils import no_dispatch
from torch.utils._ordered_set import OrderedSet
from torch.utils._python_dispatch import _disable_current_modes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sympy

    from torch._inductor import ir

    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.region.regions import Region
    from torch._inductor.range_dispatch.registration.spec import InputGenerators


@dataclass(frozen=True)
class FusedCall(Operands):
    """``calls`` of the region's ops, and the ``region`` around them.

    ``nodes`` are IR nodes, each once, and ``positions`` which of them the region's
    inputs are, but for ``constants``, which branches hold. ``sources`` are the nodes
    that the calls' tensors come from, inputs of the region or computed by it.
    ``strides`` are those that users see of an output, where they do.
    """

    calls: dict[Node, BoundCall]
    region: Region
    nodes: tuple[ir.IRNode, ...]
    symbols: tuple[sympy.Symbol, ...]
    positions: dict[Node, int]
    constants: dict[Node, torch.Tensor]
    sources: dict[Node, tuple[Node, ...]]
    strides: Sequence[Sequence[Any] | None]

    @classmethod
    def of(
        cls,
        calls: Sequence[BoundCall],
        region: Region,
        known: RegionInputs,
        strides: Sequence[Sequence[Any] | None] = (),
    ) -> FusedCall | None:
        """None if the region reads no tensor.

        What the ``known`` inputs do not have, results of other ops, is stood in for.
        """
        by_op = dict(zip(region.ops, calls, strict=True))
        nodes: list[ir.IRNode] = []
        positions: dict[Node, int] = {}
        for one in region.inputs:
            if one in known.constants:
                continue
            node = known.nodes.get(one) or known.stand_in(one)
            same = [n for n, other in enumerate(nodes) if other is node]
            positions[one] = same[0] if same else len(nodes)
            if not same:
                nodes.append(node)
        if not nodes:
            return None
        exprs = _sizes_read(region)
        for call in calls:
            exprs += call.symbols
            for node in call.nodes:
                exprs += [*node.get_size(), *node.get_stride()]
        # Sizes that depend on data are read off the operands if they can be.
        sizes = OrderedSet(d for node in nodes for d in node.get_size())
        read = OrderedSet(d for d in sizes if d in free_unbacked_symbols(d))
        wanted = OrderedSet(
            s
            for e in exprs
            for s in sorted(getattr(e, "free_symbols", ()), key=str)
            if s not in read
        )
        return cls(
            by_op,
            region,
            tuple(nodes),
            symbol_operands(nodes, [*wanted]),
            positions,
            {n: c for n, c in known.constants.items() if n in region.inputs},
            {op: _sources(call, op) for op, call in by_op.items()},
            strides or [None for _ in region.outputs],
        )

    @property
    def first(self) -> BoundCall:
        """The call of the op that is lowered."""
        return self.calls[self.region.ops[0]]

    @property
    def op(self) -> torch._ops.OpOverload:
        """The first op that is called."""
        return self.first.op

    @functools.cached_property
    def digest(self) -> str:
        """The same for calls with equal surroundings, whose branches may be shared."""
        layouts = [
            (n.get_size(), n.get_stride(), n.get_dtype(), n.get_device())
            for n in self.nodes
        ]
        expected = [
            (tuple(one.shape), one.stride(), one.dtype) for one in self.fake_outputs()
        ]
        own = [
            [self.positions.get(source) for source in sources]
            for sources in self.sources.values()
        ]
        description = [
            *[layouts, self.symbols, own, expected],
            describe_region(self.region, self._names_of_inputs()),
            # Frozen parameters are named by their places in it.
            V.graph.name,
        ]
        return hashlib.sha256(str(description).encode()).hexdigest()[:12]

    def _names_of_inputs(self) -> dict[Node, str]:
        """The same for what is equal, whatever the graph calls it."""
        names = {one: f"operand_{n}" for one, n in self.positions.items()}
        with no_dispatch():
            for one, value in self.constants.items():
                names[one] = f"{value.tolist()} {value.dtype} {value.device}"
        return names

    def fake_outputs(self) -> list[torch.Tensor]:
        """What the graph expects of the region's outputs: sizes, strides, dtypes."""
        with V.fake_mode:
            return [
                torch.empty_strided(
                    value.shape,
                    strides or value.stride(),
                    dtype=value.dtype,
                    device=value.device,
                )
                for node, strides in zip(self.region.outputs, self.strides)
                for value in [node.meta["val"]]
            ]

    def make_inputs(
        self, values: SymbolValues, generators: InputGenerators
    ) -> list[Any]:
        """Real operands to time with; those of the op as without a region."""
        own = make_inputs(self.first, values, generators, wanted=self.nodes)
        known = dict(zip(map(id, self.first.nodes), own))
        with _disable_current_modes(), torch.no_grad():
            tensors = [
                known[id(node)]
                if id(node) in known
                else random_tensor(node, values, len(own) + number)
                for number, node in enumerate(self.nodes)
            ]
        return [*tensors, *(concrete(symbol, values) for symbol in self.symbols)]

    def moved(self, axis: Axis) -> Axis:
        """An axis of the first call, read off the operands of the whole."""
        if axis.operand is None:
            return axis
        source = self.sources[self.region.ops[0]][axis.operand]
        position = self.positions.get(source)
        dim = None if position is None else axis.dim
        return dataclasses.replace(axis, operand=position, dim=dim)

    def compose(self, graph_modules: Sequence[GraphModule]) -> GraphModule:
        """A candidate's graph for each call, with the region's nodes around them."""
        graph = Graph()
        placeholders = []
        for index, value in enumerate(self.fake_operands()):
            placeholders.append(graph.placeholder(f"arg{index}_1"))
            placeholders[-1].meta["val"] = value
        # Tools tell by names which nodes of the graph a kernel is from.
        for node in self.region.nodes:
            graph._graph_namespace.create_name(node.name, None)
        attributes: dict[str, Any] = {}
        sizes: dict[Node, Any] = {}
        made = {one: placeholders[n] for one, n in self.positions.items()}
        for one, constant in self.constants.items():
            name = f"constant_{len(attributes)}"
            attributes[name] = constant
            made[one] = graph.create_node("get_attr", name)
            made[one].meta = {**one.meta}

        def size(expr: Any) -> Any:
            value = getattr(getattr(expr, "node", expr), "expr", expr)
            value = V.graph.sizevars.shape_env.replace(value)
            if not getattr(value, "free_symbols", ()):
                return int(value)
            return add_size(graph, value, placeholders)

        def copy(node: Node) -> None:
            if node.op == "get_attr":
                # A cached graph looks for it by this name.
                target: Any = node.target
                attributes[target] = operator.attrgetter(target)(
                    node.graph.owning_module
                )
            for one in node.all_input_nodes:
                if one not in made:
                    sizes[one] = size(one.meta["val"])
            made[node] = graph.node_copy(node, lambda n: made.get(n) or sizes[n])
            if node.op == "call_function":
                made[node].name = node.name

        def inline(op: Node, graph_module: GraphModule) -> None:
            own = graph_module.graph.find_nodes(op="placeholder")
            tensors = [made[source] for source in self.sources[op]]
            symbols = [size(symbol) for symbol in self.calls[op].symbols]
            inner = dict(zip(own, [*tensors, *symbols], strict=True))
            results: Any = graph.graph_copy(graph_module.graph, inner)
            for node, copied in inner.items():
                if node.op != "placeholder":
                    copied.name = f"{op.name}_{node.name}"
            for node in graph_module.graph.find_nodes(op="get_attr"):
                # Tracing gives the same names to what different graphs close over.
                name = f"{node.target}_{len(attributes)}".replace(".", "_")
                attributes[name] = operator.attrgetter(node.target)(graph_module)
                inner[node].target = name
            for node, index in _parts_of_result(op).items():
                made[node] = results[index]

        of_ops = dict(zip(self.calls, graph_modules, strict=True))
        for node in self.region.order:
            if node in of_ops:
                inline(node, of_ops[node])
            elif node not in made:
                copy(node)
        graph.output(tuple(made[node] for node in self.region.outputs))
        graph.eliminate_dead_code()
        composed = GraphModule(attributes, graph, class_name="FusedCandidate")
        if any(kind_of(node) is NodeKind.CONSTANT for node in self.region.nodes):
            fold_frozen(composed, self.fake_operands())
        outputs: Any = composed.graph.output_node().args[0]
        for output, expected in zip(outputs, self.fake_outputs(), strict=True):
            if tuple(output.meta["val"].stride()) != tuple(expected.stride()):
                output.meta["val"] = expected
        return composed


def describe_region(region: Region, names_of_inputs: dict[Node, str]) -> str:
    """What the nodes of a region compute, in words that do not name them."""
    names = {**names_of_inputs}
    lines = []
    for number, op in enumerate(region.ops):
        for node, index in _parts_of_result(op).items():
            names[node] = f"result_{number}_{index}"
    for node in region.order:
        names.setdefault(node, f"node_{len(names)}")

    def named(one: Node) -> str:
        return names.get(one) or str(one.meta["val"])

    for node in region.order:
        args, kwargs = map_arg((node.args, node.kwargs), named)
        values = [
            (value.dtype, tuple(value.shape))
            for value in pytree.tree_leaves(node.meta["val"])
        ]
        lines.append(f"{names[node]} = {node.target} {args} {kwargs} {values}")
    lines.append(str([names[node] for node in region.outputs]))
    return "\n".join(lines)


def _sources(call: BoundCall, op: Node) -> tuple[Node, ...]:
    """The node in the graph that each tensor operand of the call comes from."""
    found: dict[int, Node] = {}
    for leaf, index in zip(argument_leaves(op), call.operand_of_leaves(), strict=True):
        if index is not None:
            found.setdefault(index, leaf)
    return tuple(found[index] for index in range(len(call.nodes)))


def _sizes_read(region: Region) -> list[Any]:
    """The expressions of sizes that nodes of the region get as arguments."""
    values = [
        argument.meta["val"]
        for node in region.nodes
        for argument in node.all_input_nodes
        if kind_of(argument) == NodeKind.SIZE
    ]
    return [v.node.expr for v in values if isinstance(v, torch.SymInt)]


def _parts_of_result(op: Node) -> dict[Node, Any]:
    """The op, or the parts of the tuple that it returns, with their places in it."""
    if isinstance(op.meta["val"], (tuple, list)):
        return {part: part.args[1] for part in op.users}
    return {op: 0}
