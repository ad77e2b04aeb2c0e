"""Brings edits of a tree back into the patch set that is applied to it."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from .bases import Base, load_bases
from .checking import judge, trees_at_hand
from .commands import undo_what_was_cut_off
from .errors import Refused, Report
from .filesystem import File, State, blob_of, read
from .git import Edit, diff, find_edits, merge
from .patch_set import BASES_NAME, OVERLAY_NAME, PATCHES_NAME, PatchSet, load_patch_set
from .patching import Files, Patch, apply_in_steps, apply_series
from .plan import Receipt, find_pristine, load_receipt, plan_apply
from .status import refuse_built_in, refuse_wheel
from .transaction import Change, locked, run
from .trees import identify, require_base

# A line as in `git diff -U1`, or more where it would not fit at its place otherwise.
_CONTEXTS = (1, 2, 3, 5, 10)
# A line that no file has.
_EDITED = b"\1 edited \1\n"
# What git writes below the last diff of a mail.
_SIGNATURE = re.compile(rb"^-- \n[^\n]*\n+\Z", re.M)


def refresh(
    tree_path: Path,
    patch_set_root: Path,
    on_wait: Callable[[str], None],
    patch: str | None = None,
    other_trees: Sequence[Path] = (),
) -> Report:
    """Brings what was edited in the tree since ``apply`` back into the patch set.

    A file of ours goes to torch_overlay/, also one that is new in a package of ours. An
    edit of a patched file goes into the patch that wrote the lines which it edits, or
    else the one whose lines are nearest; patches of other files stay byte for byte.

    Cut off, it has changed all of the patch set's files or, once it is run again, none;
    nor does the tree's receipt have to be written with them, as files that are what the
    patch set makes are no edits.

    Args:
        patch: the patch of the series that all edits of the base's files go to.
        other_trees: of other bases, to say whether their patches still fit.

    Raises:
        Refused: not applied, or from another patch set; a file of ours was deleted; an
            edit that takes a whole patch back, or that ``patch`` cannot have because
            later ones change the same lines.
    """
    tree = identify(tree_path)
    state = State(tree.root)
    state.check()
    refuse_wheel(tree)
    root = patch_set_root.resolve()
    load_bases(root / BASES_NAME)
    with locked(state, "refresh", on_wait), locked(State(root), "refresh", on_wait):
        notes = *undo_what_was_cut_off(State(root)), *undo_what_was_cut_off(state)
        patch_set = load_patch_set(root)
        receipt = load_receipt(state)
        if receipt is None:
            refuse_built_in(tree, patch_set)
            raise Refused(f"{tree.root}: not applied, so there is nothing to refresh")
        base = require_base(tree, patch_set.bases)
        others = trees_at_hand(patch_set, tree, other_trees)
        contents, lines = _refresh(state, patch_set, base, receipt, patch)
        if contents:
            run(State(root), _changes(root, contents))
        plan = plan_apply(tree, state, load_patch_set(root), base, receipt)
        if plan.changes:
            run(state, plan.changes)
    if not contents:
        details = {"outcome": "nothing to do"}
        return Report("nothing was edited", notes=notes, details=details)
    names = list(contents)
    folder = f"{PATCHES_NAME}/"
    changed = [name.removeprefix(folder) for name in names if name.startswith(folder)]
    judged, conflicts = judge(patch_set, base.release, changed, others)
    return Report(
        f"refreshed {len(names)} file{'s' * (len(names) > 1)} of {root}",
        lines=(*lines, *judged),
        notes=notes,
        details={
            "outcome": "refreshed",
            "base": base.tag,
            "files": names,
            "conflicts": conflicts,
        },
    )


def _changes(root: Path, contents: Mapping[str, bytes]) -> list[Change]:
    changes = []
    for path, content in contents.items():
        old = read(root, path)
        new = replace(old or File(b""), content=content)
        changes.append(Change(path, blob_of(old), new))
    return changes


def _refresh(
    state: State,
    patch_set: PatchSet,
    base: Base,
    receipt: Receipt,
    wanted: str | None,
) -> tuple[Mapping[str, bytes], tuple[str, ...]]:
    """New contents of files of the patch set, by their paths, and what to tell."""
    series = patch_set.series(base)
    if wanted is not None and wanted not in [patch.name for patch in series]:
        raise Refused(f"--patch {wanted}: not in the series of {base.tag}")
    current = {path: read(state.root, path) for path in patch_set.paths(base)}
    pristine = find_pristine(state, patch_set, base, receipt, current)
    made = patch_set.make(base, pristine).files
    edited = _edited(state, patch_set, base, receipt, current, made)
    patched = {
        path: pristine[path] for path in current if path not in patch_set.overlay
    }
    files: dict[str, bytes] = {}
    lines: list[str] = []
    patches = list(series)
    for path, content in (*edited.items(), *_new_files(state, receipt).items()):
        if path in patched:
            lines += _refresh_patches(path, content, patches, patched, wanted)
        elif path not in patch_set.overlay or path in edited:
            name = f"{OVERLAY_NAME}/{path.removeprefix('torch/')}"
            files[name] = content
            lines.append(f"{path}: into {name}")
    for before, after in zip(series, patches, strict=True):
        if before != after:
            files[patch_set.place(base, after.name)] = after.content
    return files, tuple(lines)


def _edited(
    state: State,
    patch_set: PatchSet,
    base: Base,
    receipt: Receipt,
    current: Files,
    made: Files,
) -> dict[str, bytes]:
    """The files of ``current`` that are not what the patch set makes of them."""
    edited = {}
    gone = []
    for path in sorted({*current, *receipt.files}):
        file, record = current.get(path), receipt.files.get(path)
        want = blob_of(made.get(path))
        if path in current and blob_of(file) == want:
            continue
        if record is None or record.after != want or receipt.base != base.tag:
            raise Refused(
                f"{state.root} has the patch set {receipt.patch_set[:12]} for base "
                f"{receipt.base}, and {patch_set.root} is another by now: edits can "
                "only go back to what they are edits of"
            )
        if file is None or file.blob == record.before:
            gone.append(str(state.root / path))
        else:
            edited[path] = file.content
    if gone:
        raise Refused(
            "deleted, or put back to the base's, which is no edit to bring back:\n  "
            + "\n  ".join(gone)
            + "\nTake it out of the patch set by hand, or run apply to get it again."
        )
    return edited


def _new_files(state: State, receipt: Receipt) -> dict[str, bytes]:
    """Files that the user added in packages that are ours."""
    new = {}
    for path, record in sorted(receipt.files.items()):
        package, _, name = path.rpartition("/")
        if record.before is None and name == "__init__.py":
            for place in sorted((state.root / package).glob("*.py")):
                file = read(state.root, f"{package}/{place.name}")
                if file is not None and f"{package}/{place.name}" not in receipt.files:
                    new[f"{package}/{place.name}"] = file.content
    return new


def _refresh_patches(
    path: str,
    content: bytes,
    patches: list[Patch],
    pristine: Files,
    wanted: str | None,
) -> list[str]:
    """Puts the edits of one file into ``patches``; says which went where."""
    found = [step.files[path] for step in apply_in_steps(patches, pristine)]
    steps = [b"" if file is None else file.content for file in found]
    edits = assign(find_edits(steps[-1], content), steps)
    if wanted is not None:
        index = [patch.name for patch in patches].index(wanted)
        edits = tuple(replace(edit, owner=index, distance=0) for edit in edits)
    rebuilt = rebuild(edits, steps)
    if rebuilt is None or rebuilt[-1] != content:
        hint = "name another with --patch" if wanted else "name one with --patch"
        raise Refused(
            f"{path}: the edits cannot be told apart from what later patches change "
            f"there; {hint}, such as the last that touches the file"
        )
    files = [
        file and replace(file, content=new)
        for file, new in zip(found, rebuilt, strict=True)
    ]
    for index, patch in enumerate(patches):
        if files[index : index + 2] != found[index : index + 2]:
            patches[index] = _with_section(patch, path, *files[index : index + 2])
    return [
        f"{path}:{edit.start + 1}: into {patches[edit.owner].name}"
        + (f", whose lines are nearest ({edit.distance} away)" if edit.distance else "")
        for edit in edits
    ]


def _with_section(
    patch: Patch, path: str, before: File | None, after: File | None
) -> Patch:
    """The patch with another diff of one file; all else is as it was."""
    found = _SIGNATURE.search(patch.content)
    end = found.start() if found else len(patch.content)
    body, signature = patch.content[:end], patch.content[end:]
    head, *sections = re.split(rb"^(?=diff --git )", body, flags=re.M)
    name = f" b/{path}".encode()
    ours = [each for each in sections if each.partition(b"\n")[0].endswith(name)]
    others = [each for each in sections if each not in ours]
    if before == after and not ours:
        return patch
    if before == after:
        if not others:
            raise Refused(
                f"the edit of {path} takes all of {patch.name} back: take it out of "
                "the series by hand"
            )
    elif ours and _makes(patch, b"".join(ours), path, before, after):
        return patch
    else:
        others.append(_section(patch, path, before, after))
    return Patch(patch.name, head + b"".join(sorted(others)) + signature)


def _section(patch: Patch, path: str, before: File | None, after: File | None) -> bytes:
    contents = [None if file is None else file.content for file in (before, after)]
    for context in _CONTEXTS:
        section = diff(contents[0], contents[1], context, path)
        if _makes(patch, section, path, before, after):
            return section
    raise Refused(f"{patch.name}: no diff of {path} makes what is wanted")


def _makes(
    patch: Patch, section: bytes, path: str, before: File | None, after: File | None
) -> bool:
    """Whether the diff makes the one of the other, each hunk at its very place.

    Hunks of a patch that several bases share may be at another.
    """
    try:
        made = apply_series([Patch(patch.name, section)], {path: before})
    except Refused:
        return False
    return made.files[path] == after and not made.notes


def make_edits(content: bytes, edits: Iterable[Edit]) -> bytes:
    """The content with the edits, which are in order and do not overlap."""
    lines = content.splitlines(keepends=True)
    for edit in reversed(tuple(edits)):
        lines[edit.start : edit.end] = edit.new
    return b"".join(lines)


def assign(edits: Sequence[Edit], steps: Sequence[bytes]) -> tuple[Edit, ...]:
    """Each edit of the last of the ``steps`` with the change that it belongs to.

    Change i makes ``steps[i + 1]`` of ``steps[i]``. An edit belongs to the last change
    that it would collide with, were it made before that one; that is, to the one which
    wrote those lines. If there is none it grows until there is: that is the nearest.

    Returns:
        The edits with their owner, which is -1 where no change touches the file.
    """
    changes = [i for i in range(len(steps) - 1) if steps[i] != steps[i + 1]]
    lines = steps[-1].splitlines(keepends=True)

    def owner(edit: Edit, distance: int) -> int:
        start, end = max(edit.start - distance, 0), edit.end + distance
        grown = b"".join([*lines[:start], _EDITED, *lines[end:]])
        collide = (
            i for i in reversed(changes) if merge(steps[i], steps[-1], grown) is None
        )
        return next(collide, -1)

    assigned = []
    for edit in edits:
        distances = range(len(lines) + 1)
        nearest = bisect_left(distances, 0, key=lambda each: owner(edit, each))
        assigned.append(replace(edit, owner=owner(edit, nearest), distance=nearest))
    return tuple(assigned)


def rebuild(edits: Sequence[Edit], steps: Sequence[bytes]) -> tuple[bytes, ...] | None:
    """The steps as they are with the edits made in the change that owns each.

    None if that cannot be, as the edits overlap with what other changes do.
    """
    rebuilt = [steps[0]]
    for index, step in enumerate(steps[1:]):
        mine = [edit for edit in edits if edit.owner <= index]
        merged = merge(step, steps[-1], make_edits(steps[-1], mine))
        if merged is None:
            return None
        rebuilt.append(merged)
    return tuple(rebuilt)
