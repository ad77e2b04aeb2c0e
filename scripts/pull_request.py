"""Writes docs/pull_request.md, the body of a pull request, from what is here already.

    python scripts/pull_request.py            writes the page
    python scripts/pull_request.py --check    ends with 1 if it is not current

The prose is patches/messages/pull_request.md; the commits and the test plan come from
the patches of the last base in bases.toml, the figures and the matrix from docs/.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from overlay_tool.exporting import all_messages
from overlay_tool.mail import Message
from overlay_tool.patch_set import load_patch_set

PROJECT = Path(__file__).resolve().parents[1]
MESSAGES = PROJECT / "patches" / "messages"
PERFORMANCE = PROJECT / "docs" / "performance.md"
MATRIX = PROJECT / "docs" / "backends.md"
PAGE = PROJECT / "docs" / "pull_request.md"
LIMIT = 65536
"""The most characters that GitHub takes for the body of a pull request."""
OUTCOMES = {"✓": "passed", "✗": "refused with a clear error", "○": "not run, no GPU"}


def commits(messages: Sequence[Message], tag: str) -> str:
    """The titles, numbered."""
    titles = [f"{i}. {one.title}" for i, one in enumerate(messages, 1)]
    return "\n".join([f"{len(titles)}, on {tag}:", "", *titles])


def test_plan(messages: Sequence[Message]) -> str:
    """The command of every commit, once, the tests' own last."""
    plans: dict[str, None] = {}
    for one in messages:
        found = re.findall(r"^Test Plan: (.*(?:\n(?!\n).+)*)", one.body, re.M)
        if not found:
            raise SystemExit(f"the commit {one.title!r} has no Test Plan")
        plans.update((" ".join(plan.split()), None) for plan in found)
    return "\n".join(["```", *plans, "```"])


def folded(title: str, page: Path) -> str:
    """A page of docs/ to open on demand: headings lowered, pictures left out."""
    text = page.read_text().partition("\n")[2].strip()
    text = re.sub(r"^(#+ )", r"##\1", text, flags=re.M)
    text = re.sub(r"^!\[.*\n+", "", text, flags=re.M)
    text = re.sub(r"\[([^\]]+)\]\((?!http)[^)]+\)", r"\1", text)
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def goals(page: str) -> Iterator[str]:
    """The tables of what was to be reached, and what was."""
    for table in re.findall(r"^ +Goals\n\n((?:(?!```).+\n)+)", page, re.M):
        yield from table.rstrip().splitlines()
        yield ""


def performance() -> str:
    """The goals with their figures, then everything."""
    lines = [*goals(PERFORMANCE.read_text())]
    if not lines:
        raise SystemExit(f"{PERFORMANCE.name} has no table of goals")
    shown = "\n".join(["```", *lines[:-1], "```"])
    return f"{shown}\n\n{folded('All figures, and how to get them', PERFORMANCE)}"


def matrix() -> str:
    """How many cells there are of each outcome, then all."""
    counts: Counter[str] = Counter()
    rows = 0
    for line in MATRIX.read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        marks = [cell for cell in cells if cell in OUTCOMES]
        rows += bool(marks)
        counts.update(marks)
    if not rows:
        raise SystemExit(f"{MATRIX.name} has no matrix")
    words = [f"{counts[mark]} {words}" for mark, words in OUTCOMES.items()]
    summary = f"{rows} backends and neighbouring features: {', '.join(words)}."
    return f"{summary}\n\n{folded('The matrix', MATRIX)}"


def page() -> str:
    """The whole body."""
    patch_set = load_patch_set(PROJECT)
    base = patch_set.bases[-1]
    messages = all_messages(patch_set, base)
    text = (MESSAGES / "pull_request.md").read_text()
    for name, content in (
        ("commits", commits(messages, base.tag)),
        ("performance", performance()),
        ("matrix", matrix()),
        ("test_plan", test_plan(messages)),
    ):
        if text.count(f"{{{{{name}}}}}") != 1:
            raise SystemExit(f"pull_request.md needs {{{{{name}}}}} once")
        text = text.replace(f"{{{{{name}}}}}", content)
    if len(text) > LIMIT:
        raise SystemExit(f"{len(text)} characters, GitHub takes {LIMIT}")
    return text


def main(arguments: Sequence[str]) -> int:
    """Writes or checks the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args(arguments)
    text = page()
    if options.check:
        if not PAGE.exists() or PAGE.read_text() != text:
            print(f"{PAGE.name} is not current: call scripts/pull_request.py")
            return 1
        return 0
    PAGE.write_text(text)
    print(f"wrote {PAGE.relative_to(PROJECT)}, {len(text)} characters")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
