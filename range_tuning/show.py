"""A tuning table as text for people: what was chosen, and what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from range_tuning.calls import (
    calls_of,
    CANNOT_OCCUR,
    cell_texts,
    NOT_KEPT,
    NOT_TIMED,
    operands_text,
    TableCall,
)
from torch._inductor.range_dispatch import (
    Decided,
    Entry,
    milliseconds_text,
    TextTable,
    TuningTable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from range_tuning.text import Part


def table_parts(table: TuningTable) -> list[Part]:
    """Every call of a table: its winners, then its times."""
    parts: list[Part] = []
    for call in calls_of(table):
        if parts:
            parts.append("")
        parts += [*call.headings(), *_choice_parts(call)]
        for entries in _alike(call):
            parts += ["", _times(call, entries)]
    return parts or ["the table is empty"]


def _choice_parts(call: TableCall) -> list[Part]:
    """A row for each cell: its winner, the number it is registered by, and what
    decided."""
    choice, names = call.choice, call.timed_names
    if choice is None:
        return ["  nothing is known of what was chosen"]
    rows = [
        (
            *cell_texts(row.cell),
            row.name or CANNOT_OCCUR,
            "" if row.number is None else str(row.number),
            *_time_texts(row.decided, names),
        )
        for row in call.rows
    ]
    columns = (*call.columns, "winner", "number", *(f"{name} ms" for name in names))
    is_mean = not call.keeps_decided and any(call.decided)
    notes = [*call.unmeasured, *([NOT_KEPT] if is_mean else [])]
    return [
        *(f"  dropped: {one}" for one in choice.dropped),
        "",
        TextTable(columns, rows, labels=len(call.columns) + 1),
        *(f"  {note}" for note in notes),
    ]


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
