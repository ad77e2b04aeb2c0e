"""Runs ruff, usort and codespell over a folder that is laid out as upstream's tree."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from lint_tool.checks import check
from lint_tool.findings import Finding
from overlay_tool.errors import EnvironmentFailure
from overlay_tool.git import find_edits

SETTINGS = Path(__file__).with_name("upstream.toml")
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def lint(
    folder: Path, files: Mapping[str, bytes], own: Collection[str]
) -> list[Finding]:
    """What all linters say of the files, which are written to the empty folder.

    Args:
        own: those that are not only patched, and whose imports are all looked at. In
            files of ten thousand lines that takes seconds; there, those at the top are.
    """
    lay_out(folder, files)
    findings = [each for path in files for each in check(path, files[path])]
    findings += check_rules(folder)
    findings += check_spelling(folder)
    reformat(folder, files, own)
    for path, content in files.items():
        findings += [
            Finding(path, edit.start + 1, "format", "not as usort and ruff write it")
            for edit in find_edits(content, (folder / path).read_bytes())
        ]
    return findings


def mend(folder: Path, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files as ruff and usort would have them."""
    lay_out(folder, files)
    ruff(folder, "check", "--fix", "--quiet", "--exit-zero", ".")
    reformat(folder, files, files)
    return {path: (folder / path).read_bytes() for path in files}


def lay_out(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files, and the settings that the tools find."""
    for path, content in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    shutil.copyfile(SETTINGS, folder / "pyproject.toml")


def check_rules(folder: Path) -> list[Finding]:
    """What ruff finds."""
    report = ruff(folder, "check", "--exit-zero", "--output-format=json", ".")
    return [
        Finding(
            Path(each["filename"]).relative_to(folder.resolve()).as_posix(),
            each["location"]["row"],
            each["code"] or "syntax",
            each["message"],
        )
        for each in json.loads(report)
    ]


def check_spelling(folder: Path) -> list[Finding]:
    """What codespell finds."""
    # 65: it found something.
    report = run(folder, ["codespell_lib", "."], statuses=(0, 65))
    matches = re.findall(r"^\./(.+?):(\d+): (.+)$", report, re.M)
    return [
        Finding(path, int(line), "codespell", words) for path, line, words in matches
    ]


def reformat(folder: Path, paths: Iterable[str], own: Collection[str]) -> None:
    """Sorts imports, then formats, as upstream's ufmt does."""
    chosen = [path for path in paths if path.endswith(".py")]
    rests = {path: cut_rest(folder / path, path in own) for path in chosen}
    if chosen:
        run(folder, ["usort", "format", *chosen])
    for path, rest in rests.items():
        with (folder / path).open("ab") as file:
            file.write(rest)
    ruff(folder, "format", "--quiet", ".")


def cut_rest(file: Path, definitions_too: bool) -> bytes:
    """Takes what follows the last import out of the file, and returns it.

    usort parses all that it is given, and is slow. Unless ``definitions_too``, the
    first definition ends the imports.
    """
    content = file.read_bytes()
    last = 0
    for statement in ast.parse(content).body:
        if isinstance(statement, DEFINITIONS) and not definitions_too:
            break
        for node in ast.walk(statement):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                last = statement.end_lineno or last
    lines = content.splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:last]))
    return b"".join(lines[last:])


def ruff(folder: Path, command: str, *arguments: str) -> str:
    """Runs a command of ruff without its cache."""
    return run(folder, ["ruff", command, "--no-cache", *arguments])


def run(folder: Path, command: list[str], statuses: tuple[int, ...] = (0,)) -> str:
    """Runs a module of this Python's in the folder; returns what it printed."""
    result = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if result.returncode not in statuses:
        raise EnvironmentFailure(
            f"{command[0]} failed with exit status {result.returncode}: "
            f"{result.stderr or result.stdout}"
        )
    return result.stdout
