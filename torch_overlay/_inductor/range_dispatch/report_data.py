"""The numbers of a tuning table's report, call by call: plain Python, no pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from torch._inductor.range_dispatch.cache.tables import read_table, TableError

from torch._inductor.range_dispatch.cell_times import (
    candidate_names,
    decided_of,
    unmeasured_texts,
)
from torch._inductor.range_dispatch.plan.choosing import combined
from torch._inductor.range_dispatch.plan.decisions import (
    Branch,
    Decision,
    DecisionTree,
    group_by_winner,
    Leaf,
    plan_decisions,
)
from torch._inductor.range_dispatch.plan.ranges import (
    Cell,
    cell_of,
    cells_of_grid,
    ranges_from_split_points,
    SizeRange,
)

from torch._inductor.range_dispatch.plan.times import Timing
from torch._inductor.range_dispatch.record.text_tables import busy_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch._inductor.range_dispatch.cache.tables import Choice, Entry, TuningTable

    from torch._inductor.range_dispatch.plan.decisions import Box


# Op, operands, axes, schema and environment.
_CallKey: TypeAlias = (
    "tuple[str, str, tuple[str, ...], str, tuple[tuple[str, str], ...]]"
)


@dataclass(frozen=True)
class Point:
    """What was measured at one size.

    ``milliseconds`` and ``noise`` are by candidate's number; one that failed is in
    ``failed``. ``dispatched`` is the candidate that runs at these sizes, None if that
    is not known.
    """

    sizes: tuple[int, ...]
    milliseconds: Mapping[int, float]
    noise: Mapping[int, float]
    failed: tuple[int, ...]
    dispatched: int | None

    def loss_of(self, candidate: int | None) -> float | None:
        """What a candidate takes longer than the fastest, as a part of its time.

        None if the candidate was not timed here.
        """
        if candidate is None or candidate not in self.milliseconds:
            return None
        return self.milliseconds[candidate] / min(self.milliseconds.values()) - 1


@dataclass(frozen=True)
class Row:
    """One cell of the grid, who serves it, and what decided that.

    ``winner`` is a candidate's number and ``registered`` the entry of ``winners=``.
    Both are None where the cell cannot occur. ``milliseconds`` are by candidate's
    number, none where nothing was timed; if none of several candidates was,
    ``untimed`` says why.
    """

    cell: Cell
    winner: int | None
    registered: int | None
    milliseconds: Mapping[int, float] = field(default_factory=dict)
    untimed: str = ""


@dataclass(frozen=True)
class CurvePoint:
    """A candidate at one size: milliseconds, and between which they lie."""

    size: int
    middle: float
    low: float
    high: float


@dataclass(frozen=True)
class CallReport:
    """What a table knows about one call in one environment.

    ``names`` are those of all candidates. There are no ``rows`` and no ``tree`` if no
    choice was kept. The leaves of ``tree`` are indices of ``branches``, of which each
    has the number of a candidate as its winner. ``dropped`` are candidates that could
    not be used, for which ranges and why. Unless ``keeps_decided`` what decided in
    the rows was not kept, and is taken from the points inside. ``unmeasured`` tells in
    words which splits are guesses, how many rows were not timed, and how many sizes on
    a busy machine.
    """

    op: str
    schema: str
    call: str
    environment: Mapping[str, str]
    axes: tuple[str, ...]
    split_points: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]
    points: tuple[Point, ...]
    rows: tuple[Row, ...]
    branches: tuple[Branch, ...]
    tree: DecisionTree | None
    dropped: tuple[str, ...] = ()
    keeps_decided: bool = True
    unmeasured: tuple[str, ...] = ()

    @property
    def winners(self) -> tuple[int, ...]:
        """The candidates that win somewhere, in order of their branches."""
        return tuple(branch.winner for branch in self.branches)

    @property
    def best_single(self) -> int | None:
        """The candidate to take if there were no dispatch.

        Of those that were timed wherever any was, the one that loses least on the
        average; None if there is none.
        """
        timed = [point for point in self.points if point.milliseconds]
        losses = {
            number: mean_loss(point.loss_of(number) for point in timed)
            for number in range(len(self.names))
            if all(number in point.milliseconds for point in timed)
        }
        known = {number: loss for number, loss in losses.items() if loss is not None}
        return min(known, key=lambda number: known[number]) if known else None

    @property
    def dispatch_loss(self) -> float | None:
        """What the dispatch loses on the average to the fastest at each size."""
        return mean_loss(point.loss_of(point.dispatched) for point in self.points)

    @property
    def single_loss(self) -> float | None:
        """What the best single candidate loses on the average, likewise."""
        best = self.best_single
        return mean_loss(point.loss_of(best) for point in self.points)

    def points_in(self, cell: Cell) -> list[Point]:
        """The points whose sizes are in a cell."""
        return [point for point in self.points if point.sizes in cell]

    def curve(self, candidate: int) -> list[CurvePoint]:
        """A candidate's times by the size of the only axis, ascending.

        Operands of one dispatched size that differ otherwise are one point: the
        geometric mean, and the lowest and highest that noise makes likely. Without an
        axis all are one, of size 0.
        """
        at_size: dict[int, list[tuple[float, float]]] = {}
        for point in self.points:
            if candidate in point.milliseconds:
                taken = point.milliseconds[candidate], point.noise[candidate]
                size = point.sizes[0] if point.sizes else 0
                at_size.setdefault(size, []).append(taken)
        return [
            CurvePoint(
                size,
                combined([({0: Timing(*one)}, 1.0) for one in taken])[0].milliseconds,
                min(max(ms - noise, ms / 10) for ms, noise in taken),
                max(ms + noise for ms, noise in taken),
            )
            for size, taken in sorted(at_size.items())
        ]


def mean_loss(losses: Iterable[float | None]) -> float | None:
    """The mean of the losses that are known, None if there are none."""
    known = [loss for loss in losses if loss is not None]
    return math.fsum(known) / len(known) if known else None


def read_calls(path: str) -> list[CallReport]:
    """The calls of a table's file, by op, operands and environment.

    Raises:
        TableError: the file is damaged, of another format or newer than this code.
        OSError: it cannot be read.
    """
    try:
        return calls_of(read_table(path))
    except TableError as error:
        known = str(error).startswith(path)
        raise error if known else TableError(f"{path} is damaged: {error}") from error


def calls_of(table: TuningTable) -> list[CallReport]:
    """The calls of a table.

    Raises:
        TableError: entries or a choice contradict the axes of their call.
    """
    entries: dict[_CallKey, list[Entry]] = {}
    choices: dict[_CallKey, Choice] = {}
    for entry in table.entries.values():
        entries.setdefault(_call_key(entry), []).append(entry)
    for choice in table.choices.values():
        choices[_call_key(choice)] = choice
    keys = sorted(dict.fromkeys([*entries, *choices]))
    return [_report(entries.get(key, []), choices.get(key)) for key in keys]


def _call_key(part: Entry | Choice) -> _CallKey:
    environment = tuple(sorted(part.environment.items()))
    return part.op, part.call, part.axes, part.schema, environment


def _report(entries: Sequence[Entry], choice: Choice | None) -> CallReport:
    call = choice or entries[0]
    for entry in entries:
        if len(entry.sizes) != len(call.axes):
            raise TableError(f"{call.op}: sizes {entry.sizes} of axes {call.axes}")
    ordered = sorted(entries, key=lambda entry: (entry.sizes, entry.operands))
    numbers: dict[tuple[str, str], int] = {}
    for entry in ordered:
        for one in entry.candidates:
            numbers.setdefault((one.name, one.digest), len(numbers))
    by_name: dict[str, int] = {}
    for (name, _), number in numbers.items():
        by_name.setdefault(name, number)
    cells = [] if choice is None else _cells(choice)
    decided, is_kept = ((), True) if choice is None else decided_of(choice, entries)
    chosen = [] if choice is None else [n for n in choice.names if n is not None]
    for name in [*chosen, *candidate_names(decided, entries)]:
        if name not in by_name:
            by_name[name] = numbers[name, ""] = len(numbers)
    rows = tuple(
        Row(
            cell,
            None if name is None else by_name[name],
            registered,
            {by_name[n]: ms for n, ms in (one.milliseconds if one else {}).items()},
            one.untimed if one else "",
        )
        for cell, name, registered, one in zip(
            cells,
            choice.names if choice else (),
            choice.winners if choice else (),
            decided,
        )
    )
    served = [(row.cell, row.winner) for row in rows if row.winner is not None]
    branches = group_by_winner([cell for cell, _ in served], [w for _, w in served])
    return CallReport(
        op=call.op,
        schema=call.schema,
        call=call.call,
        environment=call.environment,
        axes=call.axes,
        split_points=() if choice is None else choice.split_points,
        names=_labels(numbers),
        points=tuple(_point(entry, numbers, cells, choice) for entry in ordered),
        rows=rows,
        branches=branches,
        tree=plan_decisions(branches) if branches else None,
        dropped=() if choice is None else choice.dropped,
        keeps_decided=is_kept,
        unmeasured=(
            *(unmeasured_texts(choice, decided) if choice else ()),
            *busy_texts([entry.is_disturbed for entry in entries]),
        ),
    )


def _labels(numbers: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The candidates' names; those of one name and different sources stay apart."""
    seen: dict[str, int] = {}
    for name, _ in numbers:
        seen[name] = seen.get(name, 0) + 1
    return tuple(
        f"{name} @{digest[:8]}" if seen[name] > 1 else name for name, digest in numbers
    )


