"""What this repository brings: whole files, and per base a series of patches."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .bases import Base, load_bases
from .blobs import blob_id
from .errors import Refused
from .paths import check_path

OVERLAY_NAME = "torch_overlay"
PATCHES_NAME = "patches"
BASES_NAME = "patches/bases.toml"
COMMON = "common/"
"""How a series names a patch of patches/common/, which several bases share."""


@dataclass(frozen=True)
class OverlayFile:
    """A whole file of ours."""

    content: bytes
    executable: bool


@dataclass(frozen=True)
class Patch:
    """One file of a series, by the name that the series has for it."""

    name: str
    content: bytes

    @property
    def is_common(self) -> bool:
        """Whether other bases may share it: its hunks may match at other lines."""
        return self.name.startswith(COMMON)


@dataclass(frozen=True)
class PatchSet:
    """The overlay (by path in the tree), the bases, and where the patches lie."""

    root: Path
    bases: tuple[Base, ...]
    overlay: Mapping[str, OverlayFile]

    @property
    def tags(self) -> tuple[str, ...]:
        """All releases that are known, as ``base`` takes them."""
        return tuple(each.release for base in self.bases for each in base.releases)

    def base(self, tag: str) -> Base | None:
        """The base of that tag, with or without its v, or of a release with it."""
        releases = (each for base in self.bases for each in base.releases)
        names = (tag, f"v{tag}")
        return next((each for each in releases if each.release in names), None)

    def series(self, base: Base) -> tuple[Patch, ...]:
        """The patches for ``base``, in order; none if it has no series file.

        A name in it is a file's below the base's folder, or one of ``common/``.
        """
        file = self.root / PATCHES_NAME / base.tag / "series"
        try:
            text = file.read_bytes().decode("utf-8")
        except FileNotFoundError:
            return ()
        except UnicodeDecodeError:
            raise Refused(f"{file} is not UTF-8") from None
        patches: list[Patch] = []
        for line in text.splitlines():
            # quilt allows a comment after the name too.
            name = line.split(" #")[0].strip()
            if not name or name.startswith("#"):
                continue
            if any(patch.name == name for patch in patches):
                raise Refused(f"{file}: {name} is listed twice")
            content = _read_patch(file, self._folder(base, name), name)
            patches.append(Patch(name, content))
        return tuple(patches)

    def place(self, base: Base, name: str) -> str:
        """Where the patch that ``base``'s series calls so is, from the root."""
        return (self._folder(base, name) / name).relative_to(self.root).as_posix()

    def _folder(self, base: Base, name: str) -> Path:
        """What the names in a series are relative to."""
        patches = self.root / PATCHES_NAME
        return patches if name.startswith(COMMON) else patches / base.tag

    def digest(self, base: Base) -> str:
        """Names all that is applied to ``base``: it changes when any of it does."""
        parts = {
            "base": [base.tag, base.commit],
            "overlay": [
                [path, blob_id(file.content), file.executable]
                for path, file in sorted(self.overlay.items())
            ],
            "series": [
                [patch.name, blob_id(patch.content)] for patch in self.series(base)
            ],
        }
        text = json.dumps(parts, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8")).hexdigest()


def load_patch_set(root: Path) -> PatchSet:
    """Reads the patch set that lies in the folder ``root``."""
    bases = load_bases(root / BASES_NAME)
    return PatchSet(root=root, bases=bases, overlay=_load_overlay(root))


def _load_overlay(root: Path) -> dict[str, OverlayFile]:
    top = root / OVERLAY_NAME
    if top.is_symlink():
        raise Refused(f"{top} is a symbolic link: links are not followed")

    def fail(error: OSError) -> None:
        # No overlay at all is fine (patches only); a folder we cannot read is not.
        if not (isinstance(error, FileNotFoundError) and not top.exists()):
            raise error

    files: dict[str, OverlayFile] = {}
    for folder, folders, names in os.walk(top, onerror=fail):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in (*folders, *sorted(names)):
            place = Path(folder, name)
            mode = os.lstat(place).st_mode
            if stat.S_ISDIR(mode) or name.endswith(".pyc"):
                continue
            if not stat.S_ISREG(mode):
                raise Refused(f"{place} is not a regular file (links are refused)")
            path = "torch/" + place.relative_to(top).as_posix()
            check_path(path, str(place))
            files[path] = OverlayFile(place.read_bytes(), bool(mode & 0o100))
    return files


def _read_patch(series: Path, folder: Path, name: str) -> bytes:
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise Refused(f"{series}: {name!r} is not a file name below {folder}")
    place = folder
    for part in name.split("/"):
        place = place / part
        if place.is_symlink():
            raise Refused(f"{series}: {place} is a symbolic link")
    try:
        return place.read_bytes()
    except FileNotFoundError:
        raise Refused(f"{series} lists {name}, but {place} is missing") from None
