"""The record of the Triton kernels that a test launched."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass, field
from typing import Any, TYPE_CHECKING
from unittest import mock

from torch._guards import CompileContext
from torch._inductor.graph import GraphLowering
from torch._inductor.runtime.triton_heuristics import CachingAutotuner
from torch._inductor.virtualized import V

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@dataclass(frozen=True)
class Launch:
    """One kernel that ran over a grid that is not empty."""

    kernel: str
    grid: tuple[int, int, int]


@dataclass
class LaunchRecorder:
    """What ran since the start, or since the last ``clear()``.

    Launches that Inductor makes to choose a kernel's configuration, while it compiles
    or while it benchmarks, go to ``tuning_launches``: they are no part of the result.
    """

    launches: list[Launch] = field(default_factory=list)
    tuning_launches: list[Launch] = field(default_factory=list)

    def clear(self) -> None:
        self.launches.clear()
        self.tuning_launches.clear()

    def kernels_run_by(self, function: Callable[[], object]) -> list[str]:
        """Calls ``function`` and returns the names of the kernels it launched."""
        before = len(self.launches)
        function()
        return [launch.kernel for launch in self.launches[before:]]

    def record(self, kernel: str, grid: tuple[int, int, int]) -> None:
        if 0 in grid:
            return
        tuning = _is_compiling() or _is_benchmarking
        launches = self.tuning_launches if tuning else self.launches
        launches.append(Launch(kernel, grid))


# A launcher outlives the context it was made in, so it asks for the recorder of now.
_recorder: LaunchRecorder | None = None
_is_benchmarking = False


def _is_compiling() -> bool:
    return CompileContext.current_compile_id() is not None or isinstance(
        V.graph, GraphLowering
    )


def record_launch(kernel: str, grid: Sequence[int]) -> None:
    if _recorder is not None:
        grid_x, grid_y, grid_z = (int(size) for size in grid)
        _recorder.record(kernel, (grid_x, grid_y, grid_z))


def _marked_as_benchmark(bench: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(bench)
    def marked(*args: Any, **kwargs: Any) -> Any:
        global _is_benchmarking
        outer, _is_benchmarking = _is_benchmarking, True
        try:
            return bench(*args, **kwargs)
        finally:
            _is_benchmarking = outer

    return marked


@contextlib.contextmanager
def driver_launches_recorded(driver: Any) -> Iterator[None]:
    """Records what a GPU's driver launches; both ways to launch make its launcher."""
    launcher_class = driver.launcher_cls
    bench = _marked_as_benchmark(CachingAutotuner.bench)

    def recording_launcher(source: Any, metadata: Any) -> Callable[..., object]:
        launch = launcher_class(source, metadata)

        def record_and_launch(*args: Any) -> object:
            record_launch(source.fn.__name__, args[:3])
            return launch(*args)

        return record_and_launch

    with (
        mock.patch.object(driver, "launcher_cls", recording_launcher),
        mock.patch.object(CachingAutotuner, "bench", bench),
    ):
        yield


def is_recording() -> bool:
    return _recorder is not None


@contextlib.contextmanager
def recording() -> Iterator[LaunchRecorder]:
    """Yields the recorder of the launches to come."""
    global _recorder
    _recorder = LaunchRecorder()
    try:
        yield _recorder
    finally:
        _recorder = None
