"""The PyTorch checkout, our folder in it, and the commands that run there."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from overlay_tool.bases import Base
from overlay_tool.errors import OverlayError
from overlay_tool.git import git_in_repository
from overlay_tool.patch_set import load_patch_set
from overlay_tool.trees import identify, require_base
from setup_tool.environment import child_variables
from setup_tool.steps import say, SetupError


@dataclass(frozen=True)
class Checkout:
    """A git repository with PyTorch's sources, of a base that the patch set knows."""

    root: Path
    base: Base

    @property
    def folder(self) -> Path:
        """All that scripts/build makes, but for links; git sees nothing of it."""
        return self.root / ".range-dispatch"

    @property
    def environment(self) -> Path:
        """The virtual environment."""
        return self.folder / "venv"

    @property
    def python(self) -> str:
        """The environment's Python."""
        return str(self.environment / "bin" / "python")

    def git(self, *arguments: str) -> str:
        """What git prints; raises SetupError with its words when it fails."""
        result = git_in_repository(arguments, self.root)
        if result.returncode != 0:
            words = result.stderr.decode("utf-8", "replace").strip()
            raise SetupError(f"--source {self.root}: git {arguments[0]}: {words}")
        return result.stdout.decode("utf-8", "surrogateescape")

    def run(
        self, command: Sequence[str], lock: int, variables: Mapping[str, str] = {}
    ) -> None:
        """Runs a command to its end; its output goes to the terminal and the log.

        It has a process group of its own, so that all compilers end with it when we
        are stopped, and it holds the lock as long as it runs.
        """
        say(f"\n$ {shlex.join(command)}")
        log = self.folder / "build.log"
        path = os.pathsep.join([os.path.dirname(self.python), os.environ["PATH"]])
        active = {"PATH": path, "VIRTUAL_ENV": str(self.environment)}
        with (
            open(log, "a", encoding="utf-8") as output,
            subprocess.Popen(
                command,
                cwd=self.root,
                env={**child_variables(), **active, **variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                pass_fds=(lock,),
            ) as process,
        ):
            assert process.stdout is not None
            output.write(f"\n$ {shlex.join(command)}\n")
            try:
                for line in process.stdout:
                    for file in (sys.stdout, output):
                        file.write(line)
                        file.flush()
            except BaseException:
                os.killpg(process.pid, signal.SIGTERM)
                raise
        if process.returncode != 0:
            what = f"{shlex.join(command[:4])} ..."
            status = f"exit status {process.returncode}"
            raise SetupError(f"{what} failed with {status}; its output is in {log}")


def find_checkout(source: Path, patch_set: Path, wanted: Sequence[str]) -> Checkout:
    """The checkout at `source`, which has what is wanted; else raises SetupError."""
    try:
        tree = identify(source)
        base = require_base(tree, load_patch_set(patch_set).bases)
    except OverlayError as error:
        raise SetupError(f"--source {source}: {error}") from None
    for name in wanted:
        if not (tree.root / name).exists():
            raise SetupError(
                f"--source {source} is no git checkout of PyTorch (it has no {name}): "
                "to lay the overlay over an installed torch, call scripts/overlay.py"
            )
    return Checkout(tree.root, base)
