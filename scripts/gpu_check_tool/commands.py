"""Runs scripts/gpu_check and writes what it finds."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_check_tool.arguments import MODELS, NAME, OPERATORS, parse_arguments
from gpu_check_tool.page import page
from gpu_check_tool.results import FAILED, NOT_RUN, PASSED, StepResult
from gpu_check_tool.run import Run
from gpu_check_tool.schedule import Schedule
from gpu_check_tool.stepping import prepare, run_step
from gpu_check_tool.steps import OVERLAY, OVERLAY_SHARE, STEPS
from processes import fresh_folder
from reporting import write_json


def main(arguments: Sequence[str]) -> int:
    """Run the steps, write what was found, and return the exit status."""
    options = parse_arguments(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    chosen = [step for step in STEPS.values() if step.name in options.steps]
    shares = {OVERLAY: OVERLAY_SHARE, **{step.name: step.share for step in chosen}}
    schedule = Schedule(options.seconds, shares)
    interrupted = False
    with fresh_folder("gpu-check-") as folder:
        run = Run(
            options.device,
            folder,
            schedule,
            tuple(one for one in OPERATORS if one in options.operators),
            tuple(one for one in MODELS if one in options.models),
        )
        try:
            usable = prepare(run, options.patch_set.absolute()).status == PASSED
            for step in chosen:
                if usable:
                    run_step(run, step)
                else:
                    run.done[step.name] = StepResult(
                        step.name,
                        step.title,
                        ended=NOT_RUN,
                        words="no torch to check",
                    )
        except KeyboardInterrupt:
            interrupted = True
    data = document(options, run)
    write(options.out, data)
    run.say(f"{data['status']}: {NAME}.json and {NAME}.md are written")
    return 130 if interrupted else int(data["status"] != PASSED)


def document(options: argparse.Namespace, run: Run) -> dict[str, Any]:
    """All that was found, as it goes into the JSON file."""
    steps = [result.as_json() for result in run.done.values()]
    answers: dict[str, Any] = {}
    for check in run.done[OVERLAY].checks if OVERLAY in run.done else ():
        answers.update(check.answer)
    base = answers.pop("base", None)
    return {
        "command": NAME,
        "device": options.device,
        "seconds": options.seconds,
        "took": round(run.schedule.elapsed(), 1),
        "status": PASSED if all(s["status"] == PASSED for s in steps) else FAILED,
        "base": base,
        "machine": answers,
        "steps": steps,
    }


def write(out: Path, data: dict[str, Any]) -> None:
    """Write both files."""
    write_json(out / f"{NAME}.json", data)
    (out / f"{NAME}.md").write_text(page(data))


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
