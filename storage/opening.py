"""From the root of a datastore, as it is configured, to its store."""

from aggregator.storage import local_store, stores


def open_store(root: str) -> stores.Store:
    """Return the store of a root, an absolute path."""
    return local_store.LocalStore(root)
