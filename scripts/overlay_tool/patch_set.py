"""What this repository brings: whole files, and per base a series of patches."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .bases import Base, load_bases
from .errors import Refused
from .filesystem import File, State, blob_id, check_path, read
from .patching import COMMON, Files, Patch, PatchedFiles, apply_series, touched_paths

OVERLAY_NAME = "torch_overlay"
PATCHES_NAME = "patches"
BASES_NAME = "patches/bases.toml"


@dataclass(frozen=True)
class PatchSet:
    """The overlay (by path in the tree), the bases, and where the patches lie."""

    root: Path
    bases: tuple[Base, ...]
    overlay: Mapping[str, File]

    @property
    def releases(self) -> tuple[Base, ...]:
        """All releases that are known."""
        return tuple(each for base in self.bases for each in base.releases)

    def base(self, tag: str) -> Base | None:
        """The base of that tag, with or without its v, or of a release with it."""
        names = (tag, f"v{tag}")
        return next((each for each in self.releases if each.release in names), None)

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
        patches: dict[str, Patch] = {}
        for line in text.splitlines():
            # quilt allows a comment after the name too.
            name = line.split(" #")[0].strip()
            if not name or name.startswith("#"):
                continue
            if name in patches:
                raise Refused(f"{file}: {name} is listed twice")
            if any(part in ("", ".", "..") for part in name.split("/")):
                raise Refused(f"{file}: {name!r} is not a file name")
            found = read(self.root, self.place(base, name))
            if found is None:
                raise Refused(f"{file}: {self.place(base, name)} is missing")
            patches[name] = Patch(name, found.content)
        return tuple(patches.values())

    def place(self, base: Base, name: str) -> str:
        """Where the patch that ``base``'s series calls so is, from the root."""
        folder = "" if name.startswith(COMMON) else f"{base.tag}/"
        return f"{PATCHES_NAME}/{folder}{name}"

    def paths(self, base: Base) -> tuple[str, ...]:
        """All that it brings or changes; refuses to both overlay and patch a file."""
        paths = set(self.overlay)
        for patch in self.series(base):
            for path in touched_paths(patch):
                if path in self.overlay:
                    raise Refused(
                        f"the patch set both overlays {path} and patches it "
                        f"({patch.name}): one of the two must go"
                    )
                paths.add(path)
        return tuple(sorted(paths))

    def make(self, base: Base, pristine: Files) -> PatchedFiles:
        """What it makes of the base's files at its ``paths``.

        A file of ours is as executable as the one that it takes the place of.
        """
        patched = apply_series(
            self.series(base),
            {path: pristine[path] for path in pristine if path not in self.overlay},
        )
        ours: dict[str, File | None] = {}
        for path, file in self.overlay.items():
            like = pristine[path] or file
            ours[path] = File(file.content, like.executable)
        return PatchedFiles({**patched.files, **ours}, patched.notes)

    def digest(self, base: Base) -> str:
        """Names all that is applied to ``base``: it changes when any of it does."""
        parts = {
            "base": [base.tag, base.commit],
            "overlay": [
                [path, file.blob, file.executable]
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
    if State(root).journal.exists():
        raise Refused(f"{root}: a refresh of it was cut off; run refresh again first")
    return PatchSet(root, load_bases(root / BASES_NAME), _load_overlay(root))


def _load_overlay(root: Path) -> dict[str, File]:
    def fail(error: OSError) -> None:
        # No overlay at all is fine (patches only); a folder we cannot read is not.
        if not (isinstance(error, FileNotFoundError) and not top.exists()):
            raise error

    top = root / OVERLAY_NAME
    files: dict[str, File] = {}
    for folder, folders, names in os.walk(top, onerror=fail):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in (*links, *sorted(names)):
            place = Path(folder, name).relative_to(root).as_posix()
            if name.endswith(".pyc"):
                continue
            path = check_path(f"torch/{place.partition('/')[2]}", str(root / place))
            file = read(root, place)
            assert file is not None
            files[path] = file
    return files
