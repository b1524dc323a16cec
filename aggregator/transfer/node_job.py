"""Which pack the repository of a node is made of: a small file, the first in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

import msgspec

from aggregator.schemas import output_paths, pack_reader, packs
from aggregator.storage import durable_files, errors, local_files, locks
from aggregator.transfer import node_layout

_FORMAT = "aggregator-job"
_ADVICE = "Wait until it has ended, and run the same command again, which keeps what is there."


class Job(msgspec.Struct, frozen=True):
    """A job on a node."""

    format: str
    """The format."""

    pack: str
    """Checksum of the pack (`pack_reader.Pack.fingerprint`)."""

    origin: packs.Origin
    """The graph that it is a part of."""

    init_files: dict[str, str] = {}
    """Checksums of the init outputs that the pack has brought, by flat name."""


def of_pack(pack: pack_reader.Pack) -> Job:
    """Return the job that a pack is for.

    Raises
    ------
    RefusedError
        If it is none of a job.
    """
    if pack.manifest.kind != "job" or pack.manifest.head is None:
        raise errors.RefusedError(
            f"{pack.path}: holds what a job has left, not what one needs; give it to `deliver`."
        )
    return Job(_FORMAT, pack.fingerprint, pack.manifest.origin)


def read(directory: str) -> Job:
    """Return the job of a node.

    Raises
    ------
    RefusedError
        If the directory is none that a pack was unpacked in.
    """
    path = os.path.join(directory, node_layout.JOB)
    try:
        job = msgspec.json.decode(local_files.read(path), type=Job)
    except (OSError, local_files.UnusableError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise errors.RefusedError(
            f"{directory}: no pack of a job was unpacked there ({path}: {exc})."
        ) from exc
    if job.format != _FORMAT:
        raise errors.RefusedError(f"{path}: was not written by `unpack`.")
    return job


@contextlib.contextmanager
def claimed(directory: str, job: Job) -> Iterator[None]:
    """Make a directory that of a job, unless it is already, and keep others from unpacking there meanwhile.

    Raises
    ------
    RefusedError
        If anything else is in it.
    InUseError
        If another process unpacks there.
    AggregatorError
        If it can't be written.
    """
    output_paths.check_directory(directory, output_paths.Protection())
    output_paths.check_writeable(directory)
    with durable_files.writing(directory):
        os.makedirs(directory, exist_ok=True)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with locks.take(directory, fd, _ADVICE):
        _claim(directory, job)
        yield


def _claim(directory: str, job: Job) -> None:
    path = os.path.join(directory, node_layout.JOB)
    if local_files.is_taken(path):
        if read(directory).pack != job.pack:
            raise errors.RefusedError(
                f"{directory}: another pack was unpacked there. Choose another directory."
            )
        return
    # A killed process may have left temporary files.
    others = [name for name in os.listdir(directory) if durable_files.final_name(name) != node_layout.JOB]
    if others:
        raise errors.RefusedError(
            f"{directory}: is not empty, there is {others[0]!r} in it. Choose a directory that is new or "
            "empty."
        )
    durable_files.write_atomically(path, [msgspec.json.encode(job)])


def note_init_files(directory: str, job: Job, checksums: Mapping[str, str]) -> None:
    """Note the init outputs that the pack has brought, unless that is done."""
    if read(directory).init_files or not checksums:
        return
    whole = msgspec.structs.replace(job, init_files=dict(checksums))
    durable_files.write_atomically(os.path.join(directory, node_layout.JOB), [msgspec.json.encode(whole)])
