"""Digests of Python code and values, for the keys of caches.

A digest changes with the code of a function, with all the Python code that it reaches
by name, and with the values that any of it reads.
"""

from __future__ import annotations

import contextlib
import copyreg
import dataclasses
import functools
import hashlib
import importlib.util
import itertools
import operator
import os
import sys
import sysconfig
import types
from modulefinder import ModuleFinder
from typing import Any, TYPE_CHECKING

import torch
from torch._higher_order_ops.triton_kernel_wrap import TraceableTritonKernelWrapper
from torch._library.custom_ops import CustomOpDef, OPDEFS
from torch._library.triton import triton_ops_to_kernels
from torch._ops import HigherOrderOperator, OpOverload, OpOverloadPacket
from torch.utils._ordered_set import OrderedSet
from torch.utils._python_dispatch import _disable_current_modes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


# Larger tensors are not read for a cache key, nor is more than so many objects.
_MAX_TENSOR_BYTES = 1 << 22
_MAX_OBJECTS = 20_000
# Libraries that are known by name, as the standard library is.
_RELEASED = ("torch", "triton", "numpy", "sympy", "builtins")
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_CODE = "code consts names varnames freevars cellvars flags exceptiontable argcount "
_CODE += "posonlyargcount kwonlyargcount"
_KERNEL = "fn src configs values restore_value reset_to_zero early_config_prune"
# What makes up that which pickle knows by name only, or not at all.
_ATTRIBUTES: dict[Any, list[str]] = {
    types.CodeType: [f"co_{name}" for name in _CODE.split()],
    types.MethodType: ["__func__", "__self__"],
    types.ModuleType: ["__name__"],
    types.MemberDescriptorType: ["__objclass__", "__name__"],
    (staticmethod, classmethod): ["__func__"],
    property: ["fget", "fset", "fdel"],
    functools.cached_property: ["func"],
    dataclasses.Field: ["name", "default", "default_factory", "metadata"],
    CustomOpDef: ["_opoverload"],
    TraceableTritonKernelWrapper: ["kernel", "grid"],
}
# What Python derives, counts or keeps for itself, and Dynamo's notes.
_INERT: tuple[str, ...] = ("__annotat", "__dict__", "__doc__", "__module__")
_INERT += ("__slotnames__", "__weakref__", "__static_attributes__", "__firstlineno__")
_INERT += ("_abc_impl", "_autograd_function_id", "__dynamo", "_dynamo", "_torchdynamo")
# Names by which code may reach any global, or any attribute of a module.
_ANY_GLOBAL = ("eval", "exec", "globals", "__globals__", "__import__", "import_module")
_ANY_ATTRIBUTE = ("getattr", "vars", "__dict__", "__getattribute__", "attrgetter")
_ENVIRONMENT = ("environ", "environb", "getenv", "getenvb")


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
    except Exception as error:  # of a reduction, which is anyone's code
        raise Indescribable(f"{type(error).__name__}: {error}") from error


def digest_of_implementation(function: Any, params: Any, config_patches: Any) -> str:
    """A digest of all that an implementation runs, inside of an op's kernels, too.

    Raises:
        Indescribable: there is none.
    """
    definition = OPDEFS.get(getattr(function, "_name", ""))
    kernels = definition and (definition._init_fn, definition._backend_fns)
    return digest((function, params, config_patches, kernels))


@functools.cache
def is_released(module: str | None) -> bool:
    """Whether a module is part of Python or of a library known by its name."""
    package = (module or "").partition(".")[0]
    if package in _RELEASED or package not in sys.stdlib_module_names:
        return package in _RELEASED
    # A file of the user may have the name of a standard module.
    path = getattr(sys.modules.get(package), "__file__", None)
    standard = tuple(sysconfig.get_path(one) for one in ("stdlib", "platstdlib"))
    return not path or (path.startswith(standard) and "site-packages" not in path)


