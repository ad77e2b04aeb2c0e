"""The receipt: what is applied to a tree, in ``.torch_overlay.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from .blobs import is_blob_id
from .errors import EnvironmentFailure
from .paths import check_path
from .state import State

FORMAT_VERSION = 1


@dataclass(frozen=True)
class FileRecord:
    """Blob ids of one file before and after; None where there is no file."""

    before: str | None
    after: str | None


@dataclass(frozen=True)
class Receipt:
    """What was applied, and how to tell whether it is still that."""

    base: str
    commit: str
    patch_set: str
    files: Mapping[str, FileRecord]
    directories: tuple[str, ...]

    def to_bytes(self) -> bytes:
        """The content of the receipt file."""
        document = {
            "version": FORMAT_VERSION,
            "base": self.base,
            "commit": self.commit,
            "patch_set": self.patch_set,
            "files": {
                path: {"before": record.before, "after": record.after}
                for path, record in sorted(self.files.items())
            },
            "directories": sorted(self.directories),
        }
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        return text.encode("utf-8")


def load_receipt(state: State) -> Receipt | None:
    """The receipt of a tree, None if nothing is applied to it."""
    try:
        content = state.receipt.read_bytes()
    except FileNotFoundError:
        return None
    try:
        document = json.loads(content)
        version = document["version"]
        if version != FORMAT_VERSION:
            raise EnvironmentFailure(
                f"{state.receipt} has version {version}, this tool knows "
                f"{FORMAT_VERSION}: use the version of the tool that applied"
            )
        files = {
            path: FileRecord(_blob(record["before"]), _blob(record["after"]))
            for path, record in document["files"].items()
        }
        receipt = Receipt(
            base=str(document["base"]),
            commit=str(document["commit"]),
            patch_set=str(document["patch_set"]),
            files=files,
            directories=tuple(str(path) for path in document["directories"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EnvironmentFailure(
            f"{state.receipt} is damaged: put it back as it was, or restore the "
            f"tree from {state.originals} by hand and remove both"
        ) from None
    for path in (*receipt.files, *receipt.directories):
        check_path(path, str(state.receipt))
    return receipt


def _blob(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not is_blob_id(value):
        raise ValueError(value)
    return value
