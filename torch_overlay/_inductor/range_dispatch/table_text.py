"""A tuning table as text for people: what was chosen, and what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.cache.table_calls import (
    calls_of,
    cells_of,
    operands_text,
    TableCall,
)

from torch._inductor.range_dispatch.cell_times import (
    candidate_names,
    decided_of,
    NOT_KEPT,
    unmeasured_texts,
)
from torch._inductor.range_dispatch.plan.guesses import NOT_TIMED
from torch._inductor.range_dispatch.record.record_text import axis_columns, cell_texts
from torch._inductor.range_dispatch.record.text_tables import (
    busy_texts,
    milliseconds_text,
    Part,
    TextTable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.cache.tables import (
        Choice,
        Decided,
        Entry,
        TuningTable,
    )


CANNOT_OCCUR = "cannot occur"


def table_parts(table: TuningTable) -> list[Part]:
    """Every call of a table: its winners, then its times."""
    parts: list[Part] = []
    for call in calls_of(table):
        if parts:
            parts.append("")
        parts += call.headings()
        if call.choice is None:
            parts.append("  nothing is known of what was chosen")
        else:
            parts += [f"  dropped: {one}" for one in call.choice.dropped]
            parts += ["", *_choice_parts(call.choice, call.entries)]
        for entries in _alike(call):
            parts += ["", _times(call, entries)]
    return parts or ["the table is empty"]


def _choice_parts(choice: Choice, entries: Sequence[Entry]) -> list[Part]:
    decided, is_kept = decided_of(choice, entries)
    names = candidate_names(decided, entries)
    parts: list[Part] = [_choice_table(choice, decided, names)]
    marks = [entry.is_disturbed for entry in entries]
    texts = [*unmeasured_texts(choice, decided), *busy_texts(marks)]
    parts += [f"  {text}" for text in texts]
    if not is_kept and any(decided):
        parts.append(f"  {NOT_KEPT}")
    return parts


def _choice_table(
    choice: Choice, decided: Sequence[Decided | None], names: Sequence[str]
) -> TextTable:
    """A row for each cell: its winner, the number it is registered by, and what
    decided."""
    rows = [
        (
            *cell_texts(cell),
            name or CANNOT_OCCUR,
            "" if number is None else str(number),
            *_time_texts(one, names),
        )
        for cell, name, number, one in zip(
            cells_of(choice), choice.names, choice.winners, decided
        )
    ]
    axes = axis_columns(choice.axes)
    columns = (*axes, "winner", "number", *(f"{name} ms" for name in names))
    return TextTable(columns, rows, labels=len(axes) + 1)


def _time_texts(decided: Decided | None, names: Sequence[str]) -> list[str]:
    """Nothing for a candidate that did not compete in a cell, or failed there."""
    if decided and decided.untimed:
        return [NOT_TIMED] * len(names)
    return [
        milliseconds_text(decided.milliseconds[name], decided.noise[name])
        if decided and name in decided.milliseconds
        else ""
        for name in names
    ]


def _alike(call: TableCall) -> list[list[Entry]]:
    """The entries of a call by their candidates, which are other ones once a source
    has been edited."""
    found: dict[tuple[tuple[str, str], ...], list[Entry]] = {}
    for entry in call.entries:
        candidates = tuple((one.name, one.digest) for one in entry.candidates)
        found.setdefault(candidates, []).append(entry)
    return [*found.values()]


def _times(call: TableCall, entries: list[Entry]) -> TextTable:
    names = [one.name for one in entries[0].candidates]
    rows = [
        (
            *map(str, entry.sizes),
            operands_text(entry),
            *(
                milliseconds_text(one.milliseconds, one.noise, one.disturbed)
                for one in entry.candidates
            ),
        )
        for entry in entries
    ]
    columns = (*call.axes, "operands", *(f"{name} ms" for name in names))
    return TextTable(columns, rows, labels=len(call.axes) + 1)
