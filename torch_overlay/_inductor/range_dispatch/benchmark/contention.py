"""How long this process waited for a processor that others kept busy, and what is done
about it.

Linux counts it for each thread. Elsewhere nothing is known, and nothing is waited for.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import logging
import threading
import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


log = logging.getLogger(__name__)

_THREADS = "/proc/self/task/*/schedstat"
_NANOSECOND = 1e-9


class WaitedShare:
    """The part of the time since it was made that threads waited for a processor.

    It is the sum over all threads, so it may be above 1.
    """

    def __init__(self) -> None:
        self._waited = _waited_by_thread()
        self._started = time.perf_counter()

    def so_far(self) -> float:
        """0 where nothing is known."""
        seconds = time.perf_counter() - self._started
        now = _waited_by_thread()
        waited = sum(now[path] - self._waited.get(path, 0.0) for path in now)
        return waited / seconds if seconds > 0 else 0.0


def waited_here() -> float:
    """Seconds that this thread has waited for a processor in all; 0 if not known."""
    return _waited(f"/proc/self/task/{threading.get_native_id()}/schedstat")


def _waited_by_thread() -> dict[str, float]:
    return {path: _waited(path) for path in glob.glob(_THREADS)}


def _waited(path: str) -> float:
    """The second of three numbers: nanoseconds runnable and not run."""
    try:
        with open(path) as file:
            return int(file.read().split()[1]) * _NANOSECOND
    except (OSError, IndexError, ValueError):  # another system, or the thread is gone
        return 0.0


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compile for one thread in the context, and run on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@functools.cache
def warn_of_busy_machine(op: str) -> None:
    """Say once for an op that times are not what they would be."""
    log.warning(
        "%s: other programs kept the processors busy while candidates were timed, so "
        "it was done on one thread; the times are marked and not cached. Tune again on "
        "an idle machine, or set OMP_NUM_THREADS to the cores that are free",
        op,
    )
