"""How a command ends: with a report, or with an error that has an exit status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


class OverlayError(Exception):
    """Ends a command; the message names the path and says what to do."""

    exit_code = 1


class Refused(OverlayError):
    """What was asked does not fit: an edit, a wrong blob, a bad patch, ..."""


class EnvironmentFailure(OverlayError):
    """The machine does not let us: no git, no space, no permission, damage."""

    exit_code = 3


@dataclass(frozen=True)
class Report:
    """What a command has to say: one line, more lines, and the same as data."""

    summary: str
    exit_code: int = 0
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)
