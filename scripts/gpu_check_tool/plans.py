"""The checks that each step consists of, and what it leaves out."""

from __future__ import annotations

from typing import Any

from gpu_check_tool.in_worker import stand_ins
from gpu_check_tool.asking import Asker
from gpu_check_tool.results import PASSED, Check
from gpu_check_tool.run import Run

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
TUNING_SECONDS = 8
REPEATS = 31
MILLISECONDS = 3


def plan_rows(run: Run, asker: Asker) -> list[Check]:
    """A check for each row and model."""
    return [
        Check(f"{row} {model}", {"action": "row", "name": row, "model": model})
        for row in (GPU_ROWS if run.is_gpu else CPU_ROWS)
        for model in run.models
    ]


def notes_of_rows(run: Run) -> list[str]:
    """What a CPU cannot run."""
    if run.is_gpu:
        return []
    gpu, cpu = ", ".join(GPU_ROWS), ", ".join(CPU_ROWS)
    return [f"{gpu}: need a GPU. {cpu} ran in their place, which captures nothing"]


def plan_tuning(run: Run, asker: Asker) -> list[Check]:
    """A check for each operator, without CUDA graphs and with them."""
    return [
        Check(
            f"{operator}, {'with' if cudagraphs else 'without'} CUDA graphs",
            {
                "action": "tune",
                "operator": operator,
                "device": run.device,
                "cudagraphs": cudagraphs,
                "seconds": TUNING_SECONDS,
            },
        )
        for operator in run.operators
        for cudagraphs in ((False, True) if run.is_gpu else (False,))
    ]


def notes_of_tuning(run: Run) -> list[str]:
    """What a CPU cannot run."""
    return [] if run.is_gpu else ["tuning with CUDA graphs: needs a GPU"]


def plan_dispatch(run: Run, asker: Asker) -> list[Check]:
    """A check for each operator, with the winners that tuning found, if they differ."""
    tuned = run.done["tuning"].checks if "tuning" in run.done else []
    winners: dict[Any, Any] = {
        check.request["operator"]: check.answer["winners"]
        for check in tuned
        if check.status == PASSED and not check.request["cudagraphs"]
    }
    return [
        Check(
            operator,
            {
                "action": "dispatch",
                "operator": operator,
                "device": run.device,
                "winners": several(winners.get(operator, [])),
                "repeats": REPEATS,
                "milliseconds": MILLISECONDS,
            },
        )
        for operator in run.operators
    ]


def several(winners: list[int]) -> list[int] | None:
    """The winners; None if there is one only, as nothing would be dispatched."""
    return winners if len(set(winners)) > 1 else None


def notes_of_dispatch(run: Run) -> list[str]:
    """What the figures are not."""
    return [] if run.is_gpu else ["these are figures of a CPU, with one thread"]


def plan_tests(run: Run, asker: Asker) -> list[Check]:
    """A check for each test; a file that cannot be imported is a failed one."""
    checks = []
    for module, classes in TESTS.items():
        request = {"action": "tests", "module": module, "classes": classes}
        answer = asker.ask(request, 60)
        if "failure" in answer:
            checks.append(Check(f"{module}: every test", request))
        checks += [
            Check(
                f"{module} {name}", {"action": "test", "module": module, "name": name}
            )
            for name in answer.get("tests", [])
        ]
    return checks


def notes_of_tests(run: Run) -> list[str]:
    """What the tests ran with."""
    notes = [
        f"{name} is not installed: in_worker/stand_ins.py has what stands "
        "in for it"
        for name in stand_ins.missing()
    ]
    if not run.is_gpu:
        notes.append("Triton kernels ran through its interpreter: no GPU")
    return notes
