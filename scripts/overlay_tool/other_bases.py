"""Says how a patch set that was changed on one base fits the others.

Judged are the trees at hand: those that are named, and the environments that
``scripts/setup`` made beside the patch set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .checking import CONFLICT, check
from .errors import OverlayError, Refused
from .patch_set import PatchSet
from .trees import find_base, identify, require_base, Tree

_ENVIRONMENTS = ".venv*/lib/python*/site-packages"


def trees_at_hand(
    patch_set: PatchSet, own: Tree, named: Sequence[Path]
) -> Mapping[str, Path]:
    """A tree for each release that one is found of, other than the tree ``own``.

    Raises:
        Refused: one of those named is no tree of a known base.
    """
    trees = [identify(path) for path in named]
    releases = [require_base(tree, patch_set.bases).release for tree in trees]
    found = {release: tree.root for release, tree in zip(releases, trees, strict=True)}
    for path in sorted(patch_set.root.glob(_ENVIRONMENTS)):
        try:
            tree = identify(path)
            base = find_base(tree, patch_set.bases)
        except Refused:
            continue
        if base is not None and tree.root != own.root:
            found.setdefault(base.release, tree.root)
    return found


def judge(
    patch_set: PatchSet, release: str, changed: Iterable[str], trees: Mapping[str, Path]
) -> tuple[list[str], Mapping[str, Sequence[str] | None]]:
    """How each other release that has a changed patch is fitted: as text, and data.

    A release's data are the patches of its series that do not fit, a later one
    perhaps by what changed in an earlier one; None if no tree of it is at hand.
    """
    lines = []
    conflicts: dict[str, Sequence[str] | None] = {}
    for base in (each for known in patch_set.bases for each in known.releases):
        names = {patch.name for patch in patch_set.series(base)}
        shared = ", ".join(name for name in changed if name in names)
        if not shared or base.release == release:
            continue
        tree = trees.get(base.release)
        try:
            found = None if tree is None else _conflicts(tree, patch_set, base.tag)
        except OverlayError as error:
            found, hint = None, f"could not be checked: {error}"
        else:
            hint = "not checked, as no tree of it is at hand (--other-tree names one)"
        conflicts[base.release] = found
        if found:
            what = f"conflicts in {', '.join(found)} (see check --tree {tree})"
        else:
            what = hint if found is None else "every patch fits"
        lines.append(f"{base.release} has {shared} too: {what}")
    return lines, conflicts


def _conflicts(tree: Path, patch_set: PatchSet, tag: str) -> Sequence[str]:
    patches = check(tree, patch_set.root, tag).details["patches"]
    assert isinstance(patches, list)
    return [each["patch"] for each in patches if each["fit"] == CONFLICT]
