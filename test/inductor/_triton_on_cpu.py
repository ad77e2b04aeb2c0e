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

import contextlib
import os
from typing import TYPE_CHECKING
from unittest import mock

from _kernel_launches import (
    driver_launches_recorded,
    is_recording,
    Launch,
    LaunchRecorder,
    recording,
)

import torch
import torch._dynamo
import torch.utils._triton
from torch._inductor import config
from torch._inductor.runtime.compile_tasks import _set_triton_ptxas_path
from torch._inductor.runtime.hints import DeviceProperties
from torch._inductor.utils import fresh_cache
from torch.testing._internal.inductor_utils import GPU_TYPE, HAS_GPU

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CUDA_ARCHITECTURE",
    "DEVICE",
    "HAS_TRITON",
    "Launch",
    "LaunchRecorder",
    "SKIP_REASON",
    "triton_kernels",
]

HAS_TRITON: bool = torch.utils._triton.has_triton_package()
SKIP_REASON = "triton is not installed"
DEVICE: str = GPU_TYPE if HAS_GPU else "cpu"
CUDA_ARCHITECTURE = 90

if HAS_TRITON:
    import triton
    from _triton_cpu_backend import cpu_backend


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
def _no_memory_of_other_backends() -> Iterator[None]:
    torch._dynamo.reset()
    _forget_what_was_asked_of_triton()
    try:
        yield
    finally:
        torch._dynamo.reset()
        _forget_what_was_asked_of_triton()


def _device_in_use() -> contextlib.AbstractContextManager[None]:
    if HAS_GPU:
        return driver_launches_recorded(triton.runtime.driver.active)
    return cpu_backend(CUDA_ARCHITECTURE)


@contextlib.contextmanager
def triton_kernels() -> Iterator[LaunchRecorder]:
    """Inductor uses Triton for tensors on ``DEVICE``; yields the record of launches.

    All is as before when the context is left. It cannot be nested. Functions must be
    compiled inside: what Dynamo compiled before or inside is forgotten at the border.
    """
    assert HAS_TRITON, SKIP_REASON
    if is_recording():
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
        _device_in_use(),
        recording() as recorder,
    ):
        yield recorder
