"""Changes files of a tree all together or not at all.

First everything that needs space is done aside, in the state folder: new contents
are staged, and each file that will change gets a second name in ``backup``. Then
the journal is written, and only then the tree is touched, by renames, each atomic.
Removing the journal is what commits. A journal that is found later is therefore a
change that was cut off: it is undone, again by renames, so a full disk does not
stand in the way. Receipt and originals change in the same transaction as the tree.
No file is ever written in place: it may be linked into a package cache.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .blobs import blob_id, is_blob_id
from .errors import EnvironmentFailure, OverlayError, Refused
from .filesystem import (
    device_of,
    link_or_copy,
    remove_directory_if_empty,
    remove_directory_tree,
    remove_empty_directories,
    replace_file,
    sync_directory,
    write_file,
)
from .paths import check_path, locate, read_blob
from .state import ORIGINALS_NAME, RECEIPT_NAME, State

_JOURNAL_VERSION = 1


@dataclass(frozen=True)
class Change:
    """What becomes of one file; ``path`` is relative to the tree.

    The new file is ``source`` itself (a second name of it), or else has ``content``,
    with the mode of the file that it replaces; with neither it is removed.
    ``before`` is the blob the file must have now, None if it must not exist.
    """

    path: str
    before: str | None
    content: bytes | None = None
    source: str | None = None
    executable: bool | None = None


class _Entry(NamedTuple):
    """A line of the journal: the blobs of one file before and after."""

    path: str
    before: str | None
    after: str | None


class _Journal(NamedTuple):
    entries: tuple[_Entry, ...]
    made_directories: tuple[str, ...]


def missing_directories(root: Path, paths: Sequence[str]) -> tuple[str, ...]:
    """The folders that ``paths`` need and the tree does not have, outermost first."""
    missing: list[str] = []
    for path in paths:
        parts = path.split("/")[:-1]
        for length in range(1, len(parts) + 1):
            folder = "/".join(parts[:length])
            if folder not in missing and not root.joinpath(folder).exists():
                missing.append(folder)
    return tuple(missing)


def run(
    state: State, changes: Sequence[Change], prune_directories: Sequence[str] = ()
) -> None:
    """Makes all ``changes``, or none if an exception comes out.

    ``prune_directories`` are removed afterwards where nothing is left in them.
    """
    writes = [change.path for change in changes if _makes_file(change)]
    tree_writes = [path for path in writes if path.startswith("torch/")]
    made = missing_directories(state.root, tree_writes)
    try:
        entries = _prepare(state, changes)
        _write_journal(state, _Journal(entries, made))
        for folder in made:
            os.mkdir(state.root / folder, 0o755)
        for index, entry in enumerate(entries):
            _install(state, index, entry)
        _prune(state.root, prune_directories)
        _sync_parents(state.root, entries)
        os.unlink(state.journal)
    except BaseException as error:
        try:
            recover(state)
        except (OSError, OverlayError) as second:
            raise EnvironmentFailure(
                f"{error}; undoing that failed too: {second}; the tree is half "
                "changed: remove the cause, then run apply or revert, which "
                "undoes it first"
            ) from error
        raise
    try:
        sync_directory(state.folder)
        tidy(state)
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
    tidy(state)
    return found


def tidy(state: State) -> None:
    """Removes what only a running change needs."""
    remove_directory_tree(state.staged)
    remove_directory_tree(state.backup)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(state.journal.with_name(state.journal.name + ".new"))
    remove_empty_directories(state.originals)


def _makes_file(change: Change) -> bool:
    return change.source is not None or change.content is not None


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
        backup = _numbered(state.backup, index)
        staged = _numbered(state.staged, index)
        before = None
        if os.path.lexists(target):
            link_or_copy(target, backup)
            before = blob_id(backup.read_bytes())
        if before != change.before:
            raise Refused(f"{target} was changed while we worked: try again")
        after = None
        if change.source is not None:
            link_or_copy(locate(state.root, change.source), staged)
            after = blob_id(staged.read_bytes())
        elif change.content is not None:
            _stage(staged, change, target)
            after = blob_id(change.content)
        if after is not None and not change.path.startswith("torch/"):
            os.makedirs(target.parent, exist_ok=True)
        entries.append(_Entry(change.path, before, after))
    sync_directory(state.staged)
    sync_directory(state.backup)
    return tuple(entries)


def _stage(staged: Path, change: Change, target: Path) -> None:
    assert change.content is not None
    mode, owner = 0o644, None
    with contextlib.suppress(FileNotFoundError):
        status = os.lstat(target)
        mode = stat.S_IMODE(status.st_mode)
        owner = (status.st_uid, status.st_gid)
    if change.executable is True:
        mode |= (mode & 0o444) >> 2  # whoever may read may run
    elif change.executable is False:
        mode &= ~0o111
    write_file(staged, change.content, mode, owner)


def _install(state: State, index: int, entry: _Entry) -> None:
    target = locate(state.root, entry.path)
    if entry.after is not None:
        os.replace(_numbered(state.staged, index), target)
    elif entry.before is not None:
        os.unlink(target)
        _remove_bytecode(target)


def _roll_back(state: State, journal: _Journal) -> None:
    """Puts every file back; may itself be cut off, and done again."""
    current = [read_blob(state.root, entry.path) for entry in journal.entries]
    for entry, blob in zip(journal.entries, current, strict=True):
        if blob not in (entry.before, entry.after):
            raise Refused(
                f"{state.root / entry.path} was edited after a change of it was cut "
                f"off: move your edit away (the file before is one of those in "
                f"{state.backup}), then run this again"
            )
    for index, entry in reversed(tuple(enumerate(journal.entries))):
        target = locate(state.root, entry.path)
        backup = _numbered(state.backup, index)
        if entry.before is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(target)
            _remove_bytecode(target)
        elif os.path.lexists(backup):
            os.makedirs(target.parent, exist_ok=True)
            # Nothing happens if they are still one file, which is as well.
            os.replace(backup, target)
        elif current[index] != entry.before:
            raise EnvironmentFailure(
                f"{backup} is missing: {target} cannot be put back (it was blob "
                f"{entry.before})"
            )
    _prune(state.root, journal.made_directories)
    _sync_parents(state.root, journal.entries)
    os.unlink(state.journal)
    sync_directory(state.folder)


def _prune(root: Path, folders: Sequence[str]) -> None:
    """Removes those of the ``folders`` that hold nothing any more."""
    for folder in sorted(folders, key=len, reverse=True):
        place = root / folder
        if not place.is_symlink():
            remove_directory_if_empty(place / "__pycache__")
            remove_directory_if_empty(place)


def _remove_bytecode(source: Path) -> None:
    """Removes what Python cached of a module that is gone.

    Without it the module's folder would not get empty, and a folder is a package.
    """
    cache = source.parent / "__pycache__"
    if source.suffix != ".py" or cache.is_symlink() or not cache.is_dir():
        return
    ours = re.compile(re.escape(source.stem) + r"\.[^.]+(\.opt-[^.]+)?\.pyc")
    for name in os.listdir(cache):
        if ours.fullmatch(name):
            os.unlink(cache / name)
    remove_directory_if_empty(cache)


def _sync_parents(root: Path, entries: Sequence[_Entry]) -> None:
    for folder in sorted({(root / entry.path).parent for entry in entries}):
        if folder.is_dir():
            sync_directory(folder)


def _numbered(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}"


def _write_journal(state: State, journal: _Journal) -> None:
    document = {"version": _JOURNAL_VERSION, **journal._asdict()}
    text = json.dumps(document, indent=1, ensure_ascii=False)
    replace_file(state.journal, text.encode("utf-8"))


def _read_journal(state: State) -> _Journal:
    try:
        document = json.loads(state.journal.read_bytes())
        version = document["version"]
        entries = tuple(_Entry(*entry) for entry in document["entries"])
        made = tuple(document["made_directories"])
        blobs = [blob for entry in entries for blob in (entry.before, entry.after)]
        if version != _JOURNAL_VERSION or not all(
            blob is None or is_blob_id(blob) for blob in blobs
        ):
            raise ValueError(version)
        for path in (*(entry.path for entry in entries), *made):
            _check_journal_path(path, state)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EnvironmentFailure(
            f"{state.journal} is damaged or of another version of the tool: the "
            f"files before the change are in {state.backup}"
        ) from None
    return _Journal(entries, made)


def _check_journal_path(path: str, state: State) -> None:
    if path != RECEIPT_NAME:
        check_path(path.removeprefix(ORIGINALS_NAME + "/"), str(state.journal))
