"""Lets worker processes make checks, until all are made or the time is up.

A check is plain data, as it stands in the JSON file: ``request`` is what a worker is
asked, ``words`` why it was skipped or failed, ``answer`` what else came back.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
NOT_REACHED = "not reached"
WORKER = Path(__file__).resolve().parent / "in_worker" / "worker.py"

Check = dict[str, Any]


class OutOfTime(Exception):
    """A step's part of the time is up, and some of its checks are not reached."""


def new_check(name: str, action: str, request: Mapping[str, Any]) -> Check:
    """One that is yet to be made, by the worker's function ``action``."""
    check = {"name": name, "request": {"action": action, **request}}
    empty = {"words": "", "seconds": 0.0, "answer": {}, "details": ""}
    return {**check, "status": NOT_REACHED, **empty}


class Worker:
    """A process that makes checks in their order, each in at most ``seconds``.

    When it is lost in one, that has failed, and another process goes on after it.
    """

    def __init__(
        self,
        checks: Sequence[Check],
        seconds: float,
        name: str,
        folder: Path,
        variables: Mapping[str, str],
    ) -> None:
        self.waiting = [*checks]
        self._seconds = seconds
        self._file = folder / name
        self._variables = variables
        self._start()

    def _start(self) -> None:
        requests = [check["request"] for check in self.waiting]
        questions = self._file.with_suffix(".in")
        answers = self._file.with_suffix(".out")
        questions.write_text(json.dumps([self._seconds, requests]))
        self._since = time.monotonic()
        with (
            open(questions, "rb") as given,
            open(answers, "wb") as output,
            open(self._file.with_suffix(".log"), "wb") as errors,
        ):
            # A group of its own, so that its compilers end with it.
            self._process = subprocess.Popen(
                [sys.executable, str(WORKER)],
                env=self._variables,
                stdin=given,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
        self._answers = open(answers, "rb")

    def made(self) -> Iterator[Check]:
        """The checks that have been made since the last call."""
        # Asked first: what comes after a last look would be lost.
        has_ended = self._process.poll() is not None
        while self.waiting:
            line = self._answers.readline()
            if not line.endswith(b"\n"):
                self._answers.seek(-len(line), os.SEEK_CUR)
                break
            self._since = time.monotonic()
            yield fill_in(self.waiting.pop(0), json.loads(line))
        if has_ended and self.waiting:
            self.end()
            yield self._lost(self.waiting.pop(0))
            if self.waiting:
                self._start()

    def _lost(self, check: Check) -> Check:
        status, took = self._process.returncode, time.monotonic() - self._since
        log = self._file.with_suffix(".log").read_text(errors="replace")
        how = f"died: with exit status {status}"
        if status < 0:
            how = f"died: by {signal.Signals(-status).name}"
        elif "Timeout (" in log:  # so says faulthandler, before it ends the process
            how = f"timeout: no answer after {self._seconds:g} seconds"
        check |= {"status": FAILED, "words": how, "details": log[-4000:]}
        check["seconds"] = round(took, 1)
        return check

    def end(self) -> None:
        """End the process and all that it started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._answers.close()


def fill_in(check: Check, answer: dict[str, Any]) -> Check:
    """Put a worker's answer into the check."""
    failure = answer.pop("failure", None)
    check["seconds"] = answer.pop("seconds")
    check["details"] = answer.pop("details", "")
    if failure is not None:
        words = ": ".join(filter(None, (failure["error"], failure["message"])))
        check |= {"status": FAILED, "words": words}
    else:
        check["status"] = answer.pop("status", PASSED)
        check["words"] = answer.pop("words", "")
        check["answer"] = answer
    return check


def run_checks(
    checks: Sequence[Check],
    processes: int,
    seconds: float,
    end: float,
    where: tuple[Path, Mapping[str, str]],
    on_made: Callable[[Check], None],
) -> None:
    """Have so many processes make the checks.

    ``where`` is the folder for their files, and their environment variables.

    Raises:
        OutOfTime: not all were made by ``end``.
    """
    workers: list[Worker] = []
    try:
        for n in range(min(processes, len(checks))):
            name = f"worker_{n}"
            workers.append(Worker(checks[n::processes], seconds, name, *where))
        while any(worker.waiting for worker in workers):
            if time.monotonic() > end:
                raise OutOfTime
            time.sleep(0.05)
            for worker in workers:
                for check in worker.made():
                    on_made(check)
    finally:
        for worker in workers:
            worker.end()
