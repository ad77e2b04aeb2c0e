"""Starts worker processes, talks to them with a time limit, and ends them."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from failures import failure
from pristine import ROOT

sys.path.append(str(ROOT / "scripts"))

from setup_tool.environment import child_variables  # noqa: E402

HERE = Path(__file__).resolve().parent

Answer = dict[str, Any]


def worker_variables(cache: Path) -> dict[str, str]:
    """Environment variables of a worker: one thread, this cache, no cached graphs.

    With a cache of whole graphs a second process would compile nothing.
    """
    return child_variables() | {
        "OMP_NUM_THREADS": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(cache),
        "TORCHINDUCTOR_FX_GRAPH_CACHE": "0",
        "TORCHINDUCTOR_AUTOGRAD_CACHE": "0",
    }


@contextmanager
def fresh_folder(prefix: str) -> Iterator[Path]:
    """A temporary folder; what a killed compiler still writes there does no harm."""
    with tempfile.TemporaryDirectory(
        prefix=prefix, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


class WorkerProcess:
    """A child process that answers requests, JSON, one a line; errors go to a log.

    It leads a process group of its own, so that its compilers end with it.
    """

    def __init__(
        self,
        python: Path,
        script: str,
        variables: Mapping[str, str],
        log: Path,
    ) -> None:
        self._log = log
        with open(log, "wb") as errors:
            self._process = subprocess.Popen(
                [str(python), str(HERE / script)],
                env=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )

    def ask(self, request: Mapping[str, Any], seconds: float | None = None) -> Answer:
        """The answer; a failure "timeout" after so many seconds, or "died"."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died: no answer will come either
        return self._answer(seconds)

    def _answer(self, seconds: float | None) -> Answer:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                self.end()
                return failure("timeout", f"no answer after {seconds:g} seconds")
        line = self._process.stdout.readline()
        if line.endswith(b"\n"):
            return json.loads(line)
        status = self._process.wait()
        self.end()
        details = self._log.read_text(errors="replace")[-4000:]
        if status < 0:
            return failure("died", f"by {signal.Signals(-status).name}", details)
        return failure("died", f"with exit status {status}", details)

    def kill(self) -> None:
        """Kill the process and all that it started; a thread that waits for an answer
        gets the failure "died"."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def end(self) -> None:
        """End the process and all that it started; no answer is waited for."""
        self.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass
