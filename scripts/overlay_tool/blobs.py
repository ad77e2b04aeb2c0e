"""Git blob ids: how a file's content is named in the bases and the receipt."""

from __future__ import annotations

import hashlib
import re

_BLOB_ID = re.compile(r"[0-9a-f]{40}")


def blob_id(content: bytes) -> str:
    """The id that ``git hash-object`` (without filters) gives to ``content``."""
    header = b"blob %d\0" % len(content)
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def is_blob_id(value: object) -> bool:
    """Whether ``value`` has the form of a blob id (or of a commit id)."""
    return isinstance(value, str) and _BLOB_ID.fullmatch(value) is not None
