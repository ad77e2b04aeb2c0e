"""What a run has found: checks, and the steps that they belong to.

All of it is plain data, as it stands in the JSON file.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
NOT_REACHED = "not reached"
OUT_OF_TIME, NOT_RUN, INTERRUPTED = "out of time", "not run", "interrupted"


@dataclass
class Check:
    """One thing that holds or not.

    ``request`` is what a worker is asked, ``words`` why it was skipped or failed, and
    ``answer`` what else came back.
    """

    name: str
    request: Mapping[str, Any]
    status: str = NOT_REACHED
    words: str = ""
    seconds: float = 0.0
    answer: Mapping[str, Any] = field(default_factory=dict)
    details: str = ""


@dataclass
class StepResult:
    """The checks of a step.

    ``ended`` is OUT_OF_TIME, NOT_RUN or INTERRUPTED if it was not made to its end, and
    ``words`` says why. ``notes`` says what it leaves out by itself.
    """

    name: str
    title: str
    checks: Sequence[Check] = ()
    ended: str = ""
    words: str = ""
    seconds: float = 0.0
    notes: Sequence[str] = ()

    @property
    def status(self) -> str:
        """Of the whole step: a failed check is told before those not reached."""
        statuses = Counter(check.status for check in self.checks)
        if statuses[FAILED]:
            return FAILED
        if self.ended:
            return self.ended
        return PASSED if statuses[PASSED] else NOT_RUN

    def counts(self) -> str:
        """How many checks have which status, in words."""
        counted = Counter(check.status for check in self.checks)
        order = (PASSED, FAILED, SKIPPED, NOT_REACHED)
        return ", ".join(f"{counted[one]} {one}" for one in order if counted[one])

    def as_json(self) -> dict[str, Any]:
        """For the JSON file."""
        return {
            **dataclasses.asdict(self),
            "status": self.status,
            "counts": self.counts(),
        }
