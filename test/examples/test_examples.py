# Owner(s): ["module: inductor"]
"""Every file of examples/: each implementation runs where it is to, in one graph."""

import contextlib
import functools
import importlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor import config
from torch._inductor.kernel.custom_op import (
    custom_op_autotuning,
    CustomOpConfig,
    unregister_custom_op_autotuning,
)
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import fresh_cache
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.append(str(EXAMPLES))

from _checking import op_of  # noqa: E402

NAMES = sorted(file.stem for file in EXAMPLES.glob("[!_]*.py"))
SPLIT_POINTS = [8, 16]
SIZES = {5: 0, 8: 0, 9: 1, 16: 1, 17: 2, 40: 2}
"""Both ends of each range, with the implementation that is to run there."""


def marked(implementation: Callable[..., Any], number: int) -> Callable[..., Any]:
    """Adds the number to the result, or to all that is written in place.

    What the implementations of an op compute is the same; now a value tells which ran.
    """

    @functools.wraps(implementation)
    def with_mark(*args: Any) -> Any:
        result = implementation(*args)
        if result is not None:
            return result + number
        args[0].add_(number)
        return None

    return with_mark


def values(model: Callable[..., Any], inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """What the call returns and leaves in its first argument, in one row."""
    output = model(*inputs)
    return torch.cat([one.detach().double().flatten() for one in (output, inputs[0])])


def with_implementation(
    module: ModuleType, implementation: Callable[..., Any]
) -> Callable[..., Any]:
    """The example's model, which calls the implementation in place of the op."""
    op = op_of(module)
    names = {name: one for name, one in vars(module).items() if one is not op}
    names |= {name: implementation for name in vars(module).keys() - names.keys()}
    return type(module.model)(module.model.__code__, names)


class ExamplesTest(TestCase):
    def test_there_are_examples(self) -> None:
        self.assertGreaterEqual(len(NAMES), 8)

    @parametrize("name", NAMES)
    def test_each_implementation_runs_in_its_range(self, name: str) -> None:
        module = importlib.import_module(name)
        implementations = [one.decomposition for one in module.OPTIONS["configs"]]
        self.assertIn(len(implementations), (2, 3))
        chosen = [
            marked(implementations[number % len(implementations)], 3 + number)
            for number in range(3)
        ]
        options = {
            **module.OPTIONS,
            "configs": [CustomOpConfig(one) for one in chosen],
            "split_points": SPLIT_POINTS,
            "winners": [0, 1, 2],
        }
        counter = CompileCounterWithBackend("inductor")
        torch._dynamo.reset()
        # Kernels are compiled by the slow test. ATen's run as well, and are there.
        with (
            fresh_cache(),
            config.patch(fallback_by_default=True),
            custom_op_autotuning(op_of(module), **options),
        ):
            compiled = torch.compile(module.model, backend=counter, fullgraph=True)
            for size, number in SIZES.items():
                with self.subTest(size=size):
                    got = values(compiled, module.make_inputs(size))
                    models = [with_implementation(module, one) for one in chosen]
                    due = [values(one, module.make_inputs(size)) for one in models]
                    near = [
                        torch.allclose(got, one, rtol=1e-2, atol=2e-2) for one in due
                    ]
                    self.assertEqual(near, [number == one for one in range(3)])
        self.assertEqual(counter.frame_count, 1)

    @parametrize("name", NAMES)
    def test_the_op_computes_what_each_implementation_does(self, name: str) -> None:
        module = importlib.import_module(name)
        for size in (2, 7, 33):
            due = values(module.model, module.make_inputs(size))
            for one in module.OPTIONS["configs"]:
                model = with_implementation(module, one.decomposition)
                with self.subTest(size=size, implementation=one.decomposition.__name__):
                    got = values(model, module.make_inputs(size))
                    self.assertEqual(got, due, rtol=1e-2, atol=1e-2)

    @pytest.mark.slow
    @parametrize("name", NAMES)
    def test_the_program_tunes_explains_and_checks(self, name: str) -> None:
        module = importlib.import_module(name)
        torch._dynamo.reset()
        printed = io.StringIO()
        self.addCleanup(unregister_custom_op_autotuning, op_of(module))
        with (
            fresh_cache(),
            config.patch({"range_dispatch.tuning_seconds": 5.0}),
            contextlib.redirect_stdout(printed),
        ):
            module.main()
        for size in module.SIZES:
            self.assertRegex(printed.getvalue(), rf"size +{size}: \w+")
        self.assertIn(
            f"graphs compiled for {len(module.SIZES)} sizes: 1", printed.getvalue()
        )


instantiate_parametrized_tests(ExamplesTest)


if __name__ == "__main__":
    run_tests()
