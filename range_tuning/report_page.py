"""The HTML page of a tuning table's report: one file that needs nothing besides."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING

from range_tuning.calls import CANNOT_OCCUR, NOT_KEPT, NOT_TIMED, Row
from range_tuning.report_data import mean_loss, percent, range_text, summary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from range_tuning.drawing import Picture
    from range_tuning.report_data import CallReport, Point
    from torch._inductor.range_dispatch import LiveCount


# By which a report's page is known, and no other page is written over its pictures.
GENERATOR = "torch range dispatch report"

_STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8881; --bar: #0072b2; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem;
  max-width: 62rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .25rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
.summary { font-size: 1.05rem; }
.facts { margin: .5rem 0 1rem; display: grid; gap: 0 1rem;
  grid-template-columns: max-content 1fr; font-size: .9rem; }
.facts dt { opacity: .7; } .facts dd { margin: 0; }
figure { margin: 1rem 0; }
figure img { display: block; max-width: max(100%, 40rem); height: auto; margin: 0 auto;
  background: #fff; border: 1px solid var(--line); border-radius: 6px; }
figure .tree { max-width: none; }
figcaption { font-size: .85rem; opacity: .75; margin-top: .25rem; text-align: center; }
.wide { overflow-x: auto; }
.wide table { margin: 1rem 0; }
table { border-collapse: collapse; font-size: .9rem; overflow-wrap: normal; }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { background: var(--soft); }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.best { font-weight: 700; } .none { opacity: .6; font-style: italic; }
.bar { color: var(--bar); }
code { font-size: .92em; }
@media (max-width: 40rem) { body { padding: .75rem; }
  .facts { grid-template-columns: 1fr; } .facts dd { margin-bottom: .4rem; } }
@media print { h2 { break-before: page; } }
"""

# What is in a cell, perhaps with its class.
_Cell = object | tuple[object, str]
# Longer tables of ranges are folded away.
_ROWS_SHOWN = 40

_CAPTIONS = {
    "times": "What candidates took; shaded, or as lines, by how much it may be off.",
    "winners": "The winner of every cell; split points are the last sizes of cells.",
    "loss": "What is lost to the fastest candidate at every size that was measured.",
    "tree": "How the graph picks a branch: the nested conds.",
}


def page_of(
    title: str,
    calls: Sequence[CallReport],
    pictures: Sequence[Sequence[Picture]],
    counts: Sequence[LiveCount] = (),
) -> str:
    """The page of all calls, each with its pictures and with what was counted."""
    sections = [
        _section(f"call-{i}", call, shown, counts)
        for i, (call, shown) in enumerate(zip(calls, pictures, strict=True), 1)
    ]
    if not calls:
        sections = ["<p>The table is empty.</p>"]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{GENERATOR}">
