"""Shows that a condition on a size holds for every size of a range.

The base decides by the bounds of symbols. Here sizes are tried one by one, up to one
from which on polynomials that enclose both sides of a comparison tell them apart.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import sympy

import torch
from torch.utils._sympy import functions as size_functions
from torch.utils._sympy.printers import PythonPrinter

if TYPE_CHECKING:
    from collections.abc import Callable


# Sizes that are tried one by one.
_MAX_TRIED = 1 << 16

# Remainders that a size is told apart by.
_MAX_REMAINDERS = 64

# What rounding to an integer may change, and that of the product before it.
_ROUNDING = 2

_ROUNDED = (
    size_functions.CeilToInt,
    size_functions.FloorToInt,
    size_functions.TruncToInt,
    size_functions.RoundToInt,
)
_QUOTIENTS = (
    size_functions.FloatTrueDiv,
    size_functions.IntTrueDiv,
)
_FLOORED = (size_functions.FloorDiv, size_functions.CleanDiv)
_REMAINDERS = (size_functions.Mod, size_functions.PythonMod)


class _Unknown(Exception):
    """Nothing can be said of an expression."""


def holds_for_all(condition: sympy.Basic, lower: int, upper: int | None) -> bool:
    """Whether a condition on one integer surely holds from ``lower`` to ``upper``.

    None is no bound above. False also if that cannot be told.
    """
    if condition in (sympy.true, sympy.false):
        return condition == sympy.true
    if len(condition.free_symbols) != 1:
        return False
    (symbol,) = condition.free_symbols
    try:
        holds = predicate_of(condition, symbol)
        if not holds(lower):
            return False  # most that do not hold fail early
        if upper is not None and upper - lower < _MAX_TRIED:
            last = upper
        else:
            last = _holds_from(condition, symbol, lower) - 1
        return last - lower < _MAX_TRIED and all(map(holds, range(lower, last + 1)))
    except (_Unknown, ArithmeticError, NotImplementedError, TypeError, ValueError):
        return False


@functools.lru_cache(maxsize=1024)
def predicate_of(condition: sympy.Basic, symbol: sympy.Basic) -> Callable[[int], bool]:
    """The condition as a function of a number, as the base writes it for guards."""
    text = PythonPrinter().doprint(condition)
    return eval(f"lambda {symbol}: {text}", {"math": math, "torch": torch})


def _holds_from(condition: sympy.Basic, symbol: sympy.Symbol, lower: int) -> int:
    """A size from which on the condition holds for all larger ones.

    Divisions leave remainders: those of one divisor are looked at one after another.
    """
    divisor = _common_divisor(condition)
    count = sympy.Symbol("q", integer=True, nonnegative=True)
    start = lower
    for remainder in range(divisor):
        one = condition.xreplace({symbol: divisor * count + remainder})
        first = _from(one, count)
        start = max(start, divisor * first + remainder + 1)
    return start


def _common_divisor(condition: sympy.Basic) -> int:
    divisors = [
        int(one.args[1])
        for one in condition.atoms(*_FLOORED, *_REMAINDERS)
        if one.args[1].is_Integer and one.args[1] > 0
    ]
    common = math.lcm(*divisors)
    return common if common <= _MAX_REMAINDERS else 1


def _from(condition: sympy.Basic, count: sympy.Symbol) -> int:
    """A count from which on a condition holds."""
    if condition == sympy.true:
        return 0
    if isinstance(condition, sympy.And):
        return max(_from(one, count) for one in condition.args)
    if isinstance(condition, sympy.Or):
        found = []
        for one in condition.args:
            try:
                found.append(_from(one, count))
            except _Unknown:
                continue
        if found:
            return min(found)
    if isinstance(condition, sympy.Rel):
        return _from_comparison(condition, count)
    raise _Unknown


def _from_comparison(condition: sympy.Rel, count: sympy.Symbol) -> int:
    enclosing = _Enclosing(count)
    lower, upper = enclosing.of(condition.lhs - condition.rhs)
    if isinstance(condition, sympy.Eq):
        if lower != 0 or upper != 0:
            raise _Unknown
        return enclosing.start
    if isinstance(condition, (sympy.Lt, sympy.Le)):
        lower, upper = -upper, -lower
    margin = 0 if isinstance(condition, (sympy.Ge, sympy.Le)) else 1
    # With a margin of 1 nothing is lost: all are integers, or far from each other.
    if isinstance(condition, sympy.Ne) and not _grows_positive(lower, count):
        lower = -upper
    return max(enclosing.start, _nonnegative_from(lower - margin, count))


def _grows_positive(polynomial: sympy.Expr, count: sympy.Symbol) -> bool:
    return bool(sympy.Poly(polynomial, count).LC() > 0)


def _nonnegative_from(polynomial: sympy.Expr, count: sympy.Symbol) -> int:
    """A count from which on a polynomial is not negative, by Cauchy's bound."""
    coefficients = sympy.Poly(polynomial, count).all_coeffs()
    leading = coefficients[0]
    if leading < 0:
        raise _Unknown
    if leading == 0 or len(coefficients) == 1:
        return 0
    return 1 + math.ceil(max(abs(one / leading) for one in coefficients[1:]))


