"""Tuning for a table: what is compiled in a context is measured, and kept in a file."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch._inductor import config
from torch._inductor.range_dispatch.cache.table_store import tuning_into
from torch._inductor.range_dispatch.cache.tune_table import TuneTable
from torch._inductor.range_dispatch.record.records import (
    record_dispatches,
    without_summaries,
)
from torch._inductor.range_dispatch.registration.spec import Registration
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from torch._inductor.range_dispatch.record.records import DispatchRecord


@dataclass(frozen=True)
class TuningSession:
    """What came out of :func:`tune_into` so far: a record for each call lowered."""

    records: list[DispatchRecord]
    _table: TuneTable
    _before: Mapping[Any, Any]

    @property
    def has_something_to_take(self) -> bool:
        """Whether the file had times, and they may be taken."""
        return self._table.has_something_to_take

    @property
    def measured(self) -> int:
        """How many sizes were measured."""
        return len(self._table.measured)

    @property
    def taken(self) -> int:
        """How many were not measured, but taken from the file."""
        return len(self._table.taken - self._table.measured)

    @property
    def never_tuned(self) -> list[str]:
        """The ops that were registered since the session began and never lowered."""
        tuned = OrderedSet(record.op for record in self.records)
        return [
            str(op)
            for op, lowering in _registered().items()
            if self._before.get(op) is not lowering and str(op) not in tuned
        ]


@contextlib.contextmanager
def tune_into(path: str, is_fresh: bool = False) -> Iterator[TuningSession]:
    """Write into the table in file ``path`` what compiles in the context measure.

    Sizes that the file has, of this environment and the same candidates, are taken from
    it unless ``is_fresh``; no other cache is used. The file is made if need be, is
    written as it goes, and has everything when the context ends, however it does.

    Raises:
        TableError: there is something else in the file. It is left alone.
        OSError: it cannot be written. Like the other, before the context begins.
    """
    table = TuneTable(path, is_fresh)
    with (
        record_dispatches() as records,
        without_summaries(),
        tuning_into(table),
        config.patch(force_disable_caches=True),
    ):
        try:
            yield TuningSession(records, table, _registered())
        finally:
            table.write()


def _registered() -> dict[Any, Any]:
    """The lowerings of range-tuned ops, by op."""
    from torch._inductor.lowering import user_lowerings

    return {
        op: lowering
        for op, lowering in user_lowerings.items()
        if isinstance(getattr(lowering, "registration", None), Registration)
    }
