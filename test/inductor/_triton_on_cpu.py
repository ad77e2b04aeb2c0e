"""Runs Inductor's Triton kernels on CPU tensors, on a machine without a GPU.

``triton_kernels()`` makes Inductor generate Triton for CPU tensors. Each kernel is
compiled for real, down to a cubin for ``CUDA_ARCHITECTURE``, and is then executed by
Triton's interpreter from its Python source. A test that passes here has seen the same
generated code as on a GPU; it says nothing about speed. Where there is a GPU, the same
test runs on it and Triton is left alone, apart from the record of launches.

    with triton_kernels() as recorder:
        compiled = torch.compile(function)
        compiled(torch.randn(8, device=DEVICE))
        assert recorder.launches
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
import torch._dynamo
import torch.utils._triton
from torch._guards import CompileContext
from torch._inductor import config
from torch._inductor.graph import GraphLowering
from torch._inductor.runtime.compile_tasks import _set_triton_ptxas_path
from torch._inductor.runtime.hints import DeviceProperties
from torch._inductor.runtime.triton_heuristics import CachingAutotuner
from torch._inductor.utils import fresh_cache
from torch._inductor.virtualized import V
from torch.testing._internal.inductor_utils import GPU_TYPE, HAS_GPU

HAS_TRITON: bool = torch.utils._triton.has_triton_package()
SKIP_REASON = "triton is not installed"
DEVICE: str = GPU_TYPE if HAS_GPU else "cpu"
CUDA_ARCHITECTURE = 90

if HAS_TRITON:
    import numpy as np
    import triton
    import triton.backends
    import triton.language as tl
    from torch._inductor.runtime import triton_helpers
    from triton._C.libtriton import ir
    from triton.backends.compiler import GPUTarget
    from triton.backends.driver import DriverBase
    from triton.backends.nvidia.compiler import CUDABackend
    from triton.language.extra import libdevice as portable_libdevice
    from triton.language.extra.cuda import libdevice as cuda_libdevice
    from triton.language.semantic import TritonSemantic
    from triton.runtime import interpreter
    from triton.runtime.interpreter import TensorHandle
    from triton.runtime.jit import JITFunction


# ------------------------------------------------------------------ the record


@dataclass(frozen=True)
class Launch:
    """One kernel that ran over a grid that is not empty."""

    kernel: str
    grid: tuple[int, int, int]


@dataclass
class LaunchRecorder:
    """What ran since the start, or since the last ``clear()``.

    Launches that Inductor makes to choose a kernel's configuration, while it compiles
    or while it benchmarks, go to ``tuning_launches``: they are no part of the result.
    """

    launches: list[Launch] = field(default_factory=list)
    tuning_launches: list[Launch] = field(default_factory=list)

    def clear(self) -> None:
        self.launches.clear()
        self.tuning_launches.clear()

    def kernels_run_by(self, function: Callable[[], object]) -> list[str]:
        """Calls ``function`` and returns the names of the kernels it launched."""
        before = len(self.launches)
        function()
        return [launch.kernel for launch in self.launches[before:]]

    def record(self, kernel: str, grid: tuple[int, int, int]) -> None:
        if 0 in grid:
            return
        tuning = _is_compiling() or _is_benchmarking
        launches = self.tuning_launches if tuning else self.launches
        launches.append(Launch(kernel, grid))


# A launcher outlives the context it was made in, so it asks for the recorder of now.
_recorder: LaunchRecorder | None = None
_is_benchmarking = False


def _is_compiling() -> bool:
    return CompileContext.current_compile_id() is not None or isinstance(
        V.graph, GraphLowering
    )


def _record_launch(kernel: str, grid: Sequence[int]) -> None:
    if _recorder is not None:
        grid_x, grid_y, grid_z = (int(size) for size in grid)
        _recorder.record(kernel, (grid_x, grid_y, grid_z))


def _equally_fast(tuner: CachingAutotuner, *args: Any, **kwargs: Any) -> float:
    """An interpreted kernel's time says nothing: the first configuration wins."""
    return 1.0


