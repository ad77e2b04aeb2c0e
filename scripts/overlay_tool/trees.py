"""Finds out what a tree is: a checkout or an installed torch, and of which commit."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .bases import Base
from .errors import Refused
from .git import git_in_repository

_GIT_VERSION = re.compile(
    r"^git_version\s*(?::[^=\n]*)?=\s*['\"]([0-9a-f]{40})['\"]", re.MULTILINE
)
VERSION_FILE = "torch/version.py"


@dataclass(frozen=True)
class Tree:
    """A folder that holds ``torch/``; ``commit`` is what it was made from.

    ``built_from`` is what a checkout's ``torch/version.py`` says, if it has one. It is
    asked where git does not know a base: in a shallow clone, in a mirror with commits
    of its own, in a repository made from a wheel.
    """

    root: Path
    is_checkout: bool
    commit: str
    built_from: str | None = None

    def is_based_on(self, commit: str) -> bool:
        """Whether the tree is ``commit``, perhaps with commits of the user on top."""
        if commit in (self.commit, self.built_from):
            return True
        return self.is_checkout and self.has_ancestor(commit)

    def has_ancestor(self, commit: str) -> bool:
        """Whether the checkout's HEAD stands on ``commit``; no if git lacks it."""
        arguments = ["merge-base", "--is-ancestor", commit, self.commit]
        return git_in_repository(arguments, self.root).returncode == 0


def identify(root: Path) -> Tree:
    """Says what the tree at ``root`` is; refuses a folder that is none."""
    tree = identify_any(root)
    if not tree.commit:
        raise Refused(
            f"{tree.root} is neither a git checkout nor an installed torch (with a "
            f"git_version in {VERSION_FILE}): its commit cannot be told"
        )
    return tree


def identify_any(root: Path) -> Tree:
    """Like ``identify``; a tree of unknown commit, whose files may fit, has none."""
    if not root.is_dir():
        raise Refused(f"{root} is not a folder")
    root = Path(os.path.realpath(root))
    if not (root / "torch" / "_inductor").is_dir():
        raise Refused(
            f"{root} is not a PyTorch tree (it has no torch/_inductor): what is meant "
            "is a checkout, or the site-packages folder that holds torch"
        )
    file = root / VERSION_FILE
    text = file.read_text(errors="replace") if file.exists() else ""
    version = find_git_version(text)
    if not (root / ".git").exists() or not (root / "setup.py").is_file():
        return Tree(root, is_checkout=False, commit=version or "")
    head = git_in_repository(["rev-parse", "--verify", "HEAD^{commit}"], root)
    if head.returncode != 0:
        message = head.stderr.decode("utf-8", "replace").strip()
        raise Refused(f"{root}: git cannot tell the commit: {message}")
    return Tree(root, True, head.stdout.decode().strip(), version)


def find_git_version(text: str) -> str | None:
    """The commit that a ``torch/version.py`` of that text says, if it says one."""
    # Searched, never executed: it is not ours.
    found = _GIT_VERSION.search(text)
    return found[1] if found else None


def find_base(tree: Tree, bases: Sequence[Base]) -> Base | None:
    """The base of ``tree``, None if it is not a known one.

    In a checkout the user may have committed on top of the base: then the nearest
    base among the ancestors is it, else the one that ``torch/version.py`` names; the
    blob checks decide. A base that several releases share has the commit of the one
    that was found.
    """
    releases = [each for base in bases for each in base.releases]
    own = [base for base in releases if base.commit == tree.commit]
    if not own and tree.is_checkout:
        above = [each for each in releases if tree.has_ancestor(each.commit)]
        commits = [each.commit for each in above]
        arguments = ["merge-base", "--independent", *commits]
        found = git_in_repository(arguments, tree.root).stdout.decode() if above else ""
        own = [base for base in above if base.commit in found]
        if len(own) > 1:
            tags = ", ".join(base.release for base in own)
            raise Refused(f"{tree.root}: HEAD descends from several bases: {tags}")
    built_from = [base for base in releases if base.commit == tree.built_from]
    return next(iter([*own, *built_from]), None)


def require_base(tree: Tree, bases: Sequence[Base]) -> Base:
    """The base of ``tree``; refuses a tree of none, and says which are known."""
    base = find_base(tree, bases)
    if base is None:
        releases = [each for one in bases for each in one.releases]
        known = ", ".join(f"{each.release} ({each.commit})" for each in releases)
        raise Refused(
            f"{tree.root} is of commit {tree.commit}, which is not a known base. "
            f"Known: {known or 'none'}"
        )
    return base
