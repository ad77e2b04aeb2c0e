"""Tells registrations apart for the caches of compiled graphs.

A cached graph holds the dispatch of the registrations that it was compiled with, so
the cache's key has to change with everything that a dispatch depends on: ranges,
winners, configs, and the code of implementations, of the Python functions they call
and of the values they close over.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import types
import uuid
from collections.abc import Iterator
from typing import Any

import sympy

import torch
from torch._inductor.range_dispatch.configs import CustomOpConfig
from torch.utils._ordered_set import OrderedSet
from torch.utils._python_dispatch import _disable_current_modes


# Stands in for what cannot be described: no other process has the same.
_PROCESS = uuid.uuid4().hex

_PLAIN = (int, float, complex, str, bytes, torch.dtype, torch.device, torch.layout)

# Larger tensors are not read for a cache key.
_MAX_TENSOR_BYTES = 1 << 16


def user_lowerings_key() -> list[tuple[str, str]]:
    """A part of a graph's cache key: each op with a user lowering, and its digest.

    All registered ops count, not just the graph's: which ops a graph turns into is
    not known yet when the key of an undecomposed graph is made.
    """
    from torch._inductor.lowering import user_lowerings

    return sorted((str(op), digest(fn)) for op, fn in user_lowerings.items())


def digest(value: Any) -> str:
    """A digest of what ``value`` is and does, the same in every process.

    Parts that cannot be described make it unique to this process, so that a graph is
    compiled anew rather than taken from a cache wrongly.
    """
    sha = hashlib.sha256()
    for part in _describe(value, OrderedSet()):
        sha.update(part.encode())
        sha.update(b"\0")
    return sha.hexdigest()


def _describe(value: Any, seen: OrderedSet[int]) -> Iterator[str]:
    yield type(value).__qualname__
    if value is None or value is ... or isinstance(value, _PLAIN):
        yield repr(value)
        return
    if isinstance(value, (types.ModuleType, types.BuiltinFunctionType)):
        yield f"{getattr(value, '__module__', '')}.{value.__name__}"
        return
    if isinstance(value, torch._library.custom_ops.CustomOpDef):
        value = value._opoverload
    if isinstance(
        value, (torch._ops.OpOverload, torch._ops.OpOverloadPacket, sympy.Basic)
    ):
        yield str(value)
        return
    if id(value) in seen:
        yield "seen before"
        return
    seen.add(id(value))
    for part in _parts(value):
        yield from _describe(part, seen)


def _parts(value: Any) -> Iterator[Any]:
    """What an object consists of, as far as it may change what the object does."""
    if isinstance(value, types.FunctionType):
        yield from _function_parts(value)
    elif inspect.ismethod(value):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, types.CodeType):
        yield from (value.co_code, value.co_consts, value.co_names, value.co_varnames)
    elif isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, (frozenset, OrderedSet)):
        yield from sorted(value, key=repr)
    elif isinstance(value, dict):
        for key in sorted(value, key=repr):
            yield from (key, value[key])
    elif isinstance(value, CustomOpConfig):
        yield from (value.decomposition, value.params, value.config_patches)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from (getattr(value, f.name) for f in dataclasses.fields(value))
    elif isinstance(value, torch.Tensor):
        yield _tensor_text(value)
    elif isinstance(value, type):
        yield f"{value.__module__}.{value.__qualname__}"
    elif _is_from_torch(value) and not isinstance(value, torch.nn.Module):
        yield f"{_PROCESS} {id(value)}"
    elif hasattr(value, "__dict__"):
        # The methods of an object decide what calling it does, its fields with what.
        methods = {
            name: method
            for name, method in vars(type(value)).items()
            if isinstance(method, types.FunctionType)
        }
        yield from (methods, vars(value))
    else:
        yield f"{_PROCESS} {id(value)}"


def _function_parts(function: types.FunctionType) -> Iterator[Any]:
    yield from (function.__qualname__, function.__module__)
    if (function.__module__ or "").partition(".")[0] == "torch":
        return  # the cache's key already holds torch's own source
    yield from (function.__code__, function.__defaults__, function.__kwdefaults__)
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            yield None
    for name in _global_names(function.__code__):
        if name in function.__globals__:
            yield from (name, function.__globals__[name])


def _global_names(code: types.CodeType) -> list[str]:
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names += _global_names(constant)
    return names


def _is_from_torch(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "torch"


def _tensor_text(tensor: torch.Tensor) -> str:
    with _disable_current_modes(), torch.no_grad():
        plain = tensor.detach()
        about = f"{tuple(plain.shape)} {plain.stride()} {plain.dtype} {plain.device}"
        if plain.nbytes > _MAX_TENSOR_BYTES:
            return f"{about} {_PROCESS} {id(tensor)}"
        flat = plain.cpu().contiguous().flatten().view(torch.uint8)
        return f"{about} {hashlib.sha256(bytes(flat.tolist())).hexdigest()}"
