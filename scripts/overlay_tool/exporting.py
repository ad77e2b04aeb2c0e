"""Makes commits of the patch set, and mails of those, for who maintains the tree."""

from __future__ import annotations

import email.utils
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .bases import Base
from .blobs import blob_id
from .errors import Refused
from .filesystem import replace_file
from .fitting import CONFLICT, UPSTREAM
from .git import git_in_repository
from .mail import Message, read_message
from .patch_set import OverlayFile, Patch, PatchSet, load_patch_set
from .patching import ScratchFile
from .report import Report
from .tree_fit import Fits, best_fits, describe
from .trees import identify

# Of the commits of a patch set without patches.
_NOBODY = Message(
    "Torch Range Dispatch <torch-range-dispatch@users.noreply.invalid>",
    "Thu, 1 Jan 2026 00:00:00 +0000",
    "",
    "",
)
PUBLIC_FACE = "torch/_inductor/kernel/custom_op.py"
_TESTS = "test/inductor"
# Whatever the user's configuration says: the same commits make the same mails.
_MAIL_OPTIONS = (
    "--numbered",
    "--zero-commit",
    "--no-signature",
    "--no-renames",
    "--full-index",
    "--no-attach",
    "--no-thread",
    "--no-cover-letter",
    "--no-base",
    "--no-notes",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-signoff",
    "--no-from",
    "--no-to",
    "--no-cc",
    "--subject-prefix=PATCH",
    "--suffix=.patch",
    "--start-number=1",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--diff-algorithm=myers",
    "--unified=3",
    "--quiet",
)


@dataclass(frozen=True)
class _Commit:
    """One change: a patch, or files of ours by their paths in the tree."""

    message: Message
    patch: Patch | None = None
    files: Mapping[str, OverlayFile] | None = None


def export(
    tree_path: Path,
    out: Path,
    patch_set_root: Path,
    branch: str | None = None,
    author: str | None = None,
) -> Report:
    """Writes ``out``/0001-*.patch and so on, for ``git am --keep-non-patch``.

    One commit for the engine, one for each patch, one for the public face, one for the
    tests, on top of HEAD. Neither the checkout's files nor its index are touched;
    its repository gets the commits only if a ``branch`` is asked for. The same HEAD,
    patch set and author make the same bytes.

    Args:
        branch: the name of a branch to make.
        author: "Name <mail>" of all commits, instead of the patches' own.

    Raises:
        Refused: no checkout, a patch that does not fit HEAD, a branch that there is,
            an ``out`` that holds something else.
    """
    tree = identify(tree_path)
    if not tree.is_checkout:
        raise Refused(f"{tree.root} is no git checkout: there is nothing to commit to")
    patch_set = load_patch_set(patch_set_root)
    if author is not None and not all(email.utils.parseaddr(author)):
        raise Refused(f"--author {author!r}: must be 'Name <mail>'")
    with _repository(tree.root, tree.commit, branch is not None) as repository:
        if branch is not None:
            repository.check_new_branch(branch)
        fits = best_fits(tree, patch_set, repository.content)
        if fits.counts[CONFLICT]:
            raise Refused(
                f"{tree.root}: HEAD is not a tree that all fits:\n"
                + "\n".join(describe(fits, conflicts_only=True))
            )
        commits = _commits(patch_set, fits)
        if author is not None:
            commits = [
                replace(each, message=replace(each.message, author=author))
                for each in commits
            ]
        ids = repository.commit(commits)
        mails = repository.mails(ids)
        _check_out(out, mails)
        if branch is not None and ids:
            repository.make_branch(branch, ids[-1])
    out.mkdir(parents=True, exist_ok=True)
    for name, content in mails.items():
        replace_file(out / name, content)
    left_out = [fit.patch for fit in fits.patches if fit.kind == UPSTREAM]
    return Report(
        f"wrote {len(mails)} mails to {out}"
        + (f" and made the branch {branch}" if branch is not None else ""),
        lines=("apply them with: git am --keep-non-patch " + str(out) + "/*.patch",),
        notes=tuple(f"{name} is upstream already: left out" for name in left_out),
        details={
            "outcome": "exported",
            "base": fits.base.tag,
            "parent": tree.commit,
            "commits": ids,
            "branch": branch,
            "mails": list(mails),
            "left_out": left_out,
        },
    )


def _check_out(out: Path, mails: Mapping[str, bytes]) -> None:
    """Mails of an earlier export would be applied with those of this one."""
    if out.is_dir():
        others = sorted(set(os.listdir(out)) - set(mails))
        if others:
            raise Refused(f"--out {out} holds other files, such as {others[0]}")
    elif os.path.lexists(out):
        raise Refused(f"--out {out} is not a folder")


def _commits(patch_set: PatchSet, fits: Fits) -> list[_Commit]:
    new = {fit.patch for fit in fits.patches if fit.kind != UPSTREAM}
    there = {fit.path for fit in fits.files if fit.kind == UPSTREAM}
    messages = {
        patch.name: read_message(patch) for patch in patch_set.series(fits.base)
    }
    like = next(reversed(messages.values()), _NOBODY)

    def own(name: str, files: Mapping[str, OverlayFile]) -> list[_Commit]:
        if not files:
            return []
        return [_Commit(_own_message(patch_set, name, like), files=files)]

    overlay = {
        path: file for path, file in patch_set.overlay.items() if path not in there
    }
    return [
        # First, as patches call it.
        *own("engine", {p: file for p, file in overlay.items() if p != PUBLIC_FACE}),
        *(
            _Commit(messages[patch.name], patch)
            for patch in patch_set.series(fits.base)
            if patch.name in new
        ),
        *own("custom_op", {p: file for p, file in overlay.items() if p == PUBLIC_FACE}),
        *own("tests", exported_tests(patch_set)),
    ]


