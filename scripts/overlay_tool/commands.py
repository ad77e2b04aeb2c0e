"""The commands. Each takes folders, returns a report, and prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from .bases import Base, save_bases
from .errors import EnvironmentFailure, Refused
from .git import git_in_repository
from .lock import holder, locked
from .patch_set import BASES_NAME, PatchSet, load_patch_set
from .paths import read_blob
from .plan import Plan, check_overlap, plan_apply, plan_revert, touched_by_series
from .receipt import Receipt, load_receipt
from .report import Report
from .state import State
from .transaction import recover, run
from .trees import Tree, find_base, identify, require_base

# The states of a tree, with the exit status that `status` gives for each.
STATES: Mapping[str, int] = {
    "applied": 0,
    "not applied": 10,
    "outdated": 11,
    "edited": 12,
    "interrupted": 13,
    "in progress": 14,
}


def status(tree_path: Path, patch_set_root: Path) -> Report:
    """Says in which of STATES the tree is. Writes nothing, waits for nothing."""
    tree = identify(tree_path)
    return _status(tree, State(tree.root), load_patch_set(patch_set_root))


def apply(
    tree_path: Path, patch_set_root: Path, on_wait: Callable[[str], None]
) -> Report:
    """Lays the patch set over the tree, or brings what is there up to date."""
    tree = identify(tree_path)
    state = State(tree.root)
    patch_set = load_patch_set(patch_set_root)
    base = require_base(tree, patch_set.bases)
    # Needs no lock, so that a tree we may only read can be asked again and again.
    if _status(tree, state, patch_set).exit_code == STATES["applied"]:
        return _nothing_to_do(base, patch_set, ())
    with locked(state, "apply", on_wait):
        notes = _recover(state)
        receipt = load_receipt(state)
        plan = plan_apply(tree, state, patch_set, base, receipt)
        notes = (*notes, *plan.notes)
        if not plan.changes:
            return _nothing_to_do(base, patch_set, notes)
        run(state, plan.changes, plan.prune_directories)
    return _applied(base, patch_set, receipt, plan, notes)


def revert(tree_path: Path, on_wait: Callable[[str], None]) -> Report:
    """Puts the tree back, byte for byte, to what it was before ``apply``."""
    tree = identify(tree_path)
    state = State(tree.root)
    state.check()
    nothing = "not applied, nothing to do"
    if not state.receipt.exists() and not state.folder.exists():
        return Report(nothing, details={"outcome": "nothing to do"})
    with locked(state, "revert", on_wait):
        notes = _recover(state)
        receipt = load_receipt(state)
        if receipt is None:
            return Report(nothing, 0, (), notes, {"outcome": "nothing to do"})
        plan = plan_revert(tree, state, receipt)
        run(state, plan.changes, plan.prune_directories)
    return Report(
        f"reverted {_files(len(plan.restored))} (base {receipt.base})",
        notes=(*notes, *plan.notes),
        details={
            "outcome": "reverted",
            "base": receipt.base,
            "restored": list(plan.restored),
        },
    )


def pin(tree_path: Path, patch_set_root: Path, keep: bool) -> Report:
    """Writes the blob ids of a pristine tree's files into bases.toml."""
    tree = identify(tree_path)
    state = State(tree.root)
    if state.receipt.exists() or state.folder.exists():
        raise Refused(
            f"{tree.root} is not pristine: the overlay is applied; revert it first"
        )
    patch_set = load_patch_set(patch_set_root)
    base = require_base(tree, patch_set.bases)
    if tree.commit != base.commit:
        raise Refused(
            f"{tree.root} is not pristine: it has commits on top of {base.release}"
        )
    touched = touched_by_series(patch_set.series(base))
    check_overlap(patch_set, touched)
    blobs: dict[str, tuple[str, ...]] = {}
    for path in sorted({*patch_set.overlay, *touched}):
        blob = read_blob(tree.root, path)
        if tree.is_checkout and blob != _committed_blob(tree, path):
            raise Refused(f"{tree.root / path} is not pristine: git sees a change")
        accepted = set(base.blobs.get(path, ())) if keep else set()
        if blob is not None:
            accepted.add(blob)
        if accepted:
            blobs[path] = tuple(sorted(accepted))
    bases = tuple(
        replace(known, blobs=blobs) if known.tag == base.tag else known
        for known in patch_set.bases
    )
    changed = save_bases(patch_set.root / BASES_NAME, bases)
    return Report(
        f"{'pinned' if changed else 'already pinned:'} {_files(len(blobs))} of base "
        f"{base.tag} in {BASES_NAME}",
        details={"outcome": "pinned", "base": base.tag, "files": sorted(blobs)},
    )


