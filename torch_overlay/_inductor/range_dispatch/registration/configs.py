"""What the user writes down for one candidate."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import sympy

import torch


class CustomOpConfig:
    """One way to compute a custom op: an implementation with parameter values.

    Args:
        decomposition: the implementation, called with the op's own arguments. If None,
            the op itself is called, with ``params`` in place of the caller's arguments.
        config_patches: Inductor config values for the kernels of this implementation
            only, such as ``{"coordinate_descent_tuning": True}``.
        **params: values for non-tensor arguments. They override the caller's arguments
            of the same name; others must be parameters of ``decomposition``.

    Raises:
        TypeError: ``decomposition`` is not callable, or ``config_patches`` is not a
            dict with string keys.
    """

    def __init__(
        self,
        decomposition: Callable[..., Any] | None = None,
        config_patches: dict[str, Any] | None = None,
        **params: Any,
    ) -> None:
        if decomposition is not None and not callable(decomposition):
            raise TypeError(
                f"decomposition must be callable, got {type(decomposition)}"
            )
        if config_patches is not None and not (
            isinstance(config_patches, dict)
            and all(isinstance(key, str) for key in config_patches)
        ):
            raise TypeError(
                "config_patches must be a dict from config names to values, "
                f"got {config_patches!r}"
            )
        self.decomposition = decomposition
        self.config_patches = config_patches or {}
        self.params = params

    def get_decomposition(
        self, default_impl: Callable[..., Any] | None = None
    ) -> Callable[..., Any]:
        """The implementation, or ``default_impl`` when the config names none.

        Raises:
            TypeError: there is neither.
        """
        chosen = self.decomposition if self.decomposition is not None else default_impl
        if not callable(chosen):
            raise TypeError(
                "No decomposition specified in config and no default implementation "
                "provided. Please provide a decomposition function in CustomOpConfig."
            )
        return chosen

    def __repr__(self) -> str:
        implementation = self.decomposition
        shown = "default" if implementation is None else callable_name(implementation)
        return f"CustomOpConfig({', '.join([shown, *format_params(self.params)])})"


_PLAIN = (
    int,
    str,
    bytes,
    type(None),
    sympy.Basic,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
)

ConfigGenerator: TypeAlias = Callable[
    [dict[str, torch.Tensor]], Sequence[CustomOpConfig]
]


def callable_name(function: Callable[..., Any]) -> str:
    """A readable name for any callable: for messages only, never for identity."""
    for attribute in ("__name__", "_name"):
        name = getattr(function, attribute, None)
        if isinstance(name, str):
            return name
    wrapped = getattr(function, "func", None)  # functools.partial
    return callable_name(wrapped) if callable(wrapped) else type(function).__name__


def format_params(params: dict[str, Any]) -> list[str]:
    """``key=value`` for each param."""
    return [f"{key}={value}" for key, value in params.items()]


def parameters_of(
    function: Callable[..., Any],
) -> tuple[inspect.Parameter, ...] | None:
    """The parameters of a callable, None if it has no readable signature."""
    try:
        return tuple(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def structure_of(value: Any) -> Any:
    """A hashable stand-in that differs when type or value does (1, 1.0 and True).

    Good for as long as ``value`` lives: what has no plain value goes by identity.
    """
    if isinstance(value, dict):
        items = (
            (structure_of(k), structure_of(v))
            for k, v in sorted(value.items(), key=lambda item: repr(item[0]))
        )
        return (dict, tuple(items))
    if isinstance(value, (list, tuple)):
        return (type(value), tuple(map(structure_of, value)))
    if isinstance(value, float):
        return (float, repr(value))  # tells 0.0 from -0.0, and nan equals itself
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (getattr(value, field.name) for field in dataclasses.fields(value))
        return (type(value), tuple(map(structure_of, fields)))
    if isinstance(value, _PLAIN):
        return (type(value), value)
    return (type(value), id(value))
