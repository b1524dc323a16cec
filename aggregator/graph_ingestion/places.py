"""Places of graphs: which one a file in a datastore has already, and how messages name them."""

from collections.abc import Sequence

from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import ingested_graphs


def in_place(repository: repository_config.RepositoryConfig, path: str) -> ingested_graphs.Places:
    """Return the place of a graph that lies in a datastore already; none if it does not."""
    for store in repository.datastores:
        if (key := store.files.key_of(path)) is not None:
            return (ingested_graphs.Place(store, key),)
    return ()


def shown(places: Sequence[ingested_graphs.Place]) -> str:
    """Return the paths for messages."""
    return " and ".join(place.file for place in places)
