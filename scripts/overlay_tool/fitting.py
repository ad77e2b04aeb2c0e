"""Says how each patch of a series would fit files that may be anybody's.

Unlike ``patching`` it goes on after a patch that does not fit: the hunks of it that do
are kept, so that the patches after it are judged as they would be once it was mended.
Works in a scratch folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .git import git_isolated
from .patch_set import Patch
from .patching import misplaced_hunks, ScratchFile, touched_paths, write_scratch

APPLIES = "applies"
UPSTREAM = "already upstream"
OFFSET = "fits with offset"
CONFLICT = "conflict"

_OFFSET = re.compile(r"^Hunk #\d+ succeeded at \d+ \(offset (-?\d+) lines?\)", re.M)


@dataclass(frozen=True)
class Hunk:
    """A hunk that does not fit. ``upstream``: because the file has the change already.

    ``text`` starts with its line of @@.
    """

    path: str
    text: str
    upstream: bool


@dataclass(frozen=True)
class Fit:
    """How a patch fits: ``kind`` is one of the four above.

    ``offsets`` are in lines, one for each hunk that matched elsewhere than it says.
    ``missing`` are files that the patch changes and the tree does not have.
    """

    patch: str
    kind: str
    offsets: tuple[int, ...] = ()
    hunks: tuple[Hunk, ...] = ()
    missing: tuple[str, ...] = ()


def fit_series(
    patches: Sequence[Patch], files: Mapping[str, ScratchFile | None]
) -> tuple[Fit, ...]:
    """How ``patches`` fit ``files``, one after the other.

    Args:
        files: what the tree has at each path that a patch touches.
    """
    with tempfile.TemporaryDirectory(prefix="torch_overlay_") as folder:
        # The real path, so that git sees where its search must end.
        scratch = Path(os.path.realpath(folder), "scratch")
        write_scratch(scratch, files)
        upstream = _take_off_upstream(patches, scratch)
        return tuple(_fit(patch, scratch, patch.name in upstream) for patch in patches)


def _take_off_upstream(patches: Sequence[Patch], scratch: Path) -> set[str]:
    """Takes off the patches that the files have; the names of those.

    From the last to the first, as a later one may change what an earlier one wrote.
    """
    upstream = set()
    for patch in reversed(patches):
        forward = _try(patch.content, scratch)
        reverse = _try(patch.content, scratch, "--reverse")
        # With a line of context a hunk may also match where it has no business, in
        # either direction: what moves least is meant.
        if _moved(reverse) < _moved(forward):
            _git(patch.content, scratch, "--reverse").check_returncode()
            upstream.add(patch.name)
    return upstream


def _fit(patch: Patch, scratch: Path, upstream: bool) -> Fit:
    offsets = _try(patch.content, scratch)
    if offsets is None:
        return _fit_in_part(patch, scratch)
    before = {path: _read(scratch / path) for path in touched_paths(patch)}
    result = _git(patch.content, scratch)
    result.check_returncode()
    if upstream:
        return Fit(patch.name, UPSTREAM)
    if misplaced := misplaced_hunks(patch, result.stderr, before):
        hunks = tuple(
            Hunk(each.path, f"{each.hunk.rstrip()}\n({each})\n", False)
            for each in misplaced
        )
        return Fit(patch.name, CONFLICT, offsets, hunks)
    return Fit(patch.name, OFFSET if offsets else APPLIES, offsets=offsets)


def _read(place: Path) -> ScratchFile | None:
    return ScratchFile(place.read_bytes(), False) if place.is_file() else None


def _try(content: bytes, scratch: Path, *options: str) -> tuple[int, ...] | None:
    """The offsets of a patch's hunks in one direction, None if it does not fit."""
    result = _git(content, scratch, "--check", *options)
    if result.returncode != 0:
        return None
    messages = result.stderr.decode("utf-8", "replace")
    return tuple(map(int, _OFFSET.findall(messages)))


def _moved(offsets: tuple[int, ...] | None) -> float:
    """How many lines all hunks are away from where they should be."""
    return float("inf") if offsets is None else sum(map(abs, offsets))


def _fit_in_part(patch: Patch, scratch: Path) -> Fit:
    """Applies the hunks that fit; those that do not are in the result."""
    paths = touched_paths(patch)
    here = {path for path in paths if (scratch / path).is_file()}
    for section in _sections(patch.content):
        _git(section, scratch, "--reject")
    hunks: list[Hunk] = []
    for path in paths:
        rejects = scratch / f"{path}.rej"
        if rejects.is_file():
            for text in _hunks(rejects.read_text("utf-8", "surrogateescape")):
                upstream = _is_upstream(path, text, scratch)
                hunks.append(Hunk(path, text, upstream))
            rejects.unlink()
    made = [path for path in paths if (scratch / path).is_file() and path not in here]
    missing = [path for path in paths if path not in here and path not in made]
    return Fit(patch.name, CONFLICT, hunks=tuple(hunks), missing=tuple(missing))


def _sections(content: bytes) -> Iterator[bytes]:
    """The diff of each file: with one that is missing, git would reject all."""
    yield from re.split(rb"^(?=diff --git )", content, flags=re.M)[1:]


def _hunks(rejects: str) -> list[str]:
    return re.split(r"^(?=@@ )", rejects, flags=re.M)[1:]


def _is_upstream(path: str, hunk: str, scratch: Path) -> bool:
    """Whether the file is as the hunk would make it, at most a few lines away."""
    diff = f"--- a/{path}\n+++ b/{path}\n{hunk}".encode("utf-8", "surrogateescape")
    return _try(diff, scratch, "--reverse") is not None


def _git(
    content: bytes, scratch: Path, *options: str
) -> subprocess.CompletedProcess[bytes]:
    arguments = ["apply", "-v", "--whitespace=nowarn", "-p1", *options, "-"]
    return git_isolated(arguments, scratch, content)
