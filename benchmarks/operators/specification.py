"""What the benchmark has to know of an operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch._library.custom_ops import CustomOpDef

Implementation: TypeAlias = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class RealOperator:
    """An operator with several implementations that each are best at some sizes.

    ``call`` does nothing but call ``op``. It stands in the operator's own file because
    torch.compile keeps what it compiled with the code object. ``eager`` is the
    implementation that ``op`` runs when it is not compiled, and a candidate as such.

    ``sizes`` are those of dimension ``dim`` of the argument ``tensor_name``; ``unit``
    says what they count. Everything is compiled at ``first_size`` with all dimensions
    that are as long dynamic; no dimension may be so by chance. The last, open range is
    tuned at ``open_size``.
    """

    name: str
    title: str
    unit: str
    op: CustomOpDef
    call: Implementation
    implementations: Sequence[Implementation]
    eager: Implementation
    tensor_name: str
    dim: int
    split_points: Sequence[int]
    open_size: int
    sizes: Sequence[int]
    first_size: int
    make_inputs: Callable[[int], tuple[torch.Tensor, ...]]
    relative_tolerance: float = 1e-4
    absolute_tolerance: float = 1e-4

    def make_first_inputs(self) -> tuple[torch.Tensor, ...]:
        """What to compile with: only the dispatched size is marked as dynamic."""
        inputs = self.make_inputs(self.first_size)
        for tensor in inputs:
            for dim, size in enumerate(tensor.shape):
                if size == self.first_size:
                    torch._dynamo.mark_dynamic(tensor, dim)
        return inputs

    def first_difference(
        self, output: torch.Tensor, expected: torch.Tensor
    ) -> str | None:
        """Why the output is not the expected one, None if it is."""
        try:
            torch.testing.assert_close(
                output,
                expected,
                rtol=self.relative_tolerance,
                atol=self.absolute_tolerance,
            )
        except AssertionError as difference:
            return str(difference)
        return None


def geometric(first: int, last: int, by_octave: int) -> list[int]:
    """Whole numbers from ``first`` to ``last``, so many each time the size doubles.

    Neighbours that round to the same number are one.
    """
    count = round(math.log2(last / first) * by_octave)
    steps = (first * 2 ** (step / by_octave) for step in range(count + 1))
    return sorted({round(size) for size in steps})


def fine_split_points(first: int, last: int) -> list[int]:
    """Eight ranges an octave: a range costs next to nothing, as times are shared by
    all and neighbours with one winner are one branch."""
    return geometric(first, last, by_octave=8)


def sweep_sizes(first: int, last: int) -> list[int]:
    """Two sizes an octave, half way between powers of two and their middles."""
    points = geometric(first, last, by_octave=2)
    return [(one + other) // 2 for one, other in zip(points, points[1:])]
