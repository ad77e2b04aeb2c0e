"""Where the Python-only route takes torch's binaries from, and whether they match."""

import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from build_tool.checkout import Checkout
from build_tool.pythons import Python
from overlay_tool.trees import find_git_version
from setup_tool.steps import SetupError

_EXTENSION = re.compile(r"^torch/_C\.(.+)$")
_CUDA = re.compile(r"^cuda\s*(?::[^=\n]*)?=\s*['\"]([^'\"]+)['\"]", re.MULTILINE)
_VERSION = re.compile(r"^__version__\s*(?::[^=\n]*)?=\s*['\"]([^'\"]+)['\"]", re.M)


@dataclass(frozen=True)
class Binaries:
    """A wheel file, the folder of an installed torch, or neither: pip's index."""

    wheel: Path | None
    installed: Path | None
    argument: str

    @property
    def digest(self) -> str:
        """Changes when another file or folder is named, or the file changes."""
        if self.wheel is not None:
            status = self.wheel.stat()
            return f"{self.wheel} {status.st_size} {status.st_mtime_ns}"
        return str(self.installed) if self.installed is not None else "index"


def check_match(
    binaries: Binaries, checkout: Checkout, python: Python, device: str | None
) -> str:
    """What the binaries are, in words; raises SetupError unless they match."""
    if binaries.wheel is not None:
        version_file, names = _read_wheel(binaries)
    elif binaries.installed is not None:
        version_file, names = read_folder(binaries.argument, binaries.installed)
    else:
        return f"torch=={checkout.release} of pip's index"
    what = binaries.argument
    return check_version(what, version_file, names, checkout, python, device)


def check_version(
    what: str,
    version_file: str,
    names: Iterable[str],
    checkout: Checkout,
    python: Python,
    device: str | None,
) -> str:
    """Compares a torch's version.py and file names with what is wanted."""
    version = _VERSION.search(version_file)
    commit = find_git_version(version_file)
    name = version[1] if version else "unknown"
    if commit != checkout.base.commit:
        raise SetupError(
            f"{what} is torch {name} of commit {commit}, and --source {checkout.root} "
            f"is of base {checkout.base.release}, commit {checkout.base.commit}: take "
            f"a wheel of {checkout.release}"
        )
    suffixes = [found[1] for found in map(_EXTENSION.match, names) if found]
    if python.suffix.removeprefix(".") not in suffixes:
        raise SetupError(
            f"{what} has no torch/_C{python.suffix} but {', '.join(suffixes) or 'none'}"
            f": it is not for {python.name} ({python.path}); choose one with --python"
        )
    cuda = _CUDA.search(version_file)
    if device is not None and (device == "cuda") != bool(cuda):
        has = f"CUDA {cuda[1]}" if cuda else "no CUDA"
        raise SetupError(f"--{device} was given and {what} has {has}: name another")
    return f"torch {name}"


def _read_wheel(binaries: Binaries) -> tuple[str, list[str]]:
    assert binaries.wheel is not None
    if not binaries.wheel.is_file():
        raise SetupError(f"{binaries.argument}: there is no such file")
    try:
        with zipfile.ZipFile(binaries.wheel) as archive:
            text = archive.read("torch/version.py").decode("utf-8", "replace")
            return text, archive.namelist()
    except (zipfile.BadZipFile, KeyError) as error:
        raise SetupError(f"{binaries.argument} is no wheel of torch: {error}") from None


def read_folder(what: str, folder: Path) -> tuple[str, list[str]]:
    """The text of version.py and the names beside it, of an unpacked torch."""
    try:
        text = (folder / "torch" / "version.py").read_text(encoding="utf-8")
        names = [f"torch/{entry.name}" for entry in (folder / "torch").iterdir()]
    except OSError as error:
        raise SetupError(f"{what} holds no installed torch: {error}") from None
    return text, names
