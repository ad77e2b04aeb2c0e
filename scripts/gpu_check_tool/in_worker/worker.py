"""A process that makes checks: requests on standard input, answers on standard output,
JSON, one a line.

Its torch is the copy with the overlay. What goes wrong is an answer as well.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from failures import describe
from gpu_check_tool.in_worker import stand_ins

ACTIONS = {
    "machine": "machine",
    "row": "rows",
    "tune": "timing",
    "dispatch": "timing",
    "tests": "tests",
    "test": "tests",
}
"""The function that answers has the action's name, in this module of the package."""


def answers(requests: TextIO) -> Iterator[dict[str, Any]]:
    """The answer to each request."""
    for line in requests:
        request = json.loads(line)
        action = request.pop("action")
        try:
            name = f"gpu_check_tool.in_worker.{ACTIONS[action]}"
            module = importlib.import_module(name)
            yield getattr(module, action)(**request)
        except Exception as error:
            yield describe(error)


def main() -> None:
    """Answer until there are no more requests."""
    stand_ins.provide()
    # torch and the compilers may print: only answers go to the real standard output.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for answer in answers(sys.stdin):
        print(json.dumps(answer), file=replies, flush=True)


if __name__ == "__main__":
    # The folder of this file is first there, and its modules are a package's.
    sys.path[:] = [one for one in sys.path if one != os.path.dirname(__file__)]
    main()
