"""Takes away what scripts/build made."""

from pathlib import Path

from build_tool.checkout import Checkout
from build_tool.links import exclude, find_links, remove_links
from build_tool.place import load_state, Place, place_of
from overlay_tool.filesystem import remove_directory_tree
from setup_tool.lock import locked
from setup_tool.steps import say


def remove(checkout: Checkout, place: Place, dry_run: bool) -> None:
    """Removes the links, the environment and the folder; the overlay stays."""
    if place.folder.exists():
        state = load_state(place)
        if state.environment:
            place = place_of(checkout.root, Path(state.environment))
    links = list(find_links(checkout.root))
    folders = [place.folder]
    if place.folder not in place.environment.parents and place.folder.exists():
        folders.insert(0, place.environment)
    folders = [folder for folder in folders if folder.exists()]
    verb = "would remove" if dry_run else "removed"
    if not dry_run:
        if place.folder.exists():
            with locked(place.lock):
                _remove(checkout, links, folders)
        else:
            _remove(checkout, links, folders)
    for folder in folders:
        say(f"{verb} {folder}")
    say(f"{verb} {len(links)} links from {checkout.root}")
    say(f"the overlay stays: scripts/overlay.py revert --tree {checkout.root}")


def _remove(checkout: Checkout, links: list[str], folders: list[Path]) -> None:
    remove_links(checkout.root, links)
    exclude(checkout, ())
    for folder in folders:
        remove_directory_tree(folder)
