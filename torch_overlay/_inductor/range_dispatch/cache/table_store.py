"""The tuning tables that a compile looks into: this process's, then those of folders.

A process's tables are those that it has loaded. Folders come from
``config.range_dispatch.table_path`` (environment variable
``TORCHINDUCTOR_RANGE_DISPATCH_TABLES``), separated as in PATH; last is the folder
``tables`` beside this file, which whoever builds torch may fill.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import logging
import os
from typing import Any, TYPE_CHECKING

from torch._inductor import config
from torch._inductor.range_dispatch.cache.tables import (
    Choice,
    Entry,
    merge_into_file,
    read_table,
    TableError,
    TuningTable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch._inductor.range_dispatch.cache.tune_table import TuneTable


log = logging.getLogger(__name__)

BUNDLED = os.path.join(os.path.dirname(__file__), "tables")
NEAR_TABLES = ("warn", "use", "ignore")

_loaded: dict[str, Entry] = {}
_measured: dict[str, Entry] = {}
_chosen: dict[str, Choice] = {}
# What the ``tune`` command measures into, while it does.
_tuned: list[TuneTable] = []


def save(path: str, op: Any = None) -> int:
    """Write what this process has measured into a table's file.

    ``op`` is a custom op or an overload, None for all. What the file has of other
    processes, also of ones that write now, stays. Returns how many entries were
    written.

    Raises:
        TableError: there is something else in the file. It is left alone.
        OSError: it cannot be written.
    """
    name = None if op is None else str(getattr(op, "_opoverload", op))
    entries = [e for e in _measured.values() if name is None or e.op == name]
    choices = [c for c in _chosen.values() if name is None or c.op == name]
    merge_into_file(path, TuningTable.of(entries, choices))
    return len(entries)


def load(path: str) -> int:
    """Let this process use a table. Returns how many entries it has.

    Raises:
        TableError: the file is damaged, of another format or newer than this code.
        OSError: it cannot be read.
    """
    table = read_table(path)
    _loaded.update(table.entries)
    return len(table.entries)


def forget() -> None:
    """Drop what this process has loaded and measured."""
    _loaded.clear()
    _measured.clear()
    _chosen.clear()


def note(entry: Entry, is_taken: bool = False) -> None:
    """Keep what this process has measured, for ``save``.

    ``is_taken`` tells that it was measured before, as ``find_tuned`` has found.
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


def find_tuned(
    op: str, schema: str, operands: str, digests: Sequence[str], here: Mapping[str, str]
) -> Entry | None:
    """The entry of the table that is tuned into, for these candidates and operands, of
    this environment only."""
    for table in _tuned[-1:]:
        return table.find(op, schema, operands, digests, here)
    return None


def state() -> str:
    """Changes with the tables that a compile would look into; empty if none are.

    What this process has measured is not looked into: it is in Inductor's own cache.
    """
    files = [*_files()]
    if not files and not _loaded:
        return ""
    loaded = [repr(_loaded[key]) for key in sorted(_loaded)]
    return hashlib.sha256(repr((files, loaded)).encode()).hexdigest()


def find(
    op: str, schema: str, operands: str, digests: Sequence[str], here: Mapping[str, str]
) -> Entry | None:
    """The first entry for these candidates and operands.

    One that was measured in the same environment comes before one that is near, of the
    same device, which is taken as ``config.range_dispatch.near_tables`` says, and of
    each kind those that were measured undisturbed come first.
    """
    same: Entry | None = None
    near: Entry | None = None
    for entry in _all_entries():
        if (entry.op, entry.schema, entry.operands) != (op, schema, operands):
            continue
        if [one.digest for one in entry.candidates] != [*digests]:
            continue
        if dict(entry.environment) == dict(here):
            same = _preferred(same, entry)
        elif entry.environment.get("device") == here["device"]:
            near = _preferred(near, entry)
    if same is not None:
        return same
    how = config.range_dispatch.near_tables
    if how not in NEAR_TABLES:
        raise ValueError(
            "config.range_dispatch.near_tables must be one of "
            f"{NEAR_TABLES}, got {how!r}"
        )
    if near is None or how == "ignore":
        return None
    if how == "warn":
        _warn_near(op, str(dict(near.environment)), str(dict(here)))
    return near


def _preferred(before: Entry | None, entry: Entry) -> Entry:
    """The earlier one, unless only the other was measured undisturbed."""
    if before is None or (before.is_disturbed and not entry.is_disturbed):
        return entry
    return before


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
