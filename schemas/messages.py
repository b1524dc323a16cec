"""Messages between the coordinator and the workers (docs/design.md, Processes)."""

import msgspec
from aggregator.schemas import output_paths
from aggregator.schemas.checkpoints import digest, ledger
from aggregator.storage import locks


class Setup(msgspec.Struct, frozen=True):
    """Everything a role needs to know before its first message."""

    graph_path: str
    """Predicted graph."""
    graph_fingerprint: str
    """Hash of what is in it."""
    butler_path: str
    """Repository."""
    checkpoint: str
    """Checkpoint directory."""
    verify_checkpoint: bool
    """Whether files of quanta that succeeded are looked at again, too."""
    identity: digest.Identity
    """What digests belong to."""
    begun: int
    """Nanoseconds since 1970 before which no digest was made."""
    requests: int | None
    """Files that a scanner has under way at a time; nothing if it is to find out what is best."""
    zstd_level: int
    """Compression level."""
    mock_storage_classes: bool
    """Whether storage classes of mocks are known."""
    output_path: str | None
    """Where the graph goes."""
    incomplete: bool
    """Whether execution goes on."""
    dry_run: bool
    """Whether the database stays as it is."""
    promise_ingest_graph: bool
    """Whether logs, metadata and configs are left to a later ingestion of the graph."""
    defensive_ingest: bool
    """Whether to look for ingested datasets from the start."""
    ingest_batch_size: int
    """Datasets of a batch."""
    register_dataset_types: bool
    """Whether to register dataset types."""
    update_output_chain: bool
    """Whether to put the run into the output chain."""
    ownership: locks.Ownership
    """What shows whether the checkpoint is still ours."""
    protection: output_paths.Protection
    """What must not be written."""
    worker_log_dir: str | None
    """Where workers write logs."""
    worker_log_level: str
    """Their level."""
    worker_profile_dir: str | None
    """Where workers write profiles."""
    stories: bytes = b""
    """What records of jobs tell of quanta (`aggregator.schemas.jobs.stories`)."""


class ScanShard(msgspec.Struct, frozen=True):
    """To a scanner: make the digest of a shard. Shard 0 is the init quanta."""

    shard: int
    """Number of the shard."""
    ids: bytes
    """Ids of its quanta, 16 bytes each."""
    offsets: bytes
    """Offsets of their predicted blocks, int64."""
    sizes: bytes
    """Sizes of their predicted blocks, int64."""


class FindFile(msgspec.Struct, frozen=True):
    """To a scanner: look whether anything of a shard exists."""

    request: ScanShard
    """The shard."""


class FileFound(msgspec.Struct, frozen=True):
    """From a scanner: whether anything of a shard exists."""

    path: str
    """A file; empty if there is none."""
    n_expected: int
    """Outputs looked for."""
    trouble: str
    """Why one of them can't be looked at; empty if all can."""


class Problem(msgspec.Struct, frozen=True):
    """A file that exists and can't be read, parsed or validated."""

    quantum_id: str
    """Quantum it belongs to."""
    path: str
    """The file."""
    reason: str
    """What is wrong."""


class ShardScanned(msgspec.Struct, frozen=True):
    """From a scanner: a digest is on disk."""

    shard: int
    """Number of the shard."""
    checksum: str
    """Checksum of the digest."""
    statuses: bytes
    """Status of each quantum, int8."""
    tasks: bytes
    """Index of the task of each quantum, uint16."""
    problems: list[Problem]
    """Unreadable files."""
    n_reused: int
    """Quanta that an earlier digest of the shard already told of."""
    discarded: str
    """Why an earlier digest of the shard could not be used; empty if it could, or there was none."""
    absent: bytes = b""
    """Whether neither log nor metadata of a quantum exist, bool for each."""


class LookAgain(msgspec.Struct, frozen=True):
    """To a scanner: look whether anything has changed of shards that have digests."""

    shards: tuple[ScanShard, ...]
    """The shards."""


class LookedAgain(msgspec.Struct, frozen=True):
    """From a scanner: which digests tell what there is now."""

    unchanged: list[ShardScanned]
    """What they say."""
    others: list[int]
    """Numbers of shards that have to be scanned."""


class CommitShard(msgspec.Struct, frozen=True):
    """To the ingester and the writer: take a digest in."""

    shard: int
    """Number of the shard."""
    verdicts: bytes
    """Verdict of each quantum, int8."""


