"""The validated registration of an op; every user error is raised here."""

from __future__ import annotations

import difflib
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypeAlias, TypedDict

import torch
from torch._inductor.range_dispatch.configs import (
    ConfigGenerator,
    CustomOpConfig,
    parameters_of,
)
from torch._inductor.range_dispatch.ranges import ranges_from_split_points, SizeRange


DEFAULT_RANGE_UPPER_BOUND = 65536
# The index that stands for the op's own implementation among the winners.
FALLBACK = -1

_BOUND_KEYS = ("range_upper_bound", "unbounded_size")
_DISPATCH_KEYS = ("tensor_name", "dim", *_BOUND_KEYS)
_TENSOR_TYPES = ("Tensor", "Optional[Tensor]", "List[Tensor]", "List[Optional[Tensor]]")
_EXAMPLE = "e.g., {'tensor_name': 'x', 'dim': 1}"

InputGenerators: TypeAlias = Mapping[str, Callable[[torch.Tensor], torch.Tensor]]


class DispatchOnConfig(TypedDict):
    """What ``dispatch_on`` takes: a tensor argument of the op and its dimension.

    ``range_upper_bound``, or ``unbounded_size``, is the size at which the open last
    range is timed.
    """

    tensor_name: str
    dim: int
    range_upper_bound: NotRequired[int]
    unbounded_size: NotRequired[int]


@dataclass(frozen=True)
class DispatchOn:
    """The dispatched dimension and where its sizes are split.

    ``range_upper_bound`` is the size at which the open last range is timed.
    """

    tensor_name: str
    dim: int
    split_points: tuple[int, ...]
    range_upper_bound: int


@dataclass(frozen=True, eq=False)
class Registration:
    """What was registered for one op overload; equal only to itself.

    ``dispatch`` is None for plain autotuning: one range that holds every size.
    """

    op: torch._ops.OpOverload
    name: str
    configs: tuple[CustomOpConfig, ...] | None
    config_generator: ConfigGenerator | None
    input_gen_fns: InputGenerators
    dispatch: DispatchOn | None
    winners: tuple[int, ...] | None
    min_speedup_threshold: float
    benchmark_with_cudagraphs: bool
    include_fallback: bool

    @property
    def ranges(self) -> tuple[SizeRange, ...]:
        return ranges_from_split_points(
            self.dispatch.split_points if self.dispatch else ()
        )


def resolve_op(custom_op: Any) -> torch._ops.OpOverload:
    """The overload that ``custom_op`` stands for.

    Raises:
        TypeError: it is neither a CustomOpDef nor an OpOverload.
    """
    if isinstance(custom_op, torch._library.custom_ops.CustomOpDef):
        return custom_op._opoverload
    if isinstance(custom_op, torch._ops.OpOverload):
        return custom_op
    raise TypeError(
        f"custom_op must be a CustomOpDef or OpOverload, got {type(custom_op)}."
    )


def build_registration(
    custom_op: Any,
    configs: Sequence[CustomOpConfig] | None = None,
    config_generator: ConfigGenerator | None = None,
    name: str | None = None,
    input_gen_fns: InputGenerators | None = None,
    dispatch_on: Mapping[str, Any] | None = None,
    split_points: Sequence[int] | None = None,
    min_speedup_threshold: float = 1.0,
    benchmark_with_cudagraphs: bool = False,
    winners: Sequence[int] | None = None,
    include_fallback: bool = True,
) -> Registration:
    """Check everything the op's schema can tell and freeze it.

    The arguments are those of ``register_custom_op_autotuning``.

    Raises:
        TypeError, ValueError: an argument is wrong; the message names the argument,
            the value given and what is allowed.
    """
    op = resolve_op(custom_op)
    _check_op(op)
    frozen_configs = _check_configs(op, configs, config_generator)
    dispatch = _check_dispatch(op, dispatch_on, split_points)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a string, got {name!r}")
    if not isinstance(include_fallback, bool):
        raise TypeError(f"include_fallback must be a bool, got {include_fallback!r}")
    return Registration(
        op=op,
        name=name or f"{op._name}_autotuned",
        configs=frozen_configs,
        config_generator=config_generator,
        input_gen_fns=_check_input_gen_fns(op, input_gen_fns),
        dispatch=dispatch,
        winners=_check_winners(winners, dispatch, frozen_configs, include_fallback),
        min_speedup_threshold=_check_threshold(min_speedup_threshold),
        benchmark_with_cudagraphs=bool(benchmark_with_cudagraphs),
        include_fallback=include_fallback,
    )


