"""What a command answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Report:
    """What a command has to say: one line, more lines, and the same as data."""

    summary: str
    exit_code: int = 0
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)
