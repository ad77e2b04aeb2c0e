"""Counts the C++ kernels that a call of compiled code runs, and the bytes they move.

Kernels are wrapped where the generated modules look them up, for that one call only:
nothing of this is ever timed.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch._inductor.codecache import PyCodeCache

KERNEL = re.compile(
    r'^(\w+) = async_compile\.cpp_pybinding\(.*?extern "C"[^(]*\(([^)]*)\)',
    re.DOTALL | re.MULTILINE,
)
"""A kernel's name and its parameters, in a generated module."""


@dataclass(frozen=True)
class KernelRun:
    """A kernel that ran, and the bytes of the tensors it was called with."""

    name: str
    bytes: int


def runs_of(function: Callable[[], object]) -> list[KernelRun]:
    """Call the function; the kernels that ran, in order."""
    runs: list[KernelRun] = []
    with ExitStack() as stack:
        for module in PyCodeCache.modules:
            stack.enter_context(_recorded(module, runs))
        function()
    return runs


def _recorded(module: ModuleType, runs: list[KernelRun]) -> ExitStack:
    stack = ExitStack()
    for name, parameters in KERNEL.findall(inspect.getsource(module)):
        # What is changed in place is one argument, but is read and written.
        moves = [2 if "in_out_ptr" in one else 1 for one in parameters.split(",")]
        wrapped = _wrapped(name, getattr(module, name), moves, runs)
        stack.enter_context(mock.patch.object(module, name, wrapped))
    return stack


def _wrapped(
    name: str,
    kernel: Callable[..., object],
    moves: list[int],
    runs: list[KernelRun],
) -> Callable[..., object]:
    def run(*arguments: Any) -> object:
        moved = [
            times * argument.numel() * argument.element_size()
            for times, argument in zip(moves, arguments, strict=True)
            if isinstance(argument, torch.Tensor)
        ]
        runs.append(KernelRun(name, sum(moved)))
        return kernel(*arguments)

    return run
