#!/usr/bin/env python3
"""Lints what goes upstream the way upstream does.

That is torch_overlay/, test/inductor/ and what the patches change in the base that is
installed. The package range_tuning and its tests are linted with them. Needs the
environment: .venv/bin/python scripts/lint.py
"""

from __future__ import annotations

import argparse
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lint_tool.checks import check_text
from lint_tool.exported import Exported, place_of, read_exported
from lint_tool.findings import Finding, without_those_of_base
from lint_tool.tools import check_spelling, lay_out, lint, mend
from overlay_tool.errors import EnvironmentFailure, Refused

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str]) -> int:
    """Prints what is found. 0: nothing, 1: something, 2: could not look."""
    parser = argparse.ArgumentParser(prog="scripts/lint.py", description=__doc__)
    parser.add_argument(
        "--fix",
        action="store_true",
        help="first format our files, sort their imports and do what else ruff can do",
    )
    parser.add_argument(
        "--tree",
        type=Path,
        default=Path(sysconfig.get_path("purelib")),
        help="a pristine base, or one with this patch set over it "
        "(default: the site-packages of this Python)",
    )
    options = parser.parse_args(arguments)
    try:
        return lint_exported(ROOT, options.tree, options.fix)
    except (Refused, EnvironmentFailure) as error:
        print(f"scripts/lint.py: {error}", file=sys.stderr)
        return 2


def lint_exported(root: Path, tree: Path, fix: bool) -> int:
    """Lints, perhaps after mending, and prints."""
    exported = read_exported(root, tree)
    if fix:
        with tempfile.TemporaryDirectory(prefix="torch_lint_") as folder:
            mended = mend(Path(folder), exported.own)
        changed = [path for path in mended if mended[path] != exported.own[path]]
        for path in changed:
            place_of(root, path).write_bytes(mended[path])
        print(f"{len(changed)} files changed")
        exported = read_exported(root, tree)
    with tempfile.TemporaryDirectory(prefix="torch_lint_") as folder:
        findings = find_all(exported, Path(folder))
    for each in findings:
        place = place_of(root, each.path) if each.path in exported.own else None
        where = place.relative_to(root).as_posix() if place else each.path
        print(f"{where}:{each.line}: {each.rule} {each.message}")
    print(
        f"{len(findings)} findings in {len(exported.own)} files of ours, "
        f"{len(exported.patched)} patched files of {exported.tag} and "
        f"{len(exported.added)} patches"
    )
    return 1 if findings else 0


def find_all(exported: Exported, folder: Path) -> list[Finding]:
    """What is found in our files, in what patches make of the base, in patches."""
    files = {**exported.patched, **exported.own}
    with ThreadPoolExecutor() as pool:
        base = pool.submit(lint, folder / "base", exported.base, ())
        of_ours = lint(folder / "ours", files, exported.own)
        of_base = base.result()
    findings = without_those_of_base(of_ours, of_base, exported.base, exported.patched)
    lay_out(folder / "added", exported.added)
    findings += check_spelling(folder / "added")
    findings += [
        Finding(path, line, "text_linter", message)
        for path, content in exported.added.items()
        for line, message in check_text(content.decode("utf-8"))
    ]
    return sorted(set(findings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
