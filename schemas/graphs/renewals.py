"""What becomes of the names and ids in a provenance graph that goes into another repository."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
from aggregator.schemas.graphs import addresses, id_masks, nodes, origins, provenance_graph


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """New names and ids."""

    runs: Mapping[str, origins.Run]
    """What becomes of runs, by their names before; all others stay as they are."""

    chains: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """New names of collections that are no runs, by their names before."""

    replaced: Mapping[bytes, bytes] = dataclasses.field(default_factory=dict)
    """Ids, 16 bytes each, of datasets that have taken the place of those that would have these ids now."""

    kept: frozenset[bytes] = frozenset()
    """Ids, 16 bytes each, of datasets that are in the destination already: they keep id and run."""

    @property
    def changes_nothing(self) -> bool:
        """Whether all names and ids stay."""
        return not self.replaced and all(
            run.source == run.destination and run.mask == id_masks.NONE.hex() for run in self.runs.values()
        )

    def name(self, collection: str) -> str:
        """Return the new name of a collection."""
        run = self.runs.get(collection)
        return self.chains.get(collection, collection) if run is None else run.destination

    def has_made(self, origin: origins.Origin, wanted: origins.Origin) -> bool:
        """Return whether a graph is what this makes of another one, or has that as a part.

        Parameters
        ----------
        origin
            The last transfer that the graph tells of.
        wanted
            What this transfer would tell.
        """
        replaced = {would.hex(): has.hex() for would, has in self.replaced.items()}
        are_same = all(self.runs.get(run.source) == run for run in origin.runs)
        is_enough = origin.slice is None or origin.slice == wanted.slice
        return (
            origin.fingerprint == wanted.fingerprint
            and is_enough
            and are_same
            and origin.replaced == replaced
        )

    def mask(self, run: str) -> bytes:
        """Return the mask of the ids of a run."""
        return bytes.fromhex(self.runs[run].mask) if run in self.runs else id_masks.NONE


class MaskedIds:
    """The new ids of many nodes.

    Parameters
    ----------
    ids
        Ids that they have, sorted, shape (n,).
    rows
        Row of each node's mask, shape (n,).
    masks
        The masks.
    """

    def __init__(self, ids: addresses.Ids, rows: npt.NDArray[np.int32], masks: Iterable[bytes]) -> None:
        self._ids = ids
        self._rows = rows
        table = np.frombuffer(b"".join(masks), dtype=np.uint8).reshape(-1, id_masks.SIZE)
        # What is none of the nodes gets the last one.
        self._masks = np.concatenate([table, np.zeros((1, id_masks.SIZE), dtype=np.uint8)])

    def of(self, ids: addresses.Ids) -> addresses.Ids:
        """Return the new ids of some nodes; what is none of them, or can't be renewed, stays."""
        if not len(self._ids):
            return ids
        places = np.searchsorted(self._ids, ids)
        places[places == len(self._ids)] = 0
        old = id_masks.as_rows(ids)
        is_known = (self._ids[places] == ids) & id_masks.are_renewable(old)
        rows = np.where(is_known, self._rows[places], len(self._masks) - 1)
        return id_masks.as_ids(old ^ self._masks[rows])


class NewIds:
    """The new id of every node of a graph.

    Parameters
    ----------
    graph
        The graph.
    renewal
        What becomes of its ids.
    """

    def __init__(self, graph: provenance_graph.ProvenanceGraph, renewal: Renewal) -> None:
        masks = {renewal.mask(graph.header.output_run): 0}
        init_quanta = [quantum.quantum_id for quantum in graph.init_quanta()]
        ids: addresses.Ids = np.concatenate(
            [*(table.ids for table in graph.address_rows()), addresses.parse_ids(init_quanta)]
        )
        # Nearly sorted already.
        ids.sort(kind="stable")
        rows = np.zeros(len(ids), dtype=np.int32)
        runs = {graph.header.output_run}
        for run, some in _other_datasets(graph):
            runs.add(run)
            _assign(ids, rows, some, masks.setdefault(renewal.mask(run), len(masks)))
        if renewal.kept:
            kept = np.frombuffer(b"".join(renewal.kept), dtype=addresses.ID_TYPE)
            _assign(ids, rows, kept, masks.setdefault(id_masks.NONE, len(masks)))
        self._masked = MaskedIds(ids, rows, masks)
        self.runs = frozenset(runs)
        """Names of the runs of all datasets, as they were."""
        pairs = sorted(renewal.replaced.items())
        self._replaced, self._replacing = (
            np.frombuffer(b"".join(part), dtype=addresses.ID_TYPE)
            for part in (zip(*pairs, strict=True) if pairs else ((), ()))
        )

    @property
    def keep_times(self) -> bool:
        """Whether the new ids begin with the times that the old ones have."""
        return not len(self._replaced)

    def of(self, ids: addresses.Ids) -> addresses.Ids:
        """Return the new ids of some nodes; an id that is none of a node stays."""
        new = self._masked.of(ids)
        if len(self._replaced):
            chosen = np.flatnonzero(addresses.are_in(new, self._replaced))
            new[chosen] = self._replacing[np.searchsorted(self._replaced, new[chosen])]
        return new


def _other_datasets(graph: provenance_graph.ProvenanceGraph) -> Iterator[tuple[str, addresses.Ids]]:
    """Yield the runs of datasets that are not in the output run, with ids of such datasets."""
    by_run: dict[str, list[str]] = {}
    for _, _, document in graph.documents(nodes.DATASETS):
        dataset = _decoder.decode(document)
        if dataset.run != graph.header.output_run:
            by_run.setdefault(dataset.run, []).append(dataset.dataset_id)
            if len(by_run[dataset.run]) == _AT_ONCE:
                yield dataset.run, addresses.parse_ids(by_run.pop(dataset.run))
    for run, ids in by_run.items():
        yield run, addresses.parse_ids(ids)


def _assign(ids: addresses.Ids, rows: npt.NDArray[np.int32], some: addresses.Ids, row: int) -> None:
    """Set the row of those of some nodes that are among all of them."""
    rows[np.searchsorted(ids, some[addresses.are_in(some, ids)])] = row


_AT_ONCE: Final = 1 << 16
"""Ids that are taken together."""


class _Dataset(msgspec.Struct, gc=False):
    dataset_id: str
    run: str


_decoder = msgspec.json.Decoder(_Dataset)
