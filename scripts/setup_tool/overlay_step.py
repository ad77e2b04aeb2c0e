"""Lays the overlay and the patches over the environment's torch."""

import subprocess
from pathlib import Path

from setup_tool.environment import child_variables, python_of, site_packages_of
from setup_tool.steps import SetupError


def apply_overlay(root: Path, folder: Path, lock: int) -> str:
    """Calls `scripts/overlay.py apply`; returns the last line of what it says.

    Called every time, as only the overlay's tool can tell whether its own files or
    torch's have changed since. `lock` is inherited as by pip.
    """
    tree = site_packages_of(folder)
    command = [str(python_of(folder)), str(root / "scripts" / "overlay.py")]
    result = subprocess.run(
        [*command, "apply", "--tree", str(tree)],
        env=child_variables(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=(lock,),
    )
    if result.returncode != 0:
        raise SetupError(
            f"the overlay could not be laid over {tree}:\n{result.stdout.strip()}"
        )
    return (result.stdout.strip().splitlines() or ["applied"])[-1]
