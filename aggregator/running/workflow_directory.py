"""The directory of a workflow, which was made for that, or empty; what it has is never replaced."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator

import msgspec

from aggregator.execution.workflows import workflow
from aggregator.schemas import output_paths
from aggregator.storage import durable_files, errors, local_files, uris

_MARKER = ".aggregator-workflow"
_FORMAT = "aggregator-workflow"


class Marker(msgspec.Struct, frozen=True):
    """What the file says that makes a directory one of a workflow."""

    format: str
    version: int
    system: str
    """Batch system that it is for."""
    content: str
    """Hash of all its files; empty as long as not all are there."""


def marker(directory: str) -> Marker | None:
    """Return what a directory says of itself; nothing if it is no directory of a workflow.

    Raises
    ------
    RefusedError
        If it is one of another version.
    MachineError
        If the machine is in trouble.
    """
    try:
        told = msgspec.json.decode(local_files.read(os.path.join(directory, _MARKER)), type=Marker)
    except (OSError, local_files.UnusableError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if told.format != _FORMAT:
        return None
    if told.version != 1:
        raise errors.RefusedError(f"{directory}: is a workflow of another version; write it again elsewhere.")
    return told


def check(directory: str, protection: output_paths.Protection) -> None:
    """Refuse a directory that can't become one of a workflow, and is none.

    Raises
    ------
    RefusedError
        If it is in a repository or a checkpoint, there is something else in it, or it can't be made.
    """
    if uris.is_remote(directory):
        raise errors.RefusedError(f"{directory}: workflows are directories of local file systems.")
    roots = {root: "a datastore of the repository" for root in protection.roots if not uris.is_remote(root)}
    output_paths.check_directory(
        directory, msgspec.structs.replace(protection, directories={**roots, **protection.directories})
    )
    output_paths.check_writeable(directory)
    if local_files.is_taken(directory) and marker(directory) is None and os.listdir(directory):
        raise errors.RefusedError(
            f"{directory}: there are other things in it. Choose another directory, or a new one."
        )


def write(directory: str, system: str, files: Iterable[tuple[str, str]], programs: Collection[str]) -> bool:
    """Write all files of a workflow, unless they are there; what is there stays as it is.

    Parameters
    ----------
    directory
        The directory, which was checked.
    system
        Batch system that it is for.
    files
        Paths and contents.
    programs
        Paths of those that can be executed.

    Returns
    -------
    is_new
        Whether they were not there.

    Raises
    ------
    RefusedError
        If there is another workflow.
    AggregatorError
        If something can't be written.
    """
    contents = dict(files)
    content = _hash(system, contents.items())
    told = marker(directory)
    if told is not None and told.content:
        if told.content == content:
            return False
        raise errors.RefusedError(
            f"{directory}: has another workflow, which jobs may be working on. Choose another directory, or "
            "remove it when none is."
        )
    with durable_files.writing(directory):
        os.makedirs(os.path.join(directory, workflow.LOGS), exist_ok=True)
    _mark(directory, system, "")
    for path, text in contents.items():
        _write(os.path.join(directory, path), text, is_program=path in programs)
    _mark(directory, system, content)
    return True


def _mark(directory: str, system: str, content: str) -> None:
    document = msgspec.json.encode(Marker(_FORMAT, 1, system, content))
    durable_files.write_atomically(os.path.join(directory, _MARKER), [document, b"\n"])


def _write(path: str, text: str, *, is_program: bool) -> None:
    with durable_files.writing(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
    durable_files.write_atomically(path, [text.encode()], sync=False)
    if is_program:
        with durable_files.writing(path):
            os.chmod(path, os.stat(path).st_mode | 0o111)


def _hash(system: str, files: Iterable[tuple[str, str]]) -> str:
    state = hashlib.blake2b(system.encode(), digest_size=16)
    for part in _parts(files):
        state.update(len(part).to_bytes(8, "big") + part)
    return state.hexdigest()


def _parts(files: Iterable[tuple[str, str]]) -> Iterator[bytes]:
    for path, text in files:
        yield path.encode()
        yield text.encode()
