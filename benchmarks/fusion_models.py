"""Builds what the fusion benchmark compiles; runs inside the worker processes.

All implementations of an op compute the same and move the same memory; they differ in
a power of two that they multiply with and divide out. So the model with a single one
of them is what any of the others may be compared with.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from dispatch_peers import force_winners
from fusion_peers import HIDDEN, Model, rows_for
from torch._inductor.kernel.custom_op import (
    CustomOpConfig,
    register_custom_op_autotuning,
)
from workload import define

Function = Callable[..., Any]


def make_inputs(model: Model, rows: int) -> tuple[torch.Tensor, ...]:
    """What to call the model with, at as many rows."""
    generator = torch.Generator().manual_seed(rows)
    return tuple(
        torch.randn(HIDDEN, generator=generator)
        if name in model.vectors
        else torch.randn(rows, HIDDEN, generator=generator)
        for name in model.arguments
    )


def with_op(model: Model, op: Function) -> Function:
    """The model around this op, with a code object of its own."""
    lines = [f"def model({', '.join(model.arguments)}):"]
    lines += [f"    {line}" for line in model.body]
    return define("\n".join(lines) + "\n", "model", {"op": op, "torch": torch})


def plain(model: Model) -> Function:
    """The model with a single implementation, no op."""
    return with_op(model, make_implementation(model, 0))


def dispatched(model: Model, branches: int) -> Function:
    """The model around the op with a range for each branch, whichever torch this is."""
    implementations = [make_implementation(model, branch) for branch in range(branches)]
    op = define_op(model.name, implementations[0])
    arguments: dict[str, Any] = {
        "configs": [CustomOpConfig(one) for one in implementations],
        "dispatch_on": {"tensor_name": "x", "dim": 0},
        "split_points": [rows_for(branch) for branch in range(branches - 1)],
    }
    if "winners" in inspect.signature(register_custom_op_autotuning).parameters:
        arguments["winners"] = [*range(branches)]
    else:
        force_winners(implementations)
    register_custom_op_autotuning(op, **arguments)
    return with_op(model, op)


def make_implementation(model: Model, branch: int) -> Function:
    """One of the implementations: powers of two change no bit of the result."""
    name = f"implementation_{branch}"
    up = float(2 ** (branch + 1))
    body = model.implementation.format(up=up, down=1 / up)
    source = f"def {name}(x):\n    return {body}\n"
    return define(source, name, {"torch": torch})


def define_op(name: str, implementation: Function) -> Any:
    """The custom op whose own implementation is the one given."""

    def call(x: torch.Tensor) -> torch.Tensor:
        return implementation(x)

    # Annotations of this file are strings, which the schema is not inferred from.
    call.__annotations__ = dict.fromkeys(("x", "return"), torch.Tensor)
    op = torch.library.custom_op(f"fusion_benchmark::{name}", call, mutates_args=())
    op.register_fake(lambda x: torch.empty_like(x))
    return op
