"""Files of packs at their places in a repository."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterable

from aggregator.schemas import packs
from aggregator.storage import errors, fault_points, local_files
from aggregator.transfer import payloads, scanned_run


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """A file of a pack, and a place where it belongs."""

    file: packs.OutputFile
    """The file."""

    place: scanned_run.OutputPlace
    """The place."""


@dataclasses.dataclass(slots=True)
class Written:
    """What was written of a quantum."""

    n_files: int = 0
    """Files."""

    n_bytes: int = 0
    """Their bytes."""

    replaced: list[str] = dataclasses.field(default_factory=list)
    """Those of them that have replaced others."""


def write(source: payloads.Source, targets: Iterable[Target], replaced: Collection[str]) -> Written:
    """Write files one after the other; called in threads.

    Parameters
    ----------
    source
        Where they are.
    targets
        The files.
    replaced
        Locations in which there are files that these replace.

    Raises
    ------
    TakenError
        If a file has come to another place in the meantime.
    AggregatorError
        If one can't be written.
    """
    written = Written()
    for target in targets:
        file, place = target.file, target.place
        has_file = place.location in replaced
        content = source.pieces(file.name, file.size, file.checksum)
        payloads.put(place.store, place.key, file.size, content, overwrite=has_file)
        if has_file:
            written.replaced.append(place.location)
        written.n_files += 1
        written.n_bytes += file.size
        fault_points.reached("delivered")
    return written


def is_there(place: scanned_run.OutputPlace) -> bool:
    """Return whether a file is there; what can't be looked at is never missing."""
    try:
        return place.store.mark(place.key) is not None
    except local_files.UnusableError as exc:
        raise errors.FormatError(place.location, "", f"can't be used: {exc}") from exc


def is_same(target: Target) -> bool:
    """Return whether a file of a pack is in its place."""
    file, place = target.file, target.place
    with contextlib.suppress(local_files.UnusableError):
        mark = place.store.mark(place.key)
        if mark is None or mark.size != file.size:
            return False
    return payloads.checksum(payloads.pieces(place.store, place.key)) == file.checksum
