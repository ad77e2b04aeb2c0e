# Owner(s): ["module: inductor"]
"""Checks models with ops that branches take in work around, and what was recorded."""

from collections.abc import Callable
from typing import Any

from _fusion_test_case import alone_at, DISPATCHED, FusionTestCase, inputs, Ops, SIZES

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor.range_dispatch.record.records import (
    DispatchRecord,
    record_dispatches,
)


Model = Callable[..., Any]


class FusionCheckingTestCase(FusionTestCase):
    def compile_and_check(
        self,
        model: Model,
        device: str = "cpu",
        expected_ops: Callable[[int], Ops] = alone_at,
        **options: Any,
    ) -> list[DispatchRecord]:
        """The records of a model's dispatched calls; all sizes give right results.

        ``expected_ops`` are what the dispatched ops are for a size.
        """
        backend = CompileCounterWithBackend("inductor")
        compiled = torch.compile(
            lambda *args: model(DISPATCHED, *args),
            dynamic=True,
            backend=backend,
            **options,
        )
        with record_dispatches() as records:
            for size in SIZES:
                given, expected_given = inputs(size, device), inputs(size, device)
                actual = compiled(*given)
                expected = model(expected_ops(size), *expected_given)
                self.assertEqual(actual, expected, atol=1e-4, rtol=1e-4)
                self.assertEqual(given, expected_given)
                self.assertEqual(strides(actual), strides(expected))
        self.assertEqual(backend.frame_count, 1)
        return records


def strides(outputs: Any) -> list[tuple[int, ...]]:
    return [x.stride() for x in (outputs if isinstance(outputs, tuple) else [outputs])]
