"""patches/stack.toml: the pull requests that the patch set is sent as, in order."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .errors import Refused
from .patch_set import OverlayFile, Patch

STACK_NAME = "patches/stack.toml"
EARLIER = "patches/stack"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Step:
    """Patches, a commit each with its own message; or files of ours, one commit.

    ``patches`` and ``files`` are patterns, of names without folder and ``.patch``, and
    of paths in the tree. What several steps match belongs to the first. ``earlier``
    are files, by their paths in the tree, as they are until a later step brings them.
    """

    message: str
    patches: tuple[str, ...]
    files: tuple[str, ...]
    earlier: Mapping[str, OverlayFile]


@dataclass(frozen=True)
class PullRequest:
    """Commits that stand on those of the pull requests before."""

    name: str
    summary: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Share:
    """What is a step's of all that there is."""

    step: Step
    patches: tuple[Patch, ...]
    files: tuple[str, ...]


def load_stack(root: Path) -> tuple[PullRequest, ...]:
    """Reads the stack of the patch set in ``root``; an error names what is wrong."""
    file = root / STACK_NAME
    try:
        document = tomllib.loads(file.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise Refused(f"{file} is missing: it has the messages of commits") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise Refused(f"{file} cannot be read: {error}") from None
    entries = document.pop("pull_request", [])
    if document:
        raise Refused(f"{file}: only [[pull_request]] entries are known")
    requests = tuple(_load_request(file, entry) for entry in entries)
    names = [request.name for request in requests]
    for name in names:
        if names.count(name) > 1:
            raise Refused(f"{file}: two pull requests are named {name}")
    return requests


def _load_request(file: Path, entry: Mapping[str, Any]) -> PullRequest:
    name = entry.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Refused(f"{file}: {name!r} is no name of a folder, such as cond-fixes")
    origin = f"{file}: {name}"
    _check_keys(origin, entry, {"name", "summary", "steps"})
    if not isinstance(entry.get("summary"), str):
        raise Refused(f"{origin}: it has no summary")
    folder = file.parents[1] / EARLIER / name
    steps = [_load_step(origin, step, folder) for step in entry.get("steps", [])]
    return PullRequest(name, entry["summary"].strip(), tuple(steps))


def _load_step(origin: str, entry: Mapping[str, Any], folder: Path) -> Step:
    _check_keys(origin, entry, {"message", "patches", "files", "earlier"})
    message = entry.get("message", "")
    patterns = {kind: entry.get(kind, []) for kind in ("patches", "files")}
    for kind, value in patterns.items():
        if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
            raise Refused(f"{origin}: {kind} is not a list of patterns")
    if bool(patterns["patches"]) == bool(patterns["files"]):
        raise Refused(f"{origin}: a step has either patches or files")
    if not isinstance(message, str) or bool(message) != bool(patterns["files"]):
        raise Refused(f"{origin}: a step of files has a message, one of patches none")
    if entry.get("earlier") and not patterns["files"]:
        raise Refused(f"{origin}: earlier belongs to a step of files")
    earlier = {}
    for path in entry.get("earlier", []):
        place = folder / path
        if not place.is_file():
            raise Refused(f"{origin}: there is no {place}")
        earlier[path] = OverlayFile(place.read_bytes(), executable=False)
    return Step(
        message, tuple(patterns["patches"]), tuple(patterns["files"]), earlier
    )


def _check_keys(origin: str, entry: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(entry) - known):
        raise Refused(f"{origin}: what is {', '.join(unknown)}?")


def share_out(
    stack: Sequence[PullRequest], patches: Sequence[Patch], files: Iterable[str]
) -> list[list[Share]]:
    """What each pull request brings, a list for each.

    Raises:
        Refused: something is nobody's, a patch would come before one that stands
            before it in its series, or nothing later brings a file that a step has an
            earlier version of.
    """
    steps = [step for request in stack for step in request.steps]
    of_patches = [_owner(steps, _short_name(each), "patches") for each in patches]
    for before, after, patch in zip(of_patches, of_patches[1:], patches[1:]):
        if before > after:
            raise Refused(
                f"{STACK_NAME}: {patch.name} would come before patches that stand "
                "before it in the series"
            )
    of_files = {path: _owner(steps, path, "files") for path in sorted(files)}
    for number, step in enumerate(steps):
        for path in step.earlier:
            if of_files.get(path, -1) <= number:
                raise Refused(f"{STACK_NAME}: no later step brings {path}")
    shares = [
        Share(
            step,
            tuple(patch for patch, owner in zip(patches, of_patches) if owner == i),
            tuple(path for path, owner in of_files.items() if owner == i),
        )
        for i, step in enumerate(steps)
    ]
    remaining = iter(shares)
    return [[next(remaining) for _ in request.steps] for request in stack]


def _short_name(patch: Patch) -> str:
    return patch.name.rpartition("/")[2].removesuffix(".patch")


def _owner(steps: Sequence[Step], name: str, kind: str) -> int:
    """Which step has the name: the first with a pattern for it."""
    for i, step in enumerate(steps):
        if any(fnmatchcase(name, pattern) for pattern in getattr(step, kind)):
            return i
    raise Refused(f"{STACK_NAME}: no pull request brings {name}")
