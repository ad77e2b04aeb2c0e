"""What a refresh is about to write, kept in the tree until all of it is written.

A refresh changes several files of the patch set, and a part of them is no patch set. So
all new contents are put down first, in one atomic step; whoever comes after a kill
writes them again from there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .blobs import blob_id
from .errors import EnvironmentFailure, Refused
from .filesystem import replace_file
from .paths import check_path, locate, read_blob
from .state import State


@dataclass(frozen=True)
class Redo:
    """New contents of files below ``root``, and what they were.

    ``new_files`` are those of the tree that become files of ours.
    """

    root: Path
    contents: Mapping[str, bytes]
    before: Mapping[str, str | None]
    new_files: tuple[str, ...]
    lines: tuple[str, ...]

    def write(self) -> None:
        """Writes all files, also where some of them are written already.

        Raises:
            Refused: one was changed by somebody else meanwhile; nothing is written.
        """
        for path, content in self.contents.items():
            if read_blob(self.root, path) not in (self.before[path], blob_id(content)):
                raise Refused(
                    f"{self.root / path} was changed after a refresh of it was cut "
                    "off: put it back, then run refresh again"
                )
        for path, content in self.contents.items():
            place = locate(self.root, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            replace_file(place, content)


def save_redo(state: State, redo: Redo) -> None:
    """Puts it down, so that it will be done."""
    document = {
        **vars(redo),
        "root": str(redo.root),
        "contents": {
            path: base64.b64encode(content).decode("ascii")
            for path, content in redo.contents.items()
        },
    }
    text = json.dumps(document, indent=1, ensure_ascii=False)
    replace_file(state.redo, text.encode("utf-8"))


def load_redo(state: State, root: Path) -> Redo | None:
    """What is still to be done, None if nothing is.

    Raises:
        Refused: it is for another patch set than that at ``root``.
        EnvironmentFailure: it cannot be read.
    """
    try:
        document = json.loads(state.redo.read_bytes())
        redo = Redo(
            Path(document["root"]),
            {p: base64.b64decode(c) for p, c in document["contents"].items()},
            document["before"],
            tuple(document["new_files"]),
            tuple(document["lines"]),
        )
        for path in redo.contents:
            # As strict as for names in a tree, which start with torch/.
            check_path(f"torch/{path}", str(state.redo))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EnvironmentFailure(f"{state.redo} is damaged: {error!r}") from None
    if redo.root != root:
        raise Refused(
            f"a refresh into {redo.root} was cut off, and this is {root}: finish that "
            "one first, with --patch-set"
        )
    return redo