def _status(tree: Tree, state: State, patch_set: PatchSet) -> Report:
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
        return _state("in progress", f"{who} is changing the tree", about)
    if state.journal.exists():
        return _state("interrupted", "the next apply or revert undoes it", about)
    if state.redo.exists():
        return _state("interrupted", "the next refresh finishes it", about)
    receipt = load_receipt(state)
    if receipt is None:
        _require_no_originals(state)
        base = require_base(tree, patch_set.bases)
        return _state("not applied", f"base {base.tag}", about)
    about["applied_base"] = receipt.base
    about["applied_patch_set"] = receipt.patch_set
    files = {path: _file_state(state, receipt, path) for path in sorted(receipt.files)}
    about["files"] = files
    lines = [
        f"{kind}: {state.root / path}"
        for path, kind in files.items()
        if kind != "applied"
    ]
    edits = [kind for kind in files.values() if kind in ("edited", "deleted")]
    applied = f"base {receipt.base}, patch set {receipt.patch_set[:12]}"
    if base is None or base.commit != receipt.commit:
        name = f"base {base.release}" if base is not None else f"commit {tree.commit}"
        return _state("outdated", f"{applied}, but torch is now {name}", about, lines)
    if edits:
        return _state("edited", f"{_files(len(edits))}, {applied}", about, lines)
    current = patch_set.digest(base)
    if receipt.patch_set != current:
        summary = f"{applied}, the current one is {current[:12]}"
        return _state("outdated", summary, about, lines)
    if lines:
        summary = f"{applied}, {_files(len(lines))} back to the base's"
        return _state("outdated", summary, about, lines)
    return _state("applied", f"{_files(len(files))}, {applied}", about)


def _state(
    name: str, summary: str, about: Mapping[str, object], lines: list[str] | None = None
) -> Report:
    return Report(
        f"{name}: {summary}",
        STATES[name],
        tuple(lines or ()),
        details={"state": name, **about},
    )


def _file_state(state: State, receipt: Receipt, path: str) -> str:
    blob = read_blob(state.root, path)
    record = receipt.files[path]
    if blob == record.after:
        return "applied"
    if blob == record.before:
        return "restored"
    return "deleted" if blob is None else "edited"


def _recover(state: State) -> tuple[str, ...]:
    state.check()
    if state.redo.exists():
        raise Refused(f"{state.root}: a refresh was cut off; run refresh again first")
    notes: tuple[str, ...] = ()
    try:
        if recover(state):
            notes = ("a change that was cut off was undone first",)
    except OSError as error:
        raise EnvironmentFailure(
            f"a change of {state.root} was cut off, and undoing it failed: {error}; "
            "remove the cause and run this again"
        ) from error
    if not state.receipt.exists():
        _require_no_originals(state)
    return notes


def _require_no_originals(state: State) -> None:
    """Our receipt is made and removed together with the originals: who took it?"""
    if any(place.is_file() for place in state.originals.rglob("*")):
        raise EnvironmentFailure(
            f"{state.receipt} is missing although {state.originals} holds originals: "
            "put the receipt back, or copy the originals to their places in the "
            f"tree, delete the files of ours, then delete {state.folder}"
        )


def _committed_blob(tree: Tree, path: str) -> str | None:
    arguments = ["rev-parse", "--verify", "--quiet", f"HEAD:{path}"]
    result = git_in_repository(arguments, tree.root)
    return result.stdout.decode().strip() if result.returncode == 0 else None


def _nothing_to_do(base: Base, patch_set: PatchSet, notes: tuple[str, ...]) -> Report:
    return Report(
        f"already applied, nothing to do ({_about(base, patch_set)})",
        notes=notes,
        details={
            "outcome": "nothing to do",
            "base": base.tag,
            "patch_set": patch_set.digest(base),
        },
    )


def _applied(
    base: Base,
    patch_set: PatchSet,
    receipt: Receipt | None,
    plan: Plan,
    notes: tuple[str, ...],
) -> Report:
    assert plan.receipt is not None
    count = _files(len(plan.receipt.files))
    if receipt is None:
        what = f"applied {count}"
    elif plan.written or plan.restored:
        what = f"updated {len(plan.written)} of {count}"
        if plan.restored:
            what += f", took {len(plan.restored)} back"
    else:
        what = "already applied, updated the receipt only"
    return Report(
        f"{what} ({_about(base, patch_set)})",
        notes=notes,
        details={
            "outcome": "applied" if receipt is None else "updated",
            "base": base.tag,
            "patch_set": patch_set.digest(base),
            "written": list(plan.written),
            "restored": list(plan.restored),
        },
    )


def _about(base: Base, patch_set: PatchSet) -> str:
    return f"base {base.tag}, patch set {patch_set.digest(base)[:12]}"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
