"""Dataset types of a repository (butler-repository.md section 5)."""

from collections.abc import Iterable, Sequence

import sqlalchemy
from aggregator.butler.databases import database
from aggregator.butler.registry import dataset_type_rows, tables
from aggregator.storage import errors

_Rows = dict[str, dataset_type_rows.DatasetTypeRow]


class DatasetTypes:
    """The dataset types of one repository.

    Parameters
    ----------
    registry
        The repository's tables.
    """

    def __init__(self, registry: tables.Tables) -> None:
        self._tables = registry

    def definition(
        self, name: str, storage_class: str, dimensions: Iterable[str], is_calibration: bool
    ) -> dataset_type_rows.Definition:
        """Return the definition that a dataset type has in this repository (see `register`)."""
        required = self._tables.universe.group(dimensions).required
        return dataset_type_rows.Definition(name, storage_class, required, is_calibration)

    def register(
        self, name: str, storage_class: str, dimensions: Iterable[str], *, is_calibration: bool = False
    ) -> dataset_type_rows.DatasetTypeRow:
        """Make sure that a dataset type exists; can be repeated, and run beside others.

        Parameters
        ----------
        name
            Its name.
        storage_class
            Name of its storage class.
        dimensions
            Its dimensions, in any order; they are completed for this repository's universe.
        is_calibration
            Whether its datasets can have validity ranges.

        Raises
        ------
        AggregatorError
            Raised if it is registered with another definition, or a dimension does not exist here.
        """
        definition = self.definition(name, storage_class, dimensions, is_calibration)
        return self.register_all([definition])[name]

    def register_all(self, definitions: Sequence[dataset_type_rows.Definition]) -> _Rows:
        """Make sure that dataset types exist; those that don't are added in one transaction, in order.

        Raises
        ------
        AggregatorError
            Raised if one is registered with another definition; none is added then.
        """
        registered = self.registered([each.name for each in definitions])
        missing = [each for each in definitions if each.name not in registered]
        self._check(definitions, registered)

        def add(connection: sqlalchemy.Connection) -> _Rows:
            added = dataset_type_rows.register(self._tables, connection, missing)
            self._check(missing, added)
            return added

        # What another process is just adding is not to be refused but met.
        added = self._tables.db.write(add, attempts=database.ATTEMPTS) if missing else {}
        return {**registered, **added}

    def _check(self, definitions: Iterable[dataset_type_rows.Definition], registered: _Rows) -> None:
        if problems := dataset_type_rows.problems(self._tables.overrides, definitions, registered):
            raise errors.AggregatorError(f"{self._tables.db.place}: {'; '.join(problems)}.")

    def registered(self, names: Iterable[str]) -> _Rows:
        """Look dataset types up; those that are not registered are left out."""
        given = list(names)
        return self._tables.db.read(
            lambda connection: dataset_type_rows.find_all(self._tables, connection, given)
        )

    def rows(self, names: Iterable[str]) -> _Rows:
        """Look dataset types up.

        Raises
        ------
        AggregatorError
            Raised if some are not registered; names all of them.
        """
        given = list(names)
        registered = self.registered(given)
        if missing := sorted(set(given) - registered.keys()):
            raise errors.AggregatorError(
                f"{self._tables.db.place}: not registered: dataset type {', '.join(missing)}. "
                "Register them first."
            )
        return registered

    def row(self, name: str) -> dataset_type_rows.DatasetTypeRow:
        """Look one dataset type up; like `rows`."""
        return self.rows([name])[name]
