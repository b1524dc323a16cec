"""A bundle under other names and ids: a producer made of another one (transfer.md section 7.5)."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import msgspec
from aggregator.butler.datastores import paths
from aggregator.butler.transfers import renaming, renewal_survey
from aggregator.schemas import bundle
from aggregator.schemas.graphs import addresses, id_masks, origins, renewals
from aggregator.storage import errors


class Destination(Protocol):
    """What a repository knows of what it is to be given."""

    def runs_of(self, ids: list[str]) -> Iterable[tuple[str, str]]:
        """Return id, and name of the run, of those of some datasets that are there."""

    def has_datasets(self, run: str) -> bool:
        """Return whether there is a RUN collection with this name that has datasets."""


GraphWriter = Callable[[bundle.Graph, renewals.Renewal], str]
"""Writes a provenance graph anew, under its new name and at its old location; returns where it is then."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What shall become of a bundle."""

    names: renaming.Renaming
    """New names of collections."""

    renews_ids: bool
    """Whether datasets get new ids."""

    salt: str = ""
    """Anything, to get other new ids than without it."""

    cuts_graphs: bool = False
    """Whether graphs are written anew in any case, as only parts of them are wanted."""


def _check_run(name: str) -> None:
    """Refuse names of runs whose files would not lie where they say."""
    if not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise errors.RefusedError(
            f"{name!r} can't be a run: its files would not lie under that path. Change --rename: leave out "
            "empty parts, '.' and '..'."
        )
    paths.directory_of_run(name)


