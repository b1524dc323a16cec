"""The butler of stages outside of quanta: datasets of a repository (stages.md section 9)."""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from aggregator.butler import artifacts, dataset_refs, provenance_transfer, quantum_backed_butler
from aggregator.butler import quantum as quantum_module
from aggregator.butler.configuration import repository_config
from aggregator.butler.datastores import datastore
from aggregator.butler.dimensions import records
from aggregator.butler.registry import (
    collection_rows,
    data_id_joins,
    dataset_type_rows,
    new_ids,
    registry,
    searches,
)
from aggregator.execution.graph_building import data_id_search
from aggregator.schemas import datastore_records
from aggregator.stages import mappers
from aggregator.stages.policies import policy as policy_module
from aggregator.storage import errors, inner_directories, stores, uris


class RepositoryButler:
    """Datasets of a repository; a `butlers.Butler`.

    Parameters
    ----------
    policy
        A policy ``butler``: ``repository``; ``collections``, where datasets are looked for; ``run``, where
        they are written; ``instrument`` and ``skymap``, if ids don't have them; and what `mappers.of_policy`
        takes.

    Raises
    ------
    RefusedError
        If there is no such repository, collection or mapper.
    """

    def __init__(self, policy: policy_module.Policy) -> None:
        self._policy = policy
        self._mapper = mappers.of_policy(policy)
        self._defaults = {
            name: policy.required(name, str) for name in ("instrument", "skymap") if name in policy
        }
        self._run = policy.get("run", "")
        self._config = repository_config.load(policy.required("repository", str))
        self._registry = registry.open_repository(self._config, writeable=bool(self._run))
        self._recorded_files = artifacts.Artifacts(self._config, self._registry.universe)
        self._inside = inner_directories.InnerDirectories()
        self._kinds: dict[str, dataset_type_rows.DatasetTypeRow] = {}
        try:
            self._collections = self._registry.searches.collections(policy.array("collections", str))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the repository's database."""
        self._registry.close()

    def is_there(self, dataset_type: str, ids: Mapping[str, Any]) -> bool:
        """Return whether there is a dataset in the collections; see `butlers.Butler`."""
        kind, values, _ = self._mapped(dataset_type, ids)
        return self._find(kind, values) is not None

    def is_written(self, dataset_type: str, ids: Mapping[str, Any]) -> bool:
        """Return whether there is a dataset in the run; errors as for `is_there`."""
        kind, values, _ = self._mapped(dataset_type, ids)
        return self._is_in_run(kind, values)

    def key(self, dataset_type: str, ids: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return what tells a dataset from all others of a run; errors as for `is_there`."""
        kind, values, _ = self._mapped(dataset_type, ids)
        return kind.name, *values

    def get(self, dataset_type: str, ids: Mapping[str, Any]) -> Any:
        """Return the first dataset in the collections; see `butlers.Butler`."""
        kind, values, data_id = self._mapped(dataset_type, ids)
        place = self._find(kind, values)
        if place is None:
            raise errors.AggregatorError(f"{self._config.path}: there is no {kind.name} with {data_id}.")
        ref = self._ref(kind, data_id, place)
        stores = [(each.name, each.records_table) for each in self._config.datastores]
        files: dict[str, list[datastore_records.FileRecord]] = {}
        for name, record in self._registry.searches.files([place.id], stores).get(place.id, []):
            files.setdefault(name, []).append(record)
        held = {name: frozenset(rows) for name, rows in files.items()}
        if not held:
            raise errors.AggregatorError(f"{self._config.path}: {ref}: is recorded, but without files.")
        with quantum_backed_butler.QuantumBackedButler.from_predicted(
            self._recorded_files, [ref.id], [], held
        ) as butler:
            try:
                item = butler.get(ref)
            except FileNotFoundError as exc:
                text = f"{self._config.path}: {ref}: is recorded, but its file is not there."
                raise errors.AggregatorError(text) from exc
        with self._mapping(dataset_type):
            return self._mapper.standardize(kind.name, item, data_id)

    def put(self, item: Any, dataset_type: str, ids: Mapping[str, Any]) -> None:
        """Write a dataset into the run: its files, and then its rows; see `butlers.Butler`.

        If that is interrupted in between, the same can be done again, if it gives the same files.
        """
        kind, values, data_id = self._mapped(dataset_type, ids)
        if self._is_in_run(kind, values):
            text = f"{kind.name} with {data_id} is in run {self._run} already, and is not replaced."
            raise errors.AggregatorError(f"{self._config.path}: {text} Choose another run.")
        self.check_run()
        ref = self._ref(kind, data_id, searches.Place(new_ids.new(), self._run))
        files = self._new_files(ref)
        for each in itertools.chain.from_iterable(files.predicted(ref, kind.storage_class)):
            self._check_inside(each.store, each.key.rpartition("/")[0])
        quantum = quantum_module.Quantum(ref.id, "", ref.dataId, {}, {"item": (ref,)})
        with quantum_backed_butler.QuantumBackedButler.initialize(files, quantum) as butler:
            # What is there may be an output of a campaign that is not aggregated yet.
            butler.replaces = False
            try:
                butler.put(item, ref)
            except TypeError as exc:
                raise errors.RefusedError(f"{ref}: can't be written ({exc}).") from exc
            provenance = butler.extract_provenance_data()
        self._registry.collections.register_run(self._run)
        result = provenance_transfer.collect_and_transfer(self._registry, files, [quantum], [provenance])
        if result.conflicts:
            raise errors.ConflictError(f"{self._config.path}: {result.conflicts[0]}")

    def check_run(self) -> None:
        """Refuse a run to which nothing can be added.

        Raises
        ------
        RefusedError
            If none is given, it is no path within the datastores, or it has its provenance graph.
        """
        name = self._policy.full_name("run")
        if not self._run:
            raise policy_module.complaint(self._policy.origin, name, "is missing.")
        if {"", ".", ".."} & set(self._run.split("/")) or not self._run.isprintable():
            text = f"{self._run!r} is no name of a run: what is between slashes has to name a directory."
            raise policy_module.complaint(self._policy.origin_of("run"), name, text)
        if self._registry.datasets.graphs(self._run):
            text = f"run {self._run} has its provenance graph, so that nothing is added to it."
            raise errors.RefusedError(f"{self._config.path}: {text} Choose another run.")

        for each in self._config.datastores:
            self._check_inside(each.files, self._run)

    def _check_inside(self, store: stores.Store, directory: str) -> None:
        """Refuse a directory that a link has put outside of a datastore."""
        location, root = store.location(directory), store.location("").rstrip("/")
        if not uris.is_remote(location):
            self._inside.check(location, root)

    def _is_in_run(self, kind: dataset_type_rows.DatasetTypeRow, values: searches.Values) -> bool:
        row = self._registry.collections.find(self._run)
        if row is not None and row.type is not collection_rows.CollectionType.RUN:
            text = f"{self._run} is a {row.type.name} collection, and no run. Choose another name."
            raise errors.RefusedError(f"{self._config.path}: {text}")
        return row is not None and values in self._registry.searches.find(kind, [row], [values])

    def _find(self, kind: dataset_type_rows.DatasetTypeRow, values: searches.Values) -> searches.Place | None:
        data_id_search.refuse_calibrations(self._registry, kind, self._collections)
        return self._registry.searches.find(kind, self._collections, [values]).get(values)

    def _mapped(
        self, dataset_type: str, ids: Mapping[str, Any]
    ) -> tuple[dataset_type_rows.DatasetTypeRow, searches.Values, dict[str, dataset_refs.Value]]:
        """Return the dataset type, the values of its required dimensions, and all values that are given."""
        with self._mapping(dataset_type):
            name, mapped = self._mapper.map(dataset_type, ids)
            name, mapped = str(name), dict(mapped)
        if name not in self._kinds:
            kind_rows = self._registry.dataset_types.registered([name])
            if name not in kind_rows:
                text = f"dataset type {name!r} is not registered; register it first."
                raise errors.RefusedError(f"{self._policy.origin}: {text}")
            self._kinds[name] = kind_rows[name]
        kind = self._kinds[name]
        data_id = {**self._defaults, **mapped}
        for key, value in data_id.items():
            self._check(key, value)
        if missing := [key for key in kind.required if key not in data_id]:
            given = ", ".join(f"{key}={value!r}" for key, value in data_id.items())
            raise errors.RefusedError(
                f"{name} needs {', '.join(missing)} to be found; given are {given or 'none'}."
            )
        return kind, tuple(data_id[key] for key in kind.required), data_id

    @contextlib.contextmanager
    def _mapping(self, dataset_type: str) -> Iterator[None]:
        """Explain errors of the mapper, which is anybody's code."""
        try:
            yield
        except errors.AggregatorError:
            raise
        except Exception as exc:
            name = f"{type(self._mapper).__module__}.{type(self._mapper).__qualname__}"
            text = f"mapper {name} has failed with {dataset_type} ({type(exc).__name__}: {exc})."
            raise errors.AggregatorError(f"{self._policy.origin}: {text}") from exc

    def _check(self, key: str, value: Any) -> None:
        """Refuse what is no dimension, or no value of one."""
        dimensions = self._registry.universe
        if key not in dimensions.dimensions:
            text = "leave it out, or give its name in mapperPolicy.keys"
            raise errors.RefusedError(f"{key} is no dimension of {self._config.path}; {text}.")
        is_int = dimensions.column_type(key)[0] == "int"
        if not isinstance(value, int if is_int else str) or isinstance(value, bool):
            text = "an int" if is_int else "a string"
            raise errors.RefusedError(f"{key} has to be {text}, and is {value!r}.")

    def _ref(
        self, kind: dataset_type_rows.DatasetTypeRow, data_id: Mapping[str, Any], place: searches.Place
    ) -> dataset_refs.DatasetRef:
        """Return the reference to a dataset, with the values that others imply."""
        group = self._registry.universe.group(kind.required)
        given = {key: value for key, value in data_id.items() if key in group.keys}
        request = data_id_joins.Request(group, None, given, ())
        keys = tuple(group.keys)
        rows = self._registry.searches.project(request, None, [keys])[keys] if keys else {()}
        if len(rows) != 1:
            raise errors.AggregatorError(f"{self._config.path}: there are no dimension records of {given}.")
        whole = dataset_refs.DataId(group, rows.pop())
        dataset_type = dataset_refs.DatasetType(kind.name, group, kind.storage_class)
        return dataset_refs.DatasetRef(dataset_type, whole, place.run, uuid.UUID(place.id))

    def _new_files(self, ref: dataset_refs.DatasetRef) -> artifacts.Artifacts:
        """Return where files go, with what the name of a dataset's file depends on."""
        kind, data_id = ref.datasetType, ref.dataId
        instrument = data_id.get("instrument")
        plans = datastore.Datastore(self._config, self._registry.universe)
        request = (
            kind.name,
            kind.storage_class,
            kind.dimensions,
            None if instrument is None else str(instrument),
        )
        needed = plans.needed_attributes([request])
        rows = []
        for element in needed:
            columns = self._registry.universe.record_columns(element)
            key = {name: data_id[name] for name in self._registry.universe.required(element)}
            for record in self._registry.dimensions.records(element, **key):
                rows.append((element, [record.get(column) for column in columns]))
        table = records.RecordTable.build(self._registry.universe, needed, rows)
        return artifacts.Artifacts(self._config, self._registry.universe, table)
