"""What is done where other programs keep the processors busy."""

from __future__ import annotations

import contextlib
import functools
import logging
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


log = logging.getLogger(__name__)


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
