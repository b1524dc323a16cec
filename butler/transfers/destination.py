"""The repository that takes a bundle: what both the rehearsal of a transfer and the transfer ask of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from aggregator.butler.configuration import repository_config
from aggregator.butler.dimensions import universe
from aggregator.butler.registry import batch, dataset_type_rows, registry
from aggregator.butler.transfers import account, file_placement, transfer_policies
from aggregator.schemas import bundle
from aggregator.storage import errors

_Kind = dataset_type_rows.DatasetTypeRow


class Destination:
    """A repository that a bundle goes to.

    Parameters
    ----------
    head
        Head of the bundle.
    config
        Configuration of the repository; of one that is going to be made, that which it will have.
    target
        Its database; nothing if the repository is going to be made.
    policy
        What happens where both contradict each other.
    done
        Where things are counted.
    tick
        Called now and then; what it raises ends the work.

    Raises
    ------
    RefusedError
        If the dimensions of both don't fit (C14).
    """

    def __init__(
        self,
        head: bundle.Head,
        config: repository_config.RepositoryConfig,
        target: registry.Registry | None,
        policy: transfer_policies.Policies,
        done: account.Account,
        tick: Callable[[], None],
    ) -> None:
        self.config, self.target, self.policy, self.done = config, target, policy, done
        self.source_universe = universe.Universe.from_config(head.universe)
        self.universe = self.source_universe if target is None else target.universe
        if self.universe.namespace != self.source_universe.namespace:
            raise errors.RefusedError(
                f"{config.path}: has dimension universe {self.universe.namespace!r}, not "
                f"{self.source_universe.namespace!r} as {head.source} has (C14). Use another one."
            )
        adding = None if target is None else target.additions
        self.placement = file_placement.Placement(head, config, adding, policy, done, tick)
        self.kinds: dict[str, _Kind] = {}
        self._graph_ids: dict[str, frozenset[str]] = {}

    def look_up(self, rows: Sequence[bundle.DatasetType]) -> None:
        """Look dataset types up in the database."""
        if self.target is not None:
            self.kinds |= self.target.dataset_types.registered([row.name for row in rows])

    def type_conflicts(self, rows: Sequence[bundle.DatasetType]) -> list[account.Conflict]:
        """Return which dataset types are registered with other definitions, or can't be (C4, C5, C14)."""
        conflicts: list[account.Conflict] = []
        for row in rows:
            if problem := self._dimension_problem(row):
                conflicts.append(account.Conflict("C14", problem))
                continue
            registered = self.kinds.get(row.name)
            if registered is None or registered.definition == self.definition(row):
                continue
            text = dataset_type_rows.difference(registered, self.definition(row)) or row.name
            is_same = (registered.required, registered.is_calibration) == (row.dimensions, row.is_calibration)
            if not is_same:
                conflicts.append(account.Conflict("C4", text))
            elif self.policy.storage_class == "fail":
                conflicts.append(account.Conflict("C5", text))
        return conflicts

    def definition(self, row: bundle.DatasetType) -> dataset_type_rows.Definition:
        """Return the definition of a dataset type as it is registered."""
        return dataset_type_rows.Definition(row.name, row.storage_class, row.dimensions, row.is_calibration)

    def _dimension_problem(self, row: bundle.DatasetType) -> str:
        """Return how the dimensions of a dataset type differ; empty if they don't."""
        ours, theirs = self.universe, self.source_universe
        for name in theirs.group(row.dimensions).elements:
            if name not in ours or ours.element(name) != theirs.element(name):
                return f"dimension {name} of dataset type {row.name!r} is another one in {self.config.path}"
        if ours.group(row.dimensions).required != row.dimensions:
            return f"dataset type {row.name!r} has other required dimensions in {self.config.path}"
        return ""

    def check_records(self, batch_: bundle.DimensionRecords) -> None:
        """Refuse sky pixels that mean something else here.

        Raises
        ------
        RefusedError
            If so (C14).
        """
        ours, theirs = self.universe, self.source_universe
        if batch_.element not in ours or ours.element(batch_.element) != theirs.element(batch_.element):
            raise errors.RefusedError(
                f"{self.config.path}: dimension {batch_.element} is another one there (C14). Use a "
                "repository with the same dimension universe."
            )
        if batch_.overlaps and ours.common_skypix != theirs.common_skypix:
            raise errors.RefusedError(
                f"{self.config.path}: regions are related by {ours.common_skypix} there, not by "
                f"{theirs.common_skypix} (C14). Use a repository with the same dimension universe."
            )

    def offered(
        self, rows: Iterable[bundle.Dataset], planned: Sequence[file_placement.Planned]
    ) -> batch.Batch:
        """Return datasets of known types and their files as they are ingested."""
        datasets: list[batch.Dataset] = [
            (row.id, self.kinds[row.dataset_type], row.values)
            for row in rows
            if row.dataset_type in self.kinds
        ]
        ids = {dataset_id for dataset_id, _, _ in datasets}
        files: list[batch.File] = []
        measures: dict[batch.FileKey, batch.Measure] = {}
        for each in planned:
            if each.record.dataset_id not in ids:
                continue
            table, name, dataset_id, path, formatter, storage_class, component, checksum, size = each.row
            files.append((table, name, dataset_id, path, formatter, storage_class, component))
            if checksum is not None or size >= 0:
                measures[table, dataset_id, component] = checksum, size
        return batch.Batch(datasets, files, measures=measures)

    def graphs(self, run: str, rows: Iterable[bundle.Dataset], known: Mapping[str, str]) -> frozenset[str]:
        """Return the provenance graphs that a run may hold: those that are there, and that of the bundle."""
        if run not in self._graph_ids:
            there = frozenset() if self.target is None else self.target.datasets.graphs(run)
            self._graph_ids[run] = there | ({known[run]} if run in known else set())
        return self._graph_ids[run]
