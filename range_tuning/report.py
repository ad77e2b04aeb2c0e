"""Reports of tuning tables: a page and its pictures in a folder."""

from __future__ import annotations

import os
import re
import tempfile
from typing import TYPE_CHECKING

from range_tuning.pictures import pictures_of
from range_tuning.report_data import read_calls
from range_tuning.report_page import GENERATOR, page_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch._inductor.range_dispatch import LiveCount


PAGE = "index.html"
_PICTURE_FILE = re.compile(r"call-\d{2,}-[a-z0-9-]*-(times|winners|loss|tree)\.png")


def write_report(path: str, out: str, counts: Sequence[LiveCount] = ()) -> list[str]:
    """Report on the tuning table in file ``path`` in folder ``out``.

    ``out`` gets ``index.html``, which has its pictures inside, and each picture as a
    file besides. What an earlier report has left there is replaced, once all is drawn;
    other files stay. ``counts`` tell how often branches ran, if that is known, as
    ``live_counts`` and ``read_counts`` do. Returns the paths written, the page first.

    Raises:
        TableError: the table is damaged, of another format or newer than this code.
        OSError: it cannot be read, or ``out`` is a file or cannot be written.
    """
    if os.path.exists(out) and not os.path.isdir(out):
        raise NotADirectoryError(
            f"out must be a folder for the report, {out} is a file"
        )
    calls = read_calls(path)
    pictures = [pictures_of(call) for call in calls]
    title = f"Range dispatch: {os.path.basename(path)}"
    files = {PAGE: page_of(title, calls, pictures, counts).encode()}
    for number, (call, drawn) in enumerate(zip(calls, pictures), 1):
        for picture in drawn:
            op = re.sub(r"[^a-z0-9]+", "-", call.op.lower()).strip("-")[:40]
            files[f"call-{number:02}-{op}-{picture.kind}.png"] = picture.png
    _write_all(out, files)
    return [os.path.join(out, name) for name in files]


def _write_all(out: str, files: Mapping[str, bytes]) -> None:
    """Put files into a folder, the page last, so that it never lacks a picture."""
    os.makedirs(out, exist_ok=True)
    outdated = _pictures_of_earlier_report(out)
    with tempfile.TemporaryDirectory(dir=out, prefix=".partial-") as partial:
        for name, content in files.items():
            with open(os.path.join(partial, name), "wb") as file:
                file.write(content)
        for name in [*(name for name in files if name != PAGE), PAGE]:
            os.replace(os.path.join(partial, name), os.path.join(out, name))
    for name in outdated:
        if name not in files:
            os.remove(os.path.join(out, name))


def _pictures_of_earlier_report(out: str) -> list[str]:
    """The pictures in a folder, if there is a report.

    Raises:
        FileExistsError: its page is something else.
    """
    page = os.path.join(out, PAGE)
    try:
        with open(page, encoding="utf-8", errors="replace") as file:
            is_report = GENERATOR in file.read(2048)
    except FileNotFoundError:
        return []
    if not is_report:
        raise FileExistsError(f"out has a page that is no report: {page} is left alone")
    return [name for name in sorted(os.listdir(out)) if _PICTURE_FILE.fullmatch(name)]
