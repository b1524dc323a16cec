"""New repositories on each database, made by us or by the reference, and what is in them."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import lsst.daf.butler as daf
import pytest
from aggregator.butler import creation
from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import registry

from tests.helpers import databases, postgresql_server

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


@dataclasses.dataclass(frozen=True)
class Maker:
    """Makes repositories on one kind of database."""

    root: pathlib.Path
    """Where their directories are."""

    server: postgresql_server.Server | None
    """PostgreSQL server; without one it is SQLite."""

    def ours(self, name: str, dimensions: Mapping[str, Any] | None = None) -> Repository:
        """Make a repository with our code."""
        made = self.place(name)
        creation.create_repository(made.root, dimension_config=dimensions, **made.options)
        return made

    def theirs(self, name: str, dimensions: Mapping[str, Any] | None = None) -> Repository:
        """Make a repository with the reference, and open it once, which completes it."""
        made = self.place(name)
        seed = daf.Config()
        if made.options:
            seed["registry", "db"] = made.options["database_url"]
            seed["registry", "namespace"] = made.options["namespace"]
        universe = daf.DimensionConfig(creation.compact_dimensions() if dimensions is None else dimensions)
        daf.Butler.makeRepo(str(made.root), config=seed, dimensionConfig=universe)
        made.butler().close()
        return made

    def place(self, name: str) -> Repository:
        """Return where a repository can be made; on PostgreSQL the database exists, its schema does not."""
        root = self.root / name
        if self.server is None:
            return Repository(root, databases.Sqlite(root / "gen3.sqlite3"))
        return Repository(root, databases.Postgresql(self.server, self.server.create_database(), NAMESPACE))


@dataclasses.dataclass(frozen=True)
class Repository:
    """One repository."""

    root: pathlib.Path
    """Its directory."""

    database: databases.Sqlite | databases.Postgresql
    """Its database."""

    @property
    def options(self) -> dict[str, str]:
        """What `creation.create_repository` has to be told of the database."""
        if isinstance(self.database, databases.Sqlite):
            return {}
        return {"database_url": self.database.url, "namespace": self.database.namespace}

    @property
    def command(self) -> list[str]:
        """The same for the command line, with the directory."""
        names = {"database_url": "--db", "namespace": "--namespace"}
        options = [text for name, value in self.options.items() for text in (names[name], value)]
        return ["create", str(self.root), *options]

    def butler(self) -> daf.Butler:
        """Open it with the reference."""
        return daf.Butler.from_config(str(self.root), writeable=True)

    def registry(self) -> registry.Registry:
        """Open it with our code."""
        found = repository_config.load(self.root)
        return registry.open_registry(found.database, found.namespace, writeable=True)

    def insert(self, wanted: Mapping[str, list[dict[str, Any]]] = RECORDS) -> None:
        """Insert records with our code."""
        with self.registry() as opened:
            for element, rows in wanted.items():
                opened.dimensions.insert(element, rows)

    def exists(self) -> bool:
        """Return whether there is anything of it: files, or the schema of the tables."""
        if self.root.exists() and any(self.root.iterdir()):
            return True
        if isinstance(self.database, databases.Sqlite):
            return False
        query = f"SELECT nspname FROM pg_namespace WHERE nspname = '{NAMESPACE}'"
        return bool(self.database.query(query))

    def schema(self) -> Any:
        """Return the definitions of everything in the database."""
        found = self.database.schema()
        if isinstance(found, dict):
            # The reference has the unique constraints of a table in any order.
            return {name: sorted(re.split(r",? ?\n\t?", sql), key=_rank) for name, sql in found.items()}
        return found


def _rank(line: str) -> str:
    """Put constraints behind everything else, and sort them."""
    return line if line.startswith("CONSTRAINT") else ""


@pytest.fixture(params=["sqlite", "postgresql"])
def maker(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Maker:
    """Make repositories on each of the databases."""
    server = None if request.param == "sqlite" else request.getfixturevalue("postgresql")
    return Maker(tmp_path, server)


@pytest.fixture
def made(maker: Maker) -> Repository:
    """Make an empty repository with our code."""
    return maker.ours("ours")


@pytest.fixture
def butler(made: Repository) -> Iterator[daf.Butler]:
    """Open it with the reference."""
    with made.butler() as opened:
        yield opened
