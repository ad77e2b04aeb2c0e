"""What generated code and IR look like, which differs between releases of PyTorch.

From v2.14 on torch.cond is lowered to ``ir.Switch``, with its branches as they are
numbered: the one for False first.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING
from unittest import mock

import torch
from torch._inductor import ir
from torch._inductor.codegen import wrapper
from torch._inductor.codegen.wrapper_fxir import FxConverter
from torch._inductor.scheduler import (
    BaseSchedulerNode,
    ForeachKernelSchedulerNode,
    Scheduler,
)
from torch._inductor.utils import run_and_get_code
from torch.fx import GraphModule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

HAS_SWITCH: bool = hasattr(ir, "Switch")
COND_NODE: Any = getattr(ir, "Switch" if HAS_SWITCH else "Conditional")
COND_LINE: Any = getattr(wrapper, "SwitchLine" if HAS_SWITCH else "ConditionalLine")
CONVERT_COND: str = "_generate_switch" if HAS_SWITCH else "_generate_conditional"
assert hasattr(FxConverter, CONVERT_COND)
DECISION: str = r"(?:if |int\()s\d+"
"""A regular expression: how a decision by a size starts in the Python wrapper."""


CANDIDATE: str = "benchmark_candidate"
"""What names start with in the code of a candidate that is timed."""


def run_and_get_graph_code(function: Callable[..., Any], *args: Any) -> tuple[Any, str]:
    """The result of a compiled function, and the code of the only graph in it.

    The code of candidates that were timed for it comes before it.
    """
    result, codes = run_and_get_code(function, *args)
    *timed, code = codes
    assert all(CANDIDATE in one for one in timed), "there are several graphs"
    assert CANDIDATE not in code, "there is no graph"
    return result, code


def count_conds(graph_module: GraphModule) -> int:
    """Number of cond nodes in a graph and all its branches."""
    return sum(
        node.target is torch.ops.higher_order.cond
        for module in graph_module.modules()
        if isinstance(module, GraphModule)
        for node in module.graph.nodes
    )


def asserted_names(code: str) -> list[str]:
    """The variables whose layouts code of the Python wrapper asserts, as they come."""
    one, several = (
        r"assert_size_stride\((\w+),",
        r"assert_size_stride_grouped\(\((.+?)\)",
    )
    grouped = ", ".join(re.findall(several, code))
    return re.findall(one, code) + re.findall(r"\w+", grouped)


def in_order_of_code(for_true: Any, for_false: Any) -> list[Any]:
    """Something of both branches, that whose code comes first before the other."""
    return [for_false, for_true] if HAS_SWITCH else [for_true, for_false]


def example_arguments(
    module: Any, sizes: Mapping[int, int], tensors: Iterable[Any]
) -> list[Any]:
    """What the ``call`` of a generated module takes, in its order.

    ``sizes`` has the size to pass in place of each of the example's; ``tensors`` are
    told apart by their sizes.
    """
    remaining = [*tensors]

    def given(example: Any) -> Any:
        if isinstance(example, int):
            return sizes[example]
        wanted = [sizes[size] for size in example.shape]
        found = [[*tensor.shape] == wanted for tensor in remaining]
        return remaining.pop(found.index(True))

    return [given(example) for example in module.get_args()]


def branches_in_ir(cond: Any) -> tuple[Any, Any]:
    """The subgraphs of a cond's IR node for True and for False."""
    if HAS_SWITCH:
        for_false, for_true = cond.branches
        return for_true, for_false
    return cond.true_subgraph, cond.false_subgraph


@dataclass
class Generated:
    """The code of all graphs of a compile, and what was compiled."""

    sources: list[str]
    function: Callable[..., Any]

    @property
    def source(self) -> str:
        return "\n".join(self.sources)


def kernel_sources(compiled: Generated) -> dict[str, str]:
    """The source of each kernel in the generated code, by its name."""
    pattern = r"^(\w+) = async_compile\.\w+\(.*?'''(.*?)'''"
    return dict(re.findall(pattern, compiled.source, re.MULTILINE | re.DOTALL))


def branch_bodies(compiled: Generated) -> dict[str, str]:
    """The generated function of each branch, by its name."""
    pattern = r"^def (\w+_branch_\d+)\(args\):\n(.*?)^\S"
    return dict(re.findall(pattern, compiled.source, re.MULTILINE | re.DOTALL))


def called_in(body: str, compiled: Generated) -> list[str]:
    """The kernels that a piece of wrapper code calls."""
    called = re.findall(r"\b(\w+?)(?:\.run)?\(", body)
    return [name for name in called if name in kernel_sources(compiled)]


@contextlib.contextmanager
def combining_on_cpu() -> Iterator[None]:
    """Inductor combines no kernels of a CPU, which stands in for a GPU here."""

    def independent(scheduler: Scheduler) -> list[list[BaseSchedulerNode]]:
        return scheduler._topological_sort_nodes()

    with mock.patch.object(
        ForeachKernelSchedulerNode,
        "group_algorithm_for_combo_kernels",
        staticmethod(independent),
    ):
        yield


def combined_kernels(compiled: Generated) -> set[str]:
    sources = kernel_sources(compiled)
    return {name for name in sources if "combo_grid_meta" in sources[name]}
