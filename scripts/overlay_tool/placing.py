"""Whether the hunks of a patch end up in the definition that they are written for.

With a line or two of context a hunk may fit where it has no business: a method before
any `@classmethod`. Git takes the nearest such place. The heading of a hunk, the text
after its second @@, tells the class or function that it was made in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_FILE = re.compile(r"^diff --git a/(\S+) b/", re.M)
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@ ?(.*)")
_DEFINITION = re.compile(r"(?:async )?(?:class|def) (\w+)")
_CHECKED = re.compile(r"^Checking patch (.+?)\.\.\.$")
_OFFSET = re.compile(r"^Hunk #(\d+) succeeded at (\d+) \(offset ")


@dataclass(frozen=True)
class Misplaced:
    """A hunk that fits, but in another definition than it is written for."""

    path: str
    hunk: str
    wanted: str
    found: str

    def __str__(self) -> str:
        return (
            f"a hunk of {self.path} that is made for {self.wanted} fits in "
            f"{self.found}: give it more lines of context"
        )


def find_misplaced(
    patch: str, messages: str, files: Mapping[str, str]
) -> Iterator[Misplaced]:
    """The hunks of ``patch`` that git put into another class or function.

    Args:
        messages: what `git apply -v` said, with a line for each hunk that was moved.
        files: the contents before it, by path.
    """
    places = _places(messages)
    for path, hunks in _hunks(patch):
        lines = files.get(path, "").splitlines()
        added = 0
        for number, hunk in enumerate(hunks, 1):
            header = _HUNK.match(hunk)
            assert header is not None
            old, new, heading = header.groups()
            wanted = _DEFINITION.match(heading)
            place = places.get((path, number))
            if wanted and place and _is_indented(hunk):
                found = _enclosing(lines[: place - added - 1])
                if found and found != wanted[1]:
                    yield Misplaced(path, hunk, wanted[1], found)
            added += int(new or 1) - int(old or 1)


def _places(messages: str) -> dict[tuple[str, int], int]:
    """The line in the new file where each hunk is that was moved."""
    places = {}
    path = ""
    for line in messages.splitlines():
        if checked := _CHECKED.match(line):
            path = checked[1]
        elif moved := _OFFSET.match(line):
            places[path, int(moved[1])] = int(moved[2])
    return places


def _hunks(patch: str) -> Iterator[tuple[str, list[str]]]:
    """The path of each file's diff, with its hunks."""
    _, *sections = re.split(r"^(?=diff --git )", patch, flags=re.M)
    for section in sections:
        path = _FILE.match(section)
        # Below the last hunk may stand what git puts at the end of a mail.
        text = re.sub(r"^-- \n.*\Z", "", section, flags=re.M | re.S)
        hunks = re.split(r"^(?=@@ )", text, flags=re.M)[1:]
        if path and all(map(_HUNK.match, hunks)):
            yield path[1], hunks


def _is_indented(hunk: str) -> bool:
    """Whether all that it changes is inside of a definition."""
    changed = [x[1:] for x in hunk.splitlines()[1:] if x[:1] in ("+", "-")]
    return all(line.startswith(" ") for line in changed if line.strip())


def _enclosing(lines: list[str]) -> str | None:
    """The name of the definition at the end of ``lines``, as git's headings tell it."""
    for line in reversed(lines):
        if re.match(r"[A-Za-z_$]", line):
            definition = _DEFINITION.match(line)
            return definition[1] if definition else None
    return None
