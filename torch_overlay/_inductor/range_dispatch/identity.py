"""Digests of Python code and values, for the keys of caches.

A digest changes with the code of a function, of the Python code that it reaches by
name, and with the values that all of it reads.
"""

from __future__ import annotations

import copyreg
import functools
import hashlib
import importlib.util
import logging
import os
import sys
import sysconfig
import types
from typing import Any, TYPE_CHECKING

import sympy

import torch
from torch._inductor.range_dispatch.code_names import imports_of, names_of
from torch._library.custom_ops import OPDEFS
from torch._library.triton import get_triton_kernels_for_op
from torch.utils._ordered_set import OrderedSet
from torch.utils._python_dispatch import _disable_current_modes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


# Larger tensors are not read for a cache key, nor is more than so many objects.
_MAX_TENSOR_BYTES = 1 << 22
_MAX_OBJECTS = 20_000

_PLAIN = (
    type(None),
    type(...),
    type(NotImplemented),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
)
_Packet = torch._ops.OpOverloadPacket
_DESCRIPTORS = (
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
# Libraries that are known by name, as the standard library is.
_RELEASED = ("torch", "triton", "numpy", "sympy", "builtins")
# Parts of a class that do not change what it does.
_INERT_ATTRIBUTES = (
    "__annotations__",
    "__dataclass_fields__",
    "__dataclass_params__",
    "__dict__",
    "__doc__",
    "__module__",
    "__slotnames__",
    "__weakref__",
    "_abc_impl",
)
# Dynamo puts notes of its own on functions, some while they run.
_DYNAMO_ATTRIBUTES = ("__dynamo", "_dynamo", "_torchdynamo")
_NAMES_AT_RUN_TIME = ("__import__", "eval", "exec", "globals", "vars")
_CODE_FIELDS = (
    "co_code",
    "co_consts",
    "co_names",
    "co_varnames",
    "co_freevars",
    "co_cellvars",
    "co_flags",
    "co_exceptiontable",
)


class Indescribable(Exception):
    """Says which value has no digest that changes with all that the value does."""


def digest(value: Any) -> str:
    """A digest of what ``value`` is and does, the same in every process.

    Raises:
        Indescribable: there is none.
    """
    return described(value)[0]


def described(value: Any) -> tuple[str, OrderedSet[str]]:
    """A digest, and all strings that were met: names in code, constants, ops.

    Raises:
        Indescribable: there is none.
    """
    walk = _Walk()
    try:
        return walk.digest(value), walk.strings
    except Indescribable:
        raise
    except Exception as error:  # of a repr or a reduction, which are anyone's code
        raise Indescribable(f"{type(error).__name__}: {error}") from error


def digest_of_implementation(function: Any, params: Any, config_patches: Any) -> str:
    """A digest of all that an implementation runs, inside of an op's kernels, too.

    Raises:
        Indescribable: there is none.
    """
    definition = OPDEFS.get(getattr(function, "_name", ""))
    kernels = definition and (definition._init_fn, definition._backend_fns)
    return digest((function, params, config_patches, kernels))


class _Walk:
    """Visits everything that a value consists of, each object once."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self.strings: OrderedSet[str] = OrderedSet()
        self._numbers: dict[int, int] = {}
        self._visited: list[Any] = []  # keeps ids from being used again

    def digest(self, value: Any) -> str:
        # No recursion: chains of calls may be longer than Python's stack.
        pending = [iter((value,))]
        while pending:
            for part in pending[-1]:
                parts = self._visit(part)
                if parts is not None:
                    pending.append(parts)
                    break
            else:
                pending.pop()
                self._write("end")
        return self._sha.hexdigest()

    def _write(self, text: str) -> None:
        self._sha.update(text.encode("utf-8", "backslashreplace"))
        self._sha.update(b"\0")

    def _visit(self, value: Any) -> Iterator[Any] | None:
        """Write what is plain; the parts of anything else."""
        self._write(type(value).__qualname__)
        text = _text(value)
        if text is not None:
            self._write(text)
            if isinstance(value, (str, torch._ops.OpOverload, _Packet)):
                self.strings.add(str(value))
            return None
        number = self._numbers.setdefault(id(value), len(self._visited))
        if number < len(self._visited):
            self._write(f"again {number}")
            return None
        if number == _MAX_OBJECTS:
            raise Indescribable(f"it reaches more than {_MAX_OBJECTS} objects")
        self._visited.append(value)
        return iter(_parts(value))


def _text(value: Any) -> str | None:
    """All that there is to say about a value, None if it has parts."""
    kind = type(value)
    if kind in _PLAIN:
        return repr(value)
    if isinstance(value, torch.Tensor):
        return _tensor_text(value)
    if isinstance(value, sympy.Basic):
        return sympy.srepr(value)
    if isinstance(value, (_Packet, torch._ops.HigherOrderOperator)):
        return str(value)
    if isinstance(value, torch._ops.OpOverload):
        return None if get_triton_kernels_for_op(value._name) else str(value)
    if isinstance(value, logging.Logger):
        return value.name
    if isinstance(value, _DESCRIPTORS):
        return f"{value.__objclass__.__qualname__}.{value.__name__}"
    if isinstance(value, types.ModuleType) and is_released(value.__name__):
        return value.__name__
    if isinstance(value, type) and is_released(value.__module__):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, types.FunctionType) and is_released(value.__module__):
        if not value.__closure__ and value is not os.getenv:
            return f"{value.__module__}.{value.__qualname__}"
    return None


def _parts(value: Any) -> Iterable[Any]:
    """What an object consists of, as far as it may change what the object does."""
    if isinstance(value, types.FunctionType):
        return _function_parts(value)
    if isinstance(value, types.MethodType):
        return value.__func__, value.__self__
    if isinstance(value, types.BuiltinFunctionType):
        return value.__module__, value.__qualname__, value.__self__
    if isinstance(value, types.CodeType):
        return [getattr(value, field, None) for field in _CODE_FIELDS]
    if isinstance(value, types.CellType):
        return _cell_contents(value)
    if isinstance(value, types.ModuleType):
        raise Indescribable(f"module {value.__name__} as a value")
    if isinstance(value, type):
        return _class_parts(value)
    if isinstance(value, functools.partial):
        return type(value), value.func, value.args, value.keywords, vars(value)
    if isinstance(value, (staticmethod, classmethod)):
        return (value.__func__,)
    if isinstance(value, property):
        return value.fget, value.fset, value.fdel
    if isinstance(value, functools.cached_property):
        return (value.func,)
    if isinstance(value, torch._library.custom_ops.CustomOpDef):
        return (value._opoverload,)
    if isinstance(value, torch._ops.OpOverload):  # a Triton op is traced through
        return str(value), OPDEFS[value._name]._init_fn
    if type(value) in (list, tuple):
        return value
    if type(value) in (set, frozenset):  # noqa: set_linter (what users may have)
        return sorted(value, key=repr)
    if type(value) is dict:
        return (part for item in value.items() for part in item)
    if type(value).__module__.partition(".")[0] == "triton" and hasattr(value, "fn"):
        return value.fn, [str(one) for one in getattr(value, "configs", ())]
    return _instance_parts(value)


def _function_parts(function: types.FunctionType) -> Iterator[Any]:
    compiled = vars(function).get("_torchdynamo_orig_callable")
    if compiled is not None:
        yield compiled
        return
    yield from (function.__qualname__, function.__module__)
    yield from (function.__defaults__, function.__kwdefaults__)
    for name, value in vars(function).items():
        if not name.startswith(_DYNAMO_ATTRIBUTES):
            yield from (name, value)
    yield from function.__closure__ or ()
    if function is os.getenv:
        yield os.environ
    if is_released(function.__module__):
        return  # what it calls has the same version
    yield function.__code__
    for name, value in _found_by_name(function):
        yield from (name, value)


def _found_by_name(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function and the functions inside it find in modules, by name.

    Which name is looked up in which module is not told apart: rather too much.
    """
    code = function.__code__
    names, loaded = names_of(code)
    scope = function.__globals__
    for name in _NAMES_AT_RUN_TIME:
        if name in loaded and name not in scope:
            raise Indescribable(f"{function.__qualname__} calls {name}")
    found = [(name, scope[name]) for name in names if name in scope]
    cells = zip(code.co_freevars, function.__closure__ or ())
    found += [(name, part) for name, cell in cells for part in _cell_contents(cell)]
    found += [(name, _imported(name, level, scope)) for name, level in imports_of(code)]
    reached: dict[str, types.ModuleType] = {}
    for name, value in found:  # grows
        if not isinstance(value, types.ModuleType):
            yield name, value
        elif value.__name__ not in reached:
            reached[value.__name__] = value
            found += _attributes(value, names, loaded)


def _attributes(
    module: types.ModuleType, names: Iterable[str], loaded: Iterable[str]
) -> list[tuple[str, Any]]:
    """The names that are found in a module, which may be of another module."""
    if module is os:
        return [("environ", os.environ)] if "environ" in names else _getenv(names)
    if module is importlib and "import_module" in names:
        raise Indescribable("it calls importlib.import_module")
    if is_released(module.__name__):
        return []
    members = vars(module)
    if "getattr" in loaded or "__getattr__" in members:
        raise Indescribable(f"names in module {module.__name__} are made at run time")
    found = [name for name in names if name in members]
    return [(f"{module.__name__}.{name}", members[name]) for name in found]


def _getenv(names: Iterable[str]) -> list[tuple[str, Any]]:
    return [("getenv", os.getenv)] if "getenv" in names else []


def _imported(name: str, level: int, scope: dict[str, Any]) -> Any:
    """The module that an import statement in a function gives."""
    if level:
        package = scope.get("__package__") or ""
        name = importlib.util.resolve_name("." * level + name, package)
    if name not in sys.modules:
        raise Indescribable(f"module {name} is not imported yet")
    return sys.modules[name]


def _cell_contents(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # not assigned yet
        return ()


def _class_parts(cls: type) -> Iterator[Any]:
    yield from (cls.__module__, cls.__qualname__, cls.__bases__, type(cls))
    for name, value in vars(cls).items():
        if name not in _INERT_ATTRIBUTES:
            yield from (name, value)


def _instance_parts(value: Any) -> Iterator[Any]:
    """The class, which decides what calling an object does, and the object's state."""
    cls = type(value)
    yield cls
    for name in ("__reduce_ex__", "__reduce__", "__getstate__"):
        owner = next((one for one in cls.__mro__ if name in vars(one)), object)
        if not is_released(owner.__module__):
            raise Indescribable(f"{cls.__qualname__} has a {name} of its own")
    reduce = copyreg.dispatch_table.get(cls)
    # Raises for state that is not in Python attributes.
    reduced = reduce(value) if reduce else value.__reduce_ex__(2)
    if isinstance(reduced, str):
        yield reduced
    else:
        yield from reduced[:3]
        yield from (list(items) for items in reduced[3:5] if items is not None)


@functools.cache
def _is_released_package(package: str) -> bool:
    if package in _RELEASED:
        return True
    if package not in sys.stdlib_module_names:
        return False
    # A file of the user may have the name of a standard module.
    path = getattr(sys.modules.get(package), "__file__", None)
    paths = sysconfig.get_paths()
    return path is None or (
        path.startswith((paths["stdlib"], paths["platstdlib"]))
        and not path.startswith((paths["purelib"], paths["platlib"]))
    )


def is_released(module: str | None) -> bool:
    """Whether a module is part of Python or of a library known by its name."""
    return _is_released_package((module or "").partition(".")[0])


def _tensor_text(tensor: torch.Tensor) -> str:
    with _disable_current_modes(), torch.no_grad():
        plain = tensor.detach()
        if plain.nbytes > _MAX_TENSOR_BYTES:
            raise Indescribable(f"a tensor of {plain.nbytes} bytes")
        flat = plain.cpu().contiguous().flatten().view(torch.uint8)
        content = hashlib.sha256(flat.numpy().data).hexdigest()
    about = (tuple(plain.shape), plain.stride(), plain.dtype, plain.device)
    return f"{about} {tensor.requires_grad} {content}"
