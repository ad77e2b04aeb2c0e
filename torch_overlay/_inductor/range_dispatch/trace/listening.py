"""What is asked of sizes while a graph is traced or lowered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sympy

from torch._inductor.range_dispatch.call.sizes import bounds_of
from torch._inductor.range_dispatch.trace.guards import (
    equates_sizes,
    Needs,
    simplified,
    sort_needs,
)
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch.fx.experimental.symbolic_shapes import ShapeEnv


@dataclass(frozen=True)
class Asked:
    """Conditions that were asked for, and what of them there is ``needs`` to guard on.

    ``constants`` are symbols that became numbers, ``dispatched`` those of the
    dispatched sizes, with those that are equal to them. If ``fixes_size``, a dispatched
    size as a whole became a number.
    """

    conditions: Sequence[sympy.Basic]
    needs: Needs
    constants: dict[sympy.Symbol, sympy.Integer]
    dispatched: OrderedSet[sympy.Symbol]
    fixes_size: bool

    @property
    def looks_at_dispatched(self) -> bool:
        """Whether anything was asked of a dispatched size."""
        return any(one.free_symbols & self.dispatched for one in self.conditions)

    @property
    def fixes_dispatched(self) -> bool:
        """Whether it is for one value of a symbol of the dispatched sizes only."""
        return any(symbol in self.dispatched for symbol in self.constants)

    @property
    def undecided(self) -> sympy.Basic:
        """A condition that the range does not decide, for one size if that is so."""
        found = self.needs.of_range
        return next((one for one in found if isinstance(one, sympy.Eq)), found[0])

    @property
    def equalities(self) -> Sequence[sympy.Basic]:
        """Which different sizes have to be equal."""
        return [one for one in self.conditions if equates_sizes(one)]


class Listener:
    """Collects the guards that are added to a shape environment from now on."""

    def __init__(
        self, call: BoundCall, sizes: Sequence[sympy.Expr], shape_env: ShapeEnv
    ) -> None:
        """``sizes`` are the dispatched ones, with the bounds that they have now."""
        self._shape_env = shape_env
        self._given = sizes
        self._sizes = [shape_env.replace(size) for size in sizes]
        self._own = OrderedSet(s for size in self._sizes for s in size.free_symbols)
        self._symbols = call.size_symbols() | self._own
        self._bounds = {s: bounds_of(s, shape_env) for s in self._symbols}
        self._known = OrderedSet(
            s for s in self._symbols if shape_env.replace(s).is_Integer
        )
        self._before = len(shape_env.guards)

    def asked(self, equalities: Sequence[sympy.Basic] = ()) -> Asked:
        """What was asked since; ``equalities`` were before, for the same graph."""
        added = self._shape_env.guards[self._before :]
        conditions = [*equalities, *(simplified(guard.expr) for guard in added)]
        # A bound may leave a range one size, and is still a bound.
        equated = [one for one in conditions if isinstance(one, sympy.Eq)]
        fixed = OrderedSet(s for one in equated for s in one.free_symbols)
        constants = {
            s: self._shape_env.replace(s)
            for s in self._symbols - self._known
            if s in fixed and self._shape_env.replace(s).is_Integer
        }
        dispatched, bounds = self._dispatched()
        needs = sort_needs(conditions, dispatched, bounds)
        fixes_size = any(
            self._shape_env.replace(size).is_Integer
            and size.free_symbols & constants.keys()
            for size in self._sizes
        )
        return Asked(conditions, needs, constants, dispatched, fixes_size)

    def _dispatched(
        self,
    ) -> tuple[OrderedSet[sympy.Symbol], dict[sympy.Symbol, tuple[int, int | None]]]:
        """The dispatched symbols and those that were found to be equal to them; the
        bounds of all."""
        bounds = dict(self._bounds)
        found = self._own | OrderedSet(s for x in self._given for s in x.free_symbols)
        for symbol in [*found]:
            now = self._shape_env.replace(symbol)
            found |= now.free_symbols
            if now.is_Symbol and symbol in bounds:
                bounds[now] = bounds[symbol]
        return found, bounds
