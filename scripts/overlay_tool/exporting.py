"""Makes commits of the patch set, and mails of those, for who maintains the tree."""

from __future__ import annotations

import email
import email.policy
import email.utils
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .checking import CONFLICT, UPSTREAM, Fits, best_fits, describe
from .errors import Refused, Report
from .filesystem import File, read, replace_file
from .git import git_in_repository
from .patch_set import PatchSet, load_patch_set
from .patching import Patch
from .stack import load_stack, share_out
from .trees import Tree, identify

# What DEP-3 and this repository note of a patch; nothing that upstream's history needs.
_OUR_TRAILERS = ("Origin", "Forwarded", "Why", "Remove-When")
_TRAILER = re.compile(rf"^({'|'.join(_OUR_TRAILERS)}): .*(\n[ \t].*)*\n?", re.M)


@dataclass(frozen=True)
class Message:
    """Who wrote a change, when (RFC 2822), and why."""

    author: str
    date: str
    title: str
    body: str


# Of the commits of a patch set without patches.
_NOBODY = Message(
    "Torch Range Dispatch <torch-range-dispatch@users.noreply.invalid>",
    "Thu, 1 Jan 2026 00:00:00 +0000",
    "",
    "",
)
_TESTS = "test/inductor"
# Whatever the user's configuration says: the same commits make the same mails.
_MAIL_OPTIONS = """--numbered --zero-commit --no-signature --no-renames --full-index
    --no-attach --no-thread --no-cover-letter --no-base --no-notes --no-ext-diff
    --no-textconv --no-color --no-signoff --no-from --no-to --no-cc
    --subject-prefix=PATCH --suffix=.patch --start-number=1 --src-prefix=a/
    --dst-prefix=b/ --diff-algorithm=myers --unified=3 --quiet""".split()


@dataclass(frozen=True)
class _Commit:
    """One change: a patch, or files of ours by their paths in the tree."""

    message: Message
    patch: Patch | None = None
    files: Mapping[str, File] = field(default_factory=dict)


def export(
    tree_path: Path,
    out: Path,
    patch_set_root: Path,
    branch: str | None = None,
    author: str | None = None,
) -> Report:
    """Writes ``out``/01-NAME/0001-*.patch and so on, for ``git am --keep-non-patch``.

    A folder for each pull request of patches/stack.toml, with a commit for each patch
    and for each group of files of ours, on top of HEAD and of the pull requests before.
    Neither the checkout's files nor its index are touched; its repository gets the
    commits only if a ``branch`` is asked for. The same HEAD, patch set and author make
    the same bytes.

    Args:
        branch: the name of a branch to make, of all pull requests.
        author: "Name <mail>" of all commits, instead of the patches' own.

    Raises:
        Refused: no checkout, a patch that does not fit HEAD, a branch that there is,
            an ``out`` that holds something else, a stack that leaves something out.
    """
    tree = identify(tree_path)
    if not tree.is_checkout:
        raise Refused(f"{tree.root} is no git checkout: there is nothing to commit to")
    patch_set = load_patch_set(patch_set_root)
    if author is not None and not all(email.utils.parseaddr(author)):
        raise Refused(f"--author {author!r}: must be 'Name <mail>'")
    mails: dict[str, bytes] = {}
    ids: list[str] = []
    with tempfile.TemporaryDirectory(prefix="torch_overlay_") as folder:
        repository = _Repository(tree, Path(folder), keep=branch is not None)
        fits = best_fits(tree, patch_set, repository.content)
        all_fits = (*fits.files, *fits.patches)
        if conflicts := [fit for fit in all_fits if fit.kind == CONFLICT]:
            raise Refused(
                f"{tree.root}: HEAD is not a tree that all fits:\n"
                + "\n".join(line for fit in conflicts for line in describe(fit))
            )
        requests = _requests(patch_set, fits, author)
        for folder_name, commits in requests.items():
            parent = ids[-1] if ids else tree.commit
            ids += repository.commit(commits, parent)
            for name, mail in repository.mails(parent, ids[-1]).items():
                mails[f"{folder_name}/{name}"] = mail
        summaries = {
            f"{name}/summary.md": f"{request.summary}\n".encode()
            for name in requests
            for request in load_stack(patch_set.root)
            if request.name == name[3:]
        }
        files = {**mails, **summaries}
        _check_out(out, files)
        if branch is not None and ids:
            # Refuses a name that there is, or that cannot be.
            new = (f"refs/heads/{branch}", ids[-1], "0" * 40)
            repository.git("update-ref", *new)
    for name, content in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        replace_file(out / name, content)
    left_out = [fit.name for fit in fits.patches if fit.kind == UPSTREAM]
    return Report(
        f"wrote {len(mails)} mails of {len(requests)} pull requests to {out}"
        + (f" and made the branch {branch}" if branch is not None else ""),
        lines=(f"apply them with: git am --keep-non-patch {out}/*/*.patch",),
        notes=tuple(f"{name} is upstream already: left out" for name in left_out),
        details={
            "outcome": "exported",
            "base": fits.base.tag,
            "parent": tree.commit,
            "commits": ids,
            "branch": branch,
            "pull_requests": list(requests),
            "mails": list(mails),
            "left_out": left_out,
        },
    )


