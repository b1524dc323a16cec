"""Where things are in the repository of a node, and its configuration."""

from __future__ import annotations

import os.path
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aggregator.butler.configuration import repository_config, yaml_files
from aggregator.schemas import bundle, packs
from aggregator.storage import errors

GRAPH: Final = packs.GRAPH
"""Name of the predicted graph."""

JOB: Final = "job.json"
"""Name of the file that tells which pack the repository is made of."""

DATABASE: Final = "gen3.sqlite3"
"""Name of the database, which a node need not have."""

_MOVED: Final = "inputs"
"""Directory of files that have no path of their own below the root of a datastore."""

_OTHER_STORE: Final = "datastore-"
"""Begin of the names of the roots of further datastores of a chain."""

_RESERVED: Final = frozenset({GRAPH, JOB, DATABASE, yaml_files.REPOSITORY})
_PACKAGE: Final = "lsst.daf.butler.datastores"
_FILE_DATASTORE: Final = f"{_PACKAGE}.fileDatastore.FileDatastore"
_CHAIN: Final = f"{_PACKAGE}.chainedDatastore.ChainedDatastore"
_SECTIONS: Final = ("templates", "formatters", "composites")


def is_inside(path: str) -> bool:
    """Return whether a path leads to a file below the root that it is relative to, whatever is there."""
    parts = path.split("/")
    return "\0" not in path and not {"", ".", ".."} & set(parts) and parts[0] not in _RESERVED


def input_path(path: str, name: str) -> str:
    """Return where a file is to be on a node, relative to the root of its datastore.

    Parameters
    ----------
    path
        Its path in the repository's records.
    name
        Its flat name.
    """
    return path if is_inside(path) and "://" not in path else f"{_MOVED}/{name}"


def roots(head: bundle.Head) -> dict[str, str]:
    """Return the root of each datastore, relative to the directory of the node; empty for that itself."""
    return {each.name: f"{_OTHER_STORE}{i}" if i else "" for i, each in enumerate(head.datastores)}


def head(config: repository_config.RepositoryConfig, universe: dict[str, Any]) -> bundle.Head:
    """Return what a pack tells of a repository; nothing of where it is."""
    datastores = [
        bundle.Datastore(each.name, "", {
            **{name: dict(getattr(each, name)) for name in _SECTIONS},
            "constraints": list(each.constraints),
            "records": {"table": each.records_table},
            "checksum": each.checksum,
        })
        for each in config.datastores
    ]  # fmt: skip
    classes = {name: dict(each) for name, each in config.storage_classes.items()}
    return bundle.Head(config.path, universe, tuple(datastores), classes)


def butler_yaml(manifest: packs.Manifest) -> dict[str, Any]:
    """Return the configuration of a node: datastores in its directory, and a SQLite database.

    Only what says how datasets are stored is from the pack: nothing in it leads out of the directory.

    Raises
    ------
    RefusedError
        If the pack does not say how datasets are stored.
    """
    assert manifest.head is not None
    places = roots(manifest.head)
    stores = [_datastore(each, places[each.name]) for each in manifest.head.datastores]
    if not stores:
        raise errors.RefusedError("The pack names no datastore; make it again.")
    datastore = (
        stores[0] if len(stores) == 1 else {"cls": _CHAIN, "datastores": [{"datastore": s} for s in stores]}
    )
    config: dict[str, Any] = {
        "datastore": datastore,
        "registry": {"db": f"sqlite:///{repository_config.ROOT_TAG}/{DATABASE}"},
    }
    return config | ({"storageClasses": manifest.storage_classes} if manifest.storage_classes else {})


def _datastore(store: bundle.Datastore, root: str) -> dict[str, Any]:
    """Return the section of a datastore; each of its constraints stands in a chain around it."""
    table = store.config.get("records")
    section: dict[str, Any] = {
        "cls": _FILE_DATASTORE,
        "name": store.name,
        "root": os.path.join(repository_config.ROOT_TAG, root) if root else repository_config.ROOT_TAG,
        **({"records": table} if isinstance(table, Mapping) else {}),
        **{name: store.config.get(name, {}) for name in _SECTIONS},
        "checksum": bool(store.config.get("checksum")),
    }
    constraints: Sequence[Mapping[str, Any]] = store.config.get("constraints") or ()
    for number, each in enumerate(reversed(constraints)):
        if number:
            section = {"cls": _CHAIN, "datastores": [{"datastore": section}]}
        section["constraints"] = dict(each)
    return section
