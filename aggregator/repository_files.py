"""What a repository owns and no command may write: configuration, database, files of datasets."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec

from aggregator.butler.configuration import own_files, repository_config
from aggregator.butler.registry import ingested_graphs
from aggregator.schemas import output_kinds, output_paths
from aggregator.workers import log_handlers


def protection(
    repository: repository_config.RepositoryConfig, run: str | None = None, outputs: Iterable[str] = ()
) -> output_paths.Protection:
    """Return what must stay as it is.

    Parameters
    ----------
    repository
        The repository.
    run
        A run whose files are being read.
    outputs
        Paths that are going to be written; only if there is something yet, the database is asked.
    """
    files = own_files.described(repository)
    roots = [store.root for store in repository.datastores]
    directories = {}
    if run is not None:
        directories = {
            s.files.location(run): f"where the files of run {run} are" for s in repository.datastores
        }
    if any(map(output_paths.is_taken, outputs)):
        files |= _ingested_graphs(repository)
    return output_paths.Protection(files | _own_logs(), directories, roots)


def joined(protections: Iterable[output_paths.Protection]) -> output_paths.Protection:
    """Return what must stay as it is of several repositories."""
    result = output_paths.Protection()
    for each in protections:
        result = output_paths.Protection(
            {**result.files, **each.files},
            {**result.directories, **each.directories},
            [*result.roots, *each.roots],
        )
    return result


def check_logs(protection: output_paths.Protection) -> None:
    """Refuse to log to what must stay as it is: when a log was chosen, nobody knew of the repository.

    Raises
    ------
    RefusedError
        If a file that this process logs to, or is going to, is of that.
    """
    # What else the process logs to is not of our making.
    logs = [h.baseFilename for h in logging.getLogger().handlers if isinstance(h, log_handlers.LogFile)]
    others = {path: text for path, text in protection.files.items() if path not in logs}
    for path in logs:
        output_paths.check(path, output_kinds.Kind.LOG, msgspec.structs.replace(protection, files=others))


def _own_logs() -> dict[str, str]:
    """Return the files that this process logs to."""
    handlers = logging.getLogger().handlers
    return {h.baseFilename: "the log of this command" for h in handlers if isinstance(h, logging.FileHandler)}


def _ingested_graphs(repository: repository_config.RepositoryConfig) -> dict[str, str]:
    """Return the graphs that are all that is left of the logs and metadata of their runs."""
    # Rarely needed, and not fast to import.
    from aggregator.butler.registry import registry

    with registry.open_repository(repository, writeable=False) as opened:
        return ingested_graphs.described(repository, opened)
