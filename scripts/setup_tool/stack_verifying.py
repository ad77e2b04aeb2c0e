"""scripts/verify --stack: each prefix of the stack of pull requests, on pristine torch.

The tree is a copy of an environment's torch with the overlay taken off and put into a
repository. What `overlay.py export` writes for it is applied there with `git am`, one
pull request after the other, and the tests that came with each are run on what is there
then.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from setup_tool.cells import NOT_REACHED, Cell, Environment, import_cell, tests_cell
from setup_tool.environment import child_variables, site_packages_of
from setup_tool.linked_copy import copy_installed
from setup_tool.steps import SetupError, say

TESTS = "test/inductor"
GIT = ("git", "-c", "user.name=verify", "-c", "user.email=verify@example.org")


def stack_rows(
    root: Path,
    tag: str,
    environment: Environment,
    wanted: str | None,
    arguments: list[str],
    everything: bool,
) -> dict[str, list[Cell]]:
    """A row for each pull request, to the first that does not hold.

    Args:
        wanted: the only pull request whose tests are run; those before it are applied.
    """
    rows: dict[str, list[Cell]] = {}
    folder = environment.python.parents[1]
    # In the environment, so that large files can be shared with it.
    with tempfile.TemporaryDirectory(prefix="stack-", dir=folder) as scratch:
        tree, mails = Path(scratch, "tree"), Path(scratch, "mails")
        make_pristine(root, site_packages_of(folder), tree)
        requests = export(root, tree, mails)
        if wanted is not None and not any(wanted in name for name in requests):
            raise SetupError(f"--stack {wanted}: there are {', '.join(requests)}")
        for name in requests:
            before = git(tree, "rev-parse", "HEAD")
            patches = sorted(str(mail) for mail in (mails / name).glob("*.patch"))
            git(tree, "am", "-q", "--keep-non-patch", *patches)
            applies = Cell(True, f"{len(patches)} commits")
            if wanted is not None and wanted not in name:
                continue
            say(f"== {tag} {name}")
            changed = git(tree, "diff", "--name-only", f"{before}..").splitlines()
            imports = import_cell(environment, modules_in(changed), tree)
            cells = [applies, imports, NOT_REACHED]
            if imports.holds:
                tests = [x for x in changed if x.startswith(f"{TESTS}/test_")]
                options = ["-c", str(root / "setup.cfg"), f"--rootdir={tree}"]
                options += [*tests, *arguments]
                cells[2] = tests_cell(tree, environment, options, everything)
            rows[f"{tag} {name}"] = cells
            if wanted is not None or not all(cell.holds for cell in cells):
                break
    return rows


def make_pristine(root: Path, installed: Path, tree: Path) -> None:
    """A repository with the torch of ``installed`` as it was before the overlay."""
    copy_installed(installed, tree)
    overlay(root, "revert", "--tree", str(tree))
    # By this a checkout of PyTorch is known.
    (tree / "setup.py").touch()
    git(tree, "init", "-q")
    git(tree, "add", "setup.py", "torch/*.py")
    git(tree, "commit", "-q", "-m", "pristine")


def export(root: Path, tree: Path, mails: Path) -> list[str]:
    """Writes the mails; the folders of the pull requests."""
    output = overlay(root, "export", "--json", "--tree", str(tree), "--out", str(mails))
    return json.loads(output)["pull_requests"]


def modules_in(paths: Sequence[str]) -> list[str]:
    """The modules of torch among files of a tree."""
    files = [Path(path) for path in paths if path.startswith("torch/")]
    names = [".".join(file.with_suffix("").parts) for file in files]
    return [name.removesuffix(".__init__") for name in names]


def overlay(root: Path, *arguments: str) -> str:
    command = [sys.executable, str(root / "scripts" / "overlay.py"), *arguments]
    return output_of([*command, "--patch-set", str(root)], root)


def git(tree: Path, *arguments: str) -> str:
    return output_of([*GIT, *arguments], tree).strip()


def output_of(command: Sequence[str], folder: Path) -> str:
    """What a command prints; SetupError with its words if it fails."""
    result = subprocess.run(
        command, cwd=folder, env=child_variables(), capture_output=True, text=True
    )
    if result.returncode:
        words = (result.stderr or result.stdout).strip()
        raise SetupError(f"{' '.join(command[:6])} ... failed:\n{words}")
    return result.stdout
