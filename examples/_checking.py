"""What the examples share: explain a model's dispatch and check what it computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor import range_dispatch
from torch._library.custom_ops import CustomOpDef


def op_of(example: ModuleType) -> CustomOpDef:
    """The one custom op that an example defines."""
    (op,) = (one for one in vars(example).values() if isinstance(one, CustomOpDef))
    return op


def gradients(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor | None]:
    """Those that a backward pass left, None for a tensor that needs none."""
    return [tensor.grad for tensor in inputs]


def explain_and_check(
    model: Callable[..., torch.Tensor],
    make_inputs: Callable[[int], tuple[torch.Tensor, ...]],
    sizes: Sequence[int],
    **tolerance: float,
) -> dict[int, str]:
    """Compile the model once, call it at every size, say what ran at each of them.

    What is compiled has to compute what the model does eagerly, with the op's own
    implementation: results (within ``tolerance``), what it writes into its inputs, and
    gradients.

    Raises:
        AssertionError: a value is wrong, or a size made a graph of its own.
    """
    counter = CompileCounterWithBackend("inductor")
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    winners: dict[int, str] = {}
    for size in sizes:
        eager_inputs, inputs = make_inputs(size), make_inputs(size)
        expected, output = model(*eager_inputs), compiled(*inputs)
        if expected.requires_grad:
            expected.sum().backward()
            output.sum().backward()
        torch.testing.assert_close(output, expected, **tolerance)
        torch.testing.assert_close(inputs, eager_inputs)
        torch.testing.assert_close(gradients(inputs), gradients(eager_inputs))
        explanation = range_dispatch.explain(compiled, *make_inputs(size))
        (call,) = [one for one in explanation if not one.is_backward]
        if str(call.winner) not in winners.values():
            print(explanation, end="\n\n")
        winners[size] = str(call.winner)
    for size, winner in winners.items():
        print(f"size {size:>6}: {winner}, as computed eagerly")
    graphs = counter.frame_count
    print(f"graphs compiled for {len(sizes)} sizes: {graphs}")
    assert graphs == 1, f"{graphs} graphs were compiled, not 1"
    return winners
