# Owner(s): ["module: inductor"]
"""The layout of the range dispatch engine: imports run down, and no file is too long."""

import ast
from pathlib import Path

from torch._inductor import range_dispatch
from torch._inductor.test_case import run_tests, TestCase


ENGINE = range_dispatch.__name__
FOLDER = Path(range_dispatch.__file__).parent
MAX_FILES = 13
MAX_LINES = 400


def modules_of_floors():
    """The name, below the engine, and the path of each module on a floor."""
    for floor in range_dispatch.FLOORS:
        for path in sorted((FOLDER / floor).rglob("*.py")):
            yield ".".join(path.relative_to(FOLDER).with_suffix("").parts), path


def imported(path):
    """Every module that a file imports anywhere in it, for type checking or not."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise AssertionError(f"{path}: a relative import")
            for one in node.names:
                full = f"{node.module}.{one.name}"
                is_module = (
                    FOLDER.parents[2] / f"{full.replace('.', '/')}.py"
                ).exists()
                yield full if is_module else node.module


def upward(name, path):
    """What a module imports from a floor above its own, or from above all floors."""
    own = range_dispatch.FLOORS.index(name.partition(".")[0])
    above_all = f"{ENGINE.rpartition('.')[0]}.kernel.custom_op"
    for module in imported(path):
        below = module.removeprefix(f"{ENGINE}.")
        floor = below.partition(".")[0]
        if module in (ENGINE, above_all):
            yield module
        elif module.startswith(f"{ENGINE}."):
            floors = range_dispatch.FLOORS
            if floor not in floors or floors.index(floor) > own:
                yield below


class FloorsTest(TestCase):
    def test_imports_run_down(self):
        found = [
            (name, module)
            for name, path in modules_of_floors()
            for module in dict.fromkeys(upward(name, path))
        ]
        self.assertEqual(sorted(found), [])

    def test_each_sub_package_is_a_floor(self):
        folders = [one.parent.name for one in FOLDER.glob("*/__init__.py")]
        self.assertEqual(sorted(folders), sorted(range_dispatch.FLOORS))

    def test_each_sub_package_says_what_it_is_for(self):
        for name, path in modules_of_floors():
            with self.subTest(name):
                self.assertTrue(ast.get_docstring(ast.parse(path.read_text())))

    def test_no_floor_has_too_many_files(self):
        for floor in range_dispatch.FLOORS:
            files = [one.name for one in (FOLDER / floor).rglob("*.py")]
            files.remove("__init__.py")
            self.assertLessEqual(len(files), MAX_FILES, floor)

    def test_no_file_is_too_long(self):
        lengths = {n: len(p.read_text().splitlines()) for n, p in modules_of_floors()}
        long = [name for name, length in lengths.items() if length > MAX_LINES]
        self.assertEqual(long, [])


if __name__ == "__main__":
    run_tests()
