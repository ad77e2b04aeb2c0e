"""For torch.testing where the package expecttest is not installed.

It compares what a test expects inline, and does not rewrite tests: what is accepted is
what stands there.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable
from typing import Any

ACCEPT = False


class TestCase(unittest.TestCase):
    """What torch's own TestCase is made of."""

    longMessage = True

    def assertExpectedInline(self, actual: str, expect: str, skip: int = 0) -> None:
        """``actual`` is ``expect``, a text; ``skip`` is of use only to rewrite it."""
        self.assertMultiLineEqual(expect, actual)

    def assertExpectedRaisesInline(
        self,
        exc_type: type[Exception],
        callable: Callable[..., Any],
        expect: str,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """The call raises this exception, with this message."""
        with self.assertRaises(exc_type) as raised:
            callable(*args, **kwargs)
        self.assertExpectedInline(str(raised.exception), expect)
