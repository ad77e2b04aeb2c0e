"""Runs a Triton kernel's Python source on CPU tensors, with Triton's interpreter.

The interpreter is the one that Triton comes with, corrected where its operations, its
reductions or its reading of the source differ from what the compiled kernel does.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import textwrap
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

import numpy as np
import triton
import triton.language as tl
from _triton_libdevice import instruction, libdevice_function, TorchFunction
from triton._C.libtriton import ir
from triton.language.extra import libdevice as portable_libdevice
from triton.language.extra.cuda import libdevice as cuda_libdevice
from triton.language.semantic import TritonSemantic
from triton.runtime import interpreter
from triton.runtime.interpreter import TensorHandle
from triton.runtime.jit import JITFunction

import torch
from torch._inductor.runtime import triton_helpers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# --------------------------------------------------- replacing things for a while

_ABSENT = object()


class _Replacements:
    """Attributes to be replaced together, and put back exactly as they were.

    It has the one method of Triton's own patch scope, so that the interpreter's
    functions can fill it.
    """

    def __init__(self) -> None:
        self._values: dict[tuple[Any, str], object] = {}

    def set_attr(self, owner: Any, name: str, value: object) -> None:
        self._values[owner, name] = value

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        # vars(), because getattr() would also find what is inherited.
        originals = [
            (owner, name, vars(owner).get(name, _ABSENT))
            for owner, name in self._values
        ]
        try:
            for (owner, name), value in self._values.items():
                setattr(owner, name, value)
            yield
        finally:
            for owner, name, original in originals:
                if original is not _ABSENT:
                    setattr(owner, name, original)
                elif name in vars(owner):
                    delattr(owner, name)


# -------------------------------------------------------------- arithmetic

# NumPy has no such types: the interpreter holds their bits in integers.
_BIT_TYPES: dict[tl.dtype, torch.dtype] = {
    tl.bfloat16: torch.bfloat16,
    tl.float8e4nv: torch.float8_e4m3fn,
    tl.float8e5: torch.float8_e5m2,
}

_uncached_numpy_dtype = interpreter._get_np_dtype
_numpy_dtypes: dict[str, np.dtype] = {}


def _numpy_dtype(dtype: tl.dtype) -> np.dtype:
    """Most of the interpreter's time went into its table, built at each call."""
    if dtype.name not in _numpy_dtypes:
        _numpy_dtypes[dtype.name] = _uncached_numpy_dtype(dtype)
    return _numpy_dtypes[dtype.name]


def _as_torch(data: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(data))


def _numbers(handle: TensorHandle) -> np.ndarray:
    """The values of a handle, in a type that NumPy can compute with."""
    bit_type = _BIT_TYPES.get(handle.dtype.scalar)
    if bit_type is None:
        return handle.data
    bits = _as_torch(handle.data)
    bits = bits.view(torch.int16 if bits.itemsize == 2 else torch.uint8)
    return bits.view(bit_type).to(torch.float32).numpy()


def _handle(values: np.ndarray, dtype: tl.dtype) -> TensorHandle:
    """Rounds values to ``dtype``, as a store into a register of it does."""
    scalar = dtype.scalar
    bit_type = _BIT_TYPES.get(scalar)
    if bit_type is not None:
        rounded = _as_torch(values).to(bit_type)
        unsigned = torch.uint16 if rounded.itemsize == 2 else torch.uint8
        return TensorHandle(rounded.view(unsigned).numpy(), scalar)
    return TensorHandle(values.astype(_numpy_dtype(scalar), copy=False), scalar)


@dataclass
class _InlineAssembly:
    """The operation as the language wants it: its results by number."""

    result: TensorHandle

    def get_result(self, position: int) -> TensorHandle:
        assert position == 0
        return self.result


