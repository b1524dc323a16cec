"""The rows that datasets of a digest become in the database."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from aggregator.butler.datastores import catalog
from aggregator.butler.dimensions import universe
from aggregator.butler.registry import batch, dataset_type_rows
from aggregator.schemas import verdicts
from aggregator.schemas.checkpoints import digest
from aggregator.schemas.graphs import addresses, pipeline

Find = Callable[[Sequence[str]], dict[str, dataset_type_rows.DatasetTypeRow]]


def belonging(opened: digest.Digest, verdict: bytes) -> npt.NDArray[np.bool_]:
    """Return which datasets of a digest were produced by quanta that are accepted, given all verdicts."""
    chosen: npt.NDArray[np.bool_] = (opened.column("dataset.flags") & digest.PRODUCED).astype(bool)
    judged = np.frombuffer(verdict, dtype="i1")
    chosen &= judged[opened.column("dataset.quantum")] == verdicts.ACCEPTED
    return chosen


def regular(opened: digest.Digest) -> npt.NDArray[np.bool_]:
    """Return which datasets of a digest are neither log, metadata nor config."""
    chosen: npt.NDArray[np.bool_] = opened.column("dataset.flags") >> digest.ROLE_SHIFT == digest.REGULAR
    return chosen


class DatasetRows:
    """Translates datasets of digests into rows.

    Parameters
    ----------
    source
        The graph's pipeline.
    stores
        Table of file records and name of each datastore.
    find
        Returns registered dataset types by their names.
    """

    def __init__(self, source: pipeline.Pipeline, stores: Sequence[tuple[str, str]], find: Find) -> None:
        self._pipeline = source
        self._stores = stores
        self._find = find
        self._universe = universe.Universe.from_config(source.universe)
        self._types: dict[int, tuple[dataset_type_rows.DatasetTypeRow, list[int]]] = {}

    def forget_types(self) -> None:
        """Have dataset types looked up again: their keys may have changed."""
        self._types.clear()

    def translate(self, opened: digest.Digest, rows: npt.NDArray[np.intp], ids: addresses.Ids) -> batch.Batch:
        """Return the datasets in some rows of a digest, with their files, given the digest's ids."""
        kinds = opened.column("dataset.type")[rows].tolist()
        coordinates = opened.column("dataset.coordinate")[rows].tolist()
        values = [catalog.decode_values(text) for text in opened.values("coordinates")]
        types = self._registered_types()
        digits = addresses.hex_digits(ids[rows])
        datasets = []
        for dataset_id, kind, coordinate in zip(digits, kinds, coordinates, strict=True):
            row, required = types[kind]
            full = values[coordinate]
            datasets.append((dataset_id, row, tuple([full[at] for at in required])))
        return batch.Batch(datasets, self._files(opened, dict(zip(rows.tolist(), digits, strict=True))))

    def _files(self, opened: digest.Digest, ids: dict[int, str]) -> list[batch.File]:
        kinds = [
            (*self._stores[store], formatter, storage_class, component)
            for store, formatter, storage_class, component in opened.values("file.kinds")
        ]
        owners = opened.column("file.dataset").tolist()
        which = opened.column("file.kind").tolist()
        files = []
        for owner, kind, path in zip(owners, which, opened.values("file.paths"), strict=True):
            dataset_id = ids.get(owner)
            if dataset_id is not None:
                table, store, formatter, storage_class, component = kinds[kind]
                files.append((table, store, dataset_id, path, formatter, storage_class, component))
        return files

    def _registered_types(self) -> dict[int, tuple[dataset_type_rows.DatasetTypeRow, list[int]]]:
        """Return the dataset types of outputs, and where their required values stand in data IDs."""
        if not self._types:
            produced = [(index, t) for index, t in enumerate(self._pipeline.dataset_types) if t.is_produced]
            rows = self._find([kind.name for _, kind in produced])
            for index, kind in produced:
                row, keys = rows[kind.name], self._universe.group(kind.dimensions).keys
                self._types[index] = row, [keys.index(name) for name in row.required]
        return self._types
