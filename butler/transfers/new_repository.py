"""The repository that a bundle goes to, if it is going to be made (transfer.md section 7.2)."""

from __future__ import annotations

import dataclasses
import os
import shutil
from typing import Any, Final

from aggregator.butler import creation
from aggregator.butler.configuration import repository_config, yaml_files
from aggregator.storage import errors, opening, uris

_KEPT: Final = ("templates", "formatters", "composites", "constraints", "checksum")
"""Sections of a datastore that say what becomes of datasets, wherever it is."""


def exists(destination: str) -> bool:
    """Return whether there is a repository already."""
    try:
        repository_config.load(destination)
    except errors.RefusedError:
        try:
            return opening.exists(_path(destination))
        except errors.MachineError:
            raise
        except errors.AggregatorError as exc:
            raise errors.RefusedError(str(exc)) from exc
    return True


def _path(destination: str) -> str:
    root = destination.rstrip("/") if uris.is_remote(destination) else os.path.abspath(destination)
    return f"{root}/{yaml_files.REPOSITORY}"


def expected(
    destination: str, source: repository_config.RepositoryConfig, database: str | None
) -> repository_config.RepositoryConfig:
    """Return the configuration that a repository will have when it is made with the `settings` of another.

    Parameters
    ----------
    destination
        Where it will be.
    source
        Configuration of the other one.
    database
        URL of its database, if that is not the usual one.
    """
    path = _path(destination)
    root = path[: -len(yaml_files.REPOSITORY) - 1]
    store = dataclasses.replace(
        source.datastores[0], name=f"FileDatastore@{repository_config.ROOT_TAG}", root=root, repository=root
    )
    url = repository_config.filled_in(database or creation.DEFAULT_DATABASE, root)
    return dataclasses.replace(source, path=path, root=root, database=url, datastores=(store,))


def bytes_free(config: repository_config.RepositoryConfig) -> int | None:
    """Return the bytes that are free where the files of a repository are, or will be; nothing if unknown."""
    root = config.datastores[0].root
    if uris.is_remote(root):
        return None
    try:
        while not os.path.exists(root):
            root = os.path.dirname(root)
        return shutil.disk_usage(root).free
    except OSError:
        return None


def settings(source: repository_config.RepositoryConfig) -> dict[str, Any]:
    """Return what a new configuration takes over: file templates, formatters, storage classes."""
    content = yaml_files.read(source.path)
    datastore = content["datastore"]
    if "datastores" in datastore:
        # Of a chain, what its first member does with datasets.
        first = source.datastores[0]
        datastore = {name: getattr(first, name) for name in _KEPT if name != "constraints"}
    kept: dict[str, Any] = {"datastore": {name: datastore[name] for name in _KEPT if name in datastore}}
    if "storageClasses" in content:
        kept["storageClasses"] = content["storageClasses"]
    return kept
