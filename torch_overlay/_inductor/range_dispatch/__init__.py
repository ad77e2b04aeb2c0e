"""The engine of range-tuned custom ops; see ``torch._inductor.kernel.custom_op``.

One thing a file, each importing only from those before it: ``ranges``, ``records``,
``configs``, ``argument_checks``, ``sampling``, ``segments``, ``split_search``,
``dispatch_on``, ``spec``, ``binding``, ``promise``, ``candidates``, ``guards``,
``tracing``, ``sizes``, ``inputs``, ``narrowing``, ``variants``, ``modules``, ``ranks``,
``agreement``, ``in_step``, ``timing``, ``environment``, ``tables``, ``table_store``,
``code_names``, ``identity``, ``tuning_cache``, ``call_tables``, ``progress``,
``tuning``, ``choosing``, ``range_search``, ``selection``, ``reasons``, ``kept_calls``,
``live_counting``, ``explaining``, ``suggesting``, ``publishing``, ``cond_tree``,
``inlining``, ``count_emitting``.
"""

from torch._inductor.range_dispatch.explaining import explain
from torch._inductor.range_dispatch.live_counting import (
    live_counts,
    reset_counts,
    save_counts,
)
from torch._inductor.range_dispatch.suggesting import suggest
from torch._inductor.range_dispatch.table_store import load, save

__all__ = [
    "explain",
    "live_counts",
    "load",
    "reset_counts",
    "save",
    "save_counts",
    "suggest",
]
