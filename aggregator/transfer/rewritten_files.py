"""Graphs and archives of which just parts come along, or under other names: they are written anew."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable

import numpy as np

from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import registry
from aggregator.butler.transfers import (
    account,
    graph_files,
    known_datasets,
    loose_files,
    renewal,
    transfer_policies,
    workplace,
)
from aggregator.schemas import bundle
from aggregator.schemas.graphs import addresses, container, renewals
from aggregator.storage import errors, opening
from aggregator.transfer import transfer_config


class RewrittenFiles:
    """Writes anew what can't come along as it is.

    Parameters
    ----------
    config, source
        Repository that a bundle comes from, and its database.
    options
        The options.
    tick
        Called now and then; what it raises ends the work.
    stack
        Removes what was written.
    """

    def __init__(
        self,
        config: repository_config.RepositoryConfig,
        source: registry.Registry,
        options: transfer_config.TransferConfig,
        tick: Callable[[], None],
        stack: contextlib.ExitStack,
    ) -> None:
        self._config, self._source, self._options = config, source, options
        self._place = stack.enter_context(workplace.Workplace())
        self._graphs = graph_files.GraphFiles(self._place, tick)
        self._tick, self._is_needed = tick, False
        self.renewed: renewal.Renewed | None = None
        """The bundle, if names, ids or graphs become others."""

    def produce(
        self, producer: bundle.Producer, wishes: renewal.Wishes, target: registry.Registry | None
    ) -> bundle.Producer:
        """Return the bundle as it goes to its destination.

        Parameters
        ----------
        producer
            The bundle as it is.
        wishes
            What shall become of names and ids.
        target
            Database of the destination; nothing if it is going to be made.

        Raises
        ------
        RefusedError
            If files can't be written anew, as the options say.
        """
        options = self._options
        if options.moves:
            archives = None if options.changes else self._archives_in_part(producer)
            is_loose = options.graphs == "loose"
            if options.changes or is_loose or archives:
                self._is_needed = True
                producer = loose_files.LooseFiles(
                    producer, self._place, frees_graphs=is_loose, archives=archives
                )
            if options.graphs == "slice":
                self._cut_graphs(producer)
        if options.changes or options.graphs == "slice":
            self._is_needed = True
            producer = self.renewed = renewal.Renewed(
                producer, wishes, known_datasets.KnownDatasets(target), self._write_graph, self._tick
            )
        return producer

    def _archives_in_part(self, producer: bundle.Producer) -> set[tuple[str, str]]:
        """Return datastore and path of the archives not all of whose members come along."""
        stores = [(store.name, store.records_table) for store in self._config.datastores]
        if not (members := self._source.holdings.archive_members(stores)):
            return set()
        chosen: collections.Counter[tuple[str, str]] = collections.Counter()
        for batch in producer.batches():
            if isinstance(batch, bundle.Datasets):
                paths = ((record.datastore, record.path) for record in batch.files)
                chosen.update((name, bundle.file_path(path)) for name, path in paths)
        in_part = {place for place, number in members.items() if 0 < chosen[place] < number}
        if in_part and self._options.files in transfer_policies.LINKS_BACK:
            raise errors.RefusedError(
                f"{min(in_part)[1]}: only a part of this archive is selected, so that files have to be made "
                f"of it, to which links of --files {self._options.files} can't lead. Use auto, hardlink or "
                "copy."
            )
        return in_part

    def _cut_graphs(self, producer: bundle.Producer) -> None:
        """Find out which datasets graphs stand in for."""
        locations: dict[str, str] = {}
        ids: dict[str, list[addresses.Ids]] = {}
        for batch in producer.batches():
            if isinstance(batch, bundle.Graph):
                locations[batch.path] = batch.location
            elif isinstance(batch, bundle.Datasets):
                for path in {record.path for record in batch.files} & locations.keys():
                    some = [record.dataset_id for record in batch.files if record.path == path]
                    ids.setdefault(locations[path], []).append(addresses.parse_ids(some))
        for location, parts in ids.items():
            self._graphs.cut(location, np.unique(np.concatenate(parts)))

    def aim(
        self,
        config: repository_config.RepositoryConfig,
        target: registry.Registry | None,
        expected: account.Account,
    ) -> None:
        """Set where files go, and which datasets others have taken the places of."""
        self._graphs.aim(config, target, expected.replaced_ids)

    def begin(self, config: repository_config.RepositoryConfig) -> None:
        """Begin to write, beside the places of the files, if there is anything to write.

        Raises
        ------
        AggregatorError
            If it can't be made.
        """
        if self._is_needed and self._options.moves:
            self._place.open(config)

    def compare(self, graph: bundle.Graph, others: set[str]) -> list[account.Conflict]:
        """Return what a graph contradicts: those of its run, and what is in its place.

        Parameters
        ----------
        graph
            The graph.
        others
            Ids of the graphs that its run has, or will have.
        """
        found: list[account.Conflict] = []
        if graph.dataset_id in others and (place := self._graphs.place(graph)):
            found += _other_part(graph, place)
        for other in sorted(others - {graph.dataset_id or ""}):
            text = (
                f"{graph.run}: has another provenance graph, {other}, in the place of {graph.dataset_id}. "
                "Give --graphs loose, or merge under another name"
            )
            found.append(account.Conflict("C3", text, graph.dataset_id, other))
        return found

    def _write_graph(self, graph: bundle.Graph, change: renewals.Renewal) -> str:
        if self._options.files == transfer_policies.NONE:
            return graph.location
        if not self._options.moves:
            raise errors.RefusedError(
                f"The provenance graph of run {graph.run!r} has to be written anew, which --files "
                f"{self._options.files} does not do. Use auto or copy."
            )
        return self._graphs.write(graph, change)


def _other_part(graph: bundle.Graph, place: str) -> list[account.Conflict]:
    """Note a graph that is in its place, but may not hold what datasets need."""
    if graph.location == place or not opening.exists(graph.location):
        # One that is gone is told of as all files are.
        return []
    with container.Container(graph.location) as wanted, container.Container(place) as there:
        if wanted.fingerprint == there.fingerprint:
            return []
    text = (
        f"{place}: is another part or version of the provenance graph that should be there. Give "
        "--graphs loose"
    )
    return [account.Conflict("C13", text, graph.dataset_id)]
