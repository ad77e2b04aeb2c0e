"""Path safety: which names are accepted, and where in a tree they lie.

Names come from the overlay folder, from patches, from bases.toml and from the
receipt. None of them is trusted: a name that leaves ``torch/`` is refused when it
is read, and a symbolic link on the way to it is refused when it is used.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .blobs import blob_id
from .errors import Refused


def check_path(path: str, origin: str) -> str:
    """Returns ``path`` if it names a file under ``torch/``; ``origin`` is blamed."""
    parts = path.split("/")
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise Refused(f"{origin}: the path {path!r} is not UTF-8") from None
    if (
        any(part in ("", ".", "..") or "\0" in part for part in parts)
        or any(part.lower() == ".git" for part in parts)
        or parts[0] != "torch"
        or len(parts) < 2
    ):
        raise Refused(f"{origin}: the path {path!r} is refused: not inside torch/")
    return path


def locate(root: Path, path: str) -> Path:
    """The place of ``path`` in the tree ``root``; refuses symbolic links.

    The file, and folders on the way to it, may be missing. ``root`` itself may be
    reached through a link: it is what the user gave.
    """
    place = root
    parts = path.split("/")
    for index, part in enumerate(parts):
        place = place / part
        try:
            mode = os.lstat(place).st_mode
        except FileNotFoundError:
            return root.joinpath(*parts)
        if stat.S_ISLNK(mode):
            raise Refused(
                f"{place} is a symbolic link, and links are not followed: "
                "name the folder that really holds the files"
            )
        if index < len(parts) - 1 and not stat.S_ISDIR(mode):
            raise Refused(f"{place} is not a folder, so {path} cannot lie below it")
        if index == len(parts) - 1 and not stat.S_ISREG(mode):
            raise Refused(f"{place} is not a regular file")
    return place


def read_content(root: Path, path: str) -> bytes | None:
    """The content of ``path`` in the tree ``root``, None if there is no such file."""
    place = locate(root, path)
    try:
        return place.read_bytes()
    except FileNotFoundError:
        return None


def read_blob(root: Path, path: str) -> str | None:
    """The blob id of ``path`` in the tree ``root``, None if there is no such file."""
    content = read_content(root, path)
    return None if content is None else blob_id(content)
