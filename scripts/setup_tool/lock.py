"""Keeps two set-ups of one environment apart."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from setup_tool.steps import report


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Holds the lock at `path` and yields its file descriptor.

    A child process that inherits the descriptor holds the lock as well: when this
    process is killed while pip runs, the next set-up waits until that pip has ended,
    instead of deleting the environment under it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting", f"another set-up, or a pip it left, holds {path.name}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
