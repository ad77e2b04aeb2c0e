"""What operators compute in: bfloat16 on a GPU, float32 on a CPU."""

from __future__ import annotations

import torch


def dtype_for(device: str) -> torch.dtype:
    """The dtype of all tensors on that device."""
    return torch.float32 if device == "cpu" else torch.bfloat16
