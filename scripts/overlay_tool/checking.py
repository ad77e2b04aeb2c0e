"""Whether the patch set would fit a tree, also one of no known base."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .bases import Base
from .blobs import blob_id
from .errors import Refused
from .fitting import APPLIES, CONFLICT, OFFSET, UPSTREAM, Fit, fit_series
from .git import git_in_repository
from .patch_set import OverlayFile, PatchSet, load_patch_set
from .patching import ScratchFile
from .paths import locate, read_content
from .plan import check_overlap, touched_by_series
from .receipt import Receipt, load_receipt
from .report import Report
from .state import ORIGINALS_NAME, State
from .trees import Tree, find_base, identify_any

CONFLICTS = 15
"""The exit status of ``check`` when something does not fit."""


@dataclass(frozen=True)
class _FileFit:
    """How a whole file of ours fits; ``text`` says more of a conflict."""

    path: str
    kind: str
    text: str = ""


@dataclass(frozen=True)
class _Fits:
    """How all that is for one base fits the tree."""

    base: Base
    files: tuple[_FileFit, ...]
    patches: tuple[Fit, ...]

    @property
    def counts(self) -> Counter[str]:
        kinds = [fit.kind for fit in self.files]
        return Counter([*kinds, *(fit.kind for fit in self.patches)])


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
    receipt = load_receipt(state)
    own = find_base(tree, patch_set.bases)
    fits = [
        _fits(tree, state, receipt, patch_set, base)
        for base in _meant(patch_set, own, tag)
    ]
    best = min(fits, key=lambda each: each.counts[CONFLICT])
    conflicts = best.counts[CONFLICT]
    return Report(
        _summary(best, own),
        CONFLICTS if conflicts else 0,
        tuple(_lines(best)),
        _notes(tree, receipt, own, patch_set),
        {
            "tree": str(tree.root),
            "commit": tree.commit or None,
            "base": own.tag if own is not None else None,
            "patches_of": best.base.tag,
            "files": {fit.path: fit.kind for fit in best.files},
            "patches": [_as_data(fit) for fit in best.patches],
        },
    )


def _meant(patch_set: PatchSet, own: Base | None, tag: str | None) -> Sequence[Base]:
    if not patch_set.bases:
        raise Refused(f"the patch set {patch_set.root} has no base")
    if tag is None:
        return patch_set.bases if own is None else (own,)
    named = patch_set.base(tag)
    if named is None:
        known = ", ".join(base.tag for base in patch_set.bases)
        raise Refused(f"--base {tag}: not a known base. Known: {known}")
    return (named,)


def _fits(
    tree: Tree,
    state: State,
    receipt: Receipt | None,
    patch_set: PatchSet,
    base: Base,
) -> _Fits:
    patches = patch_set.series(base)
    touched = touched_by_series(patches)
    check_overlap(patch_set, touched)
    contents = {
        path: _content_without_us(state, receipt, path)
        for path in (*patch_set.overlay, *touched)
    }
    files = tuple(
        _fit_file(tree, base, path, ours, contents[path])
        for path, ours in sorted(patch_set.overlay.items())
    )
    scratch = {path: _scratch_file(state, path, contents[path]) for path in touched}
    return _Fits(base, files, fit_series(patches, scratch))


def _content_without_us(
    state: State, receipt: Receipt | None, path: str
) -> bytes | None:
    """What the tree has at ``path``, or had before the overlay was applied."""
    content = read_content(state.root, path)
    record = receipt.files.get(path) if receipt is not None else None
    after = None if content is None else blob_id(content)
    if record is None or after != record.after:
        return content
    return read_content(state.root, f"{ORIGINALS_NAME}/{path}")


def _scratch_file(state: State, path: str, content: bytes | None) -> ScratchFile | None:
    if content is None:
        return None
    mode = os.lstat(locate(state.root, path)).st_mode
    return ScratchFile(content, bool(mode & 0o100))


def _fit_file(
    tree: Tree, base: Base, path: str, ours: OverlayFile, content: bytes | None
) -> _FileFit:
    blob = None if content is None else blob_id(content)
    if content == ours.content:
        return _FileFit(path, UPSTREAM)
    if base.accepts(path, blob):
        return _FileFit(path, APPLIES)
    if content is None:
        return _FileFit(path, CONFLICT, "the tree has no such file")
    if path not in base.blobs:
        return _FileFit(path, CONFLICT, f"{base.tag} has no such file, the tree has")
    return _FileFit(path, CONFLICT, _difference(tree, base, path, content))


def _difference(tree: Tree, base: Base, path: str, content: bytes) -> str:
    """What the tree changed in the base's file, if its history has the base's."""
    for blob in base.blobs[path] if tree.is_checkout else ():
        known = git_in_repository(["cat-file", "blob", blob], tree.root)
        if known.returncode == 0:
            lines = difflib.unified_diff(
                known.stdout.decode("utf-8", "replace").splitlines(),
                content.decode("utf-8", "replace").splitlines(),
                f"{base.tag}/{path}",
                f"tree/{path}",
                n=1,
                lineterm="",
            )
            return "\n".join(lines)
    return f"the tree's file is not that of {base.tag}, which ours takes the place of"


def _summary(fits: _Fits, own: Base | None) -> str:
    counts = fits.counts
    kinds = (APPLIES, OFFSET, UPSTREAM, CONFLICT)
    found = ", ".join(f"{counts[kind]} {kind}" for kind in kinds if counts[kind])
    what = f"base {fits.base.tag}" if own is fits.base else f"as {fits.base.tag}"
    return f"{'conflicts' if counts[CONFLICT] else 'fits'} ({what}): {found}"


def _notes(
    tree: Tree, receipt: Receipt | None, own: Base | None, patch_set: PatchSet
) -> tuple[str, ...]:
    notes = []
    if own is None:
        known = ", ".join(base.tag for base in patch_set.bases)
        commit = f"commit {tree.commit}" if tree.commit else "an unknown commit"
        notes.append(f"{commit} is no known base ({known}): apply would refuse it")
    if receipt is not None:
        notes.append("the overlay is applied: judged is the tree without it")
    return tuple(notes)


def _lines(fits: _Fits) -> list[str]:
    width = max(map(len, (APPLIES, OFFSET, UPSTREAM, CONFLICT)))
    lines = []
    for file in fits.files:
        lines.append(f"{file.kind:<{width}}  {file.path}")
        lines += _indented(file.text)
    for fit in fits.patches:
        moved = ", ".join(f"{offset:+}" for offset in fit.offsets)
        lines.append(f"{fit.kind:<{width}}  {fit.patch}{moved and f' ({moved})'}")
        lines += _indented("\n".join(f"{path} is missing" for path in fit.missing))
        for hunk in fit.hunks:
            has = " (the tree has it)" if hunk.upstream else ""
            lines += _indented(f"{hunk.path}{has}\n{hunk.text}")
    return lines


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]


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
