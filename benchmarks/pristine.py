"""The two environments: with the patch set, and the pristine base without it.

The second one has the same pins. It is made on first use by the machinery of
``scripts/setup``, which also mends it when it is not whole or no longer what
``setup.cfg`` pins. Nothing of the base is copied.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "scripts"))

from setup_tool.environment import (  # noqa: E402
    prepare,
    python_of,
    site_packages_of,
)
from setup_tool.lock import locked  # noqa: E402
from setup_tool.pins import choose_base  # noqa: E402
from setup_tool.steps import SetupError  # noqa: E402

__all__ = ["patched_python", "pristine_python", "SetupError"]

OVERLAY = Path("torch", "_inductor", "range_dispatch")
"""What an environment holds exactly when the patch set is laid over its torch."""


def patched_python() -> Path:
    """This process's Python, if its torch has the patch set. Raises SetupError."""
    torch = importlib.util.find_spec("torch")  # finds it without importing it
    origin = torch.origin if torch else None
    if origin is None or not (Path(origin).parents[1] / OVERLAY).is_dir():
        raise SetupError(
            "this Python's torch has no overlay: call scripts/setup, then run the "
            "benchmark with .venv/bin/python"
        )
    return Path(sys.executable)


def pristine_python() -> Path:
    """The Python of the untouched environment; makes the environment if need be.

    What the set-up has to say goes to standard error. Raises SetupError.
    """
    base = choose_base(ROOT, None)
    ours = base.environment
    folder = ours.with_name(f"{ours.name}-pristine")
    with (
        _output_to_standard_error(),
        locked(folder.with_name(f"{folder.name}.lock")) as lock,
    ):
        prepare(folder, base.pins, lock)
    if (site_packages_of(folder) / OVERLAY).exists():
        raise SetupError(
            f"{folder.name} holds the overlay, so it is not pristine: delete the folder"
        )
    return python_of(folder)


@contextlib.contextmanager
def _output_to_standard_error() -> Iterator[None]:
    """For child processes, too: pip's output is no part of a benchmark's."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


if __name__ == "__main__":
    print(pristine_python().relative_to(ROOT))
