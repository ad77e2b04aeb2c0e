"""The commands. Each takes folders, returns a report, and prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from .bases import save_bases
from .errors import EnvironmentFailure, Refused, Report
from .filesystem import State, blob_of, read
from .git import git_in_repository
from .patch_set import BASES_NAME, load_patch_set
from .plan import load_receipt, plan_apply, plan_revert
from .status import APPLY, STATES, count, find_state, has_overlay, refuse_built_in
from .status import refuse_wheel
from .transaction import locked, recover, run
from .trees import Tree, identify, require_base


def status(tree_path: Path, patch_set_root: Path) -> Report:
    """Says in which of STATES the tree is. Writes nothing, waits for nothing."""
    tree = identify(tree_path)
    if State(patch_set_root).journal.exists():
        what = f"interrupted: a refresh of {patch_set_root}; the next refresh undoes it"
        return Report(what, STATES["interrupted"], details={"state": "interrupted"})
    return find_state(tree, State(tree.root), load_patch_set(patch_set_root))


def apply(
    tree_path: Path, patch_set_root: Path, on_wait: Callable[[str], None]
) -> Report:
    """Lays the patch set over the tree, or brings what is there up to date."""
    tree = identify(tree_path)
    state = State(tree.root)
    patch_set = load_patch_set(patch_set_root)
    # Needs no lock, so that a tree we may only read can be asked again and again.
    found = find_state(tree, state, patch_set)
    if found.exit_code == STATES["applied"]:
        keys = ("applied_base", "applied_patch_set", "origin")
        tag, digest, origin = (str(found.details[key]) for key in keys)
        return _nothing_to_do(tag, digest, origin, found.notes)
    refuse_wheel(tree)
    base = require_base(tree, patch_set.bases)
    digest = patch_set.digest(base)
    with locked(state, "apply", on_wait):
        notes = undo_what_was_cut_off(state)
        old = load_receipt(state)
        plan = plan_apply(tree, state, patch_set, base, old)
        notes = (*notes, *plan.notes)
        if not plan.changes:
            return _nothing_to_do(base.tag, digest, APPLY, notes)
        run(state, plan.changes)
    assert plan.receipt is not None
    files = count(len(plan.receipt.files))
    if old is None:
        what = f"applied {files}"
    elif plan.written or plan.restored:
        took = f", took {len(plan.restored)} back" if plan.restored else ""
        what = f"updated {len(plan.written)} of {files}{took}"
    else:
        what = "already applied, updated the receipt only"
    return Report(
        f"{what} (base {base.tag}, patch set {digest[:12]})",
        notes=notes,
        details={
            "outcome": "applied" if old is None else "updated",
            "base": base.tag,
            "patch_set": digest,
            "written": list(plan.written),
            "restored": list(plan.restored),
        },
    )


def _nothing_to_do(
    tag: str, digest: str, origin: str, notes: tuple[str, ...]
) -> Report:
    whence = "" if origin == APPLY else f", {origin}"
    about = f"base {tag}, patch set {digest[:12]}{whence}"
    return Report(
        f"already applied, nothing to do ({about})",
        notes=notes,
        details={"outcome": "nothing to do", "base": tag, "patch_set": digest},
    )


def revert(
    tree_path: Path,
    on_wait: Callable[[str], None],
    patch_set_root: Path | None = None,
) -> Report:
    """Puts the tree back, byte for byte, to what it was before ``apply``.

    Needs no patch set; with one it can tell it in torch's own files, and refuses them.
    """
    tree = identify(tree_path)
    state = State(tree.root)
    state.check()
    refuse_wheel(tree)
    nothing = "not applied, nothing to do"
    if not state.receipt.exists() and not state.folder.exists():
        if patch_set_root is not None:
            refuse_built_in(tree, load_patch_set(patch_set_root))
        return Report(nothing, details={"outcome": "nothing to do"})
    with locked(state, "revert", on_wait):
        notes = undo_what_was_cut_off(state)
        receipt = load_receipt(state)
        if receipt is None:
            return Report(nothing, 0, (), notes, {"outcome": "nothing to do"})
        plan = plan_revert(tree, state, receipt)
        run(state, plan.changes)
    return Report(
        f"reverted {count(len(plan.restored))} (base {receipt.base})",
        notes=(*notes, *plan.notes),
        details={
            "outcome": "reverted",
            "base": receipt.base,
            "restored": list(plan.restored),
        },
    )


def undo_what_was_cut_off(state: State) -> tuple[str, ...]:
    """Brings the tree back to where a command that was killed found it."""
    state.check()
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
        state.require_no_originals()
    return notes


def pin(tree_path: Path, patch_set_root: Path, keep: bool) -> Report:
    """Writes the blob ids of a pristine tree's files into bases.toml."""
    tree = identify(tree_path)
    state = State(tree.root)
    refuse_wheel(tree)
    patch_set = load_patch_set(patch_set_root)
    base = require_base(tree, patch_set.bases)
    problem = ""
    if state.receipt.exists() or state.folder.exists():
        problem = "the overlay is applied; revert it first"
    elif has_overlay(tree, patch_set):
        problem = "its files are the overlay's"
    elif tree.commit != base.commit:
        problem = f"it has commits on top of {base.release}"
    if problem:
        raise Refused(f"{tree.root} is not pristine: {problem}")
    blobs: dict[str, tuple[str, ...]] = {}
    for path in patch_set.paths(base):
        blob = blob_of(read(tree.root, path))
        if tree.is_checkout and blob != _committed_blob(tree, path):
            raise Refused(f"{tree.root / path} is not pristine: git sees a change")
        accepted = {
            *(base.blobs.get(path, ()) if keep else ()),
            *([blob] if blob else []),
        }
        if accepted:
            blobs[path] = tuple(sorted(accepted))
    bases = [
        replace(known, blobs=blobs) if known.tag == base.tag else known
        for known in patch_set.bases
    ]
    changed = save_bases(patch_set.root / BASES_NAME, bases)
    return Report(
        f"{'pinned' if changed else 'already pinned:'} {count(len(blobs))} of base "
        f"{base.tag} in {BASES_NAME}",
        details={"outcome": "pinned", "base": base.tag, "files": sorted(blobs)},
    )


def _committed_blob(tree: Tree, path: str) -> str | None:
    arguments = ["rev-parse", "--verify", "--quiet", f"HEAD:{path}"]
    result = git_in_repository(arguments, tree.root)
    return result.stdout.decode().strip() if result.returncode == 0 else None