def _check_op(op: torch._ops.OpOverload) -> None:
    schema = op._schema
    for result in schema.returns:
        if str(result.type) not in _TENSOR_TYPES:
            raise ValueError(
                f"custom_op {op} returns {result.type}; an op that is autotuned "
                f"returns only {', '.join(_TENSOR_TYPES)}: {schema}"
            )
        if result.alias_info is not None:
            raise ValueError(
                f"custom_op {op} returns an alias of an argument, which a branch "
                f"cannot: {schema}"
            )
    if not argument_names(op, _TENSOR_TYPES):
        raise ValueError(
            f"custom_op {op} has no tensor argument to be timed with: {schema}"
        )


def check_config_list(
    op: torch._ops.OpOverload, configs: Any, source: str
) -> tuple[CustomOpConfig, ...]:
    """Check the configs that ``source``, an argument's name, gave or generated.

    Raises:
        TypeError: not a list or tuple of CustomOpConfig.
        ValueError: a param that neither implementation nor op takes.
    """
    if not isinstance(configs, (list, tuple)):
        raise TypeError(
            f"{source} must be a list or tuple of CustomOpConfig, got {type(configs)}"
        )
    for index, config in enumerate(configs):
        if not isinstance(config, CustomOpConfig):
            raise TypeError(
                "Each config must be a CustomOpConfig object, "
                f"got {type(config)} for {source}[{index}]"
            )
        _check_params(op, config, f"{source}[{index}]")
    return tuple(configs)


def argument_names(op: torch._ops.OpOverload, types: Iterable[str]) -> list[str]:
    """Names of the schema's arguments whose type prints as one of ``types``."""
    wanted = tuple(types)
    return [a.name for a in op._schema.arguments if str(a.type) in wanted]


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _did_you_mean(given: Any, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(given), allowed, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _check_configs(
    op: torch._ops.OpOverload, configs: Any, config_generator: Any
) -> tuple[CustomOpConfig, ...] | None:
    if configs is not None and config_generator is not None:
        raise ValueError(
            "Cannot specify both 'configs' and 'config_generator'. "
            "Use 'config_generator' for shape-dependent configs."
        )
    if config_generator is not None:
        if not callable(config_generator):
            raise TypeError(
                f"config_generator must be callable, got {config_generator!r}"
            )
        return None
    if configs is None:
        raise ValueError("Must specify either 'configs' or 'config_generator'")
    checked = check_config_list(op, configs, "configs")
    if not checked:
        raise ValueError("At least one config must be provided, got configs=[]")
    return checked


def _check_params(
    op: torch._ops.OpOverload, config: CustomOpConfig, source: str
) -> None:
    arguments = {argument.name: argument for argument in op._schema.arguments}
    accepted = list(arguments)
    takes_any = False
    if config.decomposition is not None:
        parameters = parameters_of(config.decomposition)
        takes_any = parameters is None or any(
            p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters
        )
        accepted += [p.name for p in parameters or () if p.name not in arguments]
    for key, value in config.params.items():
        if isinstance(value, torch.Tensor) or (
            key in arguments and "Tensor" in str(arguments[key].type)
        ):
            raise ValueError(
                f"{source}: param {key!r} is a tensor; params set the non-tensor "
                f"arguments of {op}"
            )
        if key not in accepted and not takes_any:
            raise ValueError(
                f"{source}: param {key!r} is taken neither by its implementation nor "
                f"by {op}{_did_you_mean(key, accepted)}; allowed: {accepted}"
            )


def _check_dispatch(
    op: torch._ops.OpOverload, dispatch_on: Any, split_points: Any
) -> DispatchOn | None:
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
                f"{_did_you_mean(key, _DISPATCH_KEYS)}; allowed: {_DISPATCH_KEYS}"
            )
    if "tensor_name" not in dispatch_on or "dim" not in dispatch_on:
        raise ValueError(
            "dispatch_on must contain 'tensor_name' and 'dim' keys, "
            f"{_EXAMPLE}. Got keys: {list(dispatch_on)}"
        )
    points = _check_split_points(split_points)
    return DispatchOn(
        tensor_name=_check_tensor_name(op, dispatch_on["tensor_name"]),
        dim=_check_dim(dispatch_on["dim"]),
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
            f"{_did_you_mean(name, tensors)}; allowed: {tensors}"
        )
    return name


