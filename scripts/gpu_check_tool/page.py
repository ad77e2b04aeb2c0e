"""Makes the Markdown page of what a run has found, of the JSON file's data alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpu_check_tool.page_tables import TABLES, checks_that_did_not_pass, table

Data = Mapping[str, Any]

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
    parts.append(summary(data["steps"]))
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


def summary(steps: Sequence[Data]) -> str:
    """A line a step."""
    rows = [
        (
            step["title"],
            f"**{step['status']}**",
            step["counts"],
            f"{step['seconds']:.0f}",
        )
        for step in steps
    ]
    return "\n".join(table(("step", "", "checks", "s"), rows))


def section(step: Data) -> Iterator[str]:
    """A step: its notes, why it ended early, its tables, what did not pass."""
    yield f"## {step['title']}"
    yield ""
    if step["words"]:
        yield f"{step['status'].capitalize()}: {step['words']}."
        yield ""
    for note in step["notes"]:
        yield f"* {note}"
    if step["notes"]:
        yield ""
    if step["checks"]:
        yield from TABLES[step["name"]](step["checks"])
        yield from checks_that_did_not_pass(step["checks"])
