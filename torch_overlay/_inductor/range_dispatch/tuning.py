"""Finds out what the candidates of each range take: stored times, or new ones."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING, TypeAlias

from torch._inductor import config
from torch._inductor.range_dispatch import modules, timing
from torch._inductor.range_dispatch.agreement import describe_registration
from torch._inductor.range_dispatch.in_step import communicates, Meeting
from torch._inductor.range_dispatch.inputs import (
    make_inputs,
    operand_layouts,
    RangeTask,
    SymbolValues,
)
from torch._inductor.range_dispatch.progress import TuningProgress
from torch._inductor.range_dispatch.ranks import find_peers, Peers
from torch._inductor.range_dispatch.tracing import TracedCandidate
from torch._inductor.range_dispatch.tuning_cache import TuningCache
from torch._inductor.range_dispatch.variants import warn_dropped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch._inductor.range_dispatch.binding import BoundCall
    from torch._inductor.range_dispatch.candidates import Candidate
    from torch._inductor.range_dispatch.spec import Registration


log = logging.getLogger(__name__)

_Compiled: TypeAlias = dict[TracedCandidate, modules.CompiledCandidate]


@dataclass(frozen=True)
class Contest:
    """The candidates for a range, and the sizes to time them at."""

    candidates: Sequence[TracedCandidate]
    task: RangeTask
    values: SymbolValues

    def compiled_in(self, compiled: _Compiled) -> list[modules.CompiledCandidate]:
        """The modules of the candidates that could be compiled."""
        return [compiled[one] for one in self.candidates if one in compiled]

    def peers(self) -> Peers | None:
        """Those to time the candidates together with, None if this rank alone can."""
        if any(communicates(one.graph_module) for one in self.candidates):
            return find_peers()
        return None


def tune(
    registration: Registration,
    call: BoundCall,
    fake_operands: Sequence[Any],
    contests: Sequence[Contest],
) -> dict[int, timing.Timings]:
    """What the candidates take, by index of the range.

    Each distinct graph is compiled at most once, whatever the number of ranges, and
    only if a range has to be timed. All ranges share
    ``config.range_dispatch.tuning_seconds``.
    """
    if not contests:
        return {}
    cache = TuningCache(registration, call)
    peers = {contest.task.index: contest.peers() for contest in contests}
    found = {
        contest.task.index: cache.load(contest.candidates, contest.values)
        for contest in contests
        if peers[contest.task.index] is None  # others may have nothing stored
    }
    taken = {index: timings for index, timings in found.items() if timings is not None}
    for contest in contests:
        if contest.task.index in taken:
            _log(registration, contest, taken[contest.task.index], " (stored)")
    untimed = [contest for contest in contests if contest.task.index not in taken]
    compiled = _compile(call, fake_operands, untimed)
    runs = sum(len(contest.compiled_in(compiled)) for contest in untimed)
    seconds_each = config.range_dispatch.tuning_seconds / max(runs, 1)
    with TuningProgress(registration.name, len(untimed)) as progress:
        for contest in untimed:
            running = contest.compiled_in(compiled)
            index = contest.task.index
            timings = _time(
                registration, call, contest, running, seconds_each, peers[index]
            )
            if timings:
                if peers[index] is None:
                    cache.store(contest.candidates, contest.values, timings)
                _log(registration, contest, timings)
            taken[index] = timings
            progress.advance()
    return taken


def _compile(
    call: BoundCall, fake_operands: Sequence[Any], contests: Sequence[Contest]
) -> _Compiled:
    """Every graph that competes somewhere, compiled once."""
    distinct = dict.fromkeys(one for c in contests for one in c.candidates)
    on_failure = _dropping(call, "for all ranges: it does not compile")
    compiled = modules.compile_candidates([*distinct], fake_operands, on_failure)
    return {one.traced: one for one in compiled}


def _time(
    registration: Registration,
    call: BoundCall,
    contest: Contest,
    running: Sequence[modules.CompiledCandidate],
    seconds_each: float,
    peers: Peers | None,
) -> timing.Timings:
    """What the candidates that can be run on the range's sizes take."""
    if not running:
        return {}
    meeting = None
    if peers is not None:
        meeting = _meet(peers, registration, call, contest, running)
        if meeting is None:
            return {}
    size_range = contest.task.size_range
    try:
        inputs = make_inputs(call, contest.values, registration.input_gen_fns)
    except ValueError:
        raise  # a generator's fault, which names the argument
    except Exception as error:
        log.warning(
            "%s: no inputs to time range %s with, taking the op itself: %s",
            call.op,
            size_range,
            error,
        )
        return {}
    together = {} if meeting is None else {"meeting": meeting}
    return timing.time_candidates(
        running,
        inputs,
        registration.benchmark_with_cudagraphs,
        seconds_each * len(running),
        _dropping(call, f"for range {size_range}: it does not run"),
        **together,
    )


def _meet(
    peers: Peers,
    registration: Registration,
    call: BoundCall,
    contest: Contest,
    running: Sequence[modules.CompiledCandidate],
) -> Meeting | None:
    """All ranks at this contest, None and a warning if one is at another."""
    *tensors, symbols = operand_layouts(call, contest.values)
    layouts = [layout[:-1] for layout in tensors]  # devices differ
    indices = [one.candidate.index for one in running]
    plan = f"{contest.task.size_range} {layouts} {symbols} {indices}"
    meeting = Meeting.call(peers, describe_registration(registration), plan)
    if meeting is None:
        log.warning(
            "%s: candidates with collectives can be timed only by all ranks together, "
            "with the same sizes. Taking the op itself for range %s; register it with "
            "winners=[...] to choose",
            call.op,
            contest.task.size_range,
        )
    return meeting


def _dropping(call: BoundCall, where: str) -> Callable[[Candidate, Exception], None]:
    def drop(candidate: Candidate, reason: Exception) -> None:
        warn_dropped(call, candidate, where, reason)

    return drop


def _log(
    registration: Registration,
    contest: Contest,
    timings: timing.Timings,
    note: str = "",
) -> None:
    log.info(
        "%s range %s%s: %s",
        registration.name,
        contest.task.size_range,
        note,
        ", ".join(f"{c} {t.milliseconds:.4f} ms" for c, t in timings.items()),
    )
