"""Files that another system was to bring: what has arrived is recorded (transfer.md section 7.6)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from aggregator.butler.configuration import own_files, repository_config
from aggregator.butler.registry import additions, registry
from aggregator.schemas import bundle, datastore_records, transfer_manifest
from aggregator.storage import errors, fault_points, local_files, opening, uris

VERIFICATIONS: Final = ("size", "checksum", "none")
"""What of a file has to be right, the default first."""

_ID: Final = re.compile(r"[0-9a-f]{32}")
_PREFIX: Final = "blake2b:"
_CHECKSUM_SIZE: Final = 64


class Confirmation:
    """Records files of a manifest that are in their places.

    Parameters
    ----------
    config
        The repository that they go to.
    target
        Its database, open for writing.
    verify
        What has to be right.
    tick
        Called now and then; what it raises ends the work.
    """

    def __init__(
        self,
        config: repository_config.RepositoryConfig,
        target: registry.Registry,
        verify: str,
        tick: Callable[[], None],
    ) -> None:
        self._config, self._target, self._verify, self._tick = config, target, verify, tick
        self._stores = {store.name: store for store in config.datastores}
        self._own = own_files.OwnFiles(config)
        self.n_recorded = 0
        """Datasets that have a file now."""
        self.n_present = 0
        """Datasets that had one before."""

    def take(
        self, entries: Sequence[transfer_manifest.Entry]
    ) -> Iterator[tuple[transfer_manifest.Entry, str]]:
        """Record files, all in one transaction; yield what can't be yet, with the reason.

        Raises
        ------
        RefusedError
            If one would be outside of its datastore, or is of another one.
        AggregatorError
            If the database fails, or nobody knows what is there.
        """
        self._tick()
        for entry in entries:
            self._check(entry)
        ids = [dataset_id for entry in entries for dataset_id in entry.ids]
        presence = self._target.additions.presence(ids, list(self._stores))
        known = self._recorded(presence)
        rows: list[additions.FileRow] = []
        recorded: set[str] = set()
        present: set[str] = set()
        for entry, problem in zip(entries, self._problems(entries), strict=True):
            if problem:
                yield entry, problem
                continue
            problems: dict[str, list[str]] = {}
            for dataset_id in entry.ids:
                if dataset_id not in presence.runs:
                    problems.setdefault(f"there is no dataset {dataset_id}", []).append(dataset_id)
                    continue
                there = known.get((entry.datastore, dataset_id), {})
                if odd := _other_place(entry, there):
                    problems.setdefault(f"its dataset is recorded {odd}", []).append(dataset_id)
                    continue
                # Of a dataset in parts, some may be recorded.
                if entry.component not in there:
                    rows.append(self._row(entry, dataset_id))
                (present if there else recorded).add(dataset_id)
            for text, ids_ in problems.items():
                yield msgspec.structs.replace(entry, ids=tuple(ids_)), text
        fault_points.reached("verified")
        self._target.additions.record_files(rows)
        self.n_recorded += len(recorded)
        self.n_present += len(present)

    def _recorded(self, presence: additions.Presence) -> dict[tuple[str, str], dict[str | None, str]]:
        """Return the paths of datasets that have files, by component, by datastore and id."""
        stores = [(store.name, store.records_table) for store in self._stores.values()]
        ids = sorted({dataset_id for _, dataset_id in presence.recorded})
        known: dict[tuple[str, str], dict[str | None, str]] = {}
        for each in self._target.additions.file_records(ids, stores):
            known.setdefault((each.datastore, each.dataset_id), {})[each.component] = each.path
        return known

    def _check(self, entry: transfer_manifest.Entry) -> None:
        store = self._stores.get(entry.datastore)
        if store is None:
            raise errors.RefusedError(
                f"{self._config.path}: has no datastore {entry.datastore!r}. Give the repository that "
                "the manifest was made for."
            )
        path = bundle.file_path(entry.path)
        is_inside = not {"", ".", ".."} & set(path.split("/")) and "\0" not in entry.path
        if not is_inside or "://" in entry.path or store.files.location(path) in self._own:
            raise errors.RefusedError(
                f"{entry.path!r}: would not be inside the datastore, or is the repository's own; make the "
                "manifest again."
            )

        if odd := [each for each in entry.ids if not _ID.fullmatch(each)]:
            raise errors.RefusedError(
                f"{entry.path!r}: {odd[0]!r} is no dataset id; make the manifest again."
            )

    def _problems(self, entries: Sequence[transfer_manifest.Entry]) -> Iterator[str]:
        """Yield for each file what is wrong with it; nothing if it is right."""
        keys: dict[str, list[str]] = {}
        for entry in entries:
            keys.setdefault(entry.datastore, []).append(bundle.file_path(entry.path))
        looks = {
            name: dict(zip(some, self._stores[name].files.marks(some), strict=True))
            for name, some in keys.items()
        }
        for entry in entries:
            look = looks[entry.datastore][bundle.file_path(entry.path)]
            if look is None:
                yield "is not there"
            elif isinstance(look, local_files.UnusableError):
                yield str(look)
            elif self._verify != "none" and entry.size is not None and look.size != entry.size:
                yield f"has {look.size} bytes instead of {entry.size}"
            elif self._is_directory(entry):
                yield "is a directory"
            elif self._verify == "checksum" and entry.checksum and not self._has_checksum(entry):
                yield "has another checksum"
            else:
                yield ""

    def _is_directory(self, entry: transfer_manifest.Entry) -> bool:
        location = self._stores[entry.datastore].files.location(bundle.file_path(entry.path))
        return not uris.is_remote(location) and local_files.is_directory(location)

    def _has_checksum(self, entry: transfer_manifest.Entry) -> bool:
        store = self._stores[entry.datastore].files
        digest = hashlib.blake2b(digest_size=_CHECKSUM_SIZE)
        with opening.local_copy(store.location(bundle.file_path(entry.path))) as path:
            for piece in local_files.read_pieces(path):
                self._tick()
                digest.update(piece)
        return digest.hexdigest() == (entry.checksum or "").removeprefix(_PREFIX)

    def _row(self, entry: transfer_manifest.Entry, dataset_id: str) -> additions.FileRow:
        table = self._stores[entry.datastore].records_table
        size = datastore_records.UNKNOWN_SIZE if entry.size is None else entry.size
        rest = entry.formatter, entry.storage_class, entry.component, entry.checksum, size
        return (table, entry.datastore, dataset_id, entry.path, *rest)


def _other_place(entry: transfer_manifest.Entry, there: Mapping[str | None, str]) -> str:
    """Return where else a dataset of a file is recorded; nothing if that does not contradict the file.

    Parameters
    ----------
    entry
        The file.
    there
        Paths of the dataset that are recorded, by component.
    """
    path = there.get(entry.component)
    if path is not None:
        return f"at {path}, and not at {entry.path}" if path != entry.path else ""
    if there and (entry.component is None or None in there):
        return f"{'in parts' if entry.component is None else 'as a whole'}, at {next(iter(there.values()))}"
    return ""
