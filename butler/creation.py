"""Making a repository from nothing (butler-repository.md section 11)."""

from __future__ import annotations

import contextlib
import functools
import importlib.resources
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import sqlalchemy
import yaml
from aggregator.butler.configuration import repository_config, sqlite_urls, yaml_files
from aggregator.butler.databases import connections, database
from aggregator.butler.dimensions import universe
from aggregator.butler.registry import managers, tables
from aggregator.schemas import argument_types, output_paths
from aggregator.storage import durable_files, errors, local_files, opening, uris

DEFAULT_DATABASE: Final = f"sqlite:///{repository_config.ROOT_TAG}/gen3.sqlite3"
"""Database of a repository, unless another one is wanted."""

_DATASTORE: Final = "lsst.daf.butler.datastores.fileDatastore.FileDatastore"
_NEEDED: Final = ("version", "skypix", "elements")


def create_repository(
    root: str | os.PathLike[str],
    *,
    database_url: str | None = None,
    namespace: str | None = None,
    dimension_config: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Make a repository: a directory, or a place in a bucket, with butler.yaml, and tables in a database.

    On failure nothing is left behind, neither files nor tables.

    Parameters
    ----------
    root
        Directory, made if it does not exist; or a URI.
    database_url
        SQLAlchemy URL of the database, by default a SQLite file in the directory. It goes into butler.yaml,
        so it can't hold a password. A PostgreSQL database has to exist.
    namespace
        Schema for the tables, made if it does not exist; by default the connection's own. PostgreSQL only.
    dimension_config
        Configuration of the dimension universe (section 2), by default the one for synthetic runs
        (`compact_dimensions`).
    settings
        What butler.yaml says besides, section by section (section 1), such as file templates.

    Raises
    ------
    RefusedError
        Raised if there is a repository already, there are tables in the database, or the dimensions can't
        be used.
    AggregatorError
        Raised if the directory can't be written to, or the database fails.
    """
    argument_types.check(create_repository, locals())
    directory = _directory_of(os.fspath(root))
    path = os.path.join(directory, yaml_files.REPOSITORY)
    _check_absent(path)
    url = database_url or DEFAULT_DATABASE
    _check_url(url, directory)
    dimensions = _parse(compact_dimensions() if dimension_config is None else dimension_config)
    content = yaml_files.merge(_butler_yaml(url, namespace), settings or {})
    text = yaml.safe_dump(content, sort_keys=False)
    with (
        _directory(directory),
        _database(repository_config.filled_in(url, directory), namespace) as db,
    ):
        schema = tables.Tables(db, universe.Universe.from_config(dimensions))
        schema.define_all()
        db.write(_Filling(schema, dimensions))
        try:
            _check_absent(path)
            _write(path, text.encode())
        except BaseException:
            db.write(schema.metadata.drop_all)
            raise


@functools.cache
def _compact_text() -> str:
    return (
        importlib.resources.files("aggregator.butler.dimensions")
        .joinpath("compact_dimensions.yaml")
        .read_text("utf-8")
    )


def compact_dimensions() -> dict[str, Any]:
    """Return the configuration of the small dimension universe for synthetic runs."""
    content: dict[str, Any] = yaml.safe_load(_compact_text())
    return content


def _directory_of(root: str) -> str:
    """Return the directory of a repository, or its URI; refuse one that can't be written."""
    if uris.is_remote(root):
        opening.open_store(root.rstrip("/")).check_writeable()
        return root.rstrip("/")
    directory = os.path.abspath(yaml_files.local_path(root, "Butler repository"))
    output_paths.check_directory(directory, output_paths.Protection())
    output_paths.check_writeable(directory)
    return directory


def _write(path: str, content: bytes) -> None:
    """Write the configuration, which makes the repository one."""
    if not uris.is_remote(path):
        durable_files.write_atomically(path, [content])
        return
    store, key = opening.locate(path)
    with durable_files.writing(path):
        store.write(key, content, overwrite=False)


def _check_absent(path: str) -> None:
    if output_paths.is_taken(path):
        raise errors.RefusedError(f"{path}: there is a repository here already. Choose another directory.")


def _check_url(url: str, root: str) -> None:
    """Refuse what can't stand in butler.yaml or be written; whether it is a good URL is found out later."""
    with contextlib.suppress(sqlalchemy.exc.ArgumentError, ValueError):
        parsed = sqlalchemy.make_url(url)
        if parsed.get_backend_name() == "sqlite" and not (parsed.database or "/").startswith(
            ("/", ":", repository_config.ROOT_TAG)
        ):
            raise errors.RefusedError(
                f"{url}: which file this is would depend on where the repository is used. "
                "Give an absolute path (sqlite:////...), or one that begins with "
                f"{repository_config.ROOT_TAG}."
            )
        if repository_config.ROOT_TAG in url and uris.is_remote(root):
            raise errors.RefusedError(
                f"{root}: a SQLite database can't be in a bucket. Give a PostgreSQL database (--db), or a "
                "file of this host (--db sqlite:////...)."
            )
        if path := sqlite_urls.path(repository_config.filled_in(url, root)):
            _check_characters(path)
            _check_file(path, root)
        if parsed.password is not None or "password" in parsed.query:
            raise errors.RefusedError(
                f"{parsed.render_as_string(hide_password=True)}: the database URL goes into butler.yaml, "
                "where everybody could read the password. Leave it out, and use db-auth.yaml or PGPASSWORD."
            )


def _check_characters(path: str) -> None:
    """Refuse a file that the reference would look for elsewhere."""
    if characters := [char for char in sqlite_urls.SPECIAL if char in path]:
        raise errors.RefusedError(
            f"{path}: not all that reads the URL of a database finds one whose path has {characters[0]!r} in "
            "it. Choose another directory."
        )


def _check_file(path: str, root: str) -> None:
    """Refuse a place where no database file can be made."""
    if path == ":memory:":
        # Refused for what it is.
        return
    directory = os.path.dirname(path)
    output_paths.check_directory(directory, output_paths.Protection())
    if local_files.is_directory(path):
        raise errors.RefusedError(f"{path}: is a directory; the database must be a file.")
    if not local_files.is_directory(directory) and os.path.abspath(directory) != root:
        raise errors.RefusedError(
            f"{path}: there is no directory {directory}. Make it, or choose another one."
        )


def _parse(dimension_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checked copy of the configuration as it is stored."""
    if missing := [name for name in _NEEDED if name not in dimension_config]:
        raise errors.RefusedError(
            f"The dimension configuration has no {', '.join(missing)}; see butler-repository.md section 2."
        )
    try:
        parsed: dict[str, Any] = json.loads(json.dumps(dimension_config))
    except (TypeError, ValueError) as error:
        raise errors.RefusedError(f"The dimension configuration can't be stored as JSON: {error}") from error
    try:
        dimensions = universe.Universe.from_config(parsed)
    except errors.AggregatorError as error:
        raise errors.RefusedError(str(error)) from error
    if dimensions.common_skypix not in dimensions.skypix:
        raise errors.RefusedError(
            f"The dimension configuration names {dimensions.common_skypix!r} as 'skypix: common', which is "
            "none of its pixelizations."
        )
    return parsed


def _butler_yaml(url: str, namespace: str | None) -> dict[str, Any]:
    classes = {part: cls.replace("._manager.", ".") for part, (cls, _) in sorted(managers.KNOWN.items())}
    return {
        "datastore": {
            "cls": _DATASTORE,
            "records": {"table": tables.RECORDS},
            "root": repository_config.ROOT_TAG,
        },
        "registry": {
            "db": url,
            **({} if namespace is None else {"namespace": namespace}),
            "managers": classes,
        },
    }


@contextlib.contextmanager
def _directory(path: str) -> Iterator[None]:
    """Make a directory; on failure remove it and those above that did not exist."""
    if uris.is_remote(path):
        yield
        return
    made: list[str] = []
    try:
        missing = path
        while not local_files.is_directory(missing):
            made.append(missing)
            missing = os.path.dirname(missing)
        os.makedirs(path, exist_ok=True)
        yield
    except BaseException as error:
        with contextlib.suppress(OSError):
            for each in made:
                os.rmdir(each)
        if isinstance(error, OSError):
            raise errors.AggregatorError(
                f"{path}: the repository can't be written there ({error.strerror})."
            ) from error
        raise


@contextlib.contextmanager
def _database(url: str, namespace: str | None) -> Iterator[database.Database]:
    db = connections.connect(url, namespace, writeable=True, create=True)
    try:
        yield db
    except BaseException:
        db.discard()
        raise
    finally:
        db.close()


class _Filling:
    """Makes all tables, and the rows that they have from the start, in a transaction that may be repeated.

    Parameters
    ----------
    schema
        The tables.
    dimensions
        The configuration of the dimension universe.
    """

    def __init__(self, schema: tables.Tables, dimensions: dict[str, Any]) -> None:
        self._schema = schema
        self._dimensions = dimensions
        self._made: object = None

    def __call__(self, connection: sqlalchemy.Connection) -> None:
        """Do it, unless only the answer to the commit was lost."""
        schema, db = self._schema, self._schema.db
        if self._made is not None and db.table_identity(connection, schema.attributes) == self._made:
            return
        db.prepare(connection)
        if sqlalchemy.inspect(connection).get_table_names(schema=db.namespace):
            raise errors.RefusedError(
                f"{db.place}: there are tables in it already; nothing was changed. "
                "Choose another database or namespace, or remove them."
            )
        schema.metadata.create_all(connection, checkfirst=False)
        attributes = {**managers.attributes(), "config:dimensions.json": json.dumps(self._dimensions)}
        rows = [{"name": name, "value": value} for name, value in attributes.items()]
        connection.execute(schema.attributes.insert(), rows)
        connection.execute(schema.opaque().insert().values(table_name=tables.RECORDS))
        self._made = db.table_identity(connection, schema.attributes)
