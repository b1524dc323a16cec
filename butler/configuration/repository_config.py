"""Configuration of a repository: where its database is, and what its datastores do with datasets.

Implements butler-repository.md section 1: a table of defaults < directories of configuration files <
the repository's own butler.yaml.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aggregator.butler.configuration import (
    components,
    repository_index,
    sqlite_urls,
    type_overrides,
    yaml_files,
)
from aggregator.storage import errors, local_files, opening, stores, uris

ROOT_TAG: Final = "<butlerRoot>"
"""What stands for the repository's directory in butler.yaml."""

_SEARCH_PATH: Final = "DAF_BUTLER_CONFIG_PATH"
_DATASTORES: Final = {
    "lsst.daf.butler.datastores.fileDatastore.FileDatastore": "datastores/fileDatastore.yaml",
    "lsst.daf.butler.datastores.chainedDatastore.ChainedDatastore": "datastores/chainedDatastore.yaml",
    "lsst.daf.butler.datastores.inMemoryDatastore.InMemoryDatastore": "datastores/inMemoryDatastore.yaml",
}
"""File of defaults of each datastore class."""

_DIRECT_BUTLER: Final = "lsst.daf.butler.direct_butler.DirectButler"


@dataclasses.dataclass(frozen=True, slots=True)
class FileDatastore:
    """Configuration of one file datastore, defaults merged in."""

    name: str
    """Name in the database; by default made from the root as configured."""

    root: str
    """Where the files are: an absolute path, or a URI."""

    repository: str
    """Root of the repository. A datastore below it has no directory before its first file comes."""

    records_table: str
    """Table of the file records."""

    templates: Mapping[str, Any]
    """Section ``templates``."""

    formatters: Mapping[str, Any]
    """Section ``formatters``."""

    composites: Mapping[str, Any]
    """Section ``composites``."""

    constraints: tuple[Mapping[str, Any], ...]
    """Sections ``constraints`` of the chains that it is in, from outside, and its own."""

    checksum: bool = False
    """Whether checksums of files are recorded as they are written."""

    @property
    def files(self) -> stores.Store:
        """Where its files are."""
        return opening.open_store(self.root, self.repository)


@dataclasses.dataclass(frozen=True, slots=True)
class RepositoryConfig:
    """What has to be known of a repository before its database is opened."""

    path: str
    """File that the configuration was read from."""

    root: str
    """Absolute path, or URI, of the directory that ``<butlerRoot>`` stands for."""

    database: str = dataclasses.field(repr=False)
    """SQLAlchemy URL of the registry database; it may hold a password."""

    namespace: str | None
    """Schema of the registry's tables; `None` for the connection's default."""

    overrides: type_overrides.Overrides
    """How names and storage classes of dataset types here differ from those in the database."""

    datastores: tuple[FileDatastore, ...]
    """File datastores in order; a chain is flattened, in-memory datastores are left out."""

    storage_classes: Mapping[str, Mapping[str, str]]
    """Components of each storage class, in order: name to storage class."""

    has_live_tables: bool
    """Whether the reference fills ObsCore tables as datasets are ingested."""

    def check_writeable(self) -> None:
        """Refuse a repository that datasets can't be ingested into.

        Raises
        ------
        aggregator.storage.errors.RefusedError
            It has tables that would miss them, or a datastore can't be reached.
        """
        if self.has_live_tables:
            raise errors.RefusedError(
                f"{self.path}: the repository has live ObsCore tables (registry.managers.obscore), which "
                "this version does not fill. Use the reference's command for it."
            )
        for store in self.datastores:
            store.files.check()

    def settings(self) -> dict[str, Any]:
        """Return all that paths and records depend on, as JSON values, wherever the repository lies."""
        stores = [dataclasses.asdict(store) for store in self.datastores]
        for store in stores:
            del store["root"], store["repository"], store["checksum"]
            store["formatters"].pop("write_recipes", None)
        # As items, since the order of entries and of components counts.
        composites = [(n, list(c.items())) for n, c in sorted(self.storage_classes.items()) if c]
        return {"datastores": [_ordered(store) for store in stores], "storage_classes": composites}


