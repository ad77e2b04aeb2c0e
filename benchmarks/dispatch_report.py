"""The tables and the plot of the dispatch benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dispatch_goals import dispatch_goals
from goals import goals_table
from peers import REFERENCE
from reporting import machine_line, new_figure, report_console, write_plot
from rich.box import SIMPLE_HEAD
from rich.table import Table

POSITIONS = ("first", "middle", "last")


def print_report(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Print the tables; returns the goals for the JSON file."""
    console = report_console()
    arguments = data["arguments"]
    console.print(machine_line(data["machine"]))
    console.print(
        f"one thread, medians of {arguments['repeats']} interleaved repeats of about "
        f"{arguments['milliseconds']} ms; ratios are to (a) in the same process and "
        "repeat, that of (a) is to itself"
    )
    for input_name in ("small", "large"):
        console.print(_table(data, input_name))
    console.print(_compile_table(data))
    goals = dispatch_goals(data)
    console.print(goals_table(goals))
    return [goal.as_json() for goal in goals]


def _label(data: Mapping[str, Any], name: str) -> str:
    peer = data["peers"][name]
    return f"({peer['letter']}) {peer['title']}"


def _table(data: Mapping[str, Any], input_name: str) -> Table:
    option = "small_rows" if input_name == "small" else "rows"
    rows = data["arguments"][option]
    table = Table(
        title=f"Microseconds a call, {input_name} input: x is [{rows}, size]",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("branches", justify="right")
    table.add_column("peer", no_wrap=True)
    for position in POSITIONS:
        table.add_column(position, justify="right")
        table.add_column("ratio", justify="right", style="bold")
    for one in data["rounds"]:
        timings = {
            t["position"]: t["peers"]
            for t in one["timings"]
            if t["input"] == input_name
        }
        for name, answer in one["peers"].items():
            cells: list[str] = []
            for position in POSITIONS:
                figures = timings.get(position, {}).get(name)
                if figures is None:
                    cells += ["", ""]
                    continue
                cells.append(f"{figures['microseconds']['median']:.2f}")
                cells.append(f"{figures['ratio']['median']:.3f}")
            if "failure" in answer:
                cells[0] = f"[red]{answer['failure']['error']}[/]"
            count = str(one["branches"]) if name == REFERENCE else ""
            table.add_row(count, _label(data, name), *cells)
        table.add_section()
    return table


def _compile_table(data: Mapping[str, Any]) -> Table:
    """Graphs and seconds; the seconds depend on which kernels were there already."""
    table = Table(
        title="Graphs compiled / seconds (kernels are shared: not for comparison)",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("peer", no_wrap=True)
    for one in data["rounds"]:
        table.add_column(f"{one['branches']}", justify="right")
    for name in data["peers"]:
        cells = [_compile_cell(name, one) for one in data["rounds"]]
        table.add_row(_label(data, name), *cells)
    return table


def _compile_cell(name: str, one: Mapping[str, Any]) -> str:
    answer = one["peers"][name]
    if "failure" in answer:
        return f"[red]{answer['failure']['error']}[/]"
    graphs, expected = answer["graphs"], answer["expected_graphs"]
    cell = f"{graphs} / {answer['seconds']:.0f}"
    if graphs != expected:
        return f"[red]{cell} ({expected} graphs expected)[/]"
    if name == "recompiling" and graphs < one["branches"]:
        return f"{cell}, then eager"
    return cell


def draw(path: Path, data: Mapping[str, Any]) -> None:
    """Ratio to (a) by number of branches: the first branch dotted, the last solid."""
    figure, axes = new_figure(14, 5, columns=2)
    for axis, input_name in zip(axes, ("small", "large")):
        for index, name in enumerate(data["peers"]):
            if name == REFERENCE:
                continue
            for position, style in (("first", ":"), ("last", "-")):
                points = _points(data, input_name, position, name)
                if not points:
                    continue
                axis.plot(
                    [branches for branches, _ in points],
                    [ratio for _, ratio in points],
                    style,
                    color=f"C{index}",
                    marker="o",
                    markersize=3,
                    linewidth=2 if name == "ours" else 1,
                    label=_label(data, name) if style == "-" else None,
                )
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.set_xticks([one["branches"] for one in data["rounds"]])
        axis.xaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_title(f"{input_name} input")
        axis.set_xlabel("distinct branches")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("time of a call / (a) the winner compiled alone")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize="small")
    figure.suptitle("Cost of a call: first branch dotted, last branch solid")
    write_plot(path, figure)


def _points(
    data: Mapping[str, Any], input_name: str, position: str, name: str
) -> list[tuple[int, float]]:
    points = []
    for one in data["rounds"]:
        here = {t["position"]: t for t in one["timings"] if t["input"] == input_name}
        # The only branch is the first and the last.
        timing = here.get(position, here["first"])
        if name in timing["peers"]:
            ratio = timing["peers"][name]["ratio"]["median"]
            points.append((one["branches"], ratio))
    return points
