"""What a graph was before it came into a repository under other names: its member `origin.json`.

Readers of the middleware don't mind the member. It tells how ids of the original are found in the graph,
since logs and contents of files have the old ones for ever.
"""

import datetime
import importlib.metadata
from collections.abc import Iterator

import msgspec
from aggregator.schemas.graphs import container, id_masks
from aggregator.storage import errors

MEMBER = "origin.json"
"""Name of the member, which is not compressed."""

_VERSION = 1


class Run(msgspec.Struct, frozen=True):
    """What became of a run of which the graph has datasets."""

    source: str
    """Its name before."""

    destination: str
    """Its name now."""

    mask: str = id_masks.NONE.hex()
    """Mask of the ids of its datasets and quanta, 32 hexadecimal digits; zeros if they were kept."""


class Slice(msgspec.Struct, frozen=True):
    """Which part of another graph a graph is."""

    n_quanta: int
    """Quanta of the part."""

    n_all_quanta: int
    """Quanta of the other graph."""

    quanta: str
    """Hash of the ids of the quanta of the part, as they were."""


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """One transfer that a graph has gone through."""

    created: str
    """When, ISO 8601, UTC."""

    tool: str
    """What has done it."""

    source: str
    """Where the graph was before."""

    fingerprint: str = ""
    """Hash of the names, sizes and checksums of its members then."""

    runs: tuple[Run, ...] = ()
    """Its runs; the output run comes first."""

    replaced: dict[str, str] = {}
    """Ids that datasets would have now if they had not been left out, and those of the datasets that are in
    their places: 32 digits each."""

    slice: Slice | None = None
    """Which part of it was taken; nothing for all of it."""


class _Document(msgspec.Struct):
    version: int
    origins: tuple[Origin, ...]


_decoder = msgspec.json.Decoder(_Document)


def begun(source: str, fingerprint: str, part: Slice | None = None) -> Origin:
    """Return what a transfer that is made now can tell of a graph.

    Parameters
    ----------
    source, fingerprint
        Where it is, and the hash of its members.
    part
        Which part of it is taken; nothing for all of it.
    """
    now = datetime.datetime.now(datetime.UTC)
    name = f"quantum-graph-aggregator {importlib.metadata.version('quantum-graph-aggregator')}"
    return Origin(now.isoformat(timespec="seconds"), name, source, fingerprint, slice=part)


def encode(origins: tuple[Origin, ...]) -> bytes:
    """Return the content of the member; the oldest transfer comes first."""
    return msgspec.json.encode(_Document(_VERSION, origins))


def read(source: container.Container) -> tuple[Origin, ...]:
    """Return the transfers that a graph has gone through, the oldest first; nothing if there were none.

    Raises
    ------
    FormatError
        If it says so in a way that is not understood.
    """
    if MEMBER not in source:
        return ()
    try:
        document = _decoder.decode(source.read(MEMBER))
        if document.version != _VERSION:
            raise ValueError(f"version {document.version} is not known; use a newer version of this program")
        for run in (run for origin in document.origins for run in origin.runs):
            if len(bytes.fromhex(run.mask)) != id_masks.SIZE:
                raise ValueError(f"{run.mask!r} is no mask")
    except (ValueError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise errors.FormatError(source.path, MEMBER, str(exc)) from exc
    return document.origins


def present_ids(origins: tuple[Origin, ...], former: str) -> Iterator[str]:
    """Yield ids, 32 digits each, that a former id may have in the graph now.

    Parameters
    ----------
    origins
        What the graph has gone through.
    former
        The id at any time, 32 digits.
    """
    for begin in range(len(origins)):
        candidates = {former}
        for origin in origins[begin:]:
            candidates = {after for each in candidates for after in _after(origin, each)}
        yield from sorted(candidates - {former})


def _after(origin: Origin, digits: str) -> Iterator[str]:
    masks = {id_masks.NONE, *(bytes.fromhex(run.mask) for run in origin.runs)}
    for now in (id_masks.apply_to_digits(mask, digits) for mask in masks):
        yield origin.replaced.get(now, now)


def former_id(origins: tuple[Origin, ...], run: str, digits: str) -> str | None:
    """Return the id, 32 digits, that a node had before all transfers; nothing if that can't be told.

    Parameters
    ----------
    origins
        What the graph has gone through.
    run
        Run of the node, as it is called now.
    digits
        Its id now.
    """
    for origin in reversed(origins):
        sources = [each for each in origin.runs if each.destination == run]
        if len(sources) > 1:
            return None
        digits = next((new for new, present in origin.replaced.items() if present == digits), digits)
        if sources:
            digits = id_masks.apply_to_digits(bytes.fromhex(sources[0].mask), digits)
        run = sources[0].source if sources else run
    return digits
