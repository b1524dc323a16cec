"""Files of datasets, taken out of datastores into a directory or an archive, with an index of what they are.

The index is that of the middleware, whose butlers can ingest such an archive.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from aggregator.butler import artifacts, dataset_refs
from aggregator.butler.dimensions import universe
from aggregator.schemas import datastore_records, output_paths, zip_index
from aggregator.storage import durable_files, errors, local_files, local_transfers, opening, uris

MODES: Final = ("auto", "copy", "link", "hardlink", "symlink", "relsymlink")
"""Ways to bring a file somewhere; it is never taken away from where it was."""

Files = Mapping[dataset_refs.DatasetRef, Sequence[artifacts.Artifact]]
"""Files of datasets, all of each."""


def directory(destination: str, roots: Iterable[str]) -> str:
    """Return the directory that is meant, which is made if need be.

    Parameters
    ----------
    destination
        Its path, with a slash at its end if it does not exist.
    roots
        Roots of datastores, in which nothing may be written.

    Raises
    ------
    ValueError
        If it is none.
    RefusedError
        If nothing may be written there.
    """
    if uris.is_remote(destination):
        raise ValueError(f"{destination}: files are retrieved to local directories only.")
    if not destination.endswith("/") and not local_files.is_directory(destination):
        raise ValueError(f"{destination}: has to be a directory; end it with a slash.")
    path = os.path.abspath(destination)
    local_roots = {root: "a datastore" for root in roots if not uris.is_remote(root)}
    output_paths.check_directory(path, output_paths.Protection(directories=local_roots))
    with durable_files.writing(path):
        os.makedirs(path, exist_ok=True)
    return path


def retrieve(
    files: Files,
    place: str,
    dimensions: universe.Universe,
    *,
    mode: str = "auto",
    preserve_path: bool = True,
    overwrite: bool = False,
    prefixed: bool = False,
) -> dict[str, zip_index.IndexedFile]:
    """Bring files to a directory, and write an index there; return them by their paths below it.

    Parameters
    ----------
    files
        The files.
    place
        The directory.
    dimensions
        All dimensions.
    mode
        How: one of `MODES`.
    preserve_path
        Whether their paths are those in the datastore; otherwise only their names are kept.
    overwrite
        Whether to replace files that are there.
    prefixed
        Whether names begin with a part of the dataset's id.

    Raises
    ------
    ValueError
        If there is no such mode, or a path would lead out of the directory.
    FileExistsError
        If files are there that are not to be replaced, or two would have one name; nothing was changed.
    AggregatorError
        If a file can't be read or written.
    """
    if mode not in MODES:
        raise ValueError(f"transfer must be one of {', '.join(MODES)}, not {mode!r}")
    targets: dict[str, tuple[artifacts.Artifact, dataset_refs.DatasetRef]] = {}
    for ref in sorted(files, key=lambda ref: ref.id):
        for file in files[ref]:
            name = _name(file, place, preserve_path, str(ref.id)[:8] + "-" if prefixed else "")
            if name in targets:
                raise FileExistsError(f"{name}: two files would have this name; keep their paths.")
            targets[name] = file, ref
    taken = [name for name in targets if local_files.is_taken(os.path.join(place, name))]
    if taken and not overwrite:
        raise FileExistsError(f"{os.path.join(place, taken[0])}: is there already, and is not replaced.")
    indexed = {}
    for name, (file, ref) in targets.items():
        size = _bring(file, os.path.join(place, name), mode)
        indexed[name] = zip_index.IndexedFile(_info(file.record, size), (ref.id,))
    index = zip_index.ZipIndex(refs=_references(files, dimensions), artifact_map=indexed)
    durable_files.write_atomically(os.path.join(place, zip_index.NAME), [zip_index.encode(index)])
    return indexed


def archive(files: Files, place: str, dimensions: universe.Universe, *, overwrite: bool) -> str:
    """Write an archive of files with their index into a directory; return its path.

    Its name follows from the names of the files in it.

    Parameters
    ----------
    files, place, dimensions
        As for `retrieve`.
    overwrite
        Whether to replace one of the same name.

    Raises
    ------
    FileExistsError
        If there is one that is not to be replaced.
    AggregatorError
        If a file can't be read or written.
    """
    with _staging(place) as staging:
        indexed = retrieve(files, staging, dimensions, mode="copy", preserve_path=False, prefixed=True)
        path = os.path.join(place, zip_index.archive_name(indexed))
        if not overwrite and local_files.is_taken(path):
            raise FileExistsError(f"{path}: is there already, and is not replaced.")
        temporary = os.path.join(staging, "archive")
        with durable_files.writing(path):
            with zipfile.ZipFile(temporary, "x") as out:
                out.write(os.path.join(staging, zip_index.NAME), zip_index.NAME, zipfile.ZIP_DEFLATED)
                for name in indexed:
                    out.write(os.path.join(staging, name), name)
            durable_files.publish(temporary, path)
    return path


@contextlib.contextmanager
def _staging(place: str) -> Iterator[str]:
    """Give a directory for files that go into an archive."""
    with durable_files.writing(place):
        staging = tempfile.TemporaryDirectory(dir=place)
    with staging as path:
        yield path


def _name(file: artifacts.Artifact, place: str, preserve_path: bool, prefix: str) -> str:
    """Return the path of a file below the directory."""
    is_elsewhere = uris.is_absolute(file.record.path)
    name = file.key if preserve_path and not is_elsewhere else prefix + os.path.basename(file.key)
    if os.path.relpath(os.path.join(place, name), place).startswith(".."):
        raise ValueError(f"{file.record.path}: would lead out of {place}.")
    return os.path.normpath(name)


def _bring(file: artifacts.Artifact, target: str, mode: str) -> int:
    """Bring a file somewhere; return its size in bytes."""
    location = file.store.location(file.key)
    try:
        with opening.local_copy(location) as path:
            own = mode if path == location else "copy"
            local_transfers.place(path, target, own, lambda: None, lambda: None)
        return os.stat(target).st_size
    except FileNotFoundError as exc:
        raise errors.AggregatorError(
            f"{location}: is not there any more. Nothing else was retrieved."
        ) from exc
    except OSError as exc:
        raise errors.of_system(OSError(exc.errno, exc.strerror or str(exc), target)) from exc


def _info(record: datastore_records.FileRecord, size: int) -> zip_index.FileInfo:
    return zip_index.FileInfo(
        formatter=record.formatter,
        path=record.path,
        storage_class=record.storage_class,
        component=record.component,
        checksum=record.checksum,
        file_size=size,
    )


def _references(
    refs: Iterable[dataset_refs.DatasetRef], dimensions: universe.Universe
) -> zip_index.References:
    types, compact = {}, {}
    for ref in refs:
        kind = ref.datasetType
        types[kind.name] = zip_index.IndexedType(
            name=kind.name, storage_class=kind.storage_class, dimensions=tuple(kind.dimensions.required)
        )
        compact[ref.id] = zip_index.IndexedRef(kind.name, ref.run, dict(ref.dataId))
    return zip_index.References(
        universe_version=dimensions.version,
        universe_namespace=dimensions.namespace,
        dataset_types=types,
        compact_refs=compact,
    )
