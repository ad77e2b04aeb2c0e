"""Names what made a compile fail, beneath what torch wraps around it."""

from __future__ import annotations

import re
import traceback
from typing import Any

WRAPPED = re.compile(r"^(?:[\w.]*\.)?(\w+(?:Error|Exception|Exceeded)): ")


PATH = re.compile(r"(?:/[\w.+-]+)+/([\w.+-]+)")


def failure(error: str, message: str = "", details: str = "") -> dict[str, Any]:
    """The answer that says what went wrong.

    ``details`` are for the person at the terminal. The rest goes into files that
    others read, where the paths of a machine have no place.
    """
    first_line = PATH.sub(r"\1", message.strip().partition("\n")[0])[:200]
    return {"failure": {"error": error, "message": first_line}, "details": details}


def describe(error: BaseException) -> dict[str, Any]:
    """The answer with the name and message of the first cause, and the traceback."""
    details = "".join(traceback.format_exception(error))
    while error.__cause__ is not None:
        error = error.__cause__
    name, message = type(error).__name__, str(error).strip()
    while match := WRAPPED.match(message):
        name, message = match[1], message[match.end() :]
    return failure(name, message, details[-4000:])
