"""Applies a series of patches in a scratch folder; never touches a tree.

Git knows no fuzz, but with a line or two of context a hunk may fit where it has no
business: a method before any `@classmethod`. Git takes the nearest such place. The
heading of a hunk, the text after its second @@, tells the class or function that it was
made in, and a hunk that ends up in another one is refused.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .errors import Refused
from .filesystem import File, check_path, naming, read
from .git import Done, git_isolated

COMMON = "common/"
"""How a series names a patch of patches/common/, which several bases share."""

Files = Mapping[str, File | None]
"""By path; None where there is no file."""

_RENAME = re.compile(rb"(rename|copy) (from|to) ")
_OFFSET = re.compile(r"Hunk #(\d+) succeeded at (\d+) \(offset (-?\d+) lines?\)")
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@ ?(.*)")
_DEFINITION = re.compile(r"(?:async )?(?:class|def) (\w+)")


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
class PatchedFiles:
    """What a series makes of its files, and what is worth telling about it."""

    files: Files
    notes: tuple[str, ...] = ()


@lru_cache(maxsize=None)
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
    with scratch_with({}) as scratch:
        arguments = ["apply", "--numstat", "-z", "-p1", "-"]
        listing = git_isolated(arguments, scratch, patch.content)
    if listing.returncode != 0:
        raise Refused(f"patch {patch.name}: {_message(listing)}")
    paths = []
    for record in filter(None, listing.stdout.split(b"\0")):
        path = record.split(b"\t", 2)[2].decode("utf-8", "surrogateescape")
        paths.append(check_path(path, f"patch {patch.name}"))
    return tuple(dict.fromkeys(paths))


def apply_series(
    patches: Sequence[Patch], pristine: Files, reverse: bool = False
) -> PatchedFiles:
    """The contents of the ``pristine`` files after all ``patches``.

    With ``reverse`` it is given what they made, and takes them off, the last first.

    ``pristine`` has an entry for each path that a patch touches. That a hunk matched at
    another line than it says is harmless, as the files are pinned, and reported of a
    patch that no other base shares.
    """
    steps = apply_in_steps(patches, pristine, reverse)
    notes = [note for step in steps for note in step.notes]
    return PatchedFiles(steps[-1].files, tuple(notes))


def apply_in_steps(
    patches: Sequence[Patch], pristine: Files, reverse: bool = False
) -> tuple[PatchedFiles, ...]:
    """Like ``apply_series``: the files before any patch, and after each of them."""
    steps = [PatchedFiles(pristine)]
    if not patches:
        return tuple(steps)
    with scratch_with(pristine) as scratch:
        for patch in reversed(patches) if reverse else patches:
            options = ["--reverse"] if reverse else []
            result = git_apply(patch.content, scratch, *options)
            if result.returncode != 0:
                raise Refused(f"patch {patch.name} does not fit: {_message(result)}")
            before = steps[-1].files
            if not reverse:  # its line numbers are the patch's own
                for _, _, problem in misplaced_hunks(patch, result.stderr, before):
                    raise Refused(f"patch {patch.name}: {problem}")
            found = [] if patch.is_common else _OFFSET.finditer(_message(result))
            notes = tuple(f"patch {patch.name}: {offset[0]}" for offset in found)
            files = {**before, **read_scratch(scratch, patch)}
            steps.append(PatchedFiles(files, notes))
    return tuple(steps)


@contextmanager
def scratch_with(files: Files) -> Iterator[Path]:
    """A folder with those of the ``files`` that there are, for a while."""
    with tempfile.TemporaryDirectory(prefix="torch_overlay_") as folder:
        # The real path, so that git sees where its search must end.
        scratch = Path(os.path.realpath(folder), "scratch")
        scratch.mkdir()
        for path, file in files.items():
            if file is not None:
                place = scratch / path
                place.parent.mkdir(parents=True, exist_ok=True)
                with naming(place):
                    place.write_bytes(file.content)
                place.chmod(0o755 if file.executable else 0o644)
        yield scratch


def read_scratch(scratch: Path, patch: Patch) -> Files:
    """What a patch made of the files that it touches; refuses links."""
    paths = touched_paths(patch)
    for path in paths:
        if (scratch / path).is_symlink():
            raise Refused(f"patch {patch.name} makes {path}, a link, which is refused")
    return {path: read(scratch, path) for path in paths}


def git_apply(content: bytes, scratch: Path, *options: str) -> Done:
    """Applies a patch there; what was said names each hunk that was moved."""
    arguments = ["apply", "-v", "--whitespace=nowarn", "-p1", *options, "-"]
    return git_isolated(arguments, scratch, content)


def offsets_of(messages: bytes) -> tuple[int, ...]:
    """By how many lines each hunk that was moved was moved."""
    return tuple(int(found[3]) for found in _OFFSET.finditer(_text(messages)))


def misplaced_hunks(
    patch: Patch, messages: bytes, before: Files
) -> Iterator[tuple[str, str, str]]:
    """The hunks that git put into another class or function than they are made for.

    Args:
        messages: of ``git_apply``.
        before: the files before it.

    Returns:
        For each the file's path, its text, and what is wrong.
    """
    places = _moved_hunks(_text(messages))
    for path, hunks in _hunks_of(_text(patch.content)):
        file = before.get(path)
        lines = _text(file.content).splitlines() if file is not None else []
        added = 0
        for number, hunk in enumerate(hunks, 1):
            header = _HUNK.match(hunk)
            assert header is not None
            old, new, heading = header.groups()
            wanted = _DEFINITION.match(heading)
            place = places.get((path, number))
            if wanted and place and _is_indented(hunk):
                found = _enclosing(lines[: place - added - 1])
                if found and found != wanted[1]:
                    yield (
                        path,
                        hunk,
                        (
                            f"a hunk of {path} that is made for {wanted[1]} fits in "
                            f"{found}: give it more lines of context"
                        ),
                    )
            added += int(new or 1) - int(old or 1)


def _moved_hunks(messages: str) -> dict[tuple[str, int], int]:
    """The line in the new file where each hunk is that was moved."""
    places = {}
    path = ""
    for line in messages.splitlines():
        if line.startswith("Checking patch "):
            path = line.removeprefix("Checking patch ").removesuffix("...")
        elif moved := _OFFSET.match(line):
            places[path, int(moved[1])] = int(moved[2])
    return places


def _hunks_of(patch: str) -> Iterator[tuple[str, list[str]]]:
    """The path of each file's diff, with its hunks."""
    for section in re.split(r"^(?=diff --git )", patch, flags=re.M)[1:]:
        path = re.match(r"diff --git a/(\S+) b/", section)
        # Below the last hunk may stand what git puts at the end of a mail.
        text = re.sub(r"^-- \n.*\Z", "", section, flags=re.M | re.S)
        hunks = re.split(r"^(?=@@ )", text, flags=re.M)[1:]
        if path and all(map(_HUNK.match, hunks)):
            yield path[1], hunks


def _is_indented(hunk: str) -> bool:
    """Whether all that it changes is inside of a definition."""
    changed = [x[1:] for x in hunk.splitlines()[1:] if x[:1] in ("+", "-")]
    return all(line.startswith(" ") for line in changed if line.strip())


def _enclosing(lines: list[str]) -> str | None:
    """The name of the definition at the end of ``lines``, as git's headings tell it."""
    for line in reversed(lines):
        if re.match(r"[A-Za-z_$]", line):
            definition = _DEFINITION.match(line)
            return definition[1] if definition else None
    return None


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _message(result: Done) -> str:
    lines = _text(result.stderr).splitlines()
    dull = ("Checking patch ", "Applied patch ")
    return "; ".join(line for line in lines if not line.startswith(dull))
