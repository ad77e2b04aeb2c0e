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
from collections.abc import Mapping  # noqa: TC003 (``parsed`` reads annotations)
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

from torch._inductor.range_dispatch.cache.documents import DocumentKind, parsed
from torch._inductor.range_dispatch.plan.guesses import (
    Guess,
    guess_texts,
    untimed_texts,
)
from torch._inductor.range_dispatch.plan.ranges import (
    cells_of_grid,
    ranges_from_split_points,
)
from torch.utils._filelock import FileLock
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch._inductor.range_dispatch.plan.ranges import Cell


class TableError(ValueError):
    """A file cannot be used as a table; the message names the file and the reason."""


_KIND = DocumentKind(
    format="range dispatch tuning table",
    version=2,
    positive="is a tuning table",
    negative="is not a tuning table",
    error=TableError,
)


@dataclass(frozen=True)
class CandidateTime:
    """How long a candidate takes at one size.

    ``digest`` identifies its source. ``milliseconds`` is None if it could not be run;
    ``noise`` is the uncertainty, in milliseconds, too. The time is ``disturbed`` if
    other programs kept the processors busy.
    """

    name: str
    digest: str
    milliseconds: float | None
    noise: float
    disturbed: bool = False


@dataclass(frozen=True)
class Entry:
    """The times of all candidates of an op at one size.

    ``operands`` has the size, stride, dtype and device type of each tensor, then the
    values of symbols. ``environment`` has what else the times depend on: torch, device,
    driver, threads. ``call``, ``axes`` and ``sizes`` are for people: the operands with
    symbols, what is dispatched on, such as ``x.shape[1]``, and its sizes. Without
    ``dispatch_on`` there are no axes. ``agreed`` is the tolerance within which all
    timed candidates agree with the op itself; None if one does not, or if they were not
    compared.
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
    def is_disturbed(self) -> bool:
        """Whether it may be off, as the machine was busy."""
        return any(one.disturbed for one in self.candidates)

    def stands_against(self, other: Entry | None) -> bool:
        """Whether it is taken where another one measured the same before."""
        return other is None or other.is_disturbed or not self.is_disturbed

    @property
    def key(self) -> str:
        """The same for entries that measured the same."""
        return json.dumps([*self.measured, dict(self.environment)], sort_keys=True)

    @property
    def measured(self) -> tuple[Any, ...]:
        """What was measured, in whatever environment."""
        digests = [one.digest for one in self.candidates]
        return self.op, self.schema, self.operands, digests


@dataclass(frozen=True)
class Decided:
    """The mean times that decided one cell, by candidate's name, in milliseconds.

    ``noise`` is the uncertainty of each. ``untimed`` is the reason if no candidate was
    timed, else empty. If the end of the range is a guess, ``guess`` has the two timed
    sizes that it lies between, or the one above which nothing was timed.
    """

    milliseconds: Mapping[str, float]
    noise: Mapping[str, float]
    untimed: str = ""
    guess: Guess | None = None


@dataclass(frozen=True)
class Choice:
    """The winners of a call: one for each cell of the grid of split points.

    The last axis changes fastest. ``winners`` are numbered as in
    ``register_custom_op_autotuning``: -1 is the fallback, None a cell that cannot
    occur. ``names`` are the candidates' names. ``dropped`` says which candidates could
    not be used, where and why. ``decided`` has the times that decided each cell; it is
    empty in tables of older versions.
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
    decided: tuple[Decided | None, ...] = ()

    @property
    def key(self) -> str:
        """The same for choices of the same call."""
        return json.dumps(
            [self.op, self.schema, self.call, self.axes, self.environment],
            sort_keys=True,
        )

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells that the winners are for, in their order."""
        return cells_of_grid([*map(ranges_from_split_points, self.split_points)])

    @property
    def guesses(self) -> list[str]:
        """Which split points are guesses, in words."""
        guesses = [one.guess if one else None for one in self.decided]
        return guess_texts(self.cells, guesses)

    @property
    def untimed(self) -> list[str]:
        """How many cells were not timed, and why, in words."""
        return untimed_texts([one.untimed if one else "" for one in self.decided])


@dataclass(frozen=True)
class TuningTable:
    """A table's content: timings, which compiles use, and choices, which people read.

    ``entries`` and ``choices`` are dicts from keys to ``Entry`` and ``Choice``.
    """

    entries: Mapping[str, Entry]
    choices: Mapping[str, Choice]

    @classmethod
    def of(
        cls, entries: Iterable[Entry], choices: Iterable[Choice] = ()
    ) -> TuningTable:
        """A table of both; of those with one key the last stands."""
        return cls({e.key: e for e in entries}, {c.key: c for c in choices})

    def merged_into(self, other: TuningTable) -> TuningTable:
        """What both tables have, this one's where both have measured the same, unless
        only the other's was measured undisturbed."""
        newer = {
            key: entry
            for key, entry in self.entries.items()
            if entry.stands_against(other.entries.get(key))
        }
        return TuningTable(
            {**other.entries, **newer}, {**other.choices, **self.choices}
        )


def read_table(path: str) -> TuningTable:
    """Read a table to look at it; ``load`` makes compiles use one.

    Raises:
        TableError: the file is damaged, of another format or newer than this code.
        OSError: the file cannot be read.
    """
    return TuningTable.of(**_KIND.read(path, {"entries": _entry, "choices": _choice}))


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
        content = {
            name: [dataclasses.asdict(parts[key]) for key in sorted(parts)]
            for name, parts in (("entries", both.entries), ("choices", both.choices))
        }
        _KIND.replace(path, content)
    return both


def remove_empty(path: str) -> None:
    """Remove a table's file, with its lock, if nothing has been written into it."""
    with FileLock(f"{path}.lock"):
        table = read_table(path) if os.path.exists(path) else None
        if table is not None and not (table.entries or table.choices):
            os.remove(path)
            os.remove(f"{path}.lock")


def _entry(raw: Any) -> Entry:
    entry: Entry = parsed(Entry, raw, "entry")
    _tensors, _symbols = json.loads(entry.operands)
    if not entry.candidates:
        raise ValueError("candidates is empty")
    if len(entry.sizes) != len(entry.axes):
        raise ValueError(f"sizes are {entry.sizes!r} for axes {entry.axes!r}")
    for one in entry.candidates:
        _check_time(one.milliseconds, one.noise)
    return entry


def _choice(raw: Any) -> Choice:
    choice: Choice = parsed(Choice, raw, "choice")
    axes, split_points = choice.axes, choice.split_points
    if len(split_points) != len(axes):
        raise ValueError(f"split_points has {len(split_points)} for {axes}")
    for points in split_points:
        if [*points] != sorted(OrderedSet(points)):
            raise ValueError(f"split_points {points!r} do not ascend")
    cells = math.prod(len(points) + 1 for points in split_points)
    if not cells == len(choice.winners) == len(choice.names):
        raise ValueError(f"winners are {choice.winners!r} for {cells} cells")
    if choice.decided and len(choice.decided) != cells:
        raise ValueError(f"decided has {len(choice.decided)} for {cells} cells")
    for one in filter(None, choice.decided):
        if one.milliseconds.keys() != one.noise.keys():
            raise ValueError(f"noise is {one.noise!r} for {one.milliseconds!r}")
        for name in one.noise:
            _check_time(one.milliseconds[name], one.noise[name])
    return choice


def _check_time(milliseconds: float | None, noise: float) -> None:
    if milliseconds is not None and not 0 < milliseconds < math.inf:
        raise ValueError(f"milliseconds is {milliseconds!r}")
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise is {noise!r}")
