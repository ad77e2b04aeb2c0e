"""Sizes to time the candidates of a range at.

A size is chosen for the *symbols* and every operand's shape derived from them, so
that operands which share a symbol agree.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING, TypeAlias

import sympy

from torch._inductor.range_dispatch.call.memory import tuning_bytes
from torch._inductor.range_dispatch.plan.sampling import (
    log_shares,
    sizes_of_histogram,
    spread_sizes,
)
from torch._inductor.virtualized import V
from torch.utils._ordered_set import OrderedSet
from torch.utils._sympy.functions import CleanDiv, FloorDiv, Max, Min

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.call.binding import BoundCall, Operands
    from torch._inductor.range_dispatch.plan.ranges import Cell, SizeRange
    from torch.fx.experimental.symbolic_shapes import ShapeEnv


log = logging.getLogger(__name__)

# Values tried for a symbol on which a size depends in no simple way.
_TRIALS = 4096

# Larger than any size, and far from overflow.
_HUGE = 1 << 48

SymbolValues: TypeAlias = dict[sympy.Symbol, int]
# Whether timing at sizes fits in memory.
Fits: TypeAlias = Callable[[SymbolValues], bool]


@dataclass(frozen=True)
class Sample:
    """Sizes that stand for a range, and how much they count among others that do."""

    values: SymbolValues
    weight: float = 1.0


@dataclass(frozen=True)
class RangeTask:
    """A range to find a winner for.

    ``index`` is its place in the registration and ``cell`` its range on each axis.
    ``samples`` has the sizes that stand for it, the largest last; without any it is
    not timed. Plain autotuning has no axes.
    """

    index: int
    cell: Cell
    samples: tuple[Sample, ...]
    axes: tuple[Axis, ...] = ()

    @property
    def values(self) -> SymbolValues:
        """The largest sizes that stand for the range; empty if none are known."""
        return self.samples[-1].values if self.samples else {}

    @property
    def sizes(self) -> list[sympy.Expr]:
        """The dispatched sizes."""
        return [axis.size for axis in self.axes]

    @property
    def size_range(self) -> SizeRange:
        """The range of the only axis."""
        (only,) = self.cell.ranges
        return only


def bounds_of(
    size: sympy.Expr, shape_env: ShapeEnv | None = None
) -> tuple[int, int | None]:
    """The smallest and largest value that guards let ``size`` take, None if open.

    An expression below 0 is in the first range, as 0 is.
    """
    known = (shape_env or V.graph.sizevars.shape_env).bound_sympy(size)
    lower = int(known.lower) if known.lower.is_Integer else 0
    upper = int(known.upper) if known.upper.is_Integer else None
    return max(lower, 0), None if upper is None else max(upper, 0)


def samples_for_range(
    call: BoundCall,
    size: sympy.Expr,
    size_range: SizeRange,
    open_size: int,
    count: int,
    histogram: Mapping[int, float] | None = None,
    fits: Fits | None = None,
) -> tuple[Sample, ...]:
    """Values for all symbols of the call, for at most ``count`` sizes of a range.

    They lie equally far on a log scale from the first to the last that can occur, and
    count for the part of the scale around them, or are those that a ``histogram`` has
    most of, if it has any. Else the open range is represented by ``open_size`` alone.
    The largest size that ``fits`` in memory, by default with its inputs alone, stands
    for all above. Symbols that ``size`` does not depend on keep the sizes seen
    at compile time.
    """
    lower, upper = bounds_of(size)
    first = max(size_range.start, lower)
    last = max(first, open_size) if size_range.end is None else size_range.end
    if upper is not None:
        last = min(last, upper)
    limit = min((n for n in (size_range.end, upper) if n is not None), default=None)
    seen = sizes_of_histogram(histogram or {}, first, limit, count)
    if seen:
        last = max(seen)
    largest = values_up_to(call, size, first, last, fits)
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


def values_up_to(
    call: BoundCall,
    size: sympy.Expr,
    first: int,
    last: int,
    fits: Fits | None = None,
) -> SymbolValues:
    """Values with ``size`` in ``[first, last]``, as large as fits in memory.

    They are as small as can be if none fit.
    """
    fits = fits or inputs_fit(call)
    values = values_near(call, size, first, last)
    if not fits(values):
        values = largest_that_fit(call, size, first, last, fits)
        log.info(
            "%s: timing at size %s, not %d, which would take more memory than timing "
            "may (see memory.tuning_bytes)",
            call.op,
            evaluate(size, values),
            last,
        )
    return values


def inputs_fit(call: BoundCall) -> Fits:
    """Whether the inputs alone fit in the memory that timing may take."""
    limit = tuning_bytes(call.nodes[0].get_device())
    return lambda values: input_bytes(call, values) <= limit


def largest_that_fit(
    call: BoundCall, size: sympy.Expr, first: int, last: int, fits: Fits
) -> SymbolValues:
    """Bisect for the largest size in ``[first, last]`` that fits; else the smallest."""
    while first < last:
        middle = (first + last + 1) // 2
        if fits(values_near(call, size, first, middle)):
            first = middle
        else:
            last = middle - 1
    return values_near(call, size, first, first)


def values_near(
    call: BoundCall, size: sympy.Expr, first: int, last: int
) -> SymbolValues:
    """Symbol values with ``size`` in ``[first, last]``, as close to ``last`` as can be.

    One symbol is varied while the others keep what was seen at compile time, or take
    their smallest value. What was seen stands for a range that cannot be hit so.
    """
    hints = hint_values(OrderedSet([*call.size_symbols(), *size.free_symbols]))
    least = {s: max(bounds_of(s)[0], 1) for s in size.free_symbols}
    for start in (hints, {**hints, **least}):
        found: list[tuple[int, SymbolValues]] = []
        for symbol in sorted(size.free_symbols, key=lambda s: s.name):
            for value in _trial_values(size, symbol, start, last):
                values = {**start, symbol: value}
                found.append((evaluate(size, values), values))
        inside = [one for one in found if first <= one[0] <= last]
        if inside:
            return max(inside, key=lambda one: one[0])[1]
    return hints


def vary_one_symbol(
    size: sympy.Expr,
    symbol: sympy.Symbol,
    values: SymbolValues,
    size_range: SizeRange,
    target: int,
) -> SymbolValues | None:
    """The values with ``symbol`` such that ``size`` is in its range.

    It is as close to ``target`` from below as can be; None if it cannot be there.
    """
    found = []
    for value in _trial_values(size, symbol, values, target):
        varied = {**values, symbol: value}
        actual = evaluate(size, varied)
        if actual in size_range and actual <= target:
            found.append((actual, varied))
    return max(found, key=lambda one: one[0])[1] if found else None


def _trial_values(
    size: sympy.Expr, symbol: sympy.Symbol, others: SymbolValues, target: int
) -> Iterable[int]:
    if grows_with(size, symbol):
        return [largest_within(size, symbol, others, target)]
    low, upper = bounds_of(symbol)
    return range(low, min(low + _TRIALS, low + _TRIALS if upper is None else upper + 1))


def grows_with(size: sympy.Expr, symbol: sympy.Symbol) -> bool:
    """Whether ``size`` surely never gets smaller when ``symbol`` gets larger."""
    if symbol not in size.free_symbols or size == symbol:
        return True
    if isinstance(size, (FloorDiv, CleanDiv)):
        return grows_with(size.args[0], symbol) and _is_positive(size.args[1])
    if isinstance(size, (sympy.Add, sympy.Min, sympy.Max, Min, Max)):
        return all(grows_with(part, symbol) for part in size.args)
    if isinstance(size, sympy.Mul):
        # Sizes are not negative, so the other factors do not turn it around.
        return all(
            _is_positive(part) or (not part.is_number and grows_with(part, symbol))
            for part in size.args
        )
    return False


def _is_positive(expr: sympy.Basic) -> bool:
    return isinstance(expr, sympy.Integer) and expr > 0


def largest_within(
    size: sympy.Expr,
    symbol: sympy.Symbol,
    others: Mapping[sympy.Symbol, int | None],
    target: int,
    shape_env: ShapeEnv | None = None,
) -> int:
    """The largest value of ``symbol`` with ``size``, which grows with it, at most
    ``target``; the symbol's smallest value if there is none.

    ``others`` are the values of the other symbols.
    """

    def fits(value: int) -> bool:
        return evaluate(size, {**others, symbol: value}) <= target

    low, upper = bounds_of(symbol, shape_env)
    limit = _HUGE if upper is None else min(upper, _HUGE)
    if size == symbol:
        return max(low, min(target, limit))
    high = max(low, 1)
    while high < limit and fits(high):
        high *= 2
    high = min(high, limit)
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def hint_values(symbols: OrderedSet[sympy.Symbol]) -> SymbolValues:
    """The sizes seen at compile time."""
    return {s: V.graph.sizevars.optimization_hint(s) for s in symbols}


def evaluate(expr: Any, values: Mapping[sympy.Symbol, int | None]) -> int:
    """The value of a size, stride or scalar expression."""
    return int(expr.xreplace(values)) if isinstance(expr, sympy.Basic) else int(expr)


def concrete(expr: Any, values: SymbolValues) -> int:
    """The value of an operand's size, stride or symbol, as far as sizes are equal."""
    if not isinstance(expr, sympy.Basic):
        return int(expr)
    expr = V.graph.sizevars.shape_env.replace(expr)
    unknown = OrderedSet(s for s in expr.free_symbols if s not in values)
    return evaluate(expr, {**hint_values(unknown), **values})


