"""Finds the Python that the project is pinned for, and goes on in that one.

This module must stay readable for any Python 3: it is what an older one gets to see
before the others, which need 3.11, are imported.
"""

import importlib
import os
import shutil
import subprocess
import sys

NEEDED = (3, 11)
"""The one Python that every pin in setup.cfg was resolved for."""


def start(command: str, package: str = "setup_tool") -> None:
    """Runs `command` under Python 3.11, in this process or in its place.

    `package` is the one whose module `commands` has a main() for it.
    """
    if sys.version_info[:2] != NEEDED:
        continue_in_needed_python(command)
    # Not at the top: an older Python could not even parse what this imports.
    commands = importlib.import_module(package + ".commands")
    sys.exit(commands.main(command, sys.argv[1:]))


def continue_in_needed_python(command: str) -> None:
    """Replaces this process by the same command in Python 3.11, or exits."""
    name = "python%d.%d" % NEEDED
    candidate = shutil.which(name)
    if candidate is None or not is_needed_python(candidate):
        sys.exit(
            "scripts/%s: needs Python %d.%d. This is Python %d.%d (%s), and there is "
            "no working %s on PATH. Install it and call again."
            % ((command,) + NEEDED + sys.version_info[:2] + (sys.executable, name))
        )
    # Flushed by hand: exec drops what is still in Python's own buffers.
    sys.stdout.flush()
    os.execv(candidate, [candidate] + sys.argv)


def is_needed_python(candidate: str) -> bool:
    """Whether `candidate` really is that Python: a version manager's stand-in of
    the right name may point to nothing."""
    show_version = "import sys; print(*sys.version_info[:2])"
    try:
        output = subprocess.check_output(
            [candidate, "-c", show_version], stderr=subprocess.DEVNULL
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return output.decode().split() == [str(part) for part in NEEDED]
