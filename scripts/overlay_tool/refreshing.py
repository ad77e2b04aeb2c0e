"""Brings edits of a tree back into the patch set that is applied to it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from .bases import Base
from .blobs import blob_id
from .built_in import refuse_built_in, refuse_wheel
from .errors import Refused
from .line_edits import assign, diff, find_edits, rebuild
from .lock import locked
from .other_bases import judge, trees_at_hand
from .patch_set import OVERLAY_NAME, PATCHES_NAME, Patch, PatchSet, load_patch_set
from .patching import ScratchFile, apply_in_steps, apply_series
from .paths import read_blob, read_content
from .plan import plan_apply, read_original, scratch_file, touched_by_series
from .receipt import FileRecord, Receipt, load_receipt
from .redo import Redo, load_redo, save_redo
from .report import Report
from .state import State
from .transaction import recover, run
from .trees import Tree, identify, require_base

# A line as in `git diff -U1`, or more where it would not fit at its place otherwise.
_CONTEXTS = (1, 2, 3, 5, 10)
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

    A file of ours goes to torch_overlay/, also one that is new in a folder of ours. An
    edit of a patched file goes into the patch that wrote the lines which it edits, or
    else the one whose lines are nearest; patches of other files stay byte for byte.

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
    refuse_wheel(tree, "refresh")
    root = patch_set_root.resolve()
    patch_set = load_patch_set(root)
    if not state.receipt.exists():
        refuse_built_in(tree, state, patch_set)
    base = require_base(tree, patch_set.bases)
    others = trees_at_hand(patch_set, tree, other_trees)
    with locked(state, "refresh", on_wait):
        redo = load_redo(state, root)
        notes: tuple[str, ...] = ()
        if redo is not None:
            recover(state)
            notes = ("finished the refresh that was cut off",)
        else:
            redo = _decide(state, patch_set, base, patch)
            if not redo.contents:
                return Report(
                    "nothing was edited", details={"outcome": "nothing to do"}
                )
            save_redo(state, redo)
        _finish(tree, state, base, redo)
    names = list(redo.contents)
    folder = f"{PATCHES_NAME}/"
    changed = [name.removeprefix(folder) for name in names if name.startswith(folder)]
    lines, conflicts = judge(patch_set, base.release, changed, others)
    return Report(
        f"refreshed {len(names)} file{'s' * (len(names) > 1)} of {root}",
        lines=(*redo.lines, *lines),
        notes=notes,
        details={
            "outcome": "refreshed",
            "base": base.tag,
            "files": names,
            "conflicts": conflicts,
        },
    )


def _decide(state: State, patch_set: PatchSet, base: Base, patch: str | None) -> Redo:
    """What to write; nothing is written yet."""
    receipt = _receipt(state, patch_set, base)
    new = _new_files(state, receipt)
    contents, lines = _refresh(state, patch_set, base, receipt, new, patch)
    before = {path: read_blob(patch_set.root, path) for path in contents}
    return Redo(patch_set.root, contents, before, tuple(new), lines)


def _finish(tree: Tree, state: State, base: Base, redo: Redo) -> None:
    """Writes the patch set, then the receipt; may be cut off, and done again."""
    redo.write()
    refreshed_set = load_patch_set(redo.root)
    # Nothing in the tree changes now but the receipt.
    receipt = load_receipt(state)
    assert receipt is not None
    contents = {path: read_content(state.root, path) for path in redo.new_files}
    records = {
        path: FileRecord(None, blob_id(content))
        for path, content in contents.items()
        if content is not None
    }
    receipt = replace(receipt, files={**receipt.files, **records})
    plan = plan_apply(tree, state, refreshed_set, base, receipt)
    if plan.changes:
        run(state, plan.changes, plan.prune_directories)
    os.unlink(state.redo)


def _receipt(state: State, patch_set: PatchSet, base: Base) -> Receipt:
    if state.journal.exists():
        raise Refused(f"{state.root}: a change was cut off; run apply or revert first")
    receipt = load_receipt(state)
    if receipt is None:
        raise Refused(f"{state.root}: not applied, so there is nothing to refresh")
    if (receipt.base, receipt.patch_set) != (base.tag, patch_set.digest(base)):
        raise Refused(
            f"{state.root} has the patch set {receipt.patch_set[:12]} for base "
            f"{receipt.base}, and {patch_set.root} is another by now: edits can only "
            "go back to what they are edits of"
        )
    return receipt


def _refresh(
    state: State,
    patch_set: PatchSet,
    base: Base,
    receipt: Receipt,
    new: Mapping[str, bytes],
    wanted: str | None,
) -> tuple[Mapping[str, bytes], tuple[str, ...]]:
    """New contents of files of the patch set, by their paths, and what to tell."""
    series = patch_set.series(base)
    names = [patch.name for patch in series]
    if wanted is not None and wanted not in names:
        raise Refused(f"--patch {wanted}: not in the series of {base.tag}")
    touched = touched_by_series(series)
    edited = _edited(state, receipt)
    files: dict[str, bytes] = {}
    lines: list[str] = []
    for path, content in (*edited.items(), *new.items()):
        if path not in touched:
            name = f"{OVERLAY_NAME}/{path.removeprefix('torch/')}"
            files[name] = content
            lines.append(f"{path}: into {name}")
    pristine = {
        path: scratch_file(state, path, read_original(state, path, record))
        for path, record in receipt.files.items()
        if path in touched
    }
    patches = list(series)
    for path, content in edited.items():
        if path in touched:
            lines += _refresh_patches(path, content, patches, pristine, wanted)
    for before, after in zip(series, patches, strict=True):
        if before != after:
            files[patch_set.place(base, after.name)] = after.content
    return files, tuple(lines)


def _edited(state: State, receipt: Receipt) -> dict[str, bytes]:
    edited = {}
    gone = []
    for path, record in sorted(receipt.files.items()):
        content = read_content(state.root, path)
        blob = None if content is None else blob_id(content)
        if blob == record.after:
            continue
        if content is None or blob == record.before:
            gone.append(str(state.root / path))
        else:
            edited[path] = content
    if gone:
        raise Refused(
            "deleted, or put back to the base's, which is no edit to bring back:\n  "
            + "\n  ".join(gone)
            + "\nTake it out of the patch set by hand, or run apply to get it again."
        )
    return edited


def _new_files(state: State, receipt: Receipt) -> dict[str, bytes]:
    """Files that the user added in folders which are there for ours only."""
    new = {}
    for directory in receipt.directories:
        for name in sorted(os.listdir(state.root / directory)):
            path = f"{directory}/{name}"
            place = state.root / path
            if name.endswith(".py") and place.is_file() and path not in receipt.files:
                content = read_content(state.root, path)
                assert content is not None
                new[path] = content
    return new


def _refresh_patches(
    path: str,
    content: bytes,
    patches: list[Patch],
    pristine: Mapping[str, ScratchFile | None],
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
    for index, patch in enumerate(patches):
        before, after = found[index], found[index + 1]
        if (rebuilt[index], rebuilt[index + 1]) != (steps[index], steps[index + 1]):
            before = _with_content(before, rebuilt[index])
            after = _with_content(after, rebuilt[index + 1])
            patches[index] = _with_section(patch, path, before, after)
    return [
        f"{path}:{edit.start + 1}: into {patches[edit.owner].name}"
        + (f", whose lines are nearest ({edit.distance} away)" if edit.distance else "")
        for edit in edits
    ]


def _with_content(old: ScratchFile | None, content: bytes) -> ScratchFile | None:
    return None if old is None else replace(old, content=content)


def _with_section(
    patch: Patch, path: str, before: ScratchFile | None, after: ScratchFile | None
) -> Patch:
    """The patch with another diff of one file; all else is as it was."""
    found = _SIGNATURE.search(patch.content)
    end = found.start() if found else len(patch.content)
    body, signature = patch.content[:end], patch.content[end:]
    head, *sections = re.split(rb"^(?=diff --git )", body, flags=re.M)
    ours = [section for section in sections if _is_of(section, path)]
    old = b"".join(ours)
    if before == after and not old:
        return patch
    if old and _makes(patch, old, path, before, after):
        return patch
    kept = [section for section in sections if section not in ours]
    section = b"" if before == after else _section(patch, path, before, after)
    if not kept and not section:
        raise Refused(
            f"the edit of {path} takes all of {patch.name} back: take it out of the "
            "series by hand"
        )
    made = b"".join(sorted([*kept, *([section] if section else [])]))
    return Patch(patch.name, head + made + signature)


def _is_of(section: bytes, path: str) -> bool:
    return section.partition(b"\n")[0].endswith(f" b/{path}".encode())


def _section(
    patch: Patch, path: str, before: ScratchFile | None, after: ScratchFile | None
) -> bytes:
    contents = [None if file is None else file.content for file in (before, after)]
    for context in _CONTEXTS:
        section = diff(contents[0], contents[1], context, path)
        if _makes(patch, section, path, before, after):
            return section
    raise Refused(f"{patch.name}: no diff of {path} makes what is wanted")


def _makes(
    patch: Patch,
    section: bytes,
    path: str,
    before: ScratchFile | None,
    after: ScratchFile | None,
) -> bool:
    """Whether the diff makes the one of the other, each hunk at its very place.

    Hunks of a patch that several bases share may be at another.
    """
    try:
        made = apply_series([Patch(patch.name, section)], {path: before})
    except Refused:
        return False
    return made.files[path] == after and not made.notes
