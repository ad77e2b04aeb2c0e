"""What the candidates of a call took before: nothing is kept yet."""

from __future__ import annotations

import logging
from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from torch._inductor.range_dispatch.benchmark.accuracy import Accuracy
    from torch._inductor.range_dispatch.benchmark.budget import Behind
    from torch._inductor.range_dispatch.benchmark.contests import Contest
    from torch._inductor.range_dispatch.benchmark.timing import Timings
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.registration.spec import Registration


log = logging.getLogger(__name__)


class NoSearches:
    """Has no search of an earlier compile."""

    def load_search(self, contests: Any, rules: Any) -> None:
        """What an earlier search measured."""

    def store_search(self, contests: Any, rules: Any, measured: Any) -> None:
        """Keep what a search measured."""


class KnownTimes:
    """Logs the times of contests."""

    uses_table = False

    def __init__(
        self,
        registration: Registration,
        call: BoundCall,
        fused: Any,
        as_timed: Any,
        accuracy: Accuracy,
        behind: Behind,
    ) -> None:
        self.cache = NoSearches()
        self._name = registration.name

    def find(self, contest: Contest, is_resumed: bool = False) -> Timings | None:
        """What is known of a contest."""
        return None

    def keep(self, contest: Contest, timings: Timings) -> None:
        """Keep new times for later compiles."""

    def log(self, contest: Contest, timings: Timings, origin: str = "") -> None:
        """Say what candidates took."""
        log.info(
            "%s range %s%s: %s",
            self._name,
            contest.task.cell,
            origin,
            ", ".join(f"{c} {t.milliseconds:.4f} ms" for c, t in timings.items()),
        )