class Renewed:
    """Produces a bundle under other names, and perhaps ids.

    Parameters
    ----------
    producer
        The bundle as it is.
    wishes
        What shall become of it.
    destination
        What is there already where it goes.
    write_graph
        Writes a provenance graph of the bundle anew.
    tick
        Called for each batch of the first pass; what it raises ends the work.
    """

    def __init__(
        self,
        producer: bundle.Producer,
        wishes: Wishes,
        destination: Destination,
        write_graph: GraphWriter,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._tick = tick
        self._producer = producer
        self._wishes = wishes
        self._destination = destination
        self._write_graph = write_graph
        self._runs: dict[str, None] = {}
        self._chains: dict[str, str] = {}
        self.formatters: collections.Counter[str] = collections.Counter()
        """Number of datasets with new ids whose files may have the old ones in them, by formatter."""

    @property
    def head(self) -> bundle.Head:
        """What all batches depend on."""
        return self._producer.head

    def batches(self) -> Iterator[bundle.Batch]:
        """Iterate over the bundle; see `bundle.Producer`.

        Raises
        ------
        RefusedError
            If two collections of different types would get one name, or a run keeps its name and is in the
            destination, so that nobody could tell its datasets from their copies.
        """
        self._survey  # noqa: B018  (all refusals come first)
        self.formatters.clear()
        backed: dict[str, str] = {}
        for batch in self._producer.batches():
            match batch:
                case bundle.Collections():
                    yield self._collections(batch)
                case bundle.Graph():
                    backed[batch.run] = batch.path
                    yield self._graph(batch)
                case bundle.Datasets():
                    yield from self._datasets(batch, backed.get(batch.run))
                case bundle.Associations():
                    yield self._associations(batch)
                case bundle.Chain():
                    children = dict.fromkeys(name for child in batch.children for name in self._names(child))
                    yield bundle.Chain(self._name(batch.name), tuple(children))
                case _:
                    yield batch

    @functools.cached_property
    def _survey(self) -> renewal_survey.Survey:
        """Go through all datasets once."""
        survey, candidates = renewal_survey.Survey(), renewal_survey.Candidates()
        graphs: dict[str, str] = {}
        for batch in self._producer.batches():
            self._tick()
            match batch:
                case bundle.Graph(dataset_id=str(dataset_id)):
                    graphs[batch.run] = dataset_id
                case bundle.Collections():
                    self._chains = {
                        row.name: self._name(row.name) for row in batch.rows if row.type == "CHAINED"
                    }
                case bundle.Datasets():
                    self._runs[batch.run] = None
                    if self._wishes.renews_ids:
                        self._examine(batch, survey, candidates)
        for run in candidates.with_files & candidates.ids.keys():
            for ids in candidates.ids[run]:
                survey.add(run, self._mask(run), ids)
        for run, dataset_id in graphs.items():
            kept = survey.kept.get(run, set())
            if dataset_id in kept and run in survey.masks:
                # It knows nothing of new ids.
                kept.remove(dataset_id)
                survey.add(run, survey.masks[run], [dataset_id])
        for run in survey.masks.keys() - candidates.begun:
            if self._name(run) == run and self._destination.has_datasets(run):
                raise errors.RefusedError(
                    f"RUN collection {run!r} is in the destination already. Give --rename, so that the "
                    "datasets with new ids get into another one."
                )
        return survey

    def _mask(self, run: str) -> bytes:
        return id_masks.derive(run, self._name(run), self._wishes.salt)

    def _examine(
        self, batch: bundle.Datasets, survey: renewal_survey.Survey, candidates: renewal_survey.Candidates
    ) -> None:
        """Find out which datasets of a batch could get new ids, and whether some have got there before."""
        run = batch.run
        if batch.files:
            candidates.with_files.add(run)
        ids = addresses.parse_ids([row.id for row in batch.rows])
        kept = {each for each, where in self._destination.runs_of(addresses.hex_digits(ids)) if where == run}
        if kept:
            survey.kept.setdefault(run, set()).update(kept)
        renewable = addresses.hex_digits(ids[id_masks.are_renewable(id_masks.as_rows(ids))])
        if not (others := [each for each in renewable if each not in kept]):
            return
        candidates.ids.setdefault(run, []).append(others)
        if run not in candidates.begun and self._name(run) == run:
            new = addresses.hex_digits(id_masks.apply(self._mask(run), addresses.parse_ids(others)))
            if any(where == run for _, where in self._destination.runs_of(new)):
                candidates.begun.add(run)

    def _name(self, collection: str) -> str:
        return self._wishes.names.name(collection)

    def _names(self, collection: str) -> list[str]:
        """Return where the content of a collection is then; what is there already stays where it is."""
        survey = self._survey
        if collection not in survey.kept:
            return [self._name(collection)]
        return [self._name(collection), collection] if collection in survey.masks else [collection]

    def new_runs(self) -> dict[str, str]:
        """Return the new names of runs, by the old ones, that don't only have what the destination has."""
        survey = self._survey
        return {run: self._names(run)[0] for run in self._runs if survey.has_moved(run)}

    def _collections(self, batch: bundle.Collections) -> bundle.Collections:
        rows: dict[str, bundle.Collection] = {}
        for row in batch.rows:
            for name in self._names(row.name):
                if row.type == "RUN" and name != row.name:
                    _check_run(name)
                other = rows.setdefault(name, row._replace(name=name))
                if other.type != row.type:
                    raise errors.RefusedError(
                        f"Collections of types {other.type} and {row.type} would both be called {name!r}; "
                        "change --rename."
                    )
        return bundle.Collections(sorted(rows.values()))

    def _graph(self, batch: bundle.Graph) -> bundle.Graph:
        """Return a graph under its new name."""
        if batch.dataset_id in self._survey.kept.get(batch.run, ()):
            return batch
        dataset_id = None if batch.dataset_id is None else self._survey.new_ids([batch.dataset_id])[0]
        new = msgspec.structs.replace(batch, run=self._names(batch.run)[0], dataset_id=dataset_id)
        is_same = (new.run, new.dataset_id) == (batch.run, batch.dataset_id)
        if is_same and not self._wishes.cuts_graphs:
            return batch
        return msgspec.structs.replace(new, location=self._write_graph(new, self.renewal()))

    def renewal(self) -> renewals.Renewal:
        """Return what becomes of names and ids in graphs."""
        survey = self._survey
        runs = {
            run: origins.Run(run, self._names(run)[0], survey.masks.get(run, id_masks.NONE).hex())
            for run in self._runs
        }
        kept = frozenset(bytes.fromhex(each) for ids in survey.kept.values() for each in ids)
        return renewals.Renewal(runs=runs, chains=self._chains, kept=kept)

    def _datasets(self, batch: bundle.Datasets, backing: str | None) -> Iterator[bundle.Datasets]:
        kept = self._survey.kept.get(batch.run, set())
        if kept:
            stay = [row for row in batch.rows if row.id in kept]
            files = [record for record in batch.files if record.dataset_id in kept]
            if stay:
                yield bundle.Datasets(batch.run, stay, files)
        rows = [row for row in batch.rows if row.id not in kept]
        records = [record for record in batch.files if record.dataset_id not in kept]
        if not rows:
            return
        old = [row.id for row in rows]
        new = dict(zip(old, self._survey.new_ids(old), strict=True))
        run = self._names(batch.run)[0]
        changes = [each for each in old if new[each] != each]
        if run == batch.run and not changes:
            yield bundle.Datasets(run, rows, records)
            return
        self._count(records, set(changes), backing)
        yield bundle.Datasets(
            run,
            sorted(row._replace(id=new[row.id]) for row in rows),
            sorted(
                (record._replace(dataset_id=new[record.dataset_id]) for record in records),
                key=lambda record: record.dataset_id,
            ),
            is_renamed=True,
        )

    def _count(self, records: list[bundle.FileRecord], changed: set[str], backing: str | None) -> None:
        """Count the datasets whose files may tell of old ids; graphs are written anew."""
        pairs = {(r.formatter, r.dataset_id) for r in records if r.path != backing}
        self.formatters.update(formatter for formatter, dataset_id in pairs if dataset_id in changed)

    def _associations(self, batch: bundle.Associations) -> bundle.Associations:
        ids = self._survey.new_ids([row.dataset_id for row in batch.rows])
        rows = sorted(
            (row._replace(dataset_id=new) for row, new in zip(batch.rows, ids, strict=True)),
            key=lambda row: row.dataset_id,
        )
        return bundle.Associations(self._name(batch.collection), rows)
