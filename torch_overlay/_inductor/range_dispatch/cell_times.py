"""By which times the winner of each cell of a table's choice was decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.cache.table_calls import cells_of
from torch._inductor.range_dispatch.cache.tables import Decided

from torch._inductor.range_dispatch.plan.choosing import combined
from torch._inductor.range_dispatch.plan.guesses import guess_texts, untimed_texts

from torch._inductor.range_dispatch.plan.times import Timing
from torch._inductor.range_dispatch.record.text_tables import against_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch._inductor.range_dispatch.cache.tables import Choice, Entry

    from torch._inductor.range_dispatch.plan.ranges import Cell


NOT_KEPT = (
    "the table does not keep what decided: the times of ranges are geometric means of "
    "what was taken at the sizes in them"
)


def decided_of(
    choice: Choice, entries: Sequence[Entry]
) -> tuple[tuple[Decided | None, ...], bool]:
    """What decided in each cell, and whether the table keeps that.

    If it is an older one, it is the geometric mean of the ``entries`` in the cell. It
    is None where that is nothing.
    """
    if choice.decided:
        return choice.decided, True
    return tuple(_mean(cell, entries) for cell in cells_of(choice)), False


def _mean(cell: Cell, entries: Iterable[Entry]) -> Decided | None:
    """Candidates of one name and other sources are not the same ones."""
    measured = [
        {
            (one.name, one.digest): Timing(one.milliseconds, one.noise)
            for one in entry.candidates
            if one.milliseconds is not None
        }
        for entry in entries
        if len(entry.sizes) == len(cell.ranges) and entry.sizes in cell
    ]
    means = combined([(timings, 1.0) for timings in measured])
    if not means:
        return None
    return Decided(
        {name: time.milliseconds for (name, _), time in means.items()},
        {name: time.noise for (name, _), time in means.items()},
    )


def times_text(decided: Decided | None, winner: str | None) -> str:
    """``0.0800 ms ±0.0020 against 0.110 ms ±0.003 (other)``, fastest first; why there
    are no times, if a range was not timed, or nothing."""
    if decided is None:
        return ""
    if not decided.milliseconds:
        return decided.untimed
    return against_text(decided.milliseconds, decided.noise, winner)


def unmeasured_texts(choice: Choice, decided: Sequence[Decided | None]) -> list[str]:
    """Which splits are guesses, and how many ranges were not timed."""
    untimed = [one.untimed if one else "" for one in decided]
    return [*guessed_splits(choice, decided), *untimed_texts(untimed)]


def guessed_splits(choice: Choice, decided: Sequence[Decided | None]) -> list[str]:
    """Which splits are guesses."""
    guesses = [None if one is None else one.guess for one in decided]
    return guess_texts(cells_of(choice), guesses)


def candidate_names(
    decided: Iterable[Decided | None], entries: Iterable[Entry]
) -> list[str]:
    """The candidates whose times decided, in the order of the ``entries``."""
    known = dict.fromkeys(name for one in decided if one for name in one.milliseconds)
    ordered = (one.name for entry in entries for one in entry.candidates)
    return [*dict.fromkeys([*(name for name in ordered if name in known), *known])]