class _Builder(interpreter.InterpreterBuilder):
    """The interpreter's operations, where it differs from what a GPU computes."""

    def binary_op(
        self, lhs: TensorHandle, rhs: TensorHandle, op: Callable[..., np.ndarray]
    ) -> TensorHandle:
        output = op(_numbers(lhs), _numbers(rhs))
        # A comparison's handle would else claim to hold its operands' type.
        return _handle(output, tl.int1 if output.dtype == bool else lhs.dtype)

    def unary_op(
        self, arg: TensorHandle, op: Callable[..., np.ndarray]
    ) -> TensorHandle:
        return _handle(op(_numbers(arg)), arg.dtype)

    def cast_impl(self, src: TensorHandle, dst_type: tl.dtype) -> TensorHandle:
        return _handle(_numbers(src), dst_type)

    def create_fp_to_fp(
        self, src: TensorHandle, dst_type: tl.dtype, rounding_mode: object
    ) -> TensorHandle:
        return _handle(_numbers(src), dst_type)

    def create_fma(
        self, x: TensorHandle, y: TensorHandle, z: TensorHandle
    ) -> TensorHandle:
        return _handle(_numbers(x) * _numbers(y) + _numbers(z), z.dtype)

    def create_rsqrt(self, arg: TensorHandle) -> TensorHandle:
        return self.unary_op(arg, lambda values: 1 / np.sqrt(values))

    def create_dot(
        self,
        a: TensorHandle,
        b: TensorHandle,
        accumulator: TensorHandle,
        input_precision: object,
        max_num_imprecise_acc: object,
    ) -> TensorHandle:
        dtype = accumulator.data.dtype
        product = np.matmul(_numbers(a), _numbers(b), dtype=dtype)
        return _handle(product + accumulator.data, accumulator.dtype)

    def get_all_ones_value(self, dtype: tl.dtype) -> TensorHandle:
        # The interpreter writes -1, which NumPy does not take for unsigned types.
        zero = np.zeros(1, dtype=_numpy_dtype(dtype.scalar))
        return TensorHandle(np.invert(zero), dtype.scalar)

    def get_bf16(self, value: float) -> TensorHandle:
        return _handle(np.array([value], dtype=np.float32), tl.bfloat16)

    def create_extern_elementwise(
        self,
        library_name: str,
        library_path: str,
        symbol: str,
        args: list[TensorHandle],
        return_type: tl.dtype,
        is_pure: bool,
    ) -> TensorHandle:
        return _apply(libdevice_function(symbol), args, return_type)

    def create_inline_asm(
        self,
        assembly: str,
        constraints: str,
        args: list[TensorHandle],
        types: list[tl.dtype],
        is_pure: bool,
        pack: int,
    ) -> _InlineAssembly:
        return _InlineAssembly(_apply(instruction(assembly), args, types[0]))

    def create_atomic_rmw(
        self,
        operation: Any,
        pointer: TensorHandle,
        value: TensorHandle,
        mask: TensorHandle,
        semantics: object,
        scope: object,
    ) -> TensorHandle:
        if value.dtype.scalar not in _BIT_TYPES:
            return super().create_atomic_rmw(
                operation, pointer, value, mask, semantics, scope
            )
        assert operation == ir.ATOMIC_OP.FADD, operation
        return self._atomic_add_bits(pointer, value, mask)

    def _atomic_add_bits(
        self, pointer: TensorHandle, value: TensorHandle, mask: TensorHandle
    ) -> TensorHandle:
        """Element by element, as two may point to the same place."""
        before = np.zeros_like(value.data)
        # Releases of Triton differ in what there is to say of caching.
        known = inspect.signature(self.create_masked_load).parameters
        hints = [*[None] * (len(known) - 3), False]
        for index in np.ndindex(value.data.shape):
            place, addend, active = (
                TensorHandle(handle.data[index].reshape(1), handle.dtype)
                for handle in (pointer, value, mask)
            )
            old = self.create_masked_load(place, active, *hints)
            new = self.create_fadd(old, addend)
            self.create_masked_store(place, new, active, *hints[1:-1])
            before[index] = old.data.item()
        return TensorHandle(before, value.dtype)


