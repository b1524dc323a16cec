"""Reads exports of repositories (transfer.md section 2.1), entry by entry, lists of datasets in parts.

So no memory grows with a file. What an entry means is for those to say who know dimensions and collections.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import IO, Any, Final

import yaml
from aggregator.schemas import bundle, repository_export
from aggregator.storage import errors, local_files

_PARSER: Any = getattr(yaml, "CParser", yaml.SafeLoader)
_ENTRIES: Final = "data"
_PARTED: Final = "records"


class Export:
    """An export, opened for reading.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FormatError
        If it is no export, or of a version that nobody here knows.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        head = {
            name: value
            for name, value in self._fields(stops=True)
            if name in ("version", "universe_version", "universe_namespace")
        }
        self._check_version(head.get("version"))
        namespace, version = head.get("universe_namespace", "daf_butler"), head.get("universe_version", 0)
        if not isinstance(version, int) or not isinstance(namespace, str):
            raise self._problem("does not tell its dimension universe")
        self.head = repository_export.Head(version, namespace)
        """What stands before its entries."""

    def _check_version(self, version: Any) -> None:
        if version == 0:
            return
        match = re.fullmatch(r"(\d+)\.(\d+)(?:\.\d+)?", str(version))
        if match is None:
            raise self._problem("is no export of a repository: it has no version")
        if match[1] != "1" or match[2] != "0":
            raise self._problem(f"has version {version} of the format; this program knows 1.0")

    def _problem(self, text: str, where: str = "") -> errors.FormatError:
        return errors.FormatError(self.path, where, f"{text}; export again")

    def entries(self) -> Iterator[dict[str, Any]]:
        """Iterate over the entries; one with many records comes several times, each with some of them.

        Raises
        ------
        FormatError
            If the file is cut off or damaged.
        """
        for name, value in self._fields(stops=False):
            if name == _ENTRIES:
                yield value

    def _fields(self, *, stops: bool) -> Iterator[tuple[str, Any]]:
        """Yield the fields at the top: each entry as one of its own, or nothing from the first on."""
        try:
            with open(local_files.open_file(self.path), "rb") as stream:
                yield from _Reading(stream).fields(stops=stops)
        except (OSError, local_files.UnusableError) as exc:
            raise errors.FormatError(
                self.path, "", f"the export can't be read ({local_files.reason(exc)})"
            ) from exc
        except (yaml.YAMLError, ValueError, RecursionError) as exc:
            raise self._problem(f"is damaged or cut off: {exc}") from exc


class _Reading:
    """Makes values of a stream of YAML."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._events = yaml.parse(stream, Loader=_PARSER)
        self._anchors: dict[str, Any] = {}
        self._resolver: Any = yaml.resolver.Resolver()
        self._constructor = yaml.constructor.SafeConstructor()

    def fields(self, *, stops: bool) -> Iterator[tuple[str, Any]]:
        for _ in range(2):
            next(self._events, None)
        if not isinstance(next(self._events, None), yaml.MappingStartEvent):
            raise ValueError("it is no mapping")
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            name = str(self._value(event))
            event = self._next()
            if name != _ENTRIES or not isinstance(event, yaml.SequenceStartEvent):
                yield name, self._value(event)
                continue
            if stops:
                return
            while not isinstance(event := self._next(), yaml.SequenceEndEvent):
                if not isinstance(event, yaml.MappingStartEvent):
                    raise ValueError(f"an entry is no mapping (line {event.start_mark.line + 1})")
                for entry in self._entry():
                    yield _ENTRIES, entry

    def _next(self) -> Any:
        event = next(self._events, None)
        if event is None:
            raise ValueError("it ends too early")
        return event

    def _entry(self) -> Iterator[dict[str, Any]]:
        """Yield an entry, in parts if it has many records; what comes before these is in each part."""
        entry: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            name = str(self._value(event))
            event = self._next()
            if name != _PARTED or not isinstance(event, yaml.SequenceStartEvent):
                entry[name] = self._value(event)
                continue
            entry[name] = []
            while not isinstance(event := self._next(), yaml.SequenceEndEvent):
                entry[name].append(self._value(event))
                if len(entry[name]) == bundle.DATASETS_AT_ONCE:
                    yield dict(entry)
                    entry[name] = []
        yield entry

    def _value(self, event: Any) -> Any:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise ValueError(f"it refers to {event.anchor!r}, which is not there")
            return self._anchors[event.anchor]
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = []
            while not isinstance(inner := self._next(), yaml.SequenceEndEvent):
                value.append(self._value(inner))
        elif isinstance(event, yaml.MappingStartEvent):
            pairs = {}
            while not isinstance(inner := self._next(), yaml.MappingEndEvent):
                key = self._value(inner)
                if not isinstance(key, str | int):
                    raise ValueError(f"a key is {key!r}")
                pairs[key] = self._value(self._next())
            value = _tagged(event.tag, pairs)
        else:
            raise ValueError("it ends too early")
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        return value

    def _scalar(self, event: Any) -> Any:
        text = event.value
        match event.tag:
            case "!uuid":
                return uuid.UUID(text)
            case "!butler_time/tai/iso":
                return repository_export.time_of_text(text)
            case "!lsst.daf.butler.Timespan":
                raise ValueError(f"a time span is {text!r}")
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._resolver.resolve(yaml.ScalarNode, text, event.implicit)
        if tag == "tag:yaml.org,2002:str":
            return text
        return self._constructor.construct_object(yaml.ScalarNode(tag, text), deep=True)


def _tagged(tag: str | None, pairs: dict[Any, Any]) -> Any:
    """Return what a mapping with a tag means."""
    if tag is None or tag in ("!", "tag:yaml.org,2002:map"):
        return pairs
    if tag == "!lsst.daf.butler.Timespan":
        return repository_export.Timespan(pairs.get("begin"), pairs.get("end"))
    if tag.startswith("lsst.sphgeom.") and isinstance(pairs.get("encoded"), str):
        return repository_export.Region(bytes.fromhex(pairs["encoded"]))
    raise ValueError(f"nobody knows what {tag!r} is")
