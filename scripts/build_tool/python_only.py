"""The Python-only route: torch's Python from the checkout, all else from a wheel."""

import shutil
import sysconfig
from pathlib import Path

from build_tool import environment, preflight
from build_tool.binaries import Binaries, check_match, check_version, read_folder
from build_tool.checkout import Checkout
from build_tool.links import make_links, packages_of, plan_links
from build_tool.place import Place
from build_tool.pythons import Python
from build_tool.session import opened, Session
from build_tool.verification import say_what_next, verify
from overlay_tool.filesystem import remove_directory_tree, replace_file
from setup_tool.pins import INSTALL_GIBIBYTES, read_bases
from setup_tool.steps import say, step

ROUTE = "python-only"
PATH_FILE = "torch-range-dispatch.pth"
BESIDES = ("numpy",)
"""Torch works without, and warns of it at every start."""

NOT_COMPILED = ("--no-compile",)
"""For pip: it would compile 2000 files of Python that nobody is to import."""


def build(
    checkout: Checkout,
    place: Place,
    patch_set: Path,
    python_argument: str,
    device: str | None,
    binaries: Binaries,
    again: bool,
    dry_run: bool,
) -> None:
    """Checks, then does what is not done yet."""
    python = _check(checkout, place, python_argument, device, binaries)
    if dry_run:
        _say_plan(checkout, place, binaries)
        return
    with opened(checkout, place, patch_set, python, ROUTE) as session:
        session.apply_overlay()
        if again:
            session.forget(environment.STAGE)
        _make_environment(session, binaries, device)
        with step("links") as current:
            planned = plan_links(checkout, place.home)
            made, removed = make_links(checkout, planned)
            write_path_file(session, binaries)
            current.outcome = f"{len(planned)} to the wheel, {made} made"
            current.outcome += f", {removed} removed" if removed else ""
            session.changed |= bool(made or removed)
        verify(session)
    what = f"The Python of {checkout.root} is live: edits and new files take effect at"
    say_what_next(place, f"{what} once.")


def _check(
    checkout: Checkout,
    place: Place,
    python_argument: str,
    device: str | None,
    binaries: Binaries,
) -> Python:
    findings = preflight.Findings()
    gibibytes = _gibibytes(checkout, binaries)
    findings.check("environment", lambda: preflight.check_place(place, ROUTE))
    findings.check("old build", lambda: preflight.check_not_built(checkout))
    specifier = preflight.specifier_of(checkout)
    python = preflight.check_python(findings, place, python_argument, specifier)
    if python is not None:
        found = python
        findings.check(
            "binaries", lambda: check_match(binaries, checkout, found, device)
        )
    findings.check("compiler", preflight.check_compiler)
    if not place.home.exists():
        findings.check("disk", lambda: preflight.check_disk(checkout.root, gibibytes))
    for fact in findings.facts:
        say(fact)
    findings.require_none()
    assert python is not None
    return python


def _gibibytes(checkout: Checkout, binaries: Binaries) -> float:
    if binaries.installed is not None:
        return 0.2
    if binaries.wheel is not None:
        # Unpacked it is some four times as large.
        size = binaries.wheel.stat().st_size if binaries.wheel.is_file() else 0
        return 5 * size / preflight.machine.GIBIBYTE + 0.5
    known = read_bases(Path(__file__).resolve().parents[2])
    pinned = known.get(checkout.base.tag)
    return pinned.pins.gibibytes if pinned else INSTALL_GIBIBYTES


def _make_environment(
    session: Session, binaries: Binaries, device: str | None
) -> None:
    checkout, place = session.checkout, session.place
    requirements: list[str] = []
    if binaries.wheel is not None:
        requirements = [*NOT_COMPILED, str(binaries.wheel), *BESIDES]
    elif binaries.installed is None:
        requirements = [*NOT_COMPILED, f"torch=={checkout.release}", *BESIDES]

    def finish() -> str:
        remove_directory_tree(place.home)
        place.home.mkdir()
        folder = binaries.installed or site_packages(place, session.python)
        what = "what pip installed" if not binaries.argument else binaries.argument
        version_file, names = read_folder(what, folder)
        told = check_version(
            what, version_file, names, checkout, session.python, device
        )
        for name in packages_of(checkout.root):
            if not (folder / name).is_dir():
                continue
            if binaries.installed is not None:
                (place.home / name).symlink_to(folder / name)
            else:
                # Out of the import system's way: the checkout's is the one to find.
                # Removing or updating the package with pip then cannot reach through
                # to the checkout, either.
                shutil.move(folder / name, place.home / name)
        return told

    present = (place.home / "torch" / "version.py").is_file()
    shadow = binaries.installed is None and (
        site_packages(place, session.python) / "torch"
    ).exists()
    if not present or shadow:
        session.forget(environment.STAGE)
    inputs = [binaries.digest, checkout.base.commit, packages_of(checkout.root)]
    # With --installed pip and setuptools are there, too: no older ones before them.
    options = () if binaries.installed is None else ("--without-pip",)
    environment.prepare(session, requirements, inputs, finish, options)


def site_packages(place: Place, python: Python) -> Path:
    """Where pip puts packages, in the environment that `python` made."""
    prefix = {
        "base": str(place.environment),
        "platbase": str(place.environment),
        "py_version_short": "{}.{}".format(*python.version),
    }
    return Path(sysconfig.get_path("purelib", "venv", vars=prefix))


def write_path_file(session: Session, binaries: Binaries) -> None:
    """Has the environment import from the checkout, as an editable install does.

    With --installed its packages follow, so that torch finds what it needs there.
    """
    folders = [session.checkout.root]
    if binaries.installed is not None:
        folders.append(binaries.installed)
    content = "".join(f"{folder}\n" for folder in folders).encode()
    file = site_packages(session.place, session.python) / PATH_FILE
    if not file.exists() or file.read_bytes() != content:
        replace_file(file, content)


def _say_plan(checkout: Checkout, place: Place, binaries: Binaries) -> None:
    say("\nwould do, with all output in " + str(place.log))
    say(f"  scripts/overlay.py apply --tree {checkout.root}")
    say(f"  python -m venv {place.environment}")
    if binaries.installed is None:
        wanted = binaries.wheel or f"torch=={checkout.release}"
        say(f"  pip install {wanted} {' '.join(BESIDES)}")
        say(f"  move {' '.join(packages_of(checkout.root))} to {place.home}")
    say(f"  link from {checkout.root} what only the wheel has, and have")
    say("    .git/info/exclude ignore the links")
    say("  import torch, and see that it is the checkout's")
