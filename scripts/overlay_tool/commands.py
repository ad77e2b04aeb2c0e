"""The commands. Each takes folders, returns a report, and prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from .bases import Base, save_bases
from .built_in import has_overlay, refuse_built_in, refuse_wheel
from .errors import EnvironmentFailure, Refused
from .git import git_in_repository
from .lock import locked
from .patch_set import BASES_NAME, PatchSet, load_patch_set
from .paths import read_blob
from .plan import Plan, check_overlap, plan_apply, plan_revert, touched_by_series
from .receipt import Receipt, load_receipt
from .report import Report
from .state import State
from .status import APPLY, STATES, count, find_state, require_no_originals
from .transaction import recover, run
from .trees import Tree, identify, require_base


def status(tree_path: Path, patch_set_root: Path) -> Report:
    """Says in which of STATES the tree is. Writes nothing, waits for nothing."""
    tree = identify(tree_path)
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
    refuse_wheel(tree, "apply")
    base = require_base(tree, patch_set.bases)
    with locked(state, "apply", on_wait):
        notes = _recover(state)
        receipt = load_receipt(state)
        plan = plan_apply(tree, state, patch_set, base, receipt)
        notes = (*notes, *plan.notes)
        if not plan.changes:
            digest = patch_set.digest(base)
            return _nothing_to_do(base.tag, digest, APPLY, notes)
        run(state, plan.changes, plan.prune_directories)
    return _applied(base, patch_set, receipt, plan, notes)


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
    refuse_wheel(tree, "revert")
    nothing = "not applied, nothing to do"
    if not state.receipt.exists() and not state.folder.exists():
        if patch_set_root is not None:
            refuse_built_in(tree, state, load_patch_set(patch_set_root))
        return Report(nothing, details={"outcome": "nothing to do"})
    with locked(state, "revert", on_wait):
        notes = _recover(state)
        receipt = load_receipt(state)
        if receipt is None:
            return Report(nothing, 0, (), notes, {"outcome": "nothing to do"})
        plan = plan_revert(tree, state, receipt)
        run(state, plan.changes, plan.prune_directories)
    return Report(
        f"reverted {count(len(plan.restored))} (base {receipt.base})",
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
    refuse_wheel(tree, "pin")
    patch_set = load_patch_set(patch_set_root)
    if has_overlay(state, patch_set):
        raise Refused(f"{tree.root} is not pristine: its files are the overlay's")
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
        f"{'pinned' if changed else 'already pinned:'} {count(len(blobs))} of base "
        f"{base.tag} in {BASES_NAME}",
        details={"outcome": "pinned", "base": base.tag, "files": sorted(blobs)},
    )


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
        require_no_originals(state)
    return notes


def _committed_blob(tree: Tree, path: str) -> str | None:
    arguments = ["rev-parse", "--verify", "--quiet", f"HEAD:{path}"]
    result = git_in_repository(arguments, tree.root)
    return result.stdout.decode().strip() if result.returncode == 0 else None


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


def _applied(
    base: Base,
    patch_set: PatchSet,
    receipt: Receipt | None,
    plan: Plan,
    notes: tuple[str, ...],
) -> Report:
    assert plan.receipt is not None
    files = count(len(plan.receipt.files))
    if receipt is None:
        what = f"applied {files}"
    elif plan.written or plan.restored:
        what = f"updated {len(plan.written)} of {files}"
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
