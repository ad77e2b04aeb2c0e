"""The time that is left for measuring: plain numbers, no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.timing import MIN_ROUNDS

if TYPE_CHECKING:
    from torch._inductor.range_dispatch.timing import Timings


class Budget:
    """Whether measuring at a size still fits into what is left of some seconds.

    A size is any number that calls take longer with.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        # By size: seconds that measuring took, and those of one call of each candidate.
        self._known: dict[int, tuple[float, float]] = {}

    def allows(self, size: int) -> bool:
        """By what the nearest size took: rounds get no shorter, calls grow with it."""
        if not self._known:
            return self._left > 0
        nearest = min(self._known, key=lambda known: abs(math.log(known / size)))
        whole, calls = self._known[nearest]
        growth = max(size / nearest - 1, 0.0)
        return whole + growth * calls * (MIN_ROUNDS + 1) <= self._left

    def spend(self, size: int, seconds: float, timings: Timings) -> None:
        """Note what measuring a size took."""
        self._left -= seconds
        calls = sum(timing.milliseconds for timing in timings.values()) / 1e3
        self._known[size] = seconds, calls
