"""A copy of an installed torch that can be patched: only the sources are copied."""

import os
import shutil
from pathlib import Path

KEPT = (".torch_overlay.json", ".torch_overlay")
"""What overlay.py has in a tree, and needs to take itself off."""


def copy_installed(installed: Path, tree: Path) -> None:
    """Makes ``tree/torch`` of the torch in the folder ``installed``, with what
    overlay.py has there. Python files are copied, all others are links."""
    shutil.copytree(
        installed / "torch",
        tree / "torch",
        symlinks=True,
        copy_function=copy_or_link,
    )
    for name in KEPT:
        source = installed / name
        if source.is_dir():
            shutil.copytree(source, tree / name)
        elif source.exists():
            shutil.copy2(source, tree / name)


def copy_or_link(source: str, target: str) -> None:
    """A copy of a Python file; of another file a hard link, or, where that cannot be
    (another file system, no permission), a symbolic one."""
    if source.endswith(".py"):
        shutil.copy2(source, target)
        return
    try:
        os.link(source, target)
    except OSError:
        os.symlink(os.path.abspath(source), target)
