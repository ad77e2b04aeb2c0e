"""Makes a wheel of torch with the patch set in it, from one without.

All but this module and the standard library is optional for the tool: it needs the
packages installer and packaging, and is imported only for ``overlay.py wheel``.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, BinaryIO, cast

from installer.exceptions import InstallerError
from installer.records import Hash, RecordEntry
from installer.sources import WheelFile
from installer.utils import Scheme, construct_record_file, copyfileobj_with_hashing
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from .bases import Base
from .errors import Refused, Report
from .filesystem import File, blob_of, sync_directory
from .patch_set import PatchSet, load_patch_set
from .status import VERSION, digest_in_version
from .trees import VERSION_FILE, Tree, find_git_version, require_base

_METADATA_VERSION = re.compile(rb"^(Version:)(\s*)(\S+)\s*$", re.M)


def make_wheel(source: Path, out: Path, patch_set_root: Path) -> Report:
    """Writes the wheel into the folder ``out``, whole or not at all.

    Its version is that of ``source`` with the local part rangedispatch.DIGEST, its
    RECORD is that of its files, all else is as in ``source``. The same two inputs
    make the same bytes.

    Raises:
        Refused: no wheel of torch, a damaged one, or of no base that is known.
    """
    patch_set = load_patch_set(patch_set_root)
    try:
        name, version, _, _ = parse_wheel_filename(source.name)
        if name != "torch":
            raise Refused(f"--from {source}: a wheel of torch is needed, not of {name}")
        with WheelFile.open(source) as wheel, zipfile.ZipFile(source) as archive:
            wheel.validate_record()
            base = _base(source, archive, patch_set)
            digest = patch_set.digest(base)
            version = _local_version(version, digest)
            changed = _changed(archive, wheel.dist_info_dir, patch_set, base, version)
            tags = "-".join(source.stem.split("-")[2:])
            target = out / f"torch-{version}-{tags}.whl"
            _write(wheel, changed, version, target)
    except InvalidWheelFilename as error:
        raise Refused(f"--from {source}: {error}") from None
    except FileNotFoundError:
        raise Refused(f"--from {source}: there is no such file") from None
    except (zipfile.BadZipFile, InstallerError) as error:
        raise Refused(f"--from {source} is damaged: {error}") from None
    return Report(
        f"made {target}",
        lines=(f"version {version}, {len(changed)} files are not as in the other",),
        details={
            "outcome": "made",
            "wheel": str(target),
            "version": str(version),
            "base": base.tag,
            "patch_set": digest,
        },
    )


def _base(source: Path, archive: zipfile.ZipFile, patch_set: PatchSet) -> Base:
    file = _read(archive, VERSION_FILE)
    commit = None if file is None else find_git_version(file.content.decode())
    tree = Tree(source, is_checkout=False, commit=commit or "unknown")
    try:
        return require_base(tree, patch_set.bases)
    except Refused as error:
        raise Refused(f"--from {error}") from None


def _local_version(version: Version, digest: str) -> Version:
    if version.local is not None and "rangedispatch" in version.local:
        raise Refused(f"the wheel is one of ours already: its version is {version}")
    local = f"{version.local}." if version.local else ""
    return Version(f"{version.public}+{local}rangedispatch.{digest_in_version(digest)}")


def _read(archive: zipfile.ZipFile, name: str) -> File | None:
    """The file of that name, None if there is none."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        return None
    return File(archive.read(info), bool(info.external_attr >> 16 & 0o100))


def _changed(
    archive: zipfile.ZipFile,
    folder: str,
    patch_set: PatchSet,
    base: Base,
    version: Version,
) -> dict[str, File | None]:
    """What becomes of each file that is not copied as it is; None: it goes."""
    pristine = {path: _read(archive, path) for path in patch_set.paths(base)}
    problems = [
        f"{path} ({blob_of(file) or 'missing'})"
        for path, file in pristine.items()
        if not base.accepts(path, blob_of(file))
    ]
    if problems:
        raise Refused(
            f"{archive.filename}: {len(problems)} file(s) are not those of base "
            f"{base.tag}: {', '.join(problems)}"
        )
    changed = dict(patch_set.make(base, pristine).files)
    metadata = f"{folder}/METADATA"
    for path, pattern in ((VERSION_FILE, VERSION), (metadata, _METADATA_VERSION)):
        file = _read(archive, path)
        found = None if file is None else pattern.search(file.content)
        if file is None or found is None:
            raise Refused(f"{archive.filename}: {path} does not say the version")
        start, end = found.span(3)
        content = file.content[:start] + str(version).encode() + file.content[end:]
        changed[path] = File(content, file.executable)
    return changed


def _write(
    wheel: WheelFile,
    changed: Mapping[str, File | None],
    version: Version,
    target: Path,
) -> None:
    """Writes the archive under another name first, and reads it once more."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".torch", dir=target.parent) as beside:
        draft = Path(beside, target.name)
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
            _fill(wheel, changed, f"torch-{version}.dist-info", archive)
        with draft.open("rb") as stream, WheelFile.open(draft) as made:
            made.validate_record()
            os.fsync(stream.fileno())
        os.replace(draft, target)
    sync_directory(target.parent)


def _fill(
    wheel: WheelFile,
    changed: Mapping[str, File | None],
    folder: str,
    archive: zipfile.ZipFile,
) -> None:
    entries: list[RecordEntry] = []

    def put(name: str, executable: bool, stream: IO[bytes]) -> None:
        info = zipfile.ZipInfo(name)  # of no date, so that it is always the same
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = (0o100755 if executable else 0o100644) << 16
        with archive.open(info, "w", force_zip64=True) as out:
            source, target = cast("BinaryIO", stream), cast("BinaryIO", out)
            digest, size = copyfileobj_with_hashing(source, target, "sha256")
        entries.append(RecordEntry(name, Hash("sha256", digest), size))

    old = wheel.dist_info_dir
    # Signatures are of what the wheel was.
    done = {f"{old}/{name}" for name in ("RECORD", "RECORD.jws", "RECORD.p7s")}
    for (name, _, _), stream, executable in wheel.get_contents():
        if name not in done and name not in changed:
            is_info = name.startswith(f"{old}/")
            put(
                folder + name.removeprefix(old) if is_info else name, executable, stream
            )
    for name, file in sorted(changed.items()):
        if file is not None:
            name = name.replace(f"{old}/", f"{folder}/")
            put(name, file.executable, io.BytesIO(file.content))
    entries.append(RecordEntry(f"{folder}/RECORD", None, None))
    scheme = Scheme("purelib")
    with construct_record_file([(scheme, entry) for entry in entries]) as record:
        put(f"{folder}/RECORD", False, record)
