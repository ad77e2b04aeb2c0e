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
    from torch._inductor.range_dispatch.benchmark.behind import Behind
    from torch._inductor.range_dispatch.benchmark.contests import Contest
    from torch._inductor.range_dispatch.benchmark.timing import Timings
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import SymbolValues
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
        as_timed: Callable[[Contest], list[TracedCandidate]],
        accuracy: Accuracy,
        behind: Behind,
    ) -> None:
        """``as_timed`` gives the graphs that are timed for a contest: with what is
        ``fused`` around the call, if anything. ``behind`` is told what is found."""
        self.uses_table = False
        self._name = registration.name
        self._as_timed = as_timed
        self._accuracy = accuracy
        self._behind = behind
        self._tables = CallTables(call)
        self._cache = TuningCache(registration, fused or call)

    def find(self, contest: Contest, is_resumed: bool = False) -> Timings | None:
        """What a table or an earlier compile has, None if that is nothing.

        If it ``is_resumed``, only what the ``tune`` command has measured before: unlike
        other tables, that one is added to.
        """
        if contest.peers() is not None:  # others may have nothing stored
            return None
        candidates, axes = contest.candidates, contest.task.axes
        values, required = contest.sample.values, self._accuracy.required
        timings = self._tables.take(candidates, values, axes, required)
        origin = " (measured before)"
        if timings is None and not is_resumed:
            timings = self._tables.find(candidates, values, required)
            origin = " (from a table)"
            self.uses_table |= timings is not None
            if timings is None:
                timings = self._cache.load(self._as_timed(contest), values, required)
                origin = " (stored)"
                if timings is not None:
                    self._tables.note(candidates, values, axes, timings, required)
        if timings is not None:
            self._behind.note(contest, timings)
            self.log(contest, timings, origin)
        return timings

    def keep(self, contest: Contest, timings: Timings) -> None:
        """Keep new times for later compiles and for a table.

        Where a candidate was dropped for its results, a later compile compares them
        again: it may be told to keep it. What other programs disturbed it times again.
        """
        task, values = contest.task, contest.sample.values
        agreed = self._accuracy.agreed(task, values)
        is_final = not self._accuracy.has_dropped(task, values)
        if is_final and not is_disturbed(timings):
            self._cache.store(self._as_timed(contest), values, timings, agreed)
        self._tables.note(contest.candidates, values, task.axes, timings, agreed)

    def log(self, contest: Contest, timings: Timings, origin: str = "") -> None:
        """Say what candidates took, and where that is known from."""
        log.info(
            "%s range %s%s: %s",
            self._name,
            contest.task.cell,
            origin,
            ", ".join(f"{c} {t.milliseconds:.4f} ms" for c, t in timings.items()),
        )

    def searched_before(
        self, contests: Sequence[Contest], rules: SearchRules | str
    ) -> OrderedSet[int] | None:
        """What an earlier search of these contests measured, if there was one."""
        return self._cache.load_search(self._described(contests), rules)

    def keep_search(
        self,
        contests: Sequence[Contest],
        rules: SearchRules | str,
        measured: Sequence[int],
    ) -> None:
        """Let later compiles measure the same only, all of which is stored."""
        self._cache.store_search(self._described(contests), rules, measured)

    def _described(
        self, contests: Sequence[Contest]
    ) -> list[tuple[list[TracedCandidate], SymbolValues]]:
        return [(self._as_timed(one), one.sample.values) for one in contests]
