"""Where the tool keeps its own files in a tree."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from .errors import Refused

RECEIPT_NAME = ".torch_overlay.json"
STATE_NAME = ".torch_overlay"
ORIGINALS_NAME = STATE_NAME + "/originals"


@dataclass(frozen=True)
class State:
    """The tool's files in the tree ``root``: the receipt and the state folder."""

    root: Path

    @property
    def receipt(self) -> Path:
        """What is applied; absent in a tree that nothing was applied to."""
        return self.root / RECEIPT_NAME

    @property
    def folder(self) -> Path:
        """Holds all below."""
        return self.root / STATE_NAME

    @property
    def originals(self) -> Path:
        """The base's files that were replaced, at their paths in the tree."""
        return self.root / ORIGINALS_NAME

    @property
    def journal(self) -> Path:
        """There while files are being changed: what to undo after a kill."""
        return self.folder / "journal.json"

    @property
    def redo(self) -> Path:
        """There while a refresh writes the patch set: what it has to write."""
        return self.folder / "refresh.json"

    @property
    def staged(self) -> Path:
        """New contents on their way into the tree."""
        return self.folder / "staged"

    @property
    def backup(self) -> Path:
        """The files as they were before the running change."""
        return self.folder / "backup"

    @property
    def lock(self) -> Path:
        """Held by the process that changes the tree; says which one it is."""
        return self.folder / "lock"

    def check(self) -> None:
        """Refuses a state folder or a receipt that is not what we would make."""
        for place, right in (
            (self.folder, stat.S_ISDIR),
            (self.receipt, stat.S_ISREG),
            (self.originals, stat.S_ISDIR),
            (self.staged, stat.S_ISDIR),
            (self.backup, stat.S_ISDIR),
            (self.journal, stat.S_ISREG),
            (self.redo, stat.S_ISREG),
            (self.lock, stat.S_ISREG),
        ):
            try:
                mode = os.lstat(place).st_mode
            except FileNotFoundError:
                continue
            if not right(mode):
                raise Refused(
                    f"{place} was not made by this tool (a link or of another "
                    "type): move it away"
                )