def _cells(choice: Choice) -> tuple[Cell, ...]:
    if len(choice.split_points) != len(choice.axes):
        raise TableError(
            f"{choice.op}: {len(choice.split_points)} lists of split points for axes "
            f"{choice.axes}"
        )
    for points in choice.split_points:
        if list(points) != sorted(dict.fromkeys(points)):
            raise TableError(f"{choice.op}: split points {points} do not ascend")
    return cells_of_grid([ranges_from_split_points(p) for p in choice.split_points])


def _point(
    entry: Entry,
    numbers: Mapping[tuple[str, str], int],
    cells: Sequence[Cell],
    choice: Choice | None,
) -> Point:
    here = {one.name: numbers[one.name, one.digest] for one in entry.candidates}
    times = [(numbers[one.name, one.digest], one) for one in entry.candidates]
    taken = {n: one.milliseconds for n, one in times if one.milliseconds is not None}
    name = choice.names[cell_of(cells, entry.sizes)] if choice else None
    return Point(
        sizes=entry.sizes,
        milliseconds=taken,
        noise={number: one.noise for number, one in times if number in taken},
        failed=tuple(number for number, _ in times if number not in taken),
        dispatched=None if name is None else here.get(name),
    )


def range_text(size_range: SizeRange) -> str:
    """A range for people: ``<= 512``, ``513 - 2048``, ``>= 2049`` or ``all``."""
    if size_range.end is None:
        return f"≥ {size_range.start}" if size_range.start else "all"
    if not size_range.start:
        return f"≤ {size_range.end}"
    if size_range.start == size_range.end:
        return f"{size_range.end}"
    return f"{size_range.start} – {size_range.end}"


