"""Which datasets a quantum looks at, reads and writes.

The rules are those of the Rubin middleware: a look at an input tells whether it is available, reading it
makes it an actual input, and so does a handle for reading it later.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Iterable
from typing import Final, Protocol

_log = logging.getLogger(__name__)

PREDICTED_INPUTS: Final = "predicted_inputs"
PREDICTED_OUTPUTS: Final = "predicted_outputs"
AVAILABLE_INPUTS: Final = "available_inputs"
UNAVAILABLE_INPUTS: Final = "unavailable_inputs"
ACTUAL_INPUTS: Final = "actual_inputs"
ACTUAL_OUTPUTS: Final = "actual_outputs"

KINDS: Final = (
    PREDICTED_INPUTS,
    PREDICTED_OUTPUTS,
    AVAILABLE_INPUTS,
    UNAVAILABLE_INPUTS,
    ACTUAL_INPUTS,
    ACTUAL_OUTPUTS,
)
"""Kinds of sets that datasets are in."""


class Journal(Protocol):
    """Where each change is written down."""

    def add(self, kind: str, ids: Collection[uuid.UUID]) -> None:
        """Note datasets that come into a set."""

    def remove(self, kind: str, ids: Collection[uuid.UUID]) -> None:
        """Note datasets that leave a set."""


class Accesses:
    """The datasets of one quantum.

    Parameters
    ----------
    predicted_inputs
        Ids of datasets that it is to read.
    predicted_outputs
        Ids of datasets that it is to write.
    journal
        Where each change is written down.
    """

    def __init__(
        self, predicted_inputs: Iterable[uuid.UUID], predicted_outputs: Iterable[uuid.UUID], journal: Journal
    ) -> None:
        self._journal = journal
        self._sets: dict[str, set[uuid.UUID]] = {kind: set() for kind in KINDS}
        self._add(PREDICTED_INPUTS, predicted_inputs)
        self._add(PREDICTED_OUTPUTS, predicted_outputs)

    def __getitem__(self, kind: str) -> frozenset[uuid.UUID]:
        """Return the datasets of a kind."""
        return frozenset(self._sets[kind])

    def is_in(self, kind: str, dataset_id: uuid.UUID) -> bool:
        """Return whether a dataset is in a set."""
        return dataset_id in self._sets[kind]

    def note_read(self, dataset_id: uuid.UUID) -> None:
        """Note that a dataset was read."""
        if self.is_in(PREDICTED_INPUTS, dataset_id):
            self._add(ACTUAL_INPUTS, [dataset_id])
            self._add(AVAILABLE_INPUTS, [dataset_id])

    def note_missing(self, dataset_id: uuid.UUID) -> None:
        """Note that a dataset was to be read, and was not there."""
        self.note_looks([(dataset_id, False)])

    def note_handle(self, dataset_id: uuid.UUID) -> None:
        """Note that a dataset may be read later."""
        if self.is_in(PREDICTED_INPUTS, dataset_id):
            self._add(ACTUAL_INPUTS, [dataset_id])

    def note_looks(self, looks: Iterable[tuple[uuid.UUID, bool]]) -> None:
        """Note which datasets are there, and which are not."""
        inputs = [look for look in looks if self.is_in(PREDICTED_INPUTS, look[0])]
        self._add(AVAILABLE_INPUTS, [dataset_id for dataset_id, is_there in inputs if is_there])
        self._add(UNAVAILABLE_INPUTS, [dataset_id for dataset_id, is_there in inputs if not is_there])

    def note_unused(self, dataset_id: uuid.UUID) -> None:
        """Note that a dataset was read for nothing."""
        self._remove(ACTUAL_INPUTS, [dataset_id])

    def note_written(self, dataset_id: uuid.UUID) -> None:
        """Note that a dataset was written."""
        self._add(ACTUAL_OUTPUTS, [dataset_id])

    def note_purged(self, dataset_ids: Iterable[uuid.UUID]) -> None:
        """Note that datasets are as if they had not been written."""
        self._remove(ACTUAL_OUTPUTS, dataset_ids)

    def settle(self) -> None:
        """Warn about what does not fit together; inputs that turned out to be missing are no actual ones."""
        missing = self._sets[ACTUAL_INPUTS] & self._sets[UNAVAILABLE_INPUTS]
        if missing:
            _log.warning(
                "Inputs %s are marked as used, but do not exist. Most likely a deferred handle was made for "
                "them: the task should call markInputUnused for what it does not use.",
                _listed(missing),
            )
            self._remove(ACTUAL_INPUTS, missing)
        looked_at = self._sets[AVAILABLE_INPUTS] | self._sets[UNAVAILABLE_INPUTS]
        if self._sets[PREDICTED_INPUTS] != looked_at:
            _log.warning(
                "The execution harness did not check whether predicted inputs %s exist; available inputs in "
                "the provenance may be incomplete.",
                _listed(self._sets[PREDICTED_INPUTS] - looked_at),
            )

    def _add(self, kind: str, ids: Iterable[uuid.UUID]) -> None:
        if new := set(ids) - self._sets[kind]:
            self._sets[kind] |= new
            self._journal.add(kind, new)

    def _remove(self, kind: str, ids: Iterable[uuid.UUID]) -> None:
        if gone := self._sets[kind].intersection(ids):
            self._sets[kind] -= gone
            self._journal.remove(kind, gone)


def _listed(ids: Iterable[uuid.UUID]) -> str:
    return ", ".join(sorted(map(str, ids))) or "(none)"
