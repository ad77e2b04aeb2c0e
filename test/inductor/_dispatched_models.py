# Owner(s): ["module: inductor"]
"""The models with range-dispatched ops in them that every backend has to run.

The implementations of an op differ in value on purpose: a result tells which one ran.
Ops and implementations are module level, so that other processes find them by name.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig


Tensor = torch.Tensor
NAMESPACE = "range_backends"
FIRST_SIZE = 20
WIDTH = 5
_library = torch.library.Library(NAMESPACE, "FRAGMENT")


@dataclass(frozen=True)
class DispatchedOp:
    """An op, its implementations, and which of them each range is to run.

    ``winners`` holds an index into ``implementations`` for each range, -1 for the op's
    own. ``params`` are the keyword arguments of each config. With ``is_tuned`` the
    winners are not given but found.
    """

    op: torch._ops.OpOverload
    own: Callable[..., Any]
    implementations: Sequence[Callable[..., Any]]
    split_points: Sequence[int]
    winners: Sequence[int]
    tensor_name: str = "x"
    params: Sequence[dict[str, Any]] = ()
    is_tuned: bool = False

    def register(self) -> contextlib.AbstractContextManager[None]:
        params = self.params or [{} for _ in self.implementations]
        return custom_op_autotuning(
            self.op,
            configs=[
                CustomOpConfig(implementation, **given)
                for implementation, given in zip(
                    self.implementations, params, strict=True
                )
            ],
            dispatch_on={"tensor_name": self.tensor_name, "dim": 0},
            split_points=list(self.split_points),
            winners=None if self.is_tuned else list(self.winners),
        )

    def due(self, *args: Any) -> Any:
        """Calls what the size of this call asks for, eagerly."""
        names = [argument.name for argument in self.op._schema.arguments]
        size = args[names.index(self.tensor_name)].shape[0]
        assert self.winners is not None
        winner = self.winners[sum(size > point for point in self.split_points)]
        if winner == -1:
            return self.own(*args)
        given = self.params[winner] if self.params else {}
        return self.implementations[winner](*args, **given)


@dataclass(frozen=True)
class DispatchedModel:
    """A function of tensors that calls dispatched ops.

    ``function(ops, *tensors)`` gets the ops to call, so that the same text runs the
    registered ops and what is due of them; ``shapes(size)`` are those of its inputs.
    The dispatched size is dimension 0 of the first ``varying`` inputs.
    """

    name: str
    ops: Sequence[DispatchedOp]
    function: Callable[..., Any]
    shapes: Callable[[int], Sequence[Sequence[int]]] = lambda size: [(size, WIDTH)]
    varying: int = 1
    description: str = ""

    @property
    def sizes(self) -> list[int]:
        """Every boundary: the last size of a range and the first of the next."""
        points = {point for op in self.ops for point in op.split_points}
        return sorted({n for point in points for n in (point, point + 1)})

    def inputs(self, size: int, device: str = "cpu") -> list[Tensor]:
        generator = torch.Generator().manual_seed(size)
        return [
            torch.randn(*shape, generator=generator).to(device)
            for shape in self.shapes(size)
        ]

    @contextlib.contextmanager
    def registered(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for op in self.ops:
                stack.enter_context(op.register())
            yield

    def run(self, *tensors: Tensor) -> Any:
        """What is compiled."""
        return self.function([op.op for op in self.ops], *tensors)

    def due(self, *tensors: Tensor) -> Any:
        """What a compiled call has to return, computed eagerly."""
        return self.function([op.due for op in self.ops], *tensors)

    def module(self) -> torch.nn.Module:
        return _Module(self)


class _Module(torch.nn.Module):
    def __init__(self, model: DispatchedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *tensors: Tensor) -> Any:
        return self.model.run(*tensors)


def _define(
    name: str, schema: str, own: Callable[..., Any], fake: Callable[..., Any]
) -> torch._ops.OpOverload:
    _library.define(name + schema)
    _library.impl(name, own, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_library)
    return getattr(getattr(torch.ops, NAMESPACE), name).default


def _sin(x: Tensor) -> Tensor:
    return x.sin()


def _tanh(x: Tensor) -> Tensor:
    return x.tanh()


def _relu(x: Tensor) -> Tensor:
    return x.relu()


def _sigmoid(x: Tensor) -> Tensor:
    return x.sigmoid()


def _square(x: Tensor) -> Tensor:
    return x * x


def _exp(x: Tensor) -> Tensor:
    return x.exp()


def _unary(
    name: str,
    implementations: Sequence[Callable[..., Any]],
    split_points: Sequence[int],
    winners: Sequence[int],
) -> DispatchedOp:
    op = _define(name, "(Tensor x) -> Tensor", _exp, torch.empty_like)
    return DispatchedOp(op, _exp, implementations, split_points, winners)


def _between_kernels(ops: Sequence[Callable[..., Any]], x: Tensor) -> Tensor:
    return ops[0](x + 1) * 2


def _scaled(x: Tensor, factor: int = 0) -> Tensor:
    return x * (factor + 1) + factor


def _one_of_seventeen() -> DispatchedOp:
    op = _define(
        "one_of_seventeen",
        "(Tensor x, int factor=0) -> Tensor",
        _scaled,
        lambda x, factor=0: torch.empty_like(x),
    )
    return DispatchedOp(
        op,
        _scaled,
        [_scaled] * 17,
        [*range(4, 68, 4)],
        [*range(17)],
        params=[{"factor": 2 + n} for n in range(17)],
    )


def _positive(x: Tensor) -> Tensor:
    return x[x > 0]


def _positive_doubled(x: Tensor) -> Tensor:
    return torch.masked_select(x, x > 0) * 2


def _positive_of_flat(x: Tensor) -> Tensor:
    flat = x.reshape(-1)
    return flat[flat.gt(0).nonzero().squeeze(1)].sin()


def _positive_fake(x: Tensor) -> Tensor:
    return x.new_empty(torch.library.get_ctx().new_dynamic_size())


def _two_outputs(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.sin(), x.sum(1)


def _two_other_outputs(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.tanh(), x.amax(1)


def _two_last_outputs(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.relu(), x.amin(1)


def _several_outputs(ops: Sequence[Callable[..., Any]], x: Tensor) -> Tensor:
    first, second = ops[0](x + 1)
    return first * 2 + second.unsqueeze(1)


def _add_sin(out: Tensor, x: Tensor) -> None:
    out.add_(x.sin())


def _add_tanh(out: Tensor, x: Tensor) -> None:
    out.add_(x.tanh())


def _add_relu(out: Tensor, x: Tensor) -> None:
    out.add_(x.relu())


def _mutates(ops: Sequence[Callable[..., Any]], x: Tensor) -> Tensor:
    out = x + 1
    ops[0](out, x * 2)
    return out * 2


def _product(x: Tensor, w: Tensor) -> Tensor:
    return x @ w


def _product_doubled(x: Tensor, w: Tensor) -> Tensor:
    return (x @ w) * 2


def _product_transposed(x: Tensor, w: Tensor) -> Tensor:
    return (w.t() @ x.t()).t().contiguous().relu()


def _matmul(ops: Sequence[Callable[..., Any]], x: Tensor, w: Tensor) -> Tensor:
    return ops[0](x + 1, w) * 2


def _two_calls(ops: Sequence[Callable[..., Any]], x: Tensor) -> Tensor:
    return ops[1](ops[0](x + 1) * 2) + 1


MODELS = [
    DispatchedModel(
        "two",
        [_unary("one_of_two", [_sin, _tanh], [8], [0, 1])],
        _between_kernels,
        description="two winners",
    ),
    DispatchedModel(
        "three",
        [_unary("one_of_three", [_sin, _tanh, _relu], [8, 100], [0, 1, 2])],
        _between_kernels,
        description="three winners",
    ),
    DispatchedModel(
        "five",
        [
            _unary(
                "one_of_five",
                [_sin, _tanh, _relu, _sigmoid, _square],
                [8, 16, 40, 100],
                [4, 3, 2, 1, 0],
            )
        ],
        _between_kernels,
        description="five winners",
    ),
    DispatchedModel(
        "seventeen",
        [_one_of_seventeen()],
        _between_kernels,
        description="seventeen winners",
    ),
    DispatchedModel(
        "apart",
        [_unary("apart", [_sin, _tanh, _relu], [8, 16, 40, 100], [0, 1, 0, 2, 1])],
        _between_kernels,
        description="ranges with one winner that are not adjacent",
    ),
    DispatchedModel(
        "fallback",
        [_unary("own", [_sin, _tanh], [8, 100], [0, -1, 1])],
        _between_kernels,
        description="the op itself among the winners",
    ),
    DispatchedModel(
        "unbacked",
        [
            DispatchedOp(
                _define("positive", "(Tensor x) -> Tensor", _positive, _positive_fake),
                _positive,
                [_positive, _positive_doubled, _positive_of_flat],
                [8, 100],
                [0, 1, 2],
            )
        ],
        _between_kernels,
        description="an output of unbacked size",
    ),
    DispatchedModel(
        "outputs",
        [
            DispatchedOp(
                _define(
                    "two_outputs",
                    "(Tensor x) -> (Tensor, Tensor)",
                    _two_outputs,
                    lambda x: (torch.empty_like(x), x.new_empty(x.shape[0])),
                ),
                _two_outputs,
                [_two_outputs, _two_other_outputs, _two_last_outputs],
                [8, 100],
                [0, 1, 2],
            )
        ],
        _several_outputs,
        description="two outputs",
    ),
    DispatchedModel(
        "mutation",
        [
            DispatchedOp(
                _define(
                    "add_to",
                    "(Tensor(a!) out, Tensor x) -> ()",
                    _add_sin,
                    lambda out, x: None,
                ),
                _add_sin,
                [_add_sin, _add_tanh, _add_relu],
                [8, 100],
                [0, 1, 2],
            )
        ],
        _mutates,
        description="an op that writes its argument",
    ),
    DispatchedModel(
        "matmul",
        [
            DispatchedOp(
                _define(
                    "product",
                    "(Tensor x, Tensor w) -> Tensor",
                    _product,
                    lambda x, w: x.new_empty(x.shape[0], w.shape[1]),
                ),
                _product,
                [_product, _product_doubled, _product_transposed],
                [8, 100],
                [0, 1, 2],
            )
        ],
        _matmul,
        lambda size: [(size, 16), (16, 12)],
        description="matrix products",
    ),
    DispatchedModel(
        "two_ops",
        [
            _unary("first_of_two_ops", [_sin, _tanh], [8], [0, 1]),
            _unary(
                "second_of_two_ops", [_relu, _sigmoid, _square], [8, 100], [2, 1, 0]
            ),
        ],
        _two_calls,
        description="two dispatched ops in one graph",
    ),
]
MODEL_BY_NAME = {model.name: model for model in MODELS}
