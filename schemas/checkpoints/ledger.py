"""The ledger of a checkpoint: which digests the database took in (docs/design.md, Ledger).

One JSON object a line, appended after each commit. A line that is cut off, or that does not fit what is
offered, has no effect: the datasets are offered again, and those that exist are skipped.
"""

import hashlib
import os
import re
from collections.abc import Iterable

import msgspec
from aggregator.schemas.graphs import addresses
from aggregator.storage import durable_files, local_files


class Line(msgspec.Struct, frozen=True):
    """A digest's datasets are in the database."""

    repository: str
    """Database that took them in."""

    run: str
    """RUN collection."""

    shard: int
    """Shard of the digest."""

    digest: str
    """Checksum of the digest."""

    offered: str
    """Hash of the ids offered, which options and verdicts decide besides the digest."""

    n_datasets: int
    """Number of them."""


def place(database: str, namespace: str | None) -> str:
    """Return the name of a database in the ledger; a password in its URL stays out."""
    database = re.sub(r"//([^/@:]*):.*@", r"//\1@", database)
    database = re.sub(r"([?&]\w*password)=[^&]*", r"\1", database)
    return database if namespace is None else f"{database}#{namespace}"


_decoder = msgspec.json.Decoder(Line)


def hash_ids(ids: addresses.Ids) -> str:
    """Return the hash of the ids offered from a digest."""
    return hashlib.blake2b(ids.tobytes(), digest_size=16).hexdigest()


def read(path: str, repository: str, run: str) -> dict[int, Line]:
    """Return the last line of each shard for a repository and run; nothing if there is no ledger."""
    return {line.shard: line for line in read_all(path) if (line.repository, line.run) == (repository, run)}


def read_all(path: str) -> list[Line]:
    """Return the last line of each shard for each repository and run; nothing if there is no ledger."""
    result: dict[tuple[str, str, int], Line] = {}
    if not local_files.exists(path):
        return []
    for text in local_files.read_part(path).splitlines():
        try:
            line = _decoder.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # The process died while it appended.
            continue
        result[line.repository, line.run, line.shard] = line
    return list(result.values())


def append(path: str, lines: Iterable[Line]) -> None:
    """Add lines; a line that was cut off before is closed first."""
    text = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    with durable_files.writing(path), open(path, "ab+") as stream:
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                text = b"\n" + text
        stream.write(text)