class _Walk:
    """Visits everything that a value consists of, each object once."""

    def __init__(self) -> None:
        self.strings: OrderedSet[str] = OrderedSet()
        self._objects: list[Any] = []  # keeps ids from being used again
        self._numbers: dict[int, int] = {}
        self._names: OrderedSet[str] = OrderedSet()
        self._found: OrderedSet[Any] = OrderedSet()

    def digest(self, value: Any) -> str:
        sha = hashlib.sha256(self._text(value).encode())
        for one in self._objects:  # grows
            is_function = isinstance(one, types.FunctionType)
            parts = self._parts_of_function(one) if is_function else _parts(one)
            sha.update(repr([*map(self._text, parts)]).encode())
            if one is self._objects[-1]:
                sha.update(repr([*map(self._text, self._found_by_name())]).encode())
        return sha.hexdigest()

    def _text(self, value: Any) -> str:
        """All that there is to say of a plain value, else the number of its visit."""
        if type(value) in _PLAIN:
            text = repr(value)
        elif isinstance(value, (OpOverloadPacket, OpOverload, HigherOrderOperator)):
            text = str(value)
        elif (name := _released_name(value)) is not None:
            text = name
            self._names.add(name.rpartition(".")[2])
        else:
            number = self._numbers.setdefault(id(value), len(self._objects))
            if number == len(self._objects):
                self._objects.append(value)
            if number == _MAX_OBJECTS:
                raise Indescribable(f"it reaches more than {_MAX_OBJECTS} objects")
            text = f"#{number}"
        if isinstance(value, (str, OpOverloadPacket, OpOverload)):
            self.strings.add(str(value))
        return f"{type(value).__qualname__} {text}"

    def _parts_of_function(self, function: types.FunctionType) -> Iterator[Any]:
        scope = function.__globals__
        is_library = is_released(scope.get("__name__"))
        if is_library and "_torchdynamo_orig_callable" in vars(function):
            yield vars(function)["_torchdynamo_orig_callable"]
            return
        yield from (function.__qualname__, function.__module__, function.__closure__)
        yield from (function.__defaults__, function.__kwdefaults__, *_own(function))
        names, imports = _names_and_imports(function.__code__)
        if any(name in names for name in _ENVIRONMENT):
            yield sorted(os.environ.items())
        if is_library:
            return  # what it calls has the same version
        yield function.__code__
        self._names |= names
        for name in names:
            if name in scope:
                yield from (name, scope[name])
        if "sys" in names and "modules" in names:
            raise Indescribable(f"{function.__qualname__} reads sys.modules")
        for *level, members, name in imports:
            package = scope.get("__package__") or ""
            name = importlib.util.resolve_name("." * sum(level) + name, package)
            yield from _imported(name, members or ())

    def _found_by_name(self) -> Iterator[Any]:
        """What modules have by any name in the code so far, which is rather too much,
        and the Triton ops that it may call, as they are traced through."""
        if used := [name for name in _ANY_GLOBAL if name in self._names]:
            raise Indescribable(f"what {used[0]} reaches is known at run time only")
        reads_any = any(name in self._names for name in _ANY_ATTRIBUTE)
        for number, module in enumerate(self._objects):
            if isinstance(module, types.ModuleType):
                members = vars(module)
                if reads_any or "__getattr__" in members:
                    what = f"names in module {module.__name__} are made at run time"
                    raise Indescribable(what)
                for name in self._names:
                    if name in members and (number, name) not in self._found:
                        self._found.add((number, name))
                        yield from (number, name, members[name])
        for name in sorted(triton_ops_to_kernels):
            packet = name.replace("::", ".")
            called = (name, packet, f"{packet}.default", name.partition("::")[2])
            if name not in self._found and any(one in self.strings for one in called):
                self._found.add(name)
                yield from (name, OPDEFS[name]._init_fn)


def _released_name(value: Any) -> str | None:
    """The name of a part of a library, if it is found there by that name.

    Other things may bear such a name, too: what ``functools.wraps`` makes, for one.
    """
    if isinstance(value, types.ModuleType):
        return value.__name__ if is_released(value.__name__) else None
    kinds = (type, types.FunctionType, types.BuiltinFunctionType)
    if isinstance(value, kinds) and is_released(value.__module__):
        home = getattr(value, "__globals__", {"__name__": "builtins"}).get("__name__")
        module = sys.modules.get(value.__module__)
        with contextlib.suppress(AttributeError):
            found = operator.attrgetter(value.__qualname__)(module)
            # `os.getenv` reads what may change.
            if found is value and is_released(home) and home != "os":
                return f"{value.__module__}.{value.__qualname__}"
    return None


