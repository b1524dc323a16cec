"""Event logs of HTCondor as JSON or XML: a ClassAd for each event, one after the other."""

from __future__ import annotations

import xml.etree.ElementTree
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from aggregator.schemas.jobs import condor_log, job_records

_VALUES: dict[str, Callable[[xml.etree.ElementTree.Element], Any]] = {
    "s": lambda element: element.text or "",
    "i": lambda element: int(element.text or ""),
    "r": lambda element: float(element.text or ""),
    "b": lambda element: element.get("v") == "t",
}
"""What the elements of XML are that hold values; there are others, of which nothing is needed."""

_MOST_LINES = 1000
"""Lines of an event; more are none of it."""


def read_json(lines: Iterable[str], damage: job_records.Damage) -> Iterator[condor_log.Event]:
    """Yield the events of a log of JSON objects; parameters are those of `condor_log.read`."""
    return _read(lines, damage, _json_levels, msgspec.json.decode)


def read_xml(lines: Iterable[str], damage: job_records.Damage) -> Iterator[condor_log.Event]:
    """Yield the events of a log of XML elements; parameters are those of `condor_log.read`."""
    return _read(lines, damage, lambda line: (line.count("<c>"), line.count("</c>")), _parse_xml)


def _json_levels(line: str) -> tuple[int, int]:
    # What lies within an object is indented.
    text = line.rstrip()
    return int(text.startswith("{")), int(text.startswith(("}", "{")) and text.endswith("}"))


def _read(
    lines: Iterable[str],
    damage: job_records.Damage,
    levels: Callable[[str], tuple[int, int]],
    parse: Callable[[str], Any],
) -> Iterator[condor_log.Event]:
    """Yield events, given how many levels begin and end in a line."""
    parts: list[str] = []
    start = depth = 0
    for number, line in enumerate(lines, 1):
        begun, ended = levels(line)
        if not parts:
            if not begun:
                # Between events there is a declaration, or nothing.
                continue
            start = number
        parts.append(line)
        depth += begun - ended
        if depth <= 0 or len(parts) > _MOST_LINES:
            try:
                yield _event(parse("".join(parts)))
            except (ValueError, TypeError, LookupError, SyntaxError) as exc:
                damage.add(start, f"no event ({exc})")
            parts, depth = [], 0
    if parts:
        damage.add(start, "the last event is not complete")


def _parse_xml(text: str) -> dict[str, Any]:
    attributes = {}
    # There are no declarations in it, which alone could make it grow.
    for each in xml.etree.ElementTree.fromstring(text):
        value = next(iter(each), None)
        if value is not None and value.tag in _VALUES:
            attributes[each.attrib["n"]] = _VALUES[value.tag](value)
    return attributes


def _event(attributes: dict[str, Any]) -> condor_log.Event:
    numbers = [attributes[name] for name in ("EventTypeNumber", "Cluster", "Proc")]
    if not all(isinstance(each, int) for each in numbers):
        raise ValueError("EventTypeNumber, Cluster and Proc have to be whole numbers")
    text = str(attributes["EventTime"])
    zone = condor_log.ZONE.match(text, 19)
    time = text[:19].replace("T", " ") + (zone[1] if zone is not None else "")
    return condor_log.Event(numbers[0], f"{numbers[1]}.{numbers[2]}", time, attributes)
