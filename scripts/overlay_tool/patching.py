"""Applies a series of patches in a scratch folder; never touches a tree."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import Refused
from .filesystem import naming
from .git import git_isolated
from .patch_set import Patch
from .paths import check_path
from .placing import find_misplaced, Misplaced

_RENAME = re.compile(rb"(rename|copy) (from|to) ")
_OFFSET = re.compile(r"Hunk #\d+ succeeded at \d+ \(offset -?\d+ lines?\)")


@dataclass(frozen=True)
class ScratchFile:
    """A file before or after the patches."""

    content: bytes
    executable: bool


@dataclass(frozen=True)
class PatchedFiles:
    """What a series makes of its files, and what is worth telling about it."""

    files: Mapping[str, ScratchFile | None]
    notes: tuple[str, ...]


def touched_paths(patch: Patch) -> tuple[str, ...]:
    """The paths in the tree that ``patch`` changes, creates or removes."""
    in_diff = False
    for line in patch.content.splitlines():
        in_diff = in_diff or line.startswith(b"diff --git ")
        # A line of a hunk starts with a blank, + or -: this is a header.
        if in_diff and _RENAME.match(line):
            raise Refused(
                f"patch {patch.name}: renames and copies are not supported: "
                "make it with `git format-patch --no-renames`"
            )
    with tempfile.TemporaryDirectory(prefix="torch_overlay_") as folder:
        arguments = ["apply", "--numstat", "-z", "-p1", "-"]
        listing = git_isolated(arguments, Path(folder), patch.content)
    if listing.returncode != 0:
        raise Refused(f"patch {patch.name}: {_message(listing.stderr)}")
    paths = []
    for record in listing.stdout.split(b"\0"):
        if record:
            path = record.split(b"\t", 2)[2].decode("utf-8", "surrogateescape")
            paths.append(check_path(path, f"patch {patch.name}"))
    return tuple(dict.fromkeys(paths))


def apply_series(
    patches: Sequence[Patch],
    pristine: Mapping[str, ScratchFile | None],
    reverse: bool = False,
) -> PatchedFiles:
    """The contents of the ``pristine`` files after all ``patches``.

    With ``reverse`` it is given what they made, and takes them off, the last first.

    ``pristine`` has an entry for each path that a patch touches, None where there
    is no file. Hunks must match exactly (git knows no fuzz). That one matched at
    another line than it says is harmless, as the files are pinned, and reported of a
    patch that no other base shares.
    """
    steps = apply_in_steps(patches, pristine, reverse)
    notes = [note for step in steps for note in step.notes]
    return PatchedFiles(steps[-1].files, tuple(notes))


def apply_in_steps(
    patches: Sequence[Patch],
    pristine: Mapping[str, ScratchFile | None],
    reverse: bool = False,
) -> tuple[PatchedFiles, ...]:
    """Like ``apply_series``: the files before any patch, and after each of them."""
    steps = [PatchedFiles(dict(pristine), ())]
    if not patches:
        return tuple(steps)
    with tempfile.TemporaryDirectory(prefix="torch_overlay_") as folder:
        # The real path, so that git sees where its search must end.
        scratch = Path(os.path.realpath(folder), "scratch")
        write_scratch(scratch, pristine)
        direction = ["--reverse"] if reverse else []
        for patch in reversed(patches) if reverse else patches:
            arguments = ["apply", "-v", "--whitespace=nowarn", "-p1", *direction, "-"]
            result = git_isolated(arguments, scratch, patch.content)
            messages = _message(result.stderr)
            if result.returncode != 0:
                raise Refused(f"patch {patch.name} does not fit: {messages}")
            if not reverse:  # its line numbers are the patch's own
                _refuse_misplaced(patch, result.stderr, steps[-1].files)
            offsets = [] if patch.is_common else _OFFSET.findall(messages)
            notes = [f"patch {patch.name}: {offset}" for offset in offsets]
            _check_scratch(scratch, patch, pristine)
            files = {path: _read_scratch(scratch / path) for path in pristine}
            steps.append(PatchedFiles(files, tuple(notes)))
    return tuple(steps)


def _refuse_misplaced(
    patch: Patch, messages: bytes, before: Mapping[str, ScratchFile | None]
) -> None:
    for misplaced in misplaced_hunks(patch, messages, before):
        raise Refused(f"patch {patch.name}: {misplaced}")


def misplaced_hunks(
    patch: Patch, messages: bytes, before: Mapping[str, ScratchFile | None]
) -> list[Misplaced]:
    """The hunks that git, by its messages, put into another definition."""
    files = {
        path: file.content.decode("utf-8", "replace")
        for path, file in before.items()
        if file is not None
    }
    text = patch.content.decode("utf-8", "replace")
    return list(find_misplaced(text, messages.decode("utf-8", "replace"), files))


def write_scratch(scratch: Path, files: Mapping[str, ScratchFile | None]) -> None:
    """Makes the folder ``scratch`` with those of the ``files`` that there are."""
    scratch.mkdir()
    for path, file in files.items():
        if file is not None:
            place = scratch / path
            place.parent.mkdir(parents=True, exist_ok=True)
            with naming(place):
                place.write_bytes(file.content)
            place.chmod(0o755 if file.executable else 0o644)


def _check_scratch(
    scratch: Path, patch: Patch, expected: Mapping[str, ScratchFile | None]
) -> None:
    """Refuses links, and files that git's own listing did not announce."""
    for folder, folders, names in os.walk(scratch):
        for name in (*folders, *names):
            place = Path(folder, name)
            path = place.relative_to(scratch).as_posix()
            mode = os.lstat(place).st_mode
            if stat.S_ISDIR(mode) or (stat.S_ISREG(mode) and path in expected):
                continue
            raise Refused(f"patch {patch.name} makes {path}, which is refused")


def _read_scratch(place: Path) -> ScratchFile | None:
    try:
        mode = os.lstat(place).st_mode
    except FileNotFoundError:
        return None
    return ScratchFile(place.read_bytes(), bool(mode & 0o100))


def _message(standard_error: bytes) -> str:
    lines = standard_error.decode("utf-8", "replace").splitlines()
    dull = ("Checking patch ", "Applied patch ")
    return "; ".join(line for line in lines if not line.startswith(dull))
