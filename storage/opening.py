"""From a root as it is configured to its store, and from the location of a file to the file."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

from aggregator.storage import durable_files, errors, local_files, local_store, random_access, stores, uris


def open_store(root: str, within: str = "") -> stores.Store:
    """Return the store of a root: an absolute path, or a URI.

    Parameters
    ----------
    root
        The root.
    within
        A directory that has to be there so that a root below it may be made; by default the root itself has
        to be there.

    Raises
    ------
    RefusedError
        If it needs a library that is not installed.
    """
    if not uris.is_remote(root):
        return local_store.LocalStore(root, within if root.startswith(f"{within}/") else "")
    if uris.scheme(root) in uris.WEBDAV:
        # Only who has remote files needs it.
        from aggregator.storage import dav_store

        return dav_store.DavStore(root)
    try:
        # Only who has remote files needs it.
        from aggregator.storage import object_store
    except ImportError as exc:
        raise errors.RefusedError(
            f"{root}: remote files need obstore; install this package with its extra 'remote'."
        ) from exc
    return object_store.ObjectStore(root)


def locate(location: str) -> tuple[stores.Store, str]:
    """Return the store that a file is in, and its key there.

    Parameters
    ----------
    location
        A path, or a URI of a kind that there is a store for.

    Raises
    ------
    RefusedError
        If it needs a library that is not installed, or names no file.
    """
    if uris.is_remote(location):
        root, key = uris.split(location)
        return open_store(root), key
    directory, name = os.path.split(os.path.abspath(location))
    return local_store.LocalStore(directory.rstrip("/")), name


def is_there(location: str) -> bool:
    """Return whether there is a file that can be used; raises MachineError if nobody knows."""
    store, key = locate(location)
    return store.is_there(key)


def exists(location: str) -> bool:
    """Return whether there is anything at a location, only if that is certain.

    Raises
    ------
    AggregatorError
        If it can't be found out.
    """
    if uris.is_remote(location):
        return is_there(location)
    return local_files.exists(location)


def read(location: str) -> bytes:
    """Return the content of a file.

    Raises
    ------
    FileNotFoundError, UnusableError, MachineError
        As for `open_file`.
    """
    if not uris.is_remote(location):
        return local_files.read(location)
    store, key = locate(location)
    content = store.read(key)
    if content is None:
        raise FileNotFoundError(2, "No such object", location)
    return content.data


def is_same(location: str, other: str) -> bool:
    """Return whether two locations lead to one file, which exists if they are paths."""
    if uris.is_remote(location) or uris.is_remote(other):
        return _place(location) == _place(other)
    return os.path.samefile(location, other)


def _place(location: str) -> tuple[str, ...]:
    store, key = locate(location)
    return store.place(key)


@contextlib.contextmanager
def local_copy(location: str) -> Iterator[str]:
    """Give the path of a file with the same content: its own, or that of a copy for as long as it is needed.

    Raises
    ------
    AggregatorError
        If it can't be fetched.
    """
    if not uris.is_remote(location):
        yield location
        return
    with tempfile.TemporaryDirectory() as directory, open_file(location) as file:
        path = os.path.join(directory, os.path.basename(locate(location)[1]))
        durable_files.write_atomically(path, random_access.pieces(file), sync=False)
        yield path


def open_file(location: str) -> random_access.RandomAccess:
    """Return a file, open for reading; parameters as for `locate`.

    Raises
    ------
    FileNotFoundError
        If it is certainly not there.
    UnusableError
        If it can't be used.
    MachineError
        If nobody knows.
    RefusedError
        As for `locate`; and if the store can't be looked into.
    """
    if uris.is_remote(location):
        return random_access.StoredFile(*locate(location))
    return random_access.LocalFile(location)
