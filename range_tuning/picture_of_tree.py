"""The picture of a decision tree: nested conds as a graph that grows to the right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from range_tuning.drawing import Look, looks_of, new_figure, Picture, picture_of, shown
from range_tuning.report_data import tree_text
from torch._inductor.range_dispatch import Decision, DecisionTree, predicate_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

    from range_tuning.report_data import CallReport


# A decision's boxes beyond these are counted only.
_BOXES_SHOWN = 5
_LETTER = 0.0753  # inches that a letter of the tree's font is wide, in its size
_LINE = 0.18  # inches
_AIR = 0.34  # inches between two boxes, with their margins


def tree_picture(report: CallReport, tree: Decision) -> Picture:
    """Every decision with its two ways, and every branch in its winner's colour."""
    columns = [0.2]
    for level in _levels(tree):
        widest = max(len(line) for node in level for line in _lines(report, node))
        columns.append(columns[-1] + widest * _LETTER + 0.95)
    width, height = columns[-1] - 0.7, _height(report, tree) + 0.1
    figure = new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    _draw(axes, report, tree, columns, 0.05)
    text = f"The tree of conds of {report.op}: {tree_text(report, tree)}"
    return picture_of(figure, "tree", text)


def _levels(tree: DecisionTree) -> Iterator[list[DecisionTree]]:
    """The nodes of a tree by how many decisions lead to them."""
    level = [tree]
    while level:
        yield level
        decisions = [node for node in level if isinstance(node, Decision)]
        level = [side for one in decisions for side in (one.inside, one.outside)]


def _lines(report: CallReport, node: DecisionTree) -> list[str]:
    if not isinstance(node, Decision):
        return [shown(report.names[report.branches[node.branch].winner])]
    few = node.boxes[:_BOXES_SHOWN]
    lines = [f"{predicate_text([box], report.axes)} or" for box in few]
    if len(node.boxes) > len(few):
        lines.append(f"… {len(node.boxes) - len(few)} more")
    else:
        lines[-1] = lines[-1].removesuffix(" or")
    return [shown(line, 90) for line in lines]


def _height(report: CallReport, node: DecisionTree) -> float:
    """How many inches a node and what is below it take from top to bottom."""
    own = len(_lines(report, node)) * _LINE + _AIR
    if not isinstance(node, Decision):
        return own
    return max(own, _height(report, node.inside) + _height(report, node.outside))


def _draw(
    axes: Axes, report: CallReport, node: DecisionTree, columns: list[float], top: float
) -> float:
    """Draw a node and what is below it in the inches that they need from ``top``.

    ``columns`` are where this level and further ones begin. Returns the node's middle.
    """
    middle = top + _height(report, node) / 2
    look, rounding = Look("#f2f2f2"), 0.4
    if isinstance(node, Decision):
        end = columns[1]
        heights = [_height(report, side) for side in (node.inside, node.outside)]
        top = middle - sum(heights) / 2
        for side, label in ((node.inside, "yes"), (node.outside, "no")):
            place = _draw(axes, report, side, columns[1:], top)
            top += heights[0]
            # The line begins under the node's own box.
            across = [columns[0], end - 0.45, end - 0.45, end]
            axes.plot(across, [middle, middle, place, place], color="#707070", lw=1.1)
            axes.text(end - 0.28, place - 0.03, label, ha="center", va="bottom", size=8)
    else:
        winner = report.branches[node.branch].winner
        look, rounding = looks_of(report).get(winner, Look()), 1.0
    axes.text(
        columns[0],
        middle,
        "\n".join(_lines(report, node)),
        va="center",
        ma="center",
        family="DejaVu Sans Mono",
        color=look.ink,
        bbox={
            "boxstyle": f"round,pad=0.6,rounding_size={rounding}",
            "facecolor": look.colour,
            "edgecolor": "#707070",
            "linewidth": 0.9,
        },
        zorder=3,
    )
    return middle
