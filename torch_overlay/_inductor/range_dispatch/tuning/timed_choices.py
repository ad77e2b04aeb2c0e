"""The winner of a range, and in words why it won."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch._inductor import config
from torch._inductor.range_dispatch.benchmark.timing import is_disturbed
from torch._inductor.range_dispatch.call.sizes import evaluate
from torch._inductor.range_dispatch.distributed.ranks import find_peers
from torch._inductor.range_dispatch.registration.base_release import (
    decides_without_timing,
)
from torch._inductor.range_dispatch.registration.forcing import forced_name
from torch._inductor.range_dispatch.selection.choices import RangeChoice
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.benchmark.contests import Measured
    from torch._inductor.range_dispatch.benchmark.timing import Timings
    from torch._inductor.range_dispatch.plan.guesses import Guess
    from torch._inductor.range_dispatch.registration.candidates import Candidate
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.drops import Dropped

# So many sizes are listed; of more only the first and the last.
_MAX_LISTED = 5


@dataclass(frozen=True)
class TimedChoice(RangeChoice):
    """The winner of a range, and what was measured to find it.

    ``reason`` says why it won. ``timings`` is what decided: the times at all sizes in
    one. ``is_untimed`` says that several candidates competed and none was timed: the
    winner is that of the nearest range, or the op itself. ``guess`` tells between which
    measured sizes the last one of the range lies, if that is not known any better (see
    ``FoundRange``).
    """

    measured: Sequence[Measured] = ()
    timings: Timings = field(default_factory=dict)
    is_untimed: bool = False
    guess: Guess | None = None
    reason: str = ""


def reason_of(
    registration: Registration,
    choice: TimedChoice,
    is_timed: bool,
    dropped: Sequence[Dropped],
) -> str:
    """Why the winner of a range won.

    ``is_timed`` tells whether any range of the call was timed, and ``dropped`` are the
    candidates that could not be used for all of its ranges.
    """
    dropped = [one for one in dropped if one.concerns(choice.task.cell)]
    forced = forced_name(registration.op)
    if forced is not None:
        is_other = forced != choice.winner.candidate.name
        instead = "in place of the one " if is_other else ""
        return f"{instead}forced by config.range_dispatch.force"
    if registration.winners is not None:
        if registration.winners[choice.task.index] != choice.number:
            why = "; ".join(f"{one.candidate}: {one.reason}" for one in dropped)
            return f"in place of the winner that was given; dropped: {why}"
        return "given by winners="
    names = OrderedSet(one.candidate for one in dropped)
    if not choice.timings:
        if choice.is_untimed and is_timed:
            return "not timed: the winner of the nearest ranges that were"
        if choice.is_untimed:
            return "not timed: the op itself is taken"
        return _untimed_reason(registration, choice, names)
    winner, timings = choice.winner.candidate, choice.timings
    fastest = min(timings, key=lambda one: timings[one].milliseconds)
    if winner not in timings:
        why = "agreed by the ranks of the job; not timed by this one"
    elif fastest is not winner:
        why = _why_not_fastest(registration, timings, winner, fastest)
    else:
        why = f"fastest of {len(timings)}" if len(timings) > 1 else "the only one"
        why += f", {len(names)} dropped," if names else ""
    return f"{why} {_times(choice, winner)}"


def _untimed_reason(
    registration: Registration, choice: TimedChoice, dropped: OrderedSet[str]
) -> str:
    if choice.measured:
        return "no candidate could be run, which leaves the op itself"
    forced = config.test_configs.force_custom_op_decomposition
    if forced is False and registration.include_fallback:
        return "forced by config.test_configs.force_custom_op_decomposition"
    if decides_without_timing():
        return "nothing is timed where results must not depend on it (deterministic)"
    if config.range_dispatch.agree_on_winners and find_peers() is not None:
        return "the only candidate, or agreed by the ranks of the job before"
    if dropped:
        return f"the only candidate left; dropped: {', '.join(dropped)}"
    return "the only candidate"


def _why_not_fastest(
    registration: Registration, timings: Timings, winner: Candidate, fastest: Candidate
) -> str:
    won, best = timings[winner], timings[fastest]
    noise = won.noise + best.noise
    dispatch = registration.dispatch
    if won.milliseconds - best.milliseconds <= noise:
        return (
            f"within the noise ({noise:.3g} ms) of {fastest.name}, the fastest, and "
            "kept so that noise adds no branch"
        )
    threshold = registration.min_speedup_threshold
    if winner.is_fallback and won.milliseconds < best.milliseconds * threshold:
        return (
            f"the op itself stays: {fastest.name}, the fastest, is not "
            f"min_speedup_threshold={threshold:g} times as fast"
        )
    if dispatch is not None and dispatch.searched is not None:
        return (
            f"within max_loss={dispatch.searched.rules.max_loss:g} of {fastest.name}, "
            "the fastest here, for fewer ranges"
        )
    return f"agreed by the ranks of the job; {fastest.name} is the fastest here"


def _times(choice: TimedChoice, winner: Candidate) -> str:
    """``at sizes 8, 64: 0.015 ms against 0.05 ms (other_impl)``, fastest first."""
    by_time = sorted(choice.timings.items(), key=lambda one: one[1].milliseconds)
    others = [f"{t.milliseconds:.3g} ms ({c.name})" for c, t in by_time if c != winner]
    own = choice.timings.get(winner)
    text = "not timed" if own is None else f"{own.milliseconds:.3g} ms"
    if others:
        text += f" against {', '.join(others)}"
    if any(is_disturbed(one.timings) for one in choice.measured):
        text += ", on a busy machine"
    return f"{_where(choice)}: {text}"


def _where(choice: TimedChoice) -> str:
    """The sizes that decided, ``at size 8``; several axes have a tuple for each."""
    if not choice.task.sizes:
        return "at the sizes seen in compiling"
    texts = []
    for one in choice.measured:
        sizes = [str(evaluate(size, one.sample.values)) for size in choice.task.sizes]
        texts.append(f"({', '.join(sizes)})" if len(sizes) > 1 else sizes[0])
    if len(texts) > _MAX_LISTED:
        return f"at {len(texts)} sizes from {texts[0]} to {texts[-1]}"
    return f"at size{'s' if len(texts) > 1 else ''} {', '.join(texts)}"
