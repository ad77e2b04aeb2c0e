"""A process that makes checks: on standard input a time limit for each and their
requests, JSON; on standard output an answer a line.

Its torch is the copy with the overlay. What goes wrong is an answer as well; the
process ends if a check takes too long.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import sys
import time
from typing import Any

from failures import describe
from gpu_check_tool.in_worker import stand_ins

ACTIONS = {
    "machine": "checks",
    "row": "checks",
    "tests": "checks",
    "test": "checks",
    "tune": "timing",
    "dispatch": "timing",
}
"""The function that answers has the action's name, in this module of the package."""


def answer(action: str, request: dict[str, Any]) -> dict[str, Any]:
    """What the check came to."""
    started = time.monotonic()
    try:
        name = f"gpu_check_tool.in_worker.{ACTIONS[action]}"
        found = getattr(importlib.import_module(name), action)(**request)
    except Exception as error:
        found = describe(error)
    return {**found, "seconds": round(time.monotonic() - started, 1)}


def main() -> None:
    """Answer all requests."""
    stand_ins.provide()
    # torch and the compilers may print: only answers go to the real standard output.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    seconds, requests = json.load(sys.stdin)
    for request in requests:
        faulthandler.dump_traceback_later(seconds, exit=True)
        found = answer(request.pop("action"), request)
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(found), file=replies, flush=True)


if __name__ == "__main__":
    # The folder of this file is first there, and its modules are a package's.
    sys.path[:] = [one for one in sys.path if one != os.path.dirname(__file__)]
    main()
