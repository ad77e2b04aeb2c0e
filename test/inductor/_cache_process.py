# Owner(s): ["module: inductor"]
"""Another process that compiles dispatched models, with the caches of this one.

One process serves all models, each with tasks of its own: to start one takes seconds.
"""

import contextlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

from _cache_counts import cache_counts
from _dispatched_models import DispatchedModel, MODEL_BY_NAME

import torch
import torch._dynamo.test_case
from torch._inductor.range_dispatch.record.records import record_dispatches


Report = dict[str, Any]
Task = Callable[[DispatchedModel, Report], None]

_SERVE = "import _cache_process; _cache_process.serve()"


class OtherProcess:
    """Runs tasks of a module, by name, in a process of its own."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: subprocess.Popen[str] | None = None

    def run(self, task: str, model: DispatchedModel, **arguments: Any) -> Report:
        """What the task reports; it has the environment that this process has now.

        Raises:
            AssertionError: the task failed; the message has its traceback.
        """
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVE],
                cwd=os.path.dirname(os.path.abspath(__file__)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._process.stdin and self._process.stdout
        request = {
            "module": self._module,
            "task": task,
            "model": model.name,
            "environment": dict(os.environ),
            "arguments": arguments,
        }
        print(json.dumps(request), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the process ended with {self._process.wait()}")
        report = json.loads(line)
        if "failure" in report:
            raise AssertionError(f"in the other process:\n{report['failure']}")
        return report

    def end(self) -> None:
        """The process ends when there is nothing more to read."""
        if self._process is not None:
            self._process.communicate()
            self._process = None


def serve() -> None:
    """Answer requests from stdin; whatever else is printed goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            report = _answer(request)
        except BaseException:
            report = {"failure": traceback.format_exc()}
        print(json.dumps(report), file=answers, flush=True)


def _answer(request: Mapping[str, Any]) -> Report:
    module = __import__(request["module"])
    model = MODEL_BY_NAME[request["model"]]
    report: Report = {}
    environment = mock.patch.dict(os.environ, request["environment"], clear=True)
    with environment, _settings_of_a_test(), counted(report):
        getattr(module, request["task"])(model, report, **request["arguments"])
    return report


@contextlib.contextmanager
def _settings_of_a_test() -> Iterator[None]:
    """What Dynamo's own test case sets shapes the graphs, and so the caches' keys."""
    case = torch._dynamo.test_case.TestCase("run")
    case.setUpClass()
    case.setUp()
    try:
        yield
    finally:
        case.tearDown()
        case.tearDownClass()


@contextlib.contextmanager
def counted(report: Report) -> Iterator[None]:
    """Put into ``report`` what caches and lowerings did in the context."""
    with record_dispatches() as records, cache_counts(report):
        yield
    report["lowered"] = len(records)
