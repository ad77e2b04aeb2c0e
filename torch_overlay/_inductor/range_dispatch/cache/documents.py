"""JSON files of one format and version: read strictly, replaced as a whole."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


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

    def read(
        self, path: str, parsers: Mapping[str, Callable[[Any], Any]]
    ) -> dict[str, list[Any]]:
        """What ``parsers`` make of the items of the lists that a file has by the keys.

        Raises:
            ``error``: it is damaged, of another format or version, or refused in part.
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
        found: dict[str, list[Any]] = {key: [] for key in parsers}
        for key, parse in parsers.items():
            if not isinstance(content.get(key), list):
                raise self.error(f"{path} is damaged: {key!r} must be a list")
            for index, item in enumerate(content[key]):
                try:
                    found[key].append(parse(item))
                except (TypeError, ValueError, KeyError) as error:
                    place = f"{path} is damaged: {key}[{index}]"
                    raise self.error(f"{place}: {error!r}") from error
        return found

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


def parsed(kind: Any, raw: Any, name: str) -> Any:
    """A value of an annotated type, made of what JSON has for it.

    ``kind`` is a dataclass, whose fields with a default may be missing, or what its
    fields are annotated with: a tuple, a mapping, something optional or a plain type.
    ``name`` is what errors call it.

    Raises:
        KeyError: a field is missing.
        TypeError, ValueError: something is of another type, or of another length.
    """
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        types = typing.get_type_hints(kind)
        given = [
            field.name
            for field in dataclasses.fields(kind)
            if field.default is dataclasses.MISSING or field.name in raw
        ]
        return kind(**{key: parsed(types[key], raw[key], key) for key in given})
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if type(None) in args:
        return None if raw is None else parsed(args[0], raw, name)
    if origin is tuple:
        values = _checked(raw, list, name)
        kinds = args[:1] * len(values) if args[-1] is ... else args
        if len(kinds) != len(values):
            raise ValueError(f"{name} does not unpack into {len(kinds)}: {raw!r}")
        return tuple(parsed(*one, name) for one in zip(kinds, values))
    if origin in (dict, Mapping):
        items = _checked(raw, dict, name).items()
        return {key: parsed(args[1], value, name) for key, value in items}
    if kind is float:
        return float(_checked(raw, (float, int), name))
    return _checked(raw, kind, name)


def _checked(raw: Any, kind: Any, name: str) -> Any:
    if not isinstance(raw, kind) or (isinstance(raw, bool) and kind is not bool):
        raise TypeError(f"{name} is {raw!r}")
    return raw
