"""Brings the sizes that a range is timed at within the memory that timing may take."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.benchmark.contests import Contest, describe_sizes
from torch._inductor.range_dispatch.benchmark.eager_memory import EagerMemory
from torch._inductor.range_dispatch.benchmark.footprint import Footprint
from torch._inductor.range_dispatch.call.cells import samples_for, values_in
from torch._inductor.range_dispatch.call.memory import readable, tuning_bytes
from torch._inductor.range_dispatch.call.sizes import (
    bounds_of,
    evaluate,
    hint_values,
    input_bytes,
    largest_that_fit,
    Sample,
)
from torch._inductor.range_dispatch.trace.drops import CandidateRejected
from torch._inductor.range_dispatch.trace.holding import sample_for
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import RangeTask, SymbolValues
    from torch._inductor.range_dispatch.region.fused_call import FusedCall
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.drops import Drops
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate


log = logging.getLogger(__name__)

# The op's own memory is not looked at where so small a part of the limit is needed.
_SMALL_PART = 1024


class Fitting:
    """What timing the candidates of a call takes, and the sizes at which that fits.

    Alive at a time are the inputs, what one candidate allocates, outputs and
    temporaries, and results that it is compared with. For a graph that is computed (see
    ``Footprint``), for the op itself measured (see ``EagerMemory``), if it is about to
    be timed.
    """

    def __init__(
        self,
        call: BoundCall,
        timed: BoundCall | FusedCall,
        as_timed: Callable[[TracedCandidate], TracedCandidate],
        registration: Registration,
        drops: Drops,
        are_compared: bool,
    ) -> None:
        """``timed`` is the call with what is fused around it, ``as_timed`` a graph, and
        ``are_compared`` says whether results are compared with those of the op itself.
        """
        self._call = call
        self._timed = timed
        self._as_timed = as_timed
        self._registration = registration
        self._drops = drops
        self._are_compared = are_compared
        self._limit = tuning_bytes(call.nodes[0].get_device())
        self._footprints: dict[TracedCandidate, Footprint] = {}
        self._op: TracedCandidate | None = None
        generators = registration.input_gen_fns
        self._eager = EagerMemory(call, generators, self._needed_by_op, self._limit)

    def contests(
        self, candidates: Sequence[TracedCandidate], task: RangeTask
    ) -> list[Contest]:
        """One for each of the sizes that stand for the range, all of which fit.

        Where the task's do not, there are others, smaller ones. A candidate that does
        not fit at the smallest size of the range is left out, if another one does.
        """
        samples = task.samples
        able = [*candidates]
        if _can_vary(task) and not all(self.fits(able, s.values) for s in samples):
            *_, smallest = _lowered(task, samples[-1])
            able = self.able(able, task, smallest)
            samples = samples_for(
                self._registration,
                self._call,
                task.axes,
                task.cell,
                lambda values: self.fits(able, values),
            )
        return [
            Contest(able, task, sample_for(able, one, task.sizes)) for one in samples
        ]

    def with_op(self, contest: Contest, seconds: float) -> Contest:
        """The contest at sizes at which the op itself has enough memory, too: at the
        largest, or with several the first of those that ``_lowered`` gives, without
        what fits at none."""
        self.measure_op(contest, seconds)
        task, sample = contest.task, contest.sample
        if not _can_vary(task) or self.fits(contest.candidates, sample.values):
            return contest
        lowered = [*_lowered(task, sample)]
        able = self.able(contest.candidates, task, lowered[-1])
        if not self.fits(able, sample.values):
            fits = functools.partial(self.fits, able)
            if len(task.sizes) == 1:
                (size,) = task.sizes
                first, last = _first(task, 0), evaluate(size, sample.values)
                values = largest_that_fit(self._call, size, first, last, fits)
            else:
                values = next(filter(fits, lowered), lowered[-1])
            log.info(
                "%s: range %s is timed at %s, not %s: the op itself would take more "
                "memory than timing may (see memory.tuning_bytes)",
                self._call.op,
                task.cell,
                describe_sizes(task, values),
                describe_sizes(task, sample.values),
            )
            sample = Sample(values, sample.weight)
        return Contest(able, task, sample_for(able, sample, task.sizes))

    def measure_op(self, contest: Contest, seconds: float) -> None:
        """Call the op itself at smaller sizes, if it is to be timed, for what it takes.

        What is known before is not measured again. No call is begun after ``seconds``.
        """
        task, values = contest.task, contest.sample.values
        own = [one for one in contest.candidates if one.candidate.is_fallback]
        # Other ranks would have to call it as well.
        if not _can_vary(task) or not own or contest.peers() is not None:
            return
        (self._op,) = own
        if self._static_bytes(self._op, values) * _SMALL_PART > self._limit:
            symbols = OrderedSet(s for size in task.sizes for s in size.free_symbols)
            self._eager.measure(values, symbols, seconds)

    def fits(self, candidates: Sequence[TracedCandidate], values: SymbolValues) -> bool:
        """Whether each of them can be timed at these sizes."""
        return all(self._bytes(one, values) <= self._limit for one in candidates)

    def able(
        self,
        candidates: Sequence[TracedCandidate],
        task: RangeTask,
        values: SymbolValues,
    ) -> list[TracedCandidate]:
        """Those that fit at sizes, all of them if none does; the others are dropped."""
        able = [one for one in candidates if self.fits([one], values)]
        for one in candidates:
            if able and one not in able:
                reason = CandidateRejected(
                    f"it takes {readable(self._bytes(one, values))} of memory at "
                    f"{describe_sizes(task, values)}, where timing may take "
                    f"{readable(self._limit)}",
                    "register the op with winners=[...] to use it there",
                )
                self._drops.add(one.candidate, task.cell, reason)
        return able or [*candidates]

    def _bytes(self, traced: TracedCandidate, values: SymbolValues) -> int:
        needed = self._static_bytes(traced, values)
        if traced.candidate.is_fallback:
            measured = input_bytes(self._timed, values) + self._eager.at(values)
            return max(needed, measured)
        return needed

    def _static_bytes(self, traced: TracedCandidate, values: SymbolValues) -> int:
        if traced not in self._footprints:
            graph_module = self._as_timed(traced).graph_module
            self._footprints[traced] = Footprint(graph_module)
        footprint = self._footprints[traced]
        needed = input_bytes(self._timed, values) + footprint.peak(values)
        if self._are_compared and not traced.candidate.is_fallback:
            needed += footprint.results(values)  # of the op itself
        return needed

    def _needed_by_op(self, values: SymbolValues) -> int:
        """Of what the op needs at least, the part that grows with the sizes."""
        if self._op is None:
            raise AssertionError(f"{self._call.op} is no candidate")
        try:
            constant = self._static_bytes(self._op, dict.fromkeys(values, 0))
        except ZeroDivisionError:
            constant = 0
        return max(self._static_bytes(self._op, values) - constant, 1)


def _can_vary(task: RangeTask) -> bool:
    """Whether there are sizes to choose from; else there is memory for the only one."""
    return not all(axis.is_static for axis in task.axes)


def _lowered(task: RangeTask, sample: Sample) -> Iterator[SymbolValues]:
    """The sample's sizes, halved until they are the smallest of their ranges."""
    tops = [evaluate(size, sample.values) for size in task.sizes]
    firsts = [_first(task, axis) for axis in range(len(tops))]
    seen = hint_values(OrderedSet(sample.values))
    yield sample.values
    while tops != firsts:
        tops = [max(first, top // 2) for first, top in zip(firsts, tops)]
        values = values_in(task.sizes, task.cell.ranges, tops, seen)
        if values is not None:
            yield values


def _first(task: RangeTask, axis: int) -> int:
    """The smallest size of a range."""
    lower, _ = bounds_of(task.sizes[axis])
    return max(task.cell.ranges[axis].start, lower, 1)
