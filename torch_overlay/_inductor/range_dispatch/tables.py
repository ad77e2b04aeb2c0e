"""Tuning tables: what candidates took, in JSON files that can be shipped.

Reading is strict: a file that is not as it should be is an error as a whole, so that no
choice is made by half of it. Writing is atomic, and merges with what is there under a
lock, so that processes that write at the same time lose nothing.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

from torch.utils._filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


FORMAT = "range dispatch tuning table"
VERSION = 1


class TableError(ValueError):
    """A file is no tuning table that can be used; the message names it and says why."""


@dataclass(frozen=True)
class CandidateTime:
    """A candidate by name and digest of its source, and what it took.

    ``milliseconds`` is None if it could not be run.
    """

    name: str
    digest: str
    milliseconds: float | None
    noise: float


@dataclass(frozen=True)
class Entry:
    """The times of all candidates of an op at one size.

    ``operands`` has size, stride, dtype and device type of each tensor, then the values
    of symbols; ``size`` is the dispatched size, None in plain autotuning, and
    ``environment`` what the times depend on besides.
    """

    op: str
    schema: str
    environment: Mapping[str, str]
    operands: str
    size: int | None
    candidates: tuple[CandidateTime, ...]

    @property
    def key(self) -> str:
        """The same for entries that measured the same."""
        digests = [one.digest for one in self.candidates]
        return json.dumps(
            [self.op, self.schema, self.operands, digests, self.environment],
            sort_keys=True,
        )


@dataclass(frozen=True)
class TuningTable:
    """Entries by their keys."""

    entries: Mapping[str, Entry]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> TuningTable:
        """A table of entries; of those with one key the last stands."""
        return cls({entry.key: entry for entry in entries})

    def merged_into(self, other: TuningTable) -> TuningTable:
        """Both tables' entries, this one's where both have measured the same."""
        return TuningTable({**other.entries, **self.entries})


def read_table(path: str) -> TuningTable:
    """Read a table.

    Raises:
        TableError: the file is damaged, of another format or newer than this code.
        OSError: it cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except ValueError as error:
        raise TableError(f"{path} is no tuning table: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TableError(f"{path} is no tuning table: its format is not {FORMAT!r}")
    version = content.get("version")
    if version != VERSION:
        raise TableError(
            f"{path} is a tuning table of version {version!r}, this is {VERSION}"
        )
    entries = content.get("entries")
    if not isinstance(entries, list):
        raise TableError(f"{path} is damaged: 'entries' must be a list")
    found = []
    for index, entry in enumerate(entries):
        try:
            found.append(_entry(entry))
        except (TypeError, ValueError, KeyError) as error:
            raise TableError(f"{path} is damaged: entry {index}: {error!r}") from error
    return TuningTable.of(found)


def merge_into_file(path: str, table: TuningTable) -> TuningTable:
    """Add a table to the one in a file, which is made if need be; returns both.

    Raises:
        TableError: there is something else in the file. It is left alone.
        OSError: it cannot be written.
    """
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with FileLock(f"{path}.lock"):
        both = table
        if os.path.exists(path):
            both = table.merged_into(read_table(path))
        _replace(path, both)
    return both


def _replace(path: str, table: TuningTable) -> None:
    content = {
        "format": FORMAT,
        "version": VERSION,
        "entries": [
            dataclasses.asdict(table.entries[key]) for key in sorted(table.entries)
        ],
    }
    partial = f"{path}.{os.getpid()}.partial"
    try:
        with open(partial, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, sort_keys=True, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        if os.path.exists(partial):
            os.remove(partial)
        raise


def _entry(raw: Any) -> Entry:
    size = raw["size"]
    if size is not None:
        size = _checked(size, int, "size")
    candidates = tuple(
        _candidate(one) for one in _checked(raw["candidates"], list, "candidates")
    )
    if not candidates:
        raise ValueError("candidates is empty")
    environment = _checked(raw["environment"], dict, "environment")
    for value in environment.values():
        _checked(value, str, "environment")
    texts = {
        name: _checked(raw[name], str, name) for name in ("op", "schema", "operands")
    }
    _tensors, _symbols = json.loads(texts["operands"])
    return Entry(environment=environment, size=size, candidates=candidates, **texts)


def _candidate(raw: Any) -> CandidateTime:
    milliseconds = raw["milliseconds"]
    if milliseconds is not None:
        milliseconds = _positive(milliseconds, "milliseconds")
    noise = raw["noise"]
    return CandidateTime(
        _checked(raw["name"], str, "name"),
        _checked(raw["digest"], str, "digest"),
        milliseconds,
        0.0 if noise == 0 else _positive(noise, "noise"),
    )


def _checked(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}")
    return value


def _positive(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {value!r}")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} is {value!r}")
    return float(value)
