"""The environment variables of the build. What the user has set stays as it is."""

import os
from collections.abc import Mapping
from pathlib import Path

from build_tool.jobs import Jobs
from setup_tool.environment import child_variables
from setup_tool.steps import SetupError

YES = ("1", "on", "true", "yes", "y")
NO = ("0", "off", "false", "no", "n")
"""What CMake and the base's setup.py take for true and for false."""


def choose_device(flag: str | None, variables: Mapping[str, str]) -> str:
    """"cuda" or "cpu": the flag, else USE_CUDA, else cpu."""
    given = variables.get("USE_CUDA", "").lower()
    if given and given not in YES + NO:
        raise SetupError(f"USE_CUDA={given}: 0 or 1 is needed")
    if not given:
        return flag or "cpu"
    of_variable = "cuda" if given in YES else "cpu"
    if flag not in (None, of_variable):
        raise SetupError(
            f"--{flag} was given and USE_CUDA={given} is set: drop one of the two"
        )
    return of_variable


def chosen_variables(
    device: str, jobs: Jobs, variables: Mapping[str, str]
) -> dict[str, str]:
    """What the build gets on top of the user's own variables."""
    wanted = {
        "USE_CUDA": "1" if device == "cuda" else "0",
        "BUILD_TEST": "0",
        "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs.count),
    }
    chosen = {name: text for name, text in wanted.items() if not variables.get(name)}
    # --jobs is the one thing that may differ from what is set, and preflight says so.
    return {**chosen, "MAX_JOBS": str(jobs.count)}


def in_environment(folder: Path) -> dict[str, str]:
    """The caller's variables with the virtual environment active, pip quiet."""
    variables = child_variables()
    variables["VIRTUAL_ENV"] = str(folder)
    variables["PATH"] = os.pathsep.join(
        [str(folder / "bin"), variables.get("PATH", os.defpath)]
    )
    variables["PIP_NO_INPUT"] = "1"
    variables["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    variables["PYTHONUNBUFFERED"] = "1"
    return variables
