"""The table that the ``tune`` command goes on with, and writes while it measures."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.cache.tables import (
    entry_key,
    merge_into_file,
    TableError,
    TuningTable,
)
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch._inductor.range_dispatch.cache.tables import Choice, Entry


log = logging.getLogger(__name__)

# Within a call the file is written no oftener: all of it is read and written each time.
SECONDS_BETWEEN_WRITES = 5.0


class TuneTable:
    """A table's file to take from what was measured before, and to add to.

    ``measured`` and ``taken`` are the keys of entries that were measured since, and
    that were taken from the file in place of being measured.
    """

    def __init__(self, path: str, is_fresh: bool) -> None:
        """If ``is_fresh``, nothing is taken. The file is made if need be.

        Raises:
            TableError: there is something else in the file. It is left alone.
            OSError: it cannot be written.
        """
        self._path = path
        found = merge_into_file(path, TuningTable.of([]))
        self._known = {} if is_fresh else dict(found.entries)
        self._entries: dict[str, Entry] = {}
        self._choices: dict[str, Choice] = {}
        self._written = time.monotonic()
        self.measured: OrderedSet[str] = OrderedSet()
        self.taken: OrderedSet[str] = OrderedSet()

    @property
    def has_something_to_take(self) -> bool:
        """Whether the file had entries, and they may be taken."""
        return bool(self._known)

    def find(
        self,
        op: str,
        schema: str,
        operands: str,
        digests: Sequence[str],
        here: Mapping[str, str],
    ) -> Entry | None:
        """What was measured in this very environment for these candidates.

        What other programs disturbed is measured again.
        """
        found = self._known.get(entry_key(op, schema, operands, digests, here))
        return None if found is None or found.is_disturbed else found

    def note(self, entry: Entry, is_taken: bool) -> None:
        """Keep an entry, and write the file if that was not done for a while."""
        (self.taken if is_taken else self.measured).add(entry.key)
        self._entries[entry.key] = entry
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self._try_to_write()

    def note_choice(self, choice: Choice) -> None:
        """Keep what was chosen for a call, and write the file."""
        self._choices[choice.key] = choice
        self._try_to_write()

    def write(self) -> None:
        """Write what was noted since the last time.

        Raises:
            TableError: there is something else in the file by now.
            OSError: it cannot be written.
        """
        self._written = time.monotonic()
        if self._entries or self._choices:
            table = TuningTable.of(self._entries.values(), self._choices.values())
            merge_into_file(self._path, table)
            self._entries.clear()
            self._choices.clear()

    def _try_to_write(self) -> None:
        """The script must not fail: it is tried again, at last when it has ended."""
        try:
            self.write()
        except (TableError, OSError) as error:
            log.warning("%s: not written yet, trying again: %s", self._path, error)
