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
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .errors import EnvironmentFailure, OverlayError, Refused
from .files import (
    File,
    RECEIPT_NAME,
    STATE_NAME,
    State,
    blob_of,
    check_path,
    is_blob_id,
    locate,
    read,
)
from .filesystem import (
    device_of,
    link_or_copy,
    remove_directory_tree,
    remove_what_is_left,
    replace_file,
    sync_directory,
    write_file,
)


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
        for entry in entries:
            if entry.after is None:
                remove_what_is_left(state.root / entry.path, state.root)
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
        if device_of(target.parent) != device_of(state.folder):
            raise EnvironmentFailure(
                f"{target.parent} is on another file system than {state.folder}: a "
                "file cannot be put there in one step; mount both together"
            )
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
        if entry.before is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(target)
            remove_what_is_left(target, state.root)
        elif os.path.lexists(backup):
            os.makedirs(target.parent, exist_ok=True)
            # Nothing happens if they are still one file, which is as well.
            os.replace(backup, target)
        elif current[index] != entry.before:
            raise EnvironmentFailure(
                f"{backup} is missing: {target} cannot be put back (it was blob "
                f"{entry.before})"
            )
    _commit(state, entries)


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
