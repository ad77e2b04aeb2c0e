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

from torch._inductor.range_dispatch.documents import DocumentKind
from torch.utils._filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class TableError(ValueError):
    """A file is no tuning table that can be used; the message names it and says why."""


_KIND = DocumentKind(
    format="range dispatch tuning table",
    version=2,
    positive="is a tuning table",
    negative="is no tuning table",
    error=TableError,
)


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
    of symbols, and ``environment`` what the times depend on besides. ``call``, ``axes``
    and ``sizes`` are for people: the operands with symbols, what is dispatched on, such
    as ``x.shape[1]``, and its sizes here. Plain autotuning has no axes. ``agreed`` is
    the tolerance within which the candidates that have times were found to agree with
    the op itself; None if they do not, or were not compared.
    """

    op: str
    schema: str
    environment: Mapping[str, str]
    call: str
    axes: tuple[str, ...]
    operands: str
    sizes: tuple[int, ...]
    candidates: tuple[CandidateTime, ...]
    agreed: str | None = None

    @property
    def key(self) -> str:
        """The same for entries that measured the same."""
        digests = [one.digest for one in self.candidates]
        return json.dumps(
            [self.op, self.schema, self.operands, digests, self.environment],
            sort_keys=True,
        )


@dataclass(frozen=True)
class Choice:
    """The winners of a call: one for each cell of the grid of split points.

    The last axis changes fastest. ``winners`` are as registered, -1 for the op itself,
    None for a cell that cannot occur, and ``names`` those of the candidates.
    ``dropped`` says in words which candidates could not be used, where and why; tables
    that were written before there was this have nothing.
    """

    op: str
    schema: str
    environment: Mapping[str, str]
    call: str
    axes: tuple[str, ...]
    split_points: tuple[tuple[int, ...], ...]
    winners: tuple[int | None, ...]
    names: tuple[str | None, ...]
    dropped: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The same for choices of the same call."""
        return json.dumps(
            [self.op, self.schema, self.call, self.axes, self.environment],
            sort_keys=True,
        )


@dataclass(frozen=True)
class TuningTable:
    """Entries, which compiles use, and choices, which people read, by their keys."""

    entries: Mapping[str, Entry]
    choices: Mapping[str, Choice]

    @classmethod
    def of(
        cls, entries: Iterable[Entry], choices: Iterable[Choice] = ()
    ) -> TuningTable:
        """A table of both; of those with one key the last stands."""
        return cls({e.key: e for e in entries}, {c.key: c for c in choices})

    def merged_into(self, other: TuningTable) -> TuningTable:
        """What both tables have, this one's where both have measured the same."""
        return TuningTable(
            {**other.entries, **self.entries}, {**other.choices, **self.choices}
        )


def read_table(path: str) -> TuningTable:
    """Read a table.

    Raises:
        TableError: the file is damaged, of another format or newer than this code.
        OSError: it cannot be read.
    """
    content = _KIND.read(path)
    return TuningTable.of(
        _KIND.parts(path, content, "entries", _entry),
        _KIND.parts(path, content, "choices", _choice),
    )


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
        _KIND.replace(path, _content(both))
    return both


def _content(table: TuningTable) -> dict[str, Any]:
    return {
        name: [dataclasses.asdict(parts[key]) for key in sorted(parts)]
        for name, parts in (("entries", table.entries), ("choices", table.choices))
    }


def _entry(raw: Any) -> Entry:
    candidates = tuple(
        _candidate(one) for one in _checked(raw["candidates"], list, "candidates")
    )
    if not candidates:
        raise ValueError("candidates is empty")
    operands = _checked(raw["operands"], str, "operands")
    _tensors, _symbols = json.loads(operands)
    return Entry(
        **_of_call(raw),
        operands=operands,
        sizes=_list_of(raw["sizes"], int, "sizes"),
        candidates=candidates,
        agreed=_checked(raw.get("agreed"), (str, type(None)), "agreed"),
    )


def _choice(raw: Any) -> Choice:
    split_points = _checked(raw["split_points"], list, "split_points")
    found = Choice(
        **_of_call(raw),
        split_points=tuple(_list_of(p, int, "split_points") for p in split_points),
        winners=_list_of(raw["winners"], (int, type(None)), "winners"),
        names=_list_of(raw["names"], (str, type(None)), "names"),
        dropped=_list_of(raw.get("dropped", []), str, "dropped"),
    )
    cells = math.prod(len(points) + 1 for points in found.split_points)
    if not cells == len(found.winners) == len(found.names):
        raise ValueError(f"winners are {found.winners!r} for {cells} cells")
    return found


def _of_call(raw: Any) -> dict[str, Any]:
    """What entries and choices have in common."""
    environment = _checked(raw["environment"], dict, "environment")
    for value in environment.values():
        _checked(value, str, "environment")
    texts = {name: _checked(raw[name], str, name) for name in ("op", "schema", "call")}
    axes = _list_of(raw["axes"], str, "axes")
    return {"environment": environment, "axes": axes, **texts}


def _list_of(values: Any, kind: Any, name: str) -> tuple[Any, ...]:
    return tuple(_checked(one, kind, name) for one in _checked(values, list, name))


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


def _checked(value: Any, kind: Any, name: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}")
    return value


def _positive(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {value!r}")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} is {value!r}")
    return float(value)
