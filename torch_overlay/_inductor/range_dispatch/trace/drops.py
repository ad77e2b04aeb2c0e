"""Candidates that a call cannot use: which, for which sizes, why, and what to do."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.plan.ranges import Cell
    from torch._inductor.range_dispatch.registration.candidates import Candidate


log = logging.getLogger(__name__)


class CandidateRejected(Exception):
    """A candidate cannot stand in for the op: why, and what can be done."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}" if remedy else reason)


class AddsGuards(CandidateRejected):
    """A candidate is valid for some sizes only, which its range does not decide."""


def as_rejection(error: Exception) -> CandidateRejected:
    """An error of tracing as the reason why a candidate is dropped."""
    if isinstance(error, CandidateRejected):
        return error
    lines = str(error).strip().splitlines() or [""]
    return CandidateRejected(
        f"{type(error).__name__}: {lines[0]}",
        "see that torch.compile(fullgraph=True, dynamic=True) takes it by itself",
    )


@dataclass(frozen=True)
class Dropped:
    """A candidate that cannot be used for ``ranges``, all of them if there are none.

    ``reason`` tells why and what can be done.
    """

    candidate: str
    ranges: tuple[str, ...]
    reason: str

    @property
    def where(self) -> str:
        """The sizes for people."""
        return ", ".join(self.ranges) if self.ranges else "all sizes"

    def concerns(self, cell: Cell) -> bool:
        """Whether it cannot be used for a cell."""
        return not self.ranges or str(cell) in self.ranges

    def __str__(self) -> str:
        return f"{self.candidate} for {self.where}: {self.reason}"


class Drops:
    """Collects what is dropped while the winners of one call are chosen."""

    def __init__(self, call: BoundCall) -> None:
        self._call = call
        self._ranges: dict[tuple[Candidate, str], list[Cell]] = {}

    def add(self, candidate: Candidate, cell: Cell | None, reason: Exception) -> None:
        """Without a cell it is dropped for all."""
        text = " ".join((str(reason) or repr(reason)).split())
        cells = self._ranges.setdefault((candidate, text), [])
        if cell is not None and cell not in cells:
            cells.append(cell)

    def of(self, candidate: Candidate) -> list[Dropped]:
        """Why a candidate cannot be used, if it cannot."""
        return [
            Dropped(one.name, tuple(map(str, cells)), reason)
            for (one, reason), cells in self._ranges.items()
            if one is candidate
        ]

    def _by_candidate(self) -> dict[Candidate, list[Dropped]]:
        return {candidate: self.of(candidate) for candidate, _ in self._ranges}

    def listed(self) -> tuple[Dropped, ...]:
        """All of them, candidate by candidate."""
        return tuple(one for own in self._by_candidate().values() for one in own)

    def warn(self) -> None:
        """One warning a candidate, once for each distinct case."""
        for candidate, own in self._by_candidate().items():
            cases = ". For ".join(f"{one.where}: {one.reason}" for one in own)
            _warn_once(str(self._call.op), candidate.name, cases)


@functools.cache
def _warn_once(op: str, candidate: str, cases: str) -> None:
    log.warning("%s: dropped candidate %s for %s", op, candidate, cases)
