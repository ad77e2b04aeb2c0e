"""What a registration dispatches on: dimensions, and where their sizes are split."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TYPE_CHECKING, TypedDict

from torch._inductor.range_dispatch.plan.split_search import SearchRules
from torch._inductor.range_dispatch.registration.argument_checks import (
    argument_names,
    did_you_mean,
    is_finite,
    is_int,
)
from torch._inductor.range_dispatch.registration.configs import parameters_of

if TYPE_CHECKING:
    import torch


DEFAULT_RANGE_UPPER_BOUND = 65536
# The split points that tuning is to find.
AUTO = "auto"
MAX_AXES = 3
# A grid of more would take hours to tune.
MAX_CELLS = 1024

_BOUND_KEYS = ("range_upper_bound", "unbounded_size")
_SEARCH_KEYS = ("min", "max", "precision", "max_loss")
_NAMED = (
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.KEYWORD_ONLY,
)
_EXAMPLE = "e.g., {'tensor_name': 'x', 'dim': 1}"


class DispatchOnConfig(TypedDict):
    """What ``dispatch_on`` takes: a dict with these keys.

    Give ``tensor_name`` and ``dim``, or ``size``. ``min``, ``max``, ``precision`` and
    ``max_loss`` are for ``split_points="auto"`` only.

    Args:
        tensor_name: the name of a tensor argument of the op.
        dim: the dimension of that tensor; a negative one counts from the end.
        size: a function that computes the size from the shapes of the tensor arguments
            that its parameters name: ``lambda x, weight: x[0] * weight[1]``.
        range_upper_bound: the size at which the open last range is timed; 65536 by
            default.
        unbounded_size: another name of ``range_upper_bound``.
        min: the smallest size to time; 1 by default.
        max: the largest size to time; 65536 by default.
        precision: how far a split point may be from where two candidates cross,
            relative to the size; 0.05 by default.
        max_loss: how much slower than the fastest candidate a range's winner may be at
            any size that was timed, relative to its time; 0.03 by default.
    """

    tensor_name: NotRequired[str]
    dim: NotRequired[int]
    size: NotRequired[Callable[..., Any]]
    range_upper_bound: NotRequired[int]
    unbounded_size: NotRequired[int]
    min: NotRequired[int]
    max: NotRequired[int]
    precision: NotRequired[float]
    max_loss: NotRequired[float]


_DISPATCH_KEYS = tuple(DispatchOnConfig.__annotations__)


@dataclass(frozen=True)
class SearchedSizes:
    """Where split points are looked for, and how closely."""

    lowest: int
    highest: int
    rules: SearchRules


@dataclass(frozen=True)
class DispatchAxis:
    """One dispatched size and where it is split.

    It is dimension ``dim`` of argument ``tensor_name``, or what ``function`` makes of
    the shapes of the tensor arguments that its parameters name. ``range_upper_bound``
    is the size at which the open last range is timed.
    """

    split_points: tuple[int, ...]
    range_upper_bound: int
    tensor_name: str | None = None
    dim: int = 0
    function: Callable[..., Any] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The tensor arguments that it is read off."""
        if self.function is None:
            return (self.tensor_name or "",)
        return tuple(inspect.signature(self.function).parameters)


@dataclass(frozen=True)
class DispatchOn:
    """The dispatched sizes. With ``searched`` the split points of the only one are not
    given, but to be found."""

    axes: tuple[DispatchAxis, ...]
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
    if isinstance(dispatch_on, (list, tuple)) and all(
        isinstance(one, Mapping) for one in dispatch_on
    ):
        return _check_axes(op, dispatch_on, split_points)
    _check_keys(dispatch_on, "dispatch_on")
    if isinstance(split_points, str) and split_points == AUTO:
        searched = _check_searched_sizes(dispatch_on)
        axis = _check_axis(op, dispatch_on, "dispatch_on", (), searched.highest)
        return DispatchOn((axis,), searched)
    return DispatchOn((_check_split_axis(op, dispatch_on, split_points, ""),))


def _check_axes(
    op: torch._ops.OpOverload, dispatch_on: Sequence[Any], split_points: Any
) -> DispatchOn:
    if not 1 <= len(dispatch_on) <= MAX_AXES:
        raise ValueError(
            f"dispatch_on must be a dict or a list of 1 to {MAX_AXES} dicts, one for "
            f"each dimension, got {len(dispatch_on)}: {dispatch_on!r}"
        )
    is_list = isinstance(split_points, (list, tuple))
    if not is_list or len(split_points) != len(dispatch_on):
        raise ValueError(
            "split_points must have a list for each of the dimensions that dispatch_on "
            f"lists ({AUTO!r} is for one dimension, given as a dict), "
            f"got {split_points!r} for {len(dispatch_on)}"
        )
    axes = []
    for index, (one, points) in enumerate(zip(dispatch_on, split_points)):
        _check_keys(one, f"dispatch_on[{index}]")
        axes.append(_check_split_axis(op, one, points, f"[{index}]"))
    cells = math.prod(len(axis.split_points) + 1 for axis in axes)
    if cells > MAX_CELLS:
        raise ValueError(
            f"split_points span {cells} cells, more than {MAX_CELLS}: {split_points!r}"
        )
    return DispatchOn(tuple(axes))


