"""Arguments by the names of an op's schema, for the op and for implementations."""

from __future__ import annotations

import inspect
import itertools
from typing import Any, TYPE_CHECKING

from torch._inductor.range_dispatch.registration.configs import callable_name
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import torch


# What Inductor calls its own parameters where it passes on an op's arguments.
_TAKEN_NAMES = OrderedSet(["cls", "kernel", "fx_node"])


def bind_to_schema(
    op: torch._ops.OpOverload, args: Sequence[Any], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Arguments by name in schema order, the op's defaults filled in.

    Raises:
        TypeError: a required argument is missing, or one is unknown or given twice.
    """
    arguments = op._schema.arguments
    positional = [a.name for a in arguments if not a.kwarg_only]
    if len(args) > len(positional):
        raise TypeError(f"{op} takes {len(positional)} positional arguments: {args}")
    given = dict(zip(positional, args))
    for name, value in kwargs.items():
        if name in given or all(name != a.name for a in arguments):
            raise TypeError(f"{op} got an unexpected or repeated argument {name!r}")
        given[name] = value
    for argument in arguments:
        if argument.name not in given and argument.has_default_value():
            given[argument.name] = argument.default_value
    missing = [a.name for a in arguments if a.name not in given]
    if missing:
        raise TypeError(f"{op} is missing the arguments {missing}")
    return {a.name: given[a.name] for a in arguments}


def with_names(
    op: torch._ops.OpOverload, args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same arguments, by keyword all that follow the first tensors.

    So the base calls an op's kernel that it chooses among implementations. What
    Inductor has code of its own for may know its arguments by other names.
    """
    from torch._inductor.lowering import lowerings

    given = [*zip(op._schema.arguments, args)]
    first = [*itertools.takewhile(_is_tensor, given)]
    named = {argument.name: value for argument, value in given[len(first) :]}
    has_code = op in lowerings and not hasattr(lowerings[op], "_is_fallback_handler")
    if has_code or _TAKEN_NAMES & OrderedSet(named):
        return tuple(args), kwargs
    return tuple(value for _, value in first), named | kwargs


def _is_tensor(given: tuple[torch._C.Argument, Any]) -> bool:
    argument, value = given
    return value is not None and str(argument.type) in ("Tensor", "Optional[Tensor]")


def arrange_arguments(
    function: Callable[..., Any],
    op: torch._ops.OpOverload,
    values: dict[str, Any],
    params: dict[str, Any],
) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments with which to call an implementation.

    It is called just as the op would be. Where its signature cannot take that, the
    non-tensor arguments go by keyword, and those at the op's default that it does not
    name are left out.

    Raises:
        TypeError: the function cannot take the op's arguments at all.
    """
    arguments = op._schema.arguments
    values = {**values, **{k: v for k, v in params.items() if k in values}}
    extra = {k: v for k, v in params.items() if k not in values}

    def split(by_position: Iterable[str], names: Iterable[str]) -> Any:
        positional = OrderedSet(by_position)
        return (
            [values[name] for name in names if name in positional],
            {n: values[n] for n in names if n not in positional} | extra,
        )

    names = [a.name for a in arguments]
    like_op = split((a.name for a in arguments if not a.kwarg_only), names)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return like_op
    tensors = [
        a.name for a in arguments if "Tensor" in str(a.type) and not a.kwarg_only
    ]
    droppable = OrderedSet(
        a.name
        for a in arguments
        if a.has_default_value()
        and a.name not in signature.parameters
        and a.name not in params
        and _same_plain_value(values[a.name], a.default_value)
    )
    kept = [name for name in names if name not in droppable]
    reason: TypeError | None = None
    for attempt in (like_op, split(tensors, names), split(tensors, kept)):
        try:
            signature.bind(*attempt[0], **attempt[1])
            return attempt
        except TypeError as error:
            reason = reason or error
    raise TypeError(
        f"{callable_name(function)}{signature} cannot be called with the arguments "
        f"of {op}, {names}: {reason}"
    )


def _same_plain_value(value: Any, default: Any) -> bool:
    return type(value) is type(default) and (value is default or value == default)