def read_message(patch: Patch) -> Message:
    """The message of a patch, without the trailers that are ours alone."""
    mail = email.message_from_bytes(patch.content, policy=email.policy.default)
    for name in ("From", "Date", "Subject"):
        if not mail[name]:
            raise Refused(f"patch {patch.name}: its mail has no {name}")
    author = str(mail["From"])
    if not all(email.utils.parseaddr(author)):
        raise Refused(f"patch {patch.name}: From: {author!r} is no author")
    content = patch.content.decode("utf-8", "surrogateescape")
    text = content.split("\n\n", 1)[1]
    text = re.split(r"^---\n|^diff --git ", text, maxsplit=1, flags=re.M)[0]
    title = re.sub(r"^\[PATCH[^\]]*\]\s*", "", str(mail["Subject"]))
    return Message(author, str(mail["Date"]), title, _TRAILER.sub("", text).strip())


def _check_out(out: Path, files: Mapping[str, bytes]) -> None:
    """Mails of an earlier export would be applied with those of this one."""
    if out.is_dir():
        there = [x.relative_to(out).as_posix() for x in out.rglob("*") if x.is_file()]
        if others := sorted(set(there) - set(files)):
            raise Refused(f"--out {out} holds other files, such as {others[0]}")
    elif os.path.lexists(out):
        raise Refused(f"--out {out} is not a folder")


def _requests(
    patch_set: PatchSet, fits: Fits, author: str | None
) -> dict[str, list[_Commit]]:
    """The commits of each pull request, by the name of its folder.

    With what the tree does not have yet; without pull requests that are empty then.
    """
    new = {fit.name for fit in fits.patches if fit.kind != UPSTREAM}
    there = {fit.name for fit in fits.files if fit.kind == UPSTREAM}
    series = patch_set.series(fits.base)
    messages = {patch.name: read_message(patch) for patch in series}
    like = next(reversed(messages.values()), _NOBODY)
    files = {**patch_set.overlay, **exported_tests(patch_set)}
    stack = load_stack(patch_set.root)
    requests: dict[str, list[_Commit]] = {}
    for request, shares in zip(stack, share_out(stack, series, files), strict=True):
        commits = []
        for share in shares:
            patches = [patch for patch in share.patches if patch.name in new]
            commits += [_Commit(messages[patch.name], patch) for patch in patches]
            own = {path: files[path] for path in share.files} | dict(share.step.earlier)
            if own := {path: file for path, file in own.items() if path not in there}:
                title, _, body = share.step.message.strip().partition("\n")
                message = replace(like, title=title, body=body.strip())
                commits.append(_Commit(message, files=own))
        if author is not None:
            commits = [
                replace(each, message=replace(each.message, author=author))
                for each in commits
            ]
        if commits:
            requests[f"{len(requests) + 1:02}-{request.name}"] = commits
    return requests


