"""How far a candidate's results are from the op's own, and how far they may be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

import torch
from torch.testing._comparison import default_tolerances

if TYPE_CHECKING:
    from collections.abc import Iterator


# So many elements are compared at a time: what is computed of them takes memory.
ELEMENTS_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Tolerance:
    """A difference of ``atol + rtol * |the op's|`` is allowed."""

    rtol: float
    atol: float

    @property
    def is_infinite(self) -> bool:
        """Whether every difference is allowed, so that there is nothing to compare."""
        return math.isinf(self.rtol) or math.isinf(self.atol)

    @classmethod
    def of(cls, dtype: torch.dtype) -> Tolerance:
        """What ``torch.testing.assert_close`` allows; 0 for integers."""
        return cls(*default_tolerances(dtype))


def check_tolerance(given: Any) -> Tolerance | None:
    """The argument ``accuracy_tolerance``, a number or a pair ``(rtol, atol)``.

    Raises:
        TypeError, ValueError: it is neither, or one of them is NaN or below 0.
    """
    if given is None:
        return None
    is_pair = isinstance(given, (tuple, list))
    values = [*given] if is_pair else [given, given]
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(
                "accuracy_tolerance must be a number from 0 or a pair (rtol, atol) of "
                f"such, got {given!r}"
            )
        if not value >= 0:
            raise ValueError(
                f"accuracy_tolerance must be from 0, not NaN or below, got {given!r}"
            )
    if len(values) != 2:
        raise ValueError(
            f"accuracy_tolerance must be a pair (rtol, atol), got {given!r}"
        )
    return Tolerance(*map(float, values))


def difference(
    actual: torch.Tensor, expected: torch.Tensor, tolerance: Tolerance | None
) -> str | None:
    """How two tensors differ, in words; None if ``actual`` is close enough.

    Without a tolerance it is what ``torch.testing.assert_close`` allows for the dtype.
    NaN is equal to NaN. Shapes may differ where they depend on data.
    """
    if actual.shape != expected.shape:
        return f"has shape {[*actual.shape]}, the op's has {[*expected.shape]}"
    allowed = tolerance or Tolerance.of(expected.dtype)
    if all(_are_close(*parts, allowed) for parts in _in_parts(actual, expected)):
        return None
    greatest = [_greatest(*parts) for parts in _in_parts(actual, expected)]
    # NaN is the largest of all.
    absolute, relative = torch.tensor(greatest, dtype=torch.float64).amax(0).tolist()
    return (
        f"differs by up to {absolute:.3g}, and by up to {relative:.3g} of the op's "
        f"value (allowed: {allowed.atol:.3g} + {allowed.rtol:.3g} of it)"
    )


def _in_parts(
    actual: torch.Tensor, expected: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Views of both, of ``ELEMENTS_AT_ONCE`` elements as far as rows are that small."""
    if actual.dim() == 0 or actual.numel() <= ELEMENTS_AT_ONCE:
        return iter([(actual, expected)])
    rows = max(ELEMENTS_AT_ONCE * actual.shape[0] // actual.numel(), 1)
    return zip(actual.split(rows), expected.split(rows))


def _are_close(
    actual: torch.Tensor, expected: torch.Tensor, allowed: Tolerance
) -> bool:
    try:
        torch.testing.assert_close(
            actual,
            expected,
            rtol=allowed.rtol,
            atol=allowed.atol,
            equal_nan=True,
            msg="they differ",  # none that takes time to make
        )
    except AssertionError:
        return False
    return True


def _greatest(actual: torch.Tensor, expected: torch.Tensor) -> tuple[float, float]:
    """The greatest absolute and relative difference of an element."""
    if actual.numel() == 0:
        return 0.0, 0.0
    own, due = _as_wide(actual), _as_wide(expected)
    is_same = (own == due) | (own.isnan() & due.isnan())
    absolute = (own - due).abs().masked_fill(is_same, 0.0)
    relative = (absolute / due.abs()).masked_fill(is_same, 0.0)
    return absolute.max().item(), relative.max().item()


def _as_wide(tensor: torch.Tensor) -> torch.Tensor:
    """In a type in which differences are exact enough, which not every device has."""
    wide = torch.complex128 if tensor.dtype.is_complex else torch.float64
    return tensor.cpu().to(wide)
