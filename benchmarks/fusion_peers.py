"""The models and the variants of them that the fusion benchmark compares.

Imports no torch, so that bad arguments are refused at once.
"""

from __future__ import annotations

from dataclasses import dataclass

REFERENCE = "plain"
"""The variant that all others are compared with."""

OURS = "ours"

TIME_LIMIT = 1.05
"""How many times the reference a call of ours may take."""

HIDDEN = 1024
FIRST_ROWS = 2000
ROWS_STEP = 500
"""Tensors are of 8 MB and more, which is more than a core's own caches hold. Rows are
never as many as :data:`HIDDEN`: torch.compile would take the two for one symbol."""


def rows_for(branch: int) -> int:
    """Rows at which this branch runs: the last size of its range."""
    return FIRST_ROWS + ROWS_STEP * branch


@dataclass(frozen=True)
class Variant:
    """A way to compile a model. ``pristine``: without the patch set."""

    name: str
    title: str
    pristine: bool = False


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(REFERENCE, "one implementation, no dispatch"),
        Variant(OURS, "dispatched, fused"),
        Variant("unfused", "dispatched, fuse off"),
        Variant("base", "dispatched, pristine torch", pristine=True),
    )
}


@dataclass(frozen=True)
class Model:
    """A function of tensors around ``op``, in source code.

    ``arguments`` name the tensors: those of ``vectors`` are [HIDDEN], all others
    [rows, HIDDEN]. ``implementation`` is the op's, in which ``{up}`` and ``{down}``
    stand for a factor and its inverse.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    vectors: frozenset[str]
    body: tuple[str, ...]
    implementation: str


MODELS = {
    model.name: model
    for model in (
        Model(
            "bias_activation",
            "relu(op(x * scale) + bias)",
            ("x", "scale", "bias"),
            frozenset({"scale", "bias"}),
            ("return torch.relu(op(x * scale) + bias)",),
            "torch.relu(x * {up}) * x * {down}",
        ),
        Model(
            "norm_residual",
            "total = x + residual; op(total) * weight, total",
            ("x", "residual", "weight"),
            frozenset({"weight"}),
            ("total = x + residual", "return op(total) * weight, total"),
            "x * torch.rsqrt((x * {up}).square().mean(-1, True) * {down} * {down}"
            " + 1e-6)",
        ),
        Model(
            "gated_mlp",
            "(silu(gate) * op(up) * scale).to(bfloat16)",
            ("gate", "up", "scale"),
            frozenset({"scale"}),
            (
                "gated = torch.nn.functional.silu(gate) * op(up)",
                "return (gated * scale).to(torch.bfloat16)",
            ),
            "torch.relu(x * {up}) * x * {down}",
        ),
        Model(
            "two_ops",
            "op(op(x) * scale + residual)",
            ("x", "scale", "residual"),
            frozenset({"scale"}),
            ("return op(op(x) * scale + residual)",),
            "torch.relu(x * {up}) * x * {down}",
        ),
        Model(
            "two_norms",
            "op(op(x) * scale + residual), op is a norm",
            ("x", "scale", "residual"),
            frozenset({"scale"}),
            ("return op(op(x) * scale + residual)",),
            "x * torch.rsqrt((x * {up}).square().mean(-1, True) * {down} * {down}"
            " + 1e-6)",
        ),
    )
}
