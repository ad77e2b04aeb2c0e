"""The torch that is installed, and a copy of it with the patch set over it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

from overlay_tool.bases import load_bases
from overlay_tool.errors import OverlayError
from overlay_tool.trees import find_base, identify
from processes import ROOT
from setup_tool.environment import child_variables
from setup_tool.linked_copy import copy_installed

LIBRARIES = ("nvidia",)
"""What torch's libraries look for beside torch."""


class Unusable(Exception):
    """There is no torch to check, or the patch set does not fit it; why, in words that
    name no path of the machine."""


def find_torch() -> Path:
    """The folder that holds the torch of this Python, which is not imported."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise Unusable(
            "this Python has no torch: call scripts/gpu_check with one that has"
        )
    return Path(spec.origin).parents[1]


def known_base(installed: Path, patch_set: Path) -> str:
    """The tag of the release that the torch there is."""
    try:
        tree = identify(installed)
        bases = load_bases(patch_set / "patches" / "bases.toml")
        base = find_base(tree, bases)
    except OverlayError as error:
        raise Unusable(str(error).replace(f"{installed}/", "")) from None
    if base is None:
        known = ", ".join(each.release for one in bases for each in one.releases)
        raise Unusable(
            f"the installed torch {installed_version()} (commit {tree.commit[:12]}) is "
            f"no known base: the patch set is for {known}. scripts/overlay.py check "
            "says what of it would fit"
        )
    return base.release


def installed_version() -> str:
    """As pip tells it; "of unknown version" where it cannot."""
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def make_copy(installed: Path, tree: Path, patch_set: Path, seconds: float) -> str:
    """Make ``tree``, lay the overlay over it, and return what overlay.py says.

    Raises:
        Unusable: the overlay does not fit.
        subprocess.TimeoutExpired: overlay.py took more than ``seconds``.
    """
    copy_installed(installed, tree)
    for name in LIBRARIES:
        if (installed / name).is_dir():
            (tree / name).symlink_to(installed / name)
    command = [sys.executable, str(ROOT / "scripts" / "overlay.py"), "apply", "--json"]
    command += ["--tree", str(tree), "--patch-set", str(patch_set)]
    result = subprocess.run(
        command,
        env=child_variables(),
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    try:
        document = json.loads(result.stdout)
    except ValueError:
        raise Unusable(f"overlay.py apply failed: {result.stderr.strip()}") from None
    if result.returncode:
        raise Unusable(f"overlay.py apply: {document['error']}".replace(f"{tree}/", ""))
    return (
        str(document["summary"]).replace(f"{tree}/", "").replace(str(tree), "the copy")
    )
