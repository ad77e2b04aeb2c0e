"""Where the tool keeps its own files in a tree."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import Refused

RECEIPT_NAME = ".torch_overlay.json"
STATE_NAME = ".torch_overlay"
ORIGINALS_NAME = STATE_NAME + "/originals"


class State:
    """The tool's files in the tree ``root``: the receipt and the state folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # What is applied; absent in a tree that nothing was applied to.
        self.receipt = root / RECEIPT_NAME
        # Holds all below.
        self.folder = root / STATE_NAME
        # The base's files that were replaced, at their paths in the tree.
        self.originals = root / ORIGINALS_NAME
        # There while files are being changed: what to undo after a kill.
        self.journal = self.folder / "journal.json"
        # There while a refresh writes the patch set: what it has to write.
        self.redo = self.folder / "refresh.json"
        # New contents on their way into the tree.
        self.staged = self.folder / "staged"
        # The files as they were before the running change.
        self.backup = self.folder / "backup"
        # Held by the process that changes the tree; says which one it is.
        self.lock = self.folder / "lock"

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
