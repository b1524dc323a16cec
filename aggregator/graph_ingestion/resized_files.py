"""Original files of another size than is recorded: they and their datasets are left alone."""

from collections.abc import Iterable, Sequence

from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import ingested_graphs
from aggregator.storage import opening, stores


class ResizedFiles:
    """The files that were seen to have another size than is recorded.

    Parameters
    ----------
    datastores
        Datastores of the repository.
    """

    def __init__(self, datastores: Iterable[repository_config.FileDatastore]) -> None:
        self._stores = {store.records_table: store for store in datastores}
        self.files: dict[str, str] = {}
        """One of these files of each dataset, by the dataset's id."""

    def among(self, records_table: str, files: Sequence[tuple[str, str, int]]) -> set[str]:
        """Look at files, and return the datasets of those that have another size than is recorded.

        Parameters
        ----------
        records_table
            The table that records them.
        files
            Dataset id, recorded path and recorded size of each.
        """
        resized = set()
        by_store: dict[str, list[tuple[str, str, int]]] = {}
        for dataset_id, path, size in files:
            store, key = ingested_graphs.Place(self._stores[records_table], path).address
            by_store.setdefault(store.root, []).append((dataset_id, key, size))
        for root, some in by_store.items():
            store = opening.open_store(root)
            marks = store.marks([key for _, key, _ in some])
            for (dataset_id, key, size), mark in zip(some, marks, strict=True):
                # A link that leads nowhere has nothing to lose.
                if isinstance(mark, stores.Mark) and mark.size != size:
                    self.files[dataset_id] = store.location(key)
                    resized.add(dataset_id)
        return resized
