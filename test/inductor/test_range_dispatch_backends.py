# Owner(s): ["module: inductor"]
"""Dispatched models under every backend of Inductor and every neighbouring feature.

One test a cell of the matrix of docs/backends.md, which scripts/backends.py makes from
the results of this file.
"""

import os
from unittest import mock

import pytest
import torch
from _backend_matrix import ROWS
from _backend_rows import Vehicle
from _backend_rows_caches import CACHES
from _dispatched_models import DispatchedModel, MODELS
from _triton_on_cpu import HAS_TRITON, SKIP_REASON, triton_kernels
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


# With `scripts/test --fast` this one stands for all.
FAST_MODEL = "three"


def _case(model: DispatchedModel) -> subtest:
    decorators = [] if model.name == FAST_MODEL else [pytest.mark.slow]
    return subtest(model, name=model.name, decorators=decorators)


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

    @parametrize("row", [subtest(row, name=row.name) for row in ROWS])
    @parametrize("model", map(_case, MODELS))
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


if __name__ == "__main__":
    run_tests()
