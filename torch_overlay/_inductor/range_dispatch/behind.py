"""Which candidates are too slow to be called at larger sizes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.timing import (
    FAR_BEHIND,
    SECONDS_THAT_MATTER,
    SHORTEST,
    Timings,
)

if TYPE_CHECKING:
    from torch._inductor.range_dispatch.candidates import Candidate
    from torch._inductor.range_dispatch.contests import Contest
    from torch._inductor.range_dispatch.sizes import SymbolValues


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Distance:
    """At which sizes a candidate took how many times as long as the best, whether that
    matters, and whether it was more at the sizes before."""

    values: SymbolValues
    ratio: float
    matters: bool
    catches_up: bool

    def rules_out(self, values: SymbolValues) -> bool:
        """Whether it need not be called for sizes, none of which is smaller."""
        if not self.matters or self.catches_up or self.ratio <= FAR_BEHIND:
            return False
        return all(values.get(s, v) >= v for s, v in self.values.items())


class Behind:
    """How far behind each candidate of a call was when it was last timed."""

    def __init__(self, op: str) -> None:
        self._op = op
        self._distances: dict[Candidate, _Distance] = {}

    def rules_out(self, candidate: Candidate, values: SymbolValues) -> bool:
        """Whether it was too far behind at smaller sizes to be called at these."""
        distance = self._distances.get(candidate)
        return distance is not None and distance.rules_out(values)

    def note(self, contest: Contest, timings: Timings) -> None:
        """Keep who is so far behind that it is called no more at larger sizes."""
        best = min((time.milliseconds for time in timings.values()), default=0.0)
        for candidate, time in timings.items():
            ratio = time.milliseconds / max(best, SHORTEST)
            before = self._distances.get(candidate)
            found = self._distances[candidate] = _Distance(
                contest.sample.values,
                ratio,
                time.milliseconds > SECONDS_THAT_MATTER * 1e3,
                before is not None and ratio < before.ratio,
            )
            if found.rules_out(found.values):
                log.info(
                    "%s: %s took %.0f times as long as the best at %s, and is not "
                    "timed at larger sizes",
                    self._op,
                    candidate,
                    ratio,
                    contest.describe(),
                )
