"""What the candidates of a call took before: in tables, and in earlier compiles."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.benchmark.timing import is_disturbed
from torch._inductor.range_dispatch.cache.call_tables import CallTables
from torch._inductor.range_dispatch.cache.tuning_cache import TuningCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch._inductor.range_dispatch.benchmark.accuracy import Accuracy
    from torch._inductor.range_dispatch.benchmark.budget import Behind
    from torch._inductor.range_dispatch.benchmark.contests import Contest
    from torch._inductor.range_dispatch.benchmark.timing import Timings
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.region.fused_call import FusedCall
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate


log = logging.getLogger(__name__)


class KnownTimes:
    """Finds the times of contests, and keeps new ones for later compiles.

    ``uses_table`` says whether a table had what was asked for. ``cache`` has what
    earlier compiles stored, searches too.
    """

    def __init__(
        self,
        registration: Registration,
        call: BoundCall,
        fused: FusedCall | None,
        as_timed: Callable[[TracedCandidate], TracedCandidate],
        accuracy: Accuracy,
        behind: Behind,
    ) -> None:
        """``as_timed`` gives the graph that is timed for a candidate: with what is
        ``fused`` around the call, if anything. ``behind`` is told what is found."""
        self.uses_table = False
        self.cache = TuningCache(registration, fused or call, as_timed)
        self._name = registration.name
        self._accuracy = accuracy
        self._behind = behind
        self._tables = CallTables(call)

    def find(self, contest: Contest, is_resumed: bool = False) -> Timings | None:
        """What a table or an earlier compile has, None if that is nothing.

        If it ``is_resumed``, only what the ``tune`` command has measured before: unlike
        other tables, that one is added to.
        """
        if contest.peers() is not None:  # others may have nothing stored
            return None
        required = self._accuracy.required
        timings = self._tables.take(contest, required)
        origin = " (measured before)"
        if timings is None and not is_resumed:
            timings = self._tables.find(contest, required)
            origin = " (from a table)"
            self.uses_table |= timings is not None
            if timings is None:
                timings = self.cache.load(contest, required)
                origin = " (stored)"
                if timings is not None:
                    self._tables.note(contest, timings, required)
        if timings is not None:
            self._behind.note(contest, timings)
            self.log(contest, timings, origin)
        return timings

    def keep(self, contest: Contest, timings: Timings) -> None:
        """Keep new times for later compiles and for a table.

        Where a candidate was dropped for its results, a later compile compares them
        again: it may be told to keep it. What other programs disturbed it times again.
        """
        agreed = self._accuracy.agreed(contest)
        is_final = not self._accuracy.has_dropped(contest)
        if is_final and not is_disturbed(timings):
            self.cache.store(contest, timings, agreed)
        self._tables.note(contest, timings, agreed)

    def log(self, contest: Contest, timings: Timings, origin: str = "") -> None:
        """Say what candidates took, and where that is known from."""
        log.info(
            "%s range %s%s: %s",
            self._name,
            contest.task.cell,
            origin,
            ", ".join(f"{c} {t.milliseconds:.4f} ms" for c, t in timings.items()),
        )
