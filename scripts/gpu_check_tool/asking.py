"""Lets worker processes make the checks of a step, as many at a time as given."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpu_check_tool.results import FAILED, PASSED, Check
from gpu_check_tool.schedule import OutOfTime
from processes import WorkerProcess

WORKER = Path(__file__).resolve().parent / "in_worker" / "worker.py"
LOST = ("timeout", "died")
"""Failures after which there is no worker any more."""

Answer = dict[str, Any]


class Asker:
    """A worker process that is started when it is first asked, and again if it is lost.

    ``left`` returns the seconds that all questions together still have, and raises
    OutOfTime.
    """

    def __init__(
        self, start: Callable[[], WorkerProcess], left: Callable[[], float]
    ) -> None:
        self._start = start
        self._left = left
        self._worker: WorkerProcess | None = None
        self._is_stopped = False
        self._lock = threading.Lock()

    def ask(self, request: dict[str, Any], seconds: float) -> Answer:
        """The answer, or a failure if it took more than ``seconds``.

        Raises:
            OutOfTime: there was no time for an answer.
        """
        left = self._left()
        with self._lock:
            if self._is_stopped:
                raise OutOfTime
            if self._worker is None:
                self._worker = self._start()
            worker = self._worker
        answer = worker.ask(request, min(seconds, left))
        error = answer.get("failure", {}).get("error")
        if error in LOST:
            self.end()
            if self._is_stopped:
                raise OutOfTime
        if error == "timeout":
            self._left()  # a check that was cut off by the step's end is not a failure
        return answer

    def stop(self) -> None:
        """Let another thread's question end, and no more be asked."""
        with self._lock:
            self._is_stopped = True
            if self._worker is not None:
                self._worker.kill()

    def end(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            if self._worker is not None:
                self._worker.end()
                self._worker = None


@contextmanager
def asker(
    start: Callable[[], WorkerProcess], left: Callable[[], float]
) -> Iterator[Asker]:
    """One whose process ends with the context."""
    one = Asker(start, left)
    try:
        yield one
    finally:
        one.end()


def make_checks(
    checks: Sequence[Check],
    askers: Sequence[Asker],
    seconds: float,
    on_done: Callable[[Check], None],
) -> None:
    """Make all checks, in order, each in at most ``seconds``, and fill them in.

    Raises:
        OutOfTime: some were not reached.
    """
    waiting = iter(checks)
    lock = threading.Lock()

    def work(one: Asker) -> None:
        while True:
            with lock:
                check = next(waiting, None)
            if check is None:
                return
            fill_in(check, one, seconds)
            with lock:
                on_done(check)

    if len(askers) == 1:
        work(askers[0])
        return
    with ThreadPoolExecutor(len(askers)) as pool:
        futures = [pool.submit(work, one) for one in askers]
        try:
            # Each ends by itself: at the latest when the time is up.
            for future in futures:
                future.result()
        except BaseException:
            for one in askers:
                one.stop()
            raise


def fill_in(check: Check, one: Asker, seconds: float) -> None:
    """Make one check."""
    started = time.monotonic()
    answer = one.ask({**check.request}, seconds)
    check.seconds = round(time.monotonic() - started, 1)
    failure = answer.pop("failure", None)
    check.details = answer.pop("details", "")
    if failure is not None:
        check.status = FAILED
        check.words = ": ".join(filter(None, (failure["error"], failure["message"])))
    else:
        check.status = answer.pop("status", PASSED)
        check.words = answer.pop("words", "")
        check.answer = answer


__all__ = ["Asker", "OutOfTime", "asker", "fill_in", "make_checks"]
