"""Datastores: the files and datastore records that a dataset is predicted to have.

Implements butler-repository.md sections 9 and 10. All that does not depend on a dataset's values is worked
out once per dataset type, storage class and instrument, in a plan.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aggregator.butler.configuration import repository_config as config_module
from aggregator.butler.datastores import formatters, lookup_keys, paths, templates
from aggregator.butler.dimensions import records
from aggregator.butler.dimensions import universe as universe_module
from aggregator.schemas import datastore_records
from aggregator.storage import errors

_ALL: Final = "all"


@dataclasses.dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file of the datasets of one type, and its record but for the path."""

    store: int
    """Place of the datastore among `Datastore.stores`."""

    formatter: str
    """Qualified name of the formatter class."""

    storage_class: str
    """Storage class of what the file holds."""

    component: str
    """Component that the file holds, or `datastore_records.NO_COMPONENT`."""

    extension: str
    """Extension of the file name, with the dot."""

    path: paths.Path
    """Function from full data ID values (in the order of the group's keys), run and dataset id (with
    dashes) to the path relative to the datastore's root. It raises `AggregatorError`
    if a dimension record is missing or a value does not suit the template."""


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetPlan:
    """All files of the datasets of one type."""

    files: tuple[PlannedFile, ...]
    """Files by datastore, then by component; none if every datastore rejects the datasets."""

    needed: frozenset[tuple[str, str]]
    """Dimension and attribute of the record attributes that the paths depend on."""


class Datastore:
    """Predicts the files of datasets from the configuration of a repository.

    Parameters
    ----------
    config
        Configuration of the repository.
    universe
        Dimensions of the graph.
    mock_storage_classes
        Whether mock storage classes (``_mock_...``) are enabled.
    """

    def __init__(
        self,
        config: config_module.RepositoryConfig,
        universe: universe_module.Universe,
        mock_storage_classes: bool = False,
    ) -> None:
        self.stores = config.datastores
        self.universe = universe
        self._stores = [_StoreRules(s, universe, mock_storage_classes) for s in config.datastores]
        self._components = config.storage_classes
        self._mocks = mock_storage_classes
        self._records = records.RecordTable()
        self._plans: dict[tuple[str, str, universe_module.Group, str | None], DatasetPlan] = {}

    def set_records(self, table: records.RecordTable) -> None:
        """Give the dimension records that paths depend on, before the first path is asked for."""
        self._records = table
        self._plans.clear()

    def plan(
        self, dataset_type: str, storage_class: str, group: universe_module.Group, instrument: str | None
    ) -> DatasetPlan:
        """Return the files that datasets of a type have.

        Parameters
        ----------
        dataset_type
            Name of the dataset type.
        storage_class
            Its storage class.
        group
            Its dimensions.
        instrument
            Value of the instrument in the data ID, `None` if it has none.

        Raises
        ------
        aggregator.storage.errors.RefusedError
            The configuration has no valid template or no known formatter for the dataset type.
        """
        key = (dataset_type, storage_class, group, instrument)
        plan = self._plans.get(key)
        if plan is None:
            try:
                plan = self._plans[key] = self._make_plan(*key)
            except errors.RefusedError as error:
                raise errors.RefusedError(f"Dataset type {dataset_type!r}: {error}") from error
        return plan

    def needed_attributes(
        self, requests: Iterable[tuple[str, str, universe_module.Group, str | None]]
    ) -> dict[str, set[str]]:
        """Return the record attributes that paths depend on, by dimension.

        Parameters
        ----------
        requests
            Arguments of `plan` for all dataset types and instruments of the graph.

        Raises
        ------
        aggregator.storage.errors.RefusedError
            As for `plan`.
        """
        needed: dict[str, set[str]] = {}
        for request in requests:
            for element, attribute in self.plan(*request).needed:
                needed.setdefault(element, set()).add(attribute)
        return needed

    def _make_plan(
        self, dataset_type: str, storage_class: str, group: universe_module.Group, instrument: str | None
    ) -> DatasetPlan:
        keys = lookup_keys.candidates(dataset_type, group, [storage_class], instrument)
        whole = [(templates.Target(dataset_type, group), storage_class, keys)]
        parts = []
        for component, inner in self._components_of(storage_class).items():
            names = lookup_keys.candidates(
                f"{dataset_type}.{component}", group, [inner, storage_class], instrument
            )
            parts.append((templates.Target(dataset_type, group, component), inner, names))
        files: list[PlannedFile] = []
        needed: set[tuple[str, str]] = set()
        for store, rules in enumerate(self._stores):
            if not rules.accepts(keys):
                continue
            for target, target_class, names in parts if parts and rules.disassembles(keys) else whole:
                template = templates.compile_template(rules.template(names), target, self.universe)
                formatter, extension = rules.formatters.choose(names)
                path = template.bind(self._records.find, extension)
                component = target.component or datastore_records.NO_COMPONENT
                files.append(PlannedFile(store, formatter, target_class, component, extension, path))
                needed |= template.needed
        return DatasetPlan(tuple(files), frozenset(needed))

    def _components_of(self, storage_class: str) -> Mapping[str, str]:
        """Return the components of a storage class; those of a mock are mocks too."""
        if storage_class in self._components or not self._mocks:
            return self._components.get(storage_class, {})
        if not storage_class.startswith(formatters.MOCK_PREFIX):
            return {}
        original = self._components.get(storage_class.removeprefix(formatters.MOCK_PREFIX), {})
        return {name: formatters.MOCK_PREFIX + inner for name, inner in original.items()}


