# Owner(s): ["module: inductor"]
"""A table of implementations, each the candidate of an op made for it."""

from __future__ import annotations

import enum
import inspect
import itertools
from dataclasses import dataclass, field
from typing import Any, TYPE_CHECKING

import torch
import torch.utils._pytree as pytree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


SPLIT_POINT = 16
OWN_MARKER = 100
_numbers = itertools.count()


class Kind(enum.Enum):
    """What an implementation asks of sizes that tracing has to answer."""

    NUMBER = "Python makes a number of a size that is not dispatched"
    CONDITION = "a condition, an assert or torch._check on such sizes"
    OPERATOR = "an operator's guard on the dispatched size"
    AGREEMENT = "inputs that have to agree"
    REPEATED = "the same guard again and again"
    FORM = "a result's size is equal in fact, not in form"
    ARITHMETIC = "Python arithmetic that Dynamo keeps symbolic"
    INDEX = "a size is an index"
    DATA = "a check of a number from the data"
    CACHED = "a cached helper"
    EFFECT = "operators with effects"
    NOTHING = "nothing is asked"
    CALL = "an unusual function, call or result"


@dataclass(frozen=True)
class Entry:
    """An implementation, and the op whose candidate it is.

    ``inputs`` makes arguments for a dispatched size; ``call`` has the call of the op, if
    there is more to it than these arguments. The first of ``sizes`` is compiled for.
    ``graphs_alone`` are those that ``torch.compile`` makes of the implementation alone,
    by mode, where that is not one; ``fails_alone`` has the error where it does not
    compile. Inductor would find the same as ``alone_with``, which takes less time.
    """

    name: str
    kind: Kind
    implementation: Callable[..., Any]
    inputs: Callable[[int], tuple[Any, ...]]
    schema: str
    fake: Callable[..., Any]
    sizes: Sequence[int] = (16, 17, 5, 40)
    call: Callable[..., Any] = lambda op, *args: op(*args)
    dim: int = 0
    fast: bool = False
    trains: bool = False
    wrappers: bool = False
    tuned: bool = False
    graphs_alone: Mapping[str, int] = field(default_factory=dict)
    fails_alone: Mapping[str, str] = field(default_factory=dict)
    alone_with: str = "aot_eager"

    def arguments(self, size: int) -> tuple[Any, ...]:
        """The same for a size whenever it is asked for."""
        torch.manual_seed(size)
        return self.inputs(size)

    def marked_arguments(self, size: int) -> tuple[Any, ...]:
        """With those dimensions marked dynamic that depend on the dispatched size."""
        arguments = self.arguments(size)
        pairs = zip(_tensors(arguments), _tensors(self.arguments(size * 2)))
        for tensor, other in pairs:
            for dim, (own, its) in enumerate(zip(tensor.shape, other.shape)):
                if own != its:
                    torch._dynamo.mark_dynamic(tensor, dim)
        return arguments

    def shifted(self, marker: int) -> Callable[..., Any]:
        """The implementation, told by its values."""

        def shifted(*args: Any) -> Any:
            result = self.implementation(*args)
            if isinstance(result, torch.Tensor):
                return result + marker
            return type(result)([tensor + marker for tensor in result])

        return shifted

    def due_of(self, size: int) -> Callable[..., Any]:
        """What a dispatched call has to do for a size."""
        function = self.shifted(int(size > SPLIT_POINT))
        return lambda *args: self.call(function, *args)

    def due(self, size: int) -> Any:
        """What a dispatched call has to return."""
        return self.due_of(size)(*self.arguments(size))

    def define_op(self, own: Callable[..., Any]) -> torch.library.CustomOpDef:
        """A new op, computed by ``own`` where no implementation is chosen."""
        name = f"candidate_parity::{self.name}_{next(_numbers)}"
        op = torch.library.custom_op(name, own, mutates_args=(), schema=self.schema)
        op.register_fake(self.fake)
        return op

    def define_backward(self) -> torch.library.CustomOpDef:
        """A new op for the gradients, which tells the compiler nothing of the sizes
        that the implementation needs."""

        def backward(gradient: Any, given: Any) -> Any:
            given = [tensor.detach().requires_grad_() for tensor in given]
            autograd = torch._C.DispatchKey.AutogradFunctionality
            # An op's own code runs below autograd.
            with torch._C._PreserveDispatchKeyGuard(), torch.enable_grad():
                torch._C._dispatch_tls_set_dispatch_key_excluded(autograd, False)
                result = self.implementation(*given)
                gradients = torch.autograd.grad(result, given, gradient)
            return [one.clone() for one in gradients]

        name = f"candidate_parity::{self.name}_backward_{next(_numbers)}"
        op = torch.library.custom_op(
            name,
            backward,
            mutates_args=(),
            schema="(Tensor gradient, Tensor[] given) -> Tensor[]",
        )
        op.register_fake(lambda _, given: [torch.empty_like(t) for t in given])
        return op


def _tensors(arguments: tuple[Any, ...]) -> list[torch.Tensor]:
    return [a for a in pytree.tree_leaves(arguments) if isinstance(a, torch.Tensor)]


def _schema(function: Callable[..., Any], returns: str) -> str:
    """Parameters are tensors unless annotated."""
    types = {int: "SymInt", float: "float", list: "Tensor[]"}
    parameters = inspect.signature(function).parameters.values()
    arguments = [
        f"{types.get(p.annotation, 'Tensor')} {p.name}"
        for p in parameters
        if p.kind is not inspect.Parameter.KEYWORD_ONLY
    ]
    return f"({', '.join(arguments)}) -> {returns}"


class Table:
    """The entries of one field, in the order they are written in."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def add(
        self,
        kind: Kind,
        inputs: Callable[[int], tuple[Any, ...]],
        *,
        name: str = "",
        returns: str = "Tensor",
        fake: Callable[..., Any] = lambda x, *_: torch.empty_like(x),
        like: Callable[..., Any] | None = None,
        **options: Any,
    ) -> Callable[[Any], Any]:
        """Adds the function below; ``like`` is whose parameters are the op's."""

        def add(function: Any) -> Any:
            schema = _schema(like or function, returns)
            title = name or function.__name__
            self._entries.append(
                Entry(title, kind, function, inputs, schema, fake, **options)
            )
            return function

        return add
