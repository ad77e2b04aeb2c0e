"""The errors that end a command, each with its exit status."""

from __future__ import annotations


class OverlayError(Exception):
    """Ends a command; the message names the path and says what to do."""

    exit_code = 1


class Refused(OverlayError):
    """What was asked does not fit: an edit, a wrong blob, a bad patch, ..."""


class EnvironmentFailure(OverlayError):
    """The machine does not let us: no git, no space, no permission, damage."""

    exit_code = 3
