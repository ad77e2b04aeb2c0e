"""Small trees and patch sets for the tests of scripts/overlay.py.

Importing this makes ``overlay_tool`` importable. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "scripts" / "overlay.py"
sys.path.insert(0, str(SCRIPT.parent))

WHEEL_COMMIT = "1" * 40
TAG = "v9.9.0"
KERNEL = "torch/_inductor/kernel/custom_op.py"
PATCHED = "torch/_inductor/ir.py"
NEW = "torch/_inductor/range_dispatch/ranges.py"
NEW_DEEP = "torch/_inductor/range_dispatch/deep/__init__.py"

LINES = [f"line {number}\n" for number in range(40)]
BASE_FILES: Mapping[str, bytes] = {
    "torch/_inductor/__init__.py": b"",
    KERNEL: b"# the base's custom_op\n",
    PATCHED: "".join(LINES).encode(),
    "torch/_inductor/crlf.py": b"one\r\ntwo\r\nthree\r\n",
    "torch/_inductor/tool.sh": b"#!/bin/sh\necho base\n",
}
EXECUTABLE = {"torch/_inductor/tool.sh"}
OVERLAY: Mapping[str, bytes] = {
    KERNEL: b"# our custom_op\n",
    NEW: b"# ranges\n",
    NEW_DEEP: b"",
}

# {path: mode, kind and content, time}; folders have no time.
Snapshot = dict[str, tuple[object, ...]]


def git(folder: Path, *arguments: str) -> str:
    """Runs git with nobody's configuration."""
    environment = {
        name: value for name, value in os.environ.items() if name[:4] != "GIT_"
    }
    environment.update(
        GIT_CONFIG_GLOBAL="/dev/null",
        GIT_CONFIG_NOSYSTEM="1",
        GIT_AUTHOR_NAME="Test",
        GIT_AUTHOR_EMAIL="test@example.org",
        GIT_COMMITTER_NAME="Test",
        GIT_COMMITTER_EMAIL="test@example.org",
    )
    result = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=False,
    )
    # `git diff --no-index` says 1 when there is a difference.
    if result.returncode not in (0, 1):
        raise AssertionError(result.stderr.decode())
    return result.stdout.decode("utf-8")


def write_files(root: Path, files: Mapping[str, bytes]) -> None:
    """Writes ``files`` below ``root``."""
    for path, content in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        place.chmod(0o755 if path in EXECUTABLE else 0o644)


def make_wheel(root: Path, commit: str = WHEEL_COMMIT) -> None:
    """A site-packages folder with a torch of a few files."""
    write_files(root, BASE_FILES)
    version = f"__version__ = '9.9.0'\ngit_version = '{commit}'\n"
    write_files(root, {"torch/version.py": version.encode()})
    # Old times, so that a file that was rewritten shows.
    for folder, _, names in os.walk(root):
        for name in names:
            os.utime(Path(folder, name), (1_500_000_000, 1_500_000_000))


def make_checkout(root: Path) -> str:
    """A git checkout of the same torch; returns its commit."""
    write_files(root, BASE_FILES)
    write_files(root, {"setup.py": b"# setup\n"})
    git(root, "init", "-q")
    return commit_all(root, "base")


def commit_all(root: Path, message: str) -> str:
    """Commits all there is and returns the new commit."""
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", message)
    return git(root, "rev-parse", "HEAD").strip()


