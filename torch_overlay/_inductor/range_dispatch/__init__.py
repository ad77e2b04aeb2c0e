"""The engine of range-tuned custom ops; see ``torch._inductor.kernel.custom_op``.

Each sub-package is a floor, and imports only from its own and those below it: see
``FLOORS``. What each is for is told by the first sentence of its ``__init__``.

What is exported here is for users and for tools, such as the package ``range_tuning``:

* ``explain`` a compiled function; collect what is lowered with ``record_dispatches``,
  and write a record with ``record_parts``;
* ``save`` and ``load`` tuning tables, ``read_table`` one to look at, and ``tune_into``
  one what is compiled in a context;
* ``live_counts`` of the sizes that came, ``save_counts``, ``read_counts``,
  ``reset_counts``;
* the cells of a choice, and the tree of comparisons that a graph makes of their
  winners: ``group_by_winner``, ``plan_decisions``, ``predicate_text``;
* ``TextTable`` and how times are written in one.
"""

from torch._inductor.range_dispatch.cache.table_store import load, save
from torch._inductor.range_dispatch.cache.tables import (
    CandidateTime,
    Choice,
    Decided,
    Entry,
    read_table,
    TableError,
    TuningTable,
)
from torch._inductor.range_dispatch.plan.decisions import (
    Branch,
    Decision,
    DecisionTree,
    group_by_winner,
    Leaf,
    plan_decisions,
)
from torch._inductor.range_dispatch.plan.ranges import (
    Cell,
    cells_of_grid,
    ranges_from_split_points,
    SizeRange,
)
from torch._inductor.range_dispatch.plan.sampling import sizes_of_histogram
from torch._inductor.range_dispatch.record.explaining import explain, predicate_text
from torch._inductor.range_dispatch.record.live_counting import (
    CountsError,
    live_counts,
    LiveCount,
    read_counts,
    reset_counts,
    save_counts,
)
from torch._inductor.range_dispatch.record.record_text import (
    against_text,
    busy_texts,
    milliseconds_text,
    plain,
    record_parts,
    TextTable,
)
from torch._inductor.range_dispatch.record.records import (
    DispatchRecord,
    record_dispatches,
)
from torch._inductor.range_dispatch.record.tuning_session import (
    tune_into,
    TuningSession,
)


# From the lowest.
FLOORS = (
    "plan",
    "registration",
    "call",
    "trace",
    "selection",
    "cond",
    "region",
    "distributed",
    "benchmark",
    "cache",
    "tuning",
    "record",
    "lowering",
)

__all__ = [
    "Branch",
    "CandidateTime",
    "Cell",
    "Choice",
    "CountsError",
    "Decided",
    "Decision",
    "DecisionTree",
    "DispatchRecord",
    "Entry",
    "FLOORS",
    "Leaf",
    "LiveCount",
    "SizeRange",
    "TableError",
    "TextTable",
    "TuningSession",
    "TuningTable",
    "against_text",
    "busy_texts",
    "cells_of_grid",
    "explain",
    "group_by_winner",
    "live_counts",
    "load",
    "milliseconds_text",
    "plain",
    "plan_decisions",
    "predicate_text",
    "ranges_from_split_points",
    "read_counts",
    "read_table",
    "record_dispatches",
    "record_parts",
    "reset_counts",
    "save",
    "save_counts",
    "sizes_of_histogram",
    "tune_into",
]