def _apply(
    function: TorchFunction, args: Sequence[TensorHandle], dtype: tl.dtype
) -> TensorHandle:
    result = function(*(_as_torch(arg.data) for arg in args))
    return _handle(result.numpy(), dtype)


# ------------------------------------------------- reductions and scans


def _wrap(data: np.ndarray, dtype: tl.dtype) -> tl.tensor:
    """A tensor of the language; a scalar is held in an array of one element."""
    if data.ndim == 0:
        return tl.tensor(TensorHandle(data.reshape(1), dtype), dtype)
    return tl.tensor(TensorHandle(data, dtype), tl.block_type(dtype, list(data.shape)))


def _combine(
    combine_function: Callable[..., Any],
    dtypes: Sequence[tl.dtype],
    left: Sequence[np.ndarray],
    right: Sequence[np.ndarray],
) -> list[np.ndarray]:
    operands = [*zip(left, dtypes), *zip(right, dtypes)]
    combined = combine_function(*(_wrap(data, dtype) for data, dtype in operands))
    if not isinstance(combined, tuple):
        combined = (combined,)
    results = (
        interpreter.interpreter_semantic.to_tensor(result) for result in combined
    )
    return [
        np.broadcast_to(result.handle.data.astype(data.dtype, copy=False), data.shape)
        for result, data in zip(results, left)
    ]


