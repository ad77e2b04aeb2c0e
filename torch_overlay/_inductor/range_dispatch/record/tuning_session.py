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
    """What came out of :func:`tune_into` so far: a record for each call lowered."""

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
    """Write into the table in file ``path`` what compiles in the context measure.

    Sizes that the file has, of this environment and the same candidates, are taken from
    it unless ``is_fresh``; no other cache is used. The file is made if need be, is
    written as it goes, and has everything when the context ends, however it does. If
    there is nothing to keep, no new file is left.

    Raises:
        TableError: there is something else in the file. It is left alone.
        OSError: it cannot be written. Like the other, before the context begins.
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
