"""The command line of scripts/gpu_check."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_check_tool.page import page
from gpu_check_tool.results import FAILED, PASSED, StepResult
from gpu_check_tool.run import Run
from gpu_check_tool.schedule import Schedule
from gpu_check_tool.stepping import prepare, run_step
from gpu_check_tool.steps import OVERLAY, OVERLAY_SHARE, STEPS
from processes import ROOT, fresh_folder
from reporting import integer_in, write_json

SECONDS = 520
MOST_SECONDS = 3600
OPERATORS = ("attention", "split_k", "rms_norm")
MODELS = (
    *("two", "three", "five", "seventeen", "apart", "fallback"),
    *("unbacked", "outputs", "mutation", "matmul", "two_ops"),
)
"""Those of test/inductor/_dispatched_models.py."""
NAME = "gpu_check"

EPILOG = """\
exit status:
  0    every check passed or was skipped
  1    a check failed, or a step could not be run, or not to its end in its time
  2    wrong usage
  130  interrupted; what was there by then is written
"""


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; ends the process with 2 if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="scripts/gpu_check",
        description="Lays the overlay over a copy of the torch of this Python, and "
        "shows on a GPU what tests on CPUs cannot: rows of docs/backends.md, tuning "
        "with and without CUDA graphs, what a dispatched call costs, and the "
        "device-neutral tests. The installed torch is left as it is, and nothing is "
        "downloaded.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help=f"where {NAME}.json and {NAME}.md go; made if missing",
    )
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="cpu runs all of it that a CPU allows (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=integer_in(1, MOST_SECONDS),
        default=SECONDS,
        metavar="N",
        help="for all of it; each step has its part (default: %(default)s)",
    )
    for option, known, what in (
        ("--steps", tuple(STEPS), "steps, after the copy is made"),
        ("--operators", OPERATORS, "operators to tune and time"),
        ("--models", MODELS, "models for the rows"),
    ):
        parser.add_argument(
            option,
            nargs="+",
            choices=known,
            default=[*known],
            metavar="NAME",
            help=f"{what}, of {', '.join(known)} (default: all)",
        )
    parser.add_argument(
        "--patch-set",
        type=Path,
        default=ROOT,
        metavar="DIR",
        help="the folder with torch_overlay/ and patches/ (default: this repository)",
    )
    options = parser.parse_args(arguments)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --out: {options.out}: {error.strerror}")
    if not os.access(options.out, os.W_OK):
        parser.error(f"argument --out: cannot write into {options.out}")
    return options


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
                        words="no torch to check",
                        could_run=False,
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
