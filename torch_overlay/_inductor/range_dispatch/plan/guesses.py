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


def guess_text(split: int | None, guess: Guess) -> str:
    """``split 182: not measured, somewhere between 4 and 2048``.

    ``split`` is the last size of a range, None for the last range.
    """
    low, high = guess
    if split is None:
        return f"sizes above {low}: not timed"
    where = f"above {low}" if high is None else f"between {low} and {high}"
    return f"split {split}: not measured, somewhere {where}"


def guess_texts(cells: Iterable[Cell], guesses: Iterable[Guess | None]) -> list[str]:
    """The same for each cell whose last size is a guess, in order."""
    texts = []
    for cell, guess in zip(cells, guesses):
        if guess is not None:
            (only,) = cell.ranges
            texts.append(guess_text(only.end, guess))
    return texts


def untimed_texts(untimed: Sequence[str]) -> list[str]:
    """Each reason not to have timed a range, and for how many of all it was so.

    ``untimed`` has one for each range, empty for those that were timed.
    """
    return [
        f"{reason} ({untimed.count(reason)} of {len(untimed)} ranges)"
        for reason in dict.fromkeys(filter(None, untimed))
    ]
