"""Files that leave a repository when another one has them (transfer.md section 7.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aggregator.butler.configuration import own_files, repository_config
from aggregator.butler.registry import registry
from aggregator.butler.transfers import file_placement
from aggregator.schemas import bundle
from aggregator.storage import errors, fault_points, uris


class Departure:
    """Takes files out of the repository that they were moved from: first what is recorded, then the files.

    Killed in between, a file stays that no record refers to; never a record without its file.

    Parameters
    ----------
    config
        Configuration of the repository.
    source
        Its database, open for writing.
    """

    def __init__(self, config: repository_config.RepositoryConfig, source: registry.Registry) -> None:
        self._source = source
        self._datastores = [(store.name, store.records_table) for store in config.datastores]
        self._tables = dict(self._datastores)
        self._stores = {store.name: store.files for store in config.datastores}
        self._own = own_files.OwnFiles(config)
        self._shared: dict[str, set[str]] = {}

    def take(self, datasets: bundle.Datasets, planned: Sequence[file_placement.Planned]) -> None:
        """Remove the files of datasets that are committed elsewhere; those of others that share them stay."""
        gone = {each.record.dataset_id for each in planned}
        if not gone:
            return
        self._source.additions.forget_files(sorted(gone), self._datastores)
        by_store: dict[str, set[str]] = {}
        for record in datasets.files:
            if record.dataset_id in gone and _is_inside(record.path):
                by_store.setdefault(record.datastore, set()).add(record.path)
        for name, paths in by_store.items():
            self._shared.setdefault(name, set()).update(self._remove(name, paths))

    def discard(self, records: Iterable[bundle.FileRecord]) -> None:
        """Remove files that were those of datasets which are there no more, unless others have them."""
        by_store: dict[str, set[str]] = {}
        for each in records:
            if _is_inside(each.path):
                by_store.setdefault(each.datastore, set()).add(each.path)
        for name, paths in by_store.items():
            self._remove(name, paths)

    def finish(self) -> None:
        """Remove the files whose last dataset has left."""
        for name, paths in self._shared.items():
            self._remove(name, paths)

    def _remove(self, name: str, paths: set[str]) -> set[str]:
        """Remove files that no record refers to; return the paths of the others.

        Raises
        ------
        AggregatorError
            If one can't be removed.
        """
        kept = set(self._source.additions.owners(self._tables[name], paths))
        store = self._stores[name]
        # Who else has members of an archive is not known by its path.
        loose = sorted(path for path in paths - kept if bundle.file_path(path) == path)
        done = store.delete_many(path for path in loose if store.location(path) not in self._own)
        fault_points.reached("removed")
        if done.failures:
            raise errors.AggregatorError(
                f"{done.failures[0]}: can't be removed, though no record needs it any more. Remove it, and "
                "run the same command again."
            )
        return kept


def _is_inside(path: str) -> bool:
    """Return whether a file is the datastore's: what is recorded by where it is belongs to somebody else."""
    return not (uris.is_absolute(path) or ".." in path.split("/"))
