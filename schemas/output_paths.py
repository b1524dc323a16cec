"""What a path may be that a command writes: absent, or a file of the kind that it writes (docs/design.md)."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Mapping

import msgspec
from aggregator.schemas import output_kinds, output_objects, reserved_paths
from aggregator.schemas.checkpoints import checkpoint
from aggregator.storage import durable_files, errors, local_files, machine_trouble, uris


class Protection(msgspec.Struct, frozen=True):
    """What a command must not write, whatever path leads there; descriptions by path."""

    files: Mapping[str, str] = {}
    """Files, which need not exist."""
    directories: Mapping[str, str] = {}
    """Directories in which nothing is written."""
    roots: list[str] = []
    """Roots of datastores: an empty file below may be a dataset."""


def check(path: str, kind: output_kinds.Kind, protection: Protection) -> None:
    """Refuse a path that is not to be written, through whatever links it was given.

    Parameters
    ----------
    path
        The path.
    kind
        What is going to be written there.
    protection
        What must stay as it is.

    Raises
    ------
    RefusedError
        If it is a file of another kind, no regular file, one that is protected, or in a checkpoint.
    """
    if uris.is_remote(path):
        if kind is not output_kinds.Kind.GRAPH:
            raise errors.RefusedError(f"{path}: only local files can be used here, as it is a {kind.value}.")
        _check_object(path, protection)
        return
    path = os.path.abspath(path)
    # A link is replaced and not followed by most of what writes; both its ends count.
    for each in {_located(path), os.path.realpath(path)}:
        _check_place(path, os.path.dirname(each), protection)
        for name, description in protection.files.items():
            if each in (_located(name), os.path.realpath(name)):
                raise _refusal(path, description)
        if what := reserved_paths.description(each):
            raise _refusal(path, what)
    try:
        machine_trouble.attempt(path, os.lstat, path)
        status = machine_trouble.attempt(path, os.stat, path)
    except FileNotFoundError:
        if kind is output_kinds.Kind.PREDICTED_GRAPH and local_files.is_taken(path):
            # A link that leads nowhere.
            raise _foreign(path, kind) from None
        output_kinds.check_name(path, kind)
        return
    except OSError as exc:
        raise errors.RefusedError(f"{path}: can't be written ({exc.strerror}). Choose another path.") from exc
    if not stat.S_ISREG(status.st_mode):
        what = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise errors.RefusedError(f"{path}: is {what}; the output must be a file.")
    for name, description in protection.files.items():
        with contextlib.suppress(OSError):
            if os.path.samestat(status, machine_trouble.attempt(name, os.stat, name)):
                raise _refusal(path, description)
    if not output_kinds.is_of(path, kind, _is_stored(os.path.realpath(path), protection)):
        raise _foreign(path, kind)
    output_kinds.check_name(path, kind)


def _check_object(location: str, protection: Protection) -> None:
    """Refuse a graph that is not to be written as an object."""
    if directory := output_objects.above(location, protection.directories):
        raise errors.RefusedError(f"{location}: is in {directory[0]}, {directory[1]}. Choose another path.")
    if description := output_objects.same(location, protection.files):
        raise _refusal(location, description)
    if output_objects.is_there(location) and not output_kinds.is_provenance_graph(location):
        raise _foreign(location, output_kinds.Kind.GRAPH)
    output_kinds.check_name(location, output_kinds.Kind.GRAPH)


def is_taken(path: str) -> bool:
    """Return whether there is something at a path or URI, be it a link that leads nowhere."""
    return output_objects.is_there(path) if uris.is_remote(path) else local_files.is_taken(path)


class Output:
    """A file that somebody is going to write who does not know yet what must not be written.

    Parameters
    ----------
    path
        The file.
    kind
        Its kind.

    Raises
    ------
    RefusedError
        If something is there that is of another kind, or its directory can't be written.
    """

    def __init__(self, path: str, kind: output_kinds.Kind) -> None:
        self.path = uris.absolute(path)
        self._kind = kind
        self._protection: Protection | None = Protection()
        check(self.path, kind, self._protection)
        if not local_files.is_directory(os.path.dirname(self.path)):
            raise errors.RefusedError(f"{path}: its directory does not exist. Choose another path.")
        check_writeable(os.path.dirname(self.path))

    def check(self, protection: Protection) -> None:
        """Refuse it if it must not be written; then nothing is ever written there.

        Raises
        ------
        RefusedError
            If that is so.
        """
        self._protection = None
        check(self.path, self._kind, protection)
        self._protection = protection

    def remove(self) -> None:
        """Remove what an earlier command has written, so that nobody takes it for this one's."""
        with durable_files.writing(self.path), contextlib.suppress(FileNotFoundError):
            if os.path.getsize(self.path):
                os.unlink(self.path)

    def write(self, content: bytes, *, sync: bool = True) -> None:
        """Write it, so that it appears complete, or not at all; nothing if it was refused.

        Parameters
        ----------
        content
            All of it.
        sync
            Whether it has to survive a loss of power.

        Raises
        ------
        AggregatorError
            If it must not be written any more, or can't be.
        """
        if self._protection is not None:
            write(self.path, [content], self._kind, self._protection, sync=sync)


