"""patches/stack.toml: the pull requests that the patch set is sent as, in order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .bases import read_toml
from .errors import Refused
from .filesystem import File, read
from .patching import Patch

STACK_NAME = "patches/stack.toml"
EARLIER = "patches/stack"


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
    earlier: Mapping[str, File]


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
    document = read_toml(file, "it has the messages of commits")
    try:
        requests = [_load_request(root, **each) for each in document["pull_request"]]
        names = [request.name for request in requests]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two pull requests are named {name}")
    except (TypeError, KeyError, ValueError) as error:
        raise Refused(f"{file}: {error}") from None
    return tuple(requests)


def _load_request(
    root: Path, *, name: str, summary: str, steps: Sequence[Mapping[str, Any]] = ()
) -> PullRequest:
    if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"{name!r} is no name of a folder, such as cond-fixes")
    folder = f"{EARLIER}/{name}"
    loaded = tuple(_load_step(root, folder, **step) for step in steps)
    return PullRequest(name, summary.strip(), loaded)


def _load_step(
    root: Path,
    folder: str,
    *,
    message: str = "",
    patches: Sequence[str] = (),
    files: Sequence[str] = (),
    earlier: Sequence[str] = (),
) -> Step:
    if not all(isinstance(each, list | tuple) for each in (patches, files, earlier)):
        raise ValueError(f"{folder}: patterns are lists")
    if bool(patches) == bool(files) or bool(message) != bool(files):
        raise ValueError(f"{folder}: a step has patches, or files and a message")
    if earlier and not files:
        raise ValueError(f"{folder}: earlier belongs to a step of files")
    before = {}
    for path in earlier:
        if (file := read(root, f"{folder}/{path}")) is None:
            raise ValueError(f"there is no {folder}/{path}")
        before[path] = file
    return Step(message, tuple(patches), tuple(files), before)


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
    short_names = [Path(patch.name).stem for patch in patches]
    owners = [_owner(steps, name, "patches") for name in short_names]
    for before, after, patch in zip(owners, owners[1:], patches[1:]):
        if before > after:
            raise Refused(
                f"{STACK_NAME}: {patch.name} would come before patches that stand "
                "before it in the series"
            )
    of_files = {path: _owner(steps, path, "files") for path in sorted(files)}
    shares = []
    for number, step in enumerate(steps):
        for path in step.earlier:
            if of_files.get(path, -1) <= number:
                raise Refused(f"{STACK_NAME}: no later step brings {path}")
        mine = tuple(x for x, owner in zip(patches, owners) if owner == number)
        paths = tuple(path for path, owner in of_files.items() if owner == number)
        shares.append(Share(step, mine, paths))
    remaining = iter(shares)
    return [[next(remaining) for _ in request.steps] for request in stack]


def _owner(steps: Sequence[Step], name: str, kind: str) -> int:
    """Which step has the name: the first with a pattern for it."""
    for number, step in enumerate(steps):
        if any(fnmatchcase(name, pattern) for pattern in getattr(step, kind)):
            return number
    raise Refused(f"{STACK_NAME}: no pull request brings {name}")
