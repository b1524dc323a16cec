"""From the root of a datastore, as it is configured, to its store."""

from aggregator.storage import errors, local_store, stores, uris


def open_store(root: str) -> stores.Store:
    """Return the store of a root: an absolute path, or a URI.

    Raises
    ------
    RefusedError
        If it needs a library that is not installed.
    """
    if not uris.is_remote(root):
        return local_store.LocalStore(root)
    try:
        # Only who has remote files needs it.
        from aggregator.storage import object_store
    except ImportError as exc:
        raise errors.RefusedError(
            f"{root}: remote files need obstore; install this package with its extra 'remote'."
        ) from exc
    return object_store.ObjectStore(root)
