"""The engine of range-tuned custom ops; see ``torch._inductor.kernel.custom_op``.

One thing a file: its first sentence says which. ``call`` is about one call of an op and
``trace`` about candidates as graphs; what is above them imports them, never the other
way round. The commands are in ``__main__``.
"""

from torch._inductor.range_dispatch.cache.table_store import load, save
from torch._inductor.range_dispatch.record.explaining import explain
from torch._inductor.range_dispatch.record.live_counting import (
    live_counts,
    reset_counts,
    save_counts,
)
from torch._inductor.range_dispatch.suggesting import suggest

__all__ = [
    "explain",
    "live_counts",
    "load",
    "reset_counts",
    "save",
    "save_counts",
    "suggest",
]
