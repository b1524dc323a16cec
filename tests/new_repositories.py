"""New repositories on each database, made by us or by the reference, and what is in them."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import lsst.daf.butler as daf

from butler import config, creation, registry
from tests import postgresql_server, registry_rows

CAMERA = "NewCam"
SKYMAP = "NewSky"
NIGHT = (1_772_000_000_000_000_000, 1_772_086_400_000_000_000)
NAMESPACE = "new"

RECORDS: dict[str, list[dict[str, Any]]] = {
    "instrument": [{"name": CAMERA, "visit_max": 1000, "detector_max": 9, "class_name": "a.Camera"}],
    "skymap": [{"name": SKYMAP, "hash": b"\x00sky\xff", "tract_max": 2, "patch_nx_max": 2}],
    "physical_filter": [
        {"instrument": CAMERA, "name": "G-1", "band": "g"},
        {"instrument": CAMERA, "name": "G-2", "band": "g"},
        {"instrument": CAMERA, "name": "R-1", "band": "r"},
    ],
    "detector": [
        {"instrument": CAMERA, "id": n, "full_name": f"S{n}", "raft": "R'0", "purpose": "SCIENCE"}
        for n in range(3)
    ],
    "day_obs": [{"instrument": CAMERA, "id": 20260301, "timespan": NIGHT}],
    "visit": [
        {
            "instrument": CAMERA,
            "id": n,
            "name": f"v\t{n}\\N",
            "physical_filter": "G-1" if n < 103 else "R-1",
            "day_obs": 20260301,
            "exposure_time": 30.5,
            "timespan": None if n == 101 else (NIGHT[0] + n, NIGHT[0] + n + 1),
        }
        for n in (101, 102, 103)
    ],
    "visit_detector_region": [
        {"instrument": CAMERA, "visit": visit, "detector": n} for visit in (101, 102, 103) for n in range(3)
    ],
    "tract": [{"skymap": SKYMAP, "id": n} for n in range(2)],
    "patch": [
        {"skymap": SKYMAP, "tract": n // 2, "id": n % 2, "cell_x": n % 2, "cell_y": None} for n in range(4)
    ],
}
"""Records of the compact universe, in an order in which they can be inserted."""


@dataclasses.dataclass
class Maker:
    """Makes repositories on one kind of database."""

    root: pathlib.Path
    """Where their directories are."""

    server: postgresql_server.Server | None
    """PostgreSQL server; without one it is SQLite."""

    def ours(self, name: str, dimensions: Mapping[str, Any] | None = None) -> Repository:
        """Make a repository with our code."""
        made = self._place(name)
        creation.create_repository(
            made.root, database_url=made.url, namespace=made.namespace, dimension_config=dimensions
        )
        return made

    def theirs(self, name: str, dimensions: Mapping[str, Any] | None = None) -> Repository:
        """Make a repository with the reference, and open it once, which completes it."""
        made = self._place(name)
        seed = daf.Config()
        if made.url is not None:
            seed["registry", "db"] = made.url
            seed["registry", "namespace"] = made.namespace
        universe = daf.DimensionConfig(creation.compact_dimensions() if dimensions is None else dimensions)
        daf.Butler.makeRepo(str(made.root), config=seed, dimensionConfig=universe)
        made.butler().close()
        return made

    def _place(self, name: str) -> Repository:
        database = None if self.server is None else self.server.create_database()
        return Repository(self.root / name, self.server, database)


@dataclasses.dataclass(frozen=True)
class Repository:
    """One repository."""

    root: pathlib.Path
    """Its directory."""

    server: postgresql_server.Server | None
    """PostgreSQL server; without one it is SQLite."""

    database: str | None
    """Name of its database on the server."""

    @property
    def url(self) -> str | None:
        """URL of the database, unless it is the default one."""
        return None if self.server is None else self.server.url(str(self.database))

    @property
    def namespace(self) -> str | None:
        """Schema of the tables."""
        return None if self.server is None else NAMESPACE

    def butler(self) -> daf.Butler:
        """Open it with the reference."""
        return daf.Butler.from_config(str(self.root), writeable=True)

    def registry(self) -> registry.Registry:
        """Open it with our code."""
        found = config.load(self.root)
        return registry.open_registry(found.database, found.namespace, writeable=True)

    def insert(self, wanted: Mapping[str, list[dict[str, Any]]] = RECORDS) -> None:
        """Insert records with our code."""
        with self.registry() as opened:
            for element, rows in wanted.items():
                opened.insert_dimension_records(element, rows)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the database without any code of the product."""
        if self.server is None:
            return registry_rows.query(self.root / "gen3.sqlite3", sql)
        return self.server.query(str(self.database), sql, schema=NAMESPACE)

    def schema(self) -> dict[str, Any]:
        """Return the definitions of everything in the database."""
        if self.server is None:
            found = registry_rows.schema(self.root / "gen3.sqlite3")
            # The reference has the unique constraints of a table in any order.
            return {name: sorted(re.split(r",? ?\n\t?", sql), key=_rank) for name, sql in found.items()}
        return {name: sorted(self.query(sql)) for name, sql in _CATALOGUE.items()}

    def is_empty(self) -> bool:
        """Return whether not even the schema of the tables exists, or no file."""
        if self.server is None:
            return not (self.root / "gen3.sqlite3").exists()
        query = f"SELECT nspname FROM pg_namespace WHERE nspname = '{NAMESPACE}'"
        return not self.server.query(str(self.database), query)

    def tables(self) -> list[str]:
        """Return the names of all tables."""
        if self.server is None:
            found = self.query("SELECT name FROM sqlite_master WHERE type = 'table'")
        else:
            found = self.query(f"SELECT tablename FROM pg_tables WHERE schemaname = '{NAMESPACE}'")
        return sorted(name for (name,) in found)

    def content(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return the sorted rows of all tables, without the dates of ingest; the universe is parsed."""
        found = {}
        for table in self.tables():
            columns = "id, dataset_type_id, run_id" if table == "dataset" else "*"
            found[table] = sorted(self.query(f'SELECT {columns} FROM "{table}"'), key=repr)
        found["butler_attributes"] = [
            (name, json.loads(value) if name.endswith(".json") else value)
            for name, value in found["butler_attributes"]
        ]
        return found


def _rank(line: str) -> str:
    """Put constraints behind everything else, and sort them."""
    return line if line.startswith("CONSTRAINT") else ""


_IN_NAMESPACE = f"= '{NAMESPACE}'::regnamespace"
_CATALOGUE = {
    "columns": "SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, "
    "a.attidentity, coalesce(pg_get_expr(d.adbin, d.adrelid), '') "
    "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
    "LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum "
    f"WHERE c.relkind = 'r' AND a.attnum > 0 AND c.relnamespace {_IN_NAMESPACE}",
    "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
    f"WHERE connamespace {_IN_NAMESPACE}",
    "indices": f"SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = '{NAMESPACE}'",
    "sequences": "SELECT sequencename, data_type::text, start_value, min_value, max_value, increment_by, "
    f"cycle, cache_size FROM pg_sequences WHERE schemaname = '{NAMESPACE}'",
    "others": f"SELECT relname, relkind::text FROM pg_class WHERE relnamespace {_IN_NAMESPACE}",
}
"""Queries that describe all there is in a schema of PostgreSQL, but for the comments on its columns."""
