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
    samples_for_range,
    SymbolValues,
    vary_one_symbol,
)

from torch._inductor.range_dispatch.plan.ranges import Cell, overlaps, SizeRange
from torch._inductor.range_dispatch.plan.sampling import spread_sizes
from torch._inductor.virtualized import V
from torch.utils._ordered_set import OrderedSet

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
        if _can_occur(axes, cell)
    ]


def _can_occur(axes: Sequence[Axis], cell: Cell) -> bool:
    """False if bounds of symbols rule the cell out."""

    def is_in_bounds() -> bool:
        bounds = [bounds_of(axis.size) for axis in axes]
        return all(map(overlaps, cell.ranges, bounds))

    symbols = [symbol for axis in axes for symbol in axis.size.free_symbols]
    if not is_in_bounds() or len(OrderedSet(symbols)) == len(symbols):
        return is_in_bounds()
    # What one axis says of a symbol may contradict another axis.
    sizes = [axis.size for axis in axes]
    with known_to_be_in(sizes, cell, V.graph.sizevars.shape_env):
        return is_in_bounds()


def sizes_seen(call: BoundCall) -> tuple[Sample, ...]:
    """The sizes at compile time."""
    return (Sample(hint_values(call.size_symbols())),)


def samples_for(
    registration: Registration,
    call: BoundCall,
    axes: Sequence[Axis],
    cell: Cell,
    fits: Fits | None = None,
) -> tuple[Sample, ...]:
    """The sizes that stand for a cell, as far as each ``fits`` in memory.

    By default it does if the inputs do.
    """
    if all(axis.is_static for axis in axes) or registration.dispatch is None:
        return sizes_seen(call)
    open_sizes = [axis.range_upper_bound for axis in registration.dispatch.axes]
    count = registration.sizes_per_range
    weights: Any = registration.size_weights
    if len(axes) > 1:
        return samples_for_cell(call, axes, cell, open_sizes, count, weights, fits)
    size, size_range = axes[0].size, cell.ranges[0]
    (bound,) = open_sizes
    return samples_for_range(call, size, size_range, bound, count, weights, fits)


def samples_for_cell(
    call: BoundCall,
    axes: Sequence[Axis],
    cell: Cell,
    open_sizes: Sequence[int],
    count: int,
    histogram: Mapping[tuple[int, ...], float] | None = None,
    fits: Fits | None = None,
) -> tuple[Sample, ...]:
    """Values for all symbols of the call, for sizes all over a cell.

    ``count`` sizes, equally far on a log scale, lie on each of its diagonals, an open
    range being represented by its entry of ``open_sizes``. Of a ``histogram`` that has
    some in the cell, as many count that weigh most. There may be none, if axes depend
    on each other or no sizes fit in memory.
    """
    sizes = [axis.size for axis in axes]
    reached = [
        _reach(size, size_range, open_size)
        for size, size_range, open_size in zip(sizes, cell.ranges, open_sizes)
    ]
    dispatched = OrderedSet(s for size in sizes for s in size.free_symbols)
    seen = hint_values(OrderedSet([*call.size_symbols(), *dispatched]))
    fits = fits or inputs_fit(call)
    reached = _fit_memory(call, sizes, reached, seen, fits)
    diagonals = [*_on_diagonals(reached, count)]
    weights = {one: w for one, w in (histogram or {}).items() if w and one in cell}
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


def _reach(size: sympy.Expr, size_range: SizeRange, open_size: int) -> tuple[int, int]:
    """The first and the last size of a range to look at."""
    lower, upper = bounds_of(size)
    first = max(size_range.start, lower, 1)
    last = open_size if size_range.end is None else size_range.end
    last = max(first, last)
    return first, last if upper is None else min(last, max(upper, first))


def _fit_memory(
    call: BoundCall,
    sizes: Sequence[sympy.Expr],
    reached: Sequence[tuple[int, int]],
    seen: SymbolValues,
    fits: Fits,
) -> list[tuple[int, int]]:
    """Bring the last sizes nearer to the first until they fit."""
    for _ in range(_HALVINGS):
        ranges = [SizeRange(first, last) for first, last in reached]
        values = values_in(sizes, ranges, [last for _, last in reached], seen)
        if values is None or fits(values):
            break
        reached = [(first, max(first, last // 2)) for first, last in reached]
        log.info("%s: timing up to sizes %s, for memory", call.op, reached)
    return [*reached]


def _on_diagonals(
    reached: Sequence[tuple[int, int]], count: int
) -> Iterator[tuple[int, ...]]:
    """Sizes on all diagonals of a cell; the largest of all if there is to be one."""
    spread = [spread_sizes(first, last, count) for first, last in reached]
    steps = max(map(len, spread))
    # Ranges of few sizes have fewer of them.
    spread = [[one[i * len(one) // steps] for i in range(steps)] for one in spread]
    flipped = itertools.product([False], *[[False, True]] * (len(spread) - 1))
    for flips in flipped:
        yield from zip(*(one[::-1] if f else one for one, f in zip(spread, flips)))


def values_in(
    sizes: Sequence[sympy.Expr],
    ranges: Sequence[SizeRange],
    targets: Sequence[int],
    seen: SymbolValues,
) -> SymbolValues | None:
    """Symbol values with each size in its range, near its target; None if none are.

    A symbol is varied for one of the sizes, those of fewest symbols first. The others
    keep what was ``seen`` at compile time.
    """
    values = seen
    fixed: OrderedSet[sympy.Symbol] = OrderedSet()
    order = sorted(range(len(sizes)), key=lambda i: len(sizes[i].free_symbols))
    for index in order:
        size = sizes[index]
        movable = OrderedSet(size.free_symbols) - fixed
        for symbol in movable:
            least = {s: max(bounds_of(s)[0], 1) for s in movable if s != symbol}
            for others in ({}, least):
                varied = vary_one_symbol(
                    size, symbol, {**values, **others}, ranges[index], targets[index]
                )
                if varied is not None:
                    break
            else:
                continue
            values = varied
            break
        fixed |= size.free_symbols
    for size, size_range in zip(sizes, ranges):
        if evaluate(size, values) not in size_range:
            return None
    return values
