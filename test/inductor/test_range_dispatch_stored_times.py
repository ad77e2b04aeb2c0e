# Owner(s): ["module: inductor"]
"""When a stored time is used again: not if a setting changes the code or its speed, and
whatever else is set."""

import contextlib
import tempfile

from _deciding_settings import DECIDING
from _fresh_test_case import FreshTestCase

import torch
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch.cache.environment import deciding_settings
from torch._inductor.test_case import run_tests


OBSERVING = {
    "comment_origin": True,
    "debug": True,
    "disable_progress": False,
    "enabled_metric_tables": "kernel_metadata",
    "range_dispatch.count_calls": 1,
    "range_dispatch.on_unusable_winner": "fallback",
    "range_dispatch.table_path": "table.json",
    "range_dispatch.tuning_seconds": 0.5,
    "trace.enabled": True,
    "trace.graph_diagram": True,
    "triton.store_cubin": True,
    "triton.unique_kernel_names": False,
    "worker_suppress_logging": False,
}
CHANGING = {
    "cpp.max_horizontal_fusion_size": 1,
    "cpp.simdlen": 1,
    "cpp.threads": 1,
    "epilogue_fusion": False,
    "fallback_random": True,
    "max_autotune": True,
    "max_fusion_size": 2,
    "realize_reads_threshold": 1,
    "shape_padding": False,
    "size_asserts": False,
    "split_reductions": False,
    "triton.max_tiles": 3,
}


@torch.library.custom_op("stored_times::double", mutates_args=())
def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@double.register_fake
def _(x):
    return torch.empty_like(x)


def by_adding(x):
    return x + x


def by_scaling(x):
    return x * 2


class StoredTimesTest(FreshTestCase):
    def stored_and_timed(self, settings):
        """How many ranges had a stored time, and how many had none."""
        torch._dynamo.reset()
        counters.clear()
        configs = [CustomOpConfig(by_adding), CustomOpConfig(by_scaling)]
        with (
            config.patch(settings),
            custom_op_autotuning(
                double,
                configs=configs,
                dispatch_on={"tensor_name": "x", "dim": 0, "range_upper_bound": 64},
                split_points=[8],
                sizes_per_range=1,
                tuning_seconds=5.0,
            ),
        ):
            torch.compile(lambda x: double(x), dynamic=True)(torch.ones(4, 3))
        found = counters["inductor"]
        return [found[f"custom_op_tuning_cache_{what}"] for what in ("hit", "miss")]

    def test_what_only_observes(self):
        self.enterContext(self.in_a_folder())
        self.assertEqual(self.stored_and_timed({}), [0, 2])
        for name, value in OBSERVING.items():
            self.assertEqual(self.stored_and_timed({name: value}), [2, 0], msg=name)

    def test_what_changes_the_code(self):
        self.assertEqual(self.stored_and_timed({}), [0, 2])
        for name, value in CHANGING.items():
            self.assertNotEqual(getattr(config, name), value, msg=name)
            self.assertEqual(self.stored_and_timed({name: value}), [0, 2], msg=name)

    def test_threads(self):
        threads = torch.get_num_threads()
        self.addCleanup(torch.set_num_threads, threads)
        self.assertEqual(self.stored_and_timed({}), [0, 2])
        torch.set_num_threads(threads + 1)
        self.assertEqual(self.stored_and_timed({}), [0, 2])

    def test_every_setting_was_looked_at(self):
        """A new one is added to DECIDING, or to those that only observe."""
        new = [name for name in deciding_settings() if name not in DECIDING]
        self.assertEqual(new, [], msg="does it change the code, or only observe?")

    @contextlib.contextmanager
    def in_a_folder(self):
        """What is written to relative paths is deleted."""
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            yield


if __name__ == "__main__":
    run_tests()
