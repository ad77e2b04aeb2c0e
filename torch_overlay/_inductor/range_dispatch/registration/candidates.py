"""The ways to compute an op, told apart by identity."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any, TYPE_CHECKING

from torch._inductor.range_dispatch.registration.configs import (
    callable_name,
    CustomOpConfig,
    format_params,
    structure_of,
)
from torch._inductor.range_dispatch.registration.spec import FALLBACK
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


@dataclass(frozen=True, eq=False)
class Candidate:
    """An implementation with its params and patches; equal only to itself.

    ``index`` numbers the distinct candidates, ``FALLBACK`` for the op itself.
    """

    index: int
    name: str
    function: Callable[..., Any]
    params: dict[str, Any] = field(default_factory=dict)
    config_patches: dict[str, Any] = field(default_factory=dict)
    uuid: str | None = None

    @property
    def source(self) -> tuple[Any, ...]:
        """What it is made of; ``uuid`` vouches for the function of that name."""
        function = self.function if self.uuid is None else (self.uuid, self.name)
        return function, self.params, self.config_patches

    @property
    def is_fallback(self) -> bool:
        return self.index == FALLBACK

    def __str__(self) -> str:
        return self.name


class CandidatePool:
    """The distinct candidates of one op.

    Configs with the very same function, params (by type and value) and patches are one
    candidate; functions that merely look or are named alike are not.
    """

    def __init__(self, op: torch._ops.OpOverload, uuid: str | None = None) -> None:
        self.fallback = Candidate(FALLBACK, "fallback", op, uuid=uuid)
        self._by_identity: dict[Any, Candidate] = {_identity(op, {}, {}): self.fallback}
        self._names = OrderedSet([self.fallback.name])
        self._op = op
        self._uuid = uuid

    def add(self, config: CustomOpConfig) -> Candidate:
        """The candidate for a config, a new one if it is not there yet."""
        function = config.get_decomposition(self._op)
        key = _identity(function, config.params, config.config_patches)
        if key not in self._by_identity:
            self._by_identity[key] = Candidate(
                len(self._by_identity) - 1,
                self._unique_name(callable_name(function), config.params),
                function,
                config.params,
                config.config_patches,
                self._uuid,
            )
        return self._by_identity[key]

    def _unique_name(self, name: str, params: dict[str, Any]) -> str:
        if params:
            name = f"{name}({', '.join(format_params(params))})"
        unique, repeat = name, 1
        while unique in self._names:
            repeat += 1
            unique = f"{name} #{repeat}"
        self._names.add(unique)
        return unique


def _identity(function: Any, params: dict[str, Any], patches: dict[str, Any]) -> Any:
    if inspect.ismethod(function):  # a new object each time it is looked up
        who = (id(function.__self__), id(function.__func__))
    else:
        who = (id(function), 0)
    return who, structure_of(params), structure_of(patches)
