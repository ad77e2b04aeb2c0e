"""In which state a tree is."""

from __future__ import annotations

from collections.abc import Mapping

from .bases import Base
from .built_in import Wheel, find_built_in, find_wheel
from .errors import EnvironmentFailure
from .lock import holder
from .patch_set import PatchSet
from .paths import read_blob
from .plan import touched_by_series
from .receipt import Receipt, load_receipt
from .report import Report
from .state import State
from .trees import Tree, find_base, require_base

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
    who = holder(state)
    if who is not None:
        return _report("in progress", f"{who} is changing the tree", about)
    wheel = find_wheel(tree)
    if wheel is not None:
        # Apply refuses such a tree: state in it is of another torch, before this one.
        return _of_wheel(state, patch_set, base, wheel, about)
    if state.journal.exists():
        return _report("interrupted", "the next apply or revert undoes it", about)
    if state.redo.exists():
        return _report("interrupted", "the next refresh finishes it", about)
    receipt = load_receipt(state)
    if receipt is None:
        require_no_originals(state)
        return _without_receipt(tree, state, patch_set, about)
    return _of_receipt(tree, state, patch_set, base, receipt, about)


def _of_receipt(
    tree: Tree,
    state: State,
    patch_set: PatchSet,
    base: Base | None,
    receipt: Receipt,
    about: dict[str, object],
) -> Report:
    about["origin"] = APPLY
    about["applied_base"] = receipt.base
    about["applied_patch_set"] = receipt.patch_set
    files = {path: _file_state(state, receipt, path) for path in sorted(receipt.files)}
    about["files"] = files
    lines = _not_applied(state, files)
    edits = [kind for kind in files.values() if kind in ("edited", "deleted")]
    applied = f"base {receipt.base}, patch set {receipt.patch_set[:12]}"
    if base is None or base.commit != receipt.commit:
        name = f"base {base.release}" if base is not None else f"commit {tree.commit}"
        return _report("outdated", f"{applied}, but torch is now {name}", about, lines)
    if edits:
        return _report("edited", f"{count(len(edits))}, {applied}", about, lines)
    current = patch_set.digest(base)
    if receipt.patch_set != current:
        summary = f"{applied}, the current one is {current[:12]}"
        return _report("outdated", summary, about, lines)
    if lines:
        summary = f"{applied}, {count(len(lines))} back to the base's"
        return _report("outdated", summary, about, lines)
    return _report("applied", f"{count(len(files))}, {applied}", about)


def _of_wheel(
    state: State,
    patch_set: PatchSet,
    base: Base | None,
    wheel: Wheel,
    about: dict[str, object],
) -> Report:
    touched = touched_by_series(patch_set.series(base)) if base is not None else {}
    found = {
        path: wheel.file_state(state, path)
        for path in sorted({*patch_set.overlay, *touched})
    }
    files = {path: kind for path, kind in found.items() if kind is not None}
    about["origin"] = f"from the wheel {wheel.version}"
    about["applied_base"] = about["base"]
    about["applied_patch_set"] = wheel.digest
    about["files"] = files
    notes = []
    if state.receipt.exists() or state.folder.exists():
        notes.append(
            f"{state.receipt} and {state.folder} are from before this wheel was "
            "installed: delete both"
        )
    lines = _not_applied(state, files)
    applied = f"patch set {wheel.digest}, {about['origin']}"
    if base is None:
        summary = f"{applied}, whose commit {about['commit']} is not a known base"
        return _report("outdated", summary, about, lines, notes)
    applied = f"base {base.tag}, {applied}"
    if lines:
        summary = f"{count(len(lines))}, {applied}"
        return _report("edited", summary, about, lines, notes)
    current = patch_set.digest(base)
    if not wheel.is_of(patch_set, base):
        summary = f"{applied}, the current one is {current[:12]}"
        return _report("outdated", summary, about, lines, notes)
    about["applied_patch_set"] = current
    return _report("applied", f"{count(len(files))}, {applied}", about, notes=notes)


def _without_receipt(
    tree: Tree, state: State, patch_set: PatchSet, about: dict[str, object]
) -> Report:
    built_in = find_built_in(tree, state, patch_set)
    if built_in is not None:
        digest = patch_set.digest(built_in)
        origin = "in torch's own files (committed, or built so)"
        about.update(
            origin=origin, applied_base=built_in.tag, applied_patch_set=digest
        )
        summary = f"base {built_in.tag}, patch set {digest[:12]}, {origin}"
        return _report("applied", summary, about)
    base = require_base(tree, patch_set.bases)
    ours = [path for path in sorted(patch_set.overlay) if path not in base.blobs]
    there = [f"there: {path}" for path in ours if read_blob(state.root, path)]
    if there:
        summary = (
            f"base {base.tag}, but without a receipt {count(len(there))} of the "
            "overlay's are there, and not all is as in this patch set: committed, or "
            "built so? Take them off with git, or install torch anew, then apply"
        )
        return _report("outdated", summary, about, there)
    return _report("not applied", f"base {base.tag}", about)


def require_no_originals(state: State) -> None:
    """Our receipt is made and removed together with the originals: who took it?"""
    if any(place.is_file() for place in state.originals.rglob("*")):
        raise EnvironmentFailure(
            f"{state.receipt} is missing although {state.originals} holds originals: "
            "put the receipt back, or copy the originals to their places in the "
            f"tree, delete the files of ours, then delete {state.folder}"
        )


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
    return Report(
        f"{name}: {summary}",
        STATES[name],
        tuple(lines or ()),
        tuple(notes or ()),
        details={"state": name, **about},
    )


def _not_applied(state: State, files: Mapping[str, str]) -> list[str]:
    return [
        f"{kind}: {state.root / path}"
        for path, kind in files.items()
        if kind != "applied"
    ]


def _file_state(state: State, receipt: Receipt, path: str) -> str:
    blob = read_blob(state.root, path)
    record = receipt.files[path]
    if blob == record.after:
        return "applied"
    if blob == record.before:
        return "restored"
    return "deleted" if blob is None else "edited"
