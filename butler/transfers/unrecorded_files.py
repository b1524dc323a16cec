"""Files that nobody has recorded, in the places that templates give them (transfer.md section 7.4, F2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import dataset_type_rows, registry
from aggregator.butler.transfers import template_files
from aggregator.schemas import bundle, datastore_records
from aggregator.storage import local_files

_Kind = dataset_type_rows.DatasetTypeRow


class UnrecordedFiles:
    """Looks for the files of datasets without records.

    Parameters
    ----------
    config
        Configuration of the repository.
    source
        Its database.
    """

    def __init__(self, config: repository_config.RepositoryConfig, source: registry.Registry) -> None:
        self._stores = config.datastores
        self._files = template_files.TemplateFiles(config, source)

    def find(
        self, run: str, rows: Iterable[bundle.Dataset], kinds: Mapping[str, _Kind]
    ) -> list[bundle.FileRecord]:
        """Return records for those datasets of a run all of whose files are in their places, by dataset.

        Raises
        ------
        AggregatorError
            If there is no template, or nobody knows what is there.
        """
        by_kind: dict[str, list[bundle.Dataset]] = {}
        for row in rows:
            by_kind.setdefault(row.dataset_type, []).append(row)
        found: list[bundle.FileRecord] = []
        for name, some in by_kind.items():
            predicted = list(self._files.of_type(run, kinds[name], some))
            for place in range(len(self._stores)):
                found += self._of_store(place, predicted)
        return sorted(found)

    def _of_store(
        self, place: int, predicted: Sequence[tuple[bundle.Dataset, Sequence[template_files.File]]]
    ) -> list[bundle.FileRecord]:
        store = self._stores[place]
        files = [(row.id, *file) for row, some in predicted for file in some if file[0].store == place]
        found: dict[str, list[bundle.FileRecord]] = {}
        incomplete: set[str] = set()
        for (dataset_id, planned, path), look in zip(
            files, store.files.marks(path for _, _, path in files), strict=True
        ):
            if look is None or isinstance(look, local_files.UnusableError):
                incomplete.add(dataset_id)
                continue
            whole = planned.component == datastore_records.NO_COMPONENT
            record = bundle.FileRecord(
                dataset_id,
                store.name,
                path,
                planned.formatter,
                planned.storage_class,
                None if whole else planned.component,
                None,
                look.size,
            )
            found.setdefault(dataset_id, []).append(record)
        return [each for dataset_id, some in found.items() if dataset_id not in incomplete for each in some]
