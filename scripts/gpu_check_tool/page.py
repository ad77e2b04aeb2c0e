"""Makes the Markdown page of what a run has found, of the JSON file's data alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Data = Mapping[str, Any]

MARKS = {"passed": "✓", "failed": "✗", "skipped": "–", "not reached": "…"}
GOAL = 1.05
"""The goal of docs/performance.md: a dispatched call over the winner alone."""

HEAD = """\
# What runs on {what}

Written by `scripts/gpu_check` ({took:.0f} of {seconds} s); do not edit.
"""
NO_GPU = """\
**This run was on a CPU.** It shows that the command works, and nothing of a GPU: what
needs one is named in each section.
"""
NOTHING = "The installed torch could not be checked, so nothing else was run."


def page(data: Data) -> str:
    """The whole page."""
    unnamed = "a CPU" if data["device"] == "cpu" else "a GPU"
    what = data["machine"].get("gpu") or unnamed
    parts = [HEAD.format(what=what, took=data["took"], seconds=data["seconds"])]
    if data["device"] == "cpu":
        parts.append(NO_GPU)
    parts.append("\n".join(machine_lines(data)))
    rows = [
        (s["title"], f"**{s['status']}**", s["counts"], f"{s['seconds']:.0f}")
        for s in data["steps"]
    ]
    parts.append("\n".join(table(("step", "", "checks", "s"), rows)))
    for step in data["steps"]:
        parts.append("\n".join(section(step)))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def machine_lines(data: Data) -> Iterator[str]:
    """What the figures are of."""
    machine = data["machine"]
    if not machine:
        yield NOTHING
        return
    gpu = ""
    if "gpu" in machine:
        gpu = (
            f"{machine['gpu']} ({machine['gpu_gibibytes']} GiB, "
            f"{machine['multiprocessors']} multiprocessors, sm_"
            f"{machine['capability'].replace('.', '')}), CUDA {machine['cuda']}, "
        )
    yield f"* machine: {gpu}{machine['processor']}, {machine['cores']} cores"
    triton = machine["triton"] or "not installed"
    yield f"* torch {machine['torch']}, Triton {triton}, Python {machine['python']}"
    yield f"* base {data['base']}, from a copy of what is installed"


def section(step: Data) -> Iterator[str]:
    """A step: its notes, why it ended early, its tables, what did not pass."""
    yield f"## {step['title']}\n"
    if step["words"]:
        yield f"{step['status'].capitalize()}: {step['words']}.\n"
    yield from bullets(step["notes"])
    if step["checks"]:
        yield from TABLES[step["name"]](step["checks"])
        yield from bullets([*reasons(step["checks"])])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a Markdown table; all columns but the first are aligned right."""
    yield "| " + " | ".join(head) + " |"
    yield "| --- |" + " ---: |" * (len(head) - 1)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""


def bullets(lines: Sequence[str]) -> Iterator[str]:
    """A list, if there is anything in it."""
    yield from (f"* {line}" for line in lines)
    if lines:
        yield ""


def overlay(checks: Sequence[Data]) -> Iterator[str]:
    """What was said of the copy."""
    rows = [
        (c["name"], MARKS[c["status"]], f"{c['seconds']:.1f}", _one_line(c["words"]))
        for c in checks
    ]
    yield from table(("", "", "s", "what was said"), rows)


def rows(checks: Sequence[Data]) -> Iterator[str]:
    """The matrix: a line a row, a column a model."""
    cells = {(c["request"]["name"], c["request"]["model"]): c for c in checks}
    models = [*dict.fromkeys(model for _, model in cells)]
    lines = [
        (f"`{name}`", *(MARKS[cells[name, model]["status"]] for model in models))
        for name in dict.fromkeys(name for name, _ in cells)
    ]
    yield from table(("", *models), lines)
    yield ", ".join(f"{mark} {status}" for status, mark in MARKS.items()) + ".\n"


def tuning(checks: Sequence[Data]) -> Iterator[str]:
    """For each operator a line a range, with what each implementation took."""
    for check in checks:
        if not (answer := check["answer"]):
            continue
        names = answer["implementations"]
        yield (
            f"### {check['name']}\n\n{answer['title']}: milliseconds by "
            f"{answer['unit']}. Compiled and tuned in {answer['compile_seconds']} s.\n"
        )
        lines = []
        for one in answer["ranges"]:
            times = [one["milliseconds"].get(name) for name in names]
            shown = ["–" if ms is None else f"{ms:.4f}" for ms in times]
            timed_at = " ".join(map(str, one["timed_at"]))
            lines.append((one["range"], f"`{one['winner']}`", timed_at, *shown))
        yield from table(("range", "winner", "timed at", *names), lines)
        yield from bullets([f"dropped: {dropped}" for dropped in answer["dropped"]])


def dispatch(checks: Sequence[Data]) -> Iterator[str]:
    """For each operator a line a size, with the ratio to the winner alone."""
    for check in checks:
        if not (answer := check["answer"]):
            continue
        names = [*answer["sizes"][0]["microseconds"]]
        yield (
            f"### {answer['title']}\n\nMicroseconds a call, medians of interleaved "
            "repeats; the ratio is to the implementation of the branch, compiled "
            "alone, in the same repeat."
        )
        if answer["in_turn"]:
            yield "Tuning gave no two winners: the ranges have them in turn."
        yield ""
        lines = []
        for one in answer["sizes"]:
            times = [f"{one['microseconds'][name]:.1f}" for name in names]
            ratios = [f"{one[key]:.3f}" for key in ("ratio", "ratio_to_best")]
            lines.append((str(one["size"]), f"`{one['branch']}`", *times, *ratios))
        head = (answer["unit"], "branch", *names, "ratio", "ratio to the best")
        yield from table(head, lines)
        within = sum(one["ratio"] <= GOAL for one in answer["sizes"])
        count = len(answer["sizes"])
        yield f"Within {GOAL} of the winner at {within} of {count} sizes.\n"


def tests(checks: Sequence[Data]) -> Iterator[str]:
    """A line a file."""
    counts: dict[str, Counter[str]] = {}
    for check in checks:
        counts.setdefault(check["request"]["module"], Counter())[check["status"]] += 1
    lines = [
        (f"`{module}.py`", *(str(counted[status]) for status in MARKS))
        for module, counted in counts.items()
    ]
    yield from table(("", *MARKS), lines)


def reasons(checks: Sequence[Data]) -> Iterator[str]:
    """Of each that failed its reason; of skipped ones each reason once."""
    skipped: Counter[str] = Counter()
    for check in checks:
        words = _one_line(check["words"])
        if check["status"] == "failed":
            yield f"**{check['name']}** failed: {words}"
        elif check["status"] == "skipped":
            skipped[words or "no reason was given"] += 1
    yield from (f"{count} skipped: {reason}" for reason, count in skipped.items())


def _one_line(words: str) -> str:
    return " ".join(words.split())


TABLES = {
    "overlay": overlay,
    "rows": rows,
    "tuning": tuning,
    "dispatch": dispatch,
    "tests": tests,
}
