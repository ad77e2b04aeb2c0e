"""The Python-only route: torch's Python from the checkout, all else from a wheel.

Every package of the checkout is imported from the checkout itself, so that all of it
is live: edits, new files, another branch. What a build would have put there (libraries,
headers, generated files) are links to the wheel's, and the repository's own
.git/info/exclude, which is never committed, keeps them out of git's sight.
"""

import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

from build_tool.checkout import Checkout
from overlay_tool.filesystem import replace_file
from overlay_tool.git import git_in_repository
from overlay_tool.trees import find_git_version
from setup_tool.steps import SetupError

PACKAGES = ("torch", "functorch", "torchgen")
"""The top-level packages of a wheel of torch."""

WHEEL = "torch-wheel"
"""The folder with the wheel's packages, in ours."""


def check_binaries(checkout: Checkout, what: str, source: Path) -> None:
    """Raises SetupError unless a wheel, or a folder with a torch, is of the base."""
    try:
        if source.is_dir():
            text = (source / "torch" / "version.py").read_text("utf-8")
        else:
            with zipfile.ZipFile(source) as archive:
                text = archive.read("torch/version.py").decode()
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise SetupError(f"{what} holds no torch: {error}") from None
    base, commit = checkout.base, find_git_version(text)
    if commit != base.commit:
        raise SetupError(
            f"{what} is a torch of commit {commit}, and --source {checkout.root} is of "
            f"base {base.release}, commit {base.commit}"
        )


def site_packages(checkout: Checkout) -> Path:
    """Where pip puts packages in the environment."""
    return next(checkout.environment.glob("lib/python*/site-packages"))


def packages_of(folder: Path) -> list[str]:
    """The packages that the folder has."""
    return [name for name in PACKAGES if (folder / name / "__init__.py").is_file()]


def take_binaries(checkout: Checkout, installed: Path | None) -> None:
    """Puts the wheel's packages where links can point to.

    Those that pip installed are moved, out of the import system's way, and pip cannot
    reach through to the checkout, either. An installed torch stays where it is.
    """
    home = checkout.folder / WHEEL
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    folder = installed or site_packages(checkout)
    check_binaries(checkout, "what pip installed", folder)
    put = os.symlink if installed else shutil.move
    for name in {*packages_of(checkout.root)} & {*os.listdir(folder)}:
        put(folder / name, home / name)


def link(checkout: Checkout, installed: Path | None) -> int:
    """Makes the links, and has the environment import from the checkout; how many."""
    remove_links(checkout)
    planned = plan(checkout)
    # First: a kill in between leaves nothing for git to see.
    exclude(checkout, planned)
    for path in planned:
        (checkout.root / path).symlink_to(checkout.folder / WHEEL / path)
    folders = [checkout.root, *filter(None, [installed])]
    lines = "".join(f"{folder}\n" for folder in folders)
    (site_packages(checkout) / "torch-range-dispatch.pth").write_text(lines)
    return len(planned)


def plan(checkout: Checkout) -> list[str]:
    """The paths in the checkout that are to be links.

    What git knows is never linked: a file that the user deleted stays deleted.
    """
    listed = checkout.git("ls-files", "-z", "--", *PACKAGES)
    # A repository that was made from a wheel does not have the base's commit.
    arguments = ["ls-tree", "-r", "-z", "--name-only", checkout.base.commit]
    released = git_in_repository([*arguments, "--", *PACKAGES], checkout.root).stdout
    listed += released.decode("utf-8", "surrogateescape")
    tracked = set(listed.split("\0"))
    folders = {str(parent) for path in tracked for parent in Path(path).parents}
    planned: list[str] = []

    def visit(folder: str) -> None:
        for entry in sorted(os.scandir(home / folder), key=lambda item: item.name):
            path = f"{folder}/{entry.name}"
            place = checkout.root / path
            if entry.name == "__pycache__" or path in tracked:
                continue
            if entry.is_dir() and place.is_dir():
                visit(path)
            elif path not in folders and not os.path.lexists(place):
                planned.append(path)

    home = checkout.folder / WHEEL
    for name in os.listdir(home):
        visit(name)
    return planned


def find_links(checkout: Checkout) -> Iterator[Path]:
    """The links of ours, also those that point nowhere.

    They are told by where they point, so no list can be lost or out of date.
    """
    for name in PACKAGES:
        for folder, folders, names in os.walk(checkout.root / name):
            for place in (Path(folder, entry) for entry in (*folders, *names)):
                if place.is_symlink() and f"/{WHEEL}/{name}/" in os.readlink(place):
                    yield place


def remove_links(checkout: Checkout) -> int:
    """Removes the links of ours; returns how many."""
    found = list(find_links(checkout))
    for place in found:
        place.unlink()
    return len(found)


def exclude(checkout: Checkout, paths: list[str]) -> None:
    """Has git ignore these paths of this checkout and no others of ours."""
    name = checkout.git("rev-parse", "--git-path", "info/exclude").rstrip("\n")
    file = checkout.root / name
    text = file.read_text("utf-8", "surrogateescape") if file.exists() else ""
    # Worktrees share the file, so each checkout has a part of its own.
    begin, end = (f"# scripts/build: {x} {checkout.root}\n" for x in ("begin", "end"))
    part = "\n?" + re.escape(begin) + ".*?" + re.escape(end)
    text = re.sub(part, "", text, flags=re.DOTALL)
    if paths:
        escaped = (re.sub(r"[\\*?\[ ]", r"\\\g<0>", path) for path in paths)
        lines = ["__pycache__/", *(f"/{path}" for path in escaped), end]
        text += "\n" + begin + "\n".join(lines)
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, text.encode("utf-8", "surrogateescape"))
