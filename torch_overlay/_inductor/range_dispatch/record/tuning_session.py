"""Tuning for a table: what is compiled in a context is measured, and kept in a file."""

from __future__ import annotations

import contextlib
from typing import Any, TYPE_CHECKING

from torch._inductor import config
from torch._inductor.range_dispatch.cache.table_store import TuneTable, tuning_into
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch._inductor.range_dispatch.registration.spec import Registration
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch._inductor.range_dispatch.record.records import DispatchRecord


class TuningSession(TuneTable):
    """What ``tune_into`` has done so far.

    ``records`` has a ``DispatchRecord`` for each lowered call; ``measured`` and
    ``taken`` count the sizes that were timed, and that were taken from the table;
    ``never_tuned`` names ops that were registered but never lowered.
    """

    def __init__(
        self, path: str, is_fresh: bool, records: list[DispatchRecord]
    ) -> None:
        super().__init__(path, is_fresh)
        self.records = records
        self._registered_before = _registered()

    @property
    def never_tuned(self) -> list[str]:
        """The ops that were registered since the session began and never lowered."""
        before = self._registered_before
        tuned = OrderedSet(record.op for record in self.records)
        return [
            str(op)
            for op, lowering in _registered().items()
            if before.get(op) is not lowering and str(op) not in tuned
        ]


@contextlib.contextmanager
def tune_into(path: str, is_fresh: bool = False) -> Iterator[TuningSession]:
    """Add the timings of what is compiled in a ``with`` block to a table.

    No other cache is used in the block. The file is created if needed, written every
    few seconds and when the block ends, even by an exception. If nothing was timed, no
    new file is left.

    Args:
        path: the table, a JSON file.
        is_fresh: time all sizes again. Otherwise sizes that the table has, of the same
            candidates in this very environment, are not timed.

    Raises:
        TableError: the file exists and is not a table. It is not changed.
        OSError: the file cannot be written. Both are raised before the block begins.
    """
    with record_dispatches() as records:
        session = TuningSession(path, is_fresh, records)
        with tuning_into(session), config.patch(force_disable_caches=True):
            try:
                yield session
            finally:
                session.end()


def _registered() -> dict[Any, Any]:
    """The lowerings of range-tuned ops, by op."""
    from torch._inductor.lowering import user_lowerings

    return {
        op: lowering
        for op, lowering in user_lowerings.items()
        if isinstance(getattr(lowering, "registration", None), Registration)
    }
