"""The operators of ``benchmarks/real_ops.py``, one a file.

The names are known without an import of torch, which only :func:`load` needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from operators.specification import RealOperator

NAMES = ("fir_filter", "rank_transform", "attention")


def load(name: str) -> RealOperator:
    """The operator of this name; its custom op is defined once a process."""
    operator: RealOperator = importlib.import_module(f"operators.{name}").OPERATOR
    return operator
