"""The steps of a run: which checks each has, and how it ended."""

from __future__ import annotations

import importlib.util
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from failures import describe
from gpu_check_tool.in_worker import stand_ins
from gpu_check_tool.workers import (
    FAILED,
    NOT_REACHED,
    PASSED,
    SKIPPED,
    Check,
    OutOfTime,
    new_check,
    run_checks,
)
from overlay_tool import commands as overlay
from overlay_tool.errors import OverlayError
from processes import ROOT, worker_variables
from setup_tool.linked_copy import copy_installed
from setup_tool.steps import say

OPERATORS = ["attention", "split_k", "rms_norm"]
MODELS = [
    *("two", "three", "five", "seventeen", "apart", "fallback"),
    *("unbacked", "outputs", "mutation", "matmul", "two_ops"),
]
"""Those of test/inductor/_dispatched_models.py."""
GPU_ROWS = ("device_context", "cudagraph_trees")
CPU_ROWS = ("graph_partition",)
TESTS = {
    "test_cond_codegen": ["CondTritonCodegenTest"],
    "test_range_dispatch_codegen": ["DispatchTritonCodegenTest"],
    "test_custom_op_fusion": ["TritonKernelsTest"],
    "test_custom_op_joining": ["TritonKernelsTest"],
    "test_fxir_control_flow": [],
    "test_fxir_range_dispatch": [],
}
"""Test files whose tests run where the Triton kernels do, on a GPU if there is one:
these classes of them, or all. Of what torch does not bring they need only what
``stand_ins`` has."""
IMPORTED = ("scripts", "benchmarks", "test/inductor")
"""Where a worker finds what it imports of this repository."""
PATCH_SET = ROOT
SECONDS = 520
"""For all steps, if the command line says nothing else."""
TUNING_SECONDS, REPEATS, MILLISECONDS = 8, 31, 3
OVERLAY = "overlay"


