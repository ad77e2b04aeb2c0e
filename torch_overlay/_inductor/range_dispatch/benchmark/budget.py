"""The time that is left for measuring: plain numbers, no torch."""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.benchmark.timing import (
    MIN_ROUNDS,
    SECONDS_OF_INTEREST,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch._inductor.range_dispatch.benchmark.timing import Timings


class Budget:
    """Seconds for measuring at several sizes, any numbers that calls take longer with.

    What is measured is put into the dictionary that ``measuring`` gives.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        # By size: seconds that measuring took, and those of one call of each candidate.
        self._known: dict[int, tuple[float, float]] = {}
        self._paused = 0.0
        self._started: float | None = None

    @property
    def left(self) -> float:
        """Seconds, also while a size is measured."""
        return self._left - self._taken()

    @property
    def limit(self) -> float:
        """Seconds after which a size that was begun has to end."""
        return max(self.left, SECONDS_OF_INTEREST)

    def _taken(self) -> float:
        if self._started is None:
            return 0.0
        return time.perf_counter() - self._started - self._paused

    def allows(self, size: int) -> bool:
        """Whether measuring at a size, like the others in full, still fits.

        By what the nearest size took: rounds get no shorter, calls grow with it.
        """
        if not self._known or self.left <= 0:
            return self.left > 0
        nearest = min(self._known, key=lambda known: abs(math.log(known / size)))
        whole, calls = self._known[nearest]
        growth = max(size / nearest - 1, 0.0)
        return whole + growth * calls * (MIN_ROUNDS + 1) <= self.left

    @contextlib.contextmanager
    def spending(self) -> Iterator[None]:
        """Take what the context takes off what is left."""
        self._started, self._paused = time.perf_counter(), 0.0
        try:
            yield
        finally:
            self._left -= self._taken()
            self._started = None

    @contextlib.contextmanager
    def measuring(self, size: int) -> Iterator[Timings]:
        """Note what measuring a size takes, and what is put into the dictionary."""
        before = self._left
        timings: Timings = {}
        try:
            with self.spending():
                yield timings
        finally:
            calls = sum(timing.milliseconds for timing in timings.values()) / 1e3
            self._known[size] = before - self._left, calls

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """For what has to be compiled while a size is measured."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - started
