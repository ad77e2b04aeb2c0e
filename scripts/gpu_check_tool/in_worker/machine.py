"""In a worker: what machine and what torch the checks run on."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import torch
from reporting import machine_description


def machine(device: str) -> dict[str, Any]:
    """The machine, once torch with the overlay is imported and the device works.

    Raises:
        RuntimeError: there is no such device.
    """
    import torch._inductor.kernel.custom_op as custom_op

    if device != "cpu" and not torch.cuda.is_available():
        raise RuntimeError(
            "torch sees no GPU; --device cpu runs all of it that a CPU allows"
        )
    # Raises where the device cannot be computed on.
    assert torch.ones(2, device=device).sum().item() == 2
    return {
        **machine_description(),
        "triton": _version("triton"),
        "torch_file": torch.__file__,
        "overlay_file": custom_op.__file__,
        **(_gpu() if device != "cpu" else {}),
    }


def _gpu() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "gpu_gibibytes": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