def _check_keys(one: Any, place: str) -> None:
    if not isinstance(one, Mapping):
        raise ValueError(
            f"{place} must be a dict with 'tensor_name' and 'dim' keys, {_EXAMPLE}, or "
            f"a list of such dicts. Got: {type(one)}"
        )
    for key in one:
        if key not in _DISPATCH_KEYS:
            raise ValueError(
                f"{place} has an unknown key {key!r}"
                f"{did_you_mean(key, _DISPATCH_KEYS)}; allowed: {_DISPATCH_KEYS}"
            )
    if "size" in one:
        if "tensor_name" in one or "dim" in one:
            raise ValueError(
                f"{place} takes 'size', or 'tensor_name' and 'dim'. "
                f"Got keys: {list(one)}"
            )
    elif "tensor_name" not in one or "dim" not in one:
        raise ValueError(
            f"{place} must contain 'tensor_name' and 'dim' keys, {_EXAMPLE}, "
            f"or 'size'. Got keys: {list(one)}"
        )


def _check_split_axis(
    op: torch._ops.OpOverload, one: Mapping[str, Any], split_points: Any, index: str
) -> DispatchAxis:
    place, splits_place = f"dispatch_on{index}", f"split_points{index}"
    for key in _SEARCH_KEYS:
        if key in one:
            raise ValueError(
                f"{place}[{key!r}] is for split_points={AUTO!r}, "
                f"got {splits_place}={split_points!r}"
            )
    points = _check_split_points(split_points, splits_place)
    bound = _check_upper_bound(one, place, points[-1])
    return _check_axis(op, one, place, points, bound)


def _check_axis(
    op: torch._ops.OpOverload,
    one: Mapping[str, Any],
    place: str,
    points: tuple[int, ...],
    bound: int,
) -> DispatchAxis:
    tensors = argument_names(op, ("Tensor", "Optional[Tensor]"))
    if "size" in one:
        _check_function(op, one["size"], place, tensors)
        return DispatchAxis(points, bound, function=one["size"])
    name, dim = one["tensor_name"], one["dim"]
    if not isinstance(name, str):
        raise ValueError(
            f"{place}['tensor_name'] must be a string (tensor parameter name), "
            f"got {type(name)}"
        )
    if name not in tensors:
        raise ValueError(
            f"{place}['tensor_name'] is {name!r}, not a tensor argument of {op}"
            f"{did_you_mean(name, tensors)}; allowed: {tensors}"
        )
    if not is_int(dim):
        raise ValueError(
            f"{place}['dim'] must be an integer (dimension index), "
            f"got {dim!r} of {type(dim)}"
        )
    return DispatchAxis(points, bound, name, int(dim))


def _check_function(
    op: torch._ops.OpOverload, function: Any, place: str, tensors: Sequence[str]
) -> None:
    parameters = parameters_of(function) if callable(function) else None
    if not parameters:
        raise ValueError(
            f"{place}['size'] must be a function of the shapes of tensor arguments of "
            f"{op}, such as lambda {tensors[0]}: {tensors[0]}[0] * {tensors[0]}[1], "
            f"got {function!r}"
        )
    for parameter in parameters:
        if parameter.name not in tensors or parameter.kind not in _NAMED:
            raise ValueError(
                f"{place}['size'] has the parameter '{parameter}', not a tensor "
                f"argument of {op}{did_you_mean(parameter.name, tensors)}; "
                f"allowed: {tensors}"
            )


def _check_split_points(split_points: Any, place: str) -> tuple[int, ...]:
    if not isinstance(split_points, (list, tuple)) or not split_points:
        raise ValueError(
            f"{place} must be a non-empty list of integers or {AUTO!r}, "
            f"got {split_points!r}"
        )
    for point in split_points:
        if not is_int(point):
            raise ValueError(
                f"{place} must be integers, got {point!r} of {type(point)} "
                f"in {split_points!r}"
            )
        if point < 1:
            raise ValueError(
                f"{place} must be at least 1, got {point} in {split_points!r}"
            )
    if any(b <= a for a, b in itertools.pairwise(split_points)):
        raise ValueError(
            f"{place} must be sorted in ascending order without repeats, "
            f"got {split_points!r}"
        )
    return tuple(split_points)


def _check_searched_sizes(dispatch_on: Mapping[str, Any]) -> SearchedSizes:
    given = [key for key in ("max", *_BOUND_KEYS) if key in dispatch_on]
    if len(given) > 1:
        raise ValueError(
            f"dispatch_on takes one of {given}, which say the same with "
            f"split_points={AUTO!r}, got {dict(dispatch_on)!r}"
        )
    sizes = []
    for key, default in (
        ("min", 1),
        (given[0] if given else "max", DEFAULT_RANGE_UPPER_BOUND),
    ):
        size = dispatch_on.get(key, default)
        if not is_int(size) or size < 1:
            raise ValueError(
                f"dispatch_on[{key!r}] must be a positive integer, got {size!r}"
            )
        sizes.append(int(size))
    lowest, highest = sizes
    if lowest > highest:
        raise ValueError(
            "dispatch_on['min'] must not be above the largest size looked at, got "
            f"{lowest} and {highest}"
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
    return SearchedSizes(lowest, highest, SearchRules(**parts))


def _check_upper_bound(
    dispatch_on: Mapping[str, Any], place: str, last_split: int
) -> int:
    given = [key for key in _BOUND_KEYS if key in dispatch_on]
    if len(given) > 1:
        raise ValueError(
            f"{place} takes one of 'range_upper_bound' and its alias "
            f"'unbounded_size', got both: {dict(dispatch_on)!r}"
        )
    if not given:
        # The open range is timed inside itself, wherever the last split lies.
        return max(DEFAULT_RANGE_UPPER_BOUND, last_split + 1)
    bound = dispatch_on[given[0]]
    if not is_int(bound) or bound <= 0:
        raise ValueError(
            f"{place}[{given[0]!r}] must be a positive integer, got {bound!r}"
        )
    if bound < last_split:
        raise ValueError(
            f"{place}[{given[0]!r}] must not be below the last split point "
            f"{last_split}, got {bound}"
        )
    return max(int(bound), last_split + 1)
