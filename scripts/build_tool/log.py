"""Runs commands with all their output in one log file.

A command writes to the file itself, not through us: when this process is killed the
log goes on, and the command is not ended by a pipe that nobody reads.
"""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from build_tool.progress import Progress
from setup_tool.steps import SetupError

SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_TO_END = 10.0
LINES_SHOWN = 40

_ADVICE = (
    (
        re.compile(r"Killed|out of memory|cannot allocate memory", re.IGNORECASE),
        "Memory ran out, as it seems: call again with fewer --jobs",
    ),
    (re.compile("No space left on device"), "The disk is full: make room"),
)


class Log:
    """The log of all attempts; `lock` is inherited by what is run."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.lock = lock

    def header(self, title: str) -> None:
        """Begins an attempt or a command in the log."""
        moment = time.strftime("%Y-%m-%d %H:%M:%S %z")
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"\n==== {moment} {title}\n")

    def run(
        self,
        stage: str,
        command: Sequence[str],
        folder: Path,
        variables: Mapping[str, str],
    ) -> None:
        """Runs a command to its end; raises SetupError with the log's last lines."""
        self.header(f"{stage}: {shlex.join(command)}")
        progress = Progress(stage)
        with open(self.path, "ab") as output, open(self.path, "rb") as follower:
            start = follower.seek(0, os.SEEK_END)
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(self.lock,),
                # A group of its own, so that all of a build can be ended at once.
                start_new_session=True,
            )
            try:
                rest = b""
                while process.poll() is None:
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                    *lines, rest = (rest + follower.read()).split(b"\n")
                    for line in lines:
                        progress.line(line.decode("utf-8", "replace"))
                    progress.tick()
            except BaseException:
                end(process)
                raise
            finally:
                progress.end()
        if process.returncode != 0:
            raise SetupError(self._failure(stage, process.returncode, start))

    def _failure(self, stage: str, status: int, start: int) -> str:
        with open(self.path, "rb") as file:
            file.seek(start)
            text = file.read().decode("utf-8", "replace")
        shown = text.splitlines()[-LINES_SHOWN:]
        lines = [f"{stage} failed with exit status {status}. {self.path} ends:"]
        lines += [f"  | {line}" for line in shown]
        lines += [words for pattern, words in _ADVICE if pattern.search(text[-20000:])]
        lines.append(
            "Call again once that is mended: finished stages are not done again, and "
            "a build goes on where it was"
        )
        return "\n".join(lines)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(SECONDS_TO_END)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
