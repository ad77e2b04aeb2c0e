"""What a registration dispatches on: a dimension, and where its sizes are split."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, TYPE_CHECKING, TypedDict

from torch._inductor.range_dispatch.argument_checks import (
    argument_names,
    did_you_mean,
    is_finite,
    is_int,
)
from torch._inductor.range_dispatch.split_search import SearchRules

if TYPE_CHECKING:
    import torch


DEFAULT_RANGE_UPPER_BOUND = 65536
# The split points that tuning is to find.
AUTO = "auto"

_BOUND_KEYS = ("range_upper_bound", "unbounded_size")
_SEARCH_KEYS = ("min", "max", "precision", "max_loss")
_DISPATCH_KEYS = ("tensor_name", "dim", *_BOUND_KEYS, *_SEARCH_KEYS)
_EXAMPLE = "e.g., {'tensor_name': 'x', 'dim': 1}"


class DispatchOnConfig(TypedDict):
    """What ``dispatch_on`` takes: a tensor argument of the op and its dimension.

    ``range_upper_bound``, or ``unbounded_size``, is the size at which the open last
    range is timed. The others are for ``split_points="auto"``: the sizes between which
    splits are looked for, how far a split may be off, as a part of the size, and what
    a range may lose to the fastest at any size, as a part of its time.
    """

    tensor_name: str
    dim: int
    range_upper_bound: NotRequired[int]
    unbounded_size: NotRequired[int]
    min: NotRequired[int]
    max: NotRequired[int]
    precision: NotRequired[float]
    max_loss: NotRequired[float]


@dataclass(frozen=True)
class SearchedSizes:
    """Where split points are looked for, and how closely."""

    lowest: int
    highest: int
    rules: SearchRules


@dataclass(frozen=True)
class DispatchOn:
    """The dispatched dimension and where its sizes are split.

    ``range_upper_bound`` is the size at which the open last range is timed. Without
    ``searched`` the split points are given, else they are to be found.
    """

    tensor_name: str
    dim: int
    split_points: tuple[int, ...]
    range_upper_bound: int
    searched: SearchedSizes | None = None


def check_dispatch(
    op: torch._ops.OpOverload, dispatch_on: Any, split_points: Any
) -> DispatchOn | None:
    """Check the two arguments of a registration; None if neither is given.

    Raises:
        ValueError: one of them is wrong; the message says what is allowed.
    """
    if dispatch_on is None and split_points is None:
        return None
    if dispatch_on is None or split_points is None:
        raise ValueError(
            "Both dispatch_on and split_points must be specified for range-based "
            f"autotuning, got dispatch_on={dispatch_on!r} and "
            f"split_points={split_points!r}"
        )
    if not isinstance(dispatch_on, Mapping):
        raise ValueError(
            "dispatch_on must be a dict with 'tensor_name' and 'dim' keys, "
            f"{_EXAMPLE}. Got: {type(dispatch_on)}"
        )
    for key in dispatch_on:
        if key not in _DISPATCH_KEYS:
            raise ValueError(
                f"dispatch_on has an unknown key {key!r}"
                f"{did_you_mean(key, _DISPATCH_KEYS)}; allowed: {_DISPATCH_KEYS}"
            )
    if "tensor_name" not in dispatch_on or "dim" not in dispatch_on:
        raise ValueError(
            "dispatch_on must contain 'tensor_name' and 'dim' keys, "
            f"{_EXAMPLE}. Got keys: {list(dispatch_on)}"
        )
    tensor_name = _check_tensor_name(op, dispatch_on["tensor_name"])
    dim = _check_dim(dispatch_on["dim"])
    if isinstance(split_points, str) and split_points == AUTO:
        searched = _check_searched_sizes(dispatch_on)
        return DispatchOn(tensor_name, dim, (), searched.highest, searched)
    for key in _SEARCH_KEYS:
        if key in dispatch_on:
            raise ValueError(
                f"dispatch_on[{key!r}] is for split_points={AUTO!r}, "
                f"got split_points={split_points!r}"
            )
    points = _check_split_points(split_points)
    return DispatchOn(
        tensor_name=tensor_name,
        dim=dim,
        split_points=points,
        range_upper_bound=_check_upper_bound(dispatch_on, points[-1]),
    )


def _check_tensor_name(op: torch._ops.OpOverload, name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError(
            "dispatch_on['tensor_name'] must be a string (tensor parameter name), "
            f"got {type(name)}"
        )
    tensors = argument_names(op, ("Tensor", "Optional[Tensor]"))
    if name not in tensors:
        raise ValueError(
            f"dispatch_on['tensor_name'] is {name!r}, not a tensor argument of {op}"
            f"{did_you_mean(name, tensors)}; allowed: {tensors}"
        )
    return name


def _check_dim(dim: Any) -> int:
    if not is_int(dim):
        raise ValueError(
            "dispatch_on['dim'] must be an integer (dimension index), "
            f"got {dim!r} of {type(dim)}"
        )
    return int(dim)


def _check_split_points(split_points: Any) -> tuple[int, ...]:
    if not isinstance(split_points, (list, tuple)) or not split_points:
        raise ValueError(
            f"split_points must be a non-empty list of integers or {AUTO!r}, "
            f"got {split_points!r}"
        )
    for point in split_points:
        if not is_int(point):
            raise ValueError(
                f"split_points must be integers, got {point!r} of {type(point)} "
                f"in {split_points!r}"
            )
        if point < 1:
            raise ValueError(
                f"split_points must be at least 1, got {point} in {split_points!r}"
            )
    if any(b <= a for a, b in itertools.pairwise(split_points)):
        raise ValueError(
            "split_points must be sorted in ascending order without repeats, "
            f"got {split_points!r}"
        )
    return tuple(split_points)


def _check_searched_sizes(dispatch_on: Mapping[str, Any]) -> SearchedSizes:
    bounds = {"min": 1, "max": DEFAULT_RANGE_UPPER_BOUND}
    given = [key for key in ("max", *_BOUND_KEYS) if key in dispatch_on]
    if len(given) > 1:
        raise ValueError(
            f"dispatch_on takes one of {given}, which say the same with "
            f"split_points={AUTO!r}, got {dict(dispatch_on)!r}"
        )
    for bound, key in (("min", "min"), ("max", given[0] if given else "max")):
        size = dispatch_on.get(key, bounds[bound])
        if not is_int(size) or size < 1:
            raise ValueError(
                f"dispatch_on[{key!r}] must be a positive integer, got {size!r}"
            )
        bounds[bound] = int(size)
    if bounds["min"] > bounds["max"]:
        raise ValueError(
            "dispatch_on['min'] must not be above the largest size looked at, got "
            f"{bounds['min']} and {bounds['max']}"
        )
    parts = {}
    for key in ("precision", "max_loss"):
        if key in dispatch_on:
            part = dispatch_on[key]
            if not is_finite(part) or not 0 < part < 1:
                raise ValueError(
                    f"dispatch_on[{key!r}] must be a number between 0 and 1, "
                    f"got {part!r}"
                )
            parts[key] = float(part)
    return SearchedSizes(bounds["min"], bounds["max"], SearchRules(**parts))


def _check_upper_bound(dispatch_on: Mapping[str, Any], last_split: int) -> int:
    given = [key for key in _BOUND_KEYS if key in dispatch_on]
    if len(given) > 1:
        raise ValueError(
            "dispatch_on takes one of 'range_upper_bound' and its alias "
            f"'unbounded_size', got both: {dict(dispatch_on)!r}"
        )
    if not given:
        # The open range is timed inside itself, wherever the last split lies.
        return max(DEFAULT_RANGE_UPPER_BOUND, last_split + 1)
    bound = dispatch_on[given[0]]
    if not is_int(bound) or bound <= 0:
        raise ValueError(
            f"dispatch_on[{given[0]!r}] must be a positive integer, got {bound!r}"
        )
    if bound < last_split:
        raise ValueError(
            f"dispatch_on[{given[0]!r}] must not be below the last split point "
            f"{last_split}, got {bound}"
        )
    return max(int(bound), last_split + 1)