@dataclass(frozen=True)
class Step:
    """``share`` is its part of the time, ``seconds`` what a check may take (more where
    the run may), ``most`` how many are made at a time if nothing is timed: each of two
    cores."""

    title: str
    share: float
    seconds: float
    most: int = 1

    @property
    def processes(self) -> int:
        """How many checks are made at a time on this machine."""
        return max(1, min(self.most, len(os.sched_getaffinity(0)) // 2))


STEPS = {
    OVERLAY: Step("A copy of the installed torch, with the overlay", 50, 60),
    "rows": Step("Rows of docs/backends.md", 100, 60, most=4),
    "tuning": Step("Tuning, with and without CUDA graphs", 140, 90),
    "dispatch": Step("Dispatch against the winner compiled alone", 90, 90),
    "tests": Step("Device-neutral tests", 140, 60, most=8),
}


class Unusable(Exception):
    """There is no torch to check; the words name no path of the machine."""


def find_torch() -> Path:
    """The folder that holds the torch of this Python, which is not imported."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise Unusable("this Python has no torch: call scripts/gpu_check with another")
    return Path(spec.origin).parents[1]


def deadlines(seconds: float, names: Sequence[str]) -> dict[str, float]:
    """When each step has to be done; what one does not use is the next ones'."""
    total = sum(STEPS[name].share for name in names)
    so_far = 0.0
    return {n: seconds * (so_far := so_far + STEPS[n].share) / total for n in names}


@dataclass
class Run:
    """One run. ``folder`` goes away afterwards: in it are the copy of torch, ``tree``,
    compiled kernels, and what workers write to standard error."""

    folder: Path
    device: str
    seconds: float
    steps: Sequence[str]
    operators: Sequence[str]
    models: Sequence[str]
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def tree(self) -> Path:
        """The copy of torch with the overlay."""
        return self.folder / "tree"

    @property
    def is_gpu(self) -> bool:
        """Whether what runs is what the run is for."""
        return self.device != "cpu"

    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started

    def say(self, text: str) -> None:
        """One line of progress."""
        say(f"[{self.elapsed():5.0f} s] {text}")

    def step(self, name: str) -> None:
        """Make the checks of one step, until its time is up; its result is ``done``."""
        began = time.monotonic()
        result: dict[str, Any] = {"name": name, "title": STEPS[name].title}
        result |= {"checks": [], "notes": [], "ended": "", "words": ""}
        self.done[name] = result
        self.say(f"{name}: {result['title']}")
        try:
            if name != OVERLAY and self.done[OVERLAY]["status"] != PASSED:
                raise Unusable("no torch to check")
            result["checks"] = getattr(self, f"_{name}")(result["notes"])
            self._make(name, result["checks"])
        except OutOfTime:
            result |= {"ended": "out of time", "words": "its time was up"}
        except KeyboardInterrupt:
            result |= {"ended": "interrupted", "words": "the command was told to stop"}
            raise
        except Exception as error:
            result |= {"ended": "not run", "words": self.words_of(error)}
        finally:
            counted = Counter(check["status"] for check in result["checks"])
            order = (PASSED, FAILED, SKIPPED, NOT_REACHED)
            told = [f"{counted[one]} {one}" for one in order if counted[one]]
            result["counts"] = ", ".join(told)
            well = PASSED if counted[PASSED] else "not run"
            result["status"] = FAILED if counted[FAILED] else result["ended"] or well
            result["seconds"] = round(time.monotonic() - began, 1)
            self.say(f"{name}: {result['status']}, {result['counts'] or 'no checks'}")

    def _make(self, name: str, checks: Sequence[Check]) -> None:
        """Have workers make those that are not made yet, in the step's time."""
        waiting = [check for check in checks if check["status"] == NOT_REACHED]
        count = len(checks) - len(waiting)

        def tell(check: Check) -> None:
            nonlocal count
            count += 1
            if len(checks) > 50 and check["status"] != FAILED and count % 20 != 1:
                return
            words = f": {check['words']}" if check["words"] else ""
            about = f"{check['name']} {check['status']} ({check['seconds']} s){words}"
            self.say(f"{name} {count} of {len(checks)}: {about}")

        end = self.started + deadlines(self.seconds, self.steps)[name]
        where, step = (self.folder, self._variables()), STEPS[name]
        seconds = step.seconds * max(1.0, self.seconds / SECONDS)
        run_checks(waiting, step.processes, seconds, end, where, tell)

    def _variables(self) -> dict[str, str]:
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

    def words_of(self, error: Exception) -> str:
        """What went wrong, for files that others read: without paths of the machine."""
        if isinstance(error, (OverlayError, Unusable)):
            return str(error).replace(f"{self.tree}/", "").replace(str(self.tree), "it")
        failure = describe(error)["failure"]
        return f"{failure['error']}: {failure['message']}"

    def _overlay(self, notes: list[str]) -> list[Check]:
        """A copy of torch, and whether it and the device work."""
        copied = new_check("copy", "", {})
        try:
            installed = find_torch()
            copy_installed(installed, self.tree)
            if (installed / "nvidia").is_dir():  # torch's libraries look for it there
                (self.tree / "nvidia").symlink_to(installed / "nvidia")
            report = overlay.apply(self.tree, PATCH_SET, self.say)
        except (OverlayError, Unusable, OSError) as error:
            return [copied | {"status": FAILED, "words": self.words_of(error)}]
        base = {"base": report.details["base"]}
        copied |= {"status": PASSED, "words": report.summary, "answer": base}
        works = new_check("import", "machine", {"device": self.device})
        return [copied, works]

    def _rows(self, notes: list[str]) -> list[Check]:
        """A check for each row and model."""
        if not self.is_gpu:
            gpu, cpu = ", ".join(GPU_ROWS), ", ".join(CPU_ROWS)
            notes.append(f"{gpu}: need a GPU. {cpu} ran in their place, on the CPU")
        return [
            new_check(f"{row} {model}", "row", {"name": row, "model": model})
            for row in (GPU_ROWS if self.is_gpu else CPU_ROWS)
            for model in self.models
        ]

    def _tuning(self, notes: list[str]) -> list[Check]:
        """A check for each operator, without CUDA graphs and with them."""
        if not self.is_gpu:
            notes.append("tuning with CUDA graphs: needs a GPU")
        shared = {"device": self.device, "seconds": TUNING_SECONDS}
        return [
            new_check(
                f"{operator}, {'with' if graphs else 'without'} CUDA graphs",
                "tune",
                {**shared, "operator": operator, "cudagraphs": graphs},
            )
            for operator in self.operators
            for graphs in ((False, True) if self.is_gpu else (False,))
        ]

    def _dispatch(self, notes: list[str]) -> list[Check]:
        """A check for each operator, with the winners that tuning found."""
        if not self.is_gpu:
            notes.append("these are figures of a CPU, with one thread")
        winners: dict[str, list[int]] = {}
        for check in self.done["tuning"]["checks"] if "tuning" in self.done else []:
            # Nothing is dispatched among one: then the implementations take turns.
            found = check["answer"].get("winners", [])
            if len({*found}) > 1 and not check["request"]["cudagraphs"]:
                winners[check["request"]["operator"]] = found
        return [
            new_check(
                operator,
                "dispatch",
                {
                    **{"device": self.device, "operator": operator},
                    **{"repeats": REPEATS, "milliseconds": MILLISECONDS},
                    "winners": winners.get(operator),
                },
            )
            for operator in self.operators
        ]

    def _tests(self, notes: list[str]) -> list[Check]:
        """A check for each test; a file that cannot be imported is a failed one."""
        for name in stand_ins.missing():
            notes.append(f"{name} is not installed: in_worker/stand_ins.py stands in")
        if not self.is_gpu:
            notes.append("Triton kernels ran through its interpreter: no GPU")
        files = []
        for module, classes in TESTS.items():
            request = {"module": module, "classes": classes}
            files.append(new_check(f"{module}: every test", "tests", request))
        self._make("tests", files)
        checks = [file for file in files if file["status"] != PASSED]
        for file in files:
            module = file["request"]["module"]
            for test in file["answer"].get("tests", []):
                request = {"module": module, "name": test}
                checks.append(new_check(f"{module} {test}", "test", request))
        return checks
