"""patches/bases.toml: the trees the patch set is written for."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .errors import Refused
from .filesystem import check_path, is_blob_id, replace_file

_HEADER = """\
# The PyTorch trees that this patch set is written for.
#
# `blobs` lists every file of the base that an overlay file replaces or a patch
# touches, with the git blob ids that are accepted there. A file that is not listed
# must not exist in the base. `also` lists other releases, with their commits, whose
# files are the same or accepted too: they have the base's patches. Written by
# `scripts/overlay.py pin --tree PRISTINE`; for a new base add its tag and commit by
# hand, then pin, and for a release in `also` pin with --keep.
"""


@dataclass(frozen=True)
class Base:
    """One released tree, and what its files must be for our changes to fit.

    ``also`` has the commits, by tag, of other releases that the same changes fit.
    """

    tag: str
    commit: str
    blobs: Mapping[str, tuple[str, ...]]
    also: Mapping[str, str] = field(default_factory=dict)

    @property
    def release(self) -> str:
        """The tag of the release that ``commit`` is, not always the base's own."""
        for tag, commit in self.also.items():
            if commit == self.commit:
                return tag
        return self.tag

    @property
    def releases(self) -> tuple[Base, ...]:
        """The base at each of its commits, its own first."""
        return (self, *(replace(self, commit=each) for each in self.also.values()))

    def accepts(self, path: str, blob: str | None) -> bool:
        """Whether a pristine tree may have ``blob`` (None: no file) at ``path``."""
        accepted = self.blobs.get(path)
        return blob is None if accepted is None else blob in accepted


def load_bases(file: Path) -> tuple[Base, ...]:
    """Reads bases.toml; an error names the entry that is wrong."""
    document = read_toml(file, "--patch-set must name a folder that has it")
    entries = document.pop("base", [])
    if not isinstance(entries, list) or document:
        raise Refused(f"{file}: only [[base]] entries are known")
    bases = tuple(_load_base(file, entry) for entry in entries)
    named = {
        "tag": [tag for base in bases for tag in (base.tag, *base.also)],
        "commit": [each.commit for base in bases for each in base.releases],
    }
    for key, values in named.items():
        for value in values:
            if values.count(value) > 1:
                raise Refused(f"{file}: two bases have the {key} {value!r}")
    return bases


def read_toml(file: Path, hint: str) -> dict[str, Any]:
    """Reads a TOML file; if it is missing the error has the ``hint``."""
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise Refused(f"{file} is missing: {hint}") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise Refused(f"{file} cannot be read: {error}") from None


def _load_base(file: Path, entry: Mapping[str, Any]) -> Base:
    try:
        base = Base(**{"blobs": {}, **entry})
        # The tag also names a folder of patches/.
        if base.tag in ("", ".", "..") or "/" in base.tag:
            raise TypeError(f"{base.tag!r} is not a tag")
        for release, commit in {base.tag: base.commit, **base.also}.items():
            if not is_blob_id(commit):
                raise TypeError(f"{release}: {commit!r} is not a commit id")
        for path, ids in base.blobs.items():
            check_path(path, str(file))
            if not isinstance(ids, list) or not ids or not all(map(is_blob_id, ids)):
                raise TypeError(f"{path}: not a list of blob ids")
    except TypeError as error:
        raise Refused(f"{file}: {entry.get('tag')}: {error}") from None
    return replace(base, blobs={path: tuple(ids) for path, ids in base.blobs.items()})


def format_bases(bases: Sequence[Base]) -> str:
    """The text of bases.toml; the same bases always give the same text."""
    text = _HEADER
    for base in bases:
        text += f"\n[[base]]\ntag = {_quoted(base.tag)}\n"
        text += f"commit = {_quoted(base.commit)}\n\n"
        if base.also:
            also = (f"{_quoted(k)} = {_quoted(v)}\n" for k, v in base.also.items())
            text += f"[base.also]\n{''.join(also)}\n"
        text += "[base.blobs]\n"
        for path, accepted in sorted(base.blobs.items()):
            ids = ", ".join(map(_quoted, sorted(accepted)))
            text += f"{_quoted(path)} = [{ids}]\n"
    return text


def save_bases(file: Path, bases: Sequence[Base]) -> bool:
    """Writes bases.toml atomically; says whether that changed it."""
    content = format_bases(bases).encode("utf-8")
    if file.exists() and file.read_bytes() == content:
        return False
    replace_file(file, content)
    return True


def _quoted(text: str) -> str:
    # As in JSON, which knows one control character less.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
