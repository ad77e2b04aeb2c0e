# Owner(s): ["module: inductor"]
"""Compiled graphs with a dispatch in them whose inputs are no tensors and no sizes."""

import unittest

from _fresh_test_case import FreshTestCase

import torch
import torch.distributed as dist
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch import explain
from torch._inductor.test_case import run_tests
from torch._library.opaque_object import get_opaque_type_name, register_opaque_type
from torch.distributed.tensor import (
    distribute_tensor,
    DTensor,
    init_device_mesh,
    Replicate,
    Shard,
)
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.testing._internal.torchbind_impls import init_torchbind_implementations


SPLIT = 8


@torch.library.custom_op("graph_inputs::identity", mutates_args=())
def identity(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


@identity.register_fake
def _(x):
    return torch.empty_like(x)


try:  # what the base class of opaque types is called from v2.15 on
    from torch._custom_class_base import CustomClassBase as OpaqueBase
except ImportError:
    from torch._opaque_base import OpaqueBase


class Factor(OpaqueBase):
    def __init__(self, value):
        self.value = value


register_opaque_type(Factor, typ="reference")
_library = torch.library.Library("graph_inputs", "FRAGMENT")
_library.define(f"scaled(Tensor x, {get_opaque_type_name(Factor)} factor) -> Tensor")
_library.impl("scaled", lambda x, f: x * f.value, "CompositeExplicitAutograd")
torch.library.register_fake(
    "graph_inputs::scaled", lambda x, f: torch.empty_like(x), lib=_library
)
scaled = torch.ops.graph_inputs.scaled.default


def _op_of_script_objects():
    try:
        init_torchbind_implementations()
    except Exception:
        return None
    return torch.ops._TorchScriptTesting.takes_foo


class GraphInputsTestCase(FreshTestCase):
    settings = {"force_disable_caches": True}

    def check(self, model, make, op=identity, implementations=None):
        """``model`` gets a tensor and what ``make`` makes, on each side of the split."""
        implementations = implementations or [lambda x: x * 2, lambda x: x * 3]
        counter = CompileCounterWithBackend("inductor")
        compiled = torch.compile(
            lambda x, given: model(op, x, given),
            backend=counter,
            dynamic=True,
            fullgraph=True,
        )
        with custom_op_autotuning(
            op,
            configs=[CustomOpConfig(one) for one in implementations],
            dispatch_on={"tensor_name": "x", "dim": 0},
            split_points=[SPLIT],
            winners=[0, 1],
        ):
            for size in (5, 8, 9):
                x = torch.arange(float(size))
                due = model(implementations[size > SPLIT], x, make())
                self.assertEqual(compiled(x, make()), due, msg=f"size {size}")
        self.assertEqual(counter.frame_count, 1)


class GraphInputsTest(GraphInputsTestCase):
    def test_none_and_numbers(self):
        for value in (None, 1.5, True, 7):
            torch._dynamo.reset()
            self.check(lambda op, x, given: op(x) * (given or 1), lambda v=value: v)

    def test_opaque_object(self):
        def model(op, x, factor):
            return scaled(op(x), factor)

        self.check(model, lambda: Factor(5))
        torch._dynamo.reset()
        with config.patch({"range_dispatch.count_calls": 1}):
            self.check(model, lambda: Factor(5))

    def test_explained(self):
        compiled = torch.compile(
            lambda factor, x: scaled(identity(x), factor), dynamic=True
        )
        with custom_op_autotuning(
            identity,
            configs=[CustomOpConfig(lambda x: x * 2), CustomOpConfig(lambda x: x * 3)],
            dispatch_on={"tensor_name": "x", "dim": 0},
            split_points=[SPLIT],
            winners=[0, 1],
        ):
            compiled(Factor(5), torch.ones(5))
            self.assertIn("[9, inf]", str(explain(compiled, Factor(5), torch.ones(9))))

    @unittest.skipIf(_op_of_script_objects() is None, "needs libtorchbind_test")
    def test_script_object(self):
        takes_foo = _op_of_script_objects()

        def model(op, x, foo):
            return takes_foo(foo, op(x))

        self.check(model, lambda: torch.classes._TorchScriptTesting._Foo(10, 20))

    def test_op_with_an_opaque_argument_is_left_to_itself(self):
        name = get_opaque_type_name(Factor)
        _library.define(f"also_scaled(Tensor x, {name} factor) -> Tensor")
        _library.impl(
            "also_scaled", lambda x, f: x * f.value, "CompositeExplicitAutograd"
        )
        torch.library.register_fake(
            "graph_inputs::also_scaled", lambda x, f: torch.empty_like(x), lib=_library
        )
        op = torch.ops.graph_inputs.also_scaled.default
        with self.assertLogs("torch._inductor.kernel.custom_op", "WARNING") as logs:
            self.check(
                lambda op, x, factor: op(x, factor),
                lambda: Factor(5),
                op,
                [lambda x, f: x * f.value] * 2,
            )
        self.assertEqual(len(logs.output), 1)
        self.assertIn("also_scaled", logs.output[0])


@unittest.skipIf(not dist.is_available(), "needs torch.distributed")
class DistributedTensorTest(GraphInputsTestCase):
    def setUp(self):
        super().setUp()
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=1)
        self.addCleanup(dist.destroy_process_group)
        self.mesh = init_device_mesh("cpu", (1,))

    def test_distributed_tensor(self):
        self.check(
            lambda op, x, t: op(x) + (t * 2).to_local().sum(),
            lambda: distribute_tensor(torch.ones(4), self.mesh, [Shard(0)]),
        )

    def test_mesh(self):
        self.check(
            lambda op, x, t: (
                op(x)
                + t.redistribute(t.device_mesh, [Replicate()]).to_local().sum()
                + DTensor.from_local(x, t.device_mesh, [Shard(0)]).to_local()
            ),
            lambda: distribute_tensor(torch.ones(4), self.mesh, [Shard(0)]),
        )


if __name__ == "__main__":
    run_tests()
