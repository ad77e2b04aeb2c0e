"""In a worker: single tests, of test files or of cases that are made here."""

from __future__ import annotations

import importlib
import unittest
from collections.abc import Iterator
from typing import Any

from failures import failure


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


def outcome(suite: unittest.TestSuite) -> dict[str, Any]:
    """How the only test of a suite ended, as a worker's answer."""
    result = unittest.TestResult()
    suite.run(result)
    for _, trace in (*result.errors, *result.failures):
        name, _, message = trace.strip().splitlines()[-1].partition(": ")
        return failure(name.rpartition(".")[2], _first_words(trace, message), trace)
    if result.unexpectedSuccesses:
        return failure("unexpected success", "the test is expected to fail")
    if result.skipped:
        return {"status": "skipped", "words": result.skipped[0][1]}
    if not result.testsRun:
        return failure("no test", "nothing was run")
    return {"status": "passed"}


def _first_words(trace: str, last: str) -> str:
    """The message of the error that the trace ends with, whose last line is given."""
    lines = trace.strip().splitlines()
    # A message of several lines starts at the last line that is not indented and
    # names an exception.
    for line in reversed(lines):
        head, colon, message = line.partition(": ")
        if colon and head.replace(".", "").isidentifier() and head[-5:] in ENDINGS:
            return message
    return last


ENDINGS = ("Error", "ption")


def _flat(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            yield from _flat(one)
        else:
            yield one
