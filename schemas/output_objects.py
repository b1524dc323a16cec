"""What an object on another host may be that a command writes: told by its server, bucket and key."""

from __future__ import annotations

from collections.abc import Mapping

from aggregator.storage import errors, local_files, opening, uris


def same(location: str, protected: Mapping[str, str]) -> str | None:
    """Return what an object is said to be among some files, by whatever URI it was named; nothing for none.

    Parameters
    ----------
    location
        URI of the object.
    protected
        Descriptions by path or URI.
    """
    remote = ((name, description) for name, description in protected.items() if uris.is_remote(name))
    return next((description for name, description in remote if opening.is_same(name, location)), None)


def above(location: str, directories: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the one of some directories that an object is below, with what that is; nothing for none."""
    *server, path = _place(location)
    for name, description in directories.items():
        if uris.is_remote(name):
            *other, directory = _place(name)
            if other == server and path.startswith(f"{directory}/"):
                return name, description
    return None


def is_there(location: str) -> bool:
    """Return whether there is an object.

    Raises
    ------
    RefusedError
        If access is denied.
    MachineError
        If nobody knows.
    """
    store, key = opening.locate(location)
    try:
        return store.mark(key) is not None
    except local_files.UnusableError as exc:
        raise errors.RefusedError(f"{location}: can't be written ({exc}). Choose another place.") from exc


def _place(location: str) -> tuple[str, ...]:
    store, key = opening.locate(location)
    return store.place(key)
