"""The numbers of a tuning table's report, call by call: plain Python, no pictures."""

from __future__ import annotations

import dataclasses
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from range_tuning.calls import calls_of, TableCall
from torch._inductor.range_dispatch import (
    Branch,
    Cell,
    Decision,
    DecisionTree,
    Entry,
    group_by_winner,
    plan_decisions,
    predicate_text,
    read_table,
    SizeRange,
    TuningTable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


# A candidate is told by its name and the digest of its source.
_Numbers = dict[tuple[str, str], int]


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
class CurvePoint:
    """A candidate at one size: milliseconds, and between which they lie."""

    size: int
    middle: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class CallReport(TableCall):
    """What a table knows about one call in one environment.

    ``names`` are those of all candidates, and ``cell_winners`` the number among them of
    each row's winner, None where a cell cannot occur. There are no rows and there is no
    ``tree`` if no choice was kept. The leaves of ``tree`` are indices of ``branches``,
    of which each has the number of a candidate as its winner.
    """

    names: tuple[str, ...]
    points: tuple[Point, ...]
    cell_winners: tuple[int | None, ...]
    branches: tuple[Branch, ...]
    tree: DecisionTree | None

    @property
    def split_points(self) -> tuple[tuple[int, ...], ...]:
        """Those of each axis; none if no choice was kept."""
        return self.choice.split_points if self.choice else ()

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
                statistics.geometric_mean(ms for ms, _ in taken),
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
    return reports_of(read_table(path))


def reports_of(table: TuningTable) -> list[CallReport]:
    """The calls of a table."""
    return [*map(_report, calls_of(table))]


def _report(call: TableCall) -> CallReport:
    numbers: _Numbers = {}
    by_name: dict[str, int] = {}
    for entry in call.entries:
        for one in entry.candidates:
            number = numbers.setdefault((one.name, one.digest), len(numbers))
            by_name.setdefault(one.name, number)
    chosen = [row.name for row in call.rows if row.name is not None]
    for name in [*chosen, *call.timed_names]:
        if name not in by_name:
            by_name[name] = numbers[name, ""] = len(numbers)
    served = {row.cell: by_name[row.name] for row in call.rows if row.name is not None}
    branches = group_by_winner([*served], [*served.values()])
    return CallReport(
        **{one.name: getattr(call, one.name) for one in dataclasses.fields(call)},
        names=_labels(numbers),
        points=tuple(_point(call, entry, numbers) for entry in call.entries),
        cell_winners=tuple(served.get(row.cell) for row in call.rows),
        branches=branches,
        tree=plan_decisions(branches) if branches else None,
    )


def _labels(numbers: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The candidates' names; those of one name and different sources stay apart."""
    names = [name for name, _ in numbers]
    return tuple(
        f"{name} @{digest[:8]}" if names.count(name) > 1 else name
        for name, digest in numbers
    )


def _point(call: TableCall, entry: Entry, numbers: _Numbers) -> Point:
    times = {numbers[one.name, one.digest]: one for one in entry.candidates}
    taken = {n: o.milliseconds for n, o in times.items() if o.milliseconds is not None}
    winner = next((row.name for row in call.rows if entry.sizes in row.cell), None)
    here = {one.name: number for number, one in times.items()}
    return Point(
        sizes=entry.sizes,
        milliseconds=taken,
        noise={number: times[number].noise for number in taken},
        failed=tuple(number for number in times if number not in taken),
        dispatched=None if winner is None else here.get(winner),
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


def tree_text(report: CallReport, tree: DecisionTree) -> str:
    """A decision tree in words: ``(x.shape[1] <= 512 ? short : long)``."""
    if not isinstance(tree, Decision):
        return report.names[report.branches[tree.branch].winner]
    test = predicate_text(tree.boxes, report.axes)
    inside, outside = (tree_text(report, s) for s in (tree.inside, tree.outside))
    return f"({test} ? {inside} : {outside})"


def winner_grid(report: CallReport, first: int = 0) -> list[list[int | None]]:
    """The winners of a grid of two axes, a list for each range of its first axis.

    Of three axes it is the grid of the other two in range ``first`` of the first.
    """
    columns = len(report.split_points[-1]) + 1
    count = (len(report.split_points[-2]) + 1) * columns
    winners = report.cell_winners[first * count : (first + 1) * count]
    return [[*winners[i : i + columns]] for i in range(0, count, columns)]


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
