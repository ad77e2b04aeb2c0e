"""The validated registration of an op; every user error is raised here."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch._inductor import config
from torch._inductor.range_dispatch.plan.ranges import (
    Cell,
    cells_of_grid,
    ranges_from_split_points,
    SizeRange,
)
from torch._inductor.range_dispatch.registration.argument_checks import (
    argument_names,
    did_you_mean,
    is_finite,
    is_int,
    TENSOR_TYPES,
)
from torch._inductor.range_dispatch.registration.configs import (
    callable_name,
    ConfigGenerator,
    CustomOpConfig,
    parameters_of,
)
from torch._inductor.range_dispatch.registration.differences import (
    check_tolerance,
    Tolerance,
)
from torch._inductor.range_dispatch.registration.dispatch_on import (
    AUTO,
    check_dispatch,
    DispatchOn,
)


DEFAULT_SIZES_PER_RANGE = 3
# The index that stands for the op's own implementation among the winners.
FALLBACK = -1

# By size, or by a tuple of sizes if there are several axes.
SizeWeights: TypeAlias = Mapping[int, float] | Mapping[tuple[int, ...], float]
InputGenerators: TypeAlias = Mapping[str, Callable[[torch.Tensor], torch.Tensor]]


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
    sizes_per_range: int
    size_weights: SizeWeights | None
    tuning_seconds: float | None
    uuid: str | None
    accuracy_tolerance: Tolerance | None

    def key_parts(self) -> tuple[Any, ...]:
        """All that a dispatch depends on; in place of functions their names, for which
        ``uuid`` vouches."""
        others = {
            name: value
            for name, value in vars(self).items()
            if name not in ("op", "configs", "config_generator", "input_gen_fns")
        }
        functions = [self.config_generator, *self.input_gen_fns.values()]
        return (
            others,
            [(str(one), one.params, one.config_patches) for one in self.configs or ()],
            [function and callable_name(function) for function in functions],
            [*self.input_gen_fns],
        )

    @property
    def seconds(self) -> float:
        """What timing a call may take."""
        if self.tuning_seconds is None:
            return config.range_dispatch.tuning_seconds
        return self.tuning_seconds

    @property
    def grid(self) -> tuple[tuple[SizeRange, ...], ...]:
        """The ranges of each axis."""
        axes = self.dispatch.axes if self.dispatch else ()
        return tuple(ranges_from_split_points(axis.split_points) for axis in axes)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells of the grid; one that holds all without a dispatch."""
        return cells_of_grid(self.grid)


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
    dispatch_on: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    split_points: Sequence[int] | Sequence[Sequence[int]] | str | None = None,
    min_speedup_threshold: float = 1.0,
    benchmark_with_cudagraphs: bool = False,
    winners: Sequence[int] | None = None,
    include_fallback: bool = True,
    sizes_per_range: int = DEFAULT_SIZES_PER_RANGE,
    size_weights: SizeWeights | None = None,
    tuning_seconds: float | None = None,
    uuid: str | None = None,
    accuracy_tolerance: float | tuple[float, float] | None = None,
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
    dispatch = check_dispatch(op, dispatch_on, split_points)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a string, got {name!r}")
    if not isinstance(include_fallback, bool):
        raise TypeError(f"include_fallback must be a bool, got {include_fallback!r}")
    if not is_int(sizes_per_range) or sizes_per_range < 1:
        raise ValueError(
            f"sizes_per_range must be a positive integer, got {sizes_per_range!r}"
        )
    if uuid is not None and not (isinstance(uuid, str) and uuid):
        raise TypeError(f"uuid must be a string that is not empty, got {uuid!r}")
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
        sizes_per_range=int(sizes_per_range),
        size_weights=_check_size_weights(size_weights, dispatch),
        tuning_seconds=_check_tuning_seconds(tuning_seconds),
        uuid=uuid,
        accuracy_tolerance=check_tolerance(accuracy_tolerance),
    )


