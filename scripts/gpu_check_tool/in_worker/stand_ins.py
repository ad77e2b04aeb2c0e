"""What stands in for packages that are not installed, but that tests import.

torch's own test classes are made of expecttest's; of pytest the tests here only take
marks, by which it chooses among them.
"""

from __future__ import annotations

import importlib.util
import sys
import unittest
from importlib.machinery import ModuleSpec
from typing import Any


class ExpectTestCase(unittest.TestCase):
    """Compares what a test expects inline, and does not rewrite tests."""

    longMessage = True

    def assertExpectedInline(self, actual: str, expect: str, skip: int = 0) -> None:
        """``actual`` is ``expect``; ``skip`` is of use only to rewrite it."""
        self.assertMultiLineEqual(expect, actual)

    def assertExpectedRaisesInline(
        self, exc_type: Any, callable: Any, expect: str, *args: Any, **kwargs: Any
    ) -> None:
        """The call raises this exception, with this message."""
        with self.assertRaises(exc_type) as raised:
            callable(*args, **kwargs)
        self.assertExpectedInline(str(raised.exception), expect)


class Marks:
    """Leaves what is marked as it is."""

    def __getattr__(self, name: str) -> Any:
        return lambda marked: marked


CONTENTS: dict[str, dict[str, Any]] = {
    "expecttest": {"TestCase": ExpectTestCase, "ACCEPT": False},
    "pytest": {"mark": Marks()},
}


def missing() -> list[str]:
    """The packages that something has to stand in for."""
    return [name for name in CONTENTS if importlib.util.find_spec(name) is None]


def provide() -> None:
    """From now on, imports of what is missing give what stands in for it."""
    for name in missing():
        module = importlib.util.module_from_spec(ModuleSpec(name, None))
        vars(module).update(CONTENTS[name])
        sys.modules[name] = module
