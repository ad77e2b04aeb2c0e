"""Which candidates are too slow to be called at larger sizes."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.benchmark.timing import (
    FAR_BEHIND,
    SECONDS_OF_INTEREST,
    Timings,
)
from torch._inductor.range_dispatch.plan.times import SHORTEST

if TYPE_CHECKING:
    from torch._inductor.range_dispatch.benchmark.contests import Contest
    from torch._inductor.range_dispatch.call.sizes import SymbolValues
    from torch._inductor.range_dispatch.registration.candidates import Candidate


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Distance:
    """How many times as long as the best a candidate took at some sizes."""

    values: SymbolValues
    ratio: float
    is_long: bool

    @property
    def extent(self) -> int:
        return _extent(self.values)

    def is_below(self, values: SymbolValues) -> bool:
        """Whether no size here is larger."""
        return all(values.get(s, v) >= v for s, v in self.values.items())


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
        known = self._distances.get(candidate, [])
        below = [one for one in known if one.is_below(values)]
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
        best = min((time.milliseconds for time in timings.values()), default=0.0)
        values = contest.sample.values
        for candidate, time in timings.items():
            milliseconds = max(time.milliseconds, SHORTEST)
            ratio = milliseconds / max(best, SHORTEST)
            is_long = milliseconds > SECONDS_OF_INTEREST * 1e3
            known = self._distances.setdefault(candidate, [])
            known[:] = [one for one in known if one.values != values]
            known.append(_Distance(values, ratio, is_long))
            if is_long and ratio > FAR_BEHIND:
                log.info(
                    "%s: %s took %.0f times as long as the best at %s, and is not "
                    "timed at larger sizes unless it catches up",
                    self._op,
                    candidate,
                    ratio,
                    contest.describe(),
                )
