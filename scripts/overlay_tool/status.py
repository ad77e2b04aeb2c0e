"""In which state a tree is, also one whose torch came with the overlay.

That was installed from a wheel that ``overlay.py wheel`` made; or somebody committed
the files, or built torch from a checkout that had them. Such a tree has no originals,
so nothing can be taken off or brought up to date in it: another torch has to come.
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
from .errors import Refused, Report
from .filesystem import State, blob_of, read
from .patch_set import PatchSet
from .patching import apply_series
from .plan import FileRecord, Receipt, load_receipt
from .transaction import holder
from .trees import VERSION_FILE, Tree, find_base, require_base

# The states of a tree, with the exit status that `status` gives for each.
STATES: Mapping[str, int] = {
    "applied": 0,
    "not applied": 10,
    "outdated": 11,
    "edited": 12,
    "interrupted": 13,
    "in progress": 14,
}
APPLY = "by apply"
"""The origin of what ``apply`` laid over a tree, in a status."""

VERSION = re.compile(rb"^(__version__\s*(?::[^=\n]*)?=\s*)(['\"])([^'\"\n]+)\2", re.M)
"""The version in a ``torch/version.py`` is its third group."""

_OUR_VERSION = re.compile(r".*[+.]rangedispatch\.([0-9a-f]+)")


def find_state(tree: Tree, state: State, patch_set: PatchSet) -> Report:
    """Says in which of STATES the tree is. Writes nothing, waits for nothing."""
    state.check()
    base = find_base(tree, patch_set.bases)
    about: dict[str, object] = {
        "tree": str(tree.root),
        "commit": tree.commit,
        "base": base.tag if base is not None else None,
        "patch_set": patch_set.digest(base) if base is not None else None,
    }
    if who := holder(state):
        return _report("in progress", f"{who} is changing the tree", about)
    if wheel := find_wheel(tree):
        # Apply refuses such a tree: state in it is of another torch, before this one.
        notes = []
        if state.receipt.exists() or state.folder.exists():
            notes.append(
                f"{state.receipt} and {state.folder} are from before this wheel was "
                "installed: delete both"
            )
        about["origin"] = f"from the wheel {wheel.version}"
        receipt = wheel.receipt(tree, patch_set, base)
        return _of_receipt(tree, patch_set, base, receipt, about, notes)
    if state.journal.exists():
        return _report("interrupted", "the next apply or revert undoes it", about)
    found = load_receipt(state)
    if found is not None:
        about["origin"] = APPLY
        return _of_receipt(tree, patch_set, base, found, about)
    state.require_no_originals()
    built_in = find_built_in(tree, patch_set)
    if built_in is None:
        return _not_applied(tree, patch_set, about)
    about["origin"] = "in torch's own files (committed, or built so)"
    digest, paths = patch_set.digest(built_in), patch_set.paths(built_in)
    blobs = {path: blob_of(read(tree.root, path)) for path in paths}
    files = {path: FileRecord(None, blob) for path, blob in blobs.items()}
    receipt = Receipt(built_in.tag, built_in.commit, digest, files)
    return _of_receipt(tree, patch_set, built_in, receipt, about)


def _of_receipt(
    tree: Tree,
    patch_set: PatchSet,
    base: Base | None,
    receipt: Receipt,
    about: dict[str, object],
    notes: list[str] | None = None,
) -> Report:
    kinds = {
        path: _file_state(blob_of(read(tree.root, path)), record)
        for path, record in sorted(receipt.files.items())
    }
    about["applied_base"] = receipt.base
    about["applied_patch_set"] = receipt.patch_set
    about["files"] = kinds
    others = {path: kind for path, kind in kinds.items() if kind != "applied"}
    lines = [f"{kind}: {tree.root / path}" for path, kind in others.items()]
    edits = [kind for kind in others.values() if kind != "restored"]
    name = "outdated"
    what = f"base {receipt.base}, patch set {receipt.patch_set[:12]}"
    if about["origin"] != APPLY:
        what += f", {about['origin']}"
    if base is None:
        what += f", but commit {tree.commit} is not a known base"
    elif base.commit != receipt.commit:
        what += f", but torch is now base {base.release}"
    elif edits:
        name, what = "edited", f"{count(len(edits))}, {what}"
    elif receipt.patch_set != (current := patch_set.digest(base)):
        what += f", the current one is {current[:12]}"
    elif lines:
        what += f", {count(len(lines))} back to the base's"
    else:
        name, what = "applied", f"{count(len(kinds))}, {what}"
    return _report(name, what, about, lines, notes)


def _file_state(blob: str | None, record: FileRecord) -> str:
    if blob == record.after:
        return "applied"
    if blob == record.before:
        return "restored"
    return "deleted" if blob is None else "edited"


def _not_applied(tree: Tree, patch_set: PatchSet, about: dict[str, object]) -> Report:
    base = require_base(tree, patch_set.bases)
    ours = [path for path in sorted(patch_set.overlay) if path not in base.blobs]
    there = [f"there: {path}" for path in ours if read(tree.root, path)]
    if there:
        summary = (
            f"base {base.tag}, but without a receipt {count(len(there))} of the "
            "overlay's are there, and not all is as in this patch set: committed, or "
            "built so? Take them off with git, or install torch anew, then apply"
        )
        return _report("outdated", summary, about, there)
    return _report("not applied", f"base {base.tag}", about)


def count(files: int) -> str:
    """So many files, in words."""
    return "1 file" if files == 1 else f"{files} files"


def _report(
    name: str,
    summary: str,
    about: Mapping[str, object],
    lines: list[str] | None = None,
    notes: list[str] | None = None,
) -> Report:
    details = {"state": name, **about}
    lists = tuple(lines or ()), tuple(notes or ())
    return Report(f"{name}: {summary}", STATES[name], *lists, details)


@dataclass(frozen=True)
class Wheel:
    """A wheel of ours that torch was installed from.

    ``digest`` is the version's part of the patch set's, ``hashes`` are those that
    RECORD has of its files, by path.
    """

    version: str
    digest: str
    hashes: Mapping[str, str]

    def receipt(self, tree: Tree, patch_set: PatchSet, base: Base | None) -> Receipt:
        """What would be the receipt, had ``apply`` brought what the wheel did."""
        files = {}
        for path in patch_set.overlay if base is None else patch_set.paths(base):
            file, expected = read(tree.root, path), self.hashes.get(path)
            if file is not None:
                found = base64.urlsafe_b64encode(hashlib.sha256(file.content).digest())
                same = expected == f"sha256={found.decode().rstrip('=')}"
                files[path] = FileRecord("", file.blob if same else "")
            elif expected is not None:
                files[path] = FileRecord("", "")
        digest = self.digest
        if base is not None and digest == digest_in_version(patch_set.digest(base)):
            digest = patch_set.digest(base)
        tag = "unknown" if base is None else base.tag
        return Receipt(tag, tree.commit, digest, files)


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


def find_built_in(tree: Tree, patch_set: PatchSet) -> Base | None:
    """The base that the tree's own files are, with all of the patch set in them.

    None unless taking it off again makes exactly the files of that base.
    """
    if not has_overlay(tree, patch_set):
        return None
    own = find_base(tree, patch_set.bases)
    for base in patch_set.bases if own is None else (own,):
        paths = [
            path for path in patch_set.paths(base) if path not in patch_set.overlay
        ]
        files = {path: read(tree.root, path) for path in paths}
        try:
            found = apply_series(patch_set.series(base), files, reverse=True).files
        except Refused:
            continue
        if all(base.accepts(path, blob_of(file)) for path, file in found.items()):
            return base
    return None


def has_overlay(tree: Tree, patch_set: PatchSet) -> bool:
    """Whether every whole file of ours is in the tree as it is in the patch set."""
    return bool(patch_set.overlay) and all(
        blob_of(read(tree.root, path)) == ours.blob
        for path, ours in patch_set.overlay.items()
    )


def refuse_wheel(tree: Tree) -> None:
    """Refuses to change what was installed from a wheel of ours; says what to do."""
    if (wheel := find_wheel(tree)) is not None:
        release = wheel.version.partition("+")[0]
        install = "pip install --force-reinstall --no-deps"
        raise Refused(
            f"{tree.root}: torch is from the wheel {wheel.version}, which has the "
            "overlay, and is not changed. To bring it up to date make another wheel, "
            f"`python scripts/overlay.py wheel --from torch-{release}*.whl --out dist`,"
            f" and `{install} dist/torch-{release}*.whl`; to take it off, or to edit "
            f"what apply brings, `{install} torch=={release}`, from the index that it "
            "came from"
        )


def refuse_built_in(tree: Tree, patch_set: PatchSet) -> None:
    """Refuses a tree that has the overlay in its own files; says what to do."""
    if find_built_in(tree, patch_set) is not None:
        raise Refused(
            f"{tree.root}: the overlay is in torch's own files (committed, or built "
            "so), and apply left no receipt: to take it off go back with git, or "
            "install a torch without it"
        )
