"""What is worth measuring: within the time that is left, and by candidates that are not
too far behind."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.benchmark.timing import (
    FAR_BEHIND,
    MIN_ROUNDS,
    SECONDS_OF_INTEREST,
)
from torch._inductor.range_dispatch.plan.times import SHORTEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch._inductor.range_dispatch.benchmark.contests import Contest
    from torch._inductor.range_dispatch.benchmark.timing import Timings
    from torch._inductor.range_dispatch.call.sizes import SymbolValues
    from torch._inductor.range_dispatch.registration.candidates import Candidate


log = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class _Distance:
    """How many times as long as the best a candidate took at some sizes."""

    values: SymbolValues
    extent: int
    ratio: float
    is_long: bool


def _extent(values: SymbolValues) -> int:
    return math.prod(max(value, 1) for value in values.values())


class Behind:
    """How far behind the candidates of a call were when they were timed."""

    def __init__(self, op: str) -> None:
        self._op = op
        self._distances: dict[Candidate, list[_Distance]] = {}

    def rules_out(self, candidate: Candidate, values: SymbolValues) -> bool:
        """Whether it was too far behind at smaller sizes to be called at these.

        Its curve, of the last two sizes before, may say that it catches up by then.
        """
        below = [
            one
            for one in self._distances.get(candidate, [])
            if all(values.get(s, v) >= v for s, v in one.values.items())
        ]
        if not below:
            return False
        *before, last = sorted(below, key=lambda one: one.extent)
        expected = last.ratio
        if before and before[-1].extent < last.extent:
            growth = math.log(last.extent / before[-1].extent)
            slope = math.log(last.ratio / before[-1].ratio) / growth
            expected *= (_extent(values) / last.extent) ** min(slope, 0.0)
        return last.is_long and expected > FAR_BEHIND

    def note(self, contest: Contest, timings: Timings) -> None:
        """Keep how far behind each candidate is."""
        best = min((one.milliseconds for one in timings.values()), default=0.0)
        values = contest.sample.values
        for candidate, timing in timings.items():
            milliseconds = max(timing.milliseconds, SHORTEST)
            ratio = milliseconds / max(best, SHORTEST)
            is_long = milliseconds > SECONDS_OF_INTEREST * 1e3
            known = self._distances.setdefault(candidate, [])
            known[:] = [one for one in known if one.values != values]
            known.append(_Distance(values, _extent(values), ratio, is_long))
            if is_long and ratio > FAR_BEHIND:
                log.info(
                    "%s: %s took %.0f times as long as the best at %s, and is not "
                    "timed at larger sizes unless it catches up",
                    self._op,
                    candidate,
                    ratio,
                    contest.describe(),
                )
