"""The few writes the tool makes, each durable and with its path in the error."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

# What os.link answers where hard links are not supported or not allowed.
_NO_HARD_LINKS = {
    errno.EACCES,
    errno.EMLINK,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EXDEV,
}


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
        return
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
    status = os.lstat(source)
    owner = (status.st_uid, status.st_gid)
    write_file(target, source.read_bytes(), stat.S_IMODE(status.st_mode), owner)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def device_of(path: Path) -> int:
    """The file system that ``path``, or the first folder above that is there, is on."""
    while not os.path.lexists(path):
        path = path.parent
    return os.lstat(path).st_dev


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


def remove_what_is_left(module: Path, root: Path) -> None:
    """Removes what Python cached of a file that is gone, and folders it was alone in.

    A folder without modules would still be a package.
    """
    cache = module.parent / "__pycache__"
    if module.suffix == ".py" and not cache.is_symlink():
        for compiled in (*cache.glob(f"{glob.escape(module.stem)}.*.pyc"),):
            os.unlink(compiled)
    for folder in module.parents:
        if folder == root:
            break
        remove_directory_if_empty(folder / "__pycache__")
        if not remove_directory_if_empty(folder):
            break
