"""Measures the ranges of a call that are given, on one size or on several."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.benchmark.contests import Contest, Measured
from torch._inductor.range_dispatch.call.sizes import input_bytes
from torch._inductor.range_dispatch.plan.choosing import combined, counts_calls, fastest
from torch._inductor.range_dispatch.plan.grid_search import (
    Place,
    search_grid,
    without_clear_neighbours,
)
from torch._inductor.range_dispatch.tuning.measuring import Measuring

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from torch._inductor.range_dispatch.benchmark.timing import Timings
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate
    from torch._inductor.range_dispatch.tuning.candidate_timer import CandidateTimer


log = logging.getLogger(__name__)

# Inputs of fewer bytes make no difference to what a call takes.
SMALL_INPUTS = 1 << 20

# So many cells share the time, if there are as many. More are measured only if they
# are cheap.
EXPECTED_CELLS = 24

# What a search of cells is kept by.
_CELLS = "cells"


def measure_given(
    registration: Registration,
    call: BoundCall,
    timer: CandidateTimer,
    tasks: Sequence[RangeTask],
    usable: Sequence[Sequence[TracedCandidate]],
) -> list[list[Measured]]:
    """What the candidates take, for each task at each of its sizes.

    Of several axes not every cell is measured, but for candidates with collectives,
    which all ranks time in step. ``usable`` are those of each task; a single one is not
    timed.
    """
    contests = [
        timer.memory.contests(able, task) if len(able) > 1 else []
        for able, task in zip(usable, tasks)
    ]
    competing = [one for row in contests for one in row]
    if not competing:
        return [[] for _ in tasks]
    if len(tasks[0].axes) > 1 and all(one.peers() is None for one in competing):
        return _measure_cells(registration, call, timer, tasks, contests)
    measured = measure_all(registration, timer, competing)
    return [[one for one in measured if one.task is task] for task in tasks]


def measure_all(
    registration: Registration, timer: CandidateTimer, contests: Sequence[Contest]
) -> list[Measured]:
    """What the candidates take in each contest, the smallest sizes first.

    Those that no time is left for are left out, as are those at sizes that the memory
    is not enough for.
    """
    stored = [timer.stored(contest) for contest in contests]
    untimed = [one for one, timings in zip(contests, stored) if timings is None]
    measuring = Measuring(registration, timer, untimed, len(untimed))
    found: list[list[Measured]] = [
        [] if timings is None else [Measured(contest.sample, timings, contest.task)]
        for contest, timings in zip(contests, stored)
    ]
    with measuring.progress:
        # What is far behind at small sizes is not called at large ones.
        for place in sorted(range(len(contests)), key=lambda i: contests[i].extent):
            if not found[place]:
                contest = contests[place]
                cost = max(contest.extent, 1)
                found[place] = measuring.time(place, [contest], [None], cost)
    if measuring.refused:
        log.warning(
            "%s: %d of %d sizes were timed, then %g s were used up: ranges without any "
            "take the winner of the nearest one. Give a larger tuning_seconds=",
            registration.op,
            len(contests) - len(measuring.refused),
            len(contests),
            registration.seconds,
        )
    return [one for row in found for one in row]


def _measure_cells(
    registration: Registration,
    call: BoundCall,
    timer: CandidateTimer,
    tasks: Sequence[RangeTask],
    contests: Sequence[Sequence[Contest]],
) -> list[list[Measured]]:
    """Of cells coarse ones first (see ``grid_search``); nothing for those left out."""
    numbers = {
        place: number
        for number, place in enumerate(places_of(registration, tasks))
        if contests[number]
    }
    competing = [one for row in contests for one in row]
    count = min(len(tasks), EXPECTED_CELLS)
    measuring = Measuring(registration, timer, competing, count, _CELLS)

    def winner(place: Place) -> Hashable | None:
        """The fastest candidate of a cell; None if it is not measured."""
        number = numbers[place]
        own = contests[number]
        largest = max(input_bytes(call, one.sample.values) for one in own)
        measured = measuring.measured.get(number) or measuring.measure(
            number, own, max(largest, SMALL_INPUTS)
        )
        if not measured:
            return None
        timings = timings_of(registration, tasks[number], measured)
        # Where no candidate could be run, the op itself is taken.
        return fastest(timings, registration.min_speedup_threshold) or "fallback"

    with measuring.progress:
        found = search_grid([*numbers], winner)
    measuring.keep(measuring.measured)
    guessed = without_clear_neighbours(found, numbers)
    if guessed and measuring.is_new:
        log.warning(
            "%s: %d of %d cells were timed, then %g s were used up: %d between "
            "different winners take that of the nearest one. Give a larger "
            "tuning_seconds=, or fewer split points",
            call.op,
            len(found),
            len(numbers),
            registration.seconds,
            len(guessed),
        )
    return [measuring.measured.get(number, []) for number in range(len(tasks))]


def timings_of(
    registration: Registration, task: RangeTask, measured: Sequence[Measured]
) -> Timings:
    """The times that decide on a range: those at all its sizes in one."""
    weighted = [(one.timings, one.sample.weight) for one in measured]
    return combined(weighted, counts_calls(registration.size_weights, task.cell))


def places_of(registration: Registration, tasks: Sequence[RangeTask]) -> list[Place]:
    """Where the tasks' cells are in the registration's grid."""
    numbers = [{r: i for i, r in enumerate(ranges)} for ranges in registration.grid]
    return [
        tuple(number[r] for number, r in zip(numbers, task.cell.ranges))
        for task in tasks
    ]
