"""Writes lines and tables: drawn by ``rich`` on a terminal, else as plain columns."""

from __future__ import annotations

from typing import TextIO, TYPE_CHECKING, TypeAlias

from torch._inductor.range_dispatch import plain, TextTable

if TYPE_CHECKING:
    from collections.abc import Iterable

# What a command says: a line of text, or a table below it.
Part: TypeAlias = str | TextTable


def write(parts: Iterable[Part], file: TextIO) -> None:
    """Write lines, and tables indented below them."""
    if file.isatty():
        _draw(parts, file)
    else:
        file.write(plain(parts))


def _draw(parts: Iterable[Part], file: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console(file=file)
    for part in parts:
        if not isinstance(part, TextTable):
            # As Text: a range such as [0, 512] is no markup.
            console.print(Text(part), soft_wrap=True)
            continue
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for number, column in enumerate(part.columns):
            table.add_column(
                Text(column),
                justify="left" if number < part.labels else "right",
                overflow="fold",
            )
        for row in part.rows:
            table.add_row(*map(Text, row))
        console.print(Padding(table, (0, 0, 0, 2), expand=False))
