"""The pictures of a call in a tuning table's report, as PNG files in memory."""

from __future__ import annotations

from typing import Any, TYPE_CHECKING

import matplotlib.style

from range_tuning.picture_of_cells import loss_maps, winner_maps
from range_tuning.picture_of_times import bars, curves
from range_tuning.picture_of_tree import tree_picture
from torch._inductor.range_dispatch import Decision

if TYPE_CHECKING:
    from range_tuning.drawing import Picture
    from range_tuning.report_data import CallReport


_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#808080",
    "axes.formatter.useoffset": False,
    "axes.labelsize": 9.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    # Names are shown as they are, whatever dollars they have.
    "text.parse_math": False,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
}


def pictures_of(report: CallReport) -> list[Picture]:
    """The pictures of a call, those that its axes and what is known of it allow."""
    # The user's own settings are for other pictures.
    with matplotlib.style.context([_STYLE], after_reset=True):
        is_timed = any(point.milliseconds for point in report.points)
        found = []
        if not report.axes and is_timed:
            found.append(bars(report))
        if len(report.axes) == 1 and (is_timed or len(report.rows) > 1):
            found.append(curves(report, is_timed))
        if len(report.axes) > 1:
            if report.rows:
                found.append(winner_maps(report))
            if is_timed:
                found.append(loss_maps(report))
        if isinstance(report.tree, Decision):
            found.append(tree_picture(report, report.tree))
        return found
