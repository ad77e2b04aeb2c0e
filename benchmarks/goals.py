"""Goals that a benchmark holds its figures against."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table


@dataclass(frozen=True)
class Goal:
    """What was wanted, what came out, and whether that will do."""

    goal: str
    measured: str
    met: bool

    def as_json(self) -> dict[str, Any]:
        """For the JSON file."""
        return dataclasses.asdict(self)


def goals_table(goals: Sequence[Goal]) -> Table:
    """The goals, one a line."""
    table = Table(title="Goals", box=SIMPLE_HEAD)
    table.add_column("goal")
    table.add_column("measured", justify="right")
    table.add_column("", justify="left")
    for goal in goals:
        mark = "[green]pass[/]" if goal.met else "[red]miss[/]"
        table.add_row(goal.goal, goal.measured, mark)
    return table
