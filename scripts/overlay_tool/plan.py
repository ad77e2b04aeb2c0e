"""Works out what has to change in a tree, without changing anything.

Everything is decided by content. A file may be touched when it is what we put
there (the receipt's ``after``), what was there before us, or what the base accepts;
anything else is an edit of the user's, and is refused by name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .bases import Base
from .blobs import blob_id
from .errors import EnvironmentFailure, Refused
from .patch_set import Patch, PatchSet
from .patching import ScratchFile, apply_series, touched_paths
from .paths import locate, read_content
from .receipt import FileRecord, Receipt
from .state import ORIGINALS_NAME, RECEIPT_NAME, State
from .transaction import Change, missing_directories
from .trees import Tree


@dataclass(frozen=True)
class Plan:
    """The changes that make a tree what it shall be, in the order to make them."""

    changes: tuple[Change, ...]
    prune_directories: tuple[str, ...]
    written: tuple[str, ...]
    restored: tuple[str, ...]
    receipt: Receipt | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Wanted:
    """What one file shall be. ``executable`` None keeps what it is."""

    pristine: bytes | None
    content: bytes | None
    executable: bool | None


def touched_by_series(patches: Sequence[Patch]) -> dict[str, str]:
    """Each path that the ``patches`` touch, with the first patch that does."""
    touched: dict[str, str] = {}
    for patch in patches:
        for path in touched_paths(patch):
            touched.setdefault(path, patch.name)
    return touched


def check_overlap(patch_set: PatchSet, touched: Mapping[str, str]) -> None:
    """Refuses a patch set that both overlays and patches a file."""
    for path, name in touched.items():
        if path in patch_set.overlay:
            raise Refused(
                f"the patch set both overlays {path} and patches it ({name}): "
                "one of the two must go"
            )


def plan_apply(
    tree: Tree, state: State, patch_set: PatchSet, base: Base, receipt: Receipt | None
) -> Plan:
    """What ``apply`` has to do; refuses if anything at all does not fit."""
    patches = patch_set.series(base)
    touched = touched_by_series(patches)
    check_overlap(patch_set, touched)
    paths = sorted({*patch_set.overlay, *touched})
    if not paths:
        raise Refused(
            f"the patch set {patch_set.root} has nothing for base {base.tag}: neither "
            "overlay files nor patches"
        )
    current = {path: read_content(state.root, path) for path in paths}
    pristine = _find_pristine(state, base, receipt, current)
    patched = apply_series(
        patches,
        {path: scratch_file(state, path, pristine[path]) for path in touched},
    )
    wanted: dict[str, _Wanted] = {}
    for path in paths:
        if path in patch_set.overlay:
            ours = patch_set.overlay[path]
            executable = ours.executable if pristine[path] is None else None
            wanted[path] = _Wanted(pristine[path], ours.content, executable)
        else:
            before = scratch_file(state, path, pristine[path])
            wanted[path] = _wanted_by_patches(before, patched.files[path])
    _refuse_edits(state, base, receipt, current, wanted)
    return _plan(tree, state, receipt, wanted, (base, patch_set), patched.notes)


def plan_revert(tree: Tree, state: State, receipt: Receipt) -> Plan:
    """What ``revert`` has to do: the same as applying nothing."""
    return _plan(tree, state, receipt, {}, None, ())


def _find_pristine(
    state: State,
    base: Base,
    receipt: Receipt | None,
    current: Mapping[str, bytes | None],
) -> dict[str, bytes | None]:
    """The base's own content of each file: in the tree, or else in the originals."""
    pristine: dict[str, bytes | None] = {}
    problems: list[str] = []
    for path, content in current.items():
        blob = _blob(content)
        record = receipt.files.get(path) if receipt is not None else None
        if record is not None and (
            blob == record.after or not base.accepts(path, blob)
        ):
            content, blob = read_original(state, path, record), record.before
        pristine[path] = content
        if not base.accepts(path, blob):
            problems.append(_misfit(state, base, path, _blob(current[path])))
    if problems:
        raise Refused(
            f"{len(problems)} file(s) are not those of base {base.tag}:\n  "
            + "\n  ".join(problems)
            + "\nPut the base's files back (a checkout: git checkout -- FILE; a "
            "wheel: reinstall it) and apply again."
        )
    return pristine


def _misfit(state: State, base: Base, path: str, blob: str | None) -> str:
    place = state.root / path
    accepted = base.blobs.get(path)
    if accepted is None:
        return (
            f"{place} exists (blob {blob}), but the base has no such file, or it was "
            "not pinned"
        )
    listed = " or ".join(accepted)
    return f"{place} is {f'blob {blob}' if blob else 'missing'}, accepted: {listed}"


def read_original(state: State, path: str, record: FileRecord) -> bytes | None:
    """The base's own content of a file that is applied, None if the base has none."""
    if record.before is None:
        return None
    content = read_content(state.root, f"{ORIGINALS_NAME}/{path}")
    if _blob(content) != record.before:
        raise EnvironmentFailure(
            f"{state.originals / path} is missing or damaged: it must be blob "
            f"{record.before}; put the base's file there and run this again"
        )
    return content


def _is_original(state: State, path: str, record: FileRecord) -> bool:
    """Whether a file that is what we made it needs nothing to be the base's."""
    original = read_original(state, path, record)
    if original is None or record.before != record.after:
        return record.before == record.after
    # A patch may have changed nothing but the mode.
    modes = {
        stat.S_IMODE(os.lstat(place).st_mode)
        for place in (state.originals / path, state.root / path)
    }
    return len(modes) == 1


