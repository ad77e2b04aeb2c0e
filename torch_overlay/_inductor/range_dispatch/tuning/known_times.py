"""What the candidates of a call took before: in tables, and in earlier compiles."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.benchmark.timing import is_disturbed
from torch._inductor.range_dispatch.cache.call_tables import CallTables
from torch._inductor.range_dispatch.cache.tuning_cache import TuningCache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch._inductor.range_dispatch.benchmark.accuracy import Accuracy
    from torch._inductor.range_dispatch.benchmark.contests import Contest
    from torch._inductor.range_dispatch.benchmark.timing import Timings
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.plan.split_search import SearchRules
    from torch._inductor.range_dispatch.region.fused_call import FusedCall
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate
    from torch.utils._ordered_set import OrderedSet


log = logging.getLogger(__name__)


class KnownTimes:
    """Finds the times of contests, and keeps new ones for later compiles.

    ``uses_table`` says whether a table had what was asked for.
    """

    def __init__(
        self,
        registration: Registration,
        call: BoundCall,
        fused: FusedCall | None,
        as_timed: Callable[[TracedCandidate], TracedCandidate],
        accuracy: Accuracy,
    ) -> None:
        """``as_timed`` gives the graph that is timed for a candidate: with what is
        ``fused`` around the call, if anything."""
        self.uses_table = False
        self._registration = registration
        self._accuracy = accuracy
        self._tables = CallTables(call)
        self._cache = TuningCache(registration, fused or call, as_timed)

    def resumed(self, contest: Contest) -> Timings | None:
        """What the ``tune`` command has measured before, None if that is nothing.

        Unlike other tables this one is added to: what it has not is timed.
        """
        if contest.peers() is not None:  # others may have nothing to resume
            return None
        timings = self._tables.take(contest, self._accuracy.required)
        if timings is not None:
            self.log(contest, timings, " (measured before)")
        return timings

    def find(self, contest: Contest) -> Timings | None:
        """What a table or an earlier compile has, None if that is nothing."""
        if contest.peers() is not None:  # others may have nothing stored
            return None
        timings = self.resumed(contest)
        if timings is not None:
            return timings
        required = self._accuracy.required
        timings = self._tables.find(contest, required)
        if timings is not None:
            self.uses_table = True
            self.log(contest, timings, " (from a table)")
            return timings
        timings = self._cache.load(contest, required)
        if timings is not None:
            self._tables.note(contest, timings, required)
            self.log(contest, timings, " (stored)")
        return timings

    def keep(self, contest: Contest, timings: Timings) -> None:
        """Keep new times for later compiles and for a table.

        Where a candidate was dropped for its results, a later compile compares them
        again: it may be told to keep it. What other programs disturbed it times again.
        """
        agreed = self._accuracy.agreed(contest)
        is_final = not self._accuracy.has_dropped(contest)
        if is_final and not is_disturbed(timings):
            self._cache.store(contest, timings, agreed)
        self._tables.note(contest, timings, agreed)

    def searched_before(
        self, contests: Sequence[Contest], rules: SearchRules | str
    ) -> OrderedSet[int] | None:
        """What an earlier search of these contests measured, if there was one."""
        return self._cache.load_search(contests, rules)

    def keep_search(
        self,
        contests: Sequence[Contest],
        rules: SearchRules | str,
        measured: Sequence[int],
    ) -> None:
        """Let later compiles measure the same only, all of which is stored."""
        self._cache.store_search(contests, rules, measured)

    def log(self, contest: Contest, timings: Timings, note: str = "") -> None:
        """Say what candidates took, and where that is known from."""
        log.info(
            "%s range %s%s: %s",
            self._registration.name,
            contest.task.cell,
            note,
            ", ".join(f"{c} {t.milliseconds:.4f} ms" for c, t in timings.items()),
        )
