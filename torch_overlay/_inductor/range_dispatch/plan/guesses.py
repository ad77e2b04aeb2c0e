"""What was not measured, in words: splits that are guesses, and ranges not timed."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch._inductor.range_dispatch.plan.ranges import Cell


# The neighbouring sizes that were measured between which a split lies that was not
# found any closer; no second one if none above was measured.
Guess: TypeAlias = tuple[int, int | None]

# In the place of a time.
NOT_TIMED = "not timed"


def guess_texts(cells: Iterable[Cell], guesses: Iterable[Guess | None]) -> list[str]:
    """``split 182: not measured, somewhere between 4 and 2048`` for each cell, of one
    axis, whose last size is a guess."""
    texts = []
    for cell, guess in zip(cells, guesses):
        if guess is None:
            continue
        (only,) = cell.ranges
        low, high = guess
        if only.end is None:
            texts.append(f"sizes above {low}: not timed")
        else:
            where = f"above {low}" if high is None else f"between {low} and {high}"
            texts.append(f"split {only.end}: not measured, somewhere {where}")
    return texts


def untimed_texts(untimed: Sequence[str]) -> list[str]:
    """Each reason not to have timed a range, and for how many of all it was so.

    ``untimed`` has one for each range, empty for those that were timed.
    """
    return [
        f"{reason} ({untimed.count(reason)} of {len(untimed)} ranges)"
        for reason in dict.fromkeys(filter(None, untimed))
    ]