def load(location: str | os.PathLike[str], search_path: Sequence[str] | None = None) -> RepositoryConfig:
    """Read the configuration of a repository.

    Parameters
    ----------
    location
        Directory with a butler.yaml, a configuration file, or an alias of the repository index that
        ``DAF_BUTLER_REPOSITORY_INDEX`` (a file) or ``DAF_BUTLER_REPOSITORIES`` (its text) give.
    search_path
        Directories of overriding defaults, the first has priority; by default those in
        ``DAF_BUTLER_CONFIG_PATH``.

    Raises
    ------
    aggregator.storage.errors.RefusedError
        There is no such repository, its configuration is unreadable or malformed, or it asks for
        something unsupported such as remote storage.
    """
    path = repository_index.find(os.fspath(location))
    config = yaml_files.read(path)
    if config.get("cls", _DIRECT_BUTLER) != _DIRECT_BUTLER:
        raise errors.RefusedError(f"{path}: a repository served by {config['cls']} can't be written to.")
    if not isinstance(config.get("datastore"), Mapping):
        raise errors.RefusedError(
            f"{path}: there is no section 'datastore'; give the butler.yaml of a repository."
        )
    reader = _Reader(path, config, _directories(search_path))
    registry = reader.defaults("registry", "registry.yaml")
    return RepositoryConfig(
        path=path,
        root=reader.root,
        database=reader.database(registry),
        namespace=registry.get("namespace"),
        overrides=type_overrides.parse(registry.get("managers"), path),
        datastores=reader.datastores(),
        storage_classes=components.of_storage_classes(
            reader.defaults("storageClasses", "storageClasses.yaml")
        ),
        has_live_tables=bool((registry.get("managers") or {}).get("obscore")),
    )


def _directories(search_path: Sequence[str] | None) -> list[str]:
    if search_path is None:
        search_path = os.environ[_SEARCH_PATH].split(os.pathsep) if _SEARCH_PATH in os.environ else ()
    return [yaml_files.local_path(directory, _SEARCH_PATH) or os.curdir for directory in search_path]


def storage_class_section(path: str) -> dict[str, Any]:
    """Return what a repository's configuration, and the search path, say of storage classes.

    Parameters
    ----------
    path
        File of the configuration.

    Raises
    ------
    aggregator.storage.errors.RefusedError
        It can't be read.
    """
    merged: dict[str, Any] = {}
    for directory in reversed(_directories(None)):
        file = os.path.join(directory, "storageClasses.yaml")
        if local_files.exists(file):
            yaml_files.merge(merged, yaml_files.section(yaml_files.read(file), "storageClasses"))
    config = yaml_files.read(path)
    if "storageClasses" in config:
        yaml_files.merge(merged, yaml_files.section(config, "storageClasses"))
    return merged


@functools.cache
def _shipped() -> dict[str, Any]:
    text = (
        importlib.resources.files("aggregator.butler.configuration")
        .joinpath("defaults.json")
        .read_text("utf-8")
    )
    table: dict[str, Any] = json.loads(text)
    return table


def filled_in(url: str, root: str) -> str:
    """Return a database URL with a repository's root in it."""
    return url.replace(ROOT_TAG, sqlite_urls.escaped(root) if url.startswith("sqlite") else root)


