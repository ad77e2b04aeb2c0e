"""JSON files of one format and version: read strictly, replaced as a whole."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


_Part = TypeVar("_Part")


@dataclass(frozen=True)
class DocumentKind:
    """A kind of file, and the error to raise for one that cannot be used.

    ``positive`` and ``negative`` are what messages say of a path: "is a list", "is no
    list".
    """

    format: str
    version: int
    positive: str
    negative: str
    error: type[ValueError]

    def read(self, path: str) -> dict[str, Any]:
        """What a file has.

        Raises:
            ``error``: it is damaged, of another format or of another version.
            OSError: it cannot be read.
        """
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
        except ValueError as error:
            raise self.error(f"{path} {self.negative}: {error}") from error
        if not isinstance(content, dict) or content.get("format") != self.format:
            raise self.error(
                f"{path} {self.negative}: its format is not {self.format!r}"
            )
        version = content.get("version")
        if version != self.version:
            raise self.error(
                f"{path} {self.positive} of version {version!r}, this is {self.version}"
            )
        return content

    def parts(
        self,
        path: str,
        content: Mapping[str, Any],
        key: str,
        parse: Callable[[Any], _Part],
    ) -> list[_Part]:
        """What ``parse`` makes of each entry of a list in a file that was read.

        Raises:
            ``error``: there is no list, or ``parse`` refuses an entry.
        """
        found = content.get(key)
        if not isinstance(found, list):
            raise self.error(f"{path} is damaged: {key!r} must be a list")
        parsed = []
        for index, part in enumerate(found):
            try:
                parsed.append(parse(part))
            except (TypeError, ValueError, KeyError) as error:
                place = f"{key}[{index}]"
                raise self.error(f"{path} is damaged: {place}: {error!r}") from error
        return parsed

    def replace(self, path: str, content: Mapping[str, Any]) -> None:
        """Write a file in the place of what is there; all of it, or nothing.

        Raises:
            OSError: it cannot be written.
        """
        whole = {"format": self.format, "version": self.version, **content}
        partial = f"{path}.{os.getpid()}.partial"
        try:
            with open(partial, "w", encoding="utf-8") as file:
                json.dump(whole, file, indent=1, sort_keys=True, allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.remove(partial)
            raise
