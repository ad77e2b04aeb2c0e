"""The code as upstream gets it: our files at their places there, and patched files.

The package ``range_tuning`` and its tests stay here, and are linted with the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from overlay_tool.bases import Base
from overlay_tool.errors import Refused
from overlay_tool.exporting import exported_tests
from overlay_tool.filesystem import File, State, blob_of, read
from overlay_tool.patch_set import OVERLAY_NAME, load_patch_set
from overlay_tool.patching import Patch, apply_series, touched_paths
from overlay_tool.trees import identify, require_base

Files = Mapping[str, bytes]
"""Contents by path."""

SUFFIXES = (".cpp", ".py")
"""What there is to export. Another file in these folders, say an editor's copy, would
go upstream unseen."""


BESIDE = ("range_tuning", "test/range_tuning")
"""Folders of ours that are installed beside torch."""


@dataclass(frozen=True)
class Exported:
    """What there is to lint.

    ``own`` and ``patched`` are by the path upstream, and so is ``base``, the patched
    files without the patches. ``added`` has for each patch of every base the lines that
    it adds, each where it is in the patch, by the patch's path in the repository.
    """

    own: Files
    base: Files
    patched: Files
    added: Files
    tag: str


def read_exported(root: Path, tree_path: Path) -> Exported:
    """Reads the patch set in ``root``, and the base's files in the tree.

    Args:
        tree_path: a base, pristine or with this patch set laid over it.

    Raises:
        Refused: the tree is not that, or there are files that nobody should export.
    """
    patch_set = load_patch_set(root)
    tree = identify(tree_path)
    base = require_base(tree, patch_set.bases)
    files = {
        path: file.content
        for path, file in {**patch_set.overlay, **exported_tests(patch_set)}.items()
    }
    for folder in BESIDE:
        for file in sorted((root / folder).glob("*.py")):
            files[f"{folder}/{file.name}"] = file.read_bytes()
    strange = [path for path in files if not path.endswith(SUFFIXES)]
    if strange:
        raise Refused(f"would be exported, and is no source: {', '.join(strange)}")
    series = patch_set.series(base)
    pristine = {
        path: read_pristine(State(tree.root), base, path)
        for patch in series
        for path in touched_paths(patch)
    }
    patched = apply_series(series, pristine).files
    return Exported(
        own=files,
        base={path: file.content for path, file in pristine.items() if file},
        patched={path: file.content for path, file in patched.items() if file},
        added={
            patch_set.place(each, patch.name): added_lines(patch)
            for each in patch_set.bases
            for patch in patch_set.series(each)
        },
        tag=base.tag,
    )


def read_pristine(state: State, base: Base, path: str) -> File | None:
    """The base's file, from where ``overlay.py apply`` keeps it or from the tree."""
    for file in (read(state.originals, path), read(state.root, path)):
        if base.accepts(path, blob_of(file)):
            return file
    raise Refused(
        f"{state.root}: {path} is not {base.tag}'s, nor is that kept: "
        "call scripts/setup, or name a pristine tree with --tree"
    )


def added_lines(patch: Patch) -> bytes:
    """The patch with all but the lines that it adds empty, and those without their +.

    The names of its files stand after +++ and are left out as well.
    """
    return b"".join(
        line[1:] if line.startswith(b"+") and not line.startswith(b"+++ ") else b"\n"
        for line in patch.content.splitlines(keepends=True)
    )


def place_of(root: Path, path: str) -> Path:
    """Where the repository has the file of ours that upstream has at ``path``."""
    inside = path.removeprefix("torch/")
    return root / path if inside == path else root / OVERLAY_NAME / inside
