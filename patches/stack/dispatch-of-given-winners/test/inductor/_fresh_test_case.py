# Owner(s): ["module: inductor"]
"""Tests that start with nothing compiled, cached or counted."""

from typing import Any

import torch
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.test_case import TestCase
from torch._inductor.utils import fresh_cache


class FreshTestCase(TestCase):
    """``settings`` are of Inductor's config. A graph from its cache is not lowered, so
    that cache is off."""

    settings: dict[str, Any] = {"fx_graph_cache": False}

    def setUp(self) -> None:
        super().setUp()
        torch._dynamo.reset()
        counters.clear()
        self.enterContext(fresh_cache())
        self.enterContext(config.patch(self.settings))
