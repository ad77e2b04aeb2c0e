"""The tables of the page, one function for each step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

Check = Mapping[str, Any]

MARKS = {"passed": "✓", "failed": "✗", "skipped": "–", "not reached": "…"}
GOAL = 1.05
"""The goal of docs/performance.md: a dispatched call over the winner alone."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a Markdown table; all columns but the first are aligned right."""
    yield "| " + " | ".join(head) + " |"
    yield "| --- |" + " ---: |" * (len(head) - 1)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def overlay(checks: Sequence[Check]) -> Iterator[str]:
    """What was said of the copy."""
    yield from table(
        ("", "", "s", "what was said"),
        [
            (
                c["name"],
                MARKS[c["status"]],
                f"{c['seconds']:.1f}",
                _one_line(c["words"]),
            )
            for c in checks
        ],
    )
    yield ""


def rows(checks: Sequence[Check]) -> Iterator[str]:
    """The matrix: a line a row, a column a model."""
    cells = {(c["request"]["name"], c["request"]["model"]): c for c in checks}
    models = [*dict.fromkeys(model for _, model in cells)]
    lines = [
        (f"`{name}`", *(MARKS[cells[name, model]["status"]] for model in models))
        for name in dict.fromkeys(name for name, _ in cells)
    ]
    yield from table(("", *models), lines)
    yield ""
    yield ", ".join(f"{mark} {status}" for status, mark in MARKS.items()) + "."
    yield ""


def tuning(checks: Sequence[Check]) -> Iterator[str]:
    """For each operator a line a range, with what each implementation took."""
    for check in checks:
        answer = check["answer"]
        if not answer:
            continue
        names = answer["implementations"]
        yield f"### {check['name']}"
        yield ""
        yield (
            f"{answer['title']}: milliseconds by {answer['unit']}. Compiled and tuned "
            f"in {answer['compile_seconds']} s."
        )
        yield ""
        lines = [
            (
                one["range"],
                f"`{one['winner']}`",
                " ".join(map(str, one["timed_at"])),
                *(_milliseconds(one["milliseconds"].get(name)) for name in names),
            )
            for one in answer["ranges"]
        ]
        yield from table(("range", "winner", "timed at", *names), lines)
        yield ""
        for dropped in answer["dropped"]:
            yield f"* dropped: {dropped}"
        if answer["dropped"]:
            yield ""


def dispatch(checks: Sequence[Check]) -> Iterator[str]:
    """For each operator a line a size, with the ratio to the winner alone."""
    for check in checks:
        answer = check["answer"]
        if not answer:
            continue
        names = [*answer["sizes"][0]["microseconds"]]
        yield f"### {answer['title']}"
        yield ""
        yield (
            "Microseconds a call, medians of interleaved repeats; the ratio is to the "
            "implementation of the branch, compiled alone, in the same repeat."
        )
        if answer["in_turn"]:
            yield "Tuning gave no two winners: the ranges have them in turn."
        yield ""
        lines = [
            (
                str(one["size"]),
                f"`{one['branch']}`",
                *(f"{one['microseconds'][name]:.1f}" for name in names),
                f"{one['ratio']:.3f}",
                f"{one['ratio_to_best']:.3f}",
            )
            for one in answer["sizes"]
        ]
        head = (answer["unit"], "branch", *names, "ratio", "ratio to the best")
        yield from table(head, lines)
        yield ""
        ratios = [one["ratio"] for one in answer["sizes"]]
        within = sum(ratio <= GOAL for ratio in ratios)
        yield f"Within {GOAL} of the winner at {within} of {len(ratios)} sizes."
        yield ""


def tests(checks: Sequence[Check]) -> Iterator[str]:
    """A line a file."""
    counts: dict[str, Counter[str]] = {}
    for check in checks:
        counted = counts.setdefault(check["request"]["module"], Counter())
        counted[check["status"]] += 1
    lines = [
        (f"`{module}.py`", *(str(counted[status]) for status in MARKS))
        for module, counted in counts.items()
    ]
    yield from table(("", *MARKS), lines)
    yield ""


def checks_that_did_not_pass(checks: Sequence[Check]) -> Iterator[str]:
    """Those that failed, each with its reason; of skipped ones each reason once."""
    skipped: Counter[str] = Counter()
    told = False
    for check in checks:
        if check["status"] == "failed":
            yield f"* **{check['name']}** failed: {_one_line(check['words'])}"
            told = True
        elif check["status"] == "skipped":
            skipped[_one_line(check["words"]) or "no reason was given"] += 1
    for reason, count in skipped.items():
        yield f"* {count} skipped: {reason}"
        told = True
    if told:
        yield ""


def _one_line(words: str) -> str:
    return " ".join(words.split())


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


TABLES: Mapping[str, Callable[[Sequence[Check]], Iterator[str]]] = {
    "overlay": overlay,
    "rows": rows,
    "tuning": tuning,
    "dispatch": dispatch,
    "tests": tests,
}