def check_all(outputs: Iterable[Output], protection: Protection) -> None:
    """Refuse files that must not be written, and two in one place.

    Raises
    ------
    RefusedError
        If there are some.
    """
    for output in outputs:
        output.check(protection)
        files = {**protection.files, output.path: "another output of this command"}
        protection = msgspec.structs.replace(protection, files=files)


def check_again(path: str, kind: output_kinds.Kind, protection: Protection) -> None:
    """Look again right before something is written, when other things have been done already.

    Raises
    ------
    AggregatorError
        If the path may not be written any more.
    """
    try:
        check(path, kind, protection)
    except errors.RefusedError as exc:
        raise errors.AggregatorError(
            f"{exc} It has come there while the command was running; then run the same command again."
        ) from exc


def write(
    path: str, pieces: Iterable[bytes], kind: output_kinds.Kind, protection: Protection, *, sync: bool = True
) -> None:
    """Write a file that appears complete (and synced, if it has to be), unless it must not be written.

    Raises
    ------
    AggregatorError
        If it must not, or can't be written; nothing has changed then.
    """
    durable_files.write_atomically(path, pieces, lambda: check_again(path, kind, protection), sync=sync)


def check_directory(path: str, protection: Protection) -> None:
    """Refuse a directory in which nothing may be written; it need not exist.

    Raises
    ------
    RefusedError
        If it is, or is in, a checkpoint or a directory that is protected.
    """
    _check_place(path, os.path.realpath(path), protection)


def check_writeable(directory: str) -> None:
    """Refuse a directory in which nothing can be written or, if it does not exist, that can't be made.

    Raises
    ------
    RefusedError
        If that is so.
    """
    place = os.path.abspath(directory)
    while not local_files.is_taken(place):
        place = os.path.dirname(place)
    if not local_files.is_directory(place):
        raise errors.RefusedError(f"{directory}: {place} is no directory. Choose another path.")
    if not local_files.is_writeable(place):
        raise errors.RefusedError(f"{directory}: nothing can be written in {place}. Choose another path.")


def _check_place(path: str, directory: str, protection: Protection) -> None:
    for name, description in protection.directories.items():
        if _is_below(directory, name):
            raise errors.RefusedError(f"{path}: is in {name}, {description}. Choose another path.")
    above = directory
    while True:
        if local_files.is_taken(checkpoint.Layout(above).lock):
            raise errors.RefusedError(f"{path}: is in the checkpoint {above}. Choose another path.")
        if above == os.path.dirname(above):
            return
        above = os.path.dirname(above)


def _refusal(path: str, description: str) -> errors.RefusedError:
    return errors.RefusedError(f"{path}: is {description}, which is not replaced. Choose another path.")


def _foreign(path: str, kind: output_kinds.Kind) -> errors.RefusedError:
    if kind is output_kinds.Kind.PREDICTED_GRAPH:
        return errors.RefusedError(
            f"{path}: is there already, and is not replaced. Choose another path, or remove it, if "
            "no run of that graph has to be aggregated."
        )
    return errors.RefusedError(
        f"{path}: is there already and is no {kind.value}, so it is not replaced. Choose another path, "
        "or move it away."
    )


def _located(path: str) -> str:
    """Return a path without links, but for its last part."""
    directory, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(directory), name)


def _is_below(path: str, directory: str) -> bool:
    root = os.path.realpath(directory)
    return path == root or path.startswith(os.path.join(root, ""))


def _is_stored(path: str, protection: Protection) -> bool:
    """Return whether a file may be a dataset: it lies in a repository, be it one that nobody named."""
    if any(_is_below(path, root) for root in protection.roots):
        return True
    while path != (above := os.path.dirname(path)):
        path = above
        if local_files.is_taken(os.path.join(path, "butler.yaml")):
            return True
    return False
