"""Files by their names in a folder, and the few writes that the tool makes.

Names come from the overlay folder, from patches, from bases.toml and from the
receipt. None of them is trusted: a name that leaves ``torch/`` is refused when it
is read, and a symbolic link on the way to it is refused when it is used. Writes are
durable, and their errors name the path.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .errors import EnvironmentFailure, Refused

RECEIPT_NAME = ".torch_overlay.json"
STATE_NAME = ".torch_overlay"
ORIGINALS_NAME = f"{STATE_NAME}/originals"


@dataclass(frozen=True)
class File:
    """A regular file; where there may be none, None stands for that."""

    content: bytes
    executable: bool = False

    @cached_property
    def blob(self) -> str:
        return blob_id(self.content)


class State:
    """The tool's own files in the folder ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # What is applied; absent in a tree that nothing was applied to.
        self.receipt = root / RECEIPT_NAME
        # Holds all below.
        self.folder = root / STATE_NAME
        # The base's files that were replaced, at their paths in the tree.
        self.originals = root / ORIGINALS_NAME
        # There while files are being changed: what to undo after a kill.
        self.journal = self.folder / "journal.json"
        # New contents on their way to their places.
        self.staged = self.folder / "staged"
        # The files as they were before the running change.
        self.backup = self.folder / "backup"
        # Held by the process that changes the tree; says which one it is.
        self.lock = self.folder / "lock"

    def check(self) -> None:
        """Refuses links where we would write: we make none."""
        for place in vars(self).values():
            if place != self.root and place.is_symlink():
                raise Refused(
                    f"{place} was not made by this tool (it is a link): move it away"
                )

    def require_no_originals(self) -> None:
        """Our receipt is made and removed together with the originals: who took it?"""
        if any(place.is_file() for place in self.originals.rglob("*")):
            raise EnvironmentFailure(
                f"{self.receipt} is missing although {self.originals} holds originals: "
                "put the receipt back, or copy the originals to their places in the "
                f"tree, delete the files of ours, then delete {self.folder}"
            )


def blob_id(content: bytes) -> str:
    """The id that ``git hash-object`` (without filters) gives to ``content``."""
    header = b"blob %d\0" % len(content)
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def is_blob_id(value: object) -> bool:
    """Whether ``value`` has the form of a blob id (or of a commit id)."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{40}", value) is not None


def blob_of(file: File | None) -> str | None:
    """The blob id of a file, None if there is none."""
    return None if file is None else file.blob


def check_path(path: str, origin: str, *tops: str) -> str:
    """Returns ``path`` if it names a file under ``torch/``, or under one of ``tops``.

    Raises:
        Refused: it does not; ``origin`` is blamed.
    """
    parts = path.split("/")
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise Refused(f"{origin}: the path {path!r} is not UTF-8") from None
    if (
        any(part in ("", ".", "..") or "\0" in part for part in parts)
        or any(part.lower() == ".git" for part in parts)
        or parts[0] not in (tops or ("torch",))
        or len(parts) < 2
    ):
        raise Refused(f"{origin}: the path {path!r} is refused: not inside torch/")
    return path


def locate(root: Path, path: str) -> Path:
    """The place of ``path`` in the folder ``root``; refuses symbolic links.

    The file, and folders on the way to it, may be missing. ``root`` itself may be
    reached through a link: it is what the user gave.
    """
    place = root
    parts = path.split("/")
    for number, part in enumerate(parts, 1):
        place = place / part
        try:
            mode = os.lstat(place).st_mode
        except FileNotFoundError:
            return root / path
        if stat.S_ISLNK(mode):
            raise Refused(
                f"{place} is a symbolic link, and links are not followed: "
                "name the folder that really holds the files"
            )
        is_last = number == len(parts)
        if not (stat.S_ISREG if is_last else stat.S_ISDIR)(mode):
            kind = "regular file" if is_last else "folder"
            raise Refused(f"{place} is not a {kind}")
    return place


def read(root: Path, path: str) -> File | None:
    """The file at ``path`` in the folder ``root``, None if there is none."""
    place = locate(root, path)
    try:
        return File(place.read_bytes(), bool(os.lstat(place).st_mode & 0o100))
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts ``path`` into an OSError of a call on a descriptor, which has none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_file(
    path: Path, content: bytes, mode: int, owner: tuple[int, int] | None = None
) -> None:
    """Creates ``path``, which must not exist, and waits until it is on the disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        with naming(path):
            remaining = memoryview(content)
            while remaining:
                remaining = remaining[os.write(descriptor, remaining) :]
            if owner is not None:
                # Only root may give files away; for others it is ours anyway.
                with contextlib.suppress(PermissionError):
                    os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Puts ``content`` at ``path`` in one atomic, durable step."""
    staged = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(staged)
    try:
        write_file(staged, content, mode)
        os.replace(staged, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(staged)
        raise
    sync_directory(path.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """Makes ``target`` the same file as ``source``, or else its faithful copy.

    A hard link keeps all there is to keep (content, mode, times, owner, other
    links); a copy is for the file systems that have none.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        status = os.lstat(source)
        owner = (status.st_uid, status.st_gid)
        write_file(target, source.read_bytes(), stat.S_IMODE(status.st_mode), owner)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def sync_directory(path: Path) -> None:
    """Waits until the entries of the folder ``path`` are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with naming(path):
            os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder, and need not.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def remove_directory_tree(path: Path) -> None:
    """Removes the folder ``path`` with all in it, if it is there."""
    if os.path.lexists(path):
        shutil.rmtree(path)


def remove_directory_if_empty(path: Path) -> bool:
    """Removes the folder ``path`` if it holds nothing; says whether it is gone."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        return False
    return True
