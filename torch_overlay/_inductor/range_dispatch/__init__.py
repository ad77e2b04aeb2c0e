"""The engine of range-tuned custom ops; see ``torch._inductor.kernel.custom_op``.

A sub-package is a floor, and imports only from its own and those below it: see
``FLOORS``. What each is for is told by the first sentence of its ``__init__``, and a
module's by its own.
"""

from torch._inductor.range_dispatch.cache.table_store import load, save
from torch._inductor.range_dispatch.record.explaining import explain
from torch._inductor.range_dispatch.record.live_counting import (
    live_counts,
    reset_counts,
    save_counts,
)
from torch._inductor.range_dispatch.suggesting import suggest

# From the lowest.
FLOORS = (
    "plan",
    "registration",
    "call",
    "trace",
    "region",
    "distributed",
    "benchmark",
    "cache",
    "tuning",
    "record",
    "lowering",
)

__all__ = [
    "FLOORS",
    "explain",
    "live_counts",
    "load",
    "reset_counts",
    "save",
    "save_counts",
    "suggest",
]
