"""Places of graphs: which one a file in a datastore has already, and how messages name them."""

import os
from collections.abc import Sequence

from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import ingested_graphs
from aggregator.storage import uris


def in_place(repository: repository_config.RepositoryConfig, path: str) -> ingested_graphs.Places:
    """Return the place of a graph that lies in a datastore already; none if it does not."""
    for store in repository.datastores:
        if uris.is_remote(path):
            key = uris.relative(path, store.root) if uris.is_remote(store.root) else None
        else:
            is_below = path.startswith(os.path.join(store.root, ""))
            key = os.path.relpath(path, store.root) if is_below else None
        if key is not None:
            return (ingested_graphs.Place(store, key),)
    return ()


def shown(places: Sequence[ingested_graphs.Place]) -> str:
    """Return the paths for messages."""
    return " and ".join(place.file for place in places)