class Begin(msgspec.Struct, frozen=True):
    """To the ingester: all workers are set up, the database may be changed."""


class Flush(msgspec.Struct, frozen=True):
    """To the ingester: commit what is left, nothing more comes."""


class Confirm(msgspec.Struct, frozen=True):
    """To the ingester: everything is committed; make sure that it is there, and still true."""


class Conflict(msgspec.Struct, frozen=True):
    """A dataset that the database refused."""

    reason: str
    """What it is in conflict with; names dataset type, data ID and ids."""


class Ingested(msgspec.Struct, frozen=True):
    """From the ingester: how far it is."""

    committed: list[ledger.Line]
    """Shards whose datasets are in the database since the last report."""
    n_ingested: int
    """Datasets inserted."""
    n_skipped: int
    """Datasets that were there already."""
    conflicts: list[Conflict]
    """Datasets refused."""
    n_again: int = 0
    """Datasets that were committed, had gone from the database, and are in it again."""
    n_stale: int = 0
    """Datasets of the graph that are in the database, but would not be brought in any more."""
    stale: list[str] = []
    """Ids of some of them."""


class ShardTaken(msgspec.Struct, frozen=True):
    """From the writer: a digest's logs are in the graph file."""

    shard: int
    """Number of the shard."""


class BuildOutputs(msgspec.Struct, frozen=True):
    """To a scanner: build the part of the dataset section that holds a shard's outputs."""

    shard: int
    """Number of the shard."""
    verdicts: bytes
    """Verdict of each quantum, int8."""
    consumers: bytes
    """Ranges of shards (first, first after) that may read outputs of this one, ascending, pairs of int32."""


class OutputsBuilt(msgspec.Struct, frozen=True):
    """From a scanner: the part of a shard is on disk."""

    shard: int
    """Number of the shard."""
    n_edges: int
    """Edges from its outputs to quanta that read them."""
    n_shared: int
    """How many of these quanta take the dataset for an overall input."""


class PlanInputs(msgspec.Struct, frozen=True):
    """To the writer: divide the overall inputs into ranges of ids."""

    n_edges: int
    """Edges from all outputs."""
    n_shared: int
    """How many of these look like edges from overall inputs."""


class InputRanges(msgspec.Struct, frozen=True):
    """From the writer: how overall inputs are to be found."""

    bounds: list[bytes]
    """First id of each range but the first."""
    careful: bool
    """Whether all edges have to be compared with all outputs."""
    n_edges: int
    """Edges that are not from outputs."""


class CopyBlocks(msgspec.Struct, frozen=True):
    """To the writer: copy the blocks that were not copied yet."""


class BuildInputs(msgspec.Struct, frozen=True):
    """To a scanner: build one range of overall inputs."""

    number: int
    """Number of the range."""
    begin: bytes
    """First id; empty for no bound."""
    end: bytes
    """First id after the range; empty for no bound."""
    careful: bool
    """Whether all edges have to be compared with all outputs."""
    n_shards: int
    """Number of shards, the one of init quanta included."""


class InputsBuilt(msgspec.Struct, frozen=True):
    """From a scanner: a range is on disk."""

    number: int
    """Number of the range."""
    n_edges: int
    """Edges from its datasets to quanta that read them."""


class FinishGraph(msgspec.Struct, frozen=True):
    """To the writer: put the graph together from digests, outputs of all shards and this many ranges."""

    n_ranges: int
    """Number of ranges of overall inputs."""


class PublishGraph(msgspec.Struct, frozen=True):
    """To the writer: everything is ingested; move the graph to its place."""


class GraphWritten(msgspec.Struct, frozen=True):
    """From the writer: the graph is in its place."""

    size: int
    """Size in bytes."""


class Ready(msgspec.Struct, frozen=True):
    """From any worker: a message is done that needs no other answer."""


Request = (
    ScanShard
    | LookAgain
    | FindFile
    | Begin
    | CommitShard
    | Flush
    | Confirm
    | BuildOutputs
    | PlanInputs
    | CopyBlocks
    | BuildInputs
    | FinishGraph
    | PublishGraph
)
"""What workers are told."""

Reply = (
    ShardScanned
    | LookedAgain
    | FileFound
    | Ingested
    | ShardTaken
    | OutputsBuilt
    | InputRanges
    | InputsBuilt
    | GraphWritten
    | Ready
)
"""What they answer, one reply to each request."""
