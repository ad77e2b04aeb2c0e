"""The steps of a run, in their order, with their parts of the time."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass

from gpu_check_tool import plans
from gpu_check_tool.asking import Asker
from gpu_check_tool.results import Check
from gpu_check_tool.run import Run

OVERLAY = "overlay"
OVERLAY_TITLE = "A copy of the installed torch, with the overlay"
OVERLAY_SHARE = 50.0


@dataclass(frozen=True)
class Step:
    """A step: ``plan`` makes its checks, each of which takes ``seconds`` at most.

    ``share`` is its part of the time. ``notes`` says what it leaves out, and why.
    """

    name: str
    title: str
    share: float
    plan: Callable[[Run, Asker], list[Check]]
    seconds: float
    jobs: Callable[[], int] = lambda: 1
    notes: Callable[[Run], list[str]] = lambda run: []


def jobs(most: int) -> int:
    """How many checks are made at a time where nothing is timed: each of two cores."""
    return max(1, min(most, len(os.sched_getaffinity(0)) // 2))


STEPS = {
    step.name: step
    for step in (
        Step(
            "rows",
            "Rows of docs/backends.md",
            share=100.0,
            plan=plans.plan_rows,
            seconds=60.0,
            jobs=functools.partial(jobs, 4),
            notes=plans.notes_of_rows,
        ),
        Step(
            "tuning",
            "Tuning, with and without CUDA graphs",
            share=140.0,
            plan=plans.plan_tuning,
            seconds=90.0,
            notes=plans.notes_of_tuning,
        ),
        Step(
            "dispatch",
            "Dispatch against the winner compiled alone",
            share=90.0,
            plan=plans.plan_dispatch,
            seconds=90.0,
            notes=plans.notes_of_dispatch,
        ),
        Step(
            "tests",
            "Device-neutral tests",
            share=140.0,
            plan=plans.plan_tests,
            seconds=60.0,
            jobs=functools.partial(jobs, 8),
            notes=plans.notes_of_tests,
        ),
    )
}
