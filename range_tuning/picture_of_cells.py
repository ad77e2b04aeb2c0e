"""Pictures of two or three axes: the cells as even tiles, cut at the split points."""

from __future__ import annotations

import bisect
import math
from typing import TYPE_CHECKING

from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from range_tuning.calls import CANNOT_OCCUR
from range_tuning.drawing import (
    legend_below,
    Look,
    looks_of,
    new_figure,
    NOWHERE,
    Picture,
    picture_of,
    shown,
    WIDTH,
)
from range_tuning.report_data import mean_loss, range_text, winner_grid
from torch._inductor.range_dispatch import predicate_text, ranges_from_split_points

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from range_tuning.report_data import CallReport


def winner_maps(report: CallReport) -> Picture:
    """The winner of every cell."""
    looks = looks_of(report)
    rows, columns = _shape(report)
    figure, panels = _panels(report, min(9.0, max(2.4, 0.5 * rows + 0.6)))
    room = 70 / len(panels[:3]) * (1.0, 1.3, 1.75)[len(panels[:3]) - 1]
    letters = int(room / columns)
    for first, panel in enumerate(panels):
        _draw_tiles(panel, report, looks, first)
        for y, line in enumerate(winner_grid(report, first)):
            for x, winner in enumerate(line):
                if winner is not None:
                    look = looks.get(winner, Look())
                    _name_tile(panel, (x, y), report.names[winner], look, letters)
    won = [number for number in looks if number in report.winners]
    handles: list[object] = []
    for look in (looks[number] for number in won):
        mark = Line2D([], [], ls="", marker=look.marker, color=look.ink, markersize=3.5)
        handles.append((Patch(facecolor=look.colour), mark))
    names = [shown(report.names[number]) for number in won]
    if None in report.cell_winners:
        handles.append(Patch(**NOWHERE))
        names.append(CANNOT_OCCUR)
    legend_below(figure, handles, names)
    text = (
        f"Heat map of the winners of {report.op} over {' and '.join(report.axes)}: "
        f"{len(report.rows)} cells, cut at the split points"
    )
    return picture_of(figure, "winners", text)


def loss_maps(report: CallReport) -> Picture:
    """What the dispatch loses at every size that was measured.

    The sizes stand on the tiles of the winners: those beside a split point would hide
    each other on axes of their own. Where operands differ in other sizes only, or three
    axes in the first one, it is the mean.
    """
    losses = [
        (p.sizes, p.loss_of(p.dispatched if report.rows else report.best_single))
        for p in report.points
    ]
    highest = max([loss for _, loss in losses if loss is not None] + [0.05])
    rows, columns = _shape(report)
    figure, panels = _panels(report, min(10.0, max(3.6, 1.05 * rows + 0.6)))
    across = _places(_split_points(report)[-1], [sizes[-1] for sizes, _ in losses])
    upward = _places(_split_points(report)[-2], [sizes[-2] for sizes, _ in losses])
    is_labelled = rows * columns <= 36 / len(panels[:3]) and len(losses) <= 400
    slices = _split_points(report)[0]
    for first, panel in enumerate(panels):
        _draw_tiles(panel, report, looks_of(report), first, alpha=0.22)
        at_spot: dict[tuple[float, float], list[float | None]] = {}
        for sizes, loss in losses:
            if len(panels) == 1 or bisect.bisect_left(slices, sizes[0]) == first:
                spot = across[sizes[-1]], upward[sizes[-2]]
                at_spot.setdefault(spot, []).append(loss)
        means = {spot: mean_loss(found) for spot, found in at_spot.items()}
        known = {spot: 100 * mean for spot, mean in means.items() if mean is not None}
        drawn = panel.scatter(
            [x for x, _ in known],
            [y for _, y in known],
            c=[*known.values()],
            cmap=LinearSegmentedColormap.from_list(
                "loss", ["#ffffff", "#f7d77e", "#d55e00", "#6b1500"]
            ),
            norm=PowerNorm(0.5, 0, 100 * highest),  # small losses are told apart too
            s=50 if is_labelled else 18,
            edgecolors="#404040",
            linewidths=0.6,
            zorder=3,
        )
        for spot, loss in known.items() if is_labelled else ():
            if loss >= 0.5:
                panel.text(*spot, f"\n{loss:.0f}", ha="center", va="top", size=7.5)
        for spot in means.keys() - known.keys():
            panel.plot(*spot, color="#606060", marker="x")
        for number, (axis, places) in enumerate(
            ((panel.yaxis, upward), (panel.xaxis, across)), -2
        ):
            if len(places) <= 12 and not _split_points(report)[number]:
                axis.set_ticks([*places.values()], [*map(str, places)])
    who = "the dispatch loses" if report.rows else "the best single candidate loses"
    bar = figure.colorbar(drawn, ax=panels, aspect=30, pad=0.02)
    bar.set_label(f"% that {who} to the fastest")
    text = (
        f"What {who} to the fastest candidate of {report.op} at each of "
        f"{len(report.points)} measured sizes, over {' and '.join(report.axes)}"
    )
    return picture_of(figure, "loss", text)


