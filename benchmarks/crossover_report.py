"""Tables, goals and the plot of crossovers between implementations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TYPE_CHECKING

from crossover import DISPATCH, OperatorResult
from goals import Goal
from reporting import median, new_figure
from rich.box import SIMPLE_HEAD
from rich.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LIMIT = 1.05
"""How far the dispatch may be from the best implementation at a size."""


def sweep_table(result: OperatorResult) -> Table:
    """A line a size: microseconds of each peer, the dispatch over the best."""
    table = Table(
        title=f"{result.operator.title}: microseconds a call, * the best",
        box=SIMPLE_HEAD,
        padding=0,
    )
    table.add_column(result.operator.unit, justify="right", max_width=10)
    for peer in result.peers:
        table.add_column(_words(peer), justify="right")
    table.add_column("branch that ran")
    table.add_column("dispatch / best", justify="right", max_width=10)
    for one in result.sizes:
        medians = {name: median(times) for name, times in one.microseconds.items()}
        table.add_row(
            str(one.size),
            *(
                f"[bold]*{medians[name]:.0f}[/]"
                if name == one.best
                else f"{medians[name]:.0f}"
                for name in result.peers
            ),
            _words(one.branch),
            _marked(one.ratio(DISPATCH)),
        )
    return table


def _words(name: str) -> str:
    """A name that a narrow column can break."""
    return name.replace("_", " ")


def _marked(ratio: float) -> str:
    return f"[{'green' if ratio <= LIMIT else 'red'}]{ratio:.3f}[/]"


def means_table(results: Sequence[OperatorResult]) -> Table:
    """A line a peer: how far it is from the best at each size, over the sweep."""
    table = Table(title="Over the best implementation at each size", box=SIMPLE_HEAD)
    table.add_column("operator")
    table.add_column("")
    table.add_column("geometric mean", justify="right")
    table.add_column("worst", justify="right")
    table.add_column("best at", justify="right")
    for result in results:
        for peer in result.peers:
            best_at = sum(one.best == peer for one in result.sizes)
            table.add_row(
                result.operator.name if peer == result.peers[0] else "",
                f"[bold]{peer}[/]" if peer == DISPATCH else peer,
                f"{result.mean_ratio(peer):.3f}",
                f"{max(one.ratio(peer) for one in result.sizes):.2f}",
                "" if peer == DISPATCH else f"{best_at} of {len(result.sizes)} sizes",
                end_section=peer == DISPATCH,
            )
    return table


def goals_of(result: OperatorResult) -> list[Goal]:
    """What the dispatch has to reach for one operator."""
    name = result.operator.name
    ratios = {one.size: one.ratio(DISPATCH) for one in result.sizes}
    worst = max(ratios, key=ratios.__getitem__)
    misses = [size for size, ratio in ratios.items() if ratio > LIMIT]
    means = {peer: result.mean_ratio(peer) for peer in result.implementations}
    nearest = min(means, key=means.__getitem__)
    dispatched = result.mean_ratio(DISPATCH)
    measured = f"at most {ratios[worst]:.3f} (size {worst})"
    if misses:
        measured += f", missed at {', '.join(map(str, misses))}"
    return [
        Goal(
            f"{name}: within {LIMIT:.2f} of the best at every size",
            measured,
            not misses,
        ),
        Goal(
            f"{name}: beats every single implementation over the sweep",
            f"{dispatched:.3f} against {means[nearest]:.3f} ({nearest})",
            dispatched < means[nearest],
        ),
    ]


def draw(results: Sequence[OperatorResult]) -> Figure:
    """A panel an operator: time over size, shaded by the winner of each range."""
    figure, axes = new_figure(6 * len(results), 4.8, len(results))
    for result, panel in zip(results, axes if len(results) > 1 else [axes]):
        _draw_panel(result, panel)
    return figure


def _draw_panel(result: OperatorResult, panel: Any) -> None:
    sizes = [one.size for one in result.sizes]
    names = result.implementations
    colors = {name: f"C{i}" for i, name in enumerate(names)}

    def medians(peer: str) -> list[float]:
        return [median(one.microseconds[peer]) for one in result.sizes]

    for name in names:
        panel.plot(sizes, medians(name), color=colors[name], label=name)
    panel.plot(sizes, medians(DISPATCH), "k.", markersize=8, label=DISPATCH)
    first, last = sizes[0] / 1.1, sizes[-1] * 1.1
    for branch in result.branches:
        size_range = branch.size_range
        start = max(size_range.start - 0.5, first)
        end = last if size_range.end is None else min(size_range.end + 0.5, last)
        if start < end:
            color = colors[branch.implementation]
            panel.axvspan(start, end, color=color, alpha=0.15, linewidth=0)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xlim(first, last)
    panel.set_xlabel(f"{result.operator.unit} (shaded by the branch that runs)")
    panel.set_ylabel("microseconds a call")
    panel.set_title(result.operator.title)
    panel.legend()
