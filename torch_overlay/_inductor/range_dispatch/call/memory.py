"""How much memory timing may take, and what to do when there is no more."""

from __future__ import annotations

import traceback

import torch
import torch.distributed as dist

# What timing may take at a time, in bytes: inputs, outputs and temporaries.
TUNING_BYTES = 1 << 30

# Of the memory that an accelerator has free timing may take the part 1 / FREE_SHARE.
FREE_SHARE = 4

# How the allocators of base and platforms say it, where there is no type of its own.
_MESSAGES = ("not enough memory", "can't allocate memory", "out of memory")


def tuning_bytes(device: torch.device | None) -> int:
    """The bytes that may be alive on a device while candidates are timed.

    ``TUNING_BYTES``, or a quarter of what an accelerator has free if that is more. A
    quarter is rounded down to a power of two, for the same sizes to be timed in the
    next compile. Ranks of a job have to time the same sizes, whatever each has free.
    """
    accelerator = torch.accelerator.current_accelerator()
    if device is None or accelerator is None or device.type != accelerator.type:
        return TUNING_BYTES
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return TUNING_BYTES
    try:
        free, _ = torch.accelerator.get_memory_info(device)
        cached = torch.accelerator.memory_reserved(device)
        cached -= torch.accelerator.memory_allocated(device)
    except (RuntimeError, NotImplementedError):
        return TUNING_BYTES  # not every backend tells
    share = (free + cached) // FREE_SHARE
    return max(TUNING_BYTES, 1 << max(share.bit_length() - 1, 0))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be allocated."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(m in text for m in _MESSAGES)


def release(error: BaseException) -> None:
    """Free the tensors that frames of an error hold, and the allocator's cache."""
    traceback.clear_frames(error.__traceback__)
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


def readable(number: int) -> str:
    """Bytes for people: ``1.5 GiB``."""
    size = float(number)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"
