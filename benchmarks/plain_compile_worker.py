"""Compiles a transformer once and prints what that took, as JSON.

Figures: CPU seconds of this process, children not included, and its peak memory.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import torch


def main() -> None:
    """Compile as many layers as the argument says."""
    layers = int(sys.argv[1])
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(
        64, 4, 128, dropout=0.0, batch_first=True, norm_first=True
    )
    # Training mode: no fused fast path, every layer is lowered as its operators.
    model = torch.nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
    inputs = torch.randn(2, 48, 64)
    compiled = torch.compile(model, dynamic=True)
    started = time.process_time()
    with torch.no_grad():
        compiled(inputs)
    seconds = time.process_time() - started
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"cpu_seconds": seconds, "peak_mebibytes": kibibytes / 1024}))


if __name__ == "__main__":
    main()
