"""Shows that a condition on a size holds for every size of a range.

The base decides by the bounds of symbols. Here sizes are tried one by one, up to one
from which on polynomials that enclose both sides of a comparison tell them apart.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, TypeAlias

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

_FLOORED = (size_functions.FloorDiv, size_functions.CleanDiv)
_REMAINDERS = (size_functions.Mod, size_functions.PythonMod)

# Polynomials below and above an expression.
_Pair: TypeAlias = tuple[sympy.Expr, sympy.Expr]


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
    divisors = [
        int(one.args[1])
        for one in condition.atoms(*_FLOORED, *_REMAINDERS)
        if one.args[1].is_Integer and one.args[1] > 0
    ]
    common = math.lcm(*divisors)
    divisor = common if common <= _MAX_REMAINDERS else 1
    count = sympy.Symbol("q", integer=True, nonnegative=True)
    start = lower
    for remainder in range(divisor):
        one = condition.xreplace({symbol: divisor * count + remainder})
        first = _from(one, count)
        start = max(start, divisor * first + remainder + 1)
    return start


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

    def _of(self, expr: sympy.Expr) -> _Pair:
        if expr.is_Number:
            exact = sympy.Rational(expr)
            return exact, exact
        if expr == self._count:
            return expr, expr
        found = [rule for types, rule in _RULES if isinstance(expr, types)]
        if not found:
            raise _Unknown
        return found[0](self, *expr.args)

    def _holds(self, nonnegative: sympy.Expr) -> None:
        """Go on only from where a polynomial is not negative."""
        self.start = max(self.start, _nonnegative_from(nonnegative, self._count))

    def _sum(self, *terms: sympy.Expr) -> _Pair:
        lower, upper = zip(*map(self.of, terms))
        return sympy.expand(sympy.Add(*lower)), sympy.expand(sympy.Add(*upper))

    def _product(self, *factors: sympy.Expr) -> _Pair:
        return functools.reduce(self._times, map(self.of, factors))

    def _times(self, one: _Pair, other: _Pair) -> _Pair:
        lower, upper = (sympy.expand(a * b) for a, b in zip(one, other))
        exact = [low for low, high in (one, other) if low == high]
        numbers = [factor for factor in exact if factor.is_Number]
        if numbers and numbers[0] < 0:
            return upper, lower
        if not numbers and len(exact) < 2:
            self._holds(one[0])
            self._holds(other[0])
        return lower, upper

    def _rounded(self, number: sympy.Expr) -> _Pair:
        lower, upper = self.of(number)
        return lower - _ROUNDING, upper + _ROUNDING

    def _largest(self, *numbers: sympy.Expr) -> _Pair:
        lower, upper = zip(*map(self.of, numbers))
        above = functools.partial(functools.reduce, self._above)
        return above(lower), above(upper)

    def _smallest(self, *numbers: sympy.Expr) -> _Pair:
        lower, upper = self._largest(*(-one for one in numbers))
        return -upper, -lower

    def _above(self, one: sympy.Expr, other: sympy.Expr) -> sympy.Expr:
        """The polynomial that is the larger one in the end."""
        if one != other and not _grows_positive(one - other, self._count):
            one, other = other, one
        self._holds(one - other)
        return one

    def _quotient(self, top: sympy.Expr, bottom: sympy.Expr) -> _Pair:
        divisor, same = self.of(bottom)
        if divisor != same or not divisor.is_Number or divisor <= 0:
            raise _Unknown
        lower, upper = self.of(top)
        return sympy.expand(lower / divisor), sympy.expand(upper / divisor)

    def _floored(self, top: sympy.Expr, bottom: sympy.Expr) -> _Pair:
        divided = self._divided(top, bottom)
        if divided is not None:
            return divided[0], divided[0]
        lower, upper = self._quotient(top, bottom)
        return lower - 1, upper

    def _remainder(self, top: sympy.Expr, bottom: sympy.Expr) -> _Pair:
        divided = self._divided(top, bottom)
        if divided is not None:
            return divided[1], divided[1]
        self._holds(self.of(top)[0])
        return sympy.Integer(0), self.of(bottom)[1] - 1

    def _divided(
        self, top: sympy.Expr, bottom: sympy.Expr
    ) -> tuple[sympy.Expr, sympy.Expr] | None:
        """The quotient, and what is left, less than the divisor; None if not known."""
        number, same_number = self.of(top)
        divisor, same_divisor = self.of(bottom)
        if number != same_number or divisor != same_divisor:
            return None
        if divisor.is_Number:
            rest = sympy.Poly(number, self._count).eval(0) % divisor
            quotient = sympy.expand((number - rest) / divisor)
        else:
            quotient, rest = sympy.div(number, divisor, self._count)
            self._holds(rest)
            self._holds(divisor - rest - 1)
        whole = sympy.Poly(quotient, self._count).all_coeffs()
        return (quotient, rest) if all(one.is_Integer for one in whole) else None

    def _power(self, base: sympy.Expr, exponent: sympy.Expr) -> _Pair:
        lower, upper = self.of(base)
        if exponent.is_Integer and exponent >= 0:
            if lower != upper:
                self._holds(lower)
            return sympy.expand(lower**exponent), sympy.expand(upper**exponent)
        if not 0 < exponent <= sympy.Rational(1, 2):
            raise _Unknown
        # A root of what is not negative is at most the mean of it and 1.
        self._holds(lower)
        return sympy.Integer(0), (upper + 1) / 2

    def _root(self, base: sympy.Expr) -> _Pair:
        return self._power(base, sympy.Rational(1, 2))


_RULES: tuple[tuple[tuple[type, ...], Callable[..., _Pair]], ...] = (
    ((sympy.Add, size_functions.ToFloat), _Enclosing._sum),
    ((sympy.Mul,), _Enclosing._product),
    (
        (
            size_functions.CeilToInt,
            size_functions.FloorToInt,
            size_functions.TruncToInt,
            size_functions.RoundToInt,
        ),
        _Enclosing._rounded,
    ),
    (
        (size_functions.FloatTrueDiv, size_functions.IntTrueDiv),
        _Enclosing._quotient,
    ),
    (_FLOORED, _Enclosing._floored),
    (_REMAINDERS, _Enclosing._remainder),
    ((size_functions.Max, sympy.Max), _Enclosing._largest),
    ((size_functions.Min, sympy.Min), _Enclosing._smallest),
    (
        (sympy.Pow, size_functions.PowByNatural, size_functions.FloatPow),
        _Enclosing._power,
    ),
    ((size_functions.OpaqueUnaryFn_sqrt,), _Enclosing._root),
)
