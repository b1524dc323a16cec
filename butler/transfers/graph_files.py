"""Provenance graphs that are written anew on their way into a repository (transfer.md section 7.5)."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Final

from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import graph_places, registry
from aggregator.butler.transfers import workplace
from aggregator.schemas import bundle
from aggregator.schemas.graphs import (
    addresses,
    origins,
    provenance_graph,
    renewals,
    rewriting,
    slicing,
)
from aggregator.storage import durable_files, errors, fault_points

_NAME: Final = "merged.qg"


class GraphFiles:
    """Writes graphs anew, as soon as there is a place for that; until then, looks where they are.

    Parameters
    ----------
    place
        Where they are written.
    tick
        Called now and then; what it raises ends the work.
    """

    def __init__(self, place: workplace.Workplace, tick: Callable[[], None]) -> None:
        self._place = place
        self._tick = tick
        self._config: repository_config.RepositoryConfig | None = None
        self._target: registry.Registry | None = None
        self._replaced: Mapping[bytes, bytes] = {}
        self._files: dict[str, str] = {}
        self._datasets: dict[str, addresses.Ids] = {}

    def aim(
        self,
        config: repository_config.RepositoryConfig,
        target: registry.Registry | None,
        replaced: Mapping[str, str],
    ) -> None:
        """Set where graphs go.

        Parameters
        ----------
        config, target
            The repository, with its database unless it is going to be made.
        replaced
            Id of the dataset that has taken the place of another one, by the id that this would have.
        """
        self._config, self._target = config, target
        self._replaced = {bytes.fromhex(would): bytes.fromhex(has) for would, has in replaced.items()}

    def cut(self, location: str, datasets: addresses.Ids) -> None:
        """Take of a graph only the quanta whose logs or metadata some datasets, sorted by id, are."""
        self._datasets[location] = datasets

    def write(self, graph: bundle.Graph, renewal: renewals.Renewal) -> str:
        """Return where a graph is that was written anew; only looked for, it may be where it was.

        Raises
        ------
        FormatError
            If the graph is damaged.
        AggregatorError
            If it can't be written.
        """
        if graph.location in self._files:
            return self._files[graph.location]
        renewal = dataclasses.replace(renewal, replaced=self._replaced)
        with provenance_graph.ProvenanceGraph(graph.location) as whole:
            chosen = self._datasets.get(graph.location)
            quanta = None if chosen is None else slicing.quanta_of(whole, chosen)
            part = None if quanta is None else slicing.part(whole, quanta)
            origin = origins.begun(graph.location, whole.fingerprint, part)
            if place := self._made_before(graph, origin, renewal):
                return place
            if not self._place.is_open:
                return graph.location
            self._files[graph.location] = self._write(whole, quanta, renewal, origin)
        fault_points.reached("rewritten")
        return self._files[graph.location]

    def _write(
        self,
        whole: provenance_graph.ProvenanceGraph,
        quanta: addresses.Ids | None,
        renewal: renewals.Renewal,
        origin: origins.Origin,
    ) -> str:
        path = durable_files.temporary_name(os.path.join(self._place.directory, _NAME))
        with contextlib.ExitStack() as stack:
            graph = whole
            if quanta is not None:
                cut = os.path.join(self._place.directory, f"{os.path.basename(path)}.qg")
                with durable_files.writing(cut), open(cut, "xb") as stream:
                    slicing.write(whole, quanta, stream)
                graph = stack.enter_context(provenance_graph.ProvenanceGraph(cut))
                os.unlink(cut)
            with durable_files.writing(path), open(path, "xb") as stream:
                rewriting.Rewriter(graph, renewal, origin).write(stream, self._tick)
                stream.flush()
                os.fsync(stream.fileno())
        return path

    def place(self, graph: bundle.Graph) -> str:
        """Return where a graph goes, if there is something already; otherwise nothing."""
        if self._config is None or self._target is None or graph.dataset_id is None:
            return ""
        place = graph_places.predicted(self._config, self._target, graph.run, graph.dataset_id)[0]
        return place.file if place.is_there else ""

    def _made_before(self, graph: bundle.Graph, origin: origins.Origin, renewal: renewals.Renewal) -> str:
        """Return where a graph is that an earlier transfer has made of the same one; empty if it is not."""
        if not (place := self.place(graph)):
            return ""
        try:
            with provenance_graph.ProvenanceGraph(place) as there:
                # Without new names and ids the whole graph may have come, as it was.
                is_it = renewal.changes_nothing and there.fingerprint == origin.fingerprint
                made = is_it or (there.origins and renewal.has_made(there.origins[-1], origin))
        except (errors.FormatError, errors.RefusedError):
            # Who brings files there tells what is in the way.
            made = False
        return place if made else ""
