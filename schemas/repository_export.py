"""Exports of repositories as the middleware writes and reads them: a YAML file that tells of files beside it.

Implements transfer.md section 2.1: values and writing; `export_reader` reads them.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import uuid
from collections.abc import Mapping
from typing import IO, Any, Final

import yaml
from aggregator.storage import local_files

NAME: Final = "export.yaml"
"""Usual name of the file."""

VERSION: Final = "1.0.2"

_HEAD: Final = b"description: Butler Data Repository Export\n"
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_EPOCH: Final = datetime.datetime(1970, 1, 1)
_TIME: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?")
_REGIONS: Final = {
    b"p": "ConvexPolygon",
    b"c": "Circle",
    b"b": "Box",
    b"e": "Ellipse",
    b"u": "UnionRegion",
    b"i": "IntersectionRegion",
}
"""Classes of regions by the first byte of their code."""


class Time(int):
    """A time: nanoseconds TAI."""


class Region(bytes):
    """The code of a region of the sky."""


@dataclasses.dataclass(frozen=True, slots=True)
class Timespan:
    """A time span whose ends are there if it is bounded."""

    begin: Time | None
    """Begin."""

    end: Time | None
    """End; the span does not contain it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """What stands before the entries."""

    universe_version: int
    """Version of the dimension universe."""

    universe_namespace: str
    """Its namespace."""


def is_export(path: str) -> bool:
    """Return whether a file begins as exports do."""
    try:
        with open(local_files.open_file(path), "rb") as stream:
            return stream.read(len(_HEAD)) == _HEAD
    except (OSError, local_files.UnusableError):
        return False


class Writer:
    """Writes an export.

    Parameters
    ----------
    stream
        Where it goes.
    head
        What stands before the entries.
    """

    def __init__(self, stream: IO[bytes], head: Head) -> None:
        self._stream = stream
        stream.write(_HEAD)
        first = {
            "version": VERSION,
            "universe_version": head.universe_version,
            "universe_namespace": head.universe_namespace,
        }
        stream.write(_dumped(first) + b"data:\n")
        self._is_empty = True

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add an entry; ids, times, regions and time spans are marked as such."""
        self._is_empty = False
        self._stream.write(_dumped([entry]))

    def finish(self) -> None:
        """End the file."""
        if self._is_empty:
            self._stream.write(b"  []\n")


def _dumped(value: Any) -> bytes:
    content: bytes = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, default_flow_style=False, encoding="utf-8", allow_unicode=True
    )
    return content


class _Dumper(_DUMPER):  # type: ignore[misc]
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _tag(value: bytes) -> str:
    return f"lsst.sphgeom.{_REGIONS.get(value[:1], 'Region')}"


_Dumper.add_representer(uuid.UUID, lambda out, value: out.represent_scalar("!uuid", str(value)))
_Dumper.add_representer(
    Time, lambda out, value: out.represent_scalar("!butler_time/tai/iso", text_of_time(value))
)
_Dumper.add_representer(
    Region, lambda out, value: out.represent_mapping(_tag(value), {"encoded": bytes(value).hex()})
)
_Dumper.add_representer(
    Timespan,
    lambda out, value: out.represent_mapping(
        "!lsst.daf.butler.Timespan", {"begin": value.begin, "end": value.end}
    ),
)


def text_of_time(time: int) -> str:
    """Return a time, nanoseconds TAI, as text."""
    seconds, rest = divmod(time, 10**9)
    return f"{_EPOCH + datetime.timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}.{rest:09d}"


def time_of_text(text: str) -> Time:
    """Return a time that a text tells.

    Raises
    ------
    ValueError
        If it is none.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no time")
    *parts, fraction = match.groups()
    # An hour of 24, or a second of 60, is none here either.
    year, month, day, hour, minute, second = map(int, parts)
    since = datetime.datetime(year, month, day, hour, minute, second) - _EPOCH
    return Time((since.days * 86400 + since.seconds) * 10**9 + int((fraction or "0").ljust(9, "0")))
