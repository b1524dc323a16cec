"""How an object goes to storages and comes back, with interfaces of both (stages.md section 6).

A storage is a place; a formatter knows what an object of some type is there. Writing goes to all storages of
an item, and all of them commit in the end, or none.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from aggregator.stages import property_sets
from aggregator.stages.policies import policy as policy_module


class Storage(abc.ABC):
    """One place, for one object that is written or read.

    It is made, started, used by a formatter, prepared, committed or rolled back, and closed.
    """

    is_final: ClassVar[bool] = False
    """Whether a commit can't be undone, so that it comes after those that can."""

    @abc.abstractmethod
    def start(self) -> None:
        """Begin; raises AggregatorError if that is not possible."""

    def prepare(self) -> None:  # noqa: B027  (for many all is ready)
        """Do all that can fail before anything is committed; raises AggregatorError if it does."""

    @abc.abstractmethod
    def commit(self) -> None:
        """Make what was written be there, or end reading; raises AggregatorError if that is not possible."""

    @abc.abstractmethod
    def rollback(self) -> None:
        """Leave everything as it was before, also after a commit that is not final."""

    def close(self) -> None:  # noqa: B027  (for many there is nothing to close)
        """Give up what `rollback` would need; called in the end."""


class Formatter(Protocol):
    """What objects of one type are in storages."""

    def write(self, item: Any, storage: Any, data: property_sets.PropertySet) -> None:
        """Write an object to a storage that has started."""

    def read(self, storage: Any, data: property_sets.PropertySet) -> Any:
        """Return the object in a storage that has started."""

    def update(self, item: Any, storage: Any, data: property_sets.PropertySet) -> Any:
        """Return an object with what a further storage has of it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A storage that a policy names."""

    storage: str
    """Name of the storage, such as ``FitsStorage``."""

    location: str
    """Location, with all values put in."""

    origin: policy_module.Origin
    """Where the policy names it."""


class Backend(Protocol):
    """Makes storages and formatters."""

    def storage(self, place: Place, settings: policy_module.Policy, *, writes: bool) -> Storage:
        """Return a storage that has not started.

        Parameters
        ----------
        place
            Which one, and where.
        settings
            Its part of the policy ``persistence``.
        writes
            Whether an object goes there.

        Raises
        ------
        RefusedError
            If there is no such storage, or it can't be at that location.
        """

    def formatter(
        self, type_name: str, python_type: type[Any] | None, place: Place, settings: policy_module.Policy
    ) -> Formatter:
        """Return the formatter of a type for a storage.

        Parameters
        ----------
        type_name
            Name of the type in the policy; "" if it names none.
        python_type
            Class of the object.
        place
            The storage.
        settings
            Its part of the policy ``persistence``.

        Raises
        ------
        RefusedError
            If there is none.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class Persistence:
    """Writes objects to storages and reads them."""

    backend: Backend
    """Makes storages and formatters."""

    settings: policy_module.Policy
    """The policy ``persistence``: settings of storages by name, and of formatters as ``Formatter.TYPE``."""

    def persist(
        self, item: Any, type_name: str, places: Sequence[Place], data: property_sets.PropertySet
    ) -> None:
        """Write an object to all of several storages, or to none.

        Parameters
        ----------
        item
            The object.
        type_name
            Name of its type; "" to go by its class.
        places
            The storages.
        data
            What formatters may want to know besides.

        Raises
        ------
        AggregatorError
            If it can't be written; all storages are then as before.
        """
        with contextlib.ExitStack() as undone:
            storages = [self._open(place, undone, writes=True) for place in places]
            for place, storage in zip(places, storages, strict=True):
                self._formatter(type_name, type(item), place).write(item, storage, data)
            for storage in storages:
                storage.prepare()
            for storage in sorted(storages, key=lambda each: each.is_final):
                storage.commit()
            undone.pop_all()
        for storage in storages:
            storage.close()

    def retrieve(
        self,
        type_name: str,
        python_type: type[Any] | None,
        places: Sequence[Place],
        data: property_sets.PropertySet,
    ) -> Any:
        """Read an object: the first storage makes it, each further one updates it.

        Parameters
        ----------
        type_name
            Name of its type; "" to go by its class.
        python_type
            Its class.
        places
            The storages, at least one.
        data
            What formatters may want to know besides.

        Raises
        ------
        AggregatorError
            If it can't be read.
        """
        item = None
        for number, place in enumerate(places):
            with contextlib.ExitStack() as undone:
                storage = self._open(place, undone, writes=False)
                formatter = self._formatter(type_name, python_type, place)
                item = formatter.update(item, storage, data) if number else formatter.read(storage, data)
                storage.commit()
                undone.pop_all()
            storage.close()
        return item

    def _open(self, place: Place, undone: contextlib.ExitStack, *, writes: bool) -> Storage:
        storage = self.backend.storage(place, self.settings.part(place.storage), writes=writes)
        undone.callback(storage.rollback)
        storage.start()
        return storage

    def _formatter(self, type_name: str, python_type: type[Any] | None, place: Place) -> Formatter:
        settings = self.settings.part(f"Formatter.{type_name}") if type_name else policy_module.Policy()
        return self.backend.formatter(type_name, python_type, place, settings)
