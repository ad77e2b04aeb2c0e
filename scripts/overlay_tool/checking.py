"""Whether the patch set would fit a tree, also one of no known base."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .bases import Base
from .errors import OverlayError, Refused, Report
from .filesystem import ORIGINALS_NAME, File, State, blob_of, read
from .git import diff, git_in_repository
from .patch_set import PatchSet, load_patch_set
from .patching import Files, Patch, git_apply, misplaced_hunks, offsets_of, read_scratch
from .patching import scratch_with
from .plan import Receipt, load_receipt
from .status import find_wheel
from .trees import Tree, find_base, identify, identify_any, require_base

CONFLICTS = 15
"""The exit status of ``check`` when something does not fit."""

APPLIES = "applies"
UPSTREAM = "already upstream"
OFFSET = "fits with offset"
CONFLICT = "conflict"
# What scripts/setup makes beside a patch set.
_ENVIRONMENTS = ".venv*/lib/python*/site-packages"
KINDS = (APPLIES, OFFSET, UPSTREAM, CONFLICT)


@dataclass(frozen=True)
class Hunk:
    """A hunk that does not fit. ``upstream``: because the file has the change already.

    ``text`` starts with its line of @@.
    """

    path: str
    text: str
    upstream: bool = False


@dataclass(frozen=True)
class Fit:
    """How a patch or a whole file of ours fits: ``kind`` is one of KINDS.

    ``offsets`` are in lines, one for each hunk that matched elsewhere than it says.
    ``missing`` are files that a patch changes and the tree does not have, and ``text``
    says more of a file.
    """

    name: str
    kind: str
    offsets: tuple[int, ...] = ()
    hunks: tuple[Hunk, ...] = ()
    missing: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Fits:
    """How all that is for one base fits the tree."""

    base: Base
    files: tuple[Fit, ...]
    patches: tuple[Fit, ...]

    @property
    def counts(self) -> Counter[str]:
        return Counter(fit.kind for fit in (*self.files, *self.patches))


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
    receipt = None if wheel else load_receipt(state)
    own = find_base(tree, patch_set.bases)
    notes = []
    if own is None:
        known = ", ".join(each.release for each in patch_set.releases)
        commit = f"commit {tree.commit}" if tree.commit else "an unknown commit"
        notes.append(f"{commit} is no known base ({known}): apply would refuse it")
    if receipt is not None:
        notes.append("the overlay is applied: judged is the tree without it")
    if wheel is not None:
        notes.append(
            f"torch is from the wheel {wheel.version}, which has the overlay: judged "
            "is what is there"
        )
    fits = best_fits(
        tree, patch_set, lambda path: _read_without_us(state, receipt, path), tag
    )
    counts = fits.counts
    found = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
    is_own = own is not None and own.tag == fits.base.tag
    return Report(
        f"{'conflicts' if counts[CONFLICT] else 'fits'} "
        f"({'base' if is_own else 'as'} {fits.base.tag}): {found}",
        CONFLICTS if counts[CONFLICT] else 0,
        tuple(line for fit in (*fits.files, *fits.patches) for line in describe(fit)),
        tuple(notes),
        {
            "tree": str(tree.root),
            "commit": tree.commit or None,
            "base": own.tag if own is not None else None,
            "patches_of": fits.base.tag,
            "files": {fit.name: fit.kind for fit in fits.files},
            "patches": [_as_data(fit) for fit in fits.patches],
        },
    )


def _read_without_us(state: State, receipt: Receipt | None, path: str) -> File | None:
    """What the tree has at ``path``, or had before the overlay was applied."""
    file = read(state.root, path)
    record = receipt.files.get(path) if receipt is not None else None
    if record is not None and file is not None and file.blob == record.after:
        return read(state.root, f"{ORIGINALS_NAME}/{path}")
    return file


def _as_data(fit: Fit) -> Mapping[str, object]:
    return {
        "patch": fit.name,
        "fit": fit.kind,
        "offsets": list(fit.offsets),
        "missing": list(fit.missing),
        "hunks": [
            {"path": hunk.path, "text": hunk.text, "already_upstream": hunk.upstream}
            for hunk in fit.hunks
        ],
    }


def describe(fit: Fit) -> list[str]:
    """A line for a file or patch, with what does not fit of it below."""
    moved = ", ".join(f"{offset:+}" for offset in fit.offsets)
    below = [fit.text, *(f"{path} is missing" for path in fit.missing)]
    for hunk in fit.hunks:
        has = " (the tree has it)" if hunk.upstream else ""
        below.append(f"{hunk.path}{has}\n{hunk.text}")
    width = max(map(len, KINDS))
    lines = [line for text in below for line in text.splitlines()]
    head = f"{fit.kind:<{width}}  {fit.name}{moved and f' ({moved})'}"
    return [head, *(f"    {line}" for line in lines)]


def best_fits(
    tree: Tree,
    patch_set: PatchSet,
    read_file: Callable[[str], File | None],
    tag: str | None = None,
) -> Fits:
    """How what is for the tree's base fits what ``read_file`` says is there.

    Args:
        tag: the base whose patches are meant; else the tree's own, and for a tree of
            none that whose patches fit best.
    """
    base = find_base(tree, patch_set.bases) if tag is None else patch_set.base(tag)
    if tag is not None and base is None:
        known = ", ".join(each.release for each in patch_set.releases)
        raise Refused(f"--base {tag}: not a known base. Known: {known}")
    if not patch_set.bases:
        raise Refused(f"the patch set {patch_set.root} has no base")
    fits = []
    for each in patch_set.bases if base is None else (base,):
        found = {path: read_file(path) for path in patch_set.paths(each)}
        files = tuple(
            _fit_file(tree, each, path, ours, found.pop(path))
            for path, ours in sorted(patch_set.overlay.items())
        )
        fits.append(Fits(each, files, fit_series(patch_set.series(each), found)))
    return min(fits, key=lambda one: one.counts[CONFLICT])


def _fit_file(tree: Tree, base: Base, path: str, ours: File, found: File | None) -> Fit:
    if blob_of(found) == ours.blob:
        return Fit(path, UPSTREAM)
    if base.accepts(path, blob_of(found)):
        return Fit(path, APPLIES)
    text = f"the tree's file is not that of {base.tag}, which ours takes the place of"
    if found is None:
        text = "the tree has no such file"
    elif path not in base.blobs:
        text = f"{base.tag} has no such file, the tree has"
    elif tree.is_checkout:
        # What the tree changed in the base's file, if its history has the base's.
        for blob in base.blobs[path]:
            known = git_in_repository(["cat-file", "blob", blob], tree.root)
            if known.returncode == 0:
                text = diff(known.stdout, found.content, 1, path).decode(
                    errors="replace"
                )
    return Fit(path, CONFLICT, text=text)


def fit_series(patches: Sequence[Patch], files: Files) -> tuple[Fit, ...]:
    """How ``patches`` fit ``files``, one after the other.

    It goes on after a patch that does not fit: the hunks of it that do are kept, so
    that the patches after it are judged as they would be once it was mended.

    Args:
        files: what the tree has at each path that a patch touches.
    """
    with scratch_with(files) as scratch:
        # Taken off first is what the files have already; the last first, as a later
        # one may change what an earlier one wrote.
        upstream = set()
        for patch in reversed(patches):
            # With a line of context a hunk may also match where it has no business, in
            # either direction: what moves least is meant.
            back = _moved(_try(patch.content, scratch, "--reverse"))
            if back < _moved(_try(patch.content, scratch)):
                git_apply(patch.content, scratch, "--reverse").check_returncode()
                upstream.add(patch.name)
        return tuple(_fit(patch, scratch, patch.name in upstream) for patch in patches)


def _fit(patch: Patch, scratch: Path, upstream: bool) -> Fit:
    before = read_scratch(scratch, patch)
    # The diff of each file by itself: with one that is missing, git would reject all.
    diffs = re.split(rb"^(?=diff --git )", patch.content, flags=re.M)[1:]
    results = [git_apply(each, scratch, "--reject") for each in diffs]
    messages = b"".join(result.stderr for result in results)
    hunks = [
        Hunk(path, f"{text.rstrip()}\n({problem})\n")
        for path, text, problem in misplaced_hunks(patch, messages, before)
    ]
    for path in before:
        rejects = scratch / f"{path}.rej"
        if rejects.is_file():
            text = rejects.read_text("utf-8", "surrogateescape")
            for hunk in re.split(r"^(?=@@ )", text, flags=re.M)[1:]:
                # Has the file the change, at most a few lines away?
                alone = f"--- a/{path}\n+++ b/{path}\n{hunk}"
                content = alone.encode("utf-8", "surrogateescape")
                back = _try(content, scratch, "--reverse")
                hunks.append(Hunk(path, hunk, back is not None))
            rejects.unlink()
    if hunks or any(result.returncode for result in results):
        after = read_scratch(scratch, patch)
        missing = tuple(path for path in before if not (before[path] or after[path]))
        return Fit(patch.name, CONFLICT, hunks=tuple(hunks), missing=missing)
    offsets = offsets_of(messages)
    kind = UPSTREAM if upstream else OFFSET if offsets else APPLIES
    return Fit(patch.name, kind, () if upstream else offsets)


def _try(content: bytes, scratch: Path, *options: str) -> tuple[int, ...] | None:
    """The offsets of a patch's hunks in one direction, None if it does not fit."""
    result = git_apply(content, scratch, "--check", *options)
    return None if result.returncode else offsets_of(result.stderr)


def _moved(offsets: tuple[int, ...] | None) -> float:
    """How many lines all hunks are away from where they should be."""
    return float("inf") if offsets is None else sum(map(abs, offsets))


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