class _Reader:
    """Puts the configuration of one repository together."""

    def __init__(self, path: str, config: Mapping[str, Any], directories: Sequence[str]) -> None:
        self.path = path
        self.config = config
        self.directories = directories
        # Where the file is, is no text to expand.
        root = config.get("root")
        self.root = (
            self._place(root, "root") if root else self._place(ROOT_TAG, "root", os.path.dirname(path))
        )

    def defaults(self, name: str, file: str, over: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return a part of the configuration: shipped table < search path < the repository (``over``)."""
        merged: dict[str, Any] = {}
        self._merge_file(merged, name, file)
        if over is None:
            over = yaml_files.section(self.config, name) if name in self.config else {}
        return yaml_files.merge(merged, over)

    def datastores(self) -> tuple[FileDatastore, ...]:
        """Return all file datastores; their names have to be different."""
        chain = self._datastores(yaml_files.section(self.config, "datastore"), ())
        names = [store.name for store in chain]
        if len(set(names)) < len(names):
            raise errors.RefusedError(f"{self.path}: the datastores of the chain have equal names: {names}.")
        return tuple(chain)

    def database(self, registry: Mapping[str, Any]) -> str:
        """Return the registry's URL, completed by what the section has besides."""
        url = registry.get("db")
        if not isinstance(url, str):
            raise errors.RefusedError(f"{self.path}: 'registry: db' is {url!r}; it has to be a database URL.")
        if ROOT_TAG in url and uris.is_remote(self.root):
            raise errors.RefusedError(
                f"{self.path}: 'registry: db' is {url}; a database can't be in a bucket. Name another place."
            )
        url = filled_in(url, self.root)
        if "://" not in url:
            # What was wrong with it may be a password.
            raise errors.RefusedError(f"{self.path}: 'registry: db' is not a database URL.")
        parts = ("username", "password", "host", "port", "database")
        if url.startswith("sqlite:") or all(registry.get(key) is None for key in parts):
            return url
        # Scanners read this configuration, too, and have no other use for this large library.
        import sqlalchemy

        try:
            parsed = sqlalchemy.make_url(url)
        except (sqlalchemy.exc.ArgumentError, ValueError):
            raise errors.RefusedError(f"{self.path}: 'registry: db' is not a database URL.") from None
        for key in parts:
            if getattr(parsed, key) is None and registry.get(key) is not None:
                parsed = parsed.set(**{key: registry[key]})
                url = parsed.render_as_string(hide_password=False)
        return url

    def _merge_file(self, merged: dict[str, Any], name: str, file: str) -> None:
        yaml_files.merge(merged, _shipped().get(file, {}))
        for directory in reversed(self.directories):
            path = os.path.join(directory, file)
            if local_files.exists(path):
                yaml_files.merge(merged, yaml_files.section(yaml_files.read(path), name))

    def _datastores(
        self, given: Mapping[str, Any], constraints: tuple[Mapping[str, Any], ...]
    ) -> list[FileDatastore]:
        merged: dict[str, Any] = {}
        self._merge_file(merged, "datastore", "datastore.yaml")
        cls = given.get("cls", merged.get("cls"))
        if cls not in _DATASTORES:
            raise errors.RefusedError(
                f"{self.path}: datastore class {cls!r} is not supported by this version; "
                f"supported are {', '.join(_DATASTORES)}."
            )
        self._merge_file(merged, "datastore", _DATASTORES[cls])
        config = yaml_files.merge(merged, given)
        kind = cls.rpartition(".")[2]
        if kind == "InMemoryDatastore":
            return []
        if config.get("constraints"):
            constraints = (*constraints, config["constraints"])
        if kind == "FileDatastore":
            return [self._file_datastore(config, constraints)]
        children = [yaml_files.section(child, "datastore") for child in config.get("datastores") or ()]
        return [store for child in children for store in self._datastores(child, constraints)]

    def _place(self, root: str, what: str, tagged: str = "") -> str:
        """Return a root, with a directory in the place of its tag, as stores know it."""
        place = root.replace(ROOT_TAG, tagged)
        if uris.is_remote(place):
            uris.parse(place)
            return place.rstrip("/")
        if place == root or place.startswith("file:"):
            return os.path.abspath(yaml_files.local_path(place, f"{self.path}: {what}"))
        # Only what is written there is expanded, and not what the directory happens to be called.
        return os.path.abspath(local_files.named(os.path.expandvars(root).replace(ROOT_TAG, tagged)))

    def _file_datastore(
        self, config: Mapping[str, Any], constraints: tuple[Mapping[str, Any], ...]
    ) -> FileDatastore:
        for key in ("templates", "formatters", "composites"):
            if not isinstance(config.get(key), Mapping):
                raise errors.RefusedError(f"{self.path}: 'datastore: {key}' has to be a mapping.")
        try:
            root, table = config["root"], config["records"]["table"]
            place = self._place(root, "datastore root", self.root)
        except (KeyError, TypeError, AttributeError) as error:
            raise errors.RefusedError(
                f"{self.path}: 'datastore: root' or 'datastore: records: table' is missing or malformed."
            ) from error
        return FileDatastore(
            name=config.get("name", f"FileDatastore@{root}"),
            root=place,
            repository=self.root,
            records_table=table,
            templates=config["templates"],
            formatters=config["formatters"],
            # Composites have a file of their own in the search path, besides the datastore's.
            composites=self.defaults("composites", "datastores/composites.yaml", config["composites"]),
            constraints=constraints,
            checksum=bool(config.get("checksum")),
        )


def _ordered(value: Any) -> Any:
    """Replace mappings by lists of their items."""
    if isinstance(value, Mapping):
        return [(key, _ordered(inner)) for key, inner in value.items()]
    return [_ordered(inner) for inner in value] if isinstance(value, list | tuple) else value
