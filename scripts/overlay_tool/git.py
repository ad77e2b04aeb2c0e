"""Runs git, the only external program, shielded from the caller's environment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
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


def git_in_repository(
    arguments: Sequence[str],
    repository: Path,
    standard_input: bytes = b"",
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Runs git on ``repository`` with the user's configuration.

    The configuration is kept because it may be what lets git read a repository of
    another owner (safe.directory). ``variables`` are set for git on top.
    """
    # An unknown commit in a partial clone must not be asked of a server.
    ours = {"GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0", **(variables or {})}
    return _run(["git", *arguments], repository, _KEPT, ours, standard_input)


def git_isolated(
    arguments: Sequence[str], folder: Path, standard_input: bytes
) -> subprocess.CompletedProcess[bytes]:
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


def _run(
    command: Sequence[str],
    folder: Path,
    kept: tuple[str, ...],
    variables: Mapping[str, str],
    standard_input: bytes,
) -> subprocess.CompletedProcess[bytes]:
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