def exported_tests(patch_set: PatchSet) -> dict[str, File]:
    """The tests of the feature, by their paths in the tree."""
    files = {}
    for place in sorted((patch_set.root / _TESTS).glob("*")):
        if place.is_file() and not place.is_symlink() and place.suffix != ".pyc":
            path = f"{_TESTS}/{place.name}"
            file = read(patch_set.root, path)
            assert file is not None
            files[path] = file
    return files


class _Repository:
    """A checkout's repository with an index of its own.

    Args:
        keep: whether what is made stays in it, or goes with ``folder``.
    """

    def __init__(self, tree: Tree, folder: Path, keep: bool) -> None:
        self.tree = tree
        self.folder = folder
        self.variables = {"GIT_INDEX_FILE": str(folder / "index")}
        if not keep:
            theirs = self.git("rev-parse", "--git-path", "objects").decode().strip()
            (folder / "objects").mkdir()
            self.variables["GIT_OBJECT_DIRECTORY"] = str(folder / "objects")
            self.variables["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = str(tree.root / theirs)

    def git(self, *arguments: str, given: bytes = b"", **variables: str) -> bytes:
        variables = {**self.variables, **variables}
        result = git_in_repository(arguments, self.tree.root, given, variables)
        if result.returncode != 0:
            message = result.stderr.decode("utf-8", "replace").strip()
            raise Refused(f"git {arguments[0]}: {message}")
        return result.stdout

    def content(self, path: str) -> File | None:
        """The file as HEAD has it."""
        listing = self.git("ls-tree", "-z", self.tree.commit, "--", path)
        if not listing:
            return None
        mode, kind, blob = listing.split(b"\t")[0].decode().split()
        if kind != "blob" or mode == "120000":
            raise Refused(f"{path} of HEAD is not a regular file")
        return File(self.git("cat-file", "blob", blob), mode == "100755")

    def commit(self, commits: Sequence[_Commit], parent: str) -> list[str]:
        """Commits on top of ``parent``; their ids."""
        self.git("read-tree", parent)
        ids = []
        for each in commits:
            if each.patch is not None:
                command = "apply --cached --whitespace=nowarn -p1 -".split()
                self.git(*command, given=each.patch.content)
            for path, file in each.files.items():
                command = "hash-object -w --stdin --no-filters".split()
                self.git(*command, given=file.content)
                mode = "100755" if file.executable else "100644"
                entry = f"{mode},{file.blob},{path}"
                self.git("update-index", "--add", "--cacheinfo", entry)
            tree = self.git("write-tree").decode().strip()
            message = each.message
            name, address = email.utils.parseaddr(message.author)
            who = {
                f"GIT_{role}_{key}": value
                for role in ("AUTHOR", "COMMITTER")
                for key, value in (
                    ("NAME", name),
                    ("EMAIL", address),
                    ("DATE", message.date),
                )
            }
            text = f"{message.title}\n\n{message.body}".rstrip() + "\n"
            given = text.encode("utf-8", "surrogateescape")
            command = f"commit-tree {tree} -p {parent} -F - --no-gpg-sign".split()
            made = self.git(*command, given=given, **who)
            parent = made.decode().strip()
            ids.append(parent)
        return ids

    def mails(self, before: str, last: str) -> dict[str, bytes]:
        """The commits after ``before`` as mails, by file name."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            options = (*_MAIL_OPTIONS, "-o", folder)
            self.git("format-patch", *options, f"{before}..{last}")
            places = sorted(Path(folder).iterdir())
            return {place.name: place.read_bytes() for place in places}