def _check_dim(dim: Any) -> int:
    if not _is_int(dim):
        raise ValueError(
            "dispatch_on['dim'] must be an integer (dimension index), "
            f"got {dim!r} of {type(dim)}"
        )
    return int(dim)


def _check_split_points(split_points: Any) -> tuple[int, ...]:
    if not isinstance(split_points, (list, tuple)) or not split_points:
        raise ValueError(
            f"split_points must be a non-empty list of integers, got {split_points!r}"
        )
    for point in split_points:
        if not _is_int(point):
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
    if not _is_int(bound) or bound <= 0:
        raise ValueError(
            f"dispatch_on[{given[0]!r}] must be a positive integer, got {bound!r}"
        )
    if bound < last_split:
        raise ValueError(
            f"dispatch_on[{given[0]!r}] must not be below the last split point "
            f"{last_split}, got {bound}"
        )
    return max(int(bound), last_split + 1)


def _check_winners(
    winners: Any,
    dispatch: DispatchOn | None,
    configs: tuple[CustomOpConfig, ...] | None,
    include_fallback: bool,
) -> tuple[int, ...] | None:
    if winners is None:
        return None
    if not isinstance(winners, Sequence) or isinstance(winners, str):
        raise TypeError(f"winners must be a list of integers, got {winners!r}")
    count = 1 if dispatch is None else len(dispatch.split_points) + 1
    if len(winners) != count:
        raise ValueError(
            f"winners must have one entry for each of the {count} ranges, "
            f"got {len(winners)}: {winners!r}"
        )
    # How many configs a generator returns is known at compile time only.
    limit = math.inf if configs is None else len(configs)
    for winner in winners:
        if not _is_int(winner):
            raise TypeError(
                f"winners must be integers, got {winner!r} of {type(winner)}"
            )
        if not FALLBACK <= winner < limit:
            raise ValueError(
                f"winners must be -1 (the op's own implementation) or an index into "
                f"the {limit} configs, got {winner} in {winners!r}"
            )
        if winner == FALLBACK and not include_fallback:
            raise ValueError(
                "winners has -1, the op's own implementation, which "
                f"include_fallback=False rules out: {winners!r}"
            )
    return tuple(winners)


def _check_input_gen_fns(op: torch._ops.OpOverload, generators: Any) -> InputGenerators:
    if generators is None:
        return {}
    if not isinstance(generators, Mapping):
        raise TypeError(
            "input_gen_fns must be a dict from argument names to functions, "
            f"got {type(generators)}"
        )
    tensors = argument_names(op, _TENSOR_TYPES)
    for name, generator in generators.items():
        if name not in tensors:
            raise ValueError(
                f"Unknown argument name {name!r} in input_gen_fns"
                f"{_did_you_mean(name, tensors)}. Available argument names: {tensors}"
            )
        if not callable(generator):
            raise TypeError(f"input_gen_fns[{name!r}] must be callable: {generator!r}")
    return dict(generators)


def _check_threshold(threshold: Any) -> float:
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)):
        raise TypeError(f"min_speedup_threshold must be a number, got {threshold!r}")
    if not (threshold > 0 and math.isfinite(threshold)):
        raise ValueError(
            f"min_speedup_threshold must be a positive number, got {threshold!r}"
        )
    return float(threshold)