def _check_op(op: torch._ops.OpOverload) -> None:
    schema = op._schema
    for result in schema.returns:
        if str(result.type) not in TENSOR_TYPES:
            raise ValueError(
                f"custom_op {op} returns {result.type}; an op that is autotuned "
                f"returns only {', '.join(TENSOR_TYPES)}: {schema}"
            )
        if result.alias_info is not None:
            raise ValueError(
                f"custom_op {op} returns an alias of an argument, which a branch "
                f"cannot: {schema}"
            )
    if not argument_names(op, TENSOR_TYPES):
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
    for index, one in enumerate(configs):
        if not isinstance(one, CustomOpConfig):
            raise TypeError(
                "Each config must be a CustomOpConfig object, "
                f"got {type(one)} for {source}[{index}]"
            )
        _check_params(op, one, f"{source}[{index}]")
    return tuple(configs)


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
                f"by {op}{did_you_mean(key, accepted)}; allowed: {accepted}"
            )


def _check_winners(
    winners: Any,
    dispatch: DispatchOn | None,
    configs: tuple[CustomOpConfig, ...] | None,
    include_fallback: bool,
) -> tuple[int, ...] | None:
    if winners is None:
        return None
    if dispatch is not None and dispatch.searched is not None:
        raise ValueError(
            f"winners are for given split points, got winners={winners!r} and "
            f"split_points={AUTO!r}"
        )
    if not isinstance(winners, Sequence) or isinstance(winners, str):
        raise TypeError(f"winners must be a list of integers, got {winners!r}")
    counts = [len(axis.split_points) + 1 for axis in dispatch.axes] if dispatch else []
    count = math.prod(counts)
    if len(winners) != count:
        cells = " x ".join(map(str, counts))
        what = "ranges" if len(counts) < 2 else f"cells ({cells}, the last one fastest)"
        raise ValueError(
            f"winners must have one entry for each of the {count} {what}, "
            f"got {len(winners)}: {winners!r}"
        )
    # How many configs a generator returns is known at compile time only.
    limit = math.inf if configs is None else len(configs)
    for winner in winners:
        if not is_int(winner):
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
    tensors = argument_names(op, TENSOR_TYPES)
    for name, generator in generators.items():
        if name not in tensors:
            raise ValueError(
                f"Unknown argument name {name!r} in input_gen_fns"
                f"{did_you_mean(name, tensors)}. Available argument names: {tensors}"
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


def _check_size_weights(
    weights: Any, dispatch: DispatchOn | None
) -> SizeWeights | None:
    if weights is None:
        return None
    if dispatch is None:
        raise ValueError(
            "size_weights are weights of the dispatched size: they need dispatch_on"
        )
    if dispatch.searched is not None:
        raise ValueError(
            "size_weights weigh the sizes of given ranges; with "
            f"split_points={AUTO!r} every size is held to dispatch_on['max_loss']"
        )
    if not isinstance(weights, Mapping):
        raise TypeError(
            "size_weights must be a dict from sizes to how often they occur, "
            f"got {type(weights)}"
        )
    axes = len(dispatch.axes)
    for size, weight in weights.items():
        sizes = size if axes > 1 else (size,)
        if not isinstance(sizes, tuple) or len(sizes) != axes:
            raise ValueError(
                f"size_weights must have tuples of {axes} sizes as keys, one for each "
                f"dimension, got {size!r}"
            )
        if not all(is_int(one) and one >= 0 for one in sizes):
            raise ValueError(
                f"size_weights must have sizes as keys, integers from 0, got {size!r}"
            )
        if not is_finite(weight) or weight < 0:
            raise ValueError(
                f"size_weights[{size}] must be a finite number from 0, got {weight!r}"
            )
    if not any(weights.values()):
        raise ValueError(f"size_weights must have a weight above 0, got {weights!r}")
    return dict(weights)


def _check_tuning_seconds(seconds: Any) -> float | None:
    if seconds is None:
        return None
    if not is_finite(seconds) or seconds <= 0:
        raise ValueError(
            f"tuning_seconds must be a finite number above 0, got {seconds!r}"
        )
    return float(seconds)
