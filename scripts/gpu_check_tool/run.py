"""What the steps of a run share."""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from gpu_check_tool import asking
from gpu_check_tool.asking import Asker
from gpu_check_tool.results import StepResult
from gpu_check_tool.schedule import Schedule
from processes import ROOT, WorkerProcess, worker_variables
from setup_tool.steps import say

IMPORTED = ("scripts", "benchmarks", "test/inductor")
"""Where a worker finds what it imports of this repository."""


@dataclass
class Run:
    """One run: on which device, in which folder, until when, and what is found so far.

    ``folder`` goes away afterwards: in it are the copy of torch, ``tree``, compiled
    kernels, and what workers write to standard error.
    """

    device: str
    folder: Path
    schedule: Schedule
    operators: tuple[str, ...]
    models: tuple[str, ...]
    done: dict[str, StepResult] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def tree(self) -> Path:
        """The copy of torch with the overlay."""
        return self.folder / "tree"

    @property
    def is_gpu(self) -> bool:
        """Whether what runs is what the run is for."""
        return self.device != "cpu"

    def say(self, text: str) -> None:
        """One line of progress."""
        say(f"[{self.schedule.elapsed():5.0f} s] {text}")

    def variables(self) -> dict[str, str]:
        """Environment variables of a worker: torch is the copy."""
        paths = [str(self.tree), *(str(ROOT / name) for name in IMPORTED)]
        paths += filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        variables = worker_variables(self.folder / "cache")
        variables["PYTHONPATH"] = os.pathsep.join(paths)
        if not self.is_gpu:
            variables["CUDA_VISIBLE_DEVICES"] = ""
            # Else each process first compiles a program to see what the processor can.
            variables.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")
            variables.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
        return variables

    def asker(self, step: str) -> AbstractContextManager[Asker]:
        """A worker that answers until the step's time is up."""
        return asking.asker(self.start_worker, self.left_of(step))

    def left_of(self, step: str) -> Callable[[], float]:
        """A function for the seconds that are left; it raises OutOfTime."""
        return functools.partial(self.schedule.left, step)

    def start_worker(self) -> WorkerProcess:
        """A process of its own for checks, with this Python."""
        log = self.folder / f"worker_{next(self.numbers)}.log"
        return WorkerProcess(
            Path(sys.executable), str(asking.WORKER), self.variables(), log
        )
