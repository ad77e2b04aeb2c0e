"""Links of README.md and docs/ lead somewhere; docs/index.md leads to every page."""

import re
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

PROJECT = Path(__file__).resolve().parents[2]
INDEX = "docs/index.md"


def pages_of(root: Path) -> dict[Path, list[Token]]:
    """Every page, parsed."""
    files = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    parser = MarkdownIt("commonmark").enable("table")
    return {file: parser.parse(file.read_text()) for file in files}


def links_of(tokens: list[Token]) -> Iterator[str]:
    for block in tokens:
        for token in block.children or []:
            target = token.attrGet("href") or token.attrGet("src")
            if target is not None:
                yield unquote(str(target))


def anchors_of(tokens: list[Token]) -> list[str]:
    """The anchors of the headings, named as GitHub names them."""
    anchors: list[str] = []
    for before, block in zip(tokens, tokens[1:]):
        if before.type == "heading_open":
            text = "".join(
                token.content
                for token in block.children or []
                if token.type in ("text", "code_inline")
            )
            name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            taken = sum(re.sub(r"-\d+$", "", one) == name for one in anchors)
            anchors.append(f"{name}-{taken}" if taken else name)
    return anchors


def faults(root: Path) -> list[str]:
    """What is wrong with the links of the pages below ``root``."""
    pages = pages_of(root)
    anchors = {file: anchors_of(tokens) for file, tokens in pages.items()}
    found = []
    leads_to: dict[Path, list[Path]] = {file: [] for file in pages}
    linked = []
    for file, tokens in pages.items():
        for link in links_of(tokens):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (file.parent / path).resolve() if path else file
            linked.append(target)
            name = file.relative_to(root)
            if not target.exists():
                found.append(f"{name}: {link}: no such file")
            elif anchor and anchor not in anchors.get(target, []):
                found.append(f"{name}: {link}: no such heading")
            elif target in pages:
                leads_to[file].append(target)
    reached = [root / INDEX]
    for page in reached:
        reached += [one for one in leads_to[page] if one not in reached]
    found += [
        f"{file.relative_to(root)}: {INDEX} does not lead to it"
        for file in pages
        if file not in reached
    ]
    found += [
        f"{file.relative_to(root)}: no page links to it"
        for file in sorted((root / "docs").iterdir())
        if file not in linked and file not in pages
    ]
    return found


class TestDocs(unittest.TestCase):
    def test_links_of_this_project(self) -> None:
        self.assertEqual(faults(PROJECT), [])


class TestLinkCheck(unittest.TestCase):
    def check(self, **pages: str) -> list[str]:
        root = Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()
        (root / "docs").mkdir()
        (root / "README.md").write_text("# Read me\n")
        (root / "docs" / "times.png").write_text("")
        for name, text in pages.items():
            (root / "docs" / f"{name}.md").write_text(text)
        return faults(root)

    START = "[r](../README.md) ![times](times.png)\n"

    def test_good_links(self) -> None:
        page = "# Two `words`, twice\n\n## A\n\n## A\n\n[up](#a-1)\n"
        index = f"{self.START}\n| a |\n| --- |\n| [p](p.md#two-words-twice) |\n"
        self.assertEqual(self.check(index=index, p=page), [])

    def test_a_link_to_no_file(self) -> None:
        found = self.check(index=self.START + "[gone](gone.md)")
        self.assertEqual(found, ["docs/index.md: gone.md: no such file"])

    def test_a_picture_that_is_missing(self) -> None:
        found = self.check(index=self.START + "![gone](gone.png)")
        self.assertEqual(found, ["docs/index.md: gone.png: no such file"])

    def test_a_link_to_no_heading(self) -> None:
        found = self.check(index=self.START + "[up](../README.md#me)")
        self.assertEqual(found, ["docs/index.md: ../README.md#me: no such heading"])

    def test_a_heading_of_the_same_page(self) -> None:
        found = self.check(index=self.START + "[down](#down)")
        self.assertEqual(found, ["docs/index.md: #down: no such heading"])

    def test_links_in_code_are_text(self) -> None:
        found = self.check(index=self.START + "`[a](b.md)`\n\n    [c](d.md)\n")
        self.assertEqual(found, [])

    def test_a_page_that_nothing_leads_to(self) -> None:
        found = self.check(index=self.START, alone="[i](index.md)")
        self.assertEqual(found, ["docs/alone.md: docs/index.md does not lead to it"])

    def test_a_picture_that_nothing_shows(self) -> None:
        found = self.check(index="[r](../README.md)")
        self.assertEqual(found, ["docs/times.png: no page links to it"])


if __name__ == "__main__":
    unittest.main()
