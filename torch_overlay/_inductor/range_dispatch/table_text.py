"""A tuning table as text for people: what was chosen, and what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.record_text import axis_columns, cell_texts
from torch._inductor.range_dispatch.table_calls import (
    calls_of,
    cells_of,
    operands_text,
    TableCall,
)
from torch._inductor.range_dispatch.text_tables import (
    milliseconds_text,
    Part,
    TextTable,
)

if TYPE_CHECKING:
    from torch._inductor.range_dispatch.tables import Choice, Entry, TuningTable


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
            parts += ["", choice_table(call.choice)]
        for entries in _alike(call):
            parts += ["", _times(call, entries)]
    return parts or ["the table is empty"]


def choice_table(choice: Choice) -> TextTable:
    """A row for each cell: its winner, and the number it is registered by."""
    rows = [
        (*cell_texts(cell), name or CANNOT_OCCUR, "" if number is None else str(number))
        for cell, name, number in zip(cells_of(choice), choice.names, choice.winners)
    ]
    axes = axis_columns(choice.axes)
    return TextTable((*axes, "winner", "number"), rows, labels=len(axes) + 1)


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
