"""In a worker: single tests, of test files or of cases that are made here."""

from __future__ import annotations

import importlib
import unittest
from collections.abc import Iterator
from typing import Any

from failures import describe, failure


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
    """Keeps what was raised, too."""

    def __init__(self) -> None:
        super().__init__()
        self.raised: list[BaseException] = []

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        """A test, or what prepares its class, raised something unexpected."""
        super().addError(test, err)
        self.raised.append(err[1])

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        """Something is not as a test expects it."""
        super().addFailure(test, err)
        self.raised.append(err[1])

    def addSubTest(
        self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any
    ) -> None:
        """A part of a test ended, well if there is no error."""
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.raised.append(err[1])


def outcome(suite: unittest.TestSuite) -> dict[str, Any]:
    """How the only test of a suite ended, as a worker's answer."""
    result = Result()
    suite.run(result)
    if result.raised:
        return describe(result.raised[0])
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
