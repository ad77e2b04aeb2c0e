"""Finds out what the candidates of given ranges take, within a budget of time."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.benchmark import timing
from torch._inductor.range_dispatch.benchmark.budget import Budget
from torch._inductor.range_dispatch.benchmark.contests import Contest, Measured
from torch._inductor.range_dispatch.benchmark.progress import TuningProgress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.registration.spec import Registration

    from torch._inductor.range_dispatch.tuning.bench import Bench


log = logging.getLogger(__name__)


def tune(
    registration: Registration, bench: Bench, contests: Sequence[Contest]
) -> list[Measured]:
    """What the candidates take in each contest: stored times, or new ones.

    All contests share the registration's ``tuning_seconds``, the smallest sizes first:
    those that nothing is left for are left out, as are those at sizes that the memory
    is not enough for.
    """
    stored = [bench.stored(contest) for contest in contests]
    untimed = [one for one, timings in zip(contests, stored) if timings is None]
    bench.compile(untimed)
    runs = sum(len(bench.running(contest)) for contest in untimed)
    seconds_each = registration.seconds / max(runs, 1)
    budget = Budget(registration.seconds)
    found: list[Measured | None] = [
        None if timings is None else Measured(contest.sample, timings, contest.task)
        for contest, timings in zip(contests, stored)
    ]
    untimed_count = 0
    with TuningProgress(registration.name, len(untimed)) as progress:
        # What is far behind at small sizes is not called at large ones.
        for place in sorted(range(len(contests)), key=lambda i: contests[i].extent):
            if found[place] is not None:
                continue
            contest = contests[place]
            try:
                if budget.left <= 0 and contest.peers() is None:
                    raise timing.OutOfTime
                found[place] = bench.measure(contest, seconds_each, budget)
            except timing.OutOfTime:
                untimed_count += 1
            progress.advance()
    if untimed_count:
        log.warning(
            "%s: %d of %d sizes were timed, then %g s were used up: ranges without any "
            "take the winner of the nearest one. Give a larger tuning_seconds=",
            registration.op,
            len(contests) - untimed_count,
            len(contests),
            registration.seconds,
        )
    return [one for one in found if one is not None]
