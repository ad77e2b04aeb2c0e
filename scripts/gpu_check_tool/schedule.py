"""The time that is left: of all, of a step, of a check."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class OutOfTime(Exception):
    """A step's part of the time is up."""


class Schedule:
    """When each step has to be done, in seconds from now on.

    ``shares`` says how much of ``seconds`` each step gets, relative to the others, in
    the order in which they run. What a step does not use is the next ones'.
    """

    def __init__(
        self,
        seconds: float,
        shares: Mapping[str, float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._started = clock()
        self._ends: dict[str, float] = {}
        so_far = 0.0
        for name, share in shares.items():
            so_far += share
            self._ends[name] = seconds * so_far / sum(shares.values())

    def elapsed(self) -> float:
        """Seconds since the schedule was made."""
        return self._clock() - self._started

    def left(self, step: str) -> float:
        """Seconds until this step has to be done; OutOfTime if there are none."""
        seconds = self._ends[step] - self.elapsed()
        if seconds <= 0:
            raise OutOfTime(step)
        return seconds