def make_diff(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> bytes:
    """A patch in mail format that makes ``after`` of ``before``."""
    with tempfile.TemporaryDirectory() as folder:
        for name, files in (("a", before), ("b", after)):
            Path(folder, name).mkdir()
            write_files(Path(folder, name), files)
        options = ["--no-index", "--no-prefix", "--no-renames", "--binary"]
        diff = git(Path(folder), "diff", *options, "a", "b")
    header = "From: Test <test@example.org>\nSubject: [PATCH] a change\n\nWhy.\n---\n"
    return (header + diff + "-- \n2.39\n").encode()


def edited_lines(**changes: str) -> bytes:
    """The patched file with some lines changed: ``edited_lines(line_3="new")``."""
    lines = list(LINES)
    for name, text in changes.items():
        lines[int(name.removeprefix("line_"))] = text + "\n"
    return "".join(lines).encode()


DEFAULT_PATCH = make_diff(
    {PATCHED: BASE_FILES[PATCHED]}, {PATCHED: edited_lines(line_20="ours")}
)


def make_patch_set(
    root: Path,
    commit: str = WHEEL_COMMIT,
    overlay: Mapping[str, bytes] = OVERLAY,
    patches: Sequence[tuple[str, bytes]] = (("0001-ir.patch", DEFAULT_PATCH),),
    pinned: Sequence[str] = tuple(BASE_FILES),
) -> None:
    """Writes a patch set with one base, anew."""
    from overlay_tool.bases import Base, save_bases
    from overlay_tool.filesystem import blob_id

    for name in ("torch_overlay", "patches"):
        shutil.rmtree(root / name, ignore_errors=True)
    series = root / "patches" / TAG
    series.mkdir(parents=True)
    for path, content in overlay.items():
        ours = "torch_overlay/" + path.removeprefix("torch/")
        write_files(root, {ours: content})
    for name, content in patches:
        folder = series.parent if name.startswith("common/") else series
        write_files(folder, {name: content})
    names = "".join(f"{name}\n" for name, _ in patches)
    series.joinpath("series").write_text(f"# in this order\n\n{names}")
    blobs = {path: (blob_id(BASE_FILES[path]),) for path in pinned}
    save_bases(root / "patches" / "bases.toml", [Base(TAG, commit, blobs)])


def snapshot(root: Path, ignore: Sequence[str] = (".git",)) -> Snapshot:
    """All that "byte for byte" means: names, types, modes, contents, times."""
    found: Snapshot = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in ignore]
        for name in (*folders, *(name for name in names if name not in ignore)):
            place = Path(folder, name)
            status = os.lstat(place)
            entry: tuple[object, ...] = (stat.filemode(status.st_mode),)
            if stat.S_ISLNK(status.st_mode):
                entry += (os.readlink(place),)
            elif stat.S_ISREG(status.st_mode):
                digest = hashlib.sha256(place.read_bytes()).hexdigest()
                entry += (digest, status.st_mtime_ns)
            found[place.relative_to(root).as_posix()] = entry
    return found


def torch_contents(root: Path) -> dict[str, bytes]:
    """The files below ``torch/`` by path, without times."""
    return {
        place.relative_to(root).as_posix(): place.read_bytes()
        for place in sorted((root / "torch").rglob("*"))
        if place.is_file()
    }


def run_tool(
    *arguments: str | Path, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs scripts/overlay.py as a user does."""
    command = [sys.executable, "-B", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, **options
    )


def never_waits(who: str) -> None:
    """For commands that nobody else competes with."""
    raise AssertionError(f"waited for {who}")


class OverlayTestCase(unittest.TestCase):
    """Has a temporary wheel-like tree and a patch set that fits it."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(os.path.realpath(folder.name))
        self.tree = self.folder / "site-packages"
        self.patch_set = self.folder / "patch set"
        make_wheel(self.tree)
        make_patch_set(self.patch_set)
        self.pristine = snapshot(self.tree)

    def apply(self) -> Any:
        from overlay_tool import commands

        return commands.apply(self.tree, self.patch_set, never_waits)

    def revert(self) -> Any:
        from overlay_tool import commands

        return commands.revert(self.tree, never_waits)

    def status(self) -> Any:
        from overlay_tool import commands

        return commands.status(self.tree, self.patch_set)

    def assert_pristine(self) -> None:
        self.assertEqual(snapshot(self.tree), self.pristine)

    def assert_refused(
        self, command: Callable[[], object], *parts: str, code: int = 1
    ) -> None:
        """The command fails, says ``parts``, and changes nothing at all."""
        from overlay_tool.errors import OverlayError

        before = snapshot(self.tree)
        with self.assertRaises(OverlayError) as caught:
            command()
        for part in parts:
            self.assertIn(part, str(caught.exception))
        self.assertEqual(caught.exception.exit_code, code)
        self.assertEqual(snapshot(self.tree), before)


@contextlib.contextmanager
def replaced(target: object, **attributes: object) -> Iterator[None]:
    """Sets attributes of ``target`` for a while."""
    old = {name: getattr(target, name) for name in attributes}
    for name, value in attributes.items():
        setattr(target, name, value)
    try:
        yield
    finally:
        for name, value in old.items():
            setattr(target, name, value)
