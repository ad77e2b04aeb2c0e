"""The winner of a range, and in words why it won."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch._inductor import config
from torch._inductor.range_dispatch.benchmark.timing import is_disturbed
from torch._inductor.range_dispatch.call.sizes import evaluate
from torch._inductor.range_dispatch.distributed.ranks import find_peers
from torch._inductor.range_dispatch.registration.forcing import forced_name
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.benchmark.contests import Measured

    from torch._inductor.range_dispatch.benchmark.timing import Timings
    from torch._inductor.range_dispatch.call.sizes import RangeTask
    from torch._inductor.range_dispatch.plan.guesses import Guess

    from torch._inductor.range_dispatch.registration.candidates import Candidate
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.drops import Dropped
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate

# So many sizes are listed; of more only the first and the last.
_MAX_LISTED = 5


@dataclass(frozen=True)
class RangeChoice:
    """The winner of a range, and what was measured to find it.

    ``number`` is the winner as registered, and ``reason`` says why it won. ``timings``
    is what decided: the times at all sizes in one. ``is_untimed`` says that several
    candidates competed and none was timed: the winner is that of the nearest range, or
    the op itself. ``guess`` tells between which measured sizes the last one of the
    range lies, if that is not known any better (see ``FoundRange``).
    """

    task: RangeTask
    winner: TracedCandidate
    number: int
    measured: Sequence[Measured] = ()
    timings: Timings = field(default_factory=dict)
    is_untimed: bool = False
    guess: Guess | None = None
    reason: str = ""


def reasons_of(
    registration: Registration,
    choices: Sequence[RangeChoice],
    dropped: Sequence[Dropped],
) -> list[str]:
    """Why the winners of a call's choices won."""
    is_timed = any(choice.timings for choice in choices)
    return [
        _reason(
            registration,
            choice,
            is_timed,
            [one for one in dropped if one.concerns(choice.task.cell)],
        )
        for choice in choices
    ]


def _reason(
    registration: Registration,
    choice: RangeChoice,
    is_timed: bool,
    dropped: Sequence[Dropped],
) -> str:
    """``is_timed`` tells whether any range of the call was timed, and ``dropped`` are
    the candidates that could not be used for this one."""
    forced = forced_name(registration.op)
    if forced is not None:
        instead = (
            "in place of the one " if forced != choice.winner.candidate.name else ""
        )
        return f"{instead}forced by config.range_dispatch.force"
    if registration.winners is not None:
        if registration.winners[choice.task.index] != choice.number:
            return f"in place of the winner that was given; dropped: {_list(dropped)}"
        return "given by winners="
    if not choice.timings:
        if choice.is_untimed and is_timed:
            return "not timed: the winner of the nearest ranges that were"
        if choice.is_untimed:
            return "not timed: the op itself is taken"
        return _untimed_reason(registration, choice, dropped)
    winner, timings = choice.winner.candidate, choice.timings
    times = _times(choice, winner)
    if winner not in timings:
        return f"agreed by the ranks of the job; not timed by this one {times}"
    fastest = min(timings, key=lambda one: timings[one].milliseconds)
    if fastest is winner:
        how_many = f"fastest of {len(timings)}" if len(timings) > 1 else "the only one"
        if dropped:
            how_many += (
                f", {len(OrderedSet(one.candidate for one in dropped))} dropped,"
            )
        return f"{how_many} {times}"
    return f"{_why_not_fastest(registration, timings, winner, fastest)} {times}"


def _list(dropped: Sequence[Dropped]) -> str:
    return "; ".join(f"{one.candidate}: {one.reason}" for one in dropped)


def _untimed_reason(
    registration: Registration, choice: RangeChoice, dropped: Sequence[Dropped]
) -> str:
    if choice.measured:
        return "no candidate could be run, which leaves the op itself"
    forced = config.test_configs.force_custom_op_decomposition
    if forced is False and registration.include_fallback:
        return "forced by config.test_configs.force_custom_op_decomposition"
    if config.deterministic or config.batch_invariant:
        return "nothing is timed where results must not depend on it (deterministic)"
    if config.range_dispatch.agree_on_winners and find_peers() is not None:
        return "the only candidate, or agreed by the ranks of the job before"
    if dropped:
        names = OrderedSet(one.candidate for one in dropped)
        return f"the only candidate left; dropped: {', '.join(names)}"
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


def _times(choice: RangeChoice, winner: Candidate) -> str:
    """``at sizes 8, 64: 0.015 ms against 0.05 ms (other_impl)``, fastest first."""
    timings = choice.timings
    others = sorted(
        (one for one in timings if one is not winner),
        key=lambda one: timings[one].milliseconds,
    )
    shown = [f"{timings[one].milliseconds:.3g} ms ({one.name})" for one in others]
    own = f"{timings[winner].milliseconds:.3g} ms" if winner in timings else "not timed"
    text = f"{own} against {', '.join(shown)}" if shown else own
    if any(is_disturbed(one.timings) for one in choice.measured):
        text += ", on a busy machine"
    return f"{_where(choice)}: {text}"


def _where(choice: RangeChoice) -> str:
    """The sizes that decided, ``at size 8``; several axes have a tuple for each."""
    sizes = [
        tuple(evaluate(size, one.sample.values) for size in choice.task.sizes)
        for one in choice.measured
    ]
    if not choice.task.sizes:
        return "at the sizes seen in compiling"
    texts = [", ".join(map(str, one)) for one in sizes]
    if len(choice.task.sizes) > 1:
        texts = [f"({text})" for text in texts]
    if len(texts) > _MAX_LISTED:
        return f"at {len(texts)} sizes from {texts[0]} to {texts[-1]}"
    return f"at size{'s' if len(texts) > 1 else ''} {', '.join(texts)}"
