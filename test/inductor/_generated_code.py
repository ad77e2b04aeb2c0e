"""What generated code and IR look like, which differs between releases of PyTorch.

From v2.14 on torch.cond is lowered to ``ir.Switch``, with its branches as they are
numbered: the one for False first.
"""

from __future__ import annotations

import re
from typing import Any, TYPE_CHECKING

from torch._inductor import ir
from torch._inductor.codegen import wrapper
from torch._inductor.codegen.wrapper_fxir import FxConverter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HAS_SWITCH: bool = hasattr(ir, "Switch")
COND_NODE: Any = getattr(ir, "Switch" if HAS_SWITCH else "Conditional")
COND_LINE: Any = getattr(wrapper, "SwitchLine" if HAS_SWITCH else "ConditionalLine")
CONVERT_COND: str = "_generate_switch" if HAS_SWITCH else "_generate_conditional"
assert hasattr(FxConverter, CONVERT_COND)
DECISION: str = r"(?:if |int\()s\d+"
"""A regular expression: how a decision by a size starts in the Python wrapper."""


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