def _per_tensor(
    apply: Callable[..., tuple[tl.tensor, ...]],
) -> Callable[..., Any]:
    """``tl.reduce`` and ``tl.associative_scan`` take one tensor or a tuple."""

    @functools.wraps(apply)
    def applied(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(tensors, tl.tensor):
            return apply((tensors,), *args, **kwargs)[0]
        return apply(tuple(tensors), *args, **kwargs)

    return applied


@_per_tensor
def _reduce(
    tensors: Sequence[tl.tensor],
    axis: int | None,
    combine_fn: Callable[..., Any],
    keep_dims: bool = False,
    **_: object,
) -> tuple[tl.tensor, ...]:
    """``tl.reduce`` in log2(size) calls of its function on whole blocks.

    The interpreter's own calls it for every element and knows some functions by
    name; it then ignores the indices that are reduced along with the values.
    """
    axis = tl.core._unwrap_if_constexpr(axis)
    dtypes = [tensor.dtype for tensor in tensors]
    blocks = [tensor.handle.data for tensor in tensors]
    rank = blocks[0].ndim
    if axis is None:
        blocks = [np.moveaxis(block.reshape(-1), 0, -1) for block in blocks]
    else:
        blocks = [np.moveaxis(block, axis, -1) for block in blocks]
    while blocks[0].shape[-1] > 1:
        blocks = _combine(
            combine_fn,
            dtypes,
            [block[..., 0::2] for block in blocks],
            [block[..., 1::2] for block in blocks],
        )
    if not tl.core._unwrap_if_constexpr(keep_dims):
        blocks = [block[..., 0] for block in blocks]
    elif axis is None:
        blocks = [block.reshape([1] * rank) for block in blocks]
    else:
        blocks = [np.moveaxis(block, -1, axis) for block in blocks]
    return tuple(_wrap(block, dtype) for block, dtype in zip(blocks, dtypes))


@_per_tensor
def _associative_scan(
    tensors: Sequence[tl.tensor],
    axis: int,
    combine_fn: Callable[..., Any],
    reverse: bool = False,
    **_: object,
) -> tuple[tl.tensor, ...]:
    """``tl.associative_scan`` in log2(size) calls of its function."""
    axis = tl.core._unwrap_if_constexpr(axis)
    reverse = tl.core._unwrap_if_constexpr(reverse)
    dtypes = [tensor.dtype for tensor in tensors]
    blocks = [np.moveaxis(tensor.handle.data, axis, -1) for tensor in tensors]
    if reverse:
        blocks = [np.flip(block, -1) for block in blocks]
    blocks = [np.array(block) for block in blocks]
    shape = blocks[0].shape
    width = 1
    while width < shape[-1]:
        # The last element of each left half goes into all of its right half.
        halves = [
            block.reshape(*shape[:-1], shape[-1] // (2 * width), 2, width)
            for block in blocks
        ]
        left = [np.repeat(half[..., 0, -1:], width, -1) for half in halves]
        right = [half[..., 1, :] for half in halves]
        for half, result in zip(halves, _combine(combine_fn, dtypes, left, right)):
            half[..., 1, :] = result
        width *= 2
    if reverse:
        blocks = [np.flip(block, -1) for block in blocks]
    blocks = [np.moveaxis(block, -1, axis) for block in blocks]
    return tuple(_wrap(block, dtype) for block, dtype in zip(blocks, dtypes))


# ------------------------------------------------- Python source of kernels


def _as_tensor(value: object) -> object:
    return interpreter.interpreter_semantic.to_tensor(value, False)


def _logical_not(value: object) -> object:
    return value.__not__() if isinstance(value, tl.tensor) else not value


def _tensor_range(*bounds: Any, **_: object) -> Iterator[object]:
    """``range`` and ``tl.range``, whose variable is a tensor in a kernel."""
    # Triton 3.6 makes an integer of a tensor in a way that numpy takes no more.
    integers = (
        int(bound.handle.data.item()) if isinstance(bound, tl.tensor) else bound
        for bound in bounds
    )
    return (_as_tensor(index) for index in range(*integers))


_KERNEL_NAMES: Mapping[str, object] = {
    "_as_tensor": _as_tensor,
    "_logical_not": _logical_not,
    "range": _tensor_range,
}


def _call(function: str, argument: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(function, ast.Load()), [argument], [])


class _KernelTransformer(ast.NodeTransformer):
    """Gives Python the meaning that Triton's compiler gives to the same source."""

    def visit_Assign(self, node: ast.Assign) -> ast.Assign:
        self.generic_visit(node)
        node.value = _call("_as_tensor", node.value)
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not):
            return _call("_logical_not", node.operand)
        return node


@functools.cache
def interpretable(function: Callable[..., Any]) -> Callable[..., Any]:
    """The Python function of a kernel, made to run outside Triton's compiler."""
    lines, first_line = inspect.getsourcelines(function)
    module = ast.parse(textwrap.dedent("".join(lines)))
    definition = module.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    module = ast.fix_missing_locations(_KernelTransformer().visit(module))
    ast.increment_lineno(module, first_line - 1)
    code = compile(module, inspect.getsourcefile(function) or "<kernel>", "exec")
    # A copy: the module that defines the kernel must not see our names.
    namespace = {
        **_KERNEL_NAMES,
        **function.__globals__,
        **inspect.getclosurevars(function).nonlocals,
    }
    exec(code, namespace)
    return namespace[function.__name__]


def _call_device_function(function: JITFunction, *args: Any, **kwargs: Any) -> object:
    kwargs.pop("_semantic", None)
    return interpretable(function.fn)(*args, **kwargs)


# ------------------------------------------------------------ running a kernel


def _interpreter_options(metadata: Any) -> interpreter.InterpreterOptions:
    return interpreter.InterpreterOptions(
        arch=metadata.arch,
        debug=metadata.debug,
        sanitize_overflow=metadata.sanitize_overflow,
    )


def _language_builtins(replacements: _Replacements, builder: _Builder) -> None:
    """What the interpreter itself replaces, for all modules a kernel may use."""
    for module in (tl, tl.core, tl.math, cuda_libdevice, triton_helpers):
        interpreter._patch_builtin(module, builder, replacements)
    for owner in (tl.tensor, tl.core.tensor_descriptor_base):
        interpreter._patch_builtin(owner, builder, replacements)
    interpreter._patch_lang_tensor(tl.tensor, replacements)
    for module in (tl, tl.core):
        interpreter._patch_lang_core(module, replacements)
    # After all of them: each call above replaces these in both modules.
    for module in (tl, tl.core):
        replacements.set_attr(module, "range", _tensor_range)
        replacements.set_attr(module, "reduce", _reduce)
        replacements.set_attr(module, "associative_scan", _associative_scan)


def _libdevice_builtins(replacements: _Replacements) -> None:
    """The compiler maps the portable functions to CUDA's; so must we."""

    def call_at_run_time(name: str, *args: Any, **kwargs: Any) -> object:
        return getattr(cuda_libdevice, name)(*args, **kwargs)

    for name, function in vars(portable_libdevice).items():
        if inspect.isfunction(function) and hasattr(cuda_libdevice, name):
            replacements.set_attr(
                portable_libdevice, name, functools.partial(call_at_run_time, name)
            )


def _helper_builtins(replacements: _Replacements) -> None:
    """Helpers that test for a constexpr; the interpreter passes plain values."""

    def value_of(value: object) -> object:
        return tl.core._unwrap_if_constexpr(value)

    replacements.set_attr(
        triton_helpers,
        "constexpr_next_power_of_2",
        lambda n, **_: triton.next_power_of_2(value_of(n)),
    )
    replacements.set_attr(
        triton_helpers,
        "if_mask",
        lambda mask, value, **_: None if value_of(mask) is None else value,
    )


@functools.cache
def _interpreter_scope() -> tuple[_Builder, _Replacements]:
    builder = _Builder()
    replacements = _Replacements()
    # The functions that the interpreter puts in place look these two up.
    replacements.set_attr(interpreter, "interpreter_builder", builder)
    replacements.set_attr(interpreter, "interpreter_semantic", TritonSemantic(builder))
    replacements.set_attr(interpreter, "_get_np_dtype", _numpy_dtype)
    replacements.set_attr(JITFunction, "__call__", _call_device_function)
    _language_builtins(replacements, builder)
    _libdevice_builtins(replacements)
    _helper_builtins(replacements)
    return builder, replacements


def _kernel_argument(value: Any, signature: Any) -> object:
    """An argument with the type that the kernel was compiled for."""
    if not isinstance(signature, str) or value is None:
        return interpreter._implicit_cvt(value)
    if signature == "constexpr":
        return tl.core._unwrap_if_constexpr(value)
    if isinstance(value, torch.Tensor) or signature.startswith("*"):
        address = value if isinstance(value, int) else value.data_ptr()
        data = np.array([address], dtype=np.uint64)
        dtype = tl.str_to_ty(signature, None)
        return tl.tensor(TensorHandle(data, dtype), dtype)
    if isinstance(value, (bool, int, float)):
        dtype = tl.str_to_ty(signature, None)
        return tl.tensor(_handle(np.array([value]), dtype), dtype)
    return interpreter._implicit_cvt(value)


def _run_grid(
    builder: _Builder,
    function: Callable[..., Any],
    grid: tuple[int, int, int],
    arguments: Mapping[str, object],
) -> None:
    builder.set_grid_dim(*grid)
    for index in np.ndindex(*grid):
        builder.set_grid_idx(*index)
        function(**arguments)


class InterpretedKernel:
    """A compiled kernel's source, to be run with the types it was compiled for."""

    def __init__(self, source: Any, metadata: Any) -> None:
        self._function = source.fn
        self._signature = source.signature
        self._constants = source.constants
        self._options = _interpreter_options(metadata)

    def run(self, grid: tuple[int, int, int], args: Sequence[Any]) -> None:
        builder, replacements = _interpreter_scope()
        builder.options = self._options
        with replacements.applied(), np.errstate(all="ignore"):
            function = interpretable(self._function.fn)
            _run_grid(builder, function, grid, self._arguments(args))

    def _arguments(self, args: Sequence[Any]) -> dict[str, object]:
        names = self._function.arg_names
        assert len(args) == len(names), (self._function.__name__, names, args)
        return {
            name: _kernel_argument(
                self._constants.get((position,), value), self._signature[name]
            )
            for position, (name, value) in enumerate(zip(names, args))
        }