def box_text(axes: Sequence[str], box: Box) -> str:
    """A box as a comparison: ``x.shape[1] <= 512 and y.shape[0] >= 33``."""
    tests = []
    for axis, (low, high) in zip(axes, box, strict=True):
        if low is not None and low == high:
            tests.append(f"{axis} == {low}")
        elif low is not None and high is not None:
            tests.append(f"{low} <= {axis} <= {high}")
        elif low is not None:
            tests.append(f"{axis} >= {low}")
        elif high is not None:
            tests.append(f"{axis} <= {high}")
    return " and ".join(tests)


def tree_text(report: CallReport, tree: DecisionTree) -> str:
    """A decision tree in words: ``(x.shape[1] <= 512 ? short : long)``."""
    if isinstance(tree, Leaf):
        return report.names[report.branches[tree.branch].winner]
    test = " or ".join(box_text(report.axes, box) for box in tree.boxes)
    inside, outside = (tree_text(report, s) for s in (tree.inside, tree.outside))
    return f"({test} ? {inside} : {outside})"


def leaves_of(tree: DecisionTree) -> list[int]:
    """The branches of a tree's leaves, in its order."""
    if isinstance(tree, Decision):
        return [*leaves_of(tree.inside), *leaves_of(tree.outside)]
    return [tree.branch]


def winner_grid(report: CallReport, first: int | None = None) -> list[list[int | None]]:
    """The winners of a grid of two axes, a list for each range of its first axis.

    Of three axes it is the grid of the other two in range ``first`` of the first.
    """
    columns = len(report.split_points[-1]) + 1
    count = (len(report.split_points[-2]) + 1) * columns
    start = 0 if first is None else first * count
    winners = [row.winner for row in report.rows[start : start + count]]
    return [winners[i : i + columns] for i in range(0, count, columns)]


def percent(loss: float | None) -> str:
    """A loss for people: ``0.4 %``; a dash if it is not known."""
    if loss is None:
        return "–"
    digits = 0 if loss >= 0.0995 else 1
    return f"{100 * loss:.{digits}f}\N{NO-BREAK SPACE}%"


def summary(report: CallReport) -> str:
    """A line about a call: its ranges, its branches and what they are worth."""
    parts = []
    if report.rows:
        parts.append(
            f"{_count(len(report.rows), 'range' if len(report.axes) < 2 else 'cell')}, "
            f"{_count(len(report.branches), 'branch', 'branches')}"
        )
        if not report.points:
            parts.append("nothing was timed")
    else:
        parts.append(f"{_count(len(report.points), 'measured size')}, no choice kept")
    losses = []
    if report.dispatch_loss is not None:
        losses.append(
            f"dispatch loses {percent(report.dispatch_loss)} on the average over the "
            "best at each size"
        )
    single = report.best_single
    if single is not None:
        losses.append(
            f"the best single candidate, {report.names[single]}, "
            f"{'loses ' if not losses else ''}{percent(report.single_loss)}"
        )
    return "; ".join([*parts, ", ".join(losses)] if losses else parts)


def _count(number: int, what: str, plural: str | None = None) -> str:
    return f"{number} {what if number == 1 else plural or what + 's'}"
