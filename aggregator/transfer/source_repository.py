"""Where the datasets of a transfer come from: a repository, or what the middleware has exported.

Of an export a repository is made in a temporary directory, whose records lead to the files of the export. So
all that can be asked of a repository can be asked of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from aggregator.butler import creation
from aggregator.butler.configuration import repository_config, yaml_files
from aggregator.butler.registry import registry
from aggregator.butler.transfers import (
    account,
    export_source,
    needed_records,
    new_repository,
    repository_target,
    transfer_policies,
    workplace,
    zip_source,
)
from aggregator.schemas import bundle, repository_export
from aggregator.storage import errors, local_files
from aggregator.transfer import export_places

_IN_PLACE: Final = transfer_policies.Policies(files=transfer_policies.IN_PLACE)


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Where datasets come from."""

    config: repository_config.RepositoryConfig
    """Configuration of a repository that has them."""

    settings: Mapping[str, Any] | None = None
    """What a new repository takes over, if not its own configuration file tells that: then it is an export,
    and nothing may be removed from it."""


@contextlib.contextmanager
def opened(path: str, destination: str, tick: Callable[[], None] = lambda: None) -> Iterator[Source]:
    """Give the repository that a path means, as long as it is needed.

    Parameters
    ----------
    path
        A repository; or an export: its directory or file, or an archive.
    destination
        Repository that the datasets go to, whose dimensions an export has to fit.
    tick
        Called now and then; what it raises ends the work.

    Raises
    ------
    RefusedError
        If it is neither, or an export can't be used there.
    AggregatorError
        If it can't be read.
    """
    export = export_places.file_of(path)
    if export is None:
        export_places.refuse_archive(path)
        yield Source(repository_config.load(path))
        return
    with contextlib.ExitStack() as stack:
        there = None
        if new_repository.exists(destination):
            config = repository_config.load(destination)
            there = stack.enter_context(registry.open_repository(config, writeable=False))
            dimensions: Mapping[str, Any] = there.dimension_config
            settings: Mapping[str, Any] = new_repository.settings(config)
        else:
            dimensions, settings = _beside(export, destination)
        place = stack.enter_context(workplace.Workplace())
        place.open_temporary()
        yield Source(_made(export, place.directory, dimensions, settings, there, tick), settings)


def _beside(export: str, destination: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return dimensions of an export, and settings of its repository, if it brings them along."""
    directory = os.path.dirname(export)
    path, seed = (os.path.join(directory, name) for name in (export_places.DIMENSIONS, export_places.SEED))
    if export.endswith(".zip") or not local_files.exists(path):
        raise errors.RefusedError(
            f"{destination}: does not exist, and {export} does not tell the dimensions that it would have. "
            "Make the repository before (aggregator create --dimension-config)."
        )
    return yaml_files.read(path), yaml_files.read(seed) if local_files.exists(seed) else {}


def _made(
    export: str,
    directory: str,
    dimensions: Mapping[str, Any],
    settings: Mapping[str, Any],
    there: registry.Registry | None,
    tick: Callable[[], None],
) -> repository_config.RepositoryConfig:
    """Make a repository of an export; return its configuration."""
    root = os.path.join(directory, "repository")
    producer: bundle.Producer
    if repository_export.is_export(export):
        producer = export_source.ExportSource(export, dimensions, tick)
    else:
        producer = zip_source.ZipSource(export, os.path.join(directory, "files"), dimensions, tick)
    creation.create_repository(root, dimension_config=json.loads(json.dumps(dimensions)), settings=settings)
    config = repository_config.load(root)
    store = dataclasses.replace(config.datastores[0], root=producer.head.datastores[0].root)
    config = dataclasses.replace(config, datastores=(store,))
    found = account.Account()
    with registry.open_repository(config, writeable=True) as target:
        consumer = repository_target.RepositoryTarget(config, target, _IN_PLACE, found, tick)
        try:
            bundle.transfer(producer, consumer, _with_records(producer, there))
        except errors.AggregatorError as exc:
            if not found.conflicts:
                raise
            raise errors.RefusedError(
                f"{export}: contradicts itself, or lacks what it needs: {found.conflicts[0].text}. Nothing "
                "was transferred."
            ) from exc
    return dataclasses.replace(config, path=export)


def _with_records(producer: bundle.Producer, there: registry.Registry | None) -> Iterator[bundle.Batch]:
    """Yield a bundle with those dimension records that it lacks and the destination has."""
    required: dict[str, tuple[str, ...]] = {}
    for batch in producer.batches():
        if isinstance(batch, bundle.DatasetTypes):
            required |= {row.name: row.dimensions for row in batch.rows}
        elif isinstance(batch, bundle.Datasets) and there is not None:
            needed = needed_records.NeededRecords(there)
            for row in batch.rows:
                needed.add(required[row.dataset_type], [row.values])
            yield from needed.batches()
        yield batch
