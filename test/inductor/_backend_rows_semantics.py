# Owner(s): ["module: inductor"]
"""Rows for what a compile has to mean: constants, random numbers, determinism, modes."""

import dataclasses
import functools
import itertools
import re
import unittest
from collections.abc import Callable
from typing import Any

from _backend_rows import (
    check_sizes,
    compile_and_check,
    Compiled,
    generated_sources,
    Rows,
)
from _dispatched_models import DispatchedModel, FIRST_SIZE

import torch
from torch._dynamo.exc import UserError
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.range_dispatch.record.records import record_dispatches
from torch.testing._internal.common_utils import DeterministicGuard
from torch.testing._internal.two_tensor import TwoTensor


ROWS = Rows()
SEMANTICS = "Semantics"
Call = Callable[..., Any]


def with_term(
    model: DispatchedModel, term: Callable[[torch.Tensor], Any]
) -> DispatchedModel:
    """The model with ``term(result)`` added to what each implementation computes.

    So a feature gets something to act on inside the branches of every model. The op's
    own implementation stays as it is.
    """

    @functools.cache
    def extended(implementation: Call) -> Call:
        @functools.wraps(implementation)
        def run(*args: Any, **kwargs: Any) -> Any:
            result = implementation(*args, **kwargs)
            if result is None:  # it wrote to its first argument
                args[0].add_(term(args[0]))
                return None
            if isinstance(result, tuple):
                return result[0] + term(result[0]), *result[1:]
            return result + term(result)

        return run

    ops = [
        dataclasses.replace(op, implementations=[*map(extended, op.implementations)])
        for op in model.ops
    ]
    return dataclasses.replace(model, ops=ops)


def compile_by(
    case: unittest.TestCase,
    model: DispatchedModel,
    graphs: int = 1,
    prepare: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor,
    **options: Any,
) -> Compiled:
    """As ``compile_and_check``, with the given options and inputs, and no other."""
    counter = CompileCounterWithBackend("inductor")
    torch._dynamo.reset()
    compiled = torch.compile(model.run, backend=counter, fullgraph=True, **options)
    with (
        model.registered(),
        generated_sources() as sources,
        record_dispatches() as records,
    ):
        for size in itertools.chain([FIRST_SIZE], model.sizes):
            given = [prepare(tensor) for tensor in model.inputs(size)]
            expected = model.due(*given)
            case.assertEqual(compiled(*given), expected, msg=f"size {size}")
    case.assertEqual(counter.frame_count, graphs)
    return Compiled(sources, compiled, records)


def branch_code(source: str) -> list[str]:
    """The bodies of the branches' functions in the code of a Python wrapper."""
    return re.findall(
        r"^def \w+_branch_\d+\w*\(args\):\n(?:    .*\n|\n)*", source, re.MULTILINE
    )


