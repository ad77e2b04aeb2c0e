"""Sizes to time the candidates of a range at.

A size is chosen for the *symbols* and every operand's shape derived from them, so
that operands which share a symbol agree.
"""

from __future__ import annotations

import bisect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING, TypeAlias

import sympy

from torch._inductor.range_dispatch.call.memory import tuning_bytes
from torch._inductor.range_dispatch.plan.ranges import Cell, SizeRange
from torch._inductor.virtualized import V
from torch._prims_common import compute_required_storage_length
from torch.utils._ordered_set import OrderedSet
from torch.utils._sympy.functions import CleanDiv, FloorDiv, Max, Min

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.call.binding import BoundCall, Operands
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
    largest = _last_true(
        lambda wanted: fits(values_near(call, size, first, wanted)), first, last
    )
    return values_near(call, size, first, largest)


def _last_true(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Bisect for the last number from ``low`` to ``high`` of which something holds that
    holds of no number after one of which it does not; ``low`` if of none."""
    return low + bisect.bisect_left(
        range(low + 1, high + 1), True, key=lambda number: not holds(number)
    )


def values_near(
    call: BoundCall, size: sympy.Expr, first: int, last: int
) -> SymbolValues:
    """Symbol values with ``size`` in ``[first, last]``, as close to ``last`` as can be.

    What was seen at compile time stands for a range that cannot be hit.
    """
    seen = hint_values(call.size_symbols() | symbols_of([size]))
    return values_in([size], [SizeRange(first, last)], [last], seen) or seen


def values_in(
    sizes: Sequence[sympy.Expr],
    ranges: Sequence[SizeRange],
    targets: Sequence[int],
    seen: SymbolValues,
) -> SymbolValues | None:
    """Symbol values with each size in its range, as close below its target as can be;
    None if none are.

    For each size, those of fewest symbols first, one symbol is varied that no size
    before has. Its others keep what was ``seen`` at compile time, or take their
    smallest value.
    """
    values = seen
    fixed: OrderedSet[sympy.Symbol] = OrderedSet()
    for size, size_range, target in sorted(
        zip(sizes, ranges, targets), key=lambda one: len(one[0].free_symbols)
    ):
        movable = symbols_of([size]) - fixed
        least = {symbol: max(bounds_of(symbol)[0], 1) for symbol in movable}
        for start in (values, {**values, **least}):
            varied = [
                {**start, symbol: value}
                for symbol in movable
                for value in _trial_values(size, symbol, start, target)
            ]
            found = [(evaluate(size, one), one) for one in varied]
            inside = [one for one in found if one[0] in size_range and one[0] <= target]
            if inside:
                values = max(inside, key=lambda one: one[0])[1]
                break
        fixed |= size.free_symbols
    is_inside = all(evaluate(n, values) in one for n, one in zip(sizes, ranges))
    return values if is_inside else None


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
) -> int:
    """The largest value of ``symbol`` with ``size``, which grows with it, at most
    ``target``; the symbol's smallest value if there is none.

    ``others`` are the values of the other symbols.
    """
    low, upper = bounds_of(symbol)
    limit = _HUGE if upper is None else min(upper, _HUGE)
    if size == symbol:
        return max(low, min(target, limit))
    return _last_true(
        lambda value: evaluate(size, {**others, symbol: value}) <= target, low, limit
    )


def symbols_of(exprs: Iterable[Any]) -> OrderedSet[sympy.Symbol]:
    """All that are in sizes or other expressions, in order of their occurrence."""
    found: OrderedSet[sympy.Symbol] = OrderedSet()
    for expr in exprs:
        found |= sorted(getattr(expr, "free_symbols", ()), key=lambda s: s.name)
    return found


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


def agreeing(values: SymbolValues, sizes: Sequence[sympy.Expr]) -> SymbolValues:
    """The values, with sizes equal that are known to be by now.

    A symbol of the dispatched ``sizes`` may stand for an expression of another one,
    which takes over its value.
    """
    replace = V.graph.sizevars.shape_env.replace
    agreed = dict(values)
    for symbol in symbols_of(sizes):
        now = replace(symbol)
        for other in now.free_symbols - OrderedSet([symbol]):
            if grows_with(now, other):
                others = hint_values(now.free_symbols - OrderedSet([other]))
                agreed[other] = largest_within(now, other, others, values[symbol])
    for symbol in agreed:
        now = replace(symbol)
        if now != symbol and now.free_symbols <= agreed.keys():
            agreed[symbol] = evaluate(now, agreed)
    return agreed


def concrete_layout(node: Any, values: SymbolValues) -> tuple[list[int], list[int]]:
    return (
        [concrete(s, values) for s in node.get_size()],
        [concrete(s, values) for s in node.get_stride()],
    )


def input_bytes(call: Operands, values: SymbolValues) -> int:
    """Bytes of memory that all tensor operands take at these sizes."""
    lengths = [
        compute_required_storage_length(*concrete_layout(node, values), 0)
        for node in call.nodes
    ]
    sizes = [node.get_dtype().itemsize for node in call.nodes]
    return sum(length * size for length, size in zip(lengths, sizes))
