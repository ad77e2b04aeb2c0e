"""Compiles several C++ kernels as one source.

A small kernel takes a second to compile, and nearly all of it goes into headers that
every kernel includes. A graph with many branches has many such kernels, so the Python
wrapper collects those of its branches and compiles as many sources as there are compile
threads, each with its share of the kernels.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from torch._inductor.codecache import CppPythonBindingsCodeCache, LambdaFuture

_DIRECTIVE = re.compile(r"^[ \t]*#[ \t]*(\w+).*\n", re.MULTILINE)
_HOISTED = re.compile(
    r"^[ \t]*#[ \t]*(?:include|define PY_SSIZE_T_CLEAN)\b.*\n", re.MULTILINE
)


class _Kernel:
    """One kernel of a batch, and how to load it once its source is compiled."""

    def __init__(self, argtypes: Sequence[str], source: str) -> None:
        self.argtypes = argtypes
        self.source = source
        self.load: Callable[[], Any] | None = None

    def result(self) -> Any:
        """The kernel as a Python function."""
        if self.load is None:
            raise RuntimeError("AsyncCompile.wait() has not been called")
        return self.load()

    def can_share(self) -> bool:
        """False where moving the includes to the front could change what they mean."""
        return all(
            match[1] in ("include", "pragma")
            for match in _DIRECTIVE.finditer(self.source)
        )


class CppKernelBatch:
    """The kernels of one generated module that may share a source."""

    def __init__(self) -> None:
        self._kernels: list[_Kernel] = []

    def add(self, argtypes: Sequence[str], source: str) -> LambdaFuture:
        """A future of the kernel, which has a result after :meth:`compile`."""
        kernel = _Kernel(argtypes, source)
        self._kernels.append(kernel)
        return LambdaFuture(kernel.result)

    def compile(
        self, scope: dict[str, Any], threads: int, submit: Callable[..., Any]
    ) -> None:
        """Compile all kernels, as about ``threads`` sources, so that none is idle.

        With one thread, ``scope`` gets the kernels in place of their futures here; with
        several they are submitted, and ``AsyncCompile.wait`` does that.
        """
        submit_fn = submit if threads > 1 else None
        sharing = [kernel for kernel in self._kernels if kernel.can_share()]
        shares = [sharing[start::threads] for start in range(threads)]
        for kernel in self._kernels:
            if not kernel.can_share():
                shares.append([kernel])
        for share in shares:
            if len(share) == 1:
                share[0].load = CppPythonBindingsCodeCache.load_pybinding_async(
                    share[0].argtypes, share[0].source, submit_fn=submit_fn
                )
            elif share:
                _compile_together(share, submit_fn)
        if self._kernels and submit_fn is None:
            for name, value in scope.items():
                if isinstance(value, LambdaFuture):
                    scope[name] = value.result()
        self._kernels = []


def _compile_together(
    kernels: Sequence[_Kernel], submit_fn: Callable[..., Any] | None
) -> None:
    """Compile the kernels as one source: one library, with a module for each."""
    sources: list[str] = []
    loaded: Callable[[], Any]

    def load_library() -> Any:
        return loaded()

    for number, kernel in enumerate(kernels):
        binding = _binding(number, sources, load_library)
        kernel.load = binding.load_pybinding_async(
            kernel.argtypes, _renamed(kernel.source, binding.entry_function)
        )
    loaded = CppPythonBindingsCodeCache.load_async(
        _joined(sources), "cpu", submit_fn=submit_fn
    )


def _binding(
    number: int, sources: list[str], load_library: Callable[[], Any]
) -> type[CppPythonBindingsCodeCache]:
    """The cache that writes the bindings of a kernel, and loads them from a library."""
    # The first has the name under which the cache looks for what it compiled.
    name = f"kernel_{number}" if number else "kernel"

    class Binding(CppPythonBindingsCodeCache):
        entry_function = name
        call_entry_function = f"{name}({{}}); Py_RETURN_NONE;"

        @classmethod
        def load_async(cls, main_code: str, *_: Any, **__: Any) -> Callable[[], Any]:
            sources.append(main_code)

            def load() -> Any:
                library = load_library()
                return cls._load_library(library.__file__, library.key)

            return load

    return Binding


def _renamed(source: str, name: str) -> str:
    """The source of a kernel with another name for its function, the last in it."""
    before, declaration, after = source.rpartition('extern "C"')
    return before + declaration + re.sub(r"\bkernel\b", name, after, count=1)


def _joined(sources: Sequence[str]) -> str:
    """One source, in which each has a namespace, as they define the same helpers."""
    hoisted = dict.fromkeys(
        line for source in sources for line in _HOISTED.findall(source)
    )
    spaces = [
        f"namespace kernels_{number} {{\n{_HOISTED.sub('', source)}\n}}\n"
        for number, source in enumerate(sources)
    ]
    return "".join([*hoisted, *spaces])