class Scaled(torch.nn.Module):
    """The dispatched part between two uses of a parameter."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call
        self.scale = torch.nn.Parameter(torch.tensor([1.3125, 0.5]))

    def forward(self, x: torch.Tensor, *rest: torch.Tensor) -> Any:
        before = (self.scale * 2 + 1).sum()
        return self.call(x * before, *rest) * (self.scale * 4).sum()


@ROWS.row(
    "freezing",
    SEMANTICS,
    acted="what is computed of a parameter, and of a tensor that each implementation "
    "closes over, is a constant",
)
@config.patch(freezing=True)
def freezing(case: unittest.TestCase, model: DispatchedModel) -> None:
    factor = torch.tensor([0.25, 0.4375])
    extended = with_term(model, lambda result: (factor * 2 + 1).sum())
    with torch.no_grad():
        result = compile_and_check(case, extended, around=Scaled)
    case.assertIn("static_cast<float>(5.625)", result.source)
    case.assertIn("static_cast<float>(7.25)", result.source)
    bodies = branch_code(result.source)
    case.assertGreater(len(bodies), 1)
    case.assertIn("static_cast<float>(3.375)", result.source)
    case.assertNotRegex(result.source, r"_tensor_constant|_frozen_param")


@ROWS.row(
    "constant_folding",
    SEMANTICS,
    acted="sums of uniform tensors around the dispatch and in each branch are folded",
)
@config.patch(joint_graph_constant_folding=True)
def constant_folding(case: unittest.TestCase, model: DispatchedModel) -> None:
    extended = with_term(model, lambda result: torch.ones_like(result) * 11 + 2.5)

    def around(call: Call) -> Call:
        def run(x: torch.Tensor, *rest: torch.Tensor) -> Any:
            return call(x + (torch.ones_like(x) * 7 + 2.25), *rest)

        return run

    result = compile_and_check(case, extended, around=around)
    case.assertIn("static_cast<float>(9.25)", result.source)
    case.assertNotIn("static_cast<float>(2.25)", result.source)
    case.assertIn("static_cast<float>(13.5)", result.source)
    case.assertNotIn("static_cast<float>(2.5)", result.source)


@ROWS.row(
    "fallback_random",
    SEMANTICS,
    acted="numbers that are drawn around and in the branches are those that eager draws, "
    "and so is the generator's state afterwards",
)
@config.patch(fallback_random=True)
def fallback_random(case: unittest.TestCase, model: DispatchedModel) -> None:
    # Not rand_like: it fills memory in the order of a layout that Inductor chooses.
    noisy = with_term(model, lambda x: torch.rand(x.shape))

    def around(call: Call) -> Call:
        def run(x: torch.Tensor, *rest: torch.Tensor) -> Any:
            # None after the call: an op without the tag nondeterministic_seeded may be
            # moved past what draws.
            return call(x + torch.rand_like(x), *rest)

        return run

    torch._dynamo.reset()
    compiled = torch.compile(around(noisy.run), dynamic=True, fullgraph=True)
    with noisy.registered():
        for size in itertools.chain([FIRST_SIZE], noisy.sizes):
            outcomes = []
            for call in (around(noisy.due), compiled):
                torch.manual_seed(size)
                outcomes.append((call(*noisy.inputs(size)), torch.get_rng_state()))
            due, actual = outcomes
            case.assertEqual(actual, due, msg=f"size {size}")


@ROWS.row(
    "random",
    SEMANTICS,
    acted="a branch that draws takes one seed from the generator, any other none",
)
def random(case: unittest.TestCase, model: DispatchedModel) -> None:
    noisy = with_term(model, torch.rand_like)
    torch._dynamo.reset()
    compiled = torch.compile(noisy.run, dynamic=True, fullgraph=True)
    with noisy.registered(), generated_sources() as sources:
        for size in itertools.chain([FIRST_SIZE], noisy.sizes):
            given = noisy.inputs(size)
            compiled(*given)
            torch.manual_seed(size)
            first = compiled(*given)
            drawn_state = torch.get_rng_state()
            second = compiled(*given)
            torch.manual_seed(size)
            for _ in range(seeds_due(noisy, size)):
                torch.randint(-(2**63), 2**63 - 1, [1], dtype=torch.int64)
            case.assertEqual(torch.get_rng_state(), drawn_state, msg=f"size {size}")
            if seeds_due(noisy, size):
                case.assertNotEqual(first, second)
            else:
                case.assertEqual(first, noisy.due(*given))
    case.assertEqual(len(sources), 1)


def seeds_due(model: DispatchedModel, size: int) -> int:
    """How many of the model's ops run an implementation, not the op's own."""
    winners = [
        (op.winners or ())[sum(size > point for point in op.split_points)]
        for op in model.ops
    ]
    return sum(winner != -1 for winner in winners)


@ROWS.row(
    "deterministic",
    SEMANTICS,
    acted="winners that are given dispatch; where timing would decide, nothing is timed "
    "and the op itself runs",
)
def deterministic(case: unittest.TestCase, model: DispatchedModel) -> None:
    counters.clear()
    with config.patch(deterministic=True):
        result = compile_and_check(case, model)
    case.assertGreater(len(branch_code(result.source)), 1)
    untuned = dataclasses.replace(
        model, ops=[dataclasses.replace(op, is_tuned=True) for op in model.ops]
    )
    given = model.inputs(FIRST_SIZE)
    due = model.function([op.own for op in model.ops], *given)
    torch._dynamo.reset()
    compiled = torch.compile(model.run, dynamic=True, fullgraph=True)
    with (
        untuned.registered(),
        record_dispatches() as records,
        # Anew: Dynamo sets it to use_deterministic_algorithms's after each compile.
        config.patch(deterministic=True),
    ):
        case.assertEqual(compiled(*given), due)
    case.assertEqual({row.winner for r in records for row in r.ranges}, {"fallback"})
    case.assertEqual(counters["inductor"]["custom_op_candidates_timed"], 0)


def sum_by_index(result: torch.Tensor) -> torch.Tensor:
    """Adds up into three bins by each of the operators that can do it."""
    flat = result.reshape(-1)
    bins = torch.arange(flat.shape[0], device=flat.device) % 3
    sums = torch.zeros(3, device=flat.device).index_put((bins,), flat, accumulate=True)
    sums = sums + torch.zeros(3, device=flat.device).scatter_add(0, bins, flat)
    return (sums + torch.zeros(3, device=flat.device).index_add(0, bins, flat)).amax()


@ROWS.row(
    "deterministic_algorithms",
    SEMANTICS,
    acted="accumulating by index, in the branches, calls the deterministic operators",
)
def deterministic_algorithms(case: unittest.TestCase, model: DispatchedModel) -> None:
    with DeterministicGuard(True):
        result = compile_and_check(case, with_term(model, sum_by_index))
    bodies = branch_code(result.source)
    calls = [
        re.findall(r"aten\.(index_put|scatter_\w+|index_add)_?", b) for b in bodies
    ]
    case.assertGreater(len(bodies), 1)
    case.assertTrue(any(len(made) >= 3 for made in calls), calls)
    case.assertNotIn("atomic_add(", result.source)


@ROWS.row("no_grad", SEMANTICS, acted="inputs ask for a gradient, results have none")
def no_grad(case: unittest.TestCase, model: DispatchedModel) -> None:
    with torch.no_grad():
        result = compile_by(
            case, model, prepare=lambda x: x.clone().requires_grad_(), dynamic=True
        )
    case.assertEqual(len(result.sources), 1)
    case.assertGreater(len(branch_code(result.source)), 1)


@ROWS.row("inference_mode", SEMANTICS, acted="what is returned is an inference tensor")
def inference_mode(case: unittest.TestCase, model: DispatchedModel) -> None:
    with torch.inference_mode():
        result = compile_and_check(case, model)
        with model.registered():
            returned = result.function(*model.inputs(FIRST_SIZE))
    case.assertTrue(returned.is_inference())
    case.assertGreater(len(branch_code(result.source)), 1)


@ROWS.row(
    "autocast",
    SEMANTICS,
    acted="a product around the dispatch is bfloat16, what is dispatched stays float32",
)
def autocast(case: unittest.TestCase, model: DispatchedModel) -> None:
    def around(call: Call) -> Call:
        def run(x: torch.Tensor, *rest: torch.Tensor) -> Any:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                product = x.t() @ x
                with torch.autocast("cpu", enabled=False):
                    dispatched = call(x, *rest)
            return dispatched, product

        return run

    result = compile_and_check(case, model, around=around)
    with model.registered():
        dispatched, product = result.function(*model.inputs(FIRST_SIZE))
    case.assertEqual((dispatched.dtype, product.dtype), (torch.float32, torch.bfloat16))


@ROWS.row(
    "noncontiguous",
    SEMANTICS,
    acted="the graph asserts the strides of transposed inputs",
)
def noncontiguous(case: unittest.TestCase, model: DispatchedModel) -> None:
    result = compile_by(
        case, model, prepare=lambda x: x.t().contiguous().t(), dynamic=True
    )
    case.assertRegex(
        result.source, r"assert_size_stride\(\w+, \(\w+, \w+\), \(1, \w+\)"
    )
    case.assertGreater(len(branch_code(result.source)), 1)


@ROWS.row(
    "automatic_dynamic",
    SEMANTICS,
    acted="the first size compiles one branch, the second compiles the dispatch",
)
def automatic_dynamic(case: unittest.TestCase, model: DispatchedModel) -> None:
    result = compile_by(case, model, graphs=2, dynamic=None)
    first, second = result.records[: len(model.ops)], result.records[len(model.ops) :]
    case.assertEqual({record.branches for record in first}, {1})
    case.assertEqual(len(second), len(model.ops))
    case.assertGreater(min(record.branches for record in second), 1)


@ROWS.row(
    "mark_dynamic",
    SEMANTICS,
    acted="the first compile dispatches though none is asked for",
)
def mark_dynamic(case: unittest.TestCase, model: DispatchedModel) -> None:
    result = compile_by(case, marked(model, torch._dynamo.mark_dynamic), dynamic=None)
    case.assertGreater(min(record.branches for record in result.records), 1)


@ROWS.row(
    "mark_unbacked", SEMANTICS, acted="the size that the dispatch reads is unbacked"
)
def mark_unbacked(case: unittest.TestCase, model: DispatchedModel) -> None:
    result = compile_by(
        case, marked(model, torch._dynamo.decorators.mark_unbacked), dynamic=None
    )
    for record in result.records:
        case.assertRegex(str(record.sizes), r"\bu\d+")
        case.assertGreater(record.branches, 1)


def marked(
    model: DispatchedModel, mark: Callable[[torch.Tensor, int], None]
) -> DispatchedModel:
    """The model with the dispatched dimension of its inputs marked."""

    class Marked(type(model)):  # type: ignore[misc]
        def inputs(self, size: int, device: str = "cpu") -> list[torch.Tensor]:
            tensors = super().inputs(size, device)
            for tensor in tensors[: self.varying]:
                mark(tensor, 0)
            return tensors

    return Marked(**vars(model))


@ROWS.row("options", SEMANTICS, acted="the wrapper marks its calls, as the option says")
def options(case: unittest.TestCase, model: DispatchedModel) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(
        model.run,
        dynamic=True,
        fullgraph=True,
        options={"profiler_mark_wrapper_call": True},
    )
    with model.registered(), generated_sources() as sources:
        check_sizes(case, model, compiled, model.due)
    case.assertEqual(len(sources), 1)
    case.assertIn("with record_function(", sources[0])
    case.assertGreater(len(branch_code(sources[0])), 1)


@ROWS.row(
    "stance",
    SEMANTICS,
    acted="no size asks for a compile where that is an error; eager runs the op itself",
)
def stance(case: unittest.TestCase, model: DispatchedModel) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(model.run, dynamic=True, fullgraph=True)
    with model.registered():
        compiled(*model.inputs(FIRST_SIZE))
        with torch.compiler.set_stance("fail_on_recompile"):
            check_sizes(case, model, compiled, model.due)
            doubles = [x.double() for x in model.inputs(FIRST_SIZE)]
            case.assertRaises(RuntimeError, compiled, *doubles)
        with torch.compiler.set_stance("force_eager"):
            check_sizes(
                case,
                model,
                compiled,
                functools.partial(model.function, [op.own for op in model.ops]),
            )


@ROWS.row(
    "nested_region",
    SEMANTICS,
    acted="two calls of a region with the dispatch in it are one function in the wrapper",
)
def nested_region(case: unittest.TestCase, model: DispatchedModel) -> None:
    def around(call: Call) -> Call:
        region = torch.compiler.nested_compile_region(lambda *tensors: call(*tensors))

        def run(x: torch.Tensor, *rest: torch.Tensor) -> Any:
            return region(x, *rest), region(x.cos(), *rest)

        return run

    result = compile_and_check(case, model, around=around)
    names = re.findall(r"^def (\w*subgraph\w*)\(args\):", result.source, re.MULTILINE)
    case.assertEqual(len(result.records), len(model.ops))
    (region,) = [name for name in names if re.fullmatch(r"\w*subgraph\d+", name)]
    case.assertEqual(len(re.findall(rf"= {region}\(", result.source)), 2)


@ROWS.row(
    "tensor_subclass",
    SEMANTICS,
    acted="each of the two tensors that a subclass holds is dispatched by itself",
    refusals={"unbacked": "the subclass has one shape for two data-dependent sizes"},
)
def tensor_subclass(case: unittest.TestCase, model: DispatchedModel) -> None:
    if model.name == "unbacked":
        with case.assertRaisesRegex(UserError, "data-dependent expression"):
            compile_by(case, model, prepare=lambda x: TwoTensor(x, x.clone()))
        return
    result = compile_by(
        case, model, prepare=lambda x: TwoTensor(x, x.clone()), dynamic=True
    )
    case.assertEqual(len(result.records), 2 * len(model.ops))
    case.assertGreater(len(branch_code(result.source)), 1)
