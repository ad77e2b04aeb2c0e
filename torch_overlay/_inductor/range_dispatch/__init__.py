"""The engine of range-tuned custom ops; see ``torch._inductor.kernel.custom_op``.

One thing a file, each importing only from those before it: ``ranges``, ``decisions``,
``text_tables``, ``record_text``, ``progress``, ``records``, ``configs``,
``argument_checks``, ``sampling``, ``segments``, ``split_search``, ``grid_search``,
``dispatch_on``, ``spec``, ``binding``, ``promise``, ``candidates``, ``guards``,
``axes``, ``tracing``, ``sizes``, ``inputs``, ``size_nodes``, ``node_kinds``,
``regions``, ``fused_call``, ``narrowing``, ``cells``, ``variants``, ``modules``,
``ranks``, ``agreement``, ``in_step``, ``timing``, ``budget``, ``environment``,
``documents``, ``tables``, ``table_store``, ``code_names``, ``identity``,
``tuning_cache``, ``call_tables``, ``tuning``, ``choosing``, ``range_search``,
``cell_search``, ``selection``, ``reasons``, ``kept_calls``, ``live_counting``,
``explaining``, ``suggesting``, ``cond_tree``, ``publishing``, ``fusion``,
``absorbing``, ``inlining``, ``chosen_calls``, ``joining``, ``count_emitting``. Reports
of tables: ``report_data``, ``report_pictures``, ``report_page``, ``report``. Above them
and ``torch._inductor.kernel.custom_op`` are the commands: ``table_calls``,
``table_text``, ``table_diff``, ``winner_text``, ``tune_command``, ``__main__``.
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