def _split_points(report: CallReport) -> Sequence[Sequence[int]]:
    return report.split_points or [()] * len(report.axes)


def _shape(report: CallReport) -> tuple[int, int]:
    """How many tiles a panel has upward and across."""
    *_, vertical, horizontal = _split_points(report)
    return len(vertical) + 1, len(horizontal) + 1


def _panels(report: CallReport, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of labelled panels: one, or of three axes one for each range of the
    first, at most three beside each other."""
    titles = [""]
    if len(report.axes) > 2 and report.rows:
        ranges = ranges_from_split_points(_split_points(report)[0])
        boxes = [((one.start or None, one.end),) for one in ranges]
        titles = [predicate_text([box], report.axes[:1]) for box in boxes]
    columns = min(3, len(titles))
    rows = math.ceil(len(titles) / columns)
    width = {1: WIDTH, 2: 10.5, 3: 14.0}[columns]
    figure = new_figure(width, height * rows + 0.7, layout="constrained")
    panels = [*figure.subplots(rows, columns, squeeze=False).flat]
    for panel in panels[len(titles) :]:
        panel.set_axis_off()
    for panel, title in zip(panels, titles):
        _label_tiles(panel, report, title, 8 if len(titles) == 1 else 4)
    return figure, panels[: len(titles)]


def _label_tiles(panel: Axes, report: CallReport, title: str, room: int) -> None:
    """Label the tiles of two axes: with ranges, or where there are many with splits."""
    *_, vertical, horizontal = _split_points(report)
    for axis, points, most in (
        (panel.xaxis, horizontal, room),
        (panel.yaxis, vertical, 2 * room),
    ):
        ranges = ranges_from_split_points(points)
        if len(ranges) <= most:
            axis.set_ticks(range(len(ranges)), [*map(range_text, ranges)])
        else:
            step = math.ceil(len(points) / (1.5 * most))
            places = [i + 0.5 for i in range(len(points))][::step]
            axis.set_ticks(places, [str(point) for point in points[::step]])
    panel.set_xlim(-0.5, len(horizontal) + 0.5)
    panel.set_ylim(-0.5, len(vertical) + 0.5)
    panel.tick_params(length=0 if len(horizontal) < room else 3)
    panel.set_xlabel(shown(report.axes[-1], 50))
    panel.set_ylabel(shown(report.axes[-2], 50))
    panel.set_title(shown(title, 50))
    panel.spines[:].set_visible(False)


def _draw_tiles(
    panel: Axes,
    report: CallReport,
    looks: Mapping[int, Look],
    first: int,
    alpha: float = 1.0,
) -> None:
    """The cells, each in its winner's colour."""
    for y, line in enumerate(winner_grid(report, first) if report.rows else ()):
        for x, winner in enumerate(line):
            style = NOWHERE
            if winner is not None:
                colour = looks.get(winner, Look()).colour
                style = {"facecolor": colour, "edgecolor": "white", "linewidth": 1.5}
            tile = Rectangle((x - 0.5, y - 0.5), 1, 1, alpha=alpha, zorder=1, **style)
            panel.add_patch(tile)


def _name_tile(
    panel: Axes, place: tuple[float, float], name: str, look: Look, letters: int
) -> None:
    """Its winner's name or, if that is too long, a marker."""
    name = shown(name, 60)
    if len(name) <= letters:
        panel.text(*place, name, ha="center", va="center", color=look.ink)
    else:
        panel.plot(*place, marker=look.marker, color=look.ink, markersize=5, alpha=0.8)


def _places(split_points: Sequence[int], sizes: Iterable[int]) -> dict[int, float]:
    """Where sizes of one axis stand on even tiles.

    Those of a range are spread over its tile, as far apart as on a logarithmic axis.
    """
    of_range: dict[int, list[int]] = {}
    for size in sorted(dict.fromkeys(sizes)):
        of_range.setdefault(bisect.bisect_left(split_points, size), []).append(size)
    places = {}
    for number, own in of_range.items():
        low, high = max(1, own[0]), max(1, own[-1])
        for size in own:
            share = (
                math.log(max(1, size) / low) / math.log(high / low)
                if low < high
                else 0.5
            )
            places[size] = number - 0.36 + 0.72 * share
    return places
