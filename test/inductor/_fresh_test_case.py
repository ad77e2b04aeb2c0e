# Owner(s): ["module: inductor"]
"""Tests that start with nothing compiled, cached or counted."""

from typing import Any
from unittest import mock

import torch
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.range_dispatch.benchmark import contention
from torch._inductor.test_case import TestCase
from torch._inductor.utils import fresh_cache


class FreshTestCase(TestCase):
    """``settings`` are of Inductor's config. A graph from its cache is not lowered, so
    that cache is off. Values tell which branch ran, so candidates are not compared.
    Neither what else runs on the machine nor the time that tuning takes matters."""

    settings: dict[str, Any] = {"fx_graph_cache": False}

    def setUp(self) -> None:
        super().setUp()
        torch._dynamo.reset()
        counters.clear()
        self.enterContext(fresh_cache())
        different = {
            "range_dispatch.check_accuracy": "off",
            "range_dispatch.tuning_seconds": 600.0,
        }
        self.enterContext(config.patch({**different, **self.settings}))
        idle = mock.patch.object(contention.WaitedShare, "so_far", lambda self: 0.0)
        self.enterContext(idle)
