# Owner(s): ["module: inductor"]
"""Scripts that ``tune`` runs, and a test case that lets it."""

import os
import sys
from typing import Any

import _inductor_helpers  # noqa: F401  # the op that the scripts call
from _sample_tables import CommandTestCase

import torch
from torch._inductor.kernel.custom_op import unregister_custom_op_autotuning
from torch._inductor.lowering import user_lowerings


SCRIPT = """
import os, sys
import torch
import beside
from torch._inductor.kernel.custom_op import CustomOpConfig, register_custom_op_autotuning

ops = []
for name in ("called", "idle"):
    op = torch.library.custom_op(
        f"command_test_script::{name}_{sys.argv[1]}",
        lambda x: x.sin(), mutates_args=(), schema="(Tensor x) -> Tensor")
    op.register_fake(torch.empty_like)
    register_custom_op_autotuning(
        op,
        configs=[CustomOpConfig(beside.once)],
        dispatch_on={"tensor_name": "x", "dim": 0, "range_upper_bound": 64},
        split_points=[8],
        tuning_seconds=120.0,  # on a busy machine, too
    )
    ops.append(op)
called, idle = ops
if sys.argv[2] != "nothing":
    torch.compile(lambda x: called(x), dynamic=True)(torch.randn(5))
if sys.argv[2] == "fail":
    raise RuntimeError("no such\\nthing")
if sys.argv[2] == "interrupt":
    raise KeyboardInterrupt
if sys.argv[2] == "exit":
    sys.exit(3)
"""
BESIDE = """
import torch

def once(x):
    return torch.ops.command_test.plus.default(x, 1)
"""


class TuneTestCase(CommandTestCase):
    """With the script in a folder; its ops are named after the test."""

    SCRIPT = SCRIPT

    def setUp(self) -> None:
        super().setUp()
        self.script = os.path.join(self.folder, "train.py")
        with open(self.script, "w") as file:
            file.write(self.SCRIPT)
        with open(os.path.join(self.folder, "beside.py"), "w") as file:
            file.write(BESIDE)
        self.default = os.path.join(self.folder, "train.tuning.json")
        self.addCleanup(sys.modules.pop, "beside", None)

    def tune(
        self, how: str, *options: str, name: str | None = None, **others: Any
    ) -> tuple[int, str, str]:
        """Run ``tune`` on the script, which is told its name and how."""
        torch._dynamo.reset()
        if name is None:
            name = f"{self._testMethodName}_{len(os.listdir(self.folder))}"
        self.addCleanup(self.unregister, name)
        path, argv = [*sys.path], sys.argv
        found = self.run_command("tune", *options, self.script, name, how, **others)
        self.assertEqual((sys.path, sys.argv), (path, argv))
        return found

    def unregister(self, name: str) -> None:
        """Forget what a script has registered."""
        names = [
            f"command_test_script.{op}_{name}.default" for op in ("called", "idle")
        ]
        # Not by torch.ops: an op that nothing refers to any more is gone from there.
        for op in [one for one in user_lowerings if str(one) in names]:
            unregister_custom_op_autotuning(op)
