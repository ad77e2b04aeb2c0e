"""In a worker: the machine, cells of docs/backends.md, and single tests, without
pytest."""

from __future__ import annotations

import importlib
import importlib.util
import os
import unittest
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from failures import describe, failure
from reporting import machine_description


def machine(device: str) -> dict[str, Any]:
    """The machine, once torch, the copy, is imported and the device works.

    Raises:
        RuntimeError: there is no such device, or it is another torch.
    """
    import torch._inductor.kernel.custom_op as custom_op

    tree = os.environ["PYTHONPATH"].partition(os.pathsep)[0]
    for module in (torch, custom_op):
        if not Path(str(module.__file__)).is_relative_to(tree):
            raise RuntimeError("it is not the copy that was imported")
    has_triton = importlib.util.find_spec("triton") is not None
    found = machine_description()
    found["triton"] = version("triton") if has_triton else None
    if device != "cpu":
        if not torch.cuda.is_available():
            raise RuntimeError(
                "torch sees no GPU; --device cpu runs all of it that a CPU allows"
            )
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = properties.name
        found["gpu_gibibytes"] = round(properties.total_memory / 2**30, 1)
        found["multiprocessors"] = properties.multi_processor_count
        found["capability"] = f"{properties.major}.{properties.minor}"
        found["cuda"] = torch.version.cuda
    # Raises where the device cannot be computed on.
    assert torch.ones(2, device=device).sum().item() == 2
    return found


def row(name: str, model: str) -> dict[str, Any]:
    """Run a row of docs/backends.md with one model, in the settings of its test."""
    from _backend_rows_memory import ROWS
    from _dispatched_models import MODEL_BY_NAME
    from torch._functorch import config as functorch_config
    from torch._inductor import config
    from torch._inductor.test_case import TestCase

    chosen = next(one for one in ROWS if one.name == name)

    class Cell(TestCase):
        def run_cell(self) -> None:
            torch.manual_seed(0)
            with (
                config.patch(fx_graph_cache=False, autotune_local_cache=False),
                functorch_config.patch(enable_autograd_cache=False),
                torch._dynamo.config.patch(specialize_float=True),
            ):
                chosen.check(self, MODEL_BY_NAME[model])

    return outcome(unittest.TestSuite([Cell("run_cell")]))


def tests(module: str, classes: list[str]) -> dict[str, Any]:
    """The names, ``Class.test``, of the module's tests; of these classes, if any."""
    loaded = unittest.defaultTestLoader.loadTestsFromModule(
        importlib.import_module(module)
    )
    names = [one.id().partition(".")[2] for one in _flat(loaded)]
    chosen = [n for n in names if not classes or n.partition(".")[0] in classes]
    return {"tests": chosen}


def test(module: str, name: str) -> dict[str, Any]:
    """Run one test."""
    loaded = unittest.defaultTestLoader.loadTestsFromName(
        name, importlib.import_module(module)
    )
    return outcome(loaded)


class Result(unittest.TestResult):
    """Keeps the first exception, too."""

    raised: BaseException | None = None

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        """Something, a class's setUp perhaps, raised an exception."""
        super().addError(test, err)
        self.raised = self.raised or err[1]

    addFailure = addError

    def addSubTest(
        self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any
    ) -> None:
        """A part of a test ended, well if there is no error."""
        if err is not None:
            self.addError(subtest, err)


def outcome(suite: unittest.TestSuite) -> dict[str, Any]:
    """How the only test of a suite ended, as a worker's answer."""
    result = Result()
    suite.run(result)
    if result.raised is not None:
        return describe(result.raised)
    if result.unexpectedSuccesses:
        return failure("unexpected success", "the test is expected to fail")
    if result.skipped:
        return {"status": "skipped", "words": result.skipped[0][1]}
    if not result.testsRun:
        return failure("no test", "nothing was run")
    return {"status": "passed"}


def _flat(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            yield from _flat(one)
        else:
            yield one
