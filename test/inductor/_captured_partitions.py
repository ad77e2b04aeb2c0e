# Owner(s): ["module: inductor"]
"""Graph partitions as CUDA graphs would capture them, on a machine without a GPU.

Inductor splits a graph where something cannot be captured, and hands each part that
can be to whoever captures. Here that is a recorder: it runs a part as it is, and keeps
what it was called with. The tensors' device is taken for a GPU while the graph is split,
and for nothing else.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch._inductor import ir
from torch._inductor.scheduler import BaseSchedulerNode
from torch._inductor.utils import (
    CUDAGraphWrapperMetadata,
    set_customized_partition_wrappers,
)


@dataclass
class Call:
    """One call of a partition: which one, and the arguments a capture is keyed by."""

    partition: int
    types: list[type]
    sizes: list[int]


@dataclass
class Capture:
    """What the partitions of the compiled graphs were called with."""

    calls: list[Call] = field(default_factory=list)

    def wrap(
        self, function: Callable[..., Any], metadata: CUDAGraphWrapperMetadata
    ) -> Callable[..., Any]:
        def call(arguments: list[Any]) -> Any:
            sizes = [x for x in arguments if isinstance(x, int)]
            types = [type(x) for x in arguments]
            self.calls.append(Call(metadata.partition_index, types, sizes))
            return function(arguments)

        return call

    @property
    def partitions(self) -> set[int]:
        return {call.partition for call in self.calls}

    @property
    def argument_types(self) -> set[type]:
        return {argument for call in self.calls for argument in call.types}


def _is_on_gpu(node: BaseSchedulerNode) -> bool:
    # Assertions of sizes are the host's, on a GPU too.
    return not isinstance(node.node, ir.AssertScalar)


@contextlib.contextmanager
def captured_partitions() -> Iterator[Capture]:
    capture = Capture()
    set_customized_partition_wrappers(capture.wrap)
    try:
        with mock.patch.object(BaseSchedulerNode, "is_gpu", _is_on_gpu):
            yield capture
    finally:
        set_customized_partition_wrappers(None)  # type: ignore[arg-type]
        torch._dynamo.reset()


def function_bodies(source: str) -> dict[str, str]:
    """The functions of a Python wrapper, by name; ``call`` is what runs the graph."""
    found = re.finditer(r"^( *)def (\w+)\((?:self, )?args\):\n", source, re.MULTILINE)
    bodies = {}
    for match in found:
        indented = rf"(?:{match[1]} +.*\n|\s*\n)*"
        body = re.compile(indented).match(source, match.end())
        bodies[match[2]] = body[0] if body else ""
    return bodies
