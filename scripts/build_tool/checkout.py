"""The checkout: its base, and what its own files ask of a build."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overlay_tool.bases import Base
from overlay_tool.errors import OverlayError
from overlay_tool.git import git_in_repository
from overlay_tool.patch_set import load_patch_set
from overlay_tool.trees import identify, require_base
from setup_tool.steps import SetupError

PACKAGES = ("torch", "functorch", "torchgen")
"""The top-level packages of a wheel of torch."""

_LEADING_NAME = re.compile(r"^[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Checkout:
    """A git checkout of PyTorch, of a base that the patch set knows."""

    root: Path
    base: Base
    commit: str

    @property
    def release(self) -> str:
        """The base's version, such as 2.13.0."""
        return self.base.release.removeprefix("v")

    def git(self, *arguments: str) -> str:
        """What git prints; raises SetupError with its words when it fails."""
        result = git_in_repository(arguments, self.root)
        if result.returncode != 0:
            words = result.stderr.decode("utf-8", "replace").strip()
            raise SetupError(f"git {' '.join(arguments[:2])} in {self.root}: {words}")
        return result.stdout.decode("utf-8", "surrogateescape")


def find_checkout(source: Path, patch_set: Path) -> Checkout:
    """The checkout at `source`; raises SetupError when it is none that is known."""
    try:
        tree = identify(source)
        if not tree.is_checkout:
            raise SetupError(
                f"--source {source} is no git checkout (no .git or no setup.py): to "
                "lay the overlay over an installed torch, call scripts/overlay.py"
            )
        base = require_base(tree, load_patch_set(patch_set).bases)
    except OverlayError as error:
        raise SetupError(f"--source {source}: {error}") from None
    return Checkout(tree.root, base, tree.commit)


def unready_submodules(checkout: Checkout) -> list[str]:
    """The submodules that are not there, of another commit, or in conflict."""
    if not (checkout.root / ".gitmodules").exists():
        return []
    lines = checkout.git("submodule", "status", "--recursive").splitlines()
    return [line for line in lines if line[:1] in ("-", "+", "U")]


def build_requirements(checkout: Checkout) -> list[str]:
    """What pip must have installed for a build without isolation."""
    listed = checkout.root / "requirements-build.txt"
    if listed.exists():
        lines = (line.partition(" #")[0].strip() for line in _lines(listed))
        return [line for line in lines if line and line[0] not in "#-"]
    requires = _project(checkout).get("build-system", {}).get("requires", [])
    if not requires:
        raise SetupError(
            f"{checkout.root} has neither requirements-build.txt nor a pyproject.toml "
            "with [build-system] requires: what its build needs cannot be told"
        )
    return [str(requirement) for requirement in requires]


def python_versions(checkout: Checkout) -> str:
    """What requires-python of pyproject.toml says, or what every base needs."""
    return str(_project(checkout).get("project", {}).get("requires-python", ">=3.10"))


def fits(version: Sequence[int], specifier: str) -> bool:
    """Whether a version is one that `>=3.10,<3.15` allows; other signs allow all."""
    for part in specifier.split(","):
        found = re.fullmatch(r"\s*(>=|<)\s*(\d+(?:\.\d+)*)\s*", part)
        if not found:
            continue
        limit = tuple(int(number) for number in found[2].split("."))
        at_least = tuple(version)[: len(limit)] >= limit
        if at_least != (found[1] == ">="):
            return False
    return True


def required_version(requirements: Sequence[str], name: str) -> str | None:
    """What `requirements` say of the versions of `name`; None: nothing, not even it."""
    for requirement in requirements:
        found = _LEADING_NAME.match(requirement)
        if found and found[0].lower() == name:
            return requirement[found.end() :].partition(";")[0].strip()
    return None


def _project(checkout: Checkout) -> dict[str, dict[str, Any]]:
    file = checkout.root / "pyproject.toml"
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise SetupError(f"{file} cannot be read: {error}") from None


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()
