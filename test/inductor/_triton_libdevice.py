"""What libdevice's functions and in-line assembly compute, as PyTorch functions."""

from __future__ import annotations

from collections.abc import Callable

import torch

TorchFunction = Callable[..., torch.Tensor]


def _round_half_away(values: torch.Tensor) -> torch.Tensor:
    return torch.copysign(torch.floor(values.abs() + 0.5), values)


def _exponent(values: torch.Tensor) -> torch.Tensor:
    return torch.frexp(values).exponent - 1


def _fused_multiply_add(
    x: torch.Tensor, y: torch.Tensor, z: torch.Tensor
) -> torch.Tensor:
    # A product of two float32 is exact in float64.
    return (x.double() * y.double() + z.double()).to(x.dtype)


_SAME_NAME_IN_TORCH = [
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "ceil",
    "copysign",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "erfinv",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "fmod",
    "hypot",
    "isfinite",
    "isinf",
    "isnan",
    "ldexp",
    "lgamma",
    "log",
    "log10",
    "log1p",
    "log2",
    "nextafter",
    "pow",
    "rsqrt",
    "signbit",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
]

_ROUNDED_TO_NEAREST = {
    f"{kind}{name}_rn": getattr(torch, name)
    for kind in "fd"
    for name in ("add", "div", "mul", "sqrt", "sub")
}

# By the name between "__nv_" and the suffix for the type.
_LIBDEVICE: dict[str, TorchFunction] = {
    **{name: getattr(torch, name) for name in _SAME_NAME_IN_TORCH},
    **_ROUNDED_TO_NEAREST,
    "cbrt": lambda x: torch.copysign(x.abs() ** (1 / 3), x),
    "cospi": lambda x: torch.cos(torch.pi * x),
    "cyl_bessel_i0": torch.special.i0,
    "cyl_bessel_i1": torch.special.i1,
    "double_as_longlong": lambda x: x.view(torch.int64),
    "erfcx": torch.special.erfcx,
    "exp10": lambda x: torch.pow(10, x),
    "fabs": torch.abs,
    "fast_exp": torch.exp,
    "fast_log": torch.log,
    "fast_tanh": torch.tanh,
    "fdim": lambda x, y: (x - y).clamp(min=0),
    "finite": torch.isfinite,
    "float_as_int": lambda x: x.view(torch.int32),
    "fma": _fused_multiply_add,
    "ilogb": _exponent,
    "int_as_float": lambda x: x.view(torch.float32),
    "j0": torch.special.bessel_j0,
    "j1": torch.special.bessel_j1,
    "llabs": torch.abs,
    "llrint": torch.round,
    "llround": _round_half_away,
    "logb": _exponent,
    "longlong_as_double": lambda x: x.view(torch.float64),
    "nearbyint": torch.round,
    "normcdf": torch.special.ndtr,
    "normcdfinv": torch.special.ndtri,
    "powi": torch.pow,
    "rcbrt": lambda x: 1 / torch.copysign(x.abs() ** (1 / 3), x),
    "remainder": lambda x, y: x - y * torch.round(x / y),
    "rint": torch.round,
    "round": _round_half_away,
    "saturate": lambda x: x.clamp(0, 1),
    "scalbn": torch.ldexp,
    "sinpi": lambda x: torch.sin(torch.pi * x),
    "y0": torch.special.bessel_y0,
    "y1": torch.special.bessel_y1,
}

# The instructions that Inductor writes in line.
_INSTRUCTIONS: dict[str, TorchFunction] = {
    "fma.rn.f32": _fused_multiply_add,
    "rcp.approx.ftz.f32": torch.reciprocal,
}


def libdevice_function(symbol: str) -> TorchFunction:
    name = symbol.removeprefix("__nv_")
    # The type's suffix is a letter that may as well belong to the name (erf).
    for candidate in (name, name[:-1]):
        if candidate in _LIBDEVICE:
            return _LIBDEVICE[candidate]
    raise NotImplementedError(f"add libdevice's {symbol} to _LIBDEVICE")


def instruction(assembly: str) -> TorchFunction:
    name, _, operands = assembly.strip().partition(" ")
    if name in _INSTRUCTIONS and operands.count(";") == 1:
        return _INSTRUCTIONS[name]
    raise NotImplementedError(f"add the assembly {assembly!r} to _INSTRUCTIONS")
