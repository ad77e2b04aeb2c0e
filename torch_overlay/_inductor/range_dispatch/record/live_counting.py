"""Counts which sizes a dispatched graph is called with, and so which branches run.

It is off by default. With ``config.range_dispatch.count_calls = N`` at compile time the
graph's Python wrapper records one in N calls of every dispatch, here, where
:func:`live_counts` shows them. A graph that comes from a cache counts as it was
compiled.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import json
import threading
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

from torch._inductor.range_dispatch.cache.documents import DocumentKind, parsed
from torch._inductor.range_dispatch.cache.table_store import op_name
from torch._inductor.range_dispatch.plan.decisions import (
    decide,
    Decision,
    DecisionTree,
    Leaf,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch._inductor.range_dispatch.record.records import DispatchRecord


# If a dispatch meets more distinct sizes, the further ones count for branches only.
MAX_SIZES = 10_000


class CountsError(ValueError):
    """A file cannot be used as counts; the message names the file and the reason."""


_KIND = DocumentKind(
    format="range dispatch counts",
    version=1,
    positive="has counts",
    negative="has no counts",
    error=CountsError,
)


@dataclass(frozen=True)
class LiveCount:
    """How often one dispatch was called, by branch and by size.

    One in ``every`` calls is recorded. ``branches`` maps each winner's name to a number
    of calls; ``sizes`` maps sizes, one for each of ``axes``, to a number of calls. At
    most 10000 distinct sizes are kept; ``other_sizes`` calls had others.
    """

    op: str
    name: str
    call: str
    axes: tuple[str, ...]
    every: int
    branches: dict[str, int]
    sizes: dict[tuple[int, ...], int]
    other_sizes: int = 0

    @property
    def recorded(self) -> int:
        """How many calls were recorded in all."""
        return sum(self.branches.values())

    def __str__(self) -> str:
        parts = [
            f"{name} {times} ({times / max(self.recorded, 1):.0%})"
            for name, times in self.branches.items()
        ]
        sampled = "" if self.every == 1 else f", one in {self.every} recorded"
        return f"{', '.join(parts)}{sampled}"


class _Counter:
    """Records the sizes of one dispatch; generated code calls it."""

    def __init__(self, description: str, every: int) -> None:
        self.description = description
        self._described = json.loads(description)
        self._tree = _tree_from_json(self._described["tree"])
        self.op = self._described["op"]
        self._every = every
        self.reset()

    def reset(self) -> None:
        self._calls = itertools.count()
        self._lock = threading.Lock()
        self._sizes: collections.Counter[tuple[int, ...]] = collections.Counter()
        self._other: collections.Counter[int] = collections.Counter()

    def __call__(self, *sizes: int) -> None:
        for thread, watched in _watching:
            if thread == threading.get_ident():
                watched.append((self.description, sizes))
        if self._every > 1:
            block, place = divmod(next(self._calls), self._every)
            # Another place in each block, so that calls which alternate in step with
            # the blocks are all met.
            if place != ((block * 0x9E3779B1 & 0xFFFFFFFF) >> 8) % self._every:
                return
        with self._lock:
            if sizes in self._sizes or len(self._sizes) < MAX_SIZES:
                self._sizes[sizes] += 1
            else:
                self._other[decide(self._tree, sizes)] += 1

    def count(self) -> LiveCount:
        with self._lock:
            sizes, other = dict(self._sizes), dict(self._other)
        winners = self._described["winners"]
        branches = dict.fromkeys(winners, 0)
        for one, times in sizes.items():
            branches[winners[decide(self._tree, one)]] += times
        for branch, times in other.items():
            branches[winners[branch]] += times
        return LiveCount(
            self.op,
            self._described["name"],
            self._described["call"],
            tuple(self._described["axes"]),
            self._every,
            branches,
            dict(sorted(sizes.items())),
            sum(other.values()),
        )


_counters: dict[tuple[str, int], _Counter] = {}
_counters_lock = threading.Lock()
# What :func:`watch_calls` collects in.
_watching: list[tuple[int, list[tuple[str, tuple[int, ...]]]]] = []


def counter(description: str, every: int) -> _Counter:
    """The counter of a dispatch, for generated code: the same for the same dispatch."""
    with _counters_lock:
        key = description, every
        if key not in _counters:
            _counters[key] = _Counter(description, every)
        return _counters[key]


def describe(record: DispatchRecord) -> str:
    """What a counter has to know of a dispatch, as JSON."""
    return json.dumps(
        {
            "op": record.op,
            "name": record.name,
            "call": record.call,
            "axes": record.axes,
            "winners": record.branch_winners,
            "tree": _tree_to_json(record.tree),
        },
        sort_keys=True,
    )


def live_counts(op: Any = None) -> list[LiveCount]:
    """The calls that this process has counted, one ``LiveCount`` for each dispatch.

    Calls are counted if ``config.range_dispatch.count_calls`` was set when the graph
    was compiled. Replayed CUDA graphs, the C++ wrapper, AOTInductor and the FX wrapper
    count nothing. Dispatches without a counted call are left out.

    Args:
        op: a custom op or an overload; None for all ops.
    """
    name = op_name(op)
    return _recorded(lambda one: name in (None, one.op))


def count_of(description: str) -> list[LiveCount]:
    """What was recorded for the dispatch that ``describe`` describes."""
    return _recorded(lambda one: one.description == description)


def _recorded(wanted: Callable[[_Counter], bool]) -> list[LiveCount]:
    with _counters_lock:
        counters = [*filter(wanted, _counters.values())]
    counts = [one.count() for one in counters]
    return [one for one in counts if one.recorded]


def reset_counts() -> None:
    """Set all counts of this process to zero; counting continues."""
    with _counters_lock:
        for one in _counters.values():
            one.reset()


@contextlib.contextmanager
def watch_calls() -> Iterator[list[tuple[str, tuple[int, ...]]]]:
    """Collect what this thread counts in the context: descriptions and sizes of calls.

    Sampling leaves none of them out.
    """
    watched: list[tuple[str, tuple[int, ...]]] = []
    _watching.append((threading.get_ident(), watched))
    try:
        yield watched
    finally:
        _watching[:] = [one for one in _watching if one[1] is not watched]


def save_counts(path: str) -> int:
    """Write the counts of this process into a JSON file, replacing the file atomically.

    Args:
        path: the file.

    Returns:
        how many dispatches were written.

    Raises:
        OSError: the file cannot be written.
    """
    counts = live_counts()
    rows = [
        {**dataclasses.asdict(one), "sizes": [*one.sizes.items()]} for one in counts
    ]
    _KIND.replace(path, {"counts": rows})
    return len(counts)


def read_counts(path: str) -> list[LiveCount]:
    """Read the counts that ``save_counts`` has written.

    Raises:
        CountsError: the file is damaged, of another format or newer than this code.
        OSError: the file cannot be read.
    """
    return _KIND.read(path, {"counts": _count_from_json})["counts"]


def _count_from_json(row: Any) -> LiveCount:
    count: LiveCount = parsed(LiveCount, {**row, "sizes": {}}, "counts")
    for one, times in row["sizes"]:
        if len(one) != len(count.axes):
            raise ValueError(f"sizes has {one!r} for {len(count.axes)} axes")
        count.sizes[tuple(one)] = times
    if not count.every:
        raise ValueError("every is 0")
    _check_numbers("every", count.every)
    _check_numbers("branches", *count.branches.values())
    _check_numbers("sizes", *itertools.chain(*count.sizes), *count.sizes.values())
    _check_numbers("other_sizes", count.other_sizes)
    return count


def _check_numbers(name: str, *values: Any) -> None:
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} has {value!r}")
        if value < 0:
            raise ValueError(f"{name} has {value!r}")


def _tree_to_json(tree: DecisionTree) -> Any:
    if isinstance(tree, Leaf):
        return tree.branch
    sides = [_tree_to_json(side) for side in (tree.inside, tree.outside)]
    return [tree.boxes, *sides]


def _tree_from_json(tree: Any) -> DecisionTree:
    if isinstance(tree, int):
        return Leaf(tree)
    raw_boxes, inside, outside = tree
    boxes = tuple(tuple((low, high) for low, high in box) for box in raw_boxes)
    return Decision(boxes, _tree_from_json(inside), _tree_from_json(outside))
