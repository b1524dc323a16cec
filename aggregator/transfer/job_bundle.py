"""What a job needs of a repository, as a bundle: also what no database knows yet."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence

from aggregator.butler.registry import registry
from aggregator.butler.transfers import dataset_selection, needed_records, repository_source
from aggregator.execution import graph_context
from aggregator.schemas import bundle
from aggregator.transfer import job_inputs


class JobBundle:
    """Produces the bundle.

    Parameters
    ----------
    context
        Graph and repository.
    inputs
        The datasets of the job.
    source
        Database of the repository.
    """

    def __init__(
        self, context: graph_context.GraphContext, inputs: job_inputs.JobInputs, source: registry.Registry
    ) -> None:
        self._context, self._inputs, self._source = context, inputs, source
        self._run = context.graph.header.output_run
        selected = dataset_selection.Selection(
            possible_ids=[uuid.UUID(each).hex for each in inputs.needed_ids],
            runs=(self._run,),
            definitions=tuple(definitions(context)),
        )
        self._producer = repository_source.RepositorySource(
            context.config, source, selected, repository_source.Extent()
        )

    @property
    def head(self) -> bundle.Head:
        """What all batches depend on."""
        return self._producer.head

    def batches(self) -> Iterator[bundle.Batch]:
        """Iterate over the bundle; see `bundle.Producer`."""
        given: dict[str, set[object]] = {}
        is_told = False
        for batch in self._producer.batches():
            if isinstance(batch, bundle.DimensionRecords):
                given.setdefault(batch.element, set()).update(batch.rows)
            elif not is_told and not isinstance(batch, bundle.DatasetTypes | bundle.Collections):
                yield from self._unknown(given)
                is_told = True
            yield batch
        if not is_told:
            yield from self._unknown(given)

    def _unknown(self, given: Mapping[str, Collection[object]]) -> Iterator[bundle.Batch]:
        """Yield what no database knows, with those of the records that it needs which have not come."""
        made = self._made()
        yield from self._records(made, given)
        for begin in range(0, len(made), bundle.DATASETS_AT_ONCE):
            rows = made[begin : begin + bundle.DATASETS_AT_ONCE]
            yield bundle.Datasets(self._run, rows, [f for row in rows for f in self._inputs.made[row.id][1]])

    def _made(self) -> list[bundle.Dataset]:
        """Return the datasets that quanta have made and no database knows, sorted by id."""
        known = {dataset_id for dataset_id, _ in self._source.holdings.runs_of(list(self._inputs.made))}
        rows = []
        for dataset_id, (dataset, _) in sorted(self._inputs.made.items()):
            if dataset_id not in known:
                values = tuple(self._context.ref(dataset).dataId.required.values())
                rows.append(bundle.Dataset(dataset_id, dataset.dataset_type_name, values, None))
        return rows

    def _records(
        self, made: Sequence[bundle.Dataset], given: Mapping[str, Collection[object]]
    ) -> Iterator[bundle.DimensionRecords]:
        kinds = {kind.name: kind for kind in definitions(self._context)}
        needed = needed_records.NeededRecords(self._source)
        for row in made:
            needed.add(kinds[row.dataset_type].dimensions, [row.values])
        for batch in needed.batches():
            rows = [row for row in batch.rows if row not in given.get(batch.element, ())]
            if rows:
                yield bundle.DimensionRecords(batch.element, batch.columns, rows, batch.overlaps)


def definitions(context: graph_context.GraphContext) -> Iterator[bundle.DatasetType]:
    """Yield the dataset types of the graph."""
    for kind in context.graph.pipeline.dataset_types:
        required = context.dimensions.group(kind.dimensions).required
        yield bundle.DatasetType(kind.name, kind.storage_class, required, kind.is_calibration)
