"""Runs a step: whatever goes wrong in it is its result."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from failures import describe
from gpu_check_tool import installed
from gpu_check_tool.asking import fill_in, make_checks
from gpu_check_tool.results import (
    FAILED,
    INTERRUPTED,
    NOT_RUN,
    OUT_OF_TIME,
    PASSED,
    SKIPPED,
    Check,
    StepResult,
)
from gpu_check_tool.run import Run
from gpu_check_tool.schedule import OutOfTime
from gpu_check_tool.steps import OVERLAY, OVERLAY_TITLE, Step

EVERY = 10.0
"""Seconds between lines that say how far tests are, if none fails."""


def prepare(run: Run, patch_set: Path) -> StepResult:
    """The first step: the copy of torch, and whether it and the device work.

    Its checks have, as answers, the base and the machine.
    """
    copied = Check("copy", {})
    works = Check("import", {"action": "machine", "device": run.device})
    result = StepResult(OVERLAY, OVERLAY_TITLE, [copied, works])
    tell = _Teller(run, OVERLAY, len(result.checks))
    with _told(run, result):
        started = time.monotonic()
        try:
            folder = installed.find_torch()
            base = installed.known_base(folder, patch_set)
            left = run.schedule.left(OVERLAY)
            said = installed.make_copy(folder, run.tree, patch_set, left)
        except (installed.Unusable, OSError) as error:
            copied.status, copied.details = FAILED, str(error)
            copied.words = without_paths(error)
            copied.seconds = round(time.monotonic() - started, 1)
            tell(copied)
            return result
        except subprocess.TimeoutExpired:
            raise OutOfTime(OVERLAY) from None
        copied.status, copied.words, copied.answer = PASSED, said, {"base": base}
        copied.seconds = round(time.monotonic() - started, 1)
        tell(copied)
        with run.asker(OVERLAY) as asker:
            fill_in(works, asker, run.schedule.left(OVERLAY))
        _check_place(run, works)
        tell(works)
    return result


def _check_place(run: Run, works: Check) -> None:
    """A worker's torch is the copy, and no other."""
    for name in ("torch_file", "overlay_file"):
        place = works.answer.get(name)
        if place is not None and not Path(place).is_relative_to(run.tree):
            works.status = FAILED
            works.words = f"{name}: it is not the copy that was imported"
    works.answer = {k: v for k, v in works.answer.items() if not k.endswith("_file")}


def run_step(run: Run, step: Step) -> StepResult:
    """Make the checks of one step, until its time is up."""
    result = StepResult(step.name, step.title, notes=step.notes(run))
    with _told(run, result), ExitStack() as stack:
        jobs = step.jobs()
        askers = [stack.enter_context(run.asker(step.name)) for _ in range(jobs)]
        result.checks = step.plan(run, askers[0])
        if result.checks:
            tell = _Teller(run, step.name, len(result.checks))
            make_checks(result.checks, askers, step.seconds, tell)
    return result


class _Teller:
    """Says which check is done: each one, or if they are many those that failed."""

    def __init__(self, run: Run, step: str, count: int) -> None:
        self._run = run
        self._step = step
        self._count = count
        self._done = 0
        self._told = 0.0

    def __call__(self, check: Check) -> None:
        self._done += 1
        now = time.monotonic()
        many = self._count > 50 and check.status in (PASSED, SKIPPED)
        if many and now - self._told < EVERY:
            return
        self._told = now
        words = f": {check.words}" if check.words else ""
        self._run.say(
            f"{self._step} {self._done} of {self._count}: {check.name} "
            f"{check.status} ({check.seconds} s){words}"
        )


def without_paths(error: Exception) -> str:
    """What went wrong, for files that others read."""
    if isinstance(error, installed.Unusable):
        return str(error)
    failure = describe(error)["failure"]
    return f"{failure['error']}: {failure['message']}"


@contextmanager
def _told(run: Run, result: StepResult) -> Iterator[None]:
    """Times a step, says how it ended, and keeps what went wrong as its words."""
    started = time.monotonic()
    run.say(f"{result.name}: {result.title}")
    try:
        yield
    except OutOfTime:
        result.ended, result.words = OUT_OF_TIME, "its time was up"
    except KeyboardInterrupt:
        result.ended, result.words = INTERRUPTED, "the command was told to stop"
        raise
    except Exception as error:
        result.ended, result.words = NOT_RUN, without_paths(error)
    finally:
        result.seconds = round(time.monotonic() - started, 1)
        run.done[result.name] = result
        run.say(f"{result.name}: {result.status}, {result.counts() or 'no checks'}")
