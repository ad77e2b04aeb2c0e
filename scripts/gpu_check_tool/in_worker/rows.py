"""In a worker: cells of the matrix of docs/backends.md, without pytest."""

from __future__ import annotations

import unittest
from typing import Any

import torch
from _backend_rows import Row
from _backend_rows_memory import ROWS
from _dispatched_models import MODEL_BY_NAME, DispatchedModel
from gpu_check_tool.in_worker.tests import outcome
from torch._functorch import config as functorch_config
from torch._inductor import config
from torch._inductor.test_case import TestCase


class Cell(TestCase):
    """One row with one model, in the settings of test_range_dispatch_backends.py."""

    def __init__(self, row: Row, model: DispatchedModel) -> None:
        super().__init__("run_cell")
        self._row = row
        self._model = model

    def setUp(self) -> None:
        super().setUp()
        for context in (
            config.patch(fx_graph_cache=False, autotune_local_cache=False),
            functorch_config.patch(enable_autograd_cache=False),
            torch._dynamo.config.patch(specialize_float=True),
        ):
            self.enterContext(context)
        torch.manual_seed(0)

    def run_cell(self) -> None:
        """What the test of this cell does."""
        self._row.check(self, self._model)


def row(name: str, model: str) -> dict[str, Any]:
    """Run one cell."""
    chosen = next(one for one in ROWS if one.name == name)
    cell = Cell(chosen, MODEL_BY_NAME[model])
    return outcome(unittest.TestSuite([cell]))
