"""The messages of patches: mail as ``git format-patch`` writes it, with trailers."""

from __future__ import annotations

import email
import email.policy
import email.utils
import re
from dataclasses import dataclass

from .errors import Refused
from .patch_set import Patch

# What DEP-3 and this repository note of a patch; nothing that upstream's history needs.
_OUR_TRAILERS = ("Origin", "Forwarded", "Why", "Remove-When")
_TRAILER = re.compile(rf"^({'|'.join(_OUR_TRAILERS)}): .*(\n[ \t].*)*\n?", re.M)
_TAG = re.compile(r"^\[PATCH[^\]]*\]\s*")


@dataclass(frozen=True)
class Message:
    """Who wrote a change, when (RFC 2822), and why."""

    author: str
    date: str
    title: str
    body: str

    @property
    def text(self) -> str:
        """As a commit has it."""
        return f"{self.title}\n\n{self.body}\n" if self.body else f"{self.title}\n"


def read_message(patch: Patch) -> Message:
    """The message of a patch, without the trailers that are ours alone."""
    mail = email.message_from_bytes(patch.content, policy=email.policy.default)
    found = {}
    for name in ("From", "Date", "Subject"):
        value = mail[name]
        if not value:
            raise Refused(f"patch {patch.name}: its mail has no {name}")
        found[name] = str(value)
    if not all(email.utils.parseaddr(found["From"])):
        raise Refused(f"patch {patch.name}: From: {found['From']!r} is no author")
    content = patch.content.decode("utf-8", "surrogateescape")
    text = content.split("\n\n", 1)[1]
    text = re.split(r"^---\n|^diff --git ", text, maxsplit=1, flags=re.M)[0]
    return Message(
        author=found["From"],
        date=found["Date"],
        title=_TAG.sub("", found["Subject"]),
        body=_TRAILER.sub("", text).strip(),
    )
