"""Groups of tests that need not pass again while what they test is what it was.

test/passed.txt has a line for each group: the digest of what it tests, and of the
tests, when they passed last. Anything else makes the group run: a change to these
files, a merge of two of them, a file that was forgotten.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PASSED = Path("test") / "passed.txt"


@dataclass(frozen=True)
class Group:
    """Test files, and what else their results depend on, as patterns below the root.

    Those ``in_no_group`` test what may change without a change to the rest.
    """

    name: str
    tests: str
    of: tuple[str, ...]
    in_no_group: tuple[str, ...] = ()

    def test_files(self, root: Path) -> list[str]:
        """The test files, relative to the root."""
        found = {file.relative_to(root).as_posix() for file in root.glob(self.tests)}
        return sorted(found - {*self.in_no_group})

    def digest(self, root: Path) -> str:
        """Changes when any of the files does."""
        files = {
            file.relative_to(root).as_posix(): file
            for pattern in (self.tests, *self.of)
            for file in root.glob(pattern)
            if file.is_file() and file.suffix != ".pyc"
        }
        digest = hashlib.sha256()
        for name, file in sorted(files.items()):
            digest.update(f"{name}\0{len(file.read_bytes())}\0".encode())
            digest.update(file.read_bytes())
        return digest.hexdigest()

    def line(self, root: Path) -> str:
        """What test/passed.txt says of it."""
        return f"{self.name} {self.digest(root)}"


GROUPS = (
    Group(
        name="tools",
        tests="test/scripts/test_*.py",
        of=("test/scripts/*", "scripts/**/*", ".ci/*", "setup.cfg"),
        in_no_group=(
            "test/scripts/test_backends_page.py",
            "test/scripts/test_every_file_is_a_script.py",
            "test/scripts/test_stack.py",
        ),
    ),
    Group(
        name="interpreter",
        tests="test/inductor/test_triton_on_cpu.py",
        of=("test/inductor/_triton_*.py", "setup.cfg"),
    ),
)


def unchanged(root: Path) -> list[Group]:
    """The groups that passed as they are."""
    try:
        passed = (root / PASSED).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [group for group in GROUPS if group.line(root) in passed]


def record(root: Path) -> bool:
    """Writes down that all groups passed as they are; whether that was news."""
    file, lines = root / PASSED, "".join(f"{group.line(root)}\n" for group in GROUPS)
    if file.exists() and file.read_text() == lines:
        return False
    file.write_text(lines)
    return True


def left_out(root: Path, groups: Iterable[Group]) -> list[str]:
    """Pytest's arguments that leave the groups out."""
    return [f"--ignore={file}" for group in groups for file in group.test_files(root)]
