"""Changes files of a folder all together or not at all.

First everything that needs space is done aside, in the state folder: new contents
are staged, and each file that will change gets a second name in ``backup``. Then
the journal is written, which names each file with its blob before and after, and
only then the files are touched, by renames, each atomic. Removing the journal is what
commits. A journal that is found later is therefore a change that was cut off: it is
undone, again by renames, so a full disk does not stand in the way.

A tree's receipt and its originals change in the same transaction as its files, and
what a refresh writes into the patch set is one, too: so there is one way back for all.
No file is ever written in place: it may be linked into a package cache.

One process at a time does so in a folder: it holds the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .errors import EnvironmentFailure, OverlayError, Refused
from .filesystem import RECEIPT_NAME, STATE_NAME, File, State, blob_of, check_path
from .filesystem import is_blob_id, link_or_copy, locate, naming, read
from .filesystem import remove_directory_if_empty, remove_directory_tree, replace_file
from .filesystem import sync_directory, write_file


@dataclass(frozen=True)
class Change:
    """What becomes of one file; ``path`` is relative to the folder.

    ``before`` is the blob the file must have now, None if it must not exist. The new
    file is ``new``, with the mode of the one that it replaces as to who may read it; or
    a second name of the file at that path; None removes it.
    """

    path: str
    before: str | None
    new: File | str | None


class _Entry(NamedTuple):
    """A line of the journal: the blobs of one file before and after."""

    path: str
    before: str | None
    after: str | None


def run(state: State, changes: Sequence[Change]) -> None:
    """Makes all ``changes``, or none if an exception comes out."""
    try:
        entries = _prepare(state, changes)
        replace_file(state.journal, json.dumps(entries, indent=1).encode())
        for index, entry in enumerate(entries):
            target = locate(state.root, entry.path)
            if entry.after is not None:
                os.makedirs(target.parent, exist_ok=True)
                os.replace(_numbered(state.staged, index), target)
            elif entry.before is not None:
                os.unlink(target)
        _remove_what_is_left(state, entries)
        _commit(state, entries)
    except BaseException as error:
        try:
            recover(state)
        except (OSError, OverlayError) as second:
            raise EnvironmentFailure(
                f"{error}; undoing that failed too: {second}; {state.root} is half "
                "changed: remove the cause, then run this again, which undoes it first"
            ) from error
        raise
    try:
        _tidy(state)
    except OSError as error:
        raise EnvironmentFailure(
            f"the files are all in place, but cleaning up failed: {error}; remove "
            "the cause and run this again"
        ) from error


def recover(state: State) -> bool:
    """Undoes a change that was cut off; says whether there was one."""
    found = state.journal.exists()
    if found:
        _roll_back(state, _read_journal(state))
    _tidy(state)
    return found


def _tidy(state: State) -> None:
    """Removes what only a running change needs."""
    sync_directory(state.folder)
    remove_directory_tree(state.staged)
    remove_directory_tree(state.backup)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(state.journal.with_name(state.journal.name + ".new"))


def _prepare(state: State, changes: Sequence[Change]) -> tuple[_Entry, ...]:
    """Does all that needs space, and checks each file once more."""
    entries = []
    for folder in (state.staged, state.backup):
        remove_directory_tree(folder)
        os.mkdir(folder, 0o755)
    for index, change in enumerate(changes):
        target = locate(state.root, change.path)
        before = read(state.root, change.path)
        if before is not None:
            link_or_copy(target, _numbered(state.backup, index))
        if blob_of(before) != change.before:
            raise Refused(f"{target} was changed while we worked: try again")
        new, staged = change.new, _numbered(state.staged, index)
        if isinstance(new, str):
            link_or_copy(locate(state.root, new), staged)
            new = File(staged.read_bytes())
        elif new is not None:
            _stage(staged, new, target)
        entries.append(_Entry(change.path, change.before, blob_of(new)))
    sync_directory(state.staged)
    sync_directory(state.backup)
    return tuple(entries)


def _stage(staged: Path, new: File, target: Path) -> None:
    mode, owner = 0o644, None
    with contextlib.suppress(FileNotFoundError):
        status = os.lstat(target)
        mode = stat.S_IMODE(status.st_mode)
        owner = (status.st_uid, status.st_gid)
    if new.executable:
        mode |= (mode & 0o444) >> 2  # whoever may read may run
    else:
        mode &= ~0o111
    write_file(staged, new.content, mode, owner)


def _roll_back(state: State, entries: Sequence[_Entry]) -> None:
    """Puts every file back; may itself be cut off, and done again."""
    current = [blob_of(read(state.root, entry.path)) for entry in entries]
    for entry, blob in zip(entries, current, strict=True):
        if blob not in (entry.before, entry.after):
            raise Refused(
                f"{state.root / entry.path} was edited after a change of it was cut "
                f"off: move your edit away (the file before is one of those in "
                f"{state.backup}), then run this again"
            )
    for index, entry in reversed(tuple(enumerate(entries))):
        target = locate(state.root, entry.path)
        backup = _numbered(state.backup, index)
        if os.path.lexists(_numbered(state.staged, index)):
            continue  # the new file did not get to its place
        if entry.before is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(target)
        elif os.path.lexists(backup):
            os.makedirs(target.parent, exist_ok=True)
            # Nothing happens if they are still one file, which is as well.
            os.replace(backup, target)
        elif current[index] != entry.before:
            raise EnvironmentFailure(
                f"{backup} is missing: {target} cannot be put back (it was blob "
                f"{entry.before})"
            )
    _remove_what_is_left(state, entries)
    _commit(state, entries)


def _remove_what_is_left(state: State, entries: Sequence[_Entry]) -> None:
    """Removes what Python cached of files that are gone, and the empty folders.

    A folder without modules would still be a package.
    """
    for place in (state.root / entry.path for entry in entries):
        if os.path.lexists(place):
            continue
        cache = place.parent / "__pycache__"
        if place.suffix == ".py" and not cache.is_symlink():
            for compiled in list(cache.glob(f"{glob.escape(place.stem)}.*.pyc")):
                os.unlink(compiled)
        for folder in place.relative_to(state.root).parents[:-1]:
            remove_directory_if_empty(state.root / folder / "__pycache__")
            if not remove_directory_if_empty(state.root / folder):
                break


def _commit(state: State, entries: Sequence[_Entry]) -> None:
    """Removes the journal once all that it names is on the disk."""
    for folder in sorted({(state.root / entry.path).parent for entry in entries}):
        if folder.is_dir():
            sync_directory(folder)
    os.unlink(state.journal)


def _numbered(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}"


def _read_journal(state: State) -> tuple[_Entry, ...]:
    try:
        entries = tuple(
            _Entry(*each) for each in json.loads(state.journal.read_bytes())
        )
        for path, *blobs in entries:
            if not all(blob is None or is_blob_id(blob) for blob in blobs):
                raise ValueError(blobs)
            if path != RECEIPT_NAME:
                tops = (STATE_NAME, "torch", "torch_overlay", "patches")
                check_path(path, str(state.journal), *tops)
    except (ValueError, TypeError, AttributeError):
        raise EnvironmentFailure(
            f"{state.journal} is damaged or of another version of the tool: the "
            f"files before the change are in {state.backup}"
        ) from None
    return entries


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