class _StoreRules:
    """What the configuration of a datastore says about lookup keys."""

    def __init__(
        self, config: config_module.FileDatastore, universe: universe_module.Universe, mocks: bool
    ) -> None:
        self.name = config.name
        self.formatters = formatters.FormatterMap(config.formatters, universe, mocks)
        self._templates = lookup_keys.parse_mapping(config.templates, universe)
        self._default_template = self._templates.pop(lookup_keys.Key(lookup_keys.DEFAULT), None)
        disassembled: Any = config.composites.get("disassembled") or {}
        ordinary = {k: v for k, v in disassembled.items() if not str(k).startswith("__")}
        self._disassembled = lookup_keys.parse_mapping(ordinary, universe)
        self._disassemble_default = config.composites.get(lookup_keys.DEFAULT, False)
        self._constraints = [
            tuple(lookup_keys.parse_list(section.get(key) or (), universe) for key in ("accept", "reject"))
            for section in config.constraints
        ]

    def accepts(self, keys: tuple[lookup_keys.Key, ...]) -> bool:
        """Return whether datasets may be stored: a name decides before ``all``, accept before reject."""
        names = frozenset(keys)
        everything = frozenset(lookup_keys.Key(_ALL, key.section) for key in keys)
        for accept, reject in self._constraints:
            if names & accept:
                continue
            if names & reject or everything & reject or (accept and not everything & accept):
                return False
        return True

    def disassembles(self, keys: tuple[lookup_keys.Key, ...]) -> bool:
        """Return whether each component of a composite gets a file of its own."""
        entries = self._disassembled
        verdict = next((entries[key] for key in keys if key in entries), self._disassemble_default)
        if not isinstance(verdict, bool):
            raise errors.RefusedError(f"'datastore: composites' has {verdict!r}; it has to be true or false.")
        return verdict

    def template(self, keys: tuple[lookup_keys.Key, ...]) -> str:
        """Return the file template for a dataset."""
        template = next((self._templates[k] for k in keys if k in self._templates), self._default_template)
        if not template:
            raise errors.RefusedError(
                f"datastore {self.name} has no file template for it. "
                "Add one, or a default, to 'datastore: templates' in butler.yaml."
            )
        if not isinstance(template, str):
            raise errors.RefusedError(f"'datastore: templates' has {template!r}; it has to be a string.")
        return template