def _parts(value: Any) -> Iterable[Any]:
    """What an object consists of, as far as it may change what the object does."""
    kind = type(value)
    if kind in (list, tuple):
        return value
    if kind in (set, frozenset):  # noqa: set_linter (what users may have)
        return sorted(value, key=digest)
    if kind in (dict, types.MappingProxyType):
        return itertools.chain.from_iterable(value.items())
    if isinstance(value, type):
        return value.__module__, value.__qualname__, value.__bases__, kind, *_own(value)
    if isinstance(value, torch.Tensor):
        return _parts_of_tensor(value)
    if isinstance(value, types.CellType):
        return [value.cell_contents] if value != types.CellType() else []
    for known, names in _ATTRIBUTES.items():
        if isinstance(value, known):
            return [getattr(value, name, None) for name in names]
    if isinstance(value, types.BuiltinFunctionType) or "__objclass__" in vars(kind):
        owner = getattr(value, "__objclass__", None) or value.__self__
        home = getattr(owner, "__module__", None) or getattr(owner, "__name__", None)
        if isinstance(owner, (type, types.ModuleType)) and not is_released(home):
            raise Indescribable(f"{home}.{value.__qualname__} is compiled")
        return owner, value.__qualname__, getattr(value, "__module__", None)
    if kind.__module__.partition(".")[0] == "triton" and hasattr(value, "fn"):
        return [getattr(value, name, None) for name in _KERNEL.split()]
    return _parts_of_instance(value)


def _parts_of_instance(value: Any) -> Iterator[Any]:
    """The class, which decides what calling an object does, and the object's state."""
    cls = type(value)
    yield cls
    for name in ("__reduce_ex__", "__reduce__", "__getstate__"):
        owner = next((one for one in cls.__mro__ if name in vars(one)), object)
        if not is_released(owner.__module__):
            raise Indescribable(f"{cls.__qualname__} has a {name} of its own")
    reduce = is_released(cls.__module__) and copyreg.dispatch_table.get(cls)
    # Raises for state that is not in Python attributes.
    reduced = reduce(value) if reduce else value.__reduce_ex__(2)
    if isinstance(reduced, str):
        yield from (reduced, getattr(value, "__wrapped__", None))
    else:
        yield from reduced[:3]
        yield from (list(items) for items in reduced[3:5] if items is not None)


def _own(value: Any) -> Iterator[Any]:
    """The names and values of the attributes that may change what an object does."""
    for name, attribute in vars(value).items():
        if not name.startswith(_INERT):
            yield from (name, attribute)


@functools.lru_cache(maxsize=4096)
def _names_and_imports(code: types.CodeType) -> tuple[OrderedSet[str], list[Any]]:
    """The globals and attributes that code names, and the code inside it; and what it
    imports: the number of leading dots, if any, the members and the module."""
    names: OrderedSet[str] = OrderedSet(code.co_names)
    found = ModuleFinder([]).scan_opcodes(code)
    imports = [row for kind, row in found if kind != "store"]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner_names, inner_imports = _names_and_imports(constant)
            names |= inner_names
            imports += inner_imports
    return names, imports


def _imported(name: str, members: Iterable[str]) -> Iterator[types.ModuleType]:
    """The modules that an import statement in a function reaches."""
    modules = [*itertools.accumulate(name.split("."), "{}.{}".format)]
    if name in sys.modules and not is_released(name):
        missing = [one for one in members if one not in vars(sys.modules[name])]
        modules += [f"{name}.{one}" for one in missing]
    for module in modules:
        if module not in sys.modules:
            raise Indescribable(f"module {module} is not imported yet")
        yield sys.modules[module]


def _parts_of_tensor(tensor: torch.Tensor) -> Iterator[Any]:
    with _disable_current_modes(), torch.no_grad():
        plain = tensor.detach()
        if plain.nbytes > _MAX_TENSOR_BYTES:
            raise Indescribable(f"a tensor of {plain.nbytes} bytes")
        flat = plain.cpu().contiguous().flatten().view(torch.uint8).numpy()
    yield from (type(tensor), hashlib.sha256(flat.data).digest(), *_own(tensor))
    yield from (tensor.shape, tensor.stride(), tensor.requires_grad)
    yield from (tensor.dtype, tensor.device)
