"""A Triton backend for CPU tensors: NVIDIA's compiler, and a driver that interprets."""

from __future__ import annotations

import contextlib
from typing import Any, TYPE_CHECKING
from unittest import mock

import triton
import triton.backends
from _kernel_launches import record_launch
from _triton_interpreter import interpretable, InterpretedKernel
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.backends.nvidia.compiler import CUDABackend

import torch
from torch._dynamo.device_interface import CpuInterface
from torch._inductor import config
from torch._inductor.runtime.triton_heuristics import CachingAutotuner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class _InterpretingLauncher:
    """Stands in for the function that puts a cubin on a GPU."""

    def __init__(self, source: Any, metadata: Any) -> None:
        self._name = source.fn.__name__
        self._kernel = InterpretedKernel(source, metadata)

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
        record_launch(self._name, grid)
        self._kernel.run(grid, args)
        if exit_hook is not None:
            exit_hook(launch_metadata)


class _CpuCompiler(CUDABackend):
    """NVIDIA's compiler, chosen for CPU tensors."""

    @staticmethod
    def supports_target(target: GPUTarget) -> bool:
        return target.backend == "cpu"

    def __init__(self, target: GPUTarget) -> None:
        # Not the target's own: Inductor has no compute capability for a CPU.
        architecture = triton.runtime.driver.active.get_current_target().arch
        super().__init__(GPUTarget(target.backend, architecture, 32))
        self.target = GPUTarget("cuda", architecture, 32)


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

    def __init__(self, architecture: int) -> None:
        super().__init__()
        self.utils = _CpuDriverUtils()
        self._target = GPUTarget("cpu", architecture, 32)

    @classmethod
    def is_active(cls) -> bool:
        return True

    def get_current_target(self) -> GPUTarget:
        return self._target

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


# What saves a kernel, and says that it is: before v2.13.0 the same on every device.
_SAVE, _IS_SAVED = (
    ("save_cpu_kernel", "cpu_kernel_saved")
    if hasattr(CachingAutotuner, "save_cpu_kernel")
    else ("save_gpu_kernel", "cuda_kernel_saved")
)


def _mark_as_saved(tuner: CachingAutotuner, *launched: object, **_: object) -> None:
    """The FX wrapper wants each kernel saved; a CPU's must be a shared library."""
    setattr(tuner, _IS_SAVED, True)


@contextlib.contextmanager
def _no_device_to_enter(device: object) -> Iterator[None]:
    """Inductor enters the device on which it benchmarks generated modules."""
    yield


def _equally_fast(tuner: CachingAutotuner, *args: Any, **kwargs: Any) -> float:
    """An interpreted kernel's time says nothing: the first configuration wins."""
    return 1.0


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
def cpu_backend(architecture: int) -> Iterator[None]:
    """Inductor uses Triton for CPU tensors, and compiles for this CUDA architecture."""
    backend = triton.backends.Backend(compiler=_CpuCompiler, driver=_CpuDriver)
    with (
        mock.patch.dict(triton.backends.backends, cpu=backend),
        _active_driver(_CpuDriver(architecture)),
        mock.patch.object(CachingAutotuner, _SAVE, _mark_as_saved),
        mock.patch.object(CachingAutotuner, "bench", _equally_fast),
        mock.patch.object(CpuInterface, "device", _no_device_to_enter),
        mock.patch.object(torch.accelerator, "empty_cache"),
        config.patch(cpu_backend="triton"),
    ):
        try:
            yield
        finally:
            interpretable.cache_clear()
