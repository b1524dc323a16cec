"""The manifest of a checkpoint: what it belongs to, and how its graph is divided (JSON)."""

import msgspec
from aggregator.schemas.checkpoints import digest, division
from aggregator.storage import durable_files, errors, local_files

VERSION = 5


class Manifest(msgspec.Struct, frozen=True):
    """What a checkpoint belongs to."""

    version: int
    """Version of the checkpoint's layout."""

    predicted_graph: str
    """Path or URI of the graph when the checkpoint was made, for people."""

    output_run: str
    """RUN collection, for people."""

    repository: str
    """Configuration file of the repository, for people."""

    identity: digest.Identity
    """What its digests belong to."""

    records: str
    """Checksum of the record attributes."""

    edges: str
    """Checksum of the edges."""

    shard_size: int
    """Quanta of the largest shards."""

    n_quanta: int
    """Quanta of the graph."""

    begun: int
    """Nanoseconds since 1970 before which nothing was scanned, by the clock of the file system."""

    graph_copy: str = ""
    """Fingerprint of the copy of a graph that is on another host, and so of the object there."""

    trained_share: float = 1.0
    """Share of the quanta that the dictionary was to be trained with that had left something by then."""

    server: str = ""
    """What the server of the repository's database said which one it is; empty if it was never asked."""

    @property
    def n_shards(self) -> int:
        """Number of shards, that of the init quanta included."""
        return len(division.bounds(self.n_quanta, self.shard_size))


class _Version(msgspec.Struct):
    version: int


def read(path: str) -> Manifest:
    """Return a manifest.

    Raises
    ------
    FormatError
        If it is missing, damaged or of another version.
    """
    data = local_files.read_part(path)
    try:
        version = msgspec.json.decode(data, type=_Version).version
        if version != VERSION:
            raise errors.FormatError(path, "", f"layout version {version}, this program knows {VERSION}")
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise errors.FormatError(path, "", f"damaged ({exc})") from exc


def write(path: str, manifest: Manifest) -> None:
    """Store a manifest, durably."""
    durable_files.write_atomically(
        path, [msgspec.json.format(msgspec.json.encode(manifest), indent=1), b"\n"]
    )