def all_messages(patch_set: PatchSet, base: Base) -> list[Message]:
    """Those of the commits that ``export`` makes on the base itself, in their order."""
    messages = [read_message(patch) for patch in patch_set.series(base)]
    like = next(reversed(messages), _NOBODY)
    engine, public_face, tests = (
        _own_message(patch_set, name, like) for name in ("engine", "custom_op", "tests")
    )
    return [engine, *messages, public_face, tests]


def _own_message(patch_set: PatchSet, name: str, like: Message) -> Message:
    """The message of a commit that no patch has: patches/messages/NAME.txt."""
    file = patch_set.root / "patches" / "messages" / f"{name}.txt"
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise Refused(f"{file} is missing: it has the message of a commit") from None
    title, _, body = text.strip().partition("\n")
    return Message(like.author, like.date, title, body.strip())


def exported_tests(patch_set: PatchSet) -> dict[str, OverlayFile]:
    """The tests of the feature, by their paths in the tree."""
    folder = patch_set.root / _TESTS
    files = {}
    for place in sorted(folder.glob("*")):
        if place.is_file() and not place.is_symlink() and place.suffix != ".pyc":
            executable = bool(place.stat().st_mode & 0o100)
            content = OverlayFile(place.read_bytes(), executable)
            files[f"{_TESTS}/{place.name}"] = content
    return files


@dataclass(frozen=True)
class _Repository:
    """A checkout's repository with an index of its own, and perhaps objects."""

    root: Path
    head: str
    variables: Mapping[str, str]

    def git(self, *arguments: str, given: bytes = b"", **variables: str) -> bytes:
        result = git_in_repository(
            arguments, self.root, given, {**self.variables, **variables}
        )
        if result.returncode != 0:
            message = result.stderr.decode("utf-8", "replace").strip()
            raise Refused(f"git {arguments[0]}: {message}")
        return result.stdout

    def content(self, path: str) -> ScratchFile | None:
        """The file as HEAD has it."""
        listing = self.git("ls-tree", "-z", self.head, "--", path)
        if not listing:
            return None
        mode, kind, blob = listing.split(b"\t")[0].decode().split()
        if kind != "blob" or mode == "120000":
            raise Refused(f"{path} of HEAD is not a regular file")
        content = self.git("cat-file", "blob", blob)
        return ScratchFile(content, mode == "100755")

    def check_new_branch(self, branch: str) -> None:
        self.git("check-ref-format", "--branch", branch)
        known = self.git("for-each-ref", f"refs/heads/{branch}")
        if known:
            raise Refused(f"--branch {branch}: there is such a branch already")

    def commit(self, commits: Sequence[_Commit]) -> list[str]:
        """Commits on top of HEAD; their ids."""
        self.git("read-tree", self.head)
        ids = []
        parent = self.head
        for each in commits:
            self._stage(each)
            tree = self.git("write-tree").decode().strip()
            parent = self._commit_tree(tree, parent, each.message)
            ids.append(parent)
        return ids

    def _stage(self, commit: _Commit) -> None:
        if commit.patch is not None:
            options = ("--cached", "--whitespace=nowarn", "-p1", "-")
            self.git("apply", *options, given=commit.patch.content)
        for path, file in (commit.files or {}).items():
            blob = self.git(
                "hash-object", "-w", "--stdin", "--no-filters", given=file.content
            )
            assert blob.decode().strip() == blob_id(file.content)
            mode = "100755" if file.executable else "100644"
            entry = f"{mode},{blob.decode().strip()},{path}"
            self.git("update-index", "--add", "--cacheinfo", entry)

    def _commit_tree(self, tree: str, parent: str, message: Message) -> str:
        name, address = email.utils.parseaddr(message.author)
        who = {}
        for role in ("AUTHOR", "COMMITTER"):
            who[f"GIT_{role}_NAME"] = name
            who[f"GIT_{role}_EMAIL"] = address
            who[f"GIT_{role}_DATE"] = message.date
        text = message.text.encode("utf-8", "surrogateescape")
        arguments = ("commit-tree", tree, "-p", parent, "-F", "-", "--no-gpg-sign")
        return self.git(*arguments, given=text, **who).decode().strip()

    def mails(self, ids: Sequence[str]) -> dict[str, bytes]:
        """The commits as mails, by file name."""
        if not ids:
            return {}
        with tempfile.TemporaryDirectory(prefix="torch_overlay_") as folder:
            options = (*_MAIL_OPTIONS, "-o", folder)
            self.git("format-patch", *options, f"{self.head}..{ids[-1]}")
            places = sorted(Path(folder).iterdir())
            return {place.name: place.read_bytes() for place in places}

    def make_branch(self, branch: str, commit: str) -> None:
        self.git("update-ref", f"refs/heads/{branch}", commit, "0" * 40)


@contextmanager
def _repository(root: Path, head: str, keep: bool) -> Iterator[_Repository]:
    """``keep``: what is made stays in the repository of the checkout."""
    with tempfile.TemporaryDirectory(prefix="torch_overlay_") as folder:
        variables = {"GIT_INDEX_FILE": os.path.join(folder, "index")}
        if not keep:
            objects = git_in_repository(["rev-parse", "--git-path", "objects"], root)
            place = os.path.join(root, objects.stdout.decode().strip())
            variables["GIT_OBJECT_DIRECTORY"] = os.path.join(folder, "objects")
            variables["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = place
            os.mkdir(variables["GIT_OBJECT_DIRECTORY"])
        yield _Repository(root, head, variables)
