"""The links in the checkout that stand for what only the wheel has.

Every package of the checkout is imported from the checkout itself, so that all of it
is live: edits, new files, another branch. What a build would have put there (libraries,
headers, generated files) are links to the wheel's, and the repository's own
.git/info/exclude, which is never committed, keeps them out of git's sight.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from build_tool.checkout import Checkout, PACKAGES
from build_tool.place import HOME_NAME
from overlay_tool.filesystem import replace_file

SKIPPED = "__pycache__"


def packages_of(root: Path) -> list[str]:
    """The packages that the checkout has."""
    return [name for name in PACKAGES if (root / name / "__init__.py").is_file()]


def plan_links(checkout: Checkout, home: Path) -> dict[str, Path]:
    """The links that there must be, by path in the checkout.

    What git knows is never linked: a file that the user deleted stays deleted.
    """
    tracked = tracked_paths(checkout)
    folders = {str(parent) for path in tracked for parent in Path(path).parents}
    planned: dict[str, Path] = {}

    def visit(folder: str) -> None:
        for entry in sorted(os.scandir(home / folder), key=lambda item: item.name):
            path = f"{folder}/{entry.name}"
            place = checkout.root / path
            if entry.name == SKIPPED or path in tracked:
                continue
            if entry.is_dir() and place.is_dir() and not place.is_symlink():
                visit(path)
            elif path not in folders and (
                is_ours(place, path) or not os.path.lexists(place)
            ):
                planned[path] = home / path

    for name in packages_of(checkout.root):
        if (home / name).is_dir():
            visit(name)
    return planned


def tracked_paths(checkout: Checkout) -> set[str]:
    """What git knows below the packages: in the index, in HEAD, in the base."""
    listed = checkout.git("ls-files", "-z", "--", *PACKAGES)
    commits = [checkout.commit]
    if checkout.commit != checkout.base.commit:
        commits.append(checkout.base.commit)
    for commit in commits:
        # A repository that was made from a wheel does not have the base's commit.
        with contextlib.suppress(Exception):
            listed += checkout.git(
                "ls-tree", "-r", "-z", "--name-only", commit, "--", *PACKAGES
            )
    return set(listed.split("\0")) - {""}


def is_ours(place: Path, path: str) -> bool:
    """Whether it is a link of ours: told by where it points, so no list can be
    lost or out of date."""
    if not place.is_symlink():
        return False
    return os.readlink(place).endswith(f"/{HOME_NAME}/{path}")


def find_links(root: Path) -> Iterator[str]:
    """The links of ours that are in the checkout, also those that point nowhere."""
    for name in PACKAGES:
        for folder, folders, names in os.walk(root / name):
            for entry in (*folders, *names):
                place = Path(folder, entry)
                path = place.relative_to(root).as_posix()
                if is_ours(place, path):
                    yield path


def make_links(checkout: Checkout, planned: Mapping[str, Path]) -> tuple[int, int]:
    """Makes the links, takes old ones away; returns how many of each it was.

    git's exclusions come first: a kill in between leaves nothing for git to see.
    """
    found = set(find_links(checkout.root))
    exclude(checkout, {*found, *planned})
    removed = remove_links(checkout.root, found - set(planned))
    made = 0
    for path, target in planned.items():
        place = checkout.root / path
        if path in found:
            if os.readlink(place) == str(target):
                continue
            place.unlink()
        place.symlink_to(target)
        made += 1
    exclude(checkout, planned)
    return made, removed


def remove_links(root: Path, paths: Iterable[str]) -> int:
    """Removes links of ours; returns how many."""
    count = 0
    for path in paths:
        (root / path).unlink()
        count += 1
    return count


def exclude(checkout: Checkout, paths: Iterable[str]) -> None:
    """Has git ignore these paths of this checkout and no others of ours."""
    file = Path(checkout.git("rev-parse", "--git-path", "info/exclude").rstrip("\n"))
    file = checkout.root / file
    # Worktrees share the file, so each checkout has a part of its own.
    begin = f"# scripts/build --python-only: begin of {checkout.root}\n"
    end = f"# scripts/build --python-only: end of {checkout.root}\n"
    text = ""
    with contextlib.suppress(FileNotFoundError):
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
    before, found, rest = text.partition(begin)
    after = rest.partition(end)[2] if found else ""
    patterns = [f"/{_escaped(path)}\n" for path in sorted(paths)]
    if patterns:
        if before and not before.endswith("\n"):
            before += "\n"
        patterns = [begin, f"{SKIPPED}/\n", *patterns, end]
    new = before + "".join(patterns) + after
    if new != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, new.encode("utf-8", "surrogateescape"))


def _escaped(path: str) -> str:
    return "".join(f"\\{sign}" if sign in "\\*?[ " else sign for sign in path)
