"""Makes a wheel of torch with the patch set in it, from one without.

All but this module and the standard library is optional for the tool: it needs the
packages installer and packaging, and is imported only for ``overlay.py wheel``.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from installer.exceptions import InstallerError
from installer.records import Hash, RecordEntry
from installer.sources import WheelFile
from installer.utils import Scheme, construct_record_file, copyfileobj_with_hashing
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from .bases import Base
from .errors import EnvironmentFailure, Refused, Report
from .files import File, blob_of
from .filesystem import sync_directory
from .patch_set import PatchSet, load_patch_set
from .status import VERSION, digest_in_version
from .trees import VERSION_FILE, Tree, find_git_version, require_base

_METADATA_VERSION = re.compile(rb"^(Version:\s*)(\S+)\s*$", re.M)
_SIGNATURES = ("RECORD.jws", "RECORD.p7s")
_FILE_TYPE = 0o100000


@dataclass(frozen=True)
class _Source:
    """An opened wheel of torch, whose RECORD holds."""

    path: Path
    archive: zipfile.ZipFile
    folder: str  # the .dist-info one
    version: Version
    tags: str

    def read(self, name: str) -> File | None:
        """The file of that name, None if there is none."""
        try:
            info = self.archive.getinfo(name)
        except KeyError:
            return None
        executable = bool(info.external_attr >> 16 & 0o100)
        return File(self.archive.read(info), executable)


def make_wheel(source: Path, out: Path, patch_set_root: Path) -> Report:
    """Writes the wheel into the folder ``out``, whole or not at all.

    Its version is that of ``source`` with the local part rangedispatch.DIGEST, its
    RECORD is that of its files, all else is as in ``source``. The same two inputs
    make the same bytes.

    Raises:
        Refused: no wheel of torch, a damaged one, or of no base that is known.
    """
    patch_set = load_patch_set(patch_set_root)
    with _opened(source) as wheel:
        base = _base(wheel, patch_set)
        digest = patch_set.digest(base)
        version = _local_version(wheel.version, digest)
        changed = _changed(wheel, patch_set, base, version)
        out.mkdir(parents=True, exist_ok=True)
        target = out / f"torch-{version}-{wheel.tags}.whl"
        if target.exists() and target.samefile(source):
            raise Refused(f"--out {out}: there the wheel would take its source's place")
        written = _write(wheel, changed, str(version), target)
    return Report(
        f"made {target}",
        lines=(f"version {version}, {written} files are not as in the other",),
        details={
            "outcome": "made",
            "wheel": str(target),
            "version": str(version),
            "base": base.tag,
            "patch_set": digest,
        },
    )


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[_Source]:
    try:
        name, version, _, _ = parse_wheel_filename(source.name)
    except InvalidWheelFilename as error:
        raise Refused(f"--from {source}: {error}") from None
    if name != "torch":
        raise Refused(f"--from {source}: a wheel of torch is needed, not of {name}")
    try:
        with WheelFile.open(source) as wheel, zipfile.ZipFile(source) as archive:
            wheel.validate_record()
            tags = "-".join(source.stem.split("-")[2:])
            yield _Source(source, archive, wheel.dist_info_dir, version, tags)
    except FileNotFoundError:
        raise Refused(f"--from {source}: there is no such file") from None
    except (zipfile.BadZipFile, InstallerError) as error:
        raise Refused(f"--from {source} is damaged: {error}") from None


def _base(wheel: _Source, patch_set: PatchSet) -> Base:
    file = wheel.read(VERSION_FILE)
    commit = None if file is None else find_git_version(file.content.decode())
    tree = Tree(wheel.path, is_checkout=False, commit=commit or "unknown")
    try:
        return require_base(tree, patch_set.bases)
    except Refused as error:
        raise Refused(f"--from {error}") from None


def _local_version(version: Version, digest: str) -> Version:
    if version.local is not None and "rangedispatch" in version.local:
        raise Refused(f"the wheel is one of ours already: its version is {version}")
    local = f"{version.local}." if version.local else ""
    return Version(f"{version.public}+{local}rangedispatch.{digest_in_version(digest)}")


def _changed(
    wheel: _Source, patch_set: PatchSet, base: Base, version: Version
) -> dict[str, File | None]:
    """What becomes of each file that is not copied as it is; None: it goes."""
    pristine = {path: wheel.read(path) for path in patch_set.paths(base)}
    problems = [
        f"{path} ({blob_of(file) or 'missing'})"
        for path, file in pristine.items()
        if not base.accepts(path, blob_of(file))
    ]
    if problems:
        raise Refused(
            f"{wheel.path}: {len(problems)} file(s) are not those of base {base.tag}: "
            + ", ".join(problems)
        )
    changed = dict(patch_set.make(base, pristine).files)
    changed[VERSION_FILE] = _renamed(wheel, VERSION_FILE, VERSION, version, 3)
    metadata = f"{wheel.folder}/METADATA"
    changed[metadata] = _renamed(wheel, metadata, _METADATA_VERSION, version, 2)
    return changed


def _renamed(
    wheel: _Source, path: str, pattern: re.Pattern[bytes], version: Version, group: int
) -> File:
    """The file with another version in the group of the pattern's first match."""
    file = wheel.read(path)
    found = None if file is None else pattern.search(file.content)
    if file is None or found is None:
        raise Refused(f"{wheel.path}: {path} does not say the version")
    start, end = found.span(group)
    content = file.content[:start] + str(version).encode() + file.content[end:]
    return File(content, file.executable)