<link rel="icon" href="data:,">
<title>{_text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{_text(title)}</h1>
{_index(calls)}
{"".join(sections)}
</body>
</html>
"""


def _text(value: object) -> str:
    return html.escape(str(value))


def _index(calls: Sequence[CallReport]) -> str:
    if len(calls) < 2:
        return ""
    items = "\n".join(
        f'<li><a href="#call-{i}"><code>{_text(call.op)}</code></a> '
        f"{_text(call.call)} ({_text(', '.join(call.axes) or 'no dispatch')})<br>"
        f"<small>{_text(call.where)}</small><br>{_text(summary(call))}</li>"
        for i, call in enumerate(calls, 1)
    )
    return f"<nav><ol>\n{items}\n</ol></nav>"


def _section(
    anchor: str,
    call: CallReport,
    pictures: Sequence[Picture],
    counts: Sequence[LiveCount],
) -> str:
    facts = [
        ("operands", call.call or "–"),
        ("dispatched on", ", ".join(call.axes) or "nothing: one winner for all sizes"),
        ("schema", call.schema),
        ("environment", call.where),
        *(("dropped", one) for one in (call.choice.dropped if call.choice else ())),
    ]
    lines = "".join(f"<dt>{name}</dt><dd>{_text(fact)}</dd>" for name, fact in facts)
    return "\n".join(
        [
            f'<section id="{anchor}">',
            f"<h2><code>{_text(call.op)}</code></h2>",
            f'<p class="summary">{_text(summary(call))}.</p>',
            f'<dl class="facts">{lines}</dl>',
            *map(_figure, pictures),
            _rows_table(call),
            _counts_table(call, counts),
            _times_table(call),
            "</section>\n",
        ]
    )


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    caption = _CAPTIONS.get(picture.kind, "")
    return (
        f'<figure><div class="wide"><img class="{picture.kind}" '
        f'alt="{_text(picture.description)}" '
        f'src="data:image/png;base64,{data}"></div>'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _table(
    heads: Sequence[str], numbers: Sequence[str], rows: Iterable[Iterable[_Cell]]
) -> str:
    """A table that scrolls by itself where it is wider than the page.

    Heads in ``numbers`` are those of columns of numbers.
    """
    kinds = ["number" if head in numbers else "" for head in heads]
    lines = [
        "".join(
            f'<{tag} class="{f"{kind} {cell[1]}".strip()}">{_text(cell[0])}</{tag}>'
            if isinstance(cell, tuple)
            else f'<{tag} class="{kind}">{_text(cell)}</{tag}>'
            for kind, cell in zip(kinds, row)
        )
        for tag, row in [("th", heads), *(("td", row) for row in rows)]
    ]
    head, *body = (f"<tr>{line}</tr>" for line in lines)
    return (
        f'<div class="wide"><table>\n<thead>{head}</thead>\n'
        f"<tbody>\n{chr(10).join(body)}\n</tbody>\n</table></div>"
    )


def _milliseconds(value: float) -> str:
    return f"{value:.4g}" if value < 1e4 else f"{value:.0f}"


def _rows_table(call: CallReport) -> str:
    """The ranges, or cells, with what is known of each."""
    if not call.rows:
        return ""
    numbers = ["winners=", "sizes timed", "winner, ms", "loss"]
    heads = [*(call.axes or ["sizes"]), "winner", *numbers[:3], "next, ms", "loss"]
    table = _table(heads, numbers, (_row_cells(call, row) for row in call.rows))
    if len(call.rows) > _ROWS_SHOWN:
        title = f"all {len(call.rows)} {'ranges' if len(call.axes) == 1 else 'cells'}"
        table = f"<details><summary>{title}</summary>{table}</details>"
    items = "".join(f"<li>{_text(text)}</li>" for text in call.unmeasured)
    if items:
        table = f"{table}<ul>{items}</ul>"
    if not call.points:
        return table
    decided = (
        "Milliseconds are what decided: geometric means of what was taken at the sizes "
        "timed, or arithmetic ones where it was given how often sizes come."
        if call.keeps_decided
        else f"{NOT_KEPT[0].upper()}{NOT_KEPT[1:]}."
    )
    return (
        f"{table}<p><small>{_text(decided)} The loss is the winner's to the fastest at "
        "each size that was timed, on the average.</small></p>"
    )


def _row_cells(call: CallReport, row: Row) -> list[_Cell]:
    ranges = [range_text(one) for one in row.cell.ranges] or ["all"]
    if row.name is None:
        return [*ranges, (CANNOT_OCCUR, "none"), *[""] * 5]
    points = call.points_in(row.cell)
    others = dict(row.decided.milliseconds) if row.decided else {}
    winner: _Cell = "–"
    if row.name in others:
        winner = _milliseconds(others.pop(row.name))
    elif row.decided and row.decided.untimed:
        winner = NOT_TIMED, "none"
    fastest = min(others, key=lambda name: others[name], default=None)
    second = f"{_milliseconds(others[fastest])} {fastest}" if fastest else "–"
    loss = percent(mean_loss(p.loss_of(p.dispatched) for p in points))
    return [*ranges, row.name, row.number, len(points), winner, second, loss]


def _counts_table(call: CallReport, counts: Sequence[LiveCount]) -> str:
    """How often branches ran, calls that were not recorded included, if that was
    counted."""
    ran: dict[str, int] = {}
    for count in counts:
        if (count.op, count.call, count.axes) == (call.op, call.call, call.axes):
            for name, times in count.branches.items():
                ran[name] = ran.get(name, 0) + times * count.every
    if not ran:
        return ""
    served = [row.name for row in call.rows if row.name is not None]
    total = sum(ran.values()) or 1
    shares = {name: ran.get(name, 0) / total for name in [*served, *ran]}
    rows = (
        [
            name,
            served.count(name),
            ran.get(name, 0),
            f"{100 * share:.1f}\N{NO-BREAK SPACE}%",
            ("█" * round(20 * share), "bar"),
        ]
        for name, share in shares.items()
    )
    heads = ["branch", "ranges", "ran", "of all", ""]
    return (
        "<h3>How often each branch ran</h3><p>Where it was counted; of a sample, what "
        f"it stands for.</p>{_table(heads, heads[1:4], rows)}"
    )


def _times_table(call: CallReport) -> str:
    """Everything that was measured, folded away."""
    if not call.points:
        return ""
    heads = [*call.axes, *(f"{name}, ms" for name in call.names)]
    rows = (_time_cells(call, point) for point in call.points)
    count = len(call.points)
    sizes = "1 measured size" if count == 1 else f"all {count} measured sizes"
    return (
        f"<details><summary>{sizes}; bold is the fastest</summary>"
        f"{_table(heads, heads, rows)}</details>"
    )


def _time_cells(call: CallReport, point: Point) -> list[_Cell]:
    cells: list[_Cell] = [*point.sizes]
    fastest = min(point.milliseconds.values(), default=None)
    for number in range(len(call.names)):
        taken = point.milliseconds.get(number)
        if taken is not None:
            noise = f" ± {point.noise[number]:.2g}" if point.noise[number] else ""
            text = f"{_milliseconds(taken)}{noise}"
            cells.append((text, "best" if taken == fastest else ""))
        else:
            cells.append(("failed" if number in point.failed else "", "none"))
    return cells
