"""Lets the environment import the package range_tuning from the checkout."""

from pathlib import Path

from setup_tool.environment import site_packages_of
from setup_tool.steps import SetupError

PACKAGE = "range_tuning"


def link_package(root: Path, folder: Path) -> None:
    """Puts a link to the package beside torch: what is edited takes effect at once."""
    link = site_packages_of(folder) / PACKAGE
    if link.is_symlink():
        if link.readlink() == root / PACKAGE:
            return
        link.unlink()
    elif link.exists():
        raise SetupError(
            f"{link} is in the way of a link to the checkout's: "
            f"{folder.name}/bin/python -m pip uninstall torch-range-dispatch"
        )
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(root / PACKAGE, target_is_directory=True)
