"""The tuning tables that a compile looks into: this process's, then those of folders.

A process's tables are those that it has loaded. Folders come from
``config.range_dispatch.table_path`` (environment variable
``TORCHINDUCTOR_RANGE_DISPATCH_TABLES``), separated as in PATH; last is the folder
``torch/_inductor/range_dispatch/tables``, which whoever builds torch may fill.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import logging
import os
import time
from typing import Any, TYPE_CHECKING

from torch._inductor import config
from torch._inductor.range_dispatch.cache.tables import (
    Choice,
    Entry,
    merge_into_file,
    read_table,
    remove_empty,
    TableError,
    TuningTable,
)
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Iterator


log = logging.getLogger(__name__)

BUNDLED = os.path.join(os.path.dirname(os.path.dirname(__file__)), "tables")
NEAR_TABLES = ("warn", "use", "ignore")

# Within a call ``TuneTable`` writes no oftener: each time it reads and writes it all.
SECONDS_BETWEEN_WRITES = 5.0

_loaded: dict[str, Entry] = {}
_measured: dict[str, Entry] = {}
_chosen: dict[str, Choice] = {}


class TuneTable:
    """A table's file to take from what was measured before, and to add to."""

    def __init__(self, path: str, is_fresh: bool) -> None:
        """If ``is_fresh``, nothing is taken. The file is made if need be.

        Raises:
            TableError: there is something else in the file. It is left alone.
            OSError: it cannot be written.
        """
        self._path = path
        self._is_new = not os.path.exists(path) and not os.path.exists(f"{path}.lock")
        found = merge_into_file(path, TuningTable.of([]))
        self._known = {} if is_fresh else dict(found.entries)
        self._entries: dict[str, Entry] = {}
        self._choices: dict[str, Choice] = {}
        self._written = time.monotonic()
        # The keys of entries.
        self._measured: OrderedSet[str] = OrderedSet()
        self._taken: OrderedSet[str] = OrderedSet()

    @property
    def has_something_to_take(self) -> bool:
        """Whether the file had times, and they may be taken."""
        return bool(self._known)

    @property
    def measured(self) -> int:
        """How many sizes were measured."""
        return len(self._measured)

    @property
    def taken(self) -> int:
        """How many were not measured, but taken from the file."""
        return len(self._taken - self._measured)

    def find(self, wanted: Entry) -> Entry | None:
        """What was measured in this very environment for these candidates.

        What other programs disturbed is measured again.
        """
        found = self._known.get(wanted.key)
        return None if found is None or found.is_disturbed else found

    def note(self, entry: Entry, is_taken: bool) -> None:
        """Keep an entry, and write the file if that was not done for a while."""
        (self._taken if is_taken else self._measured).add(entry.key)
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

    def end(self) -> None:
        """Write what is not written yet; a file that was made for nothing goes again.

        Raises:
            TableError: there is something else in the file by now.
            OSError: it cannot be written.
        """
        self.write()
        if self._is_new:
            remove_empty(self._path)

    def _try_to_write(self) -> None:
        """The script must not fail: it is tried again, at last when it has ended."""
        try:
            self.write()
        except (TableError, OSError) as error:
            log.warning("%s: not written yet, trying again: %s", self._path, error)


# What the ``tune`` command measures into, while it does.
_tuned: list[TuneTable] = []


def save(path: str, op: Any = None) -> int:
    """Add the timings and choices of this process to a table.

    The file is created if needed, and written atomically. What other processes have
    written stays, even if they write at the same time.

    Args:
        path: the table, a JSON file.
        op: a custom op or an overload; None for all ops.

    Returns:
        how many entries were written; an entry has the timings at one size.

    Raises:
        TableError: the file exists and is not a table. It is not changed.
        OSError: the file cannot be written.
    """
    name = op_name(op)
    entries = [e for e in _measured.values() if name is None or e.op == name]
    choices = [c for c in _chosen.values() if name is None or c.op == name]
    merge_into_file(path, TuningTable.of(entries, choices))
    return len(entries)


