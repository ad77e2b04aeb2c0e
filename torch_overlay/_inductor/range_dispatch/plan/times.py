"""How long something took, and by how much that may be off."""

from __future__ import annotations

from dataclasses import dataclass


# Milliseconds that a call takes at least; a coarse clock may show none.
SHORTEST = 1e-9


@dataclass(frozen=True)
class Timing:
    """Milliseconds of the median round, and by how much that may be off.

    It may be off by more if it is ``disturbed``: other programs kept the processors
    busy.
    """

    milliseconds: float
    noise: float = 0.0
    disturbed: bool = False
