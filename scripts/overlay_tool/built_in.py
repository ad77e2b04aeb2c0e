"""Tells the overlay in a torch that came with it, without any ``apply``.

It was installed from a wheel that ``overlay.py wheel`` made; or somebody committed the
files, or built torch from a checkout that had them. Such a tree has no originals, so
nothing can be taken off or brought up to date in it: another torch has to come.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .bases import Base
from .blobs import blob_id
from .errors import Refused
from .patch_set import Patch, PatchSet
from .patching import apply_series
from .paths import read_content
from .plan import scratch_file, touched_by_series
from .state import State
from .trees import VERSION_FILE, Tree, find_base

VERSION = re.compile(rb"^(__version__\s*(?::[^=\n]*)?=\s*)(['\"])([^'\"\n]+)\2", re.M)
"""The version in a ``torch/version.py`` is its third group."""

_OUR_VERSION = re.compile(r".*[+.]rangedispatch\.([0-9a-f]+)")


@dataclass(frozen=True)
class Wheel:
    """What is installed from a wheel of ours: its version, and what RECORD says.

    ``hashes`` are those of its files, by path; ``digest`` is the version's part of the
    patch set's.
    """

    version: str
    digest: str
    hashes: Mapping[str, str]

    def is_of(self, patch_set: PatchSet, base: Base) -> bool:
        """Whether the wheel has that patch set."""
        return self.digest == digest_in_version(patch_set.digest(base))

    def file_state(self, state: State, path: str) -> str | None:
        """What became of a file since; None if there is none, and was none."""
        content = read_content(state.root, path)
        expected = self.hashes.get(path)
        if content is None:
            return None if expected is None else "deleted"
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
        same = expected == f"sha256={digest.decode().rstrip('=')}"
        return "applied" if same else "edited"


def digest_in_version(digest: str) -> str:
    """What of a patch set's digest is in the version of a wheel that has it."""
    part = digest[:12]
    # A part of digits only is a number to pip: it loses its leading zeros.
    return str(int(part)) if part.isdecimal() else part


def find_wheel(tree: Tree) -> Wheel | None:
    """The wheel of ours that torch was installed from, None if it was from no such."""
    file = tree.root / VERSION_FILE
    if tree.is_checkout or not file.is_file():
        return None
    found = VERSION.search(file.read_bytes())
    version = "" if found is None else found[3].decode("utf-8", "replace")
    ours = _OUR_VERSION.fullmatch(version)
    if ours is None:
        return None
    path = [str(tree.root)]
    # `pip install --target` leaves metadata of other versions behind.
    for installed in importlib.metadata.distributions(name="torch", path=path):
        record = installed.read_text("RECORD")
        if installed.version == version and record is not None:
            rows = csv.reader(record.splitlines())
            hashes = {row[0]: row[1] for row in rows if len(row) == 3}
            return Wheel(version, ours[1], hashes)
    return None


def find_built_in(tree: Tree, state: State, patch_set: PatchSet) -> Base | None:
    """The base that the tree's own files are, with all of the patch set in them.

    None unless taking it off again makes exactly the files of that base.
    """
    if not has_overlay(state, patch_set):
        return None
    own = find_base(tree, patch_set.bases)
    for base in patch_set.bases if own is None else (own,):
        if _makes_base(state, base, patch_set.series(base)):
            return base
    return None


def has_overlay(state: State, patch_set: PatchSet) -> bool:
    """Whether every whole file of ours is in the tree as it is in the patch set."""
    return bool(patch_set.overlay) and all(
        read_content(state.root, path) == ours.content
        for path, ours in patch_set.overlay.items()
    )


def _makes_base(state: State, base: Base, patches: tuple[Patch, ...]) -> bool:
    files = {
        path: scratch_file(state, path, read_content(state.root, path))
        for path in touched_by_series(patches)
    }
    try:
        found = apply_series(patches, files, reverse=True)
    except Refused:
        return False
    return all(
        base.accepts(path, None if file is None else blob_id(file.content))
        for path, file in found.files.items()
    )


def refuse_wheel(tree: Tree, command: str) -> None:
    """Refuses to change what was installed from a wheel of ours; says what to do."""
    wheel = find_wheel(tree)
    if wheel is None:
        return
    release = wheel.version.partition("+")[0]
    install = "pip install --force-reinstall --no-deps"
    pristine = f"`{install} torch=={release}`, from the index that it came from"
    make = (
        f"`python scripts/overlay.py wheel --from torch-{release}*.whl --out dist`, "
        f"then `{install} dist/torch-{release}*.whl`"
    )
    advice = {
        "apply": f"make a wheel of this patch set and install that: {make}",
        "pin": f"install torch without it: {pristine}",
        "refresh": f"edits come back from where apply was used: save yours, {pristine}"
        f", apply, then edit there; or make another wheel: {make}",
        "revert": f"to take it off install torch without it: {pristine}",
    }
    raise Refused(
        f"{tree.root}: torch is from the wheel {wheel.version}, which has the overlay; "
        + advice[command]
    )


def refuse_built_in(tree: Tree, state: State, patch_set: PatchSet) -> None:
    """Refuses a tree that has the overlay in its own files; says what to do."""
    if find_built_in(tree, state, patch_set) is not None:
        raise Refused(
            f"{tree.root}: the overlay is in torch's own files (committed, or built "
            "so), and apply left no receipt: to take it off go back with git, or "
            "install a torch without it"
        )
