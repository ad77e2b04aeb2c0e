"""How the whole patch set would fit a tree: each file of ours, and each patch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .bases import Base
from .blobs import blob_id
from .errors import Refused
from .fitting import APPLIES, CONFLICT, OFFSET, UPSTREAM, Fit, fit_series
from .git import git_in_repository
from .line_edits import diff
from .patch_set import OverlayFile, PatchSet
from .patching import ScratchFile
from .plan import check_overlap, touched_by_series
from .trees import Tree, find_base

Read = Callable[[str], ScratchFile | None]
"""What the tree has at a path, None if nothing."""


@dataclass(frozen=True)
class FileFit:
    """How a whole file of ours fits; ``text`` says more of a conflict."""

    path: str
    kind: str
    text: str = ""


@dataclass(frozen=True)
class Fits:
    """How all that is for one base fits the tree."""

    base: Base
    files: tuple[FileFit, ...]
    patches: tuple[Fit, ...]

    @property
    def counts(self) -> Counter[str]:
        kinds = [fit.kind for fit in self.files]
        return Counter([*kinds, *(fit.kind for fit in self.patches)])


def best_fits(
    tree: Tree, patch_set: PatchSet, read: Read, tag: str | None = None
) -> Fits:
    """How what is for the tree's base fits what ``read`` says is there.

    Args:
        tag: the base whose patches are meant; else the tree's own, and for a tree of
            none that whose patches fit best.
    """
    fits = [
        _fits(tree, patch_set, base, read) for base in _meant(tree, patch_set, tag)
    ]
    return min(fits, key=lambda each: each.counts[CONFLICT])


def _meant(tree: Tree, patch_set: PatchSet, tag: str | None) -> Sequence[Base]:
    if not patch_set.bases:
        raise Refused(f"the patch set {patch_set.root} has no base")
    if tag is None:
        own = find_base(tree, patch_set.bases)
        return patch_set.bases if own is None else (own,)
    named = patch_set.base(tag)
    if named is None:
        known = ", ".join(patch_set.tags)
        raise Refused(f"--base {tag}: not a known base. Known: {known}")
    return (named,)


def _fits(tree: Tree, patch_set: PatchSet, base: Base, read: Read) -> Fits:
    patches = patch_set.series(base)
    touched = touched_by_series(patches)
    check_overlap(patch_set, touched)
    found = {path: read(path) for path in (*patch_set.overlay, *touched)}
    files = tuple(
        _fit_file(tree, base, path, ours, found[path])
        for path, ours in sorted(patch_set.overlay.items())
    )
    patch_fits = fit_series(patches, {path: found[path] for path in touched})
    return Fits(base, files, patch_fits)


def _fit_file(
    tree: Tree, base: Base, path: str, ours: OverlayFile, found: ScratchFile | None
) -> FileFit:
    content = None if found is None else found.content
    blob = None if content is None else blob_id(content)
    if content == ours.content:
        return FileFit(path, UPSTREAM)
    if base.accepts(path, blob):
        return FileFit(path, APPLIES)
    if content is None:
        return FileFit(path, CONFLICT, "the tree has no such file")
    if path not in base.blobs:
        return FileFit(path, CONFLICT, f"{base.tag} has no such file, the tree has")
    return FileFit(path, CONFLICT, _difference(tree, base, path, content))


def _difference(tree: Tree, base: Base, path: str, content: bytes) -> str:
    """What the tree changed in the base's file, if its history has the base's."""
    for blob in base.blobs[path] if tree.is_checkout else ():
        known = git_in_repository(["cat-file", "blob", blob], tree.root)
        if known.returncode == 0:
            return diff(known.stdout, content, 1, path).decode("utf-8", "replace")
    return f"the tree's file is not that of {base.tag}, which ours takes the place of"


def describe(fits: Fits, conflicts_only: bool = False) -> list[str]:
    """A line for each file and patch, with what does not fit of it below."""
    width = max(map(len, (APPLIES, OFFSET, UPSTREAM, CONFLICT)))
    lines = []
    for file in fits.files:
        if conflicts_only and file.kind != CONFLICT:
            continue
        lines.append(f"{file.kind:<{width}}  {file.path}")
        lines += _indented(file.text)
    for fit in fits.patches:
        if conflicts_only and fit.kind != CONFLICT:
            continue
        moved = ", ".join(f"{offset:+}" for offset in fit.offsets)
        lines.append(f"{fit.kind:<{width}}  {fit.patch}{moved and f' ({moved})'}")
        lines += _indented("\n".join(f"{path} is missing" for path in fit.missing))
        for hunk in fit.hunks:
            has = " (the tree has it)" if hunk.upstream else ""
            lines += _indented(f"{hunk.path}{has}\n{hunk.text}")
    return lines


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]