def _write(
    wheel: _Source,
    changed: Mapping[str, File | None],
    version: str,
    target: Path,
) -> int:
    """Writes the archive under another name first, and reads it once more."""
    folder = f"torch-{version}.dist-info"
    prefix = ".torch_overlay_"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as beside:
        draft = Path(beside, target.name)
        with zipfile.ZipFile(draft, "w") as archive:
            _fill(wheel, changed, folder, archive)
        with draft.open("rb") as stream, WheelFile.open(draft) as made:
            try:
                made.validate_record()
            except InstallerError as error:
                message = f"{target}: written wrongly: {error}"
                raise EnvironmentFailure(message) from None
            os.fsync(stream.fileno())
        os.replace(draft, target)
    sync_directory(target.parent)
    return sum(file is not None for file in changed.values())


def _fill(
    wheel: _Source,
    changed: Mapping[str, File | None],
    folder: str,
    archive: zipfile.ZipFile,
) -> None:
    record = wheel.archive.getinfo(f"{wheel.folder}/RECORD")
    entries: list[RecordEntry] = []

    def put(name: str, like: zipfile.ZipInfo, mode: int, stream: IO[bytes]) -> None:
        info = zipfile.ZipInfo(name, like.date_time)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = (mode << 16) | (like.external_attr & 0xFFFF)
        info.file_size = like.file_size  # so that zipfile knows what needs ZIP64
        with archive.open(info, "w") as out:
            source, target = cast("BinaryIO", stream), cast("BinaryIO", out)
            digest, size = copyfileobj_with_hashing(source, target, "sha256")
        entries.append(RecordEntry(name, Hash("sha256", digest), size))

    def put_file(name: str, like: zipfile.ZipInfo, mode: int, file: File) -> None:
        mode = mode | 0o111 if file.executable else mode & ~0o111
        put(name, like, mode, io.BytesIO(file.content))

    infos = {info.filename: info for info in wheel.archive.infolist()}
    del infos[record.filename]
    for name, info in infos.items():
        renamed, mode = name, info.external_attr >> 16
        if name.startswith(f"{wheel.folder}/"):
            renamed = folder + name.removeprefix(wheel.folder)
            if name.endswith(_SIGNATURES):
                continue  # they signed what the wheel was
        if name not in changed:
            with wheel.archive.open(info) as stream:
                put(renamed, info, mode, stream)
        elif (file := changed[name]) is not None:
            put_file(renamed, info, mode, file)
    for name in sorted(set(changed) - set(infos)):
        if (file := changed[name]) is not None:
            put_file(name, record, _FILE_TYPE | 0o644, file)
    entries.append(RecordEntry(f"{folder}/RECORD", None, None))
    scheme = Scheme("purelib")
    with construct_record_file([(scheme, entry) for entry in entries]) as stream:
        put(f"{folder}/RECORD", record, record.external_attr >> 16, stream)
