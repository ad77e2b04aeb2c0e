"""What the benchmark has to know of an operator."""

from __future__ import annotations

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


def half_octaves(first: int, last: int) -> list[int]:
    """Powers of two from ``first``, and between each two of them the middle."""
    points = [first]
    while points[-1] * 2 <= last:
        points += [points[-1] + points[-1] // 2, points[-1] * 2]
    return points


def middles(points: Sequence[int]) -> list[int]:
    """The sizes half way between neighbouring points.

    For a sweep over sizes that no range is tuned at, if the points are those between
    ranges: a range is tuned at its end.
    """
    return [(one + other) // 2 for one, other in zip(points, points[1:])]
