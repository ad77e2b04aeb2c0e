"""The cells of a call's grid that can occur, and the sizes that stand for each."""

from __future__ import annotations

import itertools
import logging
from typing import Any, TYPE_CHECKING

from torch._inductor.range_dispatch.call.scratch import known_to_be_in
from torch._inductor.range_dispatch.call.sizes import (
    bounds_of,
    evaluate,
    Fits,
    hint_values,
    inputs_fit,
    RangeTask,
    Sample,
    symbols_of,
    values_in,
    values_near,
    values_up_to,
)
from torch._inductor.range_dispatch.plan.ranges import Cell, overlaps, SizeRange
from torch._inductor.range_dispatch.plan.sampling import (
    log_shares,
    sizes_of_histogram,
    spread_sizes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import sympy

    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.registration.spec import Registration


log = logging.getLogger(__name__)

# Halvings of the sizes of a cell, on a log scale, until they fit in memory.
_HALVINGS = 12


def tasks_for_cells(
    registration: Registration, call: BoundCall, axes: Sequence[Axis]
) -> list[RangeTask]:
    """A task for each cell that can occur.

    One for which no sizes to time it at were found is kept: it has to have a winner.
    """
    return [
        RangeTask(index, cell, samples_for(registration, call, axes, cell), tuple(axes))
        for index, cell in enumerate(registration.cells)
        if _can_occur([axis.size for axis in axes], cell)
    ]


def _can_occur(sizes: Sequence[sympy.Expr], cell: Cell) -> bool:
    """False if bounds of symbols rule the cell out."""

    def is_in_bounds() -> bool:
        return all(overlaps(r, bounds_of(size)) for size, r in zip(sizes, cell.ranges))

    number = sum(len(size.free_symbols) for size in sizes)
    if not is_in_bounds() or len(symbols_of(sizes)) == number:
        return is_in_bounds()
    # What one size says of a symbol may contradict another one.
    with known_to_be_in(cell, sizes):
        return is_in_bounds()


def samples_for(
    registration: Registration,
    call: BoundCall,
    axes: Sequence[Axis],
    cell: Cell,
    fits: Fits | None = None,
) -> tuple[Sample, ...]:
    """The sizes that stand for a cell, as far as each ``fits`` in memory.

    By default it does if the inputs do. Without sizes to choose from, those seen at
    compile time do.
    """
    if all(axis.is_static for axis in axes) or registration.dispatch is None:
        return (Sample(hint_values(call.size_symbols())),)
    sizes = [axis.size for axis in axes]
    reached = [
        _reach(size, size_range, axis.range_upper_bound)
        for size, size_range, axis in zip(
            sizes, cell.ranges, registration.dispatch.axes
        )
    ]
    count = registration.sizes_per_range
    weights: Any = registration.size_weights or {}
    fits = fits or inputs_fit(call)
    if len(axes) > 1:
        return _of_cell(call, sizes, cell, reached, count, weights, fits)
    return _of_range(call, sizes[0], cell.ranges[0], reached[0], count, weights, fits)


def _reach(size: sympy.Expr, size_range: SizeRange, open_size: int) -> tuple[int, int]:
    """The first and the last size of a range to look at."""
    lower, upper = bounds_of(size)
    first = max(size_range.start, lower)
    last = open_size if size_range.end is None else size_range.end
    last = max(first, last)
    return first, last if upper is None else min(last, max(upper, first))


def _of_range(
    call: BoundCall,
    size: sympy.Expr,
    size_range: SizeRange,
    reached: tuple[int, int],
    count: int,
    histogram: Mapping[int, float],
    fits: Fits,
) -> tuple[Sample, ...]:
    """Values for all symbols of the call, for at most ``count`` sizes of a range.

    They lie equally far on a log scale from the first to the last that can occur, and
    count for the part of the scale around them, or are those that a ``histogram`` has
    most of, if it has any. Else an open range is represented by its last alone. The
    largest size that ``fits`` in memory stands for all above.
    """
    first, last = reached
    limits = [n for n in (size_range.end, bounds_of(size)[1]) if n is not None]
    seen = sizes_of_histogram(histogram, first, min(limits, default=None), count)
    largest = values_up_to(call, size, first, max(seen, default=last), fits)
    top = evaluate(size, largest)
    weights: dict[int, float] = {}
    if seen:
        for wanted, weight in seen.items():
            weights[min(wanted, top)] = weights.get(min(wanted, top), 0.0) + weight
    elif size_range.end is None or top <= max(first, 1):
        weights = {top: 1.0}
    else:
        sizes = spread_sizes(max(first, 1), top, count)
        weights = dict(zip(sizes, log_shares(sizes)))
    found = {top: Sample(largest, weights.pop(top, 0.0))}
    for wanted, weight in weights.items():
        values = values_near(call, size, first, wanted)
        actual = evaluate(size, values)
        if actual in found:
            weight += found[actual].weight
        if first <= actual <= top:
            found[actual] = Sample(values, weight)
    return tuple(found[n] for n in sorted(found) if found[n].weight)


def _of_cell(
    call: BoundCall,
    sizes: Sequence[sympy.Expr],
    cell: Cell,
    reached: Sequence[tuple[int, int]],
    count: int,
    histogram: Mapping[tuple[int, ...], float],
    fits: Fits,
) -> tuple[Sample, ...]:
    """Values for all symbols of the call, for sizes all over a cell.

    ``count`` sizes, equally far on a log scale, lie on each of its diagonals. Of a
    ``histogram`` that has some in the cell, as many count that weigh most. There may be
    none, if axes depend on each other or no sizes fit in memory.
    """
    seen = hint_values(call.size_symbols() | symbols_of(sizes))
    for _ in range(_HALVINGS):
        ranges = [SizeRange(first, last) for first, last in reached]
        values = values_in(sizes, ranges, [last for _, last in reached], seen)
        if values is None or fits(values):
            break
        reached = [(first, max(first, last // 2)) for first, last in reached]
        log.info("%s: timing up to sizes %s, for memory", call.op, reached)
    diagonals = [*_on_diagonals(reached, count)]
    weights = {one: w for one, w in histogram.items() if w and one in cell}
    heaviest = sorted(weights, key=lambda one: -weights[one])[: len(diagonals)]
    for targets_of_all in (heaviest, diagonals):
        found: dict[tuple[int, ...], Sample] = {}
        for targets in targets_of_all:
            values = values_in(sizes, cell.ranges, targets, seen)
            if values is None or not fits(values):
                continue
            actual = tuple(evaluate(size, values) for size in sizes)
            weight = weights.get(targets, 1.0)
            found.setdefault(actual, Sample(values, weight))
        if found:
            return tuple(found[actual] for actual in sorted(found))
    return ()


def _on_diagonals(
    reached: Sequence[tuple[int, int]], count: int
) -> Iterator[tuple[int, ...]]:
    """Sizes on all diagonals of a cell; the largest of all if there is to be one."""
    spread = [
        spread_sizes(max(first, 1), max(last, 1), count) for first, last in reached
    ]
    steps = max(map(len, spread))
    # Ranges of few sizes have fewer of them.
    spread = [[one[i * len(one) // steps] for i in range(steps)] for one in spread]
    flipped = itertools.product([False], *[[False, True]] * (len(spread) - 1))
    for flips in flipped:
        yield from zip(*(one[::-1] if f else one for one, f in zip(spread, flips)))
