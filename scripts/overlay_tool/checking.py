"""Whether the patch set would fit a tree, also one of no known base."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from .bases import Base
from .blobs import blob_id
from .built_in import Wheel, find_wheel
from .fitting import APPLIES, CONFLICT, OFFSET, UPSTREAM, Fit
from .patch_set import PatchSet, load_patch_set
from .patching import ScratchFile
from .paths import locate, read_content
from .receipt import Receipt, load_receipt
from .report import Report
from .state import ORIGINALS_NAME, State
from .tree_fit import Fits, best_fits, describe
from .trees import Tree, find_base, identify_any

CONFLICTS = 15
"""The exit status of ``check`` when something does not fit."""


def check(tree_path: Path, patch_set_root: Path, tag: str | None = None) -> Report:
    """Says of each file and patch whether it fits. Writes nothing in the tree.

    Args:
        tag: the base whose patches are meant; else the tree's own, and for a tree of
            none that whose patches fit best.

    Raises:
        Refused: no folder with ``torch/_inductor``, or no base of that tag.
    """
    tree = identify_any(tree_path)
    state = State(tree.root)
    state.check()
    patch_set = load_patch_set(patch_set_root)
    wheel = find_wheel(tree)
    receipt = load_receipt(state) if wheel is None else None

    def read(path: str) -> ScratchFile | None:
        return _read_without_us(state, receipt, path)

    own = find_base(tree, patch_set.bases)
    fits = best_fits(tree, patch_set, read, tag)
    return Report(
        _summary(fits, own),
        CONFLICTS if fits.counts[CONFLICT] else 0,
        tuple(describe(fits)),
        _notes(tree, receipt, wheel, own, patch_set),
        {
            "tree": str(tree.root),
            "commit": tree.commit or None,
            "base": own.tag if own is not None else None,
            "patches_of": fits.base.tag,
            "files": {fit.path: fit.kind for fit in fits.files},
            "patches": [_as_data(fit) for fit in fits.patches],
        },
    )


def _read_without_us(
    state: State, receipt: Receipt | None, path: str
) -> ScratchFile | None:
    """What the tree has at ``path``, or had before the overlay was applied."""
    content = read_content(state.root, path)
    record = receipt.files.get(path) if receipt is not None else None
    if record is not None and content is not None and blob_id(content) == record.after:
        content = read_content(state.root, f"{ORIGINALS_NAME}/{path}")
    if content is None:
        return None
    mode = os.lstat(locate(state.root, path)).st_mode
    return ScratchFile(content, bool(mode & 0o100))


def _summary(fits: Fits, own: Base | None) -> str:
    counts = fits.counts
    kinds = (APPLIES, OFFSET, UPSTREAM, CONFLICT)
    found = ", ".join(f"{counts[kind]} {kind}" for kind in kinds if counts[kind])
    is_own = own is not None and own.tag == fits.base.tag
    what = f"{'base' if is_own else 'as'} {fits.base.tag}"
    return f"{'conflicts' if counts[CONFLICT] else 'fits'} ({what}): {found}"


def _notes(
    tree: Tree,
    receipt: Receipt | None,
    wheel: Wheel | None,
    own: Base | None,
    patch_set: PatchSet,
) -> tuple[str, ...]:
    notes = []
    if own is None:
        known = ", ".join(patch_set.tags)
        commit = f"commit {tree.commit}" if tree.commit else "an unknown commit"
        notes.append(f"{commit} is no known base ({known}): apply would refuse it")
    if receipt is not None:
        notes.append("the overlay is applied: judged is the tree without it")
    if wheel is not None:
        notes.append(
            f"torch is from the wheel {wheel.version}, which has the overlay: judged "
            "is what is there"
        )
    return tuple(notes)


def _as_data(fit: Fit) -> Mapping[str, object]:
    return {
        "patch": fit.patch,
        "fit": fit.kind,
        "offsets": list(fit.offsets),
        "missing": list(fit.missing),
        "hunks": [
            {"path": hunk.path, "text": hunk.text, "already_upstream": hunk.upstream}
            for hunk in fit.hunks
        ],
    }
