"""Paths of files by the templates of the repository that they go to, where those of the source don't do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import dataset_type_rows, graph_places, registry
from aggregator.butler.transfers import template_files
from aggregator.schemas import bundle, datastore_records
from aggregator.storage import uris

_Kind = dataset_type_rows.DatasetTypeRow


class RenamedPaths:
    """Finds the paths of files that can't keep theirs: of renamed runs, and of absolute records.

    Parameters
    ----------
    config
        Configuration of the destination.
    target
        Its database, which has the dimension records already.
    """

    def __init__(self, config: repository_config.RepositoryConfig, target: registry.Registry) -> None:
        self._config, self._target = config, target
        self._graphs: dict[str, bundle.Graph] = {}
        self._files = template_files.TemplateFiles(config, target)

    def add_graph(self, graph: bundle.Graph) -> None:
        """Note the file of a graph, which many records share."""
        if graph.path:
            self._graphs[graph.path] = graph

    def of(self, datasets: bundle.Datasets, kinds: Mapping[str, _Kind]) -> dict[str, str]:
        """Return the path of each file of a batch that gets another one, by the path that it has.

        Raises
        ------
        RefusedError
            If the destination has no template for a dataset type.
        AggregatorError
            If a path can't be made.
        """
        if not (chosen := concerned(datasets)):
            return {}
        paths: dict[str, str] = {}
        rows = {row.id: row for row in datasets.rows}
        todo: dict[str, list[bundle.FileRecord]] = {}
        for record in chosen:
            if (graph := self._graphs.get(record.path)) is not None:
                if record.path not in paths:
                    where = graph_places.predicted(
                        self._config, self._target, datasets.run, graph.dataset_id or "0" * 32
                    )
                    paths[record.path] = where[0].recorded
            else:
                todo.setdefault(rows[record.dataset_id].dataset_type, []).append(record)
        for name, some in todo.items():
            paths.update(self._of_type(datasets.run, kinds[name], some, rows))
        return paths

    def _of_type(
        self,
        run: str,
        kind: _Kind,
        files: Sequence[bundle.FileRecord],
        rows: Mapping[str, bundle.Dataset],
    ) -> Iterator[tuple[str, str]]:
        wanted = {record.dataset_id: rows[record.dataset_id] for record in files}
        paths: dict[tuple[str, str], str] = {}
        for row, some in self._files.of_type(run, kind, wanted.values()):
            for planned, path in some:
                paths.setdefault((row.id, planned.component), path)
        for record in files:
            place = record.dataset_id, record.component or datastore_records.NO_COMPONENT
            if place in paths:
                yield record.path, paths[place]


def concerned(datasets: bundle.Datasets) -> list[bundle.FileRecord]:
    """Return the records of a batch whose paths are other ones at the destination."""
    if datasets.is_renamed:
        return list(datasets.files)
    return [each for each in datasets.files if uris.is_absolute(each.path)]
