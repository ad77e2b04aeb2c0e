"""Runs git, the only external program, shielded from the caller's environment."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import EnvironmentFailure

# Others are set by git for its hooks and aliases: they would point us at that
# repository.
_KEPT = ("GIT_CONFIG_", "GIT_DISCOVERY_ACROSS_FILESYSTEM", "GIT_EXEC_PATH")

_ISOLATED_SETTINGS = (
    "core.autocrlf=false",
    "core.attributesFile=/dev/null",
    "core.fileMode=true",
    "apply.whitespace=nowarn",
    "apply.ignoreWhitespace=no",
)

_HUNK = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", re.M)

Done = subprocess.CompletedProcess[bytes]


def git_in_repository(
    arguments: Sequence[str],
    repository: Path,
    standard_input: bytes = b"",
    variables: Mapping[str, str] | None = None,
) -> Done:
    """Runs git on ``repository`` with the user's configuration.

    The configuration is kept because it may be what lets git read a repository of
    another owner (safe.directory). ``variables`` are set for git on top.
    """
    # An unknown commit in a partial clone must not be asked of a server.
    ours = {"GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0", **(variables or {})}
    return _run(["git", *arguments], repository, _KEPT, ours, standard_input)


def git_isolated(
    arguments: Sequence[str], folder: Path, standard_input: bytes = b""
) -> Done:
    """Runs git in ``folder`` outside of any repository and configuration."""
    variables = {
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CEILING_DIRECTORIES": os.path.dirname(os.path.realpath(folder)),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    options = [part for setting in _ISOLATED_SETTINGS for part in ("-c", setting)]
    command = ["git", *options, *arguments]
    return _run(command, folder, ("GIT_EXEC_PATH",), variables, standard_input)


def diff(
    before: bytes | None, after: bytes | None, context: int, path: str = "file"
) -> bytes:
    """A unified diff of a/``path`` and b/``path``; None is no file.

    It is empty if they are the same.
    """
    options = ("--no-index", "--no-prefix", "--no-renames", "--text")
    files = {f"a/{path}": before, f"b/{path}": after}
    result = _on_files(files, "diff", *options, f"--unified={context}", "a", "b")
    # Of a file that is on one side only, git gives that side twice.
    head = f"diff --git a/{path} b/{path}\n".encode()
    made = re.sub(rb"\Adiff --git .*\n", lambda found: head, result.stdout)
    # Which blobs it was made of is of no use where the base is pinned.
    return re.sub(rb"^index .*\n", b"", made, count=1, flags=re.M)


@dataclass(frozen=True)
class Edit:
    """Lines ``start`` to ``end`` (from 0, the end is not one of them) become ``new``.

    ``owner`` counts the changes from 0; ``distance`` is how many lines away from the
    edit the owner's own lines are.
    """

    start: int
    end: int
    new: tuple[bytes, ...]
    owner: int = 0
    distance: int = 0


def find_edits(before: bytes, after: bytes) -> tuple[Edit, ...]:
    """The edits that make ``after`` of ``before``, in order."""
    lines = after.splitlines(keepends=True)
    edits = []
    for found in _HUNK.finditer(diff(before, after, context=0)):
        start, count, new_start, new_count = (
            1 if group is None else int(group) for group in found.groups()
        )
        # Of no lines, git gives the line before.
        first = start if count == 0 else start - 1
        new_first = new_start if new_count == 0 else new_start - 1
        new = lines[new_first : new_first + new_count]
        edits.append(Edit(first, first + count, tuple(new)))
    return tuple(edits)


def merge(ours: bytes, base: bytes, theirs: bytes) -> bytes | None:
    """``ours`` with what ``theirs`` changed of ``base``; None if they collide."""
    if ours == base:
        return theirs
    files = {"ours": ours, "base": base, "theirs": theirs}
    result = _on_files(files, "merge-file", "-p", *files)
    return None if result.returncode else result.stdout


def _on_files(files: Mapping[str, bytes | None], *arguments: str) -> Done:
    with tempfile.TemporaryDirectory(prefix="torch_overlay_") as folder:
        for name, content in files.items():
            place = Path(folder, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            if content is not None:
                place.write_bytes(content)
        result = git_isolated(arguments, Path(folder))
    if result.returncode > 127:
        raise EnvironmentFailure(result.stderr.decode("utf-8", "replace"))
    return result


def _run(
    command: Sequence[str],
    folder: Path,
    kept: tuple[str, ...],
    variables: Mapping[str, str],
    standard_input: bytes,
) -> Done:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith(kept)
    }
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env={**environment, "LC_ALL": "C", **variables},
            input=standard_input,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise EnvironmentFailure(
            "git was not found: install it, or put it on PATH"
        ) from None
