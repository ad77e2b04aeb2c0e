"""Which guards on sizes a candidate may add to the graph that is being compiled.

A candidate that chooses by a size in Python is valid for some sizes only and is
dropped, unless its range decides the choice. A guard that operators ask for is another
matter: that two inputs have equal sizes, or that a size fits a tensor which the
implementation closes over, is part of what the call means.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sympy

from torch.fx.experimental.symbolic_shapes import (
    _ShapeEnvGuardError,
    free_unbacked_symbols,
    ShapeEnv,
)
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


# Guards that one candidate may be admitted with, each found by one more trace.
MAX_ADMITTED = 32


@dataclass(frozen=True)
class Guard:
    """A guard that tracing asked for: ``expr`` has ``value``.

    ``from_python`` if Python code outside torch asked, by using a size as a condition
    or a number, and not an operator.
    """

    expr: sympy.Basic
    value: sympy.Basic
    from_python: bool

    @property
    def equates(self) -> tuple[sympy.Basic, sympy.Basic] | None:
        """The two sides, if the guard is an equality that holds."""
        if isinstance(self.expr, sympy.Eq) and self.value == sympy.true:
            return self.expr.lhs, self.expr.rhs
        if isinstance(self.expr, sympy.Ne) and self.value == sympy.false:
            return self.expr.lhs, self.expr.rhs
        return None

    @property
    def equates_sizes(self) -> bool:
        """Whether it says that two sizes are equal, neither of them a constant."""
        return bool(self.equates) and all(s.free_symbols for s in self.equates or ())

    @property
    def depends_on_data(self) -> bool:
        """Whether it is decided when the graph runs, so that nothing can be guarded."""
        return bool(free_unbacked_symbols(self.expr))


class NeedsGuard(Exception):
    """Tracing needs an admitted guard, to be installed before it is done again."""

    def __init__(self, guard: Guard) -> None:
        super().__init__(f"{guard.expr} == {guard.value}")
        self.guard = guard


def is_guard_error(error: Exception) -> bool:
    """Whether an exception says that a frozen shape environment refused a guard."""
    return isinstance(error, _ShapeEnvGuardError) or (
        isinstance(error, AssertionError)
        and "Guard attempted while ShapeEnv guards are frozen" in str(error)
    )


@contextlib.contextmanager
def admitting_guards(
    shape_env: ShapeEnv | None, admits: Callable[[Guard], bool]
) -> Iterator[None]:
    """Raise on new guards: NeedsGuard on those that ``admits`` takes.

    One that is decided when the graph runs cannot be kept, whoever would take it.
    """
    if shape_env is None:
        yield
        return
    refused: list[Guard] = []
    check_frozen = shape_env._check_frozen

    def check(expr: sympy.Basic, concrete_value: sympy.Basic) -> None:
        refused.append(Guard(expr, concrete_value, _asked_by_python()))
        check_frozen(expr, concrete_value)

    with shape_env.error_on_new_guards():
        # On this object only; the class's own shows again when it is deleted.
        vars(shape_env)["_check_frozen"] = check
        try:
            yield
        except Exception as error:
            if refused and is_guard_error(error):
                guard = refused[-1]
                if not guard.depends_on_data and admits(guard):
                    raise NeedsGuard(guard) from error
            raise
        finally:
            del vars(shape_env)["_check_frozen"]


def install_guard(shape_env: ShapeEnv, guard: Guard) -> None:
    """Add a guard to the graph that is being compiled, and derive all it implies."""
    shape_env.evaluate_expr(guard.expr)
    # What a guard implies is not part of the version of the cached derivations.
    shape_env._version_counter += 1


def constrained_symbols(shape_env: ShapeEnv) -> OrderedSet[sympy.Symbol]:
    """Symbols of dimensions that the user marked dynamic."""
    found: OrderedSet[sympy.Symbol] = OrderedSet()
    for tracked in shape_env.tracked_fakes or ():
        constraints = getattr(tracked.symbolic_context, "constraint_sizes", None)
        for size, constraint in zip(
            getattr(tracked.fake, "shape", ()), constraints or ()
        ):
            if constraint is not None and hasattr(size, "node"):
                found |= shape_env.replace(size.node.expr).free_symbols
    return found


def _asked_by_python() -> bool:
    """Whether the code that wants to know a size is Python outside torch.

    Such code goes through a method of SymBool or SymInt, which are in ``torch``
    itself; operators written in C++ ask the shape environment directly.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and _module(frame).startswith("torch.fx.experimental."):
        frame = frame.f_back
    if frame is None or _module(frame) != "torch":
        return False
    while frame is not None and _module(frame) == "torch":
        frame = frame.f_back
    return frame is not None and not _module(frame).startswith("torch.")


def _module(frame: FrameType) -> str:
    return frame.f_globals.get("__name__", "")
