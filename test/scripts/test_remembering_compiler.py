"""The compiler of the tests asks the real one only for what is new."""

import sys
import tempfile
import unittest
import unittest.mock
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from setup_tool import remembering_compiler  # noqa: E402

COMPILER = """#!/bin/sh
echo "$*" >> calls
[ -z "$FAILS" ] || exit 3
while [ "$1" != -o ]; do shift; done
echo "made by call $(wc -l < calls)" > "$2"
"""


class RememberingCompilerTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.calls = self.folder / "calls"
        self.compiler = self.folder / "g++"
        self.compiler.write_text(COMPILER.replace("calls", str(self.calls)))
        self.compiler.chmod(0o755)
        (self.folder / "store").mkdir()

    def file(self, name: str, content: str = "int x;") -> str:
        (self.folder / name).write_text(content)
        return str(self.folder / name)

    def make(self, *arguments: str, target: str = "out.so", status: int = 0) -> str:
        """What is made; its text tells which call of the compiler made it."""
        path = self.folder / target
        path.unlink(missing_ok=True)
        words = [*arguments, "-o", str(path)]
        store = str(self.folder / "store")
        found = remembering_compiler.main(str(self.compiler), store, words)
        self.assertEqual(found, status)
        return path.read_text().strip() if path.exists() else ""

    def test_the_same_is_compiled_once_wherever_it_lies(self) -> None:
        first, second = self.file("a.cpp"), self.file("b.cpp")
        self.assertEqual(self.make(first, "-Wall"), "made by call 1")
        self.assertEqual(self.make(second, "-Wall", target="x.so"), "made by call 1")
        self.assertTrue((self.folder / "x.so").stat().st_mode & 0o100)

    def test_all_that_differs_is_compiled(self) -> None:
        first = self.file("a.cpp")
        changed = self.file("b.cpp", "int y;")
        made = [
            self.make(*words)
            for words in (
                (first,),
                (changed,),
                (first, "-DX"),
                (first, changed),
                (changed, first),
                (first, self.file("c.o")),
                (first, self.file("d.o", "other")),
            )
        ]
        self.assertEqual(made, [f"made by call {n + 1}" for n in range(len(made))])

    def test_nothing_is_remembered_of_what_reads_or_writes_more(self) -> None:
        source = self.file("a.cpp")
        including = self.file("b.cpp", 'asm(".incbin \\"weights\\"");')
        for words in (
            (source, "-E"),
            (source, "-MD", "-MF", "a.d"),
            (including,),
            (source, "@more"),
            ("-v",),
        ):
            with self.subTest(words):
                self.assertNotEqual(self.make(*words), self.make(*words))
        self.assertEqual([*(self.folder / "store").iterdir()], [])

    def test_another_compiler_compiles_anew(self) -> None:
        source = self.file("a.cpp")
        self.make(source)
        self.compiler.write_text(self.compiler.read_text() + "# another release\n")
        self.assertEqual(self.make(source), "made by call 2")

    def test_a_failure_is_not_remembered(self) -> None:
        source = self.file("a.cpp")
        with unittest.mock.patch.dict("os.environ", FAILS="yes"):
            self.make(source, status=3)
        self.assertEqual(self.make(source), "made by call 2")

    def test_kernels_are_hardly_optimized(self) -> None:
        self.make(self.file("a.cpp"), "-O3", "-g1")
        self.assertIn("a.cpp -O1 -g1 -o", self.calls.read_text())


if __name__ == "__main__":
    unittest.main()
