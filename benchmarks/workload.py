"""What both benchmarks compile: split points, sizes, implementations and the op.

A range is two sizes wide, so that the inputs of 256 branches are all small, but no
range pins its size to one value. The implementations do as little as can be told
apart, so that the dispatch shows. torch is imported only where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import torch

Implementation: TypeAlias = "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]"

FIRST_SIZE = 64
RANGE_WIDTH = 2
OP_NAME = "range_dispatch_benchmark::shift"


def split_points(branches: int) -> list[int]:
    """The last size of each range but the open one."""
    return [size_for(branch) for branch in range(branches - 1)]


def size_for(branch: int) -> int:
    """A size at which this branch runs: the last of its range."""
    return FIRST_SIZE + RANGE_WIDTH * branch


def positions(branches: int) -> dict[str, int]:
    """The branches that are timed, by where they stand."""
    found = {"first": 0, "middle": branches // 2, "last": branches - 1}
    if branches < 3:
        del found["middle"]
    if branches < 2:
        del found["last"]
    return found


def define(source: str, name: str, names: Mapping[str, Any]) -> Callable[..., Any]:
    """The function that the source defines.

    torch.compile keeps what it compiled with the code object, so that functions that
    are compiled apart need a code object each; closures of one function share one.
    """
    namespace = dict(names)
    exec(compile(source, f"<benchmark {name}>", "exec"), namespace)
    return namespace[name]


def make_implementation(branch: int) -> Implementation:
    """Multiplies, and adds the branch's number: that tells which one ran."""
    name = f"implementation_{branch}"
    return define(
        f"def {name}(x, weight):\n    return x * weight + {float(branch)}\n", name, {}
    )


def make_inputs(rows: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``x`` of [rows, size] and ``weight`` of [rows, 1].

    Only ``x`` has the size that decides: the base resizes no other tensor to tune.
    """
    import torch

    generator = torch.Generator().manual_seed(size)
    return (
        torch.randn(rows, size, generator=generator),
        torch.randn(rows, 1, generator=generator),
    )


def branch_that_ran(
    output: torch.Tensor, x: torch.Tensor, weight: torch.Tensor
) -> float:
    """The number that an implementation added; nan if it is not the same all over."""
    added = output - x * weight
    number = added.mean().round().item()
    return number if bool((added - number).abs().max() < 1e-3) else float("nan")


def define_op(implementation: Implementation) -> Any:
    """The custom op whose own implementation is the one given."""
    import torch

    def shift(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return implementation(x, weight)

    # Annotations of this file are strings, which the schema is not inferred from.
    shift.__annotations__ = dict.fromkeys(("x", "weight", "return"), torch.Tensor)
    op = torch.library.custom_op(OP_NAME, shift, mutates_args=())
    op.register_fake(lambda x, weight: torch.empty_like(x))
    return op


def call_site(callee: Callable[..., Any]) -> Implementation:
    """A function that does nothing but call, with a code object of its own.

    What is compiled has the same shape then, be it an op or an implementation.
    """
    return define(
        "def call(x, weight):\n    return callee(x, weight)\n",
        "call",
        {"callee": callee},
    )


def if_chain(callees: Iterable[Callable[..., Any]]) -> Implementation:
    """``if size <= 64: return callee_0(x, weight)``, and so on for each range."""
    names = {f"callee_{branch}": callee for branch, callee in enumerate(callees)}
    lines = ["def chain(x, weight):", "    size = x.shape[1]"]
    for branch, point in enumerate(split_points(len(names))):
        lines.append(f"    if size <= {point}:")
        lines.append(f"        return callee_{branch}(x, weight)")
    lines.append(f"    return callee_{len(names) - 1}(x, weight)")
    return define("\n".join(lines) + "\n", "chain", names)