def _marked_as_benchmark(bench: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(bench)
    def marked(*args: Any, **kwargs: Any) -> Any:
        global _is_benchmarking
        outer, _is_benchmarking = _is_benchmarking, True
        try:
            return bench(*args, **kwargs)
        finally:
            _is_benchmarking = outer

    return marked


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


if HAS_TRITON:
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
            return _apply(_libdevice_function(symbol), args, return_type)

        def create_inline_asm(
            self,
            assembly: str,
            constraints: str,
            args: list[TensorHandle],
            types: list[tl.dtype],
            is_pure: bool,
            pack: int,
        ) -> _InlineAssembly:
            return _InlineAssembly(_apply(_instruction(assembly), args, types[0]))

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
            for index in np.ndindex(value.data.shape):
                place, addend, active = (
                    TensorHandle(handle.data[index].reshape(1), handle.dtype)
                    for handle in (pointer, value, mask)
                )
                old = self.create_masked_load(place, active, None, None, None, False)
                new = self.create_fadd(old, addend)
                self.create_masked_store(place, new, active, None, None)
                before[index] = old.data.item()
            return TensorHandle(before, value.dtype)

    # --------------------------------------------------------------- libdevice

    _TorchFunction = Callable[..., torch.Tensor]

    def _round_half_away(values: torch.Tensor) -> torch.Tensor:
        return torch.copysign(torch.floor(values.abs() + 0.5), values)

    def _exponent(values: torch.Tensor) -> torch.Tensor:
        return torch.frexp(values).exponent - 1

    def _fused_multiply_add(
        x: torch.Tensor, y: torch.Tensor, z: torch.Tensor
    ) -> torch.Tensor:
        # A product of two float32 is exact in float64.
        return (x.double() * y.double() + z.double()).to(x.dtype)

    _SAME_NAME_IN_TORCH = """
        abs acos acosh asin asinh atan atan2 atanh ceil copysign cos cosh erf erfc
        erfinv exp exp2 expm1 floor fmod hypot isfinite isinf isnan ldexp lgamma log
        log10 log1p log2 nextafter pow rsqrt signbit sin sinh sqrt tan tanh trunc
    """.split()

    _ROUNDED_TO_NEAREST = {
        f"{kind}{name}_rn": getattr(torch, name)
        for kind in "fd"
        for name in ("add", "div", "mul", "sqrt", "sub")
    }

    # By the name between "__nv_" and the suffix for the type.
    _LIBDEVICE: dict[str, _TorchFunction] = {
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
    _INSTRUCTIONS: dict[str, _TorchFunction] = {
        "fma.rn.f32": _fused_multiply_add,
        "rcp.approx.ftz.f32": torch.reciprocal,
    }

    def _libdevice_function(symbol: str) -> _TorchFunction:
        name = symbol.removeprefix("__nv_")
        # The type's suffix is a letter that may as well belong to the name (erf).
        for candidate in (name, name[:-1]):
            if candidate in _LIBDEVICE:
                return _LIBDEVICE[candidate]
        raise NotImplementedError(f"add libdevice's {symbol} to _LIBDEVICE")

    def _instruction(assembly: str) -> _TorchFunction:
        name, _, operands = assembly.strip().partition(" ")
        if name in _INSTRUCTIONS and operands.count(";") == 1:
            return _INSTRUCTIONS[name]
        raise NotImplementedError(f"add the assembly {assembly!r} to _INSTRUCTIONS")

    def _apply(
        function: _TorchFunction, args: Sequence[TensorHandle], dtype: tl.dtype
    ) -> TensorHandle:
        result = function(*(_as_torch(arg.data) for arg in args))
        return _handle(result.numpy(), dtype)

    # ------------------------------------------------- reductions and scans

    def _wrap(data: np.ndarray, dtype: tl.dtype) -> tl.tensor:
        """A tensor of the language; a scalar is held in an array of one element."""
        if data.ndim == 0:
            return tl.tensor(TensorHandle(data.reshape(1), dtype), dtype)
        return tl.tensor(
            TensorHandle(data, dtype), tl.block_type(dtype, list(data.shape))
        )

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
            np.broadcast_to(
                result.handle.data.astype(data.dtype, copy=False), data.shape
            )
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
        return (_as_tensor(index) for index in range(*bounds))

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
    def _interpretable(function: Callable[..., Any]) -> Callable[..., Any]:
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

    def _call_device_function(
        function: JITFunction, *args: Any, **kwargs: Any
    ) -> object:
        kwargs.pop("_semantic", None)
        return _interpretable(function.fn)(*args, **kwargs)

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
        replacements.set_attr(
            interpreter, "interpreter_semantic", TritonSemantic(builder)
        )
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

    class _InterpretingLauncher:
        """Stands in for the function that puts a cubin on a GPU."""

        def __init__(self, source: Any, metadata: Any) -> None:
            self._function = source.fn
            self._signature = source.signature
            self._constants = source.constants
            self._options = _interpreter_options(metadata)

        def __call__(
            self,
            grid_x: int,
            grid_y: int,
            grid_z: int,
            stream: int,
            function: object,
            packed_metadata: object,
            launch_metadata: object,
            enter_hook: Callable[[object], object] | None,
            exit_hook: Callable[[object], object] | None,
            *args: Any,
        ) -> None:
            grid = (int(grid_x), int(grid_y), int(grid_z))
            if enter_hook is not None:
                enter_hook(launch_metadata)
            _record_launch(self._function.__name__, grid)
            self._interpret(grid, args)
            if exit_hook is not None:
                exit_hook(launch_metadata)

        def _interpret(self, grid: tuple[int, int, int], args: Sequence[Any]) -> None:
            builder, replacements = _interpreter_scope()
            builder.options = self._options
            with replacements.applied(), np.errstate(all="ignore"):
                function = _interpretable(self._function.fn)
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

    # ------------------------------------------------------- the backend "cpu"

    # Inductor has no compute capability for a CPU, so a target may lack it.
    _TARGET = GPUTarget("cpu", CUDA_ARCHITECTURE, 32)

    class _CpuCompiler(CUDABackend):
        """NVIDIA's compiler, chosen for CPU tensors."""

        @staticmethod
        def supports_target(target: GPUTarget) -> bool:
            return target.backend == "cpu"

        def __init__(self, target: GPUTarget) -> None:
            super().__init__(_TARGET)
            self.target = GPUTarget("cuda", CUDA_ARCHITECTURE, 32)

    class _CpuDriverUtils:
        """What the compiled kernel asks of the device before its first launch."""

        def load_binary(
            self, name: str, binary: bytes, shared: int, device: object
        ) -> tuple[object, object, int, int, int]:
            module, function = object(), object()
            registers, spills, most_threads = 32, 0, 1024
            return module, function, registers, spills, most_threads

        def unload_module(self, module: object) -> None:
            pass

        def get_device_properties(self, device: object) -> dict[str, int]:
            return {"max_shared_mem": 227 * 1024, "multiprocessor_count": 4}

    class _CpuDriver(DriverBase):
        """A device whose memory is the CPU's and whose kernels are interpreted."""

        launcher_cls = _InterpretingLauncher

        def __init__(self) -> None:
            super().__init__()
            self.utils = _CpuDriverUtils()

        @classmethod
        def is_active(cls) -> bool:
            return True

        def get_current_target(self) -> GPUTarget:
            return _TARGET

        def get_current_device(self) -> str:
            # Inductor's FX converter makes tensors on it when it tunes a kernel.
            return "cpu"

        def set_current_device(self, device: object) -> None:
            pass

        def get_current_stream(self, device: object = None) -> int:
            return 0

        def get_active_torch_device(self) -> torch.device:
            return torch.device("cpu")

        def get_device_interface(self) -> Any:
            from torch._dynamo.device_interface import CpuInterface

            return CpuInterface

        def map_python_to_cpp_type(self, ty: str) -> str:
            return ty

        def get_benchmarker(self) -> Callable[..., list[float]]:
            from torch._inductor.runtime.benchmarking import benchmarker

            def benchmark(
                kernel_call: Callable[[], object],
                *,
                quantiles: Sequence[float] | None = None,
                **_: object,
            ) -> list[float]:
                time = benchmarker.benchmark_cpu(kernel_call)
                return [time] * len(quantiles or [0.5])

            return benchmark


# -------------------------------------------------------------- switching it on


def _mark_as_saved(tuner: CachingAutotuner, launcher: object) -> None:
    """The FX wrapper wants each kernel saved; a CPU's must be a shared library."""
    tuner.cpu_kernel_saved = True


def _forget_what_was_asked_of_triton() -> None:
    """Clears the answers that depend on which Triton backends there are."""
    for function in (
        torch.utils._triton.has_triton,
        torch.utils._triton.triton_backend,
        torch.utils._triton.triton_hash_with_backend,
        DeviceProperties.create,
        # It answers by setting an environment variable, once.
        _set_triton_ptxas_path,
    ):
        function.cache_clear()


@contextlib.contextmanager
def _active_driver(driver: object) -> Iterator[None]:
    drivers = triton.runtime.driver
    # Not the property: it would look for a GPU, and fail.
    previous = drivers._active
    drivers.set_active(driver)
    try:
        yield
    finally:
        drivers.set_active(previous)


@contextlib.contextmanager
def _no_memory_of_other_backends() -> Iterator[None]:
    torch._dynamo.reset()
    _forget_what_was_asked_of_triton()
    try:
        yield
    finally:
        torch._dynamo.reset()
        _forget_what_was_asked_of_triton()


@contextlib.contextmanager
def _cpu_backend() -> Iterator[None]:
    backend = triton.backends.Backend(compiler=_CpuCompiler, driver=_CpuDriver)
    with (
        mock.patch.dict(triton.backends.backends, cpu=backend),
        _active_driver(_CpuDriver()),
        mock.patch.object(CachingAutotuner, "save_cpu_kernel", _mark_as_saved),
        mock.patch.object(CachingAutotuner, "bench", _equally_fast),
        config.patch(cpu_backend="triton"),
    ):
        try:
            yield
        finally:
            _interpretable.cache_clear()


@contextlib.contextmanager
def _recording_gpu() -> Iterator[None]:
    """Records on a GPU, where both ways of launching make the driver's launcher."""
    driver = triton.runtime.driver.active
    launcher_class = driver.launcher_cls
    bench = _marked_as_benchmark(CachingAutotuner.bench)

    def recording_launcher(source: Any, metadata: Any) -> Callable[..., object]:
        launch = launcher_class(source, metadata)

        def record_and_launch(*args: Any) -> object:
            _record_launch(source.fn.__name__, args[:3])
            return launch(*args)

        return record_and_launch

    with (
        mock.patch.object(driver, "launcher_cls", recording_launcher),
        mock.patch.object(CachingAutotuner, "bench", bench),
    ):
        yield


@contextlib.contextmanager
def triton_kernels() -> Iterator[LaunchRecorder]:
    """Inductor uses Triton for tensors on ``DEVICE``; yields the record of launches.

    All is as before when the context is left. It cannot be nested. Functions must be
    compiled inside: what Dynamo compiled before or inside is forgotten at the border.
    """
    global _recorder
    assert HAS_TRITON, SKIP_REASON
    if _recorder is not None:
        raise RuntimeError("triton_kernels() cannot be nested")
    settings = {
        # Kernels must be compiled in this process, and each anew.
        "compile_threads": 1,
        "force_disable_caches": True,
        # It would put a cubin on the GPU without the driver's launcher.
        "use_static_cuda_launcher": False,
    }
    with (
        mock.patch.dict(os.environ),
        fresh_cache(),
        _no_memory_of_other_backends(),
        config.patch(settings),
        _recording_gpu() if HAS_GPU else _cpu_backend(),
    ):
        _recorder = LaunchRecorder()
        try:
            yield _recorder
        finally:
            _recorder = None