class _Enclosing:
    """Polynomials below and above an expression, for all counts from ``start`` on."""

    def __init__(self, count: sympy.Symbol) -> None:
        self._count = count
        self.start = 0
        self.of = functools.cache(self._of)

    def _of(self, expr: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr]:
        if expr.is_Number:
            exact = sympy.Rational(expr)
            return exact, exact
        if expr == self._count:
            return expr, expr
        if isinstance(expr, size_functions.ToFloat):
            return self.of(expr.args[0])
        if isinstance(expr, sympy.Add):
            parts = [self.of(one) for one in expr.args]
            return _sum(low for low, _ in parts), _sum(high for _, high in parts)
        if isinstance(expr, sympy.Mul):
            return functools.reduce(self._product, map(self.of, expr.args))
        if isinstance(expr, _ROUNDED):
            lower, upper = self.of(expr.args[0])
            return lower - _ROUNDING, upper + _ROUNDING
        if isinstance(expr, _QUOTIENTS):
            return self._quotient(*expr.args)
        if isinstance(expr, _FLOORED):
            return self._floored(*expr.args)
        if isinstance(expr, _REMAINDERS):
            return self._remainder(*expr.args)
        if isinstance(expr, (size_functions.Max, sympy.Max)):
            return functools.reduce(self._larger, map(self.of, expr.args))
        if isinstance(expr, (size_functions.Min, sympy.Min)):
            low, high = functools.reduce(
                self._larger, (self._negative(*self.of(one)) for one in expr.args)
            )
            return -high, -low
        if isinstance(expr, (sympy.Pow, size_functions.PowByNatural)):
            return self._power(*expr.args)
        if isinstance(expr, size_functions.FloatPow):
            return self._root(*expr.args)
        if isinstance(expr, size_functions.OpaqueUnaryFn_sqrt):
            return self._root(expr.args[0], sympy.Rational(1, 2))
        raise _Unknown

    def _holds(self, nonnegative: sympy.Expr) -> None:
        """Go on only from where a polynomial is not negative."""
        self.start = max(self.start, _nonnegative_from(nonnegative, self._count))

    def _product(
        self, one: tuple[sympy.Expr, sympy.Expr], other: tuple[sympy.Expr, sympy.Expr]
    ) -> tuple[sympy.Expr, sympy.Expr]:
        if one[0] == one[1] and other[0] == other[1]:
            exact = sympy.expand(one[0] * other[0])
            return exact, exact
        for (low, high), (factor, same) in ((one, other), (other, one)):
            if factor == same and factor.is_Number:
                ends = sympy.expand(low * factor), sympy.expand(high * factor)
                return ends if factor >= 0 else (ends[1], ends[0])
        self._holds(one[0])
        self._holds(other[0])
        return sympy.expand(one[0] * other[0]), sympy.expand(one[1] * other[1])

    @staticmethod
    def _negative(
        lower: sympy.Expr, upper: sympy.Expr
    ) -> tuple[sympy.Expr, sympy.Expr]:
        return -upper, -lower

    def _larger(
        self, one: tuple[sympy.Expr, sympy.Expr], other: tuple[sympy.Expr, sympy.Expr]
    ) -> tuple[sympy.Expr, sympy.Expr]:
        return self._above(one[0], other[0]), self._above(one[1], other[1])

    def _above(self, one: sympy.Expr, other: sympy.Expr) -> sympy.Expr:
        """The polynomial that is the larger one in the end."""
        if one != other and not _grows_positive(one - other, self._count):
            one, other = other, one
        self._holds(one - other)
        return one

    def _quotient(
        self, top: sympy.Expr, bottom: sympy.Expr
    ) -> tuple[sympy.Expr, sympy.Expr]:
        divisor, same = self.of(bottom)
        if divisor != same or not divisor.is_Number or divisor <= 0:
            raise _Unknown
        lower, upper = self.of(top)
        return sympy.expand(lower / divisor), sympy.expand(upper / divisor)

    def _floored(
        self, top: sympy.Expr, bottom: sympy.Expr
    ) -> tuple[sympy.Expr, sympy.Expr]:
        lower, upper = self.of(top)
        divided, rest = self._divided(lower, bottom)
        if lower == upper and rest is not None:
            return divided, divided
        lower, upper = self._quotient(top, bottom)
        return lower - 1, upper

    def _remainder(
        self, top: sympy.Expr, bottom: sympy.Expr
    ) -> tuple[sympy.Expr, sympy.Expr]:
        lower, upper = self.of(top)
        _, rest = self._divided(lower, bottom)
        if lower == upper and rest is not None:
            return rest, rest
        _, most = self.of(bottom)
        self._holds(lower)
        return sympy.Integer(0), most - 1

    def _divided(
        self, top: sympy.Expr, bottom: sympy.Expr
    ) -> tuple[sympy.Expr, sympy.Expr | None]:
        """The quotient and what is left, if that is less than the divisor; None if
        it is not known to be."""
        divisor, same = self.of(bottom)
        if divisor != same:
            return top, None
        if divisor.is_Number:
            constant = sympy.Poly(top, self._count).eval(0)
            rest = constant % divisor
            quotient = sympy.expand((top - rest) / divisor)
        else:
            quotient, rest = sympy.div(top, divisor, self._count)
            self._holds(rest)
            self._holds(divisor - rest - 1)
        whole = sympy.Poly(quotient, self._count).all_coeffs()
        if not all(one.is_Integer for one in whole):
            return top, None
        return quotient, rest

    def _power(
        self, base: sympy.Expr, exponent: sympy.Expr
    ) -> tuple[sympy.Expr, sympy.Expr]:
        if not exponent.is_Integer or exponent < 0:
            return self._root(base, exponent)
        lower, upper = self.of(base)
        if lower != upper:
            self._holds(lower)
        return sympy.expand(lower**exponent), sympy.expand(upper**exponent)

    def _root(
        self, base: sympy.Expr, exponent: sympy.Expr
    ) -> tuple[sympy.Expr, sympy.Expr]:
        """A root of what is not negative is at most the mean of it and 1."""
        if not 0 < exponent <= sympy.Rational(1, 2):
            raise _Unknown
        lower, upper = self.of(base)
        self._holds(lower)
        return sympy.Integer(0), (upper + 1) / 2


def _sum(parts: object) -> sympy.Expr:
    return sympy.expand(sum(parts))  # type: ignore[call-overload]