def scratch_file(
    state: State, path: str, pristine: bytes | None
) -> ScratchFile | None:
    """The base's file, whose content is given, with its mode."""
    if pristine is None:
        return None
    # The mode of the original, as a patch may have changed it since.
    places = (locate(state.root, f"{ORIGINALS_NAME}/{path}"), state.root / path)
    place = next(place for place in places if place.exists())
    return ScratchFile(pristine, bool(os.lstat(place).st_mode & 0o100))


def _wanted_by_patches(
    before: ScratchFile | None, after: ScratchFile | None
) -> _Wanted:
    pristine = None if before is None else before.content
    if after is None:
        return _Wanted(pristine, None, None)
    changed = before is None or before.executable != after.executable
    return _Wanted(pristine, after.content, after.executable if changed else None)


def _refuse_edits(
    state: State,
    base: Base,
    receipt: Receipt | None,
    current: Mapping[str, bytes | None],
    wanted: Mapping[str, _Wanted],
) -> None:
    edited = []
    for path, content in current.items():
        record = receipt.files.get(path) if receipt is not None else None
        if record is None:
            continue
        known = (record.after, record.before, _blob(wanted[path].content))
        if _blob(content) not in known and not base.accepts(path, _blob(content)):
            edited.append(path)
    if edited:
        raise _edited(state, edited)


def _edited(state: State, paths: Sequence[str]) -> Refused:
    lines = []
    for path in paths:
        place = state.root / path
        lines.append(f"{place}{'' if place.exists() else ' (deleted)'}")
    return Refused(
        "edited since the overlay was applied, and never overwritten:\n  "
        + "\n  ".join(lines)
        + "\nSave your edit elsewhere (git diff --no-index ORIGINAL FILE), put the "
        f"original from {state.originals} there (if it has none: delete the file), "
        "and run this again."
    )


def _plan(
    tree: Tree,
    state: State,
    receipt: Receipt | None,
    wanted: Mapping[str, _Wanted],
    target: tuple[Base, PatchSet] | None,
    notes: Sequence[str],
) -> Plan:
    """From the tree as it is to ``wanted``, and back to the base for all else."""
    old_files = dict(receipt.files) if receipt is not None else {}
    writes: list[Change] = []
    restores: list[Change] = []
    originals: list[Change] = []
    new_files: dict[str, FileRecord] = {}
    for path, want in sorted(wanted.items()):
        new_files[path] = FileRecord(_blob(want.pristine), _blob(want.content))
        originals += _keep_original(state, path, want)
        change = _write(state, path, want)
        if change is not None:
            writes.append(change)
    left = []
    for path, record in sorted(old_files.items()):
        if path in wanted:
            continue
        blob = _blob(read_content(state.root, path))
        if blob == record.after and not _is_original(state, path, record):
            source = None if record.before is None else f"{ORIGINALS_NAME}/{path}"
            restores.append(Change(path, blob, source=source))
        elif blob not in (record.before, record.after):
            left.append(path)
    if left:
        # After torch was replaced under us (an upgrade, a checkout of another
        # commit) these are that torch's files: not ours, and no edits of ours.
        if receipt is None or tree.is_based_on(receipt.commit):
            raise _edited(state, left)
        notes = [*notes, *(f"{path} is not ours any more: left alone" for path in left)]
    originals += _drop_originals(state, old_files, new_files)
    made = missing_directories(
        state.root, [change.path for change in writes if change.content is not None]
    )
    ours = {*(receipt.directories if receipt is not None else ()), *made}
    used = {
        folder
        for folder in ours
        if any(path.startswith(folder + "/") for path in new_files)
    }
    new_receipt = None
    if target is not None:
        base, patch_set = target
        new_receipt = Receipt(
            base=base.tag,
            commit=base.commit,
            patch_set=patch_set.digest(base),
            files=new_files,
            directories=tuple(sorted(used)),
        )
    return Plan(
        changes=(
            *originals,
            *restores,
            *writes,
            *_receipt_change(state, new_receipt),
        ),
        prune_directories=tuple(sorted(ours - used)),
        written=tuple(change.path for change in writes),
        restored=tuple(change.path for change in restores),
        receipt=new_receipt,
        notes=tuple(notes),
    )


def _keep_original(state: State, path: str, want: _Wanted) -> list[Change]:
    """Saves the tree's file as the original, unless that is saved already."""
    name = f"{ORIGINALS_NAME}/{path}"
    saved = _blob(read_content(state.root, name))
    if want.pristine is None or saved == _blob(want.pristine):
        return []
    return [Change(name, saved, source=path)]


def _write(state: State, path: str, want: _Wanted) -> Change | None:
    """The change that makes the file what is wanted, None if it is that already."""
    blob = _blob(read_content(state.root, path))
    if blob == _blob(want.content):
        if blob is None or want.executable is None:
            return None
        mode = os.lstat(state.root / path).st_mode
        if bool(stat.S_IMODE(mode) & 0o100) == want.executable:
            return None
    return Change(path, blob, content=want.content, executable=want.executable)


def _drop_originals(
    state: State, old: Mapping[str, FileRecord], new: Mapping[str, FileRecord]
) -> list[Change]:
    drops = []
    for path, record in sorted(old.items()):
        if record.before is not None and (path not in new or not new[path].before):
            name = f"{ORIGINALS_NAME}/{path}"
            saved = _blob(read_content(state.root, name))
            if saved is not None:
                drops.append(Change(name, saved))
    return drops


def _receipt_change(state: State, receipt: Receipt | None) -> list[Change]:
    old = read_content(state.root, RECEIPT_NAME)
    new = None if receipt is None else receipt.to_bytes()
    return [] if old == new else [Change(RECEIPT_NAME, _blob(old), content=new)]


def _blob(content: bytes | None) -> str | None:
    return None if content is None else blob_id(content)
