"""One process at a time changes a tree."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator

from .files import State
from .filesystem import naming, remove_directory_if_empty


@contextlib.contextmanager
def locked(
    state: State, command: str, on_wait: Callable[[str], None]
) -> Iterator[None]:
    """Holds the tree's lock; waits for another holder after telling ``on_wait``.

    The lock file is removed afterwards, as nothing must be left in a tree that
    nothing is applied to. So whoever gets the lock checks that it is the file's.
    """
    descriptor = None
    while descriptor is None:
        descriptor = _try_to_acquire(state, on_wait)
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    who = f"process {os.getpid()} on {socket.gethostname()} ({command}, since {since})"
    try:
        # The disk may be full, and a recovery must go on all the same.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, who.encode(), 0)
        yield
    finally:
        # After a failure in here, what it left is more use than a second error.
        with contextlib.suppress(OSError):
            os.unlink(state.lock)
            remove_directory_if_empty(state.folder)
        os.close(descriptor)


def holder(state: State) -> str | None:
    """Who holds the tree's lock now, None if nobody does. Writes nothing."""
    try:
        descriptor = os.open(state.lock, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _description(descriptor)
    finally:
        os.close(descriptor)


def _try_to_acquire(state: State, on_wait: Callable[[str], None]) -> int | None:
    """The descriptor of the locked file, None if that is another one by now."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(state.folder, 0o755)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(state.lock, flags, 0o644)
    except FileNotFoundError:
        return None  # the holder has just removed the folder
    except OSError:
        with contextlib.suppress(OSError):
            os.rmdir(state.folder)  # unless it is in use
        raise
    try:
        with naming(state.lock):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait(_description(descriptor))
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.lstat(state.lock)):
                return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _description(descriptor: int) -> str:
    """Of the holder; it is empty in the moment before it is written."""
    found = os.pread(descriptor, 4096, 0).decode("utf-8", "replace")
    return found or "another process"
