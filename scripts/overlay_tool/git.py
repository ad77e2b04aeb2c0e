"""Runs git, the only external program, shielded from the caller's environment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import EnvironmentFailure

# Set by git for its hooks and aliases: they would point us at that repository.
_LOCAL_VARIABLES = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)

_ISOLATED_OPTIONS = (
    "-c",
    "core.autocrlf=false",
    "-c",
    "core.attributesFile=/dev/null",
    "-c",
    "core.fileMode=true",
    "-c",
    "apply.whitespace=nowarn",
    "-c",
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
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in _LOCAL_VARIABLES
    }
    # An unknown commit in a partial clone must not be asked of a server.
    environment.update(GIT_NO_LAZY_FETCH="1", GIT_TERMINAL_PROMPT="0", LC_ALL="C")
    environment.update(variables or {})
    return _run(["git", *arguments], repository, environment, standard_input)


def git_isolated(
    arguments: Sequence[str], folder: Path, standard_input: bytes
) -> subprocess.CompletedProcess[bytes]:
    """Runs git in ``folder`` outside of any repository and configuration."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name == "GIT_EXEC_PATH"
    }
    environment.update(
        GIT_ATTR_NOSYSTEM="1",
        GIT_CEILING_DIRECTORIES=os.path.dirname(os.path.realpath(folder)),
        GIT_CONFIG_GLOBAL="/dev/null",
        GIT_CONFIG_NOSYSTEM="1",
        LC_ALL="C",
    )
    command = ["git", *_ISOLATED_OPTIONS, *arguments]
    return _run(command, folder, environment, standard_input)


def _run(
    command: Sequence[str],
    folder: Path,
    environment: dict[str, str],
    standard_input: bytes,
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=environment,
            input=standard_input,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise EnvironmentFailure(
            "git was not found: install it, or put it on PATH"
        ) from None
