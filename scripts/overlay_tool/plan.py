"""Works out what has to change in a tree, without changing anything.

Everything is decided by content. A file may be touched when it is what we put
there (the receipt's ``after``), what was there before us, or what the base accepts;
anything else is an edit of the user's, and is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from .bases import Base
from .errors import EnvironmentFailure, Refused
from .filesystem import ORIGINALS_NAME, RECEIPT_NAME, File, State, blob_of, check_path
from .filesystem import is_blob_id, read
from .patch_set import PatchSet
from .patching import Files
from .transaction import Change
from .trees import Tree

FORMAT_VERSION = 2


@dataclass(frozen=True)
class FileRecord:
    """Blob ids of one file before and after; None where there is no file."""

    before: str | None
    after: str | None


@dataclass(frozen=True)
class Receipt:
    """What was applied, in ``.torch_overlay.json``: to tell whether it still is."""

    base: str
    commit: str
    patch_set: str
    files: Mapping[str, FileRecord]

    def to_file(self) -> File:
        """The receipt's own file."""
        document = {"version": FORMAT_VERSION, **asdict(self)}
        text = json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True)
        return File(f"{text}\n".encode())


def load_receipt(state: State) -> Receipt | None:
    """The receipt of a tree, None if nothing is applied to it."""
    try:
        document = json.loads(state.receipt.read_bytes())
        version = document.pop("version")
        # The first version listed folders, too.
        if version not in (1, FORMAT_VERSION):
            raise EnvironmentFailure(
                f"{state.receipt} has version {version}, this tool knows "
                f"{FORMAT_VERSION}: use the version of the tool that applied"
            )
        document.pop("directories", None)
        files = {path: FileRecord(**each) for path, each in document["files"].items()}
        for record in files.values():
            for blob in (record.before, record.after):
                if blob is not None and not is_blob_id(blob):
                    raise ValueError(blob)
        receipt = Receipt(**{**document, "files": files})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EnvironmentFailure(
            f"{state.receipt} is damaged: put it back as it was, or restore the "
            f"tree from {state.originals} by hand and remove both"
        ) from None
    for path in receipt.files:
        check_path(path, str(state.receipt))
    return receipt


@dataclass(frozen=True)
class Plan:
    """The changes that make a tree what it shall be, in the order to make them."""

    changes: tuple[Change, ...]
    written: tuple[str, ...]
    restored: tuple[str, ...]
    receipt: Receipt | None
    notes: tuple[str, ...]


def plan_apply(
    tree: Tree, state: State, patch_set: PatchSet, base: Base, receipt: Receipt | None
) -> Plan:
    """What ``apply`` has to do; refuses if anything at all does not fit."""
    paths = patch_set.paths(base)
    if not paths:
        raise Refused(
            f"the patch set {patch_set.root} has nothing for base {base.tag}: neither "
            "overlay files nor patches"
        )
    current = {path: read(state.root, path) for path in paths}
    pristine = find_pristine(state, patch_set, base, receipt, current)
    made = patch_set.make(base, pristine)
    known = receipt.files if receipt is not None else {}
    edited = [
        path
        for path, record in known.items()
        if path in current
        and blob_of(current[path])
        not in (record.after, record.before, blob_of(made.files[path]))
        and not base.accepts(path, blob_of(current[path]))
    ]
    if edited:
        raise _refuse_edits(state, edited)
    files = {
        path: FileRecord(blob_of(pristine[path]), blob_of(made.files[path]))
        for path in paths
    }
    new = Receipt(base.tag, base.commit, patch_set.digest(base), files)
    return _plan(tree, state, receipt, new, made.files, made.notes)


def plan_revert(tree: Tree, state: State, receipt: Receipt) -> Plan:
    """What ``revert`` has to do: the same as applying nothing."""
    return _plan(tree, state, receipt, None, {}, ())