def load(path: str) -> int:
    """Use a table in this process: sizes that it has are not timed again.

    Args:
        path: the table, a JSON file.

    Returns:
        how many entries the table has; an entry has the timings at one size.

    Raises:
        TableError: the file is damaged, of another format or newer than this code.
        OSError: the file cannot be read.
    """
    table = read_table(path)
    _loaded.update(table.entries)
    return len(table.entries)


def op_name(op: Any) -> str | None:
    """The name that entries and records have of a custom op or an overload; None stays
    None."""
    return None if op is None else str(getattr(op, "_opoverload", op))


def forget() -> None:
    """Drop what this process has loaded and measured."""
    _loaded.clear()
    _measured.clear()
    _chosen.clear()


def note(entry: Entry, is_taken: bool = False) -> None:
    """Keep what this process has measured, for ``save``.

    ``is_taken`` tells that it was measured before: ``tuned_table`` has it.
    """
    if entry.stands_against(_measured.get(entry.key)):
        _measured[entry.key] = entry
    for table in _tuned[-1:]:
        table.note(entry, is_taken)


def note_choice(choice: Choice) -> None:
    """Keep what this process has chosen, for ``save``."""
    _chosen[choice.key] = choice
    for table in _tuned[-1:]:
        table.note_choice(choice)


@contextlib.contextmanager
def tuning_into(table: TuneTable) -> Iterator[None]:
    """Take from a table what was measured before, and add to it what is measured."""
    _tuned.append(table)
    try:
        yield
    finally:
        _tuned.pop()


def tuned_table() -> TuneTable | None:
    """The table that takes what is measured, if there is one."""
    return _tuned[-1] if _tuned else None


def state() -> str:
    """Changes with the tables that a compile would look into; empty if none are.

    What this process has measured is not looked into: it is in Inductor's own cache.
    """
    files = [*_files()]
    if not files and not _loaded:
        return ""
    loaded = [repr(_loaded[key]) for key in sorted(_loaded)]
    return hashlib.sha256(repr((files, loaded)).encode()).hexdigest()


def find(wanted: Entry) -> Entry | None:
    """The first entry that has times for the candidates and operands of this one.

    One that was measured in the same environment comes before one that is near, of the
    same device, which is taken as ``config.range_dispatch.near_tables`` says, and of
    each kind those that were measured undisturbed come first.
    """
    here = dict(wanted.environment)
    found = [one for one in _all_entries() if one.measured == wanted.measured]
    same = [one for one in found if dict(one.environment) == here]
    if same:
        return min(same, key=lambda one: one.is_disturbed)
    how = config.range_dispatch.near_tables
    if how not in NEAR_TABLES:
        raise ValueError(
            "config.range_dispatch.near_tables must be one of "
            f"{NEAR_TABLES}, got {how!r}"
        )
    near = [one for one in found if one.environment.get("device") == here["device"]]
    if not near or how == "ignore":
        return None
    nearest = min(near, key=lambda one: one.is_disturbed)
    if how == "warn":
        _warn_near(wanted.op, str(dict(nearest.environment)), str(here))
    return nearest


def _all_entries() -> Iterator[Entry]:
    yield from _loaded.values()
    for path, changed in _files():
        table = _read(path, changed)
        if table is not None:
            yield from table.entries.values()


def _files() -> Iterator[tuple[str, int]]:
    """The files of tables, and when each was changed."""
    folders = (config.range_dispatch.table_path or "").split(os.pathsep)
    for folder in [*filter(None, folders), BUNDLED]:
        inside = sorted(glob.glob(os.path.join(glob.escape(folder), "*.json")))
        for path in [folder] if os.path.isfile(folder) else inside:
            with contextlib.suppress(FileNotFoundError):  # gone since
                yield path, os.stat(path).st_mtime_ns


@functools.lru_cache(maxsize=256)
def _read(path: str, changed: int) -> TuningTable | None:
    """None, and a warning once, for a file that cannot be used."""
    try:
        return read_table(path)
    except (TableError, OSError) as error:
        log.warning("a tuning table is ignored: %s", error)
        return None


@functools.cache
def _warn_near(op: str, there: str, here: str) -> None:
    log.warning(
        "%s: winners by times measured in another environment, %s, this is %s. Set "
        "config.range_dispatch.near_tables to 'use' to take such times silently, or to "
        "'ignore' to measure",
        op,
        there,
        here,
    )
