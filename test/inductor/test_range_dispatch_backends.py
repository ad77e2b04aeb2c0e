# Owner(s): ["module: inductor"]
"""Dispatched models under every backend of Inductor and every neighbouring feature.

One test a cell of the matrix of docs/backends.md, which scripts/backends.py makes from
the results of this file.
"""

import os
from collections.abc import Iterator
from unittest import mock

import pytest
from _backend_matrix import ROWS
from _backend_rows import Vehicle
from _backend_rows_caches import CACHES
from _backend_rows_distributed import DISTRIBUTED
from _backend_rows_wrappers import WRAPPERS
from _dispatched_models import MODELS
from _triton_on_cpu import HAS_TRITON, SKIP_REASON, triton_kernels

import torch
from torch._functorch import config as functorch_config
from torch._inductor import config
from torch._inductor.runtime.cache_dir_utils import cache_dir
from torch._inductor.test_case import run_tests, TestCase
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    subtest,
)


KERNELS = cache_dir()
# The rows of caches remove graphs, which must not be another test process's.
OWN_GRAPHS = os.path.join(KERNELS, f"process_{os.getpid()}")


def _cells() -> Iterator[subtest]:
    """All pairs, of which those are fast that have each row and each model once.

    Rows that start a process for each rank are slow. Rows of wrappers and caches, which all models depend on, take them in turn, so that
    the one with most kernels comes once. The others have the first model, the kernels of
    which are compiled then.
    """
    for row_number, row in enumerate(ROWS):
        takes_turns = row.section in (WRAPPERS, CACHES)
        fast_number = (row_number + 7) % len(MODELS) if takes_turns else 0
        for model_number, model in enumerate(MODELS):
            is_fast = model_number == fast_number and row.section != DISTRIBUTED
            decorators = [] if is_fast else [pytest.mark.slow]
            if is_fast and takes_turns:
                decorators.append(pytest.mark.smoke)
            name = f"{row.name}_{model.name}"
            yield subtest((row, model), name=name, decorators=decorators)


class RangeDispatchBackendsTest(TestCase):
    def setUp(self):
        super().setUp()
        # Kernels that were compiled before may serve; every graph is lowered anew.
        environment = {"TORCHINDUCTOR_CACHE_DIR": KERNELS}
        for context in (
            mock.patch.dict(os.environ, environment),
            config.patch(fx_graph_cache=False, autotune_local_cache=False),
            functorch_config.patch(enable_autograd_cache=False),
            torch._dynamo.config.patch(specialize_float=True),
        ):
            self.enterContext(context)
        torch.manual_seed(0)

    @parametrize("row,model", [*_cells()])
    def test(self, row, model):
        if row.vehicle is Vehicle.GPU and not torch.cuda.is_available():
            self.skipTest("no GPU")
        if row.vehicle is Vehicle.TRITON_ON_CPU:
            if not HAS_TRITON:
                self.skipTest(SKIP_REASON)
            self.recorder = self.enterContext(triton_kernels())
        if row.section == CACHES:
            environment = {"TORCHINDUCTOR_CACHE_DIR": OWN_GRAPHS}
            self.enterContext(mock.patch.dict(os.environ, environment))
        row.check(self, model)


instantiate_parametrized_tests(RangeDispatchBackendsTest)


class CellsTest(TestCase):
    def test_fast_ones_have_each_row_and_each_model(self):
        fast = [one for one in _cells() if pytest.mark.slow not in one.decorators]
        rows, models = zip(*(one.arg_values for one in fast))
        one_process = [row.name for row in ROWS if row.section != DISTRIBUTED]
        self.assertEqual([row.name for row in rows], one_process)
        self.assertEqual({one.name for one in models}, {one.name for one in MODELS})


if __name__ == "__main__":
    run_tests()