def read_original(state: State, path: str, record: FileRecord) -> File | None:
    """The base's own file where something is applied, None if the base has none."""
    if record.before is None:
        return None
    file = read(state.root, f"{ORIGINALS_NAME}/{path}")
    if blob_of(file) != record.before:
        raise EnvironmentFailure(
            f"{state.originals / path} is missing or damaged: it must be blob "
            f"{record.before}; put the base's file there and run this again"
        )
    return file


def find_pristine(
    state: State,
    patch_set: PatchSet,
    base: Base,
    receipt: Receipt | None,
    current: Files,
) -> Files:
    """The base's own content of each file: in the tree, or else in the originals."""
    pristine: dict[str, File | None] = {}
    problems: list[str] = []
    for path, file in current.items():
        record = receipt.files.get(path) if receipt is not None else None
        ours = blob_of(patch_set.overlay.get(path))
        if record is not None and (
            blob_of(file) == record.after or not base.accepts(path, blob_of(file))
        ):
            file = read_original(state, path, record)
        elif receipt is not None and path not in base.blobs and blob_of(file) == ours:
            file = None  # written in the tree first, and brought back by a refresh
        pristine[path] = file
        if not base.accepts(path, blob_of(file)):
            blob = blob_of(current[path])
            listed = " or ".join(base.blobs.get(path, ()))
            what = f"is {f'blob {blob}' if blob else 'missing'}, accepted: {listed}"
            if not listed:
                what = f"exists (blob {blob}): not the base's, or it was not pinned"
            problems.append(f"{state.root / path} {what}")
    if problems:
        raise Refused(
            f"{len(problems)} file(s) are not those of base {base.tag}:\n  "
            + "\n  ".join(problems)
            + "\nPut the base's files back (a checkout: git checkout -- FILE; a "
            "wheel: reinstall it) and apply again."
        )
    return pristine


def _refuse_edits(state: State, paths: Sequence[str]) -> Refused:
    places = [state.root / path for path in sorted(paths)]
    lines = [f"{x}{'' if x.exists() else ' (deleted)'}" for x in places]
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
    old: Receipt | None,
    new: Receipt | None,
    wanted: Files,
    notes: Sequence[str],
) -> Plan:
    """From the tree as it is to ``wanted``, and back to the base for all else."""
    writes: list[Change] = []
    restores: list[Change] = []
    originals: list[Change] = []
    left = []
    nothing = FileRecord(None, None)
    new_files = new.files if new is not None else {}
    old_files = old.files if old is not None else {}
    for path in sorted({*new_files, *old_files}):
        now, record = read(state.root, path), old_files.get(path, nothing)
        if path in wanted:
            if now != wanted[path]:
                writes.append(Change(path, blob_of(now), wanted[path]))
        elif blob_of(now) == record.after:
            # Not the blobs: a patch may have changed nothing but the mode.
            if now != read_original(state, path, record):
                source = f"{ORIGINALS_NAME}/{path}" if record.before else None
                restores.append(Change(path, record.after, source))
        elif blob_of(now) != record.before:
            left.append(path)
        name = f"{ORIGINALS_NAME}/{path}"
        saved, keep = read(state.root, name), new_files.get(path, nothing).before
        if blob_of(saved) != keep:
            originals.append(Change(name, blob_of(saved), path if keep else None))
    if left:
        # After torch was replaced under us (an upgrade, a checkout of another
        # commit) these are that torch's files: not ours, and no edits of ours.
        if old is None or tree.is_based_on(old.commit):
            raise _refuse_edits(state, left)
        notes = [*notes, *(f"{path} is not ours any more: left alone" for path in left)]
    written = read(state.root, RECEIPT_NAME)
    file = None if new is None else new.to_file()
    receipts = [Change(RECEIPT_NAME, blob_of(written), file)]
    return Plan(
        changes=(
            *originals,
            *restores,
            *writes,
            *(receipts if written != file else ()),
        ),
        written=tuple(change.path for change in writes),
        restored=tuple(change.path for change in restores),
        receipt=new,
        notes=tuple(notes),
    )
