"""`overlay.py wheel`: a wheel with the patch set, from one without."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
import unittest
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from installer.sources import WheelFile
from overlay_fixtures import (
    BASE_FILES,
    EXECUTABLE,
    KERNEL,
    NEW,
    OVERLAY,
    PATCHED,
    WHEEL_COMMIT,
    OverlayTestCase,
    edited_lines,
    make_diff,
    make_patch_set,
    run_tool,
)
from overlay_tool import wheels
from overlay_tool.errors import OverlayError

OLD = "torch-9.9.0+cpu.dist-info"
METADATA = (
    b"Metadata-Version: 2.1\nName: torch\nVersion: 9.9.0+cpu\nRequires-Dist: numpy\n\n"
    b"Version: 9.9.0+cpu\n is what this text says\n"
)
WHEEL = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: a-b-c\n"
VERSION = (
    "from typing import Optional\n"
    "__version__ = '9.9.0+cpu'\n"
    "cuda: Optional[str] = None\n"
    f"git_version = '{WHEEL_COMMIT}'\n"
).encode()
FILES: Mapping[str, bytes] = {
    **BASE_FILES,
    "torch/__init__.py": b"from .version import __version__\n",
    "torch/version.py": VERSION,
    "torch/lib/data.bin": os.urandom(100_000),
    f"{OLD}/METADATA": METADATA,
    f"{OLD}/WHEEL": WHEEL,
    f"{OLD}/licenses/LICENSE": b"free\n",
}


def write_wheel(path: Path, files: Mapping[str, bytes], record: str = "") -> None:
    """A wheel of the files; ``record`` replaces the right RECORD."""
    lines = []
    with zipfile.ZipFile(path, "w") as archive:

        def add(name: str, content: bytes) -> None:
            info = zipfile.ZipInfo(name, (2020, 2, 2, 2, 2, 2))
            mode = 0o755 if name in EXECUTABLE else 0o644
            info.external_attr = (0o100000 | mode) << 16
            archive.writestr(info, content)

        for name, content in files.items():
            add(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
            lines.append(f"{name},sha256={digest.decode().rstrip('=')},{len(content)}")
        lines.append(f"{OLD}/RECORD,,")
        add(f"{OLD}/RECORD", (record or "\n".join(lines) + "\n").encode())


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


class WheelTest(OverlayTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.source = self.folder / "torch-9.9.0+cpu-py3-none-any.whl"
        self.out = self.folder / "new" / "folder"
        write_wheel(self.source, FILES)

    def make(self) -> Path:
        report = wheels.make_wheel(
            self.source, self.out, self.patch_set
        )
        return Path(str(report.details["wheel"]))

    def assert_not_made(self, *parts: str) -> None:
        """The command says ``parts`` and leaves no file."""
        with self.assertRaises(OverlayError) as caught:
            self.make()
        for part in parts:
            self.assertIn(part, str(caught.exception))
        if self.out.exists():
            self.assertEqual(os.listdir(self.out), [])

    def test_contents(self) -> None:
        made = self.make()
        found = contents(made)
        version = re.fullmatch(
            r"torch-(9\.9\.0\+cpu\.rangedispatch\.[0-9a-f]{12})-py3-none-any\.whl",
            made.name,
        )
        assert version is not None, made.name
        folder = f"torch-{version[1]}.dist-info"
        for path, content in OVERLAY.items():
            self.assertEqual(found[path], content)
        self.assertEqual(found[PATCHED], edited_lines(line_20="ours"))
        new = version[1].encode()
        renamed = VERSION.replace(b"9.9.0+cpu", new)
        self.assertEqual(found["torch/version.py"], renamed)
        metadata = METADATA.replace(b"9.9.0+cpu", new, 1)
        self.assertEqual(found[f"{folder}/METADATA"], metadata)
        changed = {*OVERLAY, PATCHED, "torch/version.py"}
        for name, content in FILES.items():
            name = name.replace(OLD, folder)
            if name not in changed and not name.endswith("/METADATA"):
                self.assertEqual(found[name], content, name)
        expected = {name.replace(OLD, folder) for name in FILES} | set(OVERLAY)
        self.assertEqual(set(found), expected | {f"{folder}/RECORD"})
        self.assertEqual(list(found)[-1], f"{folder}/RECORD")

    def test_record_and_modes(self) -> None:
        made = self.make()
        with WheelFile.open(made) as wheel:
            wheel.validate_record()
        with zipfile.ZipFile(made) as archive:
            for info in archive.infolist():
                mode = 0o755 if info.filename in EXECUTABLE else 0o644
                self.assertEqual(info.external_attr >> 16 & 0o777, mode, info)

    def test_same_input_same_bytes(self) -> None:
        first = self.make().read_bytes()
        self.assertEqual(self.make().read_bytes(), first)
        self.out = self.folder / "elsewhere"
        self.assertEqual(self.make().read_bytes(), first)
        self.assertEqual(len(os.listdir(self.out)), 1)

    def test_another_patch_set_has_another_name(self) -> None:
        first = self.make()
        make_patch_set(self.patch_set, overlay={**OVERLAY, NEW: b"# newer\n"})
        self.assertNotEqual(self.make().name, first.name)

    def test_pip_installs_it(self) -> None:
        made = self.make()
        target = self.folder / "installed"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index"]
        command += ["--no-deps", "--target", str(target), str(made)]
        subprocess.run(command, check=True)
        program = "import torch; print(torch.__version__)"
        result = subprocess.run(
            [sys.executable, "-c", program],
            cwd=target,
            capture_output=True,
            text=True,
            check=True,
        )
        version = made.name.split("-")[1]
        self.assertEqual(result.stdout.strip(), version)
        self.assertEqual((target / KERNEL).read_bytes(), OVERLAY[KERNEL])
        (folder,) = target.glob("torch-*.dist-info")
        self.assertEqual(folder.name, f"torch-{version}.dist-info")

    def test_version_without_a_local_part_and_a_build_tag(self) -> None:
        files = {
            name.replace("+cpu", ""): content.replace(b"+cpu", b"")
            for name, content in FILES.items()
        }
        self.source = self.folder / "torch-9.9.0-7-py3-none-any.whl"
        with mock.patch(f"{__name__}.OLD", OLD.replace("+cpu", "")):
            write_wheel(self.source, files)
        name = r"torch-9\.9\.0\+rangedispatch\.[0-9a-f]{12}-7-py3-none-any\.whl"
        self.assertRegex(self.make().name, f"^{name}$")

    def test_digest_of_digits(self) -> None:
        """Such a part of a version has no leading zeros; pip compares the names."""
        with mock.patch.object(
            wheels.PatchSet, "digest", lambda self, base: "000000001234" + "0" * 52
        ):
            self.assertIn("+cpu.rangedispatch.1234-", self.make().name)

    def test_patches_that_add_and_remove_files(self) -> None:
        added, removed = "torch/added.py", "torch/_inductor/crlf.py"
        patch = make_diff({removed: BASE_FILES[removed]}, {added: b"new\n"})
        make_patch_set(self.patch_set, patches=[("1", patch)])
        found = contents(self.make())
        self.assertEqual(found[added], b"new\n")
        self.assertNotIn(removed, found)

    def test_signatures_go(self) -> None:
        with zipfile.ZipFile(self.source, "a") as archive:
            archive.writestr(f"{OLD}/RECORD.jws", "signed")
        self.assertFalse([n for n in contents(self.make()) if n.endswith(".jws")])

    def test_refused(self) -> None:
        made = self.make()
        self.out = self.folder / "other"
        self.source = made
        self.assert_not_made("is one of ours already")
        self.source = self.folder / "torch-9.9.0-py3.whl"
        self.assert_not_made("--from", "Invalid wheel filename")
        self.source = self.folder / "torchvision-9.9.0-py3-none-any.whl"
        self.assert_not_made("a wheel of torch is needed")
        self.source = self.folder / "torch-8.8.0-py3-none-any.whl"
        self.assert_not_made("there is no such file")

    def test_unknown_base(self) -> None:
        version = VERSION.replace(b"1" * 40, b"2" * 40)
        write_wheel(self.source, {**FILES, "torch/version.py": version})
        self.assert_not_made("--from", "2" * 40, "not a known base", "v9.9.0")

    def test_file_that_is_not_the_bases(self) -> None:
        write_wheel(self.source, {**FILES, PATCHED: b"somebody's\n"})
        self.assert_not_made("1 file(s) are not those of base v9.9.0", PATCHED)

    def test_damaged(self) -> None:
        write_wheel(self.source, FILES, record=f"{OLD}/RECORD,,\n")
        self.assert_not_made("is damaged", "not mentioned in RECORD")
        content = self.source.read_bytes()
        self.source.write_bytes(content[: len(content) // 2])
        self.assert_not_made("is damaged")

    def test_nothing_is_left_of_a_wheel_that_could_not_be_written(self) -> None:
        full = OSError(28, "No space left on device")
        with mock.patch.object(wheels, "copyfileobj_with_hashing", side_effect=full):
            with self.assertRaisesRegex(OSError, "No space left"):
                self.make()
        self.assertEqual(os.listdir(self.out), [])

    def test_a_source_is_not_replaced(self) -> None:
        self.out = self.folder
        before = self.source.read_bytes()
        self.make()
        self.assertEqual(self.source.read_bytes(), before)

    def test_command_line(self) -> None:
        result = run_tool(
            *("wheel", "--from", self.source, "--out", self.out),
            *("--patch-set", self.patch_set),
        )
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        (made,) = self.out.iterdir()
        self.assertTrue(result.stdout.startswith(f"made {made}\n"), result.stdout)

    def test_without_the_packages(self) -> None:
        """The other commands need none."""
        hidden = self.folder / "hidden"
        hidden.mkdir()
        (hidden / "installer.py").write_text("raise ImportError(name='installer')\n")
        environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(hidden)}
        result = run_tool(
            *("wheel", "--from", self.source, "--out", self.out), env=environment
        )
        self.assertEqual(result.returncode, 3)
        self.assertIn("needs the Python package installer", result.stderr)


if __name__ == "__main__":
    unittest.main()
