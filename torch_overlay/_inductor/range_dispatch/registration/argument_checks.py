"""Small checks that the checks of a registration's arguments share."""

from __future__ import annotations

import difflib
import math
from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch


# How a schema prints the types of arguments that hold tensors.
TENSOR_TYPES = ("Tensor", "Optional[Tensor]", "List[Tensor]", "List[Optional[Tensor]]")


def argument_names(op: torch._ops.OpOverload, types: Iterable[str]) -> list[str]:
    """Names of the schema's arguments whose type prints as one of ``types``."""
    wanted = tuple(types)
    return [a.name for a in op._schema.arguments if str(a.type) in wanted]


def is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def did_you_mean(given: Any, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(given), allowed, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def is_finite(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)