def with_equal_sizes(sample: Sample, sizes: Sequence[sympy.Expr]) -> Sample:
    """The sample, with what tracing has found to be equal since.

    A symbol of the dispatched ``sizes`` may now stand for an expression of another one,
    which takes over its value.
    """
    values = dict(sample.values)
    for symbol in OrderedSet(s for size in sizes for s in size.free_symbols):
        now = V.graph.sizevars.shape_env.replace(symbol)
        for other in now.free_symbols - OrderedSet([symbol]):
            if grows_with(now, other):
                others = hint_values(now.free_symbols - OrderedSet([other]))
                target = sample.values[symbol]
                values[other] = largest_within(now, other, others, target)
    return Sample(values, sample.weight)


def concrete_layout(
    node: Any, values: SymbolValues
) -> tuple[Sequence[int], Sequence[int]]:
    return (
        [concrete(s, values) for s in node.get_size()],
        [concrete(s, values) for s in node.get_stride()],
    )


def storage_length(size: Sequence[int], stride: Sequence[int]) -> int:
    if 0 in size:
        return 0
    return 1 + sum((n - 1) * step for n, step in zip(size, stride))


def input_bytes(call: Operands, values: SymbolValues) -> int:
    """Bytes of memory that all tensor operands take at these sizes."""
    return sum(
        storage_length(*concrete_layout(node, values)) * node.get_dtype().itemsize
        for node in call.nodes
    )
